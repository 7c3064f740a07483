package simulated

import (
	"container/heap"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// station is the queueing model of one instance: slots whose occupants share the
// processor, and a first-in first-out queue in front of them. It keeps no clock:
// every event is told the time, as nanoseconds since some epoch, which must not
// run backwards. It is not safe for concurrent use.
//
// All running jobs run at the same speed, so one total, attained, tells how much
// work each has been given since it began: a job ends when attained has grown by
// its work. When a job comes or goes only the pace of attained changes, and
// re-timing every running job costs nothing.
type station struct {
	slots      int     // 0: unlimited
	room       int     // of the queue
	contention float64 // n jobs each run at speed 1/(1+contention·(n−1))

	now      time.Duration
	attained float64 // nanoseconds of work
	running  jobHeap
	waiting  []*job
	started  uint64 // jobs that have begun, to break ties
}

// job is a request's stay at the station.
type job struct {
	work float64 // nanoseconds, alone on the instance

	phase phase
	mark  float64 // the station's attained at which it ends
	order uint64
	index int // among running

	done  chan struct{} // one token when the job ended or broke
	timer *time.Timer   // of the request's timeout, reused
	fails bool          // its answer is status 500

	// Of a job that makes tokens: how many will follow the next one, the work of
	// each, how many there are, and a token of the channel when there are more.
	left  int
	pause func() float64
	made  atomic.Int32
	more  chan struct{}
}

type phase uint8

const (
	queued phase = iota
	running
	ended  // its work is done
	broken // the station closed first
)

// arrive lets a job in; false when the queue is full.
func (s *station) arrive(now time.Duration, j *job) bool {
	s.advance(now)
	switch {
	case s.slots == 0 || len(s.running) < s.slots:
		s.start(j)
		s.advance(now) // a job without work ends where it starts
	case len(s.waiting) < s.room:
		j.phase = queued
		s.waiting = append(s.waiting, j)
	default:
		return false
	}
	return true
}

// abandon takes a job out whose caller went away; false when it had ended by
// then.
func (s *station) abandon(now time.Duration, j *job) bool {
	s.advance(now)
	switch j.phase {
	case running:
		heap.Remove(&s.running, j.index)
		s.admit()
		s.advance(now)
	case queued:
		i := slices.Index(s.waiting, j)
		s.waiting = slices.Delete(s.waiting, i, i+1)
	default:
		return false
	}
	return true
}

// advance brings the model to the present. Every end that is due happens at its
// own moment, so that the lateness of a timer never adds up.
func (s *station) advance(now time.Duration) {
	for len(s.running) > 0 {
		at := s.next()
		if at > now {
			break
		}
		s.now, s.attained = at, s.running[0].mark
		if j := s.running[0]; j.left > 0 {
			s.token(j)
			continue
		}
		s.end(heap.Pop(&s.running).(*job), ended)
		s.admit()
	}
	if len(s.running) == 0 {
		s.attained = 0 // keeps its precision; nobody holds a mark
	} else {
		s.attained += float64(now-s.now) / s.slowdown()
	}
	s.now = now
}

// token notes that a running job has made one and goes on to the next.
func (s *station) token(j *job) {
	j.left--
	j.mark += j.pause()
	heap.Fix(&s.running, j.index)
	j.made.Add(1)
	select {
	case j.more <- struct{}{}:
	default: // it has not looked yet
	}
}

// next is when the next running job ends if nothing else happens; there must be
// one.
func (s *station) next() time.Duration {
	left := (s.running[0].mark - s.attained) * s.slowdown()
	left = min(max(math.Round(left), 0), float64(math.MaxInt64/4))
	return s.now + time.Duration(left)
}

func (s *station) slowdown() float64 {
	return 1 + s.contention*float64(len(s.running)-1)
}

// admit gives a free slot to the job that has waited longest.
func (s *station) admit() {
	if len(s.waiting) > 0 {
		j := s.waiting[0]
		s.waiting = slices.Delete(s.waiting, 0, 1)
		s.start(j)
	}
}

func (s *station) start(j *job) {
	s.started++
	j.phase, j.mark, j.order = running, s.attained+j.work, s.started
	heap.Push(&s.running, j)
}

func (s *station) end(j *job, as phase) {
	j.phase = as
	j.done <- struct{}{}
}

// close breaks every job.
func (s *station) close() {
	for _, j := range s.running {
		s.end(j, broken)
	}
	for _, j := range s.waiting {
		s.end(j, broken)
	}
	s.running, s.waiting = nil, nil
}

// jobHeap has the job that ends first on top.
type jobHeap []*job

func (h jobHeap) Len() int { return len(h) }

func (h jobHeap) Less(a, b int) bool {
	if h[a].mark != h[b].mark {
		return h[a].mark < h[b].mark
	}
	return h[a].order < h[b].order
}

func (h jobHeap) Swap(a, b int) {
	h[a], h[b] = h[b], h[a]
	h[a].index, h[b].index = a, b
}

func (h *jobHeap) Push(x any) {
	j := x.(*job)
	j.index = len(*h)
	*h = append(*h, j)
}

func (h *jobHeap) Pop() any {
	last := len(*h) - 1
	j := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return j
}
