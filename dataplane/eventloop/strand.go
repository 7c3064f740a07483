// Package eventloop serves connections without Go's scheduler between a caller
// and a worker. A loop is a goroutine with an epoll of its own; each connection
// that it serves has a strand, which is code in ordinary blocking style that runs
// as a coroutine of the loop. Where it would wait for a socket, the loop goes on
// with another strand: a change of a few dozen nanoseconds, with no thread to
// wake. A strand that wants to wait for anything else leaves the loop first, and
// is an ordinary goroutine until it returns.
package eventloop

import (
	"fmt"
	"iter"
	"runtime/debug"
	"time"
)

const (
	// stretch is how many system calls a strand makes on its loop before others have
	// their turn: a tenth of a millisecond, or a little more.
	stretch = 64
	// callBytes is how many bytes are copied in the time of another call.
	callBytes = 4 << 10
)

// Strand is code that a loop runs. The methods are its own to call. A nil Strand
// is an ordinary goroutine: it is not inline, and has no loop to ask for.
type Strand struct {
	loop  *Loop
	next  func() (step, bool)
	yield func(step) bool
	// away is true while a goroutine drives the strand. It changes on the loop
	// only, while the strand waits for that.
	away   bool
	signal chan struct{} // tells a strand that is away of an event
	calls  int           // and what counts as one, since others on the loop had their turn
}

// step is why a strand has stopped running.
type step int8

const (
	waits   step = iota // for an event
	leaves              // the loop
	returns             // to the loop
)

func newStrand(l *Loop, run func(*Strand)) *Strand {
	s := &Strand{loop: l, signal: make(chan struct{}, 1)}
	s.next, _ = iter.Pull(func(yield func(step) bool) {
		defer explain()
		s.yield = yield
		run(s)
	})
	return s
}

// explain adds the strand's stack to a panic, which iter.Pull takes to the
// goroutine that runs the strand.
func explain() {
	if p := recover(); p != nil {
		panic(fmt.Sprintf("%v\n\nin a strand:\n%s", p, debug.Stack()))
	}
}

// Inline tells that the strand runs on its loop and must not wait for anything
// but its connections.
func (s *Strand) Inline() bool { return s != nil && !s.away }

// Loop is where the strand belongs.
func (s *Strand) Loop() *Loop { return s.loop }

// Now is the time; on the loop, where it is asked for often, that of the last
// batch of events.
func (s *Strand) Now() time.Time {
	if s.Inline() {
		return s.loop.Now()
	}
	return time.Now()
}

// Leave makes the strand an ordinary goroutine, which may wait for anything.
func (s *Strand) Leave() {
	if s.Inline() {
		s.yield(leaves)
	}
}

// Return takes the strand back to its loop.
func (s *Strand) Return() {
	if s != nil && s.away {
		s.yield(returns)
	}
}

// wait returns when one of its connections may have had an event.
func (s *Strand) wait() {
	if s.away {
		<-s.signal
	} else {
		s.calls = 0
		s.yield(waits)
	}
}

// share gives others on the loop a turn when the strand has not waited for long,
// as when the other side sends as fast as it reads.
func (s *Strand) share() {
	if !s.Inline() {
		return
	}
	if s.calls++; s.calls > stretch && s.loop.post(s.resume) {
		s.calls = 0
		s.yield(waits)
	}
}

// copied counts what a system call has copied.
func (s *Strand) copied(bytes int) {
	if s.Inline() {
		s.calls += bytes / callBytes
	}
}

// wake lets the strand look at its connection again. The loop calls it.
func (s *Strand) wake() {
	if !s.away {
		s.resume()
		return
	}
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// resume runs the strand on the loop until it waits, leaves or ends.
func (s *Strand) resume() {
	if why, more := s.next(); more && why == leaves {
		s.away = true
		s.loop.spawn(s.drive)
	}
}

// drive runs a strand that is away until it returns or ends. One whose loop has
// ended stays away.
func (s *Strand) drive() {
	for {
		if _, more := s.next(); !more || s.loop.post(s.back) {
			return
		}
	}
}

func (s *Strand) back() {
	s.away = false
	s.resume()
}
