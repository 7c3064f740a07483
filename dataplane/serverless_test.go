package dataplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// serverlessPool has environments in the slots of the given order.
func serverlessPool(limit int, slots ...int) *Pool {
	pool := NewServerlessPool(func() {})
	pool.Serverless().SetLimit(limit)
	for _, slot := range slots {
		environment(pool, slot, newBlocking())
	}
	return pool
}

func environment(pool *Pool, slot int, w Worker) *Instance {
	in := NewInstance(pool, fmt.Sprintf("i-%017d", slot), "", slot, time.Now())
	in.Serve(w, time.Now())
	return in
}

// begin invokes in the background.
func begin(ctx context.Context, pool *Pool) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := pool.Invoke(ctx, &Request{Timeout: time.Minute}, new(Answer))
		done <- err
	}()
	synctest.Wait()
	return done
}

func wantIdle(t *testing.T, pool *Pool) {
	t.Helper()
	if s := pool.Serverless().Status(); s.Concurrency != 0 || s.Waiting != 0 || inFlight(pool) != 0 {
		t.Errorf("%+v and %d requests on environments are left", s, inFlight(pool))
	}
}

func TestMaxConcurrencyCountsRequestsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := serverlessPool(3, 0)
		worker := pool.members[0].worker.(*blocking)
		first := begin(t.Context(), pool)
		var waiting []<-chan error
		for range 2 {
			waiting = append(waiting, begin(t.Context(), pool))
		}
		for range 2 {
			if err := <-begin(t.Context(), pool); !errors.Is(err, ErrThrottled) {
				t.Fatalf("got %v, want a throttle", err)
			}
		}
		if s := pool.Serverless().Status(); s.Concurrency != 3 || s.Waiting != 2 || s.Throttles != 2 {
			t.Errorf("%+v", s)
		}
		worker.end <- nil
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		fourth := begin(t.Context(), pool) // there is room again
		for range 3 {
			worker.end <- nil
		}
		for _, done := range append(waiting, fourth) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		wantIdle(t, pool)
	})
}

func TestEveryWayOutOfAServerlessVariantGivesItsConcurrencyBack(t *testing.T) {
	for name, tc := range map[string]struct {
		finish func(pool *Pool, cancel context.CancelFunc)
		want   error
	}{
		"an environment comes": {func(pool *Pool, _ context.CancelFunc) {
			w := newBlocking()
			w.end <- nil
			environment(pool, 0, w)
		}, nil},
		"the environment that comes fails": {func(pool *Pool, _ context.CancelFunc) {
			w := newBlocking()
			w.end <- ErrBroken
			environment(pool, 0, w)
		}, ErrBroken},
		"the environment does not start": {func(pool *Pool, _ context.CancelFunc) { pool.Serverless().Fail(ErrPing) }, ErrColdStart},
		"the machine has no room for it": {func(pool *Pool, _ context.CancelFunc) { pool.Serverless().Fail(ErrCapacity) }, ErrProvisioning},
		"none comes within a minute":     {func(*Pool, context.CancelFunc) {}, ErrProvisioning},
		"the caller goes away":           {func(_ *Pool, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"the fleet ends":                 {func(pool *Pool, _ context.CancelFunc) { pool.Serverless().Close() }, ErrNoInstance},
		"the caller goes away while served": {func(pool *Pool, cancel context.CancelFunc) {
			environment(pool, 0, newBlocking())
			synctest.Wait()
			cancel()
		}, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool := serverlessPool(1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := begin(ctx, pool)
				tc.finish(pool, cancel)
				if err := <-done; !errors.Is(err, tc.want) {
					t.Errorf("got %v, want %v", err, tc.want)
				}
				wantIdle(t, pool)
			})
		})
	}
}

func TestAFailedStartFailsTheOldestRequestOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := serverlessPool(5)
		first, second := begin(t.Context(), pool), begin(t.Context(), pool)
		pool.Serverless().Fail(ErrPing)
		if err := <-first; !errors.Is(err, ErrColdStart) || !errors.Is(err, ErrPing) {
			t.Errorf("got %v", err)
		}
		w := newBlocking()
		w.end <- nil
		environment(pool, 0, w)
		if err := <-second; err != nil {
			t.Error(err)
		}
		if s := pool.Serverless().Status(); s.FailedStarts != 1 || s.LastFailure == "" || s.Starts != 1 {
			t.Errorf("%+v", s)
		}
		wantIdle(t, pool)
	})
}

func TestRequestsGoToTheLowestIdleEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := serverlessPool(5, 2, 0, 1)
		for want := range 3 {
			begin(t.Context(), pool)
			for _, in := range pool.members {
				if busy := pool.outstanding(in) == 1; busy != (in.Slot <= want) {
					t.Errorf("after %d requests the environment in slot %d is busy: %v", want+1, in.Slot, busy)
				}
			}
		}
		for _, in := range pool.members {
			in.worker.(*blocking).end <- nil
		}
	})
}

func TestServerlessVariantHasNoSessions(t *testing.T) {
	pool := serverlessPool(1, 0)
	if _, err := pool.Invoke(t.Context(), &Request{SessionID: NewSession}, new(Answer)); !errors.Is(err, ErrSessionOfServerless) {
		t.Errorf("got %v", err)
	}
	wantIdle(t, pool)
}

