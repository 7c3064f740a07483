package dataplane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"time"
)

// Stream posts one request and passes its answer on; see Worker. A piece is one
// chunk of a chunked answer, or what one read of the connection gave.
func (w *HTTPWorker) Stream(ctx context.Context, req *Request, to Sink) error {
	if !sendable(req) {
		return ErrInvalidHeader
	}
	head := &w.request
	if req.Path != "" {
		own, err := newRequestHead("POST", req.Path, w.cfg.Host, w.cfg.Header)
		if err != nil {
			return err
		}
		head = &own
	}
	now := time.Now()
	var deadline time.Time
	if req.Timeout > 0 {
		deadline = now.Add(req.Timeout)
	}
	out := outlet{Sink: to}
	err := w.exchange(ctx, now, deadline, head, req, &Answer{stream: &stream{Sink: &out, ans: new(Answer)}})
	if out.err != nil {
		return out.err // not the worker's fault
	}
	return err
}

// outlet remembers the error of a sink.
type outlet struct {
	Sink
	err error
}

func (o *outlet) Begin(head *Answer) error {
	o.err = o.Sink.Begin(head)
	return o.err
}

func (o *outlet) Write(p []byte) (n int, err error) {
	n, o.err = o.Sink.Write(p)
	return n, o.err
}

func (o *outlet) Flush() error {
	o.err = o.Sink.Flush()
	return o.err
}

// passOn is readAnswer for an answer that goes to a sink. Its length has no
// limit: nothing of it is kept.
func (c *httpConn) passOn(h *answerHead, ans *Answer) (keep bool, err error) {
	if err := ans.stream.Begin(ans); err != nil {
		return false, err
	}
	p := pieces{r: c.r, to: ans.stream, unflushed: true}
	switch {
	case h.bodiless():
	case h.chunked:
		err = p.passChunked()
	case h.length >= 0:
		err = p.pass(h.length)
	default:
		h.keep = false
		if err = p.passAll(); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return h.keep && err == nil, err
}

// pieces reads an answer's body and passes it on without a copy.
type pieces struct {
	r         *bufio.Reader
	to        Sink
	unflushed bool
}

// flush tells the sink that the worker is about to be waited for.
func (p *pieces) flush() error {
	if !p.unflushed {
		return nil
	}
	p.unflushed = false
	return p.to.Flush()
}

// some waits until there is something to pass on.
func (p *pieces) some() error {
	if p.r.Buffered() > 0 {
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	_, err := p.r.Peek(1)
	return err
}

// pass passes n bytes on as they come.
func (p *pieces) pass(n int64) error {
	for n > 0 {
		if err := p.some(); err != nil {
			return err
		}
		if err := p.piece(int(min(n, int64(p.r.Buffered()))), &n); err != nil {
			return err
		}
	}
	return nil
}

// passAll passes everything on, until an error that is io.EOF at the end.
func (p *pieces) passAll() error {
	var n int64
	for {
		if err := p.some(); err != nil {
			return err
		}
		if err := p.piece(p.r.Buffered(), &n); err != nil {
			return err
		}
	}
}

// piece passes on what is there and takes it off what is left.
func (p *pieces) piece(size int, left *int64) error {
	b, err := p.r.Peek(size)
	if err != nil {
		return err // cannot be: it is buffered
	}
	p.unflushed = true
	if _, err := p.to.Write(b); err != nil {
		return err
	}
	*left -= int64(size)
	_, err = p.r.Discard(size)
	return err
}

func (p *pieces) passChunked() error {
	for {
		if err := p.line(); err != nil {
			return err
		}
		size, err := readChunkSize(p.r)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		if err := p.pass(size); err != nil {
			return err
		}
		if err := p.line(); err != nil {
			return err
		}
		if end, err := readLine(p.r); err != nil {
			return err
		} else if len(end) > 0 {
			return errChunk
		}
	}
	if err := p.line(); err != nil {
		return err
	}
	return skipTrailers(p.r)
}

// line flushes unless a whole line is there to be read.
func (p *pieces) line() error {
	b, err := p.r.Peek(p.r.Buffered())
	if err != nil || bytes.IndexByte(b, '\n') >= 0 {
		return err
	}
	return p.flush()
}
