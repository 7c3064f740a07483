package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane"
)

// streamTimeout is how long a container may take for a streamed answer (docs:
// your-algorithms-inference-code).
const streamTimeout = 8 * time.Minute

// maxUnsent is how much of an answer may wait to be sent together, beside the
// last piece.
const maxUnsent = 32 << 10

// errCallerGone ends a stream that nobody takes any more.
var errCallerGone = errors.New("the caller has gone")

// form is how the pieces of an answer are put to a caller, and what becomes of
// an answer that breaks after it has begun. An error of failure breaks the
// caller's connection.
type form interface {
	piece(out *bytes.Buffer, p []byte) error
	failure(out *bytes.Buffer, err error) error
}

// live is an answer on its way from a worker to a caller. The worker pushes, and
// fasthttp pulls: the head when the handler returns, the body after that. So the
// worker runs as a coroutine of the connection's goroutine. A piece then costs no
// change of goroutines, and a caller who does not read keeps the worker waiting.
type live struct {
	headers invokeHeaders
	req     dataplane.Request
	route   dataplane.Route
	form    form

	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	over  func()      // the invocation is over
	conn  *clientConn // nil where there is none

	head    dataplane.Answer
	begun   bool          // head is there
	out     *bytes.Buffer // to be sent
	refused []byte        // the body of an answer with an error status
	ended   bool
	err     error // why it ended
}

// buffers are what streams wait in to be sent. One that has grown for a large
// piece is not kept.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func newLive() *live { return &live{out: buffers.Get().(*bytes.Buffer)} }

// release gives the buffer back; nothing may be sent after it.
func (l *live) release() {
	if l.out != nil && l.out.Cap() <= 2*maxUnsent {
		l.out.Reset()
		buffers.Put(l.out)
	}
	l.out = nil
}

// start lets the worker answer, until it waits for the first time or has ended.
func (l *live) start(ctx *fasthttp.RequestCtx, r *runtime, key dataplane.Key) {
	until, over := watch(ctx, r.ctx)
	l.over = over
	l.conn, _ = ctx.Conn().(*clientConn)
	l.next, l.stop = iter.Pull(func(yield func(struct{}) bool) {
		l.yield = yield
		l.err = r.fleet.InvokeStream(until, key, &l.req, &l.route, l)
	})
	l.resume()
}

// resume lets the worker go on until it waits again.
func (l *live) resume() {
	if _, more := l.next(); !more {
		l.end()
	}
}

func (l *live) end() {
	l.ended = true
	l.over()
}

// accepted tells that the worker's answer is none of an error. When it is not,
// the worker has ended.
func (l *live) accepted() bool { return l.begun && l.head.StatusCode/100 == 2 }

// empty tells that nothing has come of the answer's body.
func (l *live) empty() bool { return l.out.Len() == 0 }

// Begin is the sink's.
func (l *live) Begin(head *dataplane.Answer) error {
	l.head, l.begun = *head, true
	// These may be views of what the worker uses again.
	l.head.ContentType, l.head.CustomAttributes = strings.Clone(head.ContentType), strings.Clone(head.CustomAttributes)
	l.head.Body = nil
	return nil
}

// Write is the sink's. What an error answer says is kept, up to the payload limit.
func (l *live) Write(p []byte) (int, error) {
	if !l.accepted() {
		if len(p) > dataplane.MaxAnswer-len(l.refused) {
			return 0, dataplane.ErrTooLarge
		}
		l.refused = append(l.refused, p...)
		return len(p), nil
	}
	if err := l.form.piece(l.out, p); err != nil {
		return 0, err
	}
	if l.out.Len() < maxUnsent {
		return len(p), nil
	}
	return len(p), l.Flush()
}

// Flush is the sink's: it returns when all has been sent.
func (l *live) Flush() error {
	if l.accepted() && !l.yield(struct{}{}) {
		return errCallerGone
	}
	return nil
}

// respond makes the rest of the answer the response's body.
func (l *live) respond(ctx *fasthttp.RequestCtx) {
	// A container that has sent its head and thinks about the first piece.
	ctx.Response.ImmediateHeaderFlush = l.empty() && !l.ended
	ctx.Response.SetBodyStream(l, -1)
}

// SupportsBodyWriteTo chooses WriteTo, which knows when to flush.
func (l *live) SupportsBodyWriteTo() bool { return true }

// WriteTo sends what there is and lets the worker go on, in turns. Each write to
// w leaves at once.
func (l *live) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if l.ended && l.err != nil {
			if err := l.form.failure(l.out, l.err); err != nil {
				return n, err
			}
			l.err = nil
		}
		if l.out.Len() > 0 {
			if err := l.patience(); err != nil {
				return n, err
			}
			sent, err := w.Write(l.out.Bytes())
			n += int64(sent)
			if err != nil {
				return n, err
			}
			l.out.Reset()
		}
		if l.ended {
			return n, nil
		}
		l.resume()
	}
}

// patience is how long a caller may take to read what is sent next.
func (l *live) patience() error {
	if l.conn == nil {
		return nil
	}
	return l.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
}

// Read is what fasthttp asks for in a body; it uses WriteTo.
func (l *live) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Close ends the worker's answer if it has not, once the response is written or
// has failed.
func (l *live) Close() error {
	if !l.ended {
		l.stop()
		l.end()
	}
	l.release()
	return nil
}

// canceled tells that the stream was given up on this side.
func canceled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, errCallerGone)
}
