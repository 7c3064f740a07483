package simulated

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/gobwas/ws"

	"github.com/sagelocal/sagelocal/dataplane"
)

// maxMessage is the largest message that a worker which does not echo takes.
const maxMessage = dataplane.MaxFrame

// OpenDuplex takes a bidirectional stream; see dataplane.DuplexWorker. Each
// message of it is a request: it queues, and takes its time and its slot. A worker
// that echoes gives back frame for frame. Any other gives its answer as one
// message, and tokens as one message each.
func (w *worker) OpenDuplex(ctx context.Context, req *dataplane.Request) (dataplane.Duplex, error) {
	if _, err := w.begin(ctx); err != nil {
		return nil, err
	}
	d := &duplex{
		w: w, req: *req, echoes: w.cfg.Answer.Fixed == nil && w.cfg.Answer.Template == nil && w.cfg.Answer.Tokens == nil,
		frames: make(chan dataplane.Frame), taken: make(chan struct{}),
	}
	d.ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return d, nil
}

// duplex is one stream. Its sender waits until a frame has been dealt with, so
// that nothing is kept.
type duplex struct {
	w      *worker
	req    dataplane.Request
	echoes bool
	ctx    context.Context // until Close
	cancel context.CancelFunc
	once   sync.Once // of CloseSend

	frames chan dataplane.Frame
	taken  chan struct{}

	// Of the goroutine that receives.
	holds   bool // the sender waits for taken
	begun   bool // the message goes on
	message []byte
	next    func() (dataplane.Frame, bool, error) // of an answer; nil without one
}

// Send is dataplane.Duplex's.
func (d *duplex) Send(f dataplane.Frame) error {
	select {
	case d.frames <- f:
	case <-d.ctx.Done():
		return d.ended()
	case <-d.w.done:
		return d.ended()
	}
	select {
	case <-d.taken:
		return nil
	case <-d.ctx.Done():
		return d.ended()
	case <-d.w.done:
		return d.ended()
	}
}

// ended is the error of a stream that Close or Stop has ended.
func (d *duplex) ended() error {
	if d.ctx.Err() != nil {
		return d.w.errorf(fmt.Errorf("%w: %w", dataplane.ErrBroken, dataplane.ErrDuplexClosed))
	}
	return d.w.errorf(dataplane.ErrBroken)
}

// CloseSend is dataplane.Duplex's.
func (d *duplex) CloseSend() error {
	d.once.Do(func() { close(d.frames) })
	return nil
}

// Close is dataplane.Duplex's.
func (d *duplex) Close() { d.cancel() }

// Receive is dataplane.Duplex's.
func (d *duplex) Receive() (dataplane.Frame, error) {
	for {
		if f, more, err := d.answer(); more || err != nil {
			return f, err
		}
		if d.holds {
			d.holds = false
			select {
			case d.taken <- struct{}{}:
			case <-d.ctx.Done():
				return dataplane.Frame{}, d.ended()
			case <-d.w.done:
				return dataplane.Frame{}, d.ended()
			}
		}
		select {
		case f, more := <-d.frames:
			if !more {
				return dataplane.Frame{}, io.EOF
			}
			d.holds = true
			if echo, now, err := d.take(f); now || err != nil {
				return echo, err
			}
		case <-d.ctx.Done():
			return dataplane.Frame{}, d.ended()
		case <-d.w.done:
			return dataplane.Frame{}, d.ended()
		}
	}
}

// answer is the next frame of an answer under way.
func (d *duplex) answer() (f dataplane.Frame, more bool, err error) {
	if d.next == nil {
		return f, false, nil
	}
	if f, more, err = d.next(); !more || err != nil {
		d.next = nil
	}
	return f, more, err
}

