package api

import (
	"bufio"
	"bytes"
	"context"
	"net"
	goruntime "runtime"
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
	expressBuffer = 64 << 10
	maxLoops      = 8
	// inlineAnswer is the largest body that is copied behind its head.
	inlineAnswer = 1 << 10
)

// httpDate is a second and its text.
type httpDate struct {
	second int64
	text   string
}

// loop is the event loop whose turn it is.
func (x *express) loop() (*eventloop.Loop, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.loops) < min(goruntime.GOMAXPROCS(0), maxLoops) {
		l, err := eventloop.Start()
		if err != nil {
			return nil, err
		}
		x.loops = append(x.loops, l)
	}
	x.turn++
	return x.loops[x.turn%len(x.loops)], nil
}

// board takes a connection, which fasthttp has let go of, to an event loop; false
// if it has to be closed.
func (x *express) board(c *clientConn) bool {
	tcp := c.ride.tcp
	c.ride.tcp = nil // it moves once
	loop, err := x.loop()
	if err != nil {
		go x.rest(c)
		return true
	}
	conn, err := loop.Adopt(tcp)
	if err != nil || !x.enter(c) {
		return false
	}
	c.listener.mu.Lock()
	c.Conn = conn
	c.listener.mu.Unlock()
	return loop.Go(func(s *eventloop.Strand) {
		defer x.leave(c)
		x.carry(c, s, conn)
	})
}

// enter counts a connection among those that ride; false when there is no room.
func (x *express) enter(c *clientConn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closing.Load() || len(x.riders) >= maxConnections {
		return false
	}
	if x.riders == nil {
		x.riders, x.gone = map[*clientConn]struct{}{}, make(chan struct{}, 1)
	}
	x.riders[c] = struct{}{}
	return true
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
			c.ride.plain, c.ride.deadlines = 0, 0
			if c.ride.before = x.serve(c, conn); c.ride.before == nil {
				break
			}
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
		if c.ride.waits.Load() {
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
		if x.await(c, conn) != nil {
			break
		}
		rest, more := x.batch(c, conn)
		if rest != nil {
			return rest
		}
		if !more {
			break
		}
	}
	return nil
}

// await returns when a request has begun to come.
func (x *express) await(c *clientConn, conn *eventloop.Conn) error {
	c.ride.waits.Store(true)
	defer c.ride.waits.Store(false)
	if x.closing.Load() { // close may have looked at waits before
		return net.ErrClosed
	}
	if err := conn.SetReadDeadline(c.ride.strand.Now().Add(idleTimeout)); err != nil {
		return err
	}
	return conn.AwaitRead()
}

// batch answers what is there to be read: one request, as a rule. more tells that
// the connection can wait for another.
func (x *express) batch(c *clientConn, conn *eventloop.Conn) (rest []byte, more bool) {
	scratch := conn.Loop().Scratch()
	n, err := conn.Read(scratch)
	if err != nil {
		return nil, false
	}
	// The one for all requests that have begun to come by now.
	if conn.SetReadDeadline(c.ride.strand.Now().Add(readTimeout)) != nil {
		return nil, false
	}
	// From here on others use the loop's memory.
	buf := borrow(n)
	defer func() { buf.giveBack() }()
	copy(buf.bytes, scratch[:n])
	state := x.hot.state()
	defer x.hot.states.Put(state)
	for n > 0 {
		var p plainRequest
		switch p.read(buf.bytes[:n], expressBuffer, &state.headers) {
		case plain:
			if !x.admits(c, p.host) {
				return bytes.Clone(buf.bytes[:n]), true
			}
			if x.answer(c, conn, state, &p) != nil {
				return nil, false
			}
			n = copy(buf.bytes, buf.bytes[p.size:n])
		case partial:
			if buf, n, err = x.extend(conn, buf, n); err != nil {
				return bytes.Clone(buf.bytes[:n]), true // fasthttp knows what to say
			}
		case other:
			return bytes.Clone(buf.bytes[:n]), true
		}
	}
	return nil, true
}

// extend reads more of a request of which n bytes are there.
func (x *express) extend(conn *eventloop.Conn, buf *buffer, n int) (*buffer, int, error) {
	if len(buf.bytes) < expressBuffer {
		small := buf
		buf = borrow(expressBuffer)
		copy(buf.bytes, small.bytes[:n])
		small.giveBack()
	}
	more, err := conn.Read(buf.bytes[n:])
	return buf, n + more, err
}

// answer is the way of one invocation.
func (x *express) answer(c *clientConn, conn *eventloop.Conn, state *invocation, p *plainRequest) error {
	state.ans = dataplane.Answer{Lend: true}
	defer state.ans.Release()
	c.turn.Add(1)
	scope, route, err := x.hot.attempt(c.ctx, state, p.endpoint, p.body, c.ride.strand)
	c.turn.Add(1)
	if e := conn.SetWriteDeadline(c.ride.strand.Now().Add(writeTimeout)); e != nil {
		return e
	}
	if err != nil || state.ans.StatusCode/100 != 2 {
		c.ride.strand.Leave() // it is logged
		return x.refuse(conn, p, func(id string) error {
			return failure(func() string { return id }, &state.req, &state.ans, err, scope, text(p.endpoint), route)
		}, &route)
	}
	state.out = x.appendHead(state.out[:0], &state.ans, &route, c.ride.strand.Now())
	body := state.ans.Body
	if len(body) <= inlineAnswer {
		state.out = append(state.out, body...)
		body = nil
	}
	_, err = conn.WriteParts(state.out, body)
	return err
}

// refuse writes an error through fasthttp's response.
func (x *express) refuse(conn *eventloop.Conn, p *plainRequest, err func(id string) error, route *dataplane.Route) error {
	var ctx fasthttp.RequestCtx
	ctx.Init2(conn, discardLogger{}, false)
	ctx.Request.SetRequestURI("/endpoints/" + string(p.endpoint) + "/invocations")
	id := newRequestID()
	setRequestID(&ctx.Response.Header, id[:])
	setRoute(&ctx.Response.Header, route)
	x.hot.fail(&ctx, err(id.String()))
	w := bufio.NewWriter(conn)
	if err := ctx.Response.Write(w); err != nil {
		return err
	}
	return w.Flush()
}

// appendHead writes the head of a successful answer.
func (x *express) appendHead(b []byte, ans *dataplane.Answer, route *dataplane.Route, now time.Time) []byte {
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
	if x.closing.Load() {
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

// admits is the guard's word on a host. A connection's requests name one, as a
// rule.
func (x *express) admits(c *clientConn, host []byte) bool {
	if string(host) == c.ride.host {
		return true
	}
	if !x.guard.allows(string(host)) {
		return false
	}
	c.ride.host = string(host)
	return true
}
