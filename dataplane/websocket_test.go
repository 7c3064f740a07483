package dataplane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
)

// container is the other end of a socket, frame by frame.
type container struct {
	*testing.T
	conn net.Conn
}

func newContainer(t *testing.T) (*container, *socket) {
	ours, theirs := net.Pipe()
	s := newSocket(ours, bufio.NewReader(ours), func() { _ = ours.Close() })
	t.Cleanup(func() {
		_ = theirs.Close()
		s.Close()
	})
	return &container{t, theirs}, s
}

// receive gives the next frame, which must be masked as a client's.
func (c *container) receive() ws.Frame {
	c.Helper()
	h, err := ws.ReadHeader(c.conn)
	f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
	if err == nil {
		_, err = io.ReadFull(c.conn, f.Payload)
	}
	if err != nil {
		c.Fatalf("the container reads: %v", err)
	}
	if !f.Header.Masked {
		c.Errorf("%+v is not masked", f.Header)
	}
	return ws.UnmaskFrame(f)
}

func (c *container) send(f ws.Frame) {
	if _, err := c.conn.Write(ws.MustCompileFrame(f)); err != nil { // in one piece, for a pipe blocks on an empty one
		c.Errorf("the container writes: %v", err)
	}
}

// show is a frame's opcode, FIN and payload.
func show(f ws.Frame) string {
	return fmt.Sprintf("%x%v:%s", f.Header.OpCode, map[bool]string{true: "!", false: "-"}[f.Header.Fin], f.Payload)
}

func TestOnePayloadPartIsExactlyOneFrame(t *testing.T) {
	large := strings.Repeat("x", 100<<10)
	for _, test := range []struct {
		name   string
		frames []Frame
		want   []string
	}{
		{"binary by default", []Frame{{Payload: []byte("a")}}, []string{"2!:a"}},
		{"UTF8 is a text frame", []Frame{{Text: true, Payload: []byte("é")}}, []string{"1!:é"}},
		{"an empty part is an empty frame", []Frame{{}, {Text: true}}, []string{"2!:", "1!:"}},
		{"PARTIAL is FIN 0, what follows continues it", []Frame{
			{Text: true, Partial: true, Payload: []byte("a")}, {Text: true, Partial: true, Payload: []byte("b")}, {Text: true, Payload: []byte("c")}, {Payload: []byte("d")},
		}, []string{"1-:a", "0-:b", "0!:c", "2!:d"}},
		{"a continuation has its message's type whatever it says", []Frame{{Text: true, Partial: true}, {Payload: []byte("a")}}, []string{"1-:", "0!:a"}},
		{"no part is merged", []Frame{{Payload: []byte("a")}, {Payload: []byte("b")}, {Partial: true}, {Partial: true}, {}}, []string{"2!:a", "2!:b", "2-:", "0-:", "0!:"}},
		{"no part is split", []Frame{{Text: true, Payload: []byte(large)}}, []string{"1!:" + large}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, s := newContainer(t)
			go func() {
				for _, f := range test.frames {
					if err := s.Send(f); err != nil {
						t.Errorf("Send: %v", err)
					}
				}
			}()
			for _, want := range test.want {
				if got := show(c.receive()); got != want {
					t.Errorf("got %.50s, want %.50s", got, want)
				}
			}
		})
	}
}

func TestFramesOfTheContainerStayWhatTheyAre(t *testing.T) {
	c, s := newContainer(t)
	large := bytes.Repeat([]byte("y"), 300<<10)
	go func() {
		for _, f := range []ws.Frame{
			ws.NewFrame(ws.OpText, true, []byte("whole")),
			ws.NewFrame(ws.OpText, false, []byte("one")),
			ws.NewFrame(ws.OpContinuation, false, nil),
			ws.NewPongFrame([]byte("unasked, between fragments")),
			ws.NewFrame(ws.OpContinuation, true, []byte("three")),
			ws.NewFrame(ws.OpBinary, true, large),
		} {
			c.send(f)
		}
	}()
	for _, want := range []Frame{
		{Text: true, Payload: []byte("whole")},
		{Text: true, Partial: true, Payload: []byte("one")},
		{Text: true, Partial: true},
		{Text: true, Payload: []byte("three")},
		{Payload: large},
	} {
		got, err := s.Receive()
		if err != nil || got.Text != want.Text || got.Partial != want.Partial || !bytes.Equal(got.Payload, want.Payload) {
			t.Errorf("got %v %v %.20q (%d bytes), %v", got.Text, got.Partial, got.Payload, len(got.Payload), err)
		}
	}
}

