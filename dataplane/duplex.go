package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// BidirectionalPath is a container's path for bidirectional streams (docs:
// your-algorithms-inference-code).
const BidirectionalPath = "/invocations-bidirectional-stream"

// MaxFrame is the largest payload of a frame, 16 MB: what AWS's libraries take as
// the payload of one event.
const MaxFrame = 16 << 20

// The ways in which a bidirectional stream fails, beside those of Worker.Invoke.
var (
	// ErrNoDuplex: the workers of this kind take no bidirectional streams.
	ErrNoDuplex = errors.New("worker takes no bidirectional streams")
	// ErrDuplexServerless: neither do serverless endpoints.
	ErrDuplexServerless = errors.New("endpoint is serverless")
	// ErrDuplexRefused: the container did not take the WebSocket.
	ErrDuplexRefused = errors.New("container did not take the stream")
	// ErrDuplexClosed: the stream was ended on this side.
	ErrDuplexClosed = errors.New("stream was ended")
	// ErrNoPong: the container left MaxMissedPongs pings in a row unanswered.
	ErrNoPong = errors.New("container answered no pings")
)

// Frame is one part of a message in a bidirectional stream: a WebSocket frame at
// the container, a PayloadPart event at the caller. Parts are neither merged nor
// split between the two (docs: your-algorithms-inference-code).
type Frame struct {
	// Text is DataType UTF8 and opcode text; of a message's first frame, the
	// others follow it.
	Text bool
	// Partial: the message goes on. CompletionState PARTIAL, and FIN 0.
	Partial bool
	Payload []byte
}

// Peer is the caller of a bidirectional stream, as its worker sees it. One
// goroutine receives while another sends.
type Peer interface {
	// Begin says that the container has taken the stream. It is called once and
	// before anything else.
	Begin() error
	// Receive gives the caller's next frame, whose payload is valid until the next
	// call, and io.EOF when the caller sends no more.
	Receive() (Frame, error)
	// Send passes a frame to the caller and keeps nothing of it. It blocks while
	// the caller does not read.
	Send(f Frame) error
	// StopReceiving ends a Receive under way and all further ones.
	StopReceiving()
}

// DuplexWorker is a worker that takes bidirectional streams.
type DuplexWorker interface {
	// OpenDuplex asks the container for a stream, for at most req.Timeout. The
	// error wraps ErrDuplexRefused, or the context's, which also ends the stream.
	OpenDuplex(ctx context.Context, req *Request) (Duplex, error)
}

// Duplex is a worker's end of a bidirectional stream. One goroutine receives
// while another sends; Close may be called by any, and more than once.
type Duplex interface {
	// Send passes a frame to the container and keeps nothing of it. It blocks
	// while the container does not read. After an error Receive tells why.
	Send(f Frame) error
	// CloseSend says that the caller sends no more.
	CloseSend() error
	// Receive gives the container's next frame, whose payload is valid until the
	// next call. The error is io.EOF when the container has ended the stream after
	// CloseSend, a *CloseError when it did so unasked, and wraps ErrBroken
	// otherwise: together with ErrDuplexClosed after Close. It is called until it
	// has failed, which lets it give up what it holds.
	Receive() (Frame, error)
	// Close ends the stream at once; Send and Receive under way fail.
	Close()
}

// CloseError is a container's Close frame.
type CloseError struct {
	Code   int // RFC 6455, section 7.4; 1005 when the frame has none
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("container closed the stream with code %d %q", e.Code, e.Reason)
}

// InvokeDuplex lets a caller and a container talk until both have ended. Routing
// and accounts are those of Invoke: the stream is outstanding until InvokeDuplex
// returns. The route is as far as the request came, and complete before Begin. A
// scripted answer is one message, or a refusal if its status is an error's.
func (f *Fleet) InvokeDuplex(ctx context.Context, key Key, req *Request, route *Route, caller Peer) error {
	if e := f.Lookup(key); e != nil && e.Snapshot().serverless() {
		return ErrDuplexServerless
	}
	var ans Answer
	ans.stream = &stream{ans: &ans, route: route, caller: caller}
	way, err := f.Invoke(ctx, key, req, &ans)
	*route = way
	switch {
	case err != nil || way.Instance != ScriptedInstance:
		return err
	case ans.StatusCode >= 400:
		return fmt.Errorf("%w: scripted status %d", ErrDuplexRefused, ans.StatusCode)
	}
	if err := caller.Begin(); err != nil {
		return err
	}
	return caller.Send(Frame{Payload: ans.Body})
}

func (s *Snapshot) serverless() bool {
	for i := range s.Variants {
		if p := s.Variants[i].Pool; p != nil && p.serverless != nil {
			return true
		}
	}
	return false
}

// converse is answer for a bidirectional stream, of which nothing is copied.
func (in *Instance) converse(ctx context.Context, req *Request, ans *Answer) error {
	ans.stream.route.Instance = in.ID
	w, ok := in.worker.(DuplexWorker)
	if !ok {
		return ErrNoDuplex
	}
	d, err := w.OpenDuplex(ctx, req)
	if err != nil {
		return err
	}
	defer d.Close()
	ans.StatusCode = 200
	if err := ans.stream.caller.Begin(); err != nil {
		return err
	}
	return relay(ctx, d, ans.stream.caller)
}

// relay passes frames both ways, one at a time each: whoever does not read keeps
// the other side waiting. The container ends the stream; the caller's end of its
// own side is passed on, and its failure ends both.
func relay(ctx context.Context, d Duplex, caller Peer) error {
	defer context.AfterFunc(ctx, d.Close)()
	sent := make(chan error, 1)
	go func() {
		err := pump(caller.Receive, d.Send)
		switch {
		case errors.Is(err, errReceived): // the caller's
			d.Close()
		case err == nil:
			_ = d.CloseSend() // Receive tells what is wrong
		}
		sent <- err
	}()
	err := pump(d.Receive, caller.Send)
	d.Close()
	if err != nil && !errors.Is(err, errReceived) {
		_, _ = d.Receive() // the caller's error counts
	}
	caller.StopReceiving()
	callers := <-sent
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrDuplexClosed) && errors.Is(callers, errReceived):
		return callers // which has ended the other side
	}
	return err
}

// errReceived marks an error as that of the side that is read.
var errReceived = errors.New("receive")

// pump passes frames on until there are no more.
func pump(receive func() (Frame, error), send func(Frame) error) error {
	for {
		f, err := receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errReceived, err)
		}
		if err := send(f); err != nil {
			return err
		}
	}
}
