package dataplane

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// inlineBody is the largest body that is copied behind the request's head.
	// Larger ones go by writev, which is dearer than to copy a few bytes.
	inlineBody = 1 << 10
	// readBuffer is larger than most answers, which are then read in one call.
	readBuffer = 16 << 10
	// bufferedBody is the largest body that is written before its answer is read.
	bufferedBody = 64 << 10
	// firstLook is how long an exchange relies on being told of an answer before
	// it looks for one; see writeAndAwait.
	firstLook = 100 * time.Millisecond
)

// aLongTimeAgo as a deadline interrupts a connection at once.
var aLongTimeAgo = time.Unix(1, 0)

// earlyConn can wait for an answer before anything is read; see fastConn.
type earlyConn interface {
	writeAndAwait(head, body []byte) error
	finish() error
	forget()
}

// readers are shared by all connections. One has a reader only while it reads an
// answer, so a few buffers serve many connections and stay in the processor's
// cache.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

// exchange sends a request and reads its answer. keep tells that the connection
// can carry another one.
func (c *httpConn) exchange(ctx context.Context, now, deadline time.Time, head *requestHead, req *Request, ans *Answer, limit int) (keep bool, err error) {
	c.answered = false
	if err := c.start(now, deadline, len(req.Body)); err != nil {
		return false, err
	}
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = afterFunc(ctx, c.abort)
	}
	keep, err = c.sendAndReceive(head, req, ans, limit)
	if !stop() {
		keep = false // abort has run, or still will
	}
	return c.returnReader() && keep, err
}

func (c *httpConn) borrowReader() {
	c.r = readers.Get().(*bufio.Reader)
	c.r.Reset(c)
}

// returnReader tells that nothing was left in it.
func (c *httpConn) returnReader() (empty bool) {
	empty = c.r.Buffered() == 0
	c.r.Reset(nil)
	readers.Put(c.r)
	c.r = nil
	return empty
}

// start sets the connection's deadline: firstLook's where send is going to wait
// for the answer, and else the exchange's own.
func (c *httpConn) start(now, deadline time.Time, body int) error {
	c.deadline, c.short = deadline, false
	if look := now.Add(firstLook); c.early != nil && body <= bufferedBody && (deadline.IsZero() || look.Before(deadline)) {
		deadline, c.short = look, true
	}
	return c.SetDeadline(deadline)
}

// late replaces firstLook's deadline by the exchange's own if that is what err
// is about, and then returns nil; else it returns err.
func (c *httpConn) late(err error) error {
	if !c.short || !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.short = false
	if err := c.SetDeadline(c.deadline); err != nil {
		return err
	}
	if c.aborted.Load() {
		c.abort() // its deadline may just have been replaced
		return err
	}
	return nil
}

// interrupt is c.abort.
func (c *httpConn) interrupt() {
	c.aborted.Store(true)
	_ = c.SetDeadline(aLongTimeAgo) // fails only when the connection is closed
}

// Read is io.Reader's.
func (c *httpConn) Read(p []byte) (n int, err error) {
	n, err = c.Conn.Read(p)
	if n == 0 && err != nil {
		if err = c.late(err); err == nil {
			return c.Conn.Read(p)
		}
	}
	return n, err
}

// afterFunc is context.AfterFunc, or the context's own.
func afterFunc(ctx context.Context, f func()) (stop func() bool) {
	if own, ok := ctx.(interface {
		AfterFunc(f func()) (stop func() bool)
	}); ok {
		return own.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

// sendAndReceive keeps an answer that comes before all of the request was
// written: a server may refuse it early, as with 413, or echo it as it reads it.
// So a body that may not fit into the socket's buffer is written by a goroutine.
func (c *httpConn) sendAndReceive(head *requestHead, req *Request, ans *Answer, limit int) (keep bool, err error) {
	if len(req.Body) <= bufferedBody {
		writeErr := c.send(head, req)
		c.borrowReader()
		keep, err = c.receive(ans, limit)
		if writeErr == nil {
			return keep, err
		}
		if err != nil {
			err = writeErr
		}
		return false, err
	}
	written := make(chan error, 1)
	go func() { written <- c.send(head, req) }()
	c.borrowReader()
	keep, err = c.receive(ans, limit)
	select {
	case writeErr := <-written:
		return keep && writeErr == nil, err
	default:
	}
	c.abort()
	<-written //nolint:errcheck // the answer's error counts; the body is the caller's from here on
	return false, err
}

// send writes the request, and where it can it waits for the answer too.
func (c *httpConn) send(head *requestHead, req *Request) error {
	c.head = head.append(c.head[:0], req)
	body := req.Body
	if len(body) <= inlineBody {
		c.head = append(c.head, body...)
		body = nil
	}
	switch {
	case c.early != nil && len(body) <= bufferedBody:
		err := c.late(c.early.writeAndAwait(c.head, body))
		if err == nil {
			err = c.late(c.early.finish())
		}
		if err == nil {
			err = c.early.finish() // if the last one was late
		}
		c.early.forget()
		return err
	case body == nil:
		_, err := c.Write(c.head)
		return err
	}
	c.parts = [2][]byte{c.head, body}
	c.buffers = c.parts[:]
	_, err := c.buffers.WriteTo(c.Conn)
	c.parts, c.buffers = [2][]byte{}, nil // the body is the caller's
	return err
}

// receive reads the answer, past any interim ones.
func (c *httpConn) receive(ans *Answer, limit int) (keep bool, err error) {
	if _, err := c.r.Peek(1); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return false, err
	}
	c.answered = true
	return readAnswer(c, ans, limit)
}
