package eventloop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStrandLeavesAndReturnsWhileDataFlows(t *testing.T) {
	l := start(t)
	data := noise(4 << 20)
	var done, sent []<-chan error
	for i := range 4 {
		tcp, far := sockets(t, true)
		c := adopt(t, l, tcp)
		random := rand.New(rand.NewPCG(1, uint64(i)))
		done = append(done, serve(t, c, func(s *Strand) error {
			return echo(c, 10_000, func() {
				if random.IntN(2) == 0 {
					s.Leave()
				} else {
					s.Return()
				}
			})
		}))
		ch := make(chan error, 2)
		sent = append(sent, ch, ch)
		go func() {
			_, err := far.Write(data)
			ch <- errors.Join(err, far.CloseWrite())
		}()
		go func() {
			got, err := io.ReadAll(far)
			if err == nil && !bytes.Equal(got, data) {
				err = errors.New("what came back is not what was sent")
			}
			ch <- err
		}()
	}
	for _, ch := range append(done, sent...) {
		want(t, ch, nil)
	}
}

func TestStrandKnowsWhereItIs(t *testing.T) {
	c, _ := pair(t, start(t))
	done := serve(t, c, func(s *Strand) error {
		for i := range 100 {
			s.Return() // where it is
			if !s.Inline() {
				return fmt.Errorf("round %d: away after Return", i)
			}
			s.Leave()
			s.Leave()
			if s.Inline() {
				return fmt.Errorf("round %d: inline after Leave", i)
			}
			s.Return()
		}
		if s.Loop() != c.Loop() {
			return errors.New("of another loop")
		}
		return nil
	})
	want(t, done, nil)
}

func TestGoroutineIsNoStrand(t *testing.T) {
	var s *Strand
	s.Leave()
	s.Return()
	if s.Inline() || s.Now().IsZero() {
		t.Error("a nil strand is inline")
	}
}

func TestWhatComesWhileAStrandIsAwayIsReadAfterItsReturn(t *testing.T) {
	c, far := pair(t, start(t))
	away, back := make(chan struct{}), make(chan struct{})
	done := serve(t, c, func(s *Strand) error {
		s.Leave()
		close(away)
		<-back
		s.Return()
		all, err := io.ReadAll(c)
		if string(all) != "words" {
			return fmt.Errorf("got %q", all)
		}
		return err
	})
	receive(t, away)
	send(t, far, "words")
	far.CloseWrite()
	until(t, c.Ended) // the loop was told
	close(back)
	want(t, done, nil)
}

func TestWorkOfAStrandThatIsAwayKeepsNobodyWaiting(t *testing.T) {
	l := start(t)
	busy, _ := pair(t, l)
	away, back := make(chan struct{}), make(chan struct{})
	done := serve(t, busy, func(s *Strand) error {
		s.Leave()
		close(away)
		<-back
		s.Return()
		return nil
	})
	receive(t, away)
	other, far := pair(t, l)
	echoes := serve(t, other, func(*Strand) error { return echo(other, 100, func() {}) })
	send(t, far, "others")
	expect(t, far, "others")
	far.CloseWrite()
	want(t, echoes, nil)
	close(back)
	want(t, done, nil)
}

func TestStrandMayEndAway(t *testing.T) {
	l := start(t)
	c, far := pair(t, l)
	want(t, serve(t, c, func(s *Strand) error {
		s.Leave()
		return nil
	}), nil)
	expectEOF(t, far)
	want(t, serve(t, adoptAnother(t, l), func(*Strand) error { return nil }), nil) // the loop goes on
}

func adoptAnother(t *testing.T, l *Loop) *Conn {
	t.Helper()
	c, _ := pair(t, l)
	return c
}

// A strand that always finds something to read would otherwise have the loop for
// itself.
func TestBusyStrandLetsOthersHaveTheirTurn(t *testing.T) {
	t.Run("many calls", func(t *testing.T) { beGreedy(t, 50_000, 1) })
	t.Run("many bytes", func(t *testing.T) { beGreedy(t, 400_000, 16<<10) }) // in fewer calls than a stretch
}

func beGreedy(t *testing.T, total, bite int) {
	l := start(t)
	patient, far := pair(t, l)
	greedy, feeder := pair(t, l)
	if _, err := feeder.Write(make([]byte, total)); err != nil {
		t.Fatal(err)
	}
	feeder.CloseWrite()
	var read atomic.Int32
	second := serve(t, patient, func(*Strand) error {
		err := patient.AwaitRead()
		if int(read.Load()) == total {
			return errors.New("it had to wait until the other was done")
		}
		return err
	})
	waiting(t, &patient.r)
	first := serve(t, greedy, func(*Strand) error {
		if _, err := far.Write([]byte("x")); err != nil {
			return err
		}
		buf := make([]byte, bite)
		for {
			n, err := greedy.Read(buf)
			if err != nil {
				return err
			}
			read.Add(int32(n))
		}
	})
	want(t, second, nil)
	want(t, first, io.EOF)
}

func TestPanicTellsOfTheStrand(t *testing.T) {
	s := newStrand(nil, mistaken)
	defer func() {
		text := fmt.Sprint(recover())
		if !strings.Contains(text, "a mistake") || !strings.Contains(text, "eventloop.mistaken") {
			t.Errorf("nobody could find it from this: %s", text)
		}
	}()
	s.next()
}

func mistaken(*Strand) { panic("a mistake") }

func TestNewsThatComeAsAStrandBeginsToWaitAreNotLost(t *testing.T) {
	for name, news := range map[string]func(c *Conn){
		"event": func(c *Conn) { c.happened(unix.EPOLLIN) },
		"deadline": func(c *Conn) {
			c.r.deadline.Store(1)
			c.look() // as expire and release do
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t)
			c, _ := pair(t, l)
			var begun, told atomic.Int32
			var stop atomic.Bool
			defer stop.Store(true)
			reaches := func(at *atomic.Int32, i int32) bool {
				for spins := 1; at.Load() < i; spins++ {
					if spins%1000 == 0 {
						runtime.Gosched()
					}
					if stop.Load() {
						return false
					}
				}
				return true
			}
			delay := func(i int32) { // the ends meet now sooner, now later
				for range i {
					told.Load()
				}
			}
			end := time.Now().Add(200 * time.Millisecond)
			done := serve(t, c, func(s *Strand) error {
				s.Leave()
				for i := int32(0); time.Now().Before(end) && reaches(&told, i); i++ {
					c.r.ready.Store(false)
					c.r.deadline.Store(0)
					begun.Add(1)
					delay(i % 67)
					if err := c.await(&c.r); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
						return err
					}
				}
				stop.Store(true)
				return nil
			})
			l.post(func() {
				for i := int32(0); reaches(&begun, i+1); i++ {
					delay(i % 31)
					news(c)
					told.Add(1)
				}
			})
			want(t, done, nil)
		})
	}
}