// take deals with one of the caller's frames: an echo is to be sent at once.
func (d *duplex) take(f dataplane.Frame) (echo dataplane.Frame, now bool, err error) {
	first := !d.begun
	d.begun = f.Partial
	if d.echoes {
		if first {
			err = d.served(d.w.serve(d.ctx, 0, nil))
		}
		return f, true, err
	}
	if len(d.message)+len(f.Payload) > maxMessage {
		return f, false, &dataplane.CloseError{Code: int(ws.StatusMessageTooBig), Reason: "the message is too large"}
	}
	d.message = append(d.message, f.Payload...)
	if f.Partial {
		return f, false, nil
	}
	d.req.Body = d.message
	err = d.respond(f.Text)
	d.message = d.message[:0]
	return f, false, err
}

// respond prepares the answer to a whole message.
func (d *duplex) respond(text bool) error {
	n := d.w.requests.Add(1)
	said := d.w.speech(n, &d.req)
	if said == nil || !said.inPieces() {
		var ans dataplane.Answer
		if err := d.w.respond(d.ctx, n, said, &d.req, &ans); err != nil {
			return d.failed(err)
		}
		if ans.StatusCode >= 400 {
			return &dataplane.CloseError{Code: int(ws.StatusInternalServerError), Reason: fmt.Sprintf("%.100q", ans.Body)}
		}
		d.next = once(dataplane.Frame{Text: text, Payload: ans.Body})
		return nil
	}
	j, v, err := d.w.arrive(0, said)
	if err := d.served(v, err); err != nil {
		return err
	}
	t := &tokens{d: d, said: said, job: j}
	d.next = t.next
	return nil
}

// once is an answer of one frame.
func once(f dataplane.Frame) func() (dataplane.Frame, bool, error) {
	given := false
	return func() (dataplane.Frame, bool, error) {
		more := !given
		given = true
		return f, more, nil
	}
}

// served makes a Close frame's error of a request that was not.
func (d *duplex) served(v verdict, err error) error {
	switch {
	case err != nil:
		return d.failed(err)
	case v == refused:
		return &dataplane.CloseError{Code: 1013, Reason: "the request queue is full"} // try again later
	case v == failed:
		return &dataplane.CloseError{Code: int(ws.StatusInternalServerError), Reason: "simulated failure"}
	}
	return nil
}

func (d *duplex) failed(err error) error {
	if d.ctx.Err() != nil || d.w.ended() {
		return d.ended()
	}
	return d.w.errorf(err)
}

// tokens is an answer in tokens, each a message of its own.
type tokens struct {
	d     *duplex
	said  *speech
	job   *job // nil when they take no time
	sent  int
	piece []byte
}

// next waits for the next token.
func (t *tokens) next() (f dataplane.Frame, more bool, err error) {
	if t.d.ctx.Err() != nil {
		t.leave()
		return f, false, t.d.ended()
	}
	for t.job != nil && t.sent >= int(t.job.made.Load()) {
		select {
		case <-t.job.more:
		case <-t.job.done:
			v, err := t.d.w.depart(t.job, nil)
			t.job = nil
			if err := t.d.served(v, err); err != nil {
				return f, false, err
			}
		case <-t.d.ctx.Done():
			t.leave()
			return f, false, t.d.ended()
		}
	}
	switch {
	case t.sent == t.said.breakAt:
		t.leave()
		return f, false, t.d.w.errorf(dataplane.ErrBroken)
	case t.sent < t.said.count:
		t.piece = t.said.appendToken(t.piece[:0], t.sent)
	case t.sent == t.said.count:
		t.piece = t.said.appendEnd(t.piece[:0])
	}
	if t.sent > t.said.count || t.sent == t.said.count && len(t.piece) == 0 {
		t.leave()
		return f, false, nil
	}
	t.sent++
	return dataplane.Frame{Text: true, Payload: t.piece}, true, nil
}

// leave gives the slot up, if the job still has one.
func (t *tokens) leave() {
	if t.job != nil {
		_, _ = t.d.w.depart(t.job, context.Canceled) // nothing more is sent either way
		t.job = nil
	}
}
