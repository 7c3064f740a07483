package api

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/eventloop"
)

// express answers plain invocations on an event loop (ADR 6). It holds no memory
// for a connection that waits, and little for one whose worker does.
type express struct {
	hot   *runtime
	guard *guard
	// rest serves a connection with fasthttp, which closes it in the end.
	rest func(net.Conn)

	date    atomic.Pointer[httpDate]
	closing atomic.Bool

	mu     sync.Mutex
	loops  []*eventloop.Loop
	turn   int                      // whose is next
	riders map[*clientConn]struct{} // all connections on the loops
	gone   chan struct{}            // told when the last has left after close
}

const (
	// expressBuffer is the largest request; fasthttp gets larger ones.
	expressBuffer = 4 << 20
	// expressHead is room for any head, and for small bodies behind it.
	expressHead = 64 << 10
	maxLoops    = 8
	// inlineAnswer is the largest body that is copied behind its head.
	inlineAnswer = 1 << 10
)

// httpDate is a second and its text.
type httpDate struct {
	second int64
	text   string
}

// enter counts a connection among those that ride, and finds it a loop; false when
// it is to stay where it is.
func (x *express) enter(c *clientConn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closing.Load() || len(x.riders) >= maxConnections {
		return false
	}
	loop, err := x.loop()
	if err != nil {
		c.ride.tcp = nil // there are none here
		return false
	}
	if x.riders == nil {
		x.riders, x.gone = map[*clientConn]struct{}{}, make(chan struct{}, 1)
	}
	x.riders[c] = struct{}{}
	c.ride.loop = loop
	return true
}

// loop is the event loop whose turn it is. The lock is held.
func (x *express) loop() (*eventloop.Loop, error) {
	for len(x.loops) < min(eventloop.Processors(), maxLoops) {
		l, err := eventloop.Start()
		if err != nil {
			return nil, err
		}
		x.loops = append(x.loops, l)
	}
	x.turn++
	return x.loops[x.turn%len(x.loops)], nil
}

// board takes a connection that has entered, and which fasthttp has let go of, to
// its event loop; false if it has to be closed.
func (x *express) board(c *clientConn) bool {
	tcp := c.ride.tcp
	c.ride.tcp = nil // it moves once
	conn, err := c.ride.loop.Adopt(tcp)
	if err != nil {
		x.leave(c)
		if x.closing.Load() {
			return false
		}
		go x.rest(c)
		return true
	}
	c.listener.mu.Lock()
	c.Conn = conn
	c.listener.mu.Unlock()
	started := c.ride.loop.Go(func(s *eventloop.Strand) {
		defer x.leave(c)
		x.carry(c, s, conn)
	})
	if !started { // the server has not waited
		x.leave(c)
	}
	return started
}

func (x *express) leave(c *clientConn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.riders, c)
	if x.closing.Load() && len(x.riders) == 0 {
		x.gone <- struct{}{}
	}
}

// carry is the life of a connection on its loop, between the express lane and
// fasthttp.
func (x *express) carry(c *clientConn, s *eventloop.Strand, conn *eventloop.Conn) {
	c.ride.strand = s
	conn.Bind(s)
	if conn.Watch() == nil {
		for {
			c.ride.vain++
			if c.ride.before = x.serve(c, conn); c.ride.before == nil {
				break
			}
			c.ride.plain, c.ride.deadlines = 0, 0
			if x.rest(c); !c.ride.change.CompareAndSwap(rejoins, closes) {
				return // fasthttp has closed it
			}
		}
	}
	_ = c.Close() // the caller is gone, or asked to go
}

// close closes the connections that wait for a request, and takes no more
// requests on those that are being answered.
func (x *express) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closing.Store(true)
	for c := range x.riders {
		if c.ride.waits.CompareAndSwap(true, false) {
			_ = c.Close() // its strand sees that
		}
	}
}

