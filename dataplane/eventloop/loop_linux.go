package eventloop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	batch = 128 // events taken from the kernel at once
	// turn is how many events a busy loop takes before it offers its processor to
	// other goroutines. A loop that kept it for 10 ms would have Go's monitor
	// thread take it away in the middle of a system call and look every 20 µs for a
	// while (runtime/proc.go, retake and sysmon), a twentieth of a processor.
	// Fewer events cost a single caller more, as each offer wakes a thread that
	// looks for work.
	turn  = 32
	never = math.MaxInt64
)

// ErrClosed is what Adopt and Watch answer when the loop has been closed.
var ErrClosed = errors.New("the event loop is closed")

// epoch is the beginning of the deadlines' clock, the monotonic one: when the
// computer was asleep, or its clock is set, nobody is late for that.
var epoch = time.Now()

// clock is the nanoseconds from epoch to t, at least 1.
func clock(t time.Time) int64 { return max(int64(t.Sub(epoch)), 1) }

// Loop is one event loop.
type Loop struct {
	id    int
	epoll int
	event int // an eventfd, to wake the loop

	deadline atomic.Int64 // no connection has an earlier one to wait for

	mu     sync.Mutex
	queue  []func()
	asleep bool
	closed bool // it ends when its connections are
	over   bool // it has ended
	wakers sync.WaitGroup

	scratch [maxTransfer]byte

	// The loop's own.
	now   time.Time // of the last batch
	tick  int64     // the same by the deadlines' clock
	conns []*Conn   // by descriptor, with gaps
	count int       // of them
	taken int       // events since it last offered its processor
	left  bool      // by a strand, whose goroutine may not run yet

	done chan struct{}
}

// Processors is how many loops can be busy at once, at least 1. The first call
// gives Go one processor more than that, for good: Go looks at its poller when a
// processor has nothing to do, and those of busy loops always have. Connections
// that are not on a loop would be heard of only when the monitor thread looks,
// every 10 ms.
var Processors = sync.OnceValue(func() int {
	n := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(n + 1)
	return n
})

// ids are of all loops there ever were.
var ids atomic.Int32

// Start begins a loop.
func Start() (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(event)})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make eventfd: %w", err), unix.Close(epoll))
	}
	l := &Loop{id: int(ids.Add(1)), epoll: epoll, event: event, done: make(chan struct{})}
	l.deadline.Store(never)
	go l.run()
	return l, nil
}

// Now is the time of the last batch of events, for strands that run on the loop.
func (l *Loop) Now() time.Time { return l.now }

// spawn runs f as a goroutine.
func (l *Loop) spawn(f func()) {
	l.left = true
	go f()
}

// Scratch is memory for the strand that runs on the loop: what was read into it
// stays until the next call that may wait, Read and Write among them. It stays in
// the processor's cache.
func (l *Loop) Scratch() []byte { return l.scratch[:] }

// ID is the loop's own, from 1: it tells whose connections are whose.
func (l *Loop) ID() int { return l.id }

// Go runs f as a strand of the loop; false when the loop has been closed.
func (l *Loop) Go(f func(*Strand)) bool {
	return !l.shut() && l.post(func() { newStrand(l, f).resume() })
}

// post lets the loop call f; false when the loop has ended.
func (l *Loop) post(f func()) bool {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return false
	}
	l.queue = append(l.queue, f)
	asleep := l.asleep
	if asleep {
		l.asleep = false
		l.wakers.Add(1)
	}
	l.mu.Unlock()
	if asleep { // without the lock, for which the loop would wait next
		l.wake()
	}
	return true
}

func (l *Loop) wake() {
	defer l.wakers.Done()
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = unix.Write(l.event, one) // cannot fail before 2⁶⁴ of them
}

