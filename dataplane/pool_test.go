package dataplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// blocking is a worker that answers when told to, or fails as an invocation can.
type blocking struct {
	begun chan struct{}
	end   chan error
}

func (w *blocking) Invoke(ctx context.Context, req *Request, ans *Answer) error {
	w.begun <- struct{}{}
	var expired <-chan time.Time
	if req.Timeout > 0 {
		expired = time.After(req.Timeout)
	}
	select {
	case err := <-w.end:
		ans.StatusCode = 200
		return err
	case <-expired:
		return ErrTimeout
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *blocking) Stream(ctx context.Context, req *Request, to Sink) error {
	var ans Answer
	if err := w.Invoke(ctx, req, &ans); err != nil {
		return err
	}
	return ans.PassOn(to)
}

func (w *blocking) Done() <-chan struct{}                     { return nil }
func (w *blocking) Err() error                                { return nil }
func (w *blocking) Stop(context.Context, time.Duration) error { return nil }
func (w *blocking) Address() string                           { return "in-process" }
func (w *blocking) Kind() string                              { return "blocking" }

func newBlocking() *blocking {
	return &blocking{begun: make(chan struct{}, 1024), end: make(chan error, 1024)}
}

func testPool(tb testing.TB, routing Routing, instances int) *Pool {
	tb.Helper()
	pool, err := NewPool(routing, 1)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range instances {
		NewInstance(pool, fmt.Sprintf("i-%017d", i), "ml.m5.large", i, time.Now()).Serve(newBlocking(), time.Now())
	}
	return pool
}

func inFlight(p *Pool) (n int) {
	for _, in := range p.members {
		n += p.outstanding(in)
	}
	return n
}

func TestEveryWayOutOfAnInvocationGivesTheCountBack(t *testing.T) {
	for name, finish := range map[string]func(*blocking, context.CancelFunc){
		"answered":             func(w *blocking, _ context.CancelFunc) { w.end <- nil },
		"caller went away":     func(_ *blocking, cancel context.CancelFunc) { cancel() },
		"worker crashed":       func(w *blocking, _ context.CancelFunc) { w.end <- ErrBroken },
		"worker never answers": func(*blocking, context.CancelFunc) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool := testPool(t, Routing{}, 1)
				w := pool.members[0].worker.(*blocking)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				returned := make(chan error)
				go func() {
					_, err := pool.Invoke(ctx, &Request{Timeout: time.Minute}, new(Answer))
					returned <- err
				}()
				<-w.begun
				if n := inFlight(pool); n != 1 {
					t.Fatalf("%d in flight during the invocation, want 1", n)
				}
				finish(w, cancel)
				<-returned
				if n := inFlight(pool); n != 0 {
					t.Errorf("%d in flight after it, want 0", n)
				}
			})
		})
	}
}

// panicking shows that not even a bug in a worker leaks a count.
type panicking struct{ *blocking }

func (panicking) Invoke(context.Context, *Request, *Answer) error { panic("bug") }

func TestPanickingWorkerGivesTheCountBack(t *testing.T) {
	pool := testPool(t, Routing{}, 0)
	in := NewInstance(pool, "i-0", "ml.m5.large", 0, time.Now())
	in.Serve(panicking{newBlocking()}, time.Now())
	func() {
		defer func() { _ = recover() }()
		_, _ = pool.Invoke(t.Context(), new(Request), new(Answer))
	}()
	if n := pool.outstanding(in); n != 0 {
		t.Errorf("%d in flight, want 0", n)
	}
}

func TestPoolWithoutInstancesSaysSo(t *testing.T) {
	if _, err := testPool(t, Routing{}, 0).Invoke(t.Context(), new(Request), new(Answer)); !errors.Is(err, ErrNoInstance) {
		t.Errorf("got %v, want ErrNoInstance", err)
	}
}

func TestDrainWaitsForOutstandingRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := testPool(t, Routing{Strategy: StrategyLeastOutstanding}, 2)
		in := pool.members[0]
		var answered sync.WaitGroup
		for range 2 {
			answered.Go(func() { _, _ = pool.Invoke(t.Context(), new(Request), new(Answer)) })
		}
		synctest.Wait()
		drained := make(chan struct{})
		go func() { in.Drain(t.Context()); close(drained) }()
		synctest.Wait()
		if pool.Len() != 1 || in.State() != Draining || in.Status().InFlight != 1 {
			t.Fatalf("draining: pool of %d, state %v, %d in flight", pool.Len(), in.State(), in.Status().InFlight)
		}
		select {
		case <-drained:
			t.Fatal("drained with a request outstanding")
		default:
		}
		for _, w := range []*blocking{in.worker.(*blocking), pool.members[0].worker.(*blocking)} {
			w.end <- nil
		}
		answered.Wait()
		<-drained
		if n := in.Status().InFlight; n != 0 {
			t.Errorf("%d in flight after the drain, want 0", n)
		}
	})
}

func TestCountsStayTrueWhileInstancesComeAndGo(t *testing.T) {
	pool := testPool(t, Routing{Strategy: StrategyPrefixAware, PrefixLength: 8, ConcurrencyThreshold: 2}, 4)
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			for i := range 2000 {
				in, err := pool.acquire(uint64(c*2000+i), 0)
				if err == nil {
					pool.release(in)
				}
			}
		})
	}
	for i := range 200 {
		in := NewInstance(pool, fmt.Sprint("extra-", i), "ml.m5.large", 4+i, time.Now())
		in.Serve(newBlocking(), time.Now())
		in.Drain(t.Context())
		in.Retire()
	}
	callers.Wait()
	if n := inFlight(pool); n != 0 || pool.Len() != 4 {
		t.Errorf("%d in flight on %d instances, want 0 on 4", n, pool.Len())
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, strategy := range []string{StrategyRandom, StrategyLeastOutstanding, StrategyPrefixAware} {
		pool := testPool(t, Routing{Strategy: strategy, PrefixLength: 1024, ConcurrencyThreshold: 8}, 1000)
		key := uint64(1)
		pick := func() {
			in, _ := pool.acquire(key, 0)
			pool.release(in)
			key++
		}
		for range 10_000 {
			pick() // the buckets grow to their size
		}
		if n := testing.AllocsPerRun(1000, pick); n != 0 {
			t.Errorf("%s: %v allocations a pick, want 0", strategy, n)
		}
	}
}