// drain waits after close until all have been answered.
func (x *express) drain(ctx context.Context) error {
	x.mu.Lock()
	riders := len(x.riders)
	x.mu.Unlock()
	if riders == 0 {
		return nil
	}
	select {
	case <-x.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end closes what is left, and the loops.
func (x *express) end() {
	x.mu.Lock()
	loops := x.loops
	x.mu.Unlock()
	for _, l := range loops {
		l.Close()
	}
}

// serve answers plain requests until the connection ends or something else
// comes: then rest is what has come of it.
func (x *express) serve(c *clientConn, conn *eventloop.Conn) (rest []byte) {
	for !x.closing.Load() {
		c.ride.strand.Return()
		n, err := x.await(c, conn)
		if err != nil {
			break
		}
		rest, more := x.batch(c, conn, n)
		if rest != nil {
			return rest
		}
		if !more {
			break
		}
	}
	return nil
}

// await reads what comes next into the loop's memory. close takes a connection
// that waits, and only one: a request that has been read is answered.
func (x *express) await(c *clientConn, conn *eventloop.Conn) (n int, err error) {
	if err := c.SetReadDeadline(c.ride.strand.Now().Add(idleTimeout)); err != nil {
		return 0, err
	}
	c.ride.waits.Store(true)
	if x.closing.Load() { // close may have looked at waits before
		return 0, net.ErrClosed
	}
	n, err = conn.Read(conn.Loop().Scratch())
	if !c.ride.waits.CompareAndSwap(true, false) {
		return 0, net.ErrClosed
	}
	return n, err
}

// batch answers what has been read, n bytes: one request, as a rule. more tells
// that the connection can wait for another.
func (x *express) batch(c *clientConn, conn *eventloop.Conn, n int) (rest []byte, more bool) {
	// From here on others use the loop's memory.
	buf := borrow(n)
	defer func() { buf.giveBack() }()
	copy(buf.bytes, conn.Loop().Scratch()[:n])
	state := x.hot.state()
	defer x.hot.states.Put(state)
	for fresh := true; n > 0; {
		if fresh && c.SetReadDeadline(c.ride.strand.Now().Add(readTimeout)) != nil {
			return nil, false
		}
		var p plainRequest
		verdict := p.read(buf.bytes[:n], expressBuffer, &state.headers)
		switch {
		case verdict == partial:
			fresh = false
			if buf, n, c.ride.failed = x.extend(conn, buf, n, p.size); c.ride.failed != nil {
				return bytes.Clone(buf.bytes[:n]), true // fasthttp knows what to say
			}
		case verdict == other || !x.admits(c, p.host):
			return bytes.Clone(buf.bytes[:n]), true
		case !x.answer(c, conn, state, &p):
			return nil, false
		default:
			fresh = true
			n = copy(buf.bytes, buf.bytes[p.size:n])
		}
	}
	return nil, true
}

// extend reads more of a request of which n bytes are there, and all of it if its
// size is known. Memory for a large one is there for callers who have begun to send
// it, not for all who announce it.
func (x *express) extend(conn *eventloop.Conn, buf *buffer, n, size int) (*buffer, int, error) {
	room := expressHead
	if n >= expressHead/2 {
		room = max(size, expressHead)
	}
	if len(buf.bytes) < room {
		small := buf
		buf = borrow(room)
		copy(buf.bytes, small.bytes[:n])
		small.giveBack()
	}
	for {
		more, err := conn.Read(buf.bytes[n:])
		if n += more; n >= size || n == len(buf.bytes) || err != nil {
			return buf, n, err
		}
	}
}

// answer is the way of one invocation; false when the connection can take no
// other.
func (x *express) answer(c *clientConn, conn *eventloop.Conn, state *invocation, p *plainRequest) bool {
	c.ride.vain = 0
	state.ans = dataplane.Answer{Lend: true}
	defer state.ans.Release()
	c.turn.Add(1)
	scope, route, err := x.hot.attempt(c.ctx, state, p.endpoint, p.body, c.ride.strand)
	c.turn.Add(1)
	last := x.closing.Load()
	if e := c.SetWriteDeadline(c.ride.strand.Now().Add(writeTimeout)); e != nil {
		return false
	}
	if err != nil || state.ans.StatusCode/100 != 2 {
		c.ride.strand.Leave() // it is logged
		err = x.refuse(conn, p, last, &route, func(id string) error {
			return failure(func() string { return id }, &state.req, &state.ans, err, scope, text(p.endpoint), route)
		})
		return err == nil && !last
	}
	state.out = x.appendHead(state.out[:0], &state.ans, &route, c.ride.strand.Now(), last)
	body := state.ans.Body
	if len(body) <= inlineAnswer {
		state.out = append(state.out, body...)
		body = nil
	}
	_, err = conn.WriteParts(state.out, body)
	return err == nil && !last
}

// refuse writes an error through fasthttp's response.
func (x *express) refuse(conn *eventloop.Conn, p *plainRequest, last bool, route *dataplane.Route, err func(id string) error) error {
	var ctx fasthttp.RequestCtx
	ctx.Init2(conn, discardLogger{}, false)
	ctx.Request.SetRequestURI("/endpoints/" + string(p.endpoint) + "/invocations")
	id := newRequestID()
	setRequestID(&ctx.Response.Header, id[:])
	setRoute(&ctx.Response.Header, route)
	x.hot.fail(&ctx, err(id.String()))
	if last {
		ctx.SetConnectionClose()
	}
	w := bufio.NewWriter(conn)
	if err := ctx.Response.Write(w); err != nil {
		return err
	}
	return w.Flush()
}

// appendHead writes the head of a successful answer, which may be the connection's
// last.
func (x *express) appendHead(b []byte, ans *dataplane.Answer, route *dataplane.Route, now time.Time, last bool) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\nDate: "...)
	b = append(b, x.dateAt(now)...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(ans.Body)), 10)
	b = append(b, "\r\nX-Amzn-Requestid: "...)
	id := newRequestID()
	b = appendUUID(b, id[:])
	b = appendField(b, "\r\nContent-Type: ", ans.ContentType)
	b = appendField(b, "\r\nX-Amzn-Invoked-Production-Variant: ", route.Variant)
	b = appendField(b, "\r\nX-Sagelocal-Instance: ", route.Instance)
	b = appendField(b, "\r\nX-Amzn-Sagemaker-Custom-Attributes: ", ans.CustomAttributes)
	b = appendField(b, "\r\nX-Amzn-Sagemaker-New-Session-Id: ", ans.NewSession)
	b = appendField(b, "\r\nX-Amzn-Sagemaker-Closed-Session-Id: ", ans.ClosedSession)
	if route.ColdStart > 0 {
		b = append(b, "\r\nX-Sagelocal-Cold-Start-Ms: "...)
		b = strconv.AppendInt(b, coldStartMillis(route), 10)
	}
	if last {
		b = append(b, "\r\nConnection: close"...)
	}
	return append(b, "\r\n\r\n"...)
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return append(append(b, name...), value...)
}

// dateAt is the Date header of a moment. AWS's clients set their clocks by it.
func (x *express) dateAt(now time.Time) string {
	d := x.date.Load()
	if s := now.Unix(); d == nil || d.second != s {
		d = &httpDate{s, string(fasthttp.AppendHTTPDate(nil, now))}
		x.date.Store(d)
	}
	return d.text
}

// admits is the word of the guard and of fasthttp on a host. A connection's
// requests name one, as a rule.
func (x *express) admits(c *clientConn, host []byte) bool {
	if string(host) == c.ride.host {
		return true
	}
	if !x.guard.allows(string(host)) || new(fasthttp.URI).Parse(host, plainStart) != nil {
		return false
	}
	c.ride.host = string(host)
	return true
}
