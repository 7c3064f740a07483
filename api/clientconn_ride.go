package api

import (
	"io"
	"net"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane/eventloop"
)

// settled is how many plain invocations make a connection worth moving to an
// event loop: one shows that the endpoint's workers are of the right kind, and the
// move is made when it has been answered. Each further one costs hundreds of
// callers who come at once a tail of milliseconds. Each stay there in vain doubles
// it, up to maxVain of them: the caller's requests may be odd in a way that
// expressible does not see.
const (
	settled = 1
	maxVain = 8
)

// ride is how a connection gets from fasthttp to the express lane, and back when
// the lane meets a request that it does not read. Only between two requests does
// it change over; fasthttp is then told that the connection has ended.
type ride struct {
	tcp    *net.TCPConn      // nil when the connection cannot move
	loop   *eventloop.Loop   // it moves to
	strand *eventloop.Strand // that serves it; nil on an ordinary goroutine
	before []byte            // read by the express lane, and not by fasthttp
	failed error             // what its reading ended with, after before
	host   string            // that the guard has allowed
	plain  int               // invocations by fasthttp that the lane could have served
	vain   int               // stays on the lane, one after the other, without an answer

	// deadlines are those for reading that were set since the last answer.
	// fasthttp sets one before it waits for a request and the next when it has
	// begun to come: so a Read after the first is between two requests, and
	// nothing of the next one has been read.
	deadlines int
	change    atomic.Int32
	waits     atomic.Bool // for a request, on the express lane
}

// What Close is to do.
const (
	closes  = iota
	boards  // take the connection to an event loop
	rejoins // leave it to its strand
)

// strandOf is the strand that serves a request; nil on an ordinary goroutine.
func strandOf(ctx *fasthttp.RequestCtx) *eventloop.Strand {
	if c, ok := ctx.Conn().(*clientConn); ok {
		return c.ride.strand
	}
	return nil
}

// handled notes that fasthttp's handler is done. plain tells that the express
// lane could have served the request.
func handled(ctx *fasthttp.RequestCtx, plain bool) {
	c, ok := ctx.Conn().(*clientConn)
	if !ok {
		return
	}
	c.ride.deadlines = 0
	if plain {
		c.ride.plain++
	}
}

// expressible tells that the caller's next request, if it is like this one, is
// probably one for the express lane.
func expressible(r *fasthttp.Request) bool {
	length := r.Header.ContentLength()
	return length >= 0 && length <= expressBuffer-maxHeaderBytes && !r.MayContinue()
}

// Read is net.Conn's.
func (c *clientConn) Read(p []byte) (int, error) {
	r := &c.ride
	if r.deadlines == 1 {
		r.deadlines++
		r.strand.Return()
		if r.plain >= settled<<min(r.vain, maxVain) && len(r.before) == 0 && c.change() {
			return 0, io.EOF
		}
	}
	if len(r.before) > 0 {
		n := copy(p, r.before)
		if r.before = r.before[n:]; len(r.before) == 0 {
			r.before = nil // it may be large
		}
		return n, nil
	}
	if r.failed != nil {
		return 0, r.failed
	}
	return c.Conn.Read(p)
}

// change ends fasthttp's use of the connection, if there is another.
func (c *clientConn) change() bool {
	switch {
	case c.ride.strand != nil:
		c.ride.change.Store(rejoins)
	case c.ride.tcp != nil && c.listener.express.enter(c):
		c.ride.change.Store(boards)
	default:
		return false
	}
	return true
}

// changesOver tells that it is not the connection that ends, but fasthttp's use
// of it.
func (c *clientConn) changesOver() bool {
	if c.ride.change.CompareAndSwap(boards, closes) {
		return c.listener.express.board(c)
	}
	return c.ride.change.Load() == rejoins
}
