package dataplane

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// SageMaker's WebSocket to a container (docs: your-algorithms-inference-code).
const (
	pongInterval = 60 * time.Second // between pings
	// MaxMissedPongs is how many pings in a row may go unanswered.
	MaxMissedPongs = 5
)

const (
	// closeTimeout is how long a container may say nothing before it answers a
	// Close frame.
	closeTimeout = 10 * time.Second
	// lastWords is how long a Close frame may take to be sent when nothing else
	// follows.
	lastWords = time.Second
	// frameStep is how much of a frame is read at a time, so that memory is taken
	// for what comes and not for what a header promises.
	frameStep = 64 << 10
)

// socket is a WebSocket to a container after its handshake, on the client's side.
// It passes frames on as they are: a fragment stays one. Control frames are
// written by a goroutine of their own, so that a container that does not read
// still can be read from.
type socket struct {
	conn    net.Conn
	r       *bufio.Reader
	release func()      // gives the connection up
	pinger  *time.Timer // nil once closed

	// Of the goroutine that receives.
	fragmented bool // the container's message goes on
	text       bool // of its message
	frame      []byte

	writing chan struct{} // holds one while a frame is being written
	begun   bool          // the caller's message goes on; under writing
	out     bytes.Buffer  // under writing

	mu      sync.Mutex
	pings   bool     // a ping is to be written
	pongs   [][]byte // the payload of the pong to be written, if any
	urging  bool     // a goroutine writes them
	missed  int      // pongs
	closing bool     // a Close frame was written, or tried to be
	closed  bool
	reason  error // why it was closed on this side
	ending  sync.Once
	work    sync.WaitGroup
}

// newSocket takes a connection; r has what was read of it beyond the handshake.
func newSocket(conn net.Conn, r *bufio.Reader, release func()) *socket {
	s := &socket{conn: conn, r: r, release: release, writing: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinger = time.AfterFunc(pongInterval, s.tick)
	return s
}

// tick sends a ping, or closes the connection when too many went unanswered.
func (s *socket) tick() {
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return
	case s.missed == MaxMissedPongs:
		s.mu.Unlock()
		s.end(ErrNoPong, ws.StatusGoingAway)
		return
	}
	s.missed++
	s.pings = true
	s.pinger.Reset(pongInterval)
	s.urge()
	s.mu.Unlock()
}

// urge has the waiting control frames written; s.mu is held.
func (s *socket) urge() {
	if s.urging || s.closed {
		return
	}
	s.urging = true
	s.work.Go(func() {
		for {
			s.mu.Lock()
			ping, pongs := s.pings, s.pongs
			s.pings, s.pongs = false, nil
			if !ping && pongs == nil || s.closing {
				s.urging = false
				s.mu.Unlock()
				return
			}
			s.mu.Unlock()
			for _, payload := range pongs {
				_ = s.control(ws.OpPong, payload) // Receive finds out
			}
			if ping {
				_ = s.control(ws.OpPing, nil)
			}
		}
	})
}

// control writes a control frame.
func (s *socket) control(op ws.OpCode, payload []byte) error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	return s.write(op, true, payload)
}

// write writes one frame, masked as a client's is; writing is held.
func (s *socket) write(op ws.OpCode, fin bool, payload []byte) error {
	h := ws.Header{Fin: fin, OpCode: op, Masked: true, Mask: ws.NewMask(), Length: int64(len(payload))}
	s.out.Reset()
	if err := ws.WriteHeader(&s.out, h); err != nil {
		return err
	}
	head := s.out.Len()
	s.out.Write(payload)
	ws.Cipher(s.out.Bytes()[head:], h.Mask, 0)
	_, err := s.conn.Write(s.out.Bytes())
	return err
}

// Send is Duplex's: one frame, whose opcode says whether it begins a message.
func (s *socket) Send(f Frame) error {
	if len(f.Payload) > MaxFrame {
		s.end(ErrTooLarge, ws.StatusMessageTooBig)
		return ErrTooLarge
	}
	s.writing <- struct{}{}
	op := ws.OpBinary
	switch {
	case s.begun:
		op = ws.OpContinuation
	case f.Text:
		op = ws.OpText
	}
	s.begun = f.Partial
	err := s.write(op, !f.Partial, f.Payload)
	<-s.writing
	if err != nil {
		s.listenFor(lastWords) // the container may have said why
		return s.broken(err)
	}
	return nil
}

// CloseSend sends a Close frame: WebSocket has no other way to say that nothing
// more comes. The container's last frames are received until it answers.
func (s *socket) CloseSend() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.closing = true
	s.mu.Unlock()
	s.listenFor(closeTimeout)
	if err := s.control(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, "")); err != nil {
		return s.broken(err)
	}
	return nil
}