func TestContainersPingIsAnswered(t *testing.T) {
	c, s := newContainer(t)
	go func() { _, _ = s.Receive() }() // ends with the test
	c.send(ws.NewPingFrame([]byte("beat")))
	if got := show(c.receive()); got != "a!:beat" {
		t.Errorf("got %s, want a pong", got)
	}
}

func TestContainerIsPingedEveryMinuteAndClosedAfterFiveMissedPongs(t *testing.T) {
	for _, answered := range []int{0, 7} { // the pings that are
		synctest.Test(t, func(t *testing.T) {
			c, s := newContainer(t)
			begun := time.Now()
			failed := make(chan error, 1)
			go func() {
				_, err := s.Receive()
				failed <- err
			}()
			for n := 1; n <= answered+MaxMissedPongs; n++ {
				f := c.receive()
				if f.Header.OpCode != ws.OpPing || time.Since(begun) != time.Duration(n)*time.Minute {
					t.Fatalf("frame %d is %s after %v", n, show(f), time.Since(begun))
				}
				if n <= answered {
					c.send(ws.NewPongFrame(f.Payload))
				}
			}
			f := c.receive()
			code, _ := ws.ParseCloseFrameData(f.Payload)
			if want := time.Duration(answered+6) * time.Minute; f.Header.OpCode != ws.OpClose || code != ws.StatusGoingAway || time.Since(begun) != want {
				t.Errorf("got %s after %v, want a Close frame after %v", show(f), time.Since(begun), want)
			}
			if err := <-failed; !errors.Is(err, ErrNoPong) || !errors.Is(err, ErrBroken) {
				t.Errorf("Receive: %v", err)
			}
		})
	}
}

// A container that reads nothing misses the pings that cannot be written, too.
func TestContainerThatDoesNotReadIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := newContainer(t)
		sent := make(chan error, 1)
		go func() { sent <- s.Send(Frame{Payload: []byte("x")}) }()
		begun := time.Now()
		_, err := s.Receive()
		if took := time.Since(begun); !errors.Is(err, ErrNoPong) || took != 6*time.Minute+lastWords {
			t.Errorf("Receive: %v after %v", err, took)
		}
		if err := <-sent; !errors.Is(err, ErrBroken) {
			t.Errorf("Send: %v", err)
		}
	})
}

func TestCloseFramesOfTheContainer(t *testing.T) {
	for _, test := range []struct {
		name    string
		payload []byte
		want    CloseError
		reply   string
	}{
		{"with code and reason", ws.NewCloseFrameBody(1011, "out of memory"), CloseError{1011, "out of memory"}, "\x03\xf3"},
		{"in order", ws.NewCloseFrameBody(1000, ""), CloseError{1000, ""}, "\x03\xe8"},
		{"of an application", ws.NewCloseFrameBody(4321, "é"), CloseError{4321, "é"}, "\x10\xe1"},
		{"without a code", nil, CloseError{1005, ""}, ""},
		{"with half a code", []byte{3}, CloseError{1005, ""}, ""},
		{"with a reason that is no text", append(ws.NewCloseFrameBody(1002, ""), 0xff), CloseError{1002, ""}, "\x03\xea"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, s := newContainer(t)
			answered := make(chan string, 1)
			go func() {
				c.send(ws.NewCloseFrame(test.payload))
				answered <- string(c.receive().Payload)
			}()
			_, err := s.Receive()
			if e := (*CloseError)(nil); !errors.As(err, &e) || *e != test.want || !strings.Contains(err.Error(), fmt.Sprint(test.want.Code)) {
				t.Errorf("Receive: %v", err)
			}
			if got := <-answered; got != test.reply {
				t.Errorf("the answer has %q", got)
			}
		})
	}
}