func TestServerlessPayloadIsFourMegabytes(t *testing.T) {
	pool := NewServerlessPool(func() {})
	pool.Serverless().SetLimit(1)
	environment(pool, 0, sized{})
	for _, tc := range []struct {
		name          string
		request       int
		answer        string
		want          error
		wantDelivered int // of a stream
	}{
		{"both at the limit", ServerlessPayload, fmt.Sprint(ServerlessPayload), nil, ServerlessPayload},
		{"request too large", ServerlessPayload + 1, "1", ErrPayload, 0},
		{"answer too large", 0, fmt.Sprint(ServerlessPayload + 1), ErrServerlessAnswer, ServerlessPayload / 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := &Request{Body: make([]byte, tc.request), Accept: tc.answer}
			if _, err := pool.Invoke(t.Context(), req, new(Answer)); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			to, route := new(collected), new(Route)
			ans := Answer{stream: &stream{Sink: to, route: route}}
			ans.stream.ans = &ans
			if _, err := pool.Invoke(t.Context(), req, &ans); !errors.Is(err, tc.want) || to.Len() != tc.wantDelivered {
				t.Errorf("a stream of %d bytes ended with %v, want %d and %v", to.Len(), err, tc.wantDelivered, tc.want)
			}
			wantIdle(t, pool)
		})
	}
	// An environment whose answer was too large counts an error for each.
	if s := pool.members[0].Status(); s.Errors != 2 || s.Invocations != 4 {
		t.Errorf("%+v", s)
	}
}

// sized answers with as many bytes as Accept says, a stream in two pieces.
type sized struct{ *blocking }

func (sized) Invoke(_ context.Context, req *Request, ans *Answer) error {
	var n int
	_, err := fmt.Sscan(req.Accept, &n)
	ans.StatusCode, ans.Body = 200, make([]byte, n)
	return err
}

func (w sized) Stream(ctx context.Context, req *Request, to Sink) error {
	var ans Answer
	if err := w.Invoke(ctx, req, &ans); err != nil {
		return err
	}
	if err := to.Begin(&ans); err != nil {
		return err
	}
	for _, piece := range [][]byte{ans.Body[:len(ans.Body)/2], ans.Body[len(ans.Body)/2:]} {
		if _, err := to.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

type collected struct{ bytes.Buffer }

func (*collected) Begin(*Answer) error { return nil }
func (*collected) Flush() error        { return nil }

// exclusive fails the test when it has two requests at once.
type exclusive struct {
	*blocking
	t    *testing.T
	busy atomic.Bool
}

func (w *exclusive) Invoke(ctx context.Context, _ *Request, ans *Answer) error {
	if w.busy.Swap(true) {
		w.t.Error("an environment has two requests at once")
	}
	defer w.busy.Store(false)
	for range rand.IntN(20) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	ans.StatusCode = 200
	return nil
}

// TestServerlessCountsStayTrueUnderLoad lets callers come and go while
// environments do.
func TestServerlessCountsStayTrueUnderLoad(t *testing.T) {
	const limit, callers, each = 8, 24, 400
	pool := NewServerlessPool(func() {})
	pool.Serverless().SetLimit(limit)
	var served, throttled, gone, failed atomic.Int64
	over := make(chan struct{})
	var fleet, requests sync.WaitGroup
	for slot := range limit / 2 {
		fleet.Go(func() {
			for {
				in := environment(pool, slot, &exclusive{blocking: newBlocking(), t: t})
				for range rand.IntN(50) {
					pool.Serverless().IdleSince(in)
				}
				if slot == 1 {
					pool.Serverless().Fail(ErrPing)
				}
				select {
				case <-over:
					return
				default:
				}
				in.Drain(t.Context())
				in.Retire()
			}
		})
	}
	for range callers {
		requests.Go(func() {
			for i := range each {
				ctx, cancel := context.WithCancel(t.Context())
				if i%3 == 0 {
					go cancel()
				}
				_, err := pool.Invoke(ctx, new(Request), new(Answer))
				cancel()
				switch {
				case err == nil:
					served.Add(1)
				case errors.Is(err, ErrThrottled):
					throttled.Add(1)
				case errors.Is(err, context.Canceled):
					gone.Add(1)
				case errors.Is(err, ErrColdStart):
					failed.Add(1)
				default:
					t.Error(err)
				}
				if n := pool.Serverless().Status().Concurrency; n < 0 || n > limit {
					t.Errorf("%d requests at once, limit is %d", n, limit)
				}
			}
		})
	}
	requests.Wait()
	close(over)
	fleet.Wait()
	wantIdle(t, pool)
	s := pool.Serverless().Status()
	if sum := served.Load() + throttled.Load() + gone.Load() + failed.Load(); sum != callers*each || s.Throttles != throttled.Load() || served.Load() == 0 {
		t.Errorf("%d served, %d throttled, %d gone, %d failed of %d; %+v", served.Load(), throttled.Load(), gone.Load(), failed.Load(), callers*each, s)
	}
}