func (s *socket) listenFor(d time.Duration) {
	_ = s.conn.SetReadDeadline(time.Now().Add(d)) // fails only when the connection is closed
}

// Receive is Duplex's.
func (s *socket) Receive() (Frame, error) {
	for {
		h, err := ws.ReadHeader(s.r)
		if err == nil {
			err = s.check(&h)
		}
		if err == nil {
			err = s.readPayload(int(h.Length))
		}
		if err != nil {
			return Frame{}, s.failed(err)
		}
		switch h.OpCode {
		case ws.OpPing:
			s.mu.Lock()
			s.pongs = [][]byte{append([]byte(nil), s.frame...)} // the newest counts (RFC 6455, section 5.5.3)
			s.urge()
			s.mu.Unlock()
		case ws.OpPong:
			s.mu.Lock()
			s.missed = 0
			s.mu.Unlock()
		case ws.OpClose:
			return Frame{}, s.closedByContainer()
		default:
			if !s.fragmented {
				s.text = h.OpCode == ws.OpText
			}
			s.fragmented = !h.Fin
			if s.isClosing() {
				s.listenFor(closeTimeout)
			}
			return Frame{Text: s.text, Partial: !h.Fin, Payload: s.frame}, nil
		}
	}
}

// check refuses what breaks the protocol, and what is too large.
func (s *socket) check(h *ws.Header) error {
	state := ws.StateClientSide
	if s.fragmented {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(*h, state); err != nil {
		return err
	}
	if h.Length > MaxFrame {
		return ErrTooLarge
	}
	return nil
}

// readPayload reads a frame's payload into s.frame.
func (s *socket) readPayload(length int) error {
	s.frame = s.frame[:0]
	for len(s.frame) < length {
		from := len(s.frame)
		step := min(length-from, max(frameStep, from))
		s.frame = append(s.frame, make([]byte, step)...)
		if _, err := io.ReadFull(s.r, s.frame[from:]); err != nil {
			return err
		}
	}
	return nil
}

func (s *socket) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// closedByContainer answers a Close frame, unless it is an answer itself.
func (s *socket) closedByContainer() error {
	e := &CloseError{Code: int(ws.StatusNoStatusRcvd)}
	reply := []byte(nil)
	if len(s.frame) >= 2 {
		code, reason := ws.ParseCloseFrameData(s.frame)
		e.Code, e.Reason = int(code), reason
		reply = s.frame[:2]
		if !utf8.ValidString(reason) {
			e.Reason = ""
		}
	}
	switch {
	case s.isClosed():
		return s.broken(e) // it answers this side's giving up
	case s.isClosing():
		return io.EOF
	}
	s.sayClose(reply)
	return e
}

// failed is what an error of reading means to the caller.
func (s *socket) failed(err error) error {
	var broken ws.ProtocolError
	switch {
	case errors.Is(err, ErrTooLarge):
		s.end(err, ws.StatusMessageTooBig)
	case errors.As(err, &broken), errors.Is(err, ws.ErrHeaderLengthMSB):
		s.end(err, ws.StatusProtocolError)
	case s.isClosing() && !s.isClosed() && !s.fragmented && !errors.Is(err, io.ErrUnexpectedEOF):
		return io.EOF // nothing more was expected of the container
	}
	return s.broken(err)
}

func (s *socket) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// broken wraps ErrBroken, and why this side has ended the stream if it has.
func (s *socket) broken(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reason != nil:
		err = s.reason
	case errors.Is(err, io.EOF): // which is the end of a stream in order
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

// sayClose sends a Close frame, if that is possible soon.
func (s *socket) sayClose(body []byte) {
	s.mu.Lock()
	said := s.closing
	s.closing = true
	s.mu.Unlock()
	// This ends a write that the container does not take, too.
	_ = s.conn.SetWriteDeadline(time.Now().Add(lastWords))
	if !said {
		_ = s.control(ws.OpClose, body) // the connection ends either way
	}
}

// end closes the connection for a reason, and returns when it is closed.
func (s *socket) end(reason error, code ws.StatusCode) {
	s.ending.Do(func() {
		s.mu.Lock()
		s.closed, s.reason = true, reason
		s.pinger.Stop()
		s.mu.Unlock()
		s.sayClose(ws.NewCloseFrameBody(code, ""))
		s.release()
	})
}

// Close is Duplex's. A container that has not ended the stream is told that the
// caller is going away.
func (s *socket) Close() {
	s.end(ErrDuplexClosed, ws.StatusGoingAway)
	s.work.Wait()
}
