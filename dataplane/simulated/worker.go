package simulated

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"text/template"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// worker is one simulated instance.
type worker struct {
	cfg      Config
	template *template.Template // nil without one
	spec     dataplane.Spec
	speed    float64 // of one request alone, relative to where it was measured
	instant  bool    // no request takes any time
	epoch    time.Time

	requests atomic.Uint64
	models   modelTable
	sessions sessions

	done     chan struct{}
	stopOnce sync.Once

	mu        sync.Mutex
	station   station
	timer     *time.Timer // fires when the station's next job ends; nil until needed
	latencies *rand.Rand
	failures  *rand.Rand
	free      []*job // for reuse; per worker, because their timers are
}

// verdict is what the simulation makes of a request.
type verdict uint8

const (
	answered verdict = iota
	failed
	refused
)

// Invoke answers one request; see dataplane.Worker. When requests take no time
// and none fails it neither allocates nor takes the worker's lock.
func (w *worker) Invoke(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	n, err := w.begin(ctx)
	if err != nil {
		return err
	}
	return w.respond(ctx, n, w.speech(n, req), req, ans)
}

// begin gives a request its number.
func (w *worker) begin(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, w.errorf(err)
	}
	if w.ended() {
		return 0, w.errorf(dataplane.ErrBroken)
	}
	n := w.requests.Add(1)
	if n == 1 {
		// Not before: a log is a file, and most of a thousand workers need none.
		w.logf("runs on %s", w.description())
	}
	return n, nil
}

// respond answers as a whole, by the speech if there is one.
func (w *worker) respond(ctx context.Context, n uint64, said *speech, req *dataplane.Request, ans *dataplane.Answer) error {
	if !w.instant || w.cfg.FailureRate > 0 {
		v, err := w.serve(ctx, req.Timeout, said)
		if err != nil {
			return w.errorf(err)
		}
		if v != answered {
			v.explain(ans)
			return nil
		}
	}
	if req.SessionID != "" && w.cfg.Sessions > 0 && !w.sessions.attend(req, ans, w.cfg.Sessions) {
		return nil
	}
	switch {
	case said == nil:
		return w.answer(ctx, n, req, ans)
	case said.breakAt >= 0:
		return w.errorf(dataplane.ErrBroken)
	}
	said.whole(ans)
	return nil
}

// explain is the answer to a request that was not served.
func (v verdict) explain(ans *dataplane.Answer) {
	if v == refused {
		explain(ans, http.StatusServiceUnavailable, "the request queue is full")
		return
	}
	explain(ans, http.StatusInternalServerError, "simulated failure")
}

// serve holds the caller for as long as its request queues and runs.
func (w *worker) serve(ctx context.Context, timeout time.Duration, said *speech) (verdict, error) {
	j, v, err := w.arrive(timeout, said)
	if j == nil {
		return v, err
	}
	var expired <-chan time.Time
	if timeout > 0 {
		expired = j.timer.C
	}
	select {
	case <-j.done:
		return w.depart(j, nil)
	case <-ctx.Done():
		return w.depart(j, ctx.Err())
	case <-expired:
		return w.depart(j, dataplane.ErrTimeout)
	}
}

// arrive draws what will become of the request and lets it into the station. The
// job is nil when the verdict is known at once. Every arrival draws, also the
// refused, so that the nth request of a seed is the same whatever the load.
func (w *worker) arrive(timeout time.Duration, said *speech) (*job, verdict, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended() {
		return nil, answered, dataplane.ErrBroken
	}
	work := w.cfg.Latency.draw(w.latencies) / w.speed
	fails := w.cfg.FailureRate > 0 && w.failures.Float64() < w.cfg.FailureRate
	if w.instant {
		if fails {
			return nil, failed, nil
		}
		return nil, answered, nil
	}
	j := w.newJob(timeout)
	j.work, j.fails = work, fails
	if said != nil && !fails {
		w.tokensOf(j, said)
	}
	if !w.station.arrive(time.Since(w.epoch), j) {
		w.recycle(j)
		return nil, refused, nil
	}
	w.arm()
	return j, answered, nil
}

// depart ends the request's stay. An end that came no later than the caller's
// reason to leave counts.
func (w *worker) depart(j *job, reason error) (verdict, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.recycle(j)
	if reason != nil {
		if j.phase != broken && w.station.abandon(time.Since(w.epoch), j) {
			w.arm()
			return answered, reason
		}
		w.arm()
		<-j.done // it ended meanwhile, so the token is there
	}
	switch {
	case j.phase == broken:
		return answered, dataplane.ErrBroken
	case j.fails:
		return failed, nil
	}
	return answered, nil
}

// arm sets the timer to the station's next event.
func (w *worker) arm() {
	if len(w.station.running) == 0 {
		if w.timer != nil {
			w.timer.Stop()
		}
		return
	}
	wait := w.station.next() - w.station.now
	if w.timer == nil {
		w.timer = time.AfterFunc(wait, w.tick)
		return
	}
	w.timer.Reset(wait)
}

func (w *worker) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.station.advance(time.Since(w.epoch))
	w.arm()
}

func (w *worker) newJob(timeout time.Duration) *job {
	var j *job
	if last := len(w.free) - 1; last >= 0 {
		j, w.free = w.free[last], w.free[:last]
	} else {
		j = &job{done: make(chan struct{}, 1), more: make(chan struct{}, 1)}
	}
	if timeout > 0 {
		if j.timer == nil {
			j.timer = time.NewTimer(timeout)
		} else {
			j.timer.Reset(timeout)
		}
	}
	return j
}

// recycle keeps a job that the station no longer knows and whose token is taken.
func (w *worker) recycle(j *job) {
	if j.timer != nil {
		j.timer.Stop()
	}
	j.left, j.pause = 0, nil
	j.made.Store(0)
	select {
	case <-j.more:
	default:
	}
	w.free = append(w.free, j)
}

func (w *worker) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// Done is closed by Stop; a simulated worker does not die on its own.
func (w *worker) Done() <-chan struct{} { return w.done }

// Err is always nil, see Done.
func (w *worker) Err() error { return nil }

// Stop breaks the requests that are still queued or running; there is no process
// to give a grace to.
func (w *worker) Stop(context.Context, time.Duration) error {
	w.stopOnce.Do(func() {
		close(w.done)
		w.mu.Lock()
		w.station.close()
		w.arm()
		w.mu.Unlock()
		if n := w.requests.Load(); n > 0 {
			w.logf("stopped after %d requests", n)
		}
	})
	return nil
}

// Address is the same for all: there is nothing to connect to.
func (w *worker) Address() string { return "in-process" }

// Kind is the kind's name in the configuration file.
func (w *worker) Kind() string { return "simulated" }

func (w *worker) errorf(err error) error {
	return fmt.Errorf("%s %s: %w", w.Kind(), w.spec.InstanceID, err)
}

// logf writes a line to the instance's log. A log that cannot be written must
// not end an instance.
func (w *worker) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(w.spec.Log, "simulated worker %s "+format+"\n", append([]any{w.spec.InstanceID}, args...)...)
}
