package dataplane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

// Stream posts one request and passes its answer on; see Worker. A piece is one
// chunk of a chunked answer up to maxPiece, or what one read of the connection gave.
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

// maxPiece is the largest piece that is waited for. A caller's frame takes as much.
const maxPiece = 1 << 20

// pieces reads an answer's body and passes it on, without a copy where it can.
type pieces struct {
	r         *bufio.Reader
	to        Sink
	unflushed bool
	large     []byte // a piece that r cannot hold
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

// chunk passes a chunk of n bytes on: as one piece, however it arrives, because it
// is what the worker has flushed and callers take an event for one token or line.
// One above maxPiece is several.
func (p *pieces) chunk(n int64) error {
	for n > 0 {
		size := int(min(n, maxPiece))
		if p.r.Buffered() < size {
			if err := p.flush(); err != nil {
				return err
			}
		}
		if size > p.r.Size() {
			if err := p.largePiece(size); err != nil {
				return err
			}
			n -= int64(size)
			continue
		}
		_, broken := p.r.Peek(size)
		if broken != nil { // what has come of it is the caller's
			if size = p.r.Buffered(); size == 0 {
				return broken
			}
		}
		if err := p.piece(size, &n); err != nil {
			return err
		}
		if broken != nil {
			return broken
		}
	}
	return nil
}

// largePiece passes on what r cannot hold at once. Memory is taken for what comes
// and not for what a chunk's size promises.
func (p *pieces) largePiece(size int) (err error) {
	p.large = p.large[:0]
	for len(p.large) < size && err == nil {
		from := len(p.large)
		p.large = slices.Grow(p.large, min(size-from, max(from, p.r.Size())))
		var n int
		n, err = io.ReadAtLeast(p.r, p.large[from:min(cap(p.large), size)], 1)
		p.large = p.large[:from+n]
	}
	if len(p.large) > 0 {
		p.unflushed = true
		if _, failed := p.to.Write(p.large); failed != nil {
			return failed
		}
	}
	return err
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
		if err := p.chunk(size); err != nil {
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