func TestCallersEndClosesTheSocketInOrder(t *testing.T) {
	c, s := newContainer(t)
	go func() {
		if f := c.receive(); f.Header.OpCode != ws.OpClose || string(f.Payload) != "\x03\xe8" {
			t.Errorf("got %s", show(f))
		}
		c.send(ws.NewTextFrame([]byte("what was under way")))
		c.send(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))
	}()
	closed := make(chan error, 1)
	go func() { closed <- errors.Join(s.CloseSend(), s.CloseSend()) }()
	if f, err := s.Receive(); err != nil || string(f.Payload) != "what was under way" {
		t.Errorf("Receive: %q, %v", f.Payload, err)
	}
	if _, err := s.Receive(); err != io.EOF {
		t.Errorf("Receive: %v, want the end", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("CloseSend: %v", err)
	}
	go s.Close()
	if h, err := ws.ReadHeader(c.conn); err == nil {
		t.Errorf("a second Close frame: %+v", h)
	}
}

func TestContainerThatIgnoresTheEndIsWaitedForWhileItTalks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newContainer(t)
		go func() {
			c.receive()
			for range 3 {
				time.Sleep(closeTimeout - time.Second)
				c.send(ws.NewBinaryFrame([]byte("more")))
			}
		}()
		begun := time.Now()
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := s.Receive(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Receive(); err != io.EOF || time.Since(begun) != 4*closeTimeout-3*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

func TestSocketsThatBreak(t *testing.T) {
	header := func(h ws.Header) []byte {
		var b bytes.Buffer
		if err := ws.WriteHeader(&b, h); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for _, test := range []struct {
		name string
		sent []byte
		code ws.StatusCode // of the Close frame; 0 for none
		want error
	}{
		{"ends without a Close frame", nil, 0, io.ErrUnexpectedEOF},
		{"ends within a header", []byte{0x82}, 0, io.ErrUnexpectedEOF},
		{"ends within a frame", append(header(ws.Header{Fin: true, OpCode: ws.OpBinary, Length: 10}), "half"...), 0, io.ErrUnexpectedEOF},
		{"masks its frames", header(ws.Header{Fin: true, OpCode: ws.OpBinary, Masked: true}), 1002, ws.ErrProtocolMaskUnexpected},
		{"compresses unasked", header(ws.Header{Fin: true, OpCode: ws.OpBinary, Rsv: ws.Rsv(true, false, false)}), 1002, ws.ErrProtocolNonZeroRsv},
		{"continues nothing", header(ws.Header{Fin: true, OpCode: ws.OpContinuation}), 1002, ws.ErrProtocolContinuationUnexpected},
		{"sends an unknown opcode", header(ws.Header{Fin: true, OpCode: 5}), 1002, ws.ErrProtocolOpCodeReserved},
		{"splits a ping", header(ws.Header{OpCode: ws.OpPing}), 1002, ws.ErrProtocolControlNotFinal},
		{"promises more than 16 MB", header(ws.Header{Fin: true, OpCode: ws.OpBinary, Length: MaxFrame + 1}), 1009, ErrTooLarge},
		{"promises more than there is", []byte{0x82, 127, 255, 0, 0, 0, 0, 0, 0, 0}, 1002, ws.ErrHeaderLengthMSB},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, s := newContainer(t)
			go func() {
				_, _ = c.conn.Write(test.sent)
				if test.code == 0 {
					_ = c.conn.Close()
					return
				}
				f := c.receive()
				if code, _ := ws.ParseCloseFrameData(f.Payload); f.Header.OpCode != ws.OpClose || code != test.code {
					t.Errorf("got %s", show(f))
				}
			}()
			if _, err := s.Receive(); !errors.Is(err, ErrBroken) || !errors.Is(err, test.want) {
				t.Errorf("Receive: %v, want %v", err, test.want)
			}
		})
	}
}

