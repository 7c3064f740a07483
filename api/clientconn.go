package api

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane"
)

// fasthttp does not notice that a caller went away while its request is being
// answered. clientListener wraps every connection so that callers can: a sweep
// looks at the sockets of invocations that take longer than sweepInterval and
// cancels those whose other end has closed.
type clientListener struct {
	net.Listener

	base    context.Context // ends when the server stops waiting for invocations
	express *express        // nil: connections stay where they are

	mu    sync.Mutex
	conns map[*clientConn]struct{}
	idle  chan struct{} // holds a token while no sweep runs
}

// sweepInterval is how late a caller's departure may be noticed, and a deadline.
const sweepInterval = 200 * time.Millisecond

func newClientListener(ln net.Listener, base context.Context) *clientListener {
	l := &clientListener{Listener: ln, base: base, conns: map[*clientConn]struct{}{}, idle: make(chan struct{}, 1)}
	l.idle <- struct{}{}
	return l
}

// clientConn is a caller's connection. Its context serves all of its
// invocations: it ends when the caller has gone, and then no other follows.
type clientConn struct {
	net.Conn
	listener *clientListener
	ctx      *callerContext
	ride     ride

	reads, writes sweptDeadline

	turn   atomic.Uint64 // odd while an invocation is under way
	seen   uint64        // turn at the last sweep
	unread atomic.Bool   // a part of the request will never be read
}

// A caller that is still sending when its connection closes gets a reset, which
// may destroy the answer that it has not read yet. So the rest of a refused
// request is taken in first, within these limits.
const (
	lingerTime  = 5 * time.Second
	lingerBytes = 128 << 20
)

// Accept waits for the next caller.
func (l *clientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &clientConn{Conn: dataplane.FastConn(conn), listener: l, ctx: newCallerContext(l.base)}
	if l.express != nil {
		c.ride.tcp, _ = conn.(*net.TCPConn)
	}
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	select {
	case <-l.idle:
		go l.sweep()
	default:
	}
	return c, nil
}

// Close forgets the connection.
func (c *clientConn) Close() error {
	if c.changesOver() {
		return nil
	}
	if c.unread.Load() {
		c.linger()
	}
	c.listener.mu.Lock()
	delete(c.listener.conns, c)
	conn := c.Conn
	c.listener.mu.Unlock()
	c.ctx.end()
	return conn.Close()
}

// linger lets the caller read the answer before the connection closes.
func (c *clientConn) linger() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	if c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // whatever ends it, the connection is closed next
	}
}

// SetReadDeadline is net.Conn's; see sweptDeadline.
func (c *clientConn) SetReadDeadline(at time.Time) error {
	c.ride.deadlines++
	return c.reads.set(at, c.Conn.SetReadDeadline)
}

// SetWriteDeadline is net.Conn's; see sweptDeadline.
func (c *clientConn) SetWriteDeadline(at time.Time) error {
	return c.writes.set(at, c.Conn.SetWriteDeadline)
}

// SetDeadline is net.Conn's; see sweptDeadline.
func (c *clientConn) SetDeadline(at time.Time) error {
	return errors.Join(c.SetReadDeadline(at), c.SetWriteDeadline(at))
}

// sweep runs while there are connections.
func (l *clientListener) sweep() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for now := range ticker.C {
		l.mu.Lock()
		if len(l.conns) == 0 {
			l.idle <- struct{}{}
			l.mu.Unlock()
			return
		}
		for c := range l.conns {
			c.look()
			c.reads.sweep(now, c.Conn.SetReadDeadline)
			c.writes.sweep(now, c.Conn.SetWriteDeadline)
		}
		l.mu.Unlock()
	}
}

// look cancels an invocation that was already under way at the last sweep if its
// caller has gone.
func (c *clientConn) look() {
	turn := c.turn.Load()
	if turn%2 == 1 && turn == c.seen && closedByPeer(c.Conn) {
		c.ctx.end()
	}
	c.seen = turn
}

// watch gives a context that ends when the caller goes away or when base does.
// The invocation is over when done is called.
func watch(ctx *fasthttp.RequestCtx, base context.Context) (until context.Context, done func()) {
	c, ok := ctx.Conn().(*clientConn)
	if !ok {
		return base, func() {}
	}
	c.turn.Add(1)
	return c.ctx, c.over
}

func (c *clientConn) over() { c.turn.Add(1) }