func (l *Loop) run() {
	defer close(l.done)
	events := make([]unix.EpollEvent, batch)
	for {
		n := l.poll(events)
		l.now = time.Now()
		l.tick = clock(l.now)
		for i := range n {
			// A descriptor may have been closed, and used again, since the kernel
			// noted the event: Pad tells its connections apart.
			if c := l.conn(int(events[i].Fd)); c != nil && c.number == events[i].Pad {
				c.happened(events[i].Events)
			}
		}
		if !l.work() {
			return
		}
		if l.tick >= l.deadline.Load() {
			l.expire()
		}
	}
}

// conn is the connection with a descriptor; nil if there is none.
func (l *Loop) conn(fd int) *Conn {
	if fd >= len(l.conns) {
		return nil
	}
	return l.conns[fd]
}

// enter and leave keep account of the connections.
func (l *Loop) enter(c *Conn) {
	for c.fd >= len(l.conns) {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
	l.count++
}

func (l *Loop) leave(c *Conn) {
	if l.conn(c.fd) == c {
		l.conns[c.fd] = nil
		l.count--
	}
}

// poll takes the events there are, and waits when there are none.
func (l *Loop) poll(events []unix.EpollEvent) int {
	n := poll(l.epoll, events)
	// Goroutines that the strands have made runnable would otherwise wait until
	// the scheduler misses the processor.
	if l.taken += n; l.taken >= turn || n == 0 && l.left {
		l.left, l.taken = false, 0
		runtime.Gosched()
	}
	if n > 0 {
		return n
	}
	l.mu.Lock()
	l.asleep = len(l.queue) == 0 && !l.closed
	asleep := l.asleep
	l.mu.Unlock()
	if !asleep {
		return 0
	}
	n, err := unix.EpollWait(l.epoll, events, l.patience())
	l.mu.Lock()
	l.asleep = false
	l.mu.Unlock()
	if err != nil {
		return 0 // EINTR; the others would be mistakes of this package
	}
	return n
}

// patience is how many milliseconds remain until a deadline; -1 without one.
func (l *Loop) patience() int {
	at := l.deadline.Load()
	if at == never {
		return -1
	}
	left := time.Duration(at - clock(time.Now()))
	return int(min(max(left/time.Millisecond+1, 0), time.Hour/time.Millisecond))
}

// work calls what was posted up to now; false when the loop is to end.
func (l *Loop) work() bool {
	l.mu.Lock()
	queue := l.queue
	l.queue = nil
	l.over = l.closed && len(queue) == 0 && l.count == 0
	over := l.over
	l.mu.Unlock()
	for _, f := range queue {
		f()
	}
	if over {
		l.wakers.Wait()                                           // or they would write to whatever has the number next
		_ = errors.Join(unix.Close(l.event), unix.Close(l.epoll)) // nothing is lost with them
	}
	return !over
}

// bound makes sure that the loop looks at the deadlines at that time.
func (l *Loop) bound(at int64) {
	for {
		next := l.deadline.Load()
		if at >= next {
			return
		}
		if l.deadline.CompareAndSwap(next, at) {
			l.post(func() {})
			return
		}
	}
}

// expire wakes the strands whose connections' deadlines have passed.
func (l *Loop) expire() {
	l.deadline.Store(never)
	next := int64(never)
	for _, c := range l.conns {
		if c == nil {
			continue
		}
		for _, h := range []*half{&c.r, &c.w} {
			if at := h.deadline.Load(); at > l.tick {
				next = min(next, at)
			}
		}
		if c.r.late(l.tick) && c.r.waits.Load() || c.w.late(l.tick) && c.w.waits.Load() {
			c.strand.wake()
		}
	}
	l.bound(next)
}

// shut tells that Close has been called.
func (l *Loop) shut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// Close closes all connections that the loop watches, lets their strands see that,
// and ends the loop. Strands that are away stay so. It must not be called on the
// loop.
func (l *Loop) Close() {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if !closed {
		l.post(func() {
			for _, c := range l.conns {
				if c != nil {
					_ = c.Close()
				}
			}
		})
	}
	<-l.done
}
