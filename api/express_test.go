package api

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConnectionRidesAnEventLoopAfterTwoPlainInvocations(t *testing.T) {
	l := serveLane(t)
	r := l.dial(t)
	for range settled {
		if l.find(r) != nil {
			t.Fatal("it rides already")
		}
		if got := r.invoke(t, "bench", "x"); got.express {
			t.Error("answered by the express lane")
		}
	}
	l.rides(t, r)
	for range 3 {
		if got := r.invoke(t, "bench", "x"); !got.express {
			t.Error("answered by fasthttp")
		}
	}
}

func TestConnectionWhoseRequestsTheExpressLaneDoesNotReadStaysWithFasthttp(t *testing.T) {
	l := serveLaneOf(t, Options{Plane: benchPlane(t)})
	for _, name := range []string{"chunks", "100-continue", "4 MB", "control plane", "unknown path"} {
		r := l.dial(t)
		for range settled + 2 {
			r.send(t, otherRequests[name])
			if _, err := r.answer(); err != nil {
				t.Fatal(err)
			}
		}
		if l.find(r) != nil {
			t.Errorf("%s: the connection rides an event loop", name)
		}
	}
}

func TestConnectionThatRidesInVainStaysTwiceAsLongWithFasthttp(t *testing.T) {
	l := serveLane(t)
	r := l.ride(t)
	need := settled
	odd := func() {
		r.send(t, otherRequests["cookie"])
		if got, err := r.answer(); got.express || err != nil {
			t.Fatalf("%v, error %v", got, err)
		}
	}
	for range 3 {
		need *= 2
		for range need {
			odd()
		}
		l.rides(t, r)
	}
	for _, need := range []int{2 * need, settled} { // an answer ends the count
		odd()
		for i := range need - 1 {
			if r.invoke(t, "bench", "x").express {
				t.Fatalf("it rides after %d invocations instead of %d", i+1, need)
			}
		}
		if !r.invoke(t, "bench", "x").express {
			t.Errorf("it does not ride after %d invocations", need)
		}
	}
}

