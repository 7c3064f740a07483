package dataplane

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sagelocal/sagelocal/dataplane/eventloop"
)

const (
	// maxIdle is below the 2 s after which gunicorn closes an idle connection,
	// the shortest of the common model servers.
	maxIdle = 1500 * time.Millisecond
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
	lanes    [][]*httpConn // the idle ones by lane, oldest first
	all      map[*httpConn]struct{}
	sweeping bool          // a sweep is scheduled
	drained  chan struct{} // made by shut, closed when no connection is left
}

// httpConn is one connection; it has one user at a time.
type httpConn struct {
	net.Conn
	tcp      *net.TCPConn    // nil over TLS
	loop     *eventloop.Conn // nil unless an event loop watches it
	lane     int             // 0 of the goroutines' connections, else its loop's id
	raw      syscall.RawConn // nil over TLS
	parts    partsWriter     // nil if Conn is none
	r        *bufio.Reader   // nil but while an answer is read
	head     []byte          // the request's head, reused
	abort    func()          // interrupt, made once
	aborted  atomic.Bool     // for good: the connection will be closed
	since    time.Time       // idle since
	peek     livenessCheck
	answered bool // a byte of the answer arrived

	// What the last answer said. A worker's answers hardly differ in these, and
	// so their strings are made once.
	contentType, attributes string
}

// idle is an idle connection that is still alive; nil if there is none. Strands
// have connections of their own loop: an event of another's would come to the
// wrong one.
func (p *httpPool) idle(now time.Time, s *eventloop.Strand) *httpConn {
	if !s.Inline() {
		return p.take(now, 0)
	}
	lane := s.Loop().ID()
	c := p.take(now, lane)
	if c == nil {
		if c = p.take(now, 0); c == nil || !p.move(c, s.Loop(), lane) {
			return nil
		}
	}
	c.loop.Bind(s)
	return c
}

// take is the youngest idle connection of a lane. It is looked at however young it
// is: what a server has sent unasked would be taken for the answer to the next
// request, and each answer from then on for that of the request behind its own.
func (p *httpPool) take(now time.Time, lane int) *httpConn {
	for {
		p.mu.Lock()
		if lane >= len(p.lanes) || len(p.lanes[lane]) == 0 {
			p.mu.Unlock()
			return nil
		}
		idles := p.lanes[lane]
		n := len(idles)
		c := idles[n-1]
		idles[n-1] = nil
		p.lanes[lane] = idles[:n-1]
		p.mu.Unlock()
		if now.Sub(c.since) < maxIdle && c.alive() {
			return c
		}
		p.discard(c)
	}
}

// move gives a connection to a loop.
func (p *httpPool) move(c *httpConn, to *eventloop.Loop, lane int) bool {
	if c.tcp == nil {
		p.discard(c)
		return false
	}
	p.mu.Lock()
	adopted, err := to.Adopt(c.tcp)
	if err == nil {
		c.Conn, c.loop, c.parts, c.lane, c.raw = adopted, adopted, adopted, lane, nil
		err = adopted.Watch()
	}
	p.mu.Unlock()
	if err != nil {
		p.discard(c)
	}
	return err == nil
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
	} else if tcp, ok := conn.(*net.TCPConn); ok {
		c.tcp = tcp
		c.raw, _ = tcp.SyscallConn()
	}
	c.parts, _ = c.Conn.(partsWriter)
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
func (p *httpPool) put(c *httpConn, now time.Time) {
	c.since = now
	p.mu.Lock()
	if p.drained != nil {
		p.mu.Unlock()
		p.discard(c)
		return
	}
	for c.lane >= len(p.lanes) {
		p.lanes = append(p.lanes, nil)
	}
	p.lanes[c.lane] = append(p.lanes[c.lane], c)
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
	var old []*httpConn
	oldest := time.Duration(-1)
	p.mu.Lock()
	for i, idles := range p.lanes {
		n := 0
		for n < len(idles) && now.Sub(idles[n].since) >= maxIdle {
			n++
		}
		old = append(old, idles[:n]...)
		p.lanes[i] = slices.Delete(idles, 0, n)
		if len(p.lanes[i]) > 0 {
			oldest = max(oldest, now.Sub(p.lanes[i][0].since))
		}
	}
	p.sweeping = oldest >= 0
	if p.sweeping {
		time.AfterFunc(maxIdle-oldest, p.sweep)
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
	idles := slices.Concat(p.lanes...)
	p.lanes = nil
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
