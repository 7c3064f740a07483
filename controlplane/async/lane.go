package async

import (
	"container/heap"
	"strings"
	"sync"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// lane is one endpoint's queue. A goroutine of its own decides what begins.
type lane struct {
	queue    *Queue
	key      dataplane.Key
	uid      string
	endpoint string
	woken    chan struct{} // holds one wake-up

	mu         sync.Mutex
	waiting    line
	entering   int  // admitted and not on disk yet
	running    int  // on the way to an instance or on one
	unfinished int  // begun and not done yet
	closed     bool // the endpoint is being deleted
	forgotten  bool // and so are the records
	starving   bool // Starved was called
	idleSince  time.Time
	counts     Counts
}

// ticket is a request in memory.
type ticket struct {
	place
	received time.Time
	expires  time.Time
	ttl      time.Duration
	inline   int
	again    bool // it was running before: its objects may be there
	taken    bool
	index    int // in the heap
}

func (q *Queue) ticket(at place, r *record) *ticket {
	return &ticket{
		place: at, received: r.Received, ttl: r.TTL, expires: r.Received.Add(q.scaled(r.TTL)),
		inline: r.Inline, again: r.State == running,
	}
}

func keyOf(scope store.Scope, endpoint string) dataplane.Key {
	return dataplane.Key{Account: scope.Account, Region: scope.Region, Name: strings.ToLower(endpoint)}
}

func scopeOf(key dataplane.Key) store.Scope {
	return store.Scope{Account: key.Account, Region: key.Region}
}

func newLane(q *Queue, key dataplane.Key, uid, endpoint string) *lane {
	return &lane{queue: q, key: key, uid: uid, endpoint: endpoint, woken: make(chan struct{}, 1), idleSince: time.Now()}
}

func (l *lane) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// admit counts a request that is about to be stored.
func (l *lane) admit(limit int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return sdkcompat.EndpointUnknown.Error(l.endpoint, l.key.Account)
	case l.waiting.len()+l.entering+l.unfinished >= limit:
		return sdkcompat.AsyncQueueFull.Error(l.endpoint)
	}
	l.entering++
	return nil
}

// admitted puts a request that is on disk into the line; nil when it could not be
// stored.
func (l *lane) admitted(t *ticket) {
	l.mu.Lock()
	l.entering--
	if t != nil {
		l.waiting.push(t)
		l.counts.Received++
	}
	l.mu.Unlock()
	l.wake()
}

func (l *lane) close(forgotten bool) {
	l.mu.Lock()
	l.closed = true
	l.forgotten = l.forgotten || forgotten
	l.mu.Unlock()
	l.wake()
}

func (l *lane) backlog() (n int, idleSince time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting.len() + l.entering + l.unfinished, l.idleSince
}

