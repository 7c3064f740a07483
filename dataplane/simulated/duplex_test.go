package simulated

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// converse opens a stream that ends with the test.
func converse(t *testing.T, w dataplane.Worker) dataplane.Duplex {
	t.Helper()
	d, err := w.(dataplane.DuplexWorker).OpenDuplex(t.Context(), &dataplane.Request{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// say sends frames as a caller does; a stream that has ended takes none.
func say(d dataplane.Duplex, frames ...dataplane.Frame) {
	go func() {
		for _, f := range frames {
			if d.Send(f) != nil {
				return
			}
		}
	}()
}

func text(s string) dataplane.Frame { return dataplane.Frame{Text: true, Payload: []byte(s)} }

// hear shows the next frame, with + when its message goes on, or the error.
func hear(d dataplane.Duplex) string {
	f, err := d.Receive()
	if err != nil {
		return err.Error()
	}
	return map[bool]string{true: "text ", false: "binary "}[f.Text] + string(f.Payload) + map[bool]string{true: "+"}[f.Partial]
}

func TestMessageOfAStreamTakesItsTimeAndASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := launch(t, Config{Concurrency: 1, Latency: constant(time.Second)}, spec(""))
		first, second := converse(t, w), converse(t, w)
		begun := time.Now()
		partial := text("a")
		partial.Partial = true
		say(first, partial, text("b"), text("c"))
		for i, want := range []string{"text a+", "text b", "text c"} {
			took := []time.Duration{1, 1, 2}[i] * time.Second // the rest of a message is no request of its own
			if got := hear(first); got != want || time.Since(begun) != took {
				t.Errorf("%s after %v, want %s after %v", got, time.Since(begun), want, took)
			}
		}
		say(first, text("d"))
		go hear(first)
		synctest.Wait()
		say(second, text("e")) // queues behind d
		if got := hear(second); got != "text e" || time.Since(begun) != 4*time.Second {
			t.Errorf("%s after %v", got, time.Since(begun))
		}
	})
}

func TestMessagesOfAStreamAreAnsweredAsConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			name string
			cfg  Config
			want []string
		}{
			{"a template sees the whole message", Config{Answer: Answer{Template: &Template{Text: "{{.Body}} is {{.N}}"}}}, []string{"text one two is 2", "binary 3 is 3"}},
			{"a fixed answer", Config{Answer: Answer{Fixed: &Fixed{Body: "always"}}}, []string{"text always", "binary always"}},
			{"an error status is a Close frame", Config{Answer: Answer{Fixed: &Fixed{Body: "no", Status: 503}}}, []string{`container closed the stream with code 1011 "\"no\""`}},
			{"a failure is one", Config{FailureRate: 1}, []string{`container closed the stream with code 1011 "simulated failure"`}},
		} {
			d := converse(t, launch(t, test.cfg, spec("")))
			partial := text("one ")
			partial.Partial = true
			say(d, partial, text("two"), dataplane.Frame{Payload: []byte("3")})
			for _, want := range test.want {
				if got := hear(d); got != want {
					t.Errorf("%s: got %s, want %s", test.name, got, want)
				}
			}
		}
	})
}

func TestTokensAreAMessageEachAtTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := speaking(Tokens{Count: 3, PerSecond: 10, Format: FormatText}, time.Second)
		d := converse(t, launch(t, cfg, spec("")))
		for round := range 2 {
			begun := time.Now()
			say(d, text("go on"))
			for i := range 3 {
				got, err := d.Receive()
				if err != nil || !got.Text || got.Partial || len(got.Payload) == 0 {
					t.Fatalf("round %d: %+v, %v", round, got, err)
				}
				if i == 0 && time.Since(begun) != time.Second {
					t.Errorf("the first token after %v", time.Since(begun))
				}
			}
			if time.Since(begun) <= time.Second {
				t.Errorf("all tokens after %v", time.Since(begun))
			}
		}
	})
}

func TestStreamThatEndsGivesItsSlotUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := speaking(Tokens{Count: 100, PerSecond: 1, Format: FormatText}, time.Second)
		cfg.Concurrency, cfg.Queue = 1, 1
		w := launch(t, cfg, spec(""))
		d := converse(t, w)
		say(d, text("talk"))
		if got := hear(d); !strings.HasPrefix(got, "text ") {
			t.Error(got)
		}
		queued := converse(t, w)
		say(queued, text("talk"))
		waiting := make(chan string, 1)
		go func() { waiting <- hear(queued) }()
		synctest.Wait()
		busy := converse(t, w)
		say(busy, text("talk"))
		var closed *dataplane.CloseError
		if _, err := busy.Receive(); !errors.As(err, &closed) || closed.Code != 1013 {
			t.Errorf("with a full queue: %v", err)
		}
		received := make(chan error, 1)
		go func() {
			for {
				if _, err := d.Receive(); err != nil {
					received <- err
					return
				}
			}
		}()
		synctest.Wait()
		d.Close()
		if err := <-received; !errors.Is(err, dataplane.ErrDuplexClosed) {
			t.Errorf("got %v", err)
		}
		if got := <-waiting; !strings.HasPrefix(got, "text ") {
			t.Errorf("the slot is lost: %s", got)
		}
	})
}

func TestTokensOfAStreamBreakOffAtTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := converse(t, launch(t, speaking(Tokens{Count: 5, PerSecond: 10, BreakRate: 1, Format: FormatText}, 0), spec("")))
		say(d, text("talk"))
		for {
			_, err := d.Receive()
			if err == nil {
				continue
			}
			if !errors.Is(err, dataplane.ErrBroken) || errors.Is(err, dataplane.ErrDuplexClosed) {
				t.Errorf("got %v", err)
			}
			return
		}
	})
}

func TestMessageThatIsTooLargeClosesTheStream(t *testing.T) {
	d := converse(t, launch(t, Config{Answer: Answer{Fixed: &Fixed{Body: "x"}}}, spec("")))
	half := dataplane.Frame{Partial: true, Payload: make([]byte, maxMessage/2+1)}
	say(d, half, half)
	if got := hear(d); got != `container closed the stream with code 1009 "the message is too large"` {
		t.Error(got)
	}
}

func TestStoppedWorkerTakesNoStreams(t *testing.T) {
	w := launch(t, Config{}, spec(""))
	if err := w.Stop(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.(dataplane.DuplexWorker).OpenDuplex(t.Context(), &dataplane.Request{}); !errors.Is(err, dataplane.ErrBroken) {
		t.Error(fmt.Sprint(err))
	}
}

// What the receiver of a stream holds it lets go of when it is asked after Close.
func TestStreamThatIsNotReadToItsEndGivesItsSlotUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := speaking(Tokens{Count: 100, PerSecond: 1, Format: FormatText}, time.Second)
		cfg.Concurrency = 1
		w := launch(t, cfg, spec(""))
		d := converse(t, w)
		say(d, text("talk"))
		hear(d)
		time.Sleep(10 * time.Second) // so that there are tokens to be had
		d.Close()
		if _, err := d.Receive(); !errors.Is(err, dataplane.ErrDuplexClosed) {
			t.Errorf("got %v", err)
		}
		begun, next := time.Now(), converse(t, w)
		say(next, text("talk"))
		if got := hear(next); !strings.HasPrefix(got, "text ") || time.Since(begun) != time.Second {
			t.Errorf("%s after %v", got, time.Since(begun))
		}
	})
}