func TestConnectionComesBackToTheExpressLaneAfterOtherRequests(t *testing.T) {
	l := serveLaneOf(t, Options{Plane: benchPlane(t)})
	others := maps.Clone(otherRequests)
	others["chat"] = strings.Replace(plainText("bench", "x", "Authorization", bearerToken()), "invocations", chatPath, 1)
	r := l.ride(t)
	for _, name := range slices.Sorted(maps.Keys(others)) {
		r.invoke(t, "bench", "x")
		r.send(t, others[name])
		got, err := r.answer()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "chat" && got.body != "x" || name == "stream" && !strings.Contains(got.body, "PayloadPart") {
			t.Errorf("%s: %v", name, got)
		}
		byFasthttp := 0
		for !r.invoke(t, "bench", "y").express {
			byFasthttp++
		}
		if byFasthttp > settled { // the other may have been an invocation
			t.Errorf("%s: fasthttp answered the next %d", name, byFasthttp)
		}
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	l := serveLane(t)
	var all strings.Builder
	var want []string
	for i := range 100 {
		body := strings.Repeat(fmt.Sprint(i%10), 37*i%3000)
		want = append(want, body)
		if i%23 == 22 {
			all.WriteString(plainText("bench", body, "Cookie", "a=b"))
		} else {
			all.WriteString(plainText("bench", body))
		}
	}
	r := l.ride(t)
	r.send(t, all.String())
	for i, body := range want {
		if got, err := r.answer(); got.body != body || err != nil {
			t.Fatalf("answer %d of %d bytes, want %d; error %v", i, len(got.body), len(body), err)
		}
	}
}

func TestRequestsOfEverySizeComeWhole(t *testing.T) {
	l := serveLane(t)
	for _, about := range []int{1 << 10, 4 << 10, 16 << 10, 32 << 10, expressHead, 256 << 10, 1 << 20, 1<<20 + expressHead, expressBuffer} {
		for size := about - 1; size <= about+1; size++ {
			body := strings.Repeat("abcdefg", size)[:size-500]
			text := plainText("bench", body, "X-Pad", strings.Repeat("p", size-len(plainText("bench", body, "X-Pad", ""))))
			r := l.ride(t)
			for i, pieces := range [][]string{{text}, {text[:size/2], text[size/2:]}, {text[:size-1], text[size-1:]}} {
				for _, p := range pieces {
					r.send(t, p)
				}
				got, err := r.answer()
				if got.body != body || err != nil {
					t.Errorf("%d bytes in %d pieces: answer of %d bytes, want %d; error %v", size, len(pieces), len(got.body), len(body), err)
				}
				if i == 0 && got.express != (size <= expressBuffer) {
					t.Errorf("%d bytes: answered by the express lane: %t", size, got.express)
				}
			}
		}
	}
}

// laneDeadline is when a connection's reading, or writing, is over.
func laneDeadline(d *sweptDeadline) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

// sweepReads and sweepWrites are what the sweep does to a connection when so much
// time has passed.
func sweepReads(c *clientConn, d time.Duration) {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.reads.sweep(time.Now().Add(d), c.Conn.SetReadDeadline)
}

func sweepWrites(c *clientConn, d time.Duration) {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.writes.sweep(time.Now().Add(d), c.Conn.SetWriteDeadline)
}

func ended(t *testing.T, r *rider) {
	t.Helper()
	if rest, err := io.ReadAll(r.in); len(rest) > 0 || err != nil {
		t.Errorf("instead of the connection's end: %q, error %v", rest, err)
	}
}

func TestConnectionEndsWhenItIsIdleForTooLongOnTheExpressLane(t *testing.T) {
	l := serveLane(t)
	r := l.ride(t)
	self := l.rides(t, r)
	first := laneDeadline(&self.reads)
	sweepReads(self, idleTimeout-time.Minute)
	sweepWrites(self, idleTimeout-time.Minute) // that of the last answer has passed
	r.invoke(t, "bench", "x")
	l.rides(t, r)
	if second := laneDeadline(&self.reads); !second.After(first) {
		t.Errorf("idle until %v, and after another request until %v", first, second)
	}
	sweepReads(self, idleTimeout+time.Second)
	ended(t, r)
	until(t, "the connection is forgotten", func() bool { return l.find(r) == nil })
}

func TestRequestThatDoesNotComeInTimeIsRefusedOnAnEventLoopAsByFasthttp(t *testing.T) {
	l := serveLane(t)
	for _, part := range []string{plainText("bench", "body")[:70], "POST /endpoints"} {
		riding, fresh := l.ride(t), l.dial(t)
		fresh.invoke(t, "bench", "x")
		self := l.rides(t, riding)
		var want string
		for _, c := range []*clientConn{besides(self), self} {
			r := fresh
			if c == self {
				r = riding
			}
			waits := func() time.Duration { return time.Until(laneDeadline(&c.reads)) }
			until(t, "the connection is idle", func() bool { return waits() > readTimeout })
			r.send(t, part)
			until(t, "the request has begun to come", func() bool { return waits() <= readTimeout })
			sweepReads(c, readTimeout+time.Second) // once: the rest has no time of its own
			got, err := r.answer()
			if err != nil || !strings.HasPrefix(got.status, "HTTP/1.1 408") {
				t.Errorf("%q: %v, error %v", part, got, err)
			}
			if want = cmp.Or(want, got.String()); got.String() != want {
				t.Errorf("over an event loop %v\n\nover fasthttp %v", got, want)
			}
			ended(t, r)
		}
		until(t, "both are forgotten", func() bool { return besides(self) == nil && l.find(riding) == nil })
	}
}

// The deadline of the last answer must not keep back the next, whoever writes it.
func TestErrorOfAConnectionThatWasIdleForLongIsWritten(t *testing.T) {
	l := serveLane(t)
	riding, fresh := l.ride(t), l.dial(t)
	fresh.invoke(t, "bench", "x")
	self := l.rides(t, riding)
	for c, r := range map[*clientConn]*rider{besides(self): fresh, self: riding} {
		until(t, "the connection is idle", func() bool { return time.Until(laneDeadline(&c.reads)) > readTimeout })
		sweepWrites(c, writeTimeout+time.Second)
		r.send(t, closingRequests["no colon"])
		if got, err := r.answer(); !strings.HasPrefix(got.status, "HTTP/1.1 400") || err != nil {
			t.Errorf("%v, error %v", got, err)
		}
	}
}

// besides is the daemon's other connection; nil for none.
func besides(c *clientConn) *clientConn {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	for other := range c.listener.conns {
		if other != c {
			return other
		}
	}
	return nil
}

func TestPipelinedRequestHasATimeOfItsOwnToCome(t *testing.T) {
	l, g := serveLane(t), newGate()
	l.publish(t, "gate", webWorker(t, g.ServeHTTP))
	r := l.ride(t)
	first, second := plainText("gate", "first"), plainText("bench", "second")
	r.send(t, first[:40])
	until(t, "a part of the first has come", func() bool { return !l.find(r).ride.waits.Load() })
	r.send(t, first[40:]+second[:40])
	within(t, g.entered)
	sweepReads(l.find(r), readTimeout+time.Second)
	close(g.opened)
	if got, err := r.answer(); got.body != "first" || err != nil {
		t.Fatalf("%v, error %v", got, err)
	}
	r.send(t, second[40:])
	if got, err := r.answer(); got.body != "second" || err != nil {
		t.Fatalf("%v, error %v", got, err)
	}
}

func TestCallerThatDoesNotReadKeepsNobodyElseWaiting(t *testing.T) {
	l := serveLane(t)
	large := strings.Repeat("0123456789abcdef", 24<<20/16) // more than sockets hold
	in := l.publish(t, "large", webWorker(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, large) }))
	a, b := l.pair(t)
	for _, late := range []bool{false, true} {
		self := l.rides(t, a)
		before := laneDeadline(&self.writes)
		a.send(t, plainText("large", "x"))
		until(t, "the answer is being written", func() bool { return laneDeadline(&self.writes).After(before) })
		if n := in.Status().InFlight; n != 0 {
			t.Errorf("%d invocations under way while the caller reads", n)
		}
		for range 3 {
			b.invoke(t, "bench", "x")
		}
		if late {
			sweepWrites(self, writeTimeout+time.Second)
			if got, err := a.answer(); err == nil {
				t.Errorf("%d bytes came after the deadline", len(got.body))
			}
			until(t, "the connection is forgotten", func() bool { return l.find(a) == nil })
		} else if got, err := a.answer(); got.body != large || err != nil {
			t.Errorf("%d bytes, error %v", len(got.body), err)
		}
	}
}

