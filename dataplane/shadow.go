package dataplane

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Bounds of what a shadow variant may have of this process.
const (
	maxShadowRequests = 1024     // waiting
	maxShadowBytes    = 64 << 20 // of bodies, waiting and under way
	maxShadowInFlight = 128
)

// shadowDelay is how long a copy may wait for others. To wake a thread for each
// would cost the callers, whose requests come one after the other, more than the
// copy itself.
const shadowDelay = time.Millisecond

// Shadow is a shadow variant at work: it takes copies of the production variant's
// requests and drops the answers (docs: model-shadow-deployment). Whatever its
// instances do, nobody waits for them: a copy that finds no room is dropped.
type Shadow struct {
	pool    *Pool
	sampler sampler
	ctx     context.Context // of the requests under way
	cancel  context.CancelFunc

	mu       sync.Mutex
	closed   bool
	waiting  fifo[shadowRequest]
	bytes    int // of bodies, waiting and under way
	inFlight int
	due      bool // dispatch will be called
	timer    *time.Timer
	counts   ShadowStatus
}

type shadowRequest struct {
	Request
	stream bool
}

// NewShadow makes a shadow variant of a pool. The seed makes its samples
// repeatable.
func NewShadow(pool *Pool, seed uint64) *Shadow {
	s := &Shadow{pool: pool, sampler: newSampler(seed)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close takes no more copies, drops those that wait and gives up those under way.
func (s *Shadow) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.cancel()
	for !s.waiting.empty() {
		s.drop(s.waiting.pop())
	}
}

// drop counts a copy that waited. The caller holds s.mu.
func (s *Shadow) drop(r shadowRequest) {
	s.bytes -= len(r.Body)
	s.counts.Dropped++
}

// offer copies the request if it is sampled and there is room. The lock is never
// held while a request is under way.
func (s *Shadow) offer(req *Request, rate float64, stream bool) {
	if !s.sampler.take(rate) {
		return
	}
	s.mu.Lock()
	if s.closed || s.waiting.len() >= maxShadowRequests || s.bytes+len(req.Body) > maxShadowBytes {
		s.counts.Dropped++
		s.mu.Unlock()
		return
	}
	s.bytes += len(req.Body)
	s.mu.Unlock()

	r := shadowRequest{req.clone(), stream}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.drop(r)
		return
	}
	s.waiting.push(r)
	switch {
	case s.due || s.inFlight == maxShadowInFlight:
	case s.timer == nil:
		s.due, s.timer = true, time.AfterFunc(shadowDelay, s.dispatch)
	default:
		s.due = true
		s.timer.Reset(shadowDelay)
	}
}

// dispatch sets a goroutine on each copy that waits, as far as there may be more.
func (s *Shadow) dispatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = false
	for range min(s.waiting.len(), maxShadowInFlight-s.inFlight) {
		s.inFlight++
		go s.work()
	}
}

// work sends what waits, one after the other.
func (s *Shadow) work() {
	ans := new(Answer)
	for {
		s.mu.Lock()
		if s.waiting.empty() {
			s.inFlight--
			s.mu.Unlock()
			return
		}
		r := s.waiting.pop()
		s.counts.Sent++
		s.mu.Unlock()

		began := time.Now()
		err := s.send(&r, ans)
		took := time.Since(began).Seconds()

		s.mu.Lock()
		s.bytes -= len(r.Body)
		switch {
		case s.ctx.Err() != nil && errors.Is(err, context.Canceled):
			s.counts.Canceled++
		case err != nil || ans.StatusCode/100 != 2:
			s.counts.Errors++
		}
		s.counts.LatencySum += took
		s.counts.LatencyMax = max(s.counts.LatencyMax, took)
		s.mu.Unlock()
	}
}

// send passes one copy on as the original was, as a whole or as a stream.
func (s *Shadow) send(r *shadowRequest, ans *Answer) error {
	*ans = Answer{Body: ans.Body[:0]}
	if r.stream {
		ans.stream = &stream{Sink: discard{}, ans: ans, route: new(Route)}
	}
	_, err := s.pool.Invoke(s.ctx, &r.Request, ans)
	return err
}

// discard is a sink for answers that nobody wants.
type discard struct{}

func (discard) Begin(*Answer) error         { return nil }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Flush() error                { return nil }

// ShadowStatus is a reading of a shadow variant's accounts.
type ShadowStatus struct {
	Sent    int64 `json:"sent"`
	Dropped int64 `json:"dropped"` // for want of room
	// Errors are copies that got another status than 2xx, or no answer.
	Errors   int64 `json:"errors"`
	Canceled int64 `json:"canceled"` // given up when the variant was taken away
	Waiting  int   `json:"waiting"`
	// Of the copies that were sent, in seconds.
	LatencySum float64 `json:"latency_seconds_sum"`
	LatencyMax float64 `json:"latency_seconds_max"`
}

// Status is a reading of the accounts.
func (s *Shadow) Status() ShadowStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.counts
	now.Waiting = s.waiting.len()
	return now
}

// fifo is a queue in a slice.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int    { return len(q.items) - q.head }
func (q *fifo[T]) empty() bool { return q.len() == 0 }

func (q *fifo[T]) push(item T) {
	if q.head > 32 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

func (q *fifo[T]) pop() T {
	var none T
	item := q.items[q.head]
	q.items[q.head] = none
	q.head++
	return item
}