func TestFrameAboveTheLimitIsNotSent(t *testing.T) {
	c, s := newContainer(t)
	go func() { _, _ = io.Copy(io.Discard, c.conn) }()
	if err := s.Send(Frame{Payload: make([]byte, MaxFrame+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Send: %v", err)
	}
	if _, err := s.Receive(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Receive: %v", err)
	}
}

// scriptedPeer is a caller with a script.
type scriptedPeer struct {
	frames  chan Frame // closed at the end
	failure error      // of Receive at the end; io.EOF if nil
	stopped chan struct{}
	got     []string
	full    error // of Send
}

func newScriptedPeer(frames ...Frame) *scriptedPeer {
	c := &scriptedPeer{frames: make(chan Frame, len(frames)), stopped: make(chan struct{})}
	for _, f := range frames {
		c.frames <- f
	}
	return c
}

func (c *scriptedPeer) Begin() error { return nil }

func (c *scriptedPeer) Receive() (Frame, error) {
	select {
	case f, more := <-c.frames:
		if more {
			return f, nil
		}
		if c.failure != nil {
			return Frame{}, c.failure
		}
		return Frame{}, io.EOF
	case <-c.stopped:
		return Frame{}, errors.New("stopped")
	}
}

func (c *scriptedPeer) Send(f Frame) error {
	c.got = append(c.got, string(f.Payload))
	return c.full
}

func (c *scriptedPeer) StopReceiving() { close(c.stopped) }

func TestConversationEnds(t *testing.T) {
	gone, odd := errors.New("the caller has gone"), errors.New("no event")
	for _, test := range []struct {
		name   string
		caller func() *scriptedPeer
		script func(c *container)
		want   string
	}{
		{"when the caller has ended and the container too", func() *scriptedPeer { c := newScriptedPeer(); close(c.frames); return c }, func(c *container) {
			c.receive()
			c.send(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))
		}, "<nil>"},
		{"when the container closes", func() *scriptedPeer { return newScriptedPeer() }, func(c *container) {
			c.send(ws.NewCloseFrame(ws.NewCloseFrameBody(1013, "busy")))
			c.receive()
		}, `receive: container closed the stream with code 1013 "busy"`},
		{"when the container dies", func() *scriptedPeer { return newScriptedPeer() }, func(c *container) { _ = c.conn.Close() }, "receive: worker connection failed: unexpected EOF"},
		{"when the caller's events are none", func() *scriptedPeer { c := newScriptedPeer(); c.failure = odd; close(c.frames); return c }, func(c *container) {
			if code, _ := ws.ParseCloseFrameData(c.receive().Payload); code != ws.StatusGoingAway {
				c.Errorf("closed with %d", code)
			}
		}, "receive: no event"},
		{"when the caller takes no more", func() *scriptedPeer { c := newScriptedPeer(); c.full = gone; return c }, func(c *container) {
			c.send(ws.NewTextFrame([]byte("a")))
			c.receive()
		}, "the caller has gone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, s := newContainer(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				test.script(c)
			}()
			if err := relay(t.Context(), s, test.caller()); fmt.Sprint(err) != test.want {
				t.Errorf("relay: %v, want %s", err, test.want)
			}
			<-done
		})
	}
}

func TestCanceledConversationTellsTheContainer(t *testing.T) {
	c, s := newContainer(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay(ctx, s, newScriptedPeer(Frame{Payload: []byte("hello")})) }()
	c.receive()
	cancel()
	if code, _ := ws.ParseCloseFrameData(c.receive().Payload); code != ws.StatusGoingAway {
		t.Errorf("closed with %d", code)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("relay: %v", err)
	}
}
