package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sagelocal/sagelocal/dataplane"
)

// leavesNothing runs a test between two looks at the process's goroutines and
// descriptors.
func leavesNothing(t *testing.T, run func(*testing.T)) {
	if goruntime.GOOS != "linux" {
		t.Skip("connections stay with fasthttp here; see package eventloop")
	}
	ignore := goleak.IgnoreCurrent()
	before := descriptors(t)
	t.Run("all", run) // with its cleanup
	goleak.VerifyNone(t, ignore,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),    // of the process
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2")) // sees after 10 s that it is over
	until(t, "all descriptors are closed", func() bool { return descriptors(t) <= before })
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestShutdownAnswersWhatIsUnderWayOnEventLoops(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		l, g, w := serveLane(t), newGate(), newSlowWorker()
		instances := []*dataplane.Instance{l.publish(t, "gate", webWorker(t, g.ServeHTTP)), l.publish(t, "slow", w)}
		busy := map[string]*rider{
			plainText("gate", "x"):                      l.ride(t), // on the express lane
			plainText("slow", "x"):                      l.ride(t), // away from its loop
			plainText("gate", "x", "Cookie", "a=b"):     l.ride(t), // with fasthttp on a loop
			plainText("gate", "x", "Accept", "*"):       l.dial(t), // with fasthttp
			plainText("slow", "x", "Cookie", "a=b"):     l.ride(t),
			plainText("gate", strings.Repeat("x", 1e5)): l.ride(t),
		}
		for text, r := range busy {
			r.send(t, text)
		}
		for range len(busy) - 2 {
			within(t, g.entered)
		}
		within(t, w.entered)
		within(t, w.entered)
		// Half a request is one under way.
		texts := [...]string{plainText("bench", "half"), plainText("bench", "half", "Cookie", "a=b")}
		halves := [...]*rider{l.ride(t), l.ride(t)}
		for i, r := range halves {
			r.send(t, texts[i][:80])
			until(t, "half a request has come", func() bool { return !l.find(r).ride.waits.Load() })
		}
		idle := []*rider{l.ride(t), l.ride(t), l.dial(t), l.ride(t)}
		idle[2].invoke(t, "bench", "x")
		idle[3].invokeOther(t)

		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		down := make(chan error, 1)
		go func() { down <- l.server.Shutdown(ctx) }()
		for _, r := range idle {
			ended(t, r)
		}
		close(g.opened)
		close(w.answer)
		for _, r := range busy {
			lastAnswer(t, r)
		}
		_ = l.server.http.Shutdown() // waits until fasthttp has ended
		for i, r := range halves {
			r.send(t, texts[i][80:])
			lastAnswer(t, r)
		}
		if err := within(t, down); err != nil || ctx.Err() != nil {
			t.Errorf("error %v, %v", err, ctx.Err())
		}
		for _, in := range instances {
			if s := in.Status(); s.InFlight != 0 || s.Errors != 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// invokeOther leaves the connection with fasthttp.
func (r *rider) invokeOther(t *testing.T) {
	t.Helper()
	r.send(t, otherRequests["unknown path"])
	if _, err := r.answer(); err != nil {
		t.Fatal(err)
	}
}

// lastAnswer succeeds, says that it is the last, and is.
func lastAnswer(t *testing.T, r *rider) {
	t.Helper()
	got, err := r.answer()
	if got.status != "HTTP/1.1 200 OK" || got.header.Get("Connection") != "close" || err != nil {
		t.Errorf("%v, error %v", got, err)
	}
	ended(t, r)
}

// Of requests that came together, those behind the last answer are not begun.
func TestShutdownBeginsNoRequestBehindTheLastAnswer(t *testing.T) {
	l, g, w := serveLane(t), newGate(), newSlowWorker()
	behind := l.publish(t, "behind", newSlowWorker())
	l.publish(t, "gate", webWorker(t, g.ServeHTTP))
	l.publish(t, "slow", w)
	answered, refused, idle := l.ride(t), l.ride(t), l.ride(t)
	answered.send(t, plainText("gate", "x")+plainText("behind", "x"))
	refused.send(t, plainText("slow", "x", "X-Amzn-SageMaker-Target-Variant", "AllTraffic")+plainText("behind", "x"))
	within(t, g.entered)
	within(t, w.entered)
	down := make(chan error, 1)
	go func() { down <- l.server.Shutdown(t.Context()) }()
	ended(t, idle)
	close(g.opened)
	lastAnswer(t, answered)
	w.fail <- dataplane.ErrBroken
	if got, err := refused.answer(); !strings.HasPrefix(got.status, "HTTP/1.1 424") || got.header.Get("Connection") != "close" || err != nil {
		t.Errorf("%v, error %v", got, err)
	}
	ended(t, refused)
	if err := within(t, down); err != nil {
		t.Error(err)
	}
	if n := behind.Status().Invocations; n != 0 {
		t.Errorf("%d invocations behind the last answer", n)
	}
}

func TestShutdownBreaksWhatIsUnderWayOnEventLoopsWhenItsContextEnds(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		l, g, w := serveLane(t), newGate(), newSlowWorker()
		large := l.publish(t, "large", webWorker(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", 24<<20))
		}))
		instances := []*dataplane.Instance{l.publish(t, "gate", webWorker(t, g.ServeHTTP)), l.publish(t, "slow", w), large}
		callers := map[string]*rider{}
		for _, text := range []string{
			plainText("gate", "x"), plainText("slow", "x"), plainText("gate", "x", "Cookie", "a=b"), plainText("gate", strings.Repeat("x", 1e5)),
			strings.Replace(plainText("gate", "x"), "invocations", "invocations-response-stream", 1),
			plainText("large", "x"), plainText("large", "x", "Cookie", "a=b"), plainText("bench", "x")[:80], otherRequests["chunks"][:120],
		} {
			callers[text] = l.ride(t)
			callers[text].send(t, text)
		}
		for range 4 {
			within(t, g.entered)
		}
		within(t, w.entered)
		until(t, "the large answers have come", func() bool { s := large.Status(); return s.Invocations == 2 && s.InFlight == 0 })
		idle := l.ride(t)

		ctx, cancel := context.WithCancel(t.Context())
		down := make(chan error, 1)
		go func() { down <- l.server.Shutdown(ctx) }()
		ended(t, idle)
		cancel()
		if err := within(t, down); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for text, r := range callers {
			// Some are told, some are not: what counts is that none waits any longer.
			if got, err := r.answer(); err == nil && strings.HasPrefix(got.status, "HTTP/1.1 200") && got.header.Get("Connection") != "close" {
				t.Errorf("%.60q: %.300v", text, got)
			}
			_, _ = io.Copy(io.Discard, r.in)
		}
		until(t, "nothing is under way", func() bool {
			for _, in := range instances {
				if in.Status().InFlight != 0 {
					return false
				}
			}
			return true
		})
	})
}

