package dataplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ServerlessPayload is how long a request to a serverless variant, and its answer,
// may be, in bytes (docs: hosting-faqs).
const ServerlessPayload = 4 << 20

// maxColdStart is how long a request waits for an environment. AWS's clients give
// an invocation up after as long.
const maxColdStart = 60 * time.Second

// The ways in which a serverless variant fails an invocation.
var (
	// ErrThrottled: MaxConcurrency requests are under way.
	ErrThrottled = errors.New("maximum concurrency is reached")
	// ErrColdStart: the environment that was started for the request failed.
	ErrColdStart = errors.New("environment did not start")
	// ErrProvisioning: no environment could be had in time.
	ErrProvisioning = errors.New("environment is still being provisioned")
	// ErrSessionOfServerless: environments come and go, and sessions with them.
	ErrSessionOfServerless = errors.New("a serverless variant has no sessions")
	// ErrPayload and ErrServerlessAnswer: a request, or its answer, exceeds
	// ServerlessPayload.
	ErrPayload          = errors.New("request exceeds the payload limit of serverless variants")
	ErrServerlessAnswer = errors.New("answer exceeds the payload limit of serverless variants")
)

// Serverless is what the pool of a serverless variant has beside its members.
// Each of them is an execution environment, which has one request at a time, as on
// AWS Lambda. A request goes to the idle environment of the lowest slot, so that
// the others can stop; without one it waits for the next to be started or to
// become idle, in order.
type Serverless struct {
	pool *Pool
	wake func()

	// Guarded by the pool's lock.
	limit  int
	active int // requests that wait or are being answered
	queue  []*waiter
	closed bool
	counts ServerlessStatus
}

// waiter is a request that waits for an environment. One that is not in the queue
// any more has been given an environment or an error.
type waiter struct {
	given chan struct{}
	in    *Instance
	err   error
}

// NewServerlessPool makes the pool of a serverless variant, which takes no
// requests before SetLimit. wake is called when a request begins to wait; it must
// not block.
func NewServerlessPool(wake func()) *Pool {
	p, _ := NewPool(Routing{}, 0) // every pool's own default
	p.serverless = &Serverless{pool: p, wake: wake}
	return p
}

// Serverless is nil for the pool of a variant with instances.
func (p *Pool) Serverless() *Serverless { return p.serverless }

// SetLimit sets MaxConcurrency. Requests under way beyond it go on.
func (s *Serverless) SetLimit(n int) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.limit = n
}

// Waiting is how many requests wait for an environment.
func (s *Serverless) Waiting() int {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return len(s.queue)
}

// IdleSince is when the environment answered its last request, or came into
// service; false while it has a request or takes none.
func (s *Serverless) IdleSince(in *Instance) (time.Time, bool) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if in.index < 0 || s.pool.load.Count(in.index) > 0 {
		return time.Time{}, false
	}
	return in.idleSince, true
}

// Fail tells that an environment could not be started, which the request that
// waits longest is told. One that there was no room for may still come.
func (s *Serverless) Fail(err error) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.counts.FailedStarts++
	s.counts.LastFailure = err.Error()
	if len(s.queue) == 0 {
		return
	}
	verdict := ErrColdStart
	if errors.Is(err, ErrCapacity) {
		verdict = ErrProvisioning
	}
	s.active--
	s.give(nil, fmt.Errorf("%w: %w", verdict, err))
}

// Close takes no more requests, for good. Those that wait get ErrNoInstance and
// may go to another fleet.
func (s *Serverless) Close() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.closed = true
	s.active -= len(s.queue)
	for len(s.queue) > 0 {
		s.give(nil, ErrNoInstance)
	}
}

// give answers the request that waits longest.
func (s *Serverless) give(in *Instance, err error) {
	w := s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1)
	w.in, w.err = in, err
	close(w.given)
}

func (s *Serverless) invoke(ctx context.Context, req *Request, ans *Answer) (*Instance, error) {
	switch {
	case req.SessionID != "":
		return nil, ErrSessionOfServerless
	case len(req.Body) > ServerlessPayload:
		return nil, ErrPayload
	}
	in, err := s.acquire(ctx, req.Timeout, ans)
	if err != nil {
		return nil, err
	}
	defer s.release(in)
	if ans.stream != nil {
		whole := ans.stream.Sink
		ans.stream.Sink = &limitedSink{Sink: whole, left: ServerlessPayload}
		ans.stream.route.ColdStart = ans.ColdStart
		defer func() { ans.stream.Sink = whole }()
	}
	if err := in.invoke(ctx, req, ans); err != nil {
		return in, err
	}
	if len(ans.Body) > ServerlessPayload {
		in.errors.Add(1)
		return in, ErrServerlessAnswer
	}
	return in, nil
}