func TestCallerThatLeavesAnEventLoopCancelsItsInvocation(t *testing.T) {
	for name, start := range blockedInvocations {
		t.Run(name, func(t *testing.T) {
			l := serveLane(t)
			a, b := l.pair(t)
			blocked := start(t, l)
			a.send(t, blocked.request)
			if blocked.entered != nil {
				within(t, blocked.entered)
			}
			for range 3 {
				if got := b.invoke(t, "bench", "x"); !got.express {
					t.Error("answered by fasthttp")
				}
			}
			self := l.find(a)
			a.Close()
			until(t, "the invocation is canceled", func() bool {
				self.listener.mu.Lock()
				self.look() // as the sweep does
				self.listener.mu.Unlock()
				return l.find(a) == nil
			})
			if blocked.in != nil && blocked.in.Status().InFlight != 0 {
				t.Errorf("%+v", blocked.in.Status())
			}
		})
	}
}

func TestCallerThatLeavesInTheMiddleOfARequestIsForgotten(t *testing.T) {
	l := serveLane(t)
	for _, text := range []string{plainText("bench", "x")[:50], otherRequests["chunks"][:130], "P"} {
		r := l.ride(t)
		r.send(t, text)
		r.Close()
		until(t, "the connection is forgotten", func() bool { return l.find(r) == nil })
	}
}

// A worker that ends its connections without saying so costs nobody an answer.
func TestClosedWorkerConnectionsAreReplacedOnAnEventLoop(t *testing.T) {
	l := serveLane(t)
	in := l.publish(t, "raw", rawWorker(t, ok("fine", "")))
	r := l.ride(t)
	for range 50 {
		if got := r.invoke(t, "raw", "x"); got.body != "fine" || !got.express {
			t.Fatal(got)
		}
	}
	if s := in.Status(); s.Invocations != 50 || s.Errors != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

// net/http's client is stricter about framing than the tests' own.
func TestNetHTTPClientIsServedOnTheExpressLane(t *testing.T) {
	l := serveLane(t)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for i := range 200 {
		body := strings.Repeat("x", i*i)
		resp, err := client.Post("http://"+l.address+"/endpoints/bench/invocations", "text/csv", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); string(got) != body || err != nil {
			t.Fatalf("%d bytes, want %d, error %v", len(got), len(body), err)
		}
	}
}