// run begins requests as there is room for them and ends those that nobody will
// process, until the endpoint is gone and its line empty.
func (l *lane) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.woken:
		case <-timer.C:
		case <-l.queue.dispatch.Done():
			return
		}
		wait, over := l.step()
		if over {
			return
		}
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// step looks once at what there is to do; wait is when to look again, 0 for not
// before something happens.
func (l *lane) step() (wait time.Duration, over bool) {
	begin, expired, deleted, starved := l.take(l.capacity(), time.Now())
	for _, t := range begin {
		l.queue.work.Go(func() { l.process(t) })
	}
	for _, t := range expired {
		l.settle(t, sdkcompat.AsyncExpired.Sentence(int(t.ttl.Seconds())), func(c *Counts) { c.ExpiredRequests++ })
	}
	for _, t := range deleted {
		l.settle(t, sdkcompat.AsyncEndpointDeleted.Sentence(l.endpoint), nil)
	}
	if starved {
		l.queue.Starved(l.key)
	}
	if len(expired)+len(deleted) > 0 {
		l.wake() // there may be more
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed && l.waiting.len()+l.entering+l.unfinished == 0 {
		l.queue.remove(l)
		return 0, true
	}
	if next := l.waiting.next(); next != nil {
		wait = max(time.Until(next.expires), time.Millisecond)
	}
	return wait, false
}

// capacity is how many requests the endpoint's instances may have at once.
func (l *lane) capacity() int {
	e := l.queue.Fleet.Lookup(l.key)
	if e == nil {
		return 0
	}
	s := e.Snapshot()
	if s.Async == nil || s.Async.UID != l.uid {
		return 0
	}
	return s.Capacity()
}

// take takes out of the line what ends now and what may begin with so much
// capacity. All of it is unfinished then.
func (l *lane) take(capacity int, now time.Time) (begin, expired, deleted []*ticket, starved bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(deleted) < maxSettling && l.closed {
		t := l.waiting.pop()
		if t == nil {
			break
		}
		deleted = append(deleted, t)
	}
	for len(expired) < maxSettling {
		t := l.waiting.next()
		if t == nil || t.expires.After(now) {
			break
		}
		l.waiting.remove(t)
		expired = append(expired, t)
	}
	l.unfinished += len(deleted) + len(expired)
	for l.running < capacity && l.unfinished-l.running < maxFinishing {
		t := l.waiting.pop()
		if t == nil {
			break
		}
		l.running++
		l.unfinished++
		begin = append(begin, t)
	}
	starved = capacity == 0 && l.waiting.len() > 0 && !l.starving
	l.starving = capacity == 0 && l.waiting.len() > 0
	return begin, expired, deleted, starved
}

// settle ends a request that is not run.
func (l *lane) settle(t *ticket, reason string, count func(*Counts)) {
	q := l.queue
	select {
	case q.settling <- struct{}{}:
	case <-q.dispatch.Done():
		return // the record is there for the next run
	}
	q.work.Go(func() {
		defer func() { <-q.settling }()
		l.endUnrun(t, reason, count)
	})
}

// released makes room on an instance.
func (l *lane) released() {
	l.mu.Lock()
	l.running--
	l.mu.Unlock()
	l.wake()
}

// requeue puts a request back to where it was in the line: the instance that it
// was for, or that was at it, has gone.
func (l *lane) requeue(t *ticket, interrupted bool) {
	l.mu.Lock()
	t.taken = false
	l.unfinished--
	if interrupted {
		l.counts.Interrupted++
	}
	l.waiting.unshift(t)
	l.mu.Unlock()
	l.wake()
}

// over takes a request off all counts.
func (l *lane) over(t *ticket, count func(*Counts)) {
	l.mu.Lock()
	l.unfinished--
	if count != nil {
		count(&l.counts)
	}
	if l.unfinished == 0 && l.waiting.len() == 0 {
		l.idleSince = time.Now()
	}
	l.mu.Unlock()
	l.queue.leave(t.inline)
	l.wake()
}

// remove drops the lane of an endpoint that is gone. The caller holds l.mu, which
// admit takes under q.mu, so this is done apart.
func (q *Queue) remove(l *lane) {
	q.work.Go(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.lanes, l.uid)
	})
}

// line is tickets in their order, and by when they expire. Tickets that have
// expired are skipped in the order.
type line struct {
	tickets []*ticket
	head    int
	byTime  expiries
}

func (n *line) len() int { return len(n.byTime) }

func (n *line) push(t *ticket) {
	if n.head > 1024 && n.head > len(n.tickets)/2 {
		n.tickets = append(n.tickets[:0:0], n.tickets[n.head:]...)
		n.head = 0
	}
	n.tickets = append(n.tickets, t)
	heap.Push(&n.byTime, t)
}

// unshift puts a ticket before all others.
func (n *line) unshift(t *ticket) {
	if n.head == 0 {
		n.tickets = append(make([]*ticket, 64, len(n.tickets)+65), n.tickets...)
		n.head = 64
	}
	n.head--
	n.tickets[n.head] = t
	heap.Push(&n.byTime, t)
}

// pop takes the first ticket; nil when there is none.
func (n *line) pop() *ticket {
	for n.head < len(n.tickets) {
		t := n.tickets[n.head]
		n.tickets[n.head] = nil
		n.head++
		if !t.taken {
			n.remove(t)
			return t
		}
	}
	n.tickets, n.head = n.tickets[:0], 0
	return nil
}

// first is what pop would take; nil when there is none.
func (n *line) first() *ticket {
	for _, t := range n.tickets[n.head:] {
		if t != nil && !t.taken {
			return t
		}
	}
	return nil
}

// next is the ticket that expires first; nil when there is none.
func (n *line) next() *ticket {
	if len(n.byTime) == 0 {
		return nil
	}
	return n.byTime[0]
}

// remove takes a ticket from wherever it is.
func (n *line) remove(t *ticket) {
	t.taken = true
	heap.Remove(&n.byTime, t.index)
}

// expiries is a heap.
type expiries []*ticket

func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].expires.Before(e[j].expires) }
func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].index, e[j].index = i, j
}

func (e *expiries) Push(x any) {
	t := x.(*ticket)
	t.index = len(*e)
	*e = append(*e, t)
}

func (e *expiries) Pop() any {
	old := *e
	last := len(old) - 1
	t := old[last]
	old[last] = nil
	*e = old[:last]
	return t
}