// acquire counts a request and finds its environment. release takes it off the
// count again.
func (s *Serverless) acquire(ctx context.Context, timeout time.Duration, ans *Answer) (*Instance, error) {
	in, w, err := s.enter()
	if w == nil {
		return in, err
	}
	s.wake()
	began := time.Now()
	in, err = s.await(ctx, w, timeout)
	ans.ColdStart += time.Since(began)
	return in, err
}

// enter gives a request an idle environment, or else a place in the queue.
func (s *Serverless) enter() (*Instance, *waiter, error) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	switch {
	case s.closed:
		return nil, nil, ErrNoInstance
	case s.active >= s.limit:
		s.counts.Throttles++
		return nil, nil, ErrThrottled
	}
	s.active++
	if len(s.queue) == 0 {
		if in := s.idle(); in != nil {
			s.pool.load.Add(in.index)
			return in, nil, nil
		}
	}
	w := &waiter{given: make(chan struct{})}
	s.queue = append(s.queue, w)
	return nil, w, nil
}

func (s *Serverless) await(ctx context.Context, w *waiter, timeout time.Duration) (*Instance, error) {
	patience := maxColdStart
	if timeout > 0 {
		patience = min(patience, timeout)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var gaveUp error
	select {
	case <-w.given:
	case <-timer.C:
		gaveUp = ErrProvisioning
	case <-ctx.Done():
		gaveUp = context.Cause(ctx)
	}
	if gaveUp != nil && s.abandon(w) {
		return nil, gaveUp
	}
	return w.in, w.err
}

// abandon is false when the request was answered in the meantime.
func (s *Serverless) abandon(w *waiter) bool {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	i := slices.Index(s.queue, w)
	if i < 0 {
		return false
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	s.active--
	return true
}

func (s *Serverless) release(in *Instance) {
	s.pool.release(in)
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.active--
	in.idleSince = time.Now()
	s.dispatch()
}

// joined lets a new environment take a request that waits. The pool's lock is
// held.
func (s *Serverless) joined(in *Instance) {
	in.idleSince = in.started
	s.counts.Starts++
	s.counts.ModelSetupTime = Duration(in.started.Sub(in.Created))
	s.dispatch()
}

// dispatch brings requests that wait and idle environments together.
func (s *Serverless) dispatch() {
	for len(s.queue) > 0 {
		in := s.idle()
		if in == nil {
			return
		}
		s.pool.load.Add(in.index)
		s.give(in, nil)
	}
}

// idle is the environment of the lowest slot that has no request; nil for none.
func (s *Serverless) idle() (found *Instance) {
	for _, in := range s.pool.members {
		if s.pool.load.Count(in.index) == 0 && (found == nil || in.Slot < found.Slot) {
			found = in
		}
	}
	return found
}

// ServerlessStatus is a serverless variant as the admin route shows it.
type ServerlessStatus struct {
	MaxConcurrency int   `json:"max_concurrency"`
	Concurrency    int   `json:"concurrent_requests"` // those that wait included
	Waiting        int   `json:"waiting_requests"`
	Throttles      int64 `json:"throttles"`
	Starts         int64 `json:"environments_started"`
	FailedStarts   int64 `json:"environments_failed"`
	// ModelSetupTime is how long the last environment took to come into service.
	ModelSetupTime Duration `json:"model_setup_time,omitempty"`
	LastFailure    string   `json:"last_failure,omitempty"`
}

// Status is a reading of the variant's accounts.
func (s *Serverless) Status() ServerlessStatus {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	status := s.counts
	status.MaxConcurrency, status.Concurrency, status.Waiting = s.limit, s.active, len(s.queue)
	return status
}

// limitedSink ends an answer that grows beyond the payload limit.
type limitedSink struct {
	Sink
	left int
}

func (l *limitedSink) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("%w: %w", ErrBroken, ErrServerlessAnswer)
	}
	return l.Sink.Write(p)
}