// A connection that boards a loop while the server ends is closed, wherever it is.
func TestConnectionThatBoardsWhileTheServerEndsLeavesNothing(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		for range 20 {
			l := serveLane(t)
			for range 8 {
				r := l.dial(t)
				for range settled {
					r.invoke(t, "bench", "x")
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = l.server.Shutdown(ctx) // its context has ended
		}
	})
}

// So does one that finds no descriptor.
func TestConnectionThatCannotBoardStaysWithFasthttp(t *testing.T) {
	l := serveLane(t)
	l.ride(t)
	for _, loop := range l.server.express.loops {
		loop.Close()
	}
	r := l.dial(t)
	for i := range 3 * settled {
		if got := r.invoke(t, "bench", strings.Repeat("x", i*20_000)); got.express || len(got.body) != i*20_000 {
			t.Error(got)
		}
	}
	if l.find(r) != nil {
		t.Error("it counts as a rider")
	}
}

// A server that does not wait may have ended a loop before a connection boards it.
func TestConnectionWhoseEventLoopHasEndedIsClosed(t *testing.T) {
	leavesNothing(t, func(t *testing.T) {
		x := New(Options{}).express
		ln := newClientListener(loopback(t), t.Context())
		ln.express = x
		defer ln.Close()
		caller, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer caller.Close()
		accepted, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if !accepted.(*clientConn).change() {
			t.Fatal("the connection cannot board")
		}
		x.close()
		x.end()
		if err := accepted.Close(); err != nil {
			t.Error(err)
		}
		ended(t, &rider{caller, bufio.NewReader(caller)})
		if len(x.riders) > 0 {
			t.Error("it counts as a rider")
		}
	})
}
