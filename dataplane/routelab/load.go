package routelab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Load is how requests arrive: a closed loop of Users, each of whom waits for an
// answer before the next request, or an open loop of Arrivals, which come whether
// the endpoint keeps up or not.
type Load struct {
	Users int
	Think Think // nil for no pause

	Arrivals Arrivals // non-nil makes the loop open
	// MaxInFlight bounds what an open loop has sent and not yet got an answer to.
	// Arrivals beyond it wait, their latency counting from when they were due;
	// what still waits when the load ends is reported as not sent.
	MaxInFlight int

	Bodies   Bodies
	WarmUp   time.Duration // at the start, sent but not measured
	Duration time.Duration // measured after it; 0 for no end by time
	Requests int           // that are measured at most; 0 for no end by number
	Timeout  time.Duration // of one request; 0 for none
	Seed     uint64        // equal seeds give equal arrivals and bodies
}

// Validate tells the first thing that is wrong.
func (l *Load) Validate() error {
	switch {
	case l.Bodies == nil:
		return errors.New("no bodies")
	case l.Arrivals == nil && l.Users < 1:
		return fmt.Errorf("%d users: a closed loop needs at least 1", l.Users)
	case l.Arrivals == nil && l.Duration <= 0 && l.Requests <= 0:
		return errors.New("a closed loop needs a duration or a number of requests")
	case l.Arrivals != nil && l.MaxInFlight < 1:
		return fmt.Errorf("at most %d requests in flight: at least 1 is needed", l.MaxInFlight)
	case l.WarmUp < 0 || l.Duration < 0 || l.Requests < 0 || l.Timeout < 0:
		return errors.New("a negative warm-up, duration, timeout or number of requests")
	}
	return nil
}

// First is the request that the load begins with.
func (l *Load) First() Request {
	rng := rand.New(rand.NewPCG(l.Seed, 0))
	if l.Arrivals != nil {
		for a := range l.Arrivals(rng, l.Bodies) {
			return a.Request
		}
	}
	return l.Bodies(rng)
}

// drive sends the load and returns when everything that it sent is answered.
// When ctx ends, nothing more is sent and what is under way is abandoned.
func (l *Load) drive(ctx context.Context, target Target, rec *Recorder) {
	d := &driver{Load: l, target: target, rec: rec, ctx: ctx, start: time.Now()}
	sending, stop := context.WithCancel(ctx)
	defer stop()
	if l.Duration > 0 {
		sending, stop = context.WithDeadline(ctx, d.start.Add(l.WarmUp+l.Duration))
		defer stop()
	}
	d.sending, d.stop = sending, stop
	rec.begin(d.start.Add(l.WarmUp), l.Duration)
	if l.Arrivals != nil {
		d.open()
	} else {
		d.closed()
	}
	rec.end(ctx.Err() != nil)
}

// driver is a load while it runs.
type driver struct {
	*Load
	target   Target
	rec      *Recorder
	start    time.Time
	ctx      context.Context // of requests
	sending  context.Context // ends when no more are sent
	stop     context.CancelFunc
	measured atomic.Int64
}

// closed runs the users. Each draws from its own source, so that what a user
// sends does not depend on how fast the others are.
func (d *driver) closed() {
	var users sync.WaitGroup
	for i := range d.Users {
		users.Go(func() {
			rng := rand.New(rand.NewPCG(d.Seed, uint64(i)))
			// When the run is canceled, requests may learn of it before sending does.
			for d.sending.Err() == nil && d.ctx.Err() == nil {
				due := time.Now()
				if !d.take(due) {
					return
				}
				if resp := d.send(due, d.Bodies(rng)); resp.Status == 0 {
					dataplane.Sleep(d.sending, afterNoAnswer)
				}
				if d.Think != nil {
					dataplane.Sleep(d.sending, d.Think(rng))
				}
			}
		})
	}
	users.Wait()
}

// open sends each arrival when it is due, or as soon after as MaxInFlight lets it.
func (d *driver) open() {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	free := make(chan struct{}, d.MaxInFlight)
	rng := rand.New(rand.NewPCG(d.Seed, 0))
	end := d.WarmUp + d.Duration
	for a := range d.Arrivals(rng, d.Bodies) {
		if d.Duration > 0 && a.At >= end {
			dataplane.Sleep(d.sending, end-time.Since(d.start))
			return
		}
		due := d.start.Add(a.At)
		if dataplane.Sleep(d.sending, time.Until(due)); d.sending.Err() == nil {
			select {
			case free <- struct{}{}:
			case <-d.sending.Done():
			}
		}
		if d.sending.Err() != nil {
			// Arrivals that were due by now and never left; those still to come
			// were not due at all.
			if time.Now().Before(due) {
				return
			}
			d.rec.notSent(due)
			continue
		}
		if !d.take(due) {
			return
		}
		underWay.Go(func() {
			defer func() { <-free }()
			d.send(due, a.Request)
		})
	}
}

// take says whether one more request may be measured. Those of the warm-up are
// not counted.
func (d *driver) take(due time.Time) bool {
	if d.Requests == 0 || due.Before(d.start.Add(d.WarmUp)) {
		return true
	}
	if d.measured.Add(1) > int64(d.Requests) {
		d.stop()
		return false
	}
	return true
}

// afterNoAnswer keeps the users of a closed loop from hammering a server that is
// gone, where every attempt fails at once.
const afterNoAnswer = 100 * time.Millisecond

func (d *driver) send(due time.Time, r Request) Response {
	ctx, cancel := d.ctx, context.CancelFunc(func() {})
	if d.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
	}
	defer cancel()
	sent := d.rec.sent()
	resp, err := d.target(ctx, r)
	if err != nil && d.ctx.Err() != nil {
		d.rec.abandoned()
		return resp
	}
	d.rec.answered(due, sent, time.Now(), resp, err)
	return resp
}
