package dataplane

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxIdle is below the 2 s after which gunicorn closes an idle connection,
	// the shortest of the common model servers.
	maxIdle = 1500 * time.Millisecond
	// freshIdle is an age below which an idle connection is used unseen: the
	// look at it is a system call, and the retry in exchange is there anyway.
	freshIdle = 5 * time.Millisecond
)

var (
	errDeadline     = os.ErrDeadlineExceeded
	errPoolClosed   = errors.New("the worker is stopped")
	errNotAccepting = errors.New("the worker did not accept a connection in time")
)

// httpPool is a worker's connections. Idle ones are used last in, first out, so
// that surplus ones grow old and are closed.
type httpPool struct {
	address        string
	tls            *tls.Config
	connectTimeout time.Duration

	mu       sync.Mutex
	idles    []*httpConn // oldest first
	all      map[*httpConn]struct{}
	sweeping bool          // a sweep is scheduled
	drained  chan struct{} // made by shut, closed when no connection is left
}

// httpConn is one connection; it has one user at a time.
type httpConn struct {
	net.Conn
	raw      syscall.RawConn // nil over TLS
	early    earlyConn       // nil if Conn is none
	r        *bufio.Reader   // nil but while an answer is read
	head     []byte          // the request's head, reused
	parts    [2][]byte       // head and body
	buffers  net.Buffers     // of parts, for writev
	abort    func()          // interrupt, made once
	aborted  atomic.Bool     // for good: the connection will be closed
	deadline time.Time       // of the exchange
	short    bool            // the connection's deadline is firstLook's
	since    time.Time       // idle since
	peek     livenessCheck
	answered bool // a byte of the answer arrived

	// What the last answer said. A worker's answers hardly differ in these, and
	// so their strings are made once.
	contentType, attributes string
}

// idle is the youngest idle connection that is still alive; nil if there is none.
func (p *httpPool) idle(now time.Time) *httpConn {
	for {
		p.mu.Lock()
		n := len(p.idles)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idles[n-1]
		p.idles[n-1] = nil
		p.idles = p.idles[:n-1]
		p.mu.Unlock()
		age := now.Sub(c.since)
		if age < freshIdle || age < maxIdle && c.alive() {
			return c
		}
		p.discard(c)
	}
}

// dial makes a connection.
func (p *httpPool) dial(ctx context.Context, deadline time.Time) (*httpConn, error) {
	dialer := net.Dialer{Timeout: p.connectTimeout, Deadline: deadline}
	conn, err := dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		if netErr := net.Error(nil); errors.As(err, &netErr) && netErr.Timeout() {
			if !deadline.IsZero() && !time.Now().Before(deadline) {
				return nil, errDeadline
			}
			return nil, fmt.Errorf("%w (%v)", errNotAccepting, p.connectTimeout)
		}
		return nil, err
	}
	c := &httpConn{Conn: FastConn(conn)}
	if p.tls != nil {
		secure := tls.Client(conn, p.tls)
		shake, cancel := context.WithTimeout(ctx, PingTimeout)
		err := secure.HandshakeContext(shake)
		cancel()
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		c.Conn = secure
	} else if sc, ok := conn.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	c.early, _ = c.Conn.(earlyConn)
	c.abort = c.interrupt

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drained != nil {
		return nil, errors.Join(errPoolClosed, c.Close())
	}
	if p.all == nil {
		p.all = map[*httpConn]struct{}{}
	}
	p.all[c] = struct{}{}
	return c, nil
}

// put makes a connection idle.
func (p *httpPool) put(c *httpConn) {
	c.since = time.Now()
	p.mu.Lock()
	if p.drained != nil {
		p.mu.Unlock()
		p.discard(c)
		return
	}
	p.idles = append(p.idles, c)
	if !p.sweeping {
		p.sweeping = true
		time.AfterFunc(maxIdle, p.sweep)
	}
	p.mu.Unlock()
}

// discard closes a connection.
func (p *httpPool) discard(c *httpConn) {
	_ = c.Close() // nothing is lost: its exchange is over, or has failed already
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, c)
	p.settle()
}

// settle closes drained once no connection is left; the lock is held.
func (p *httpPool) settle() {
	if p.drained == nil || len(p.all) > 0 {
		return
	}
	select {
	case <-p.drained:
	default:
		close(p.drained)
	}
}

// sweep closes the connections that are idle for too long, and comes again as
// long as there are idle ones.
func (p *httpPool) sweep() {
	now := time.Now()
	p.mu.Lock()
	n := 0
	for n < len(p.idles) && now.Sub(p.idles[n].since) >= maxIdle {
		n++
	}
	old := append([]*httpConn(nil), p.idles[:n]...)
	rest := copy(p.idles, p.idles[n:])
	clear(p.idles[rest:])
	p.idles = p.idles[:rest]
	p.sweeping = rest > 0
	if p.sweeping {
		time.AfterFunc(maxIdle-now.Sub(p.idles[0].since), p.sweep)
	}
	p.mu.Unlock()
	for _, c := range old {
		p.discard(c)
	}
}

// shut closes the idle connections and makes no new ones. The channel is closed
// when those in use are closed as well.
func (p *httpPool) shut() <-chan struct{} {
	p.mu.Lock()
	if p.drained == nil {
		p.drained = make(chan struct{})
	}
	drained := p.drained
	idles := p.idles
	p.idles = nil
	p.settle()
	p.mu.Unlock()
	for _, c := range idles {
		p.discard(c)
	}
	return drained
}

// close breaks the connections in use as well.
func (p *httpPool) close() {
	p.shut()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.all {
		_ = c.Close() // its user sees the error
	}
}
