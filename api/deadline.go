package api

import (
	"sync"
	"time"
)

// sweptDeadline is a deadline of a connection that the sweep enforces, so it may
// pass up to sweepInterval late. fasthttp sets three for every request, and a
// timer for each is dearer than an invocation's routing; they are minutes long
// and hardly ever reached.
type sweptDeadline struct {
	mu     sync.Mutex
	at     time.Time // zero for none
	passed bool      // the connection has been told
}

// aLongTimeAgo as a deadline interrupts a connection at once.
var aLongTimeAgo = time.Unix(1, 0)

// set notes a new deadline. The connection's own is touched only to take back
// one that has passed.
func (d *sweptDeadline) set(at time.Time, tell func(time.Time) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = at
	if !d.passed {
		return nil
	}
	d.passed = false
	return tell(time.Time{})
}

// sweep interrupts the connection when the deadline has passed.
func (d *sweptDeadline) sweep(now time.Time, tell func(time.Time) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.passed && !d.at.IsZero() && !now.Before(d.at) {
		d.passed = true
		_ = tell(aLongTimeAgo) // fails only when the connection is closed
	}
}
