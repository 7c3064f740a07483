package dataplane

import (
	"bufio"
	"context"
	"io"
	"net"
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
)

// aLongTimeAgo as a deadline interrupts a connection at once.
var aLongTimeAgo = time.Unix(1, 0)

// partsWriter writes two parts in one system call; see FastConn and eventloop.
type partsWriter interface {
	WriteParts(head, body []byte) (int, error)
}

// readers are shared by all connections. One has a reader only while it reads an
// answer, so a few buffers serve many connections and stay in the processor's
// cache.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

// exchange sends a request and reads its answer. keep tells that the connection
// can carry another one.
func (c *httpConn) exchange(ctx context.Context, deadline time.Time, head *requestHead, req *Request, ans *Answer, limit int) (keep bool, err error) {
	c.answered = false
	if err := c.SetDeadline(deadline); err != nil {
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

// interrupt is c.abort.
func (c *httpConn) interrupt() {
	c.aborted.Store(true)
	_ = c.SetDeadline(aLongTimeAgo) // fails only when the connection is closed
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
// So a body that may not fit into the socket's buffer is written while the answer
// is read: by a goroutine, or on a loop by what waits for the answer.
func (c *httpConn) sendAndReceive(head *requestHead, req *Request, ans *Answer, limit int) (keep bool, err error) {
	switch {
	case len(req.Body) <= bufferedBody:
		return c.sendThenReceive(head, req, ans, limit)
	case c.loop != nil:
		return c.postAndReceive(head, req, ans, limit)
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

func (c *httpConn) sendThenReceive(head *requestHead, req *Request, ans *Answer, limit int) (keep bool, err error) {
	writeErr := c.send(head, req)
	if c.loop != nil {
		_ = c.loop.AwaitRead() // receive meets the error again
	}
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

func (c *httpConn) postAndReceive(head *requestHead, req *Request, ans *Answer, limit int) (keep bool, err error) {
	c.head = head.append(c.head[:0], req)
	c.loop.Post(c.head, req.Body)
	_ = c.loop.AwaitRead() // receive meets the error again
	c.borrowReader()
	keep, err = c.receive(ans, limit)
	sent, writeErr := c.loop.Settle()
	if err != nil && writeErr != nil {
		err = writeErr
	}
	return keep && sent, err
}

func (c *httpConn) send(head *requestHead, req *Request) error {
	c.head = head.append(c.head[:0], req)
	body := req.Body
	if len(body) <= inlineBody {
		c.head = append(c.head, body...)
		body = nil
	}
	var err error
	switch {
	case c.parts != nil:
		_, err = c.parts.WriteParts(c.head, body)
	case body == nil:
		_, err = c.Write(c.head)
	default:
		_, err = (&net.Buffers{c.head, body}).WriteTo(c.Conn)
	}
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
