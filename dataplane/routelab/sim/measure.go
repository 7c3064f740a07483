package sim

import (
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what a run measured.
type Result struct {
	Requests, Errors int
	Latency          *hdrhistogram.Histogram // microseconds, of answers without error
	MeanSeconds      float64                 // of the same, exact; NaN without any
	FirstToken       *hdrhistogram.Histogram // microseconds; nil when nothing streams
	Cached           bool                    // the instances have prefix caches
	Hits             int                     // of these
	Seconds          float64                 // from the first measured arrival to the first after the last
	Completed        int                     // answers without error in that time
	Outstanding      float64                 // requests in the system, averaged over that time
	// Imbalance is the standard deviation of the outstanding requests across
	// instances over their mean, the variance averaged over time. 0 is perfect.
	Imbalance float64
}

// measure is what a run has seen so far.
type measure struct {
	open              bool // the window of time is under way
	opened            float64
	closed            float64
	completed         int // in the window
	errors, hits      int
	sum               float64
	latency           *hdrhistogram.Histogram
	firstToken        *hdrhistogram.Histogram
	total, squares    float64 // outstanding requests now, and the sum of their squares by instance
	since             float64 // when they last changed
	area, varianceSum float64 // integrals over time
}

// count takes a request on an instance (+1) or off it (-1).
func (e *engine) count(in *instance, change int) {
	e.tally()
	m := int(in.member)
	n := float64(e.load.Count(m))
	if change > 0 {
		e.load.Add(m)
		e.measure.total++
		e.measure.squares += 2*n + 1
	} else {
		e.load.Done(m)
		e.measure.total--
		e.measure.squares -= 2*n - 1
	}
}

// tally brings the integrals over time to the present.
func (e *engine) tally() {
	m := &e.measure
	if dt := e.now - m.since; dt > 0 && m.open {
		mean := m.total / float64(max(e.load.Len(), 1))
		m.area += m.total * dt
		m.varianceSum += (m.squares/float64(max(e.load.Len(), 1)) - mean*mean) * dt
	}
	m.since = e.now
}

func (e *engine) openWindow() {
	e.tally()
	e.measure.open, e.measure.opened = true, e.now
}

func (e *engine) closeWindow() {
	if e.measure.open {
		e.tally()
		e.measure.open, e.measure.closed = false, e.now
	}
}

func (e *engine) record(h *hdrhistogram.Histogram, seconds float64) {
	// Beyond the histogram's range the last value stands for all.
	_ = h.RecordValue(min(int64(seconds*1e6+0.5), maxLatency))
}

func (e *engine) result(err error) (*Result, error) {
	if err != nil {
		return nil, err
	}
	e.closeWindow() // a trace has no arrival after the last
	m := &e.measure
	r := &Result{
		Requests: e.requests, Errors: m.errors, Cached: e.caches != nil, Hits: m.hits,
		Latency: m.latency, FirstToken: m.firstToken,
		Seconds: m.closed - m.opened, Completed: m.completed,
	}
	r.MeanSeconds = m.sum / float64(e.requests-m.errors)
	if r.Seconds > 0 {
		r.Outstanding = m.area / r.Seconds
		if perInstance := r.Outstanding / float64(max(e.load.Len(), 1)); perInstance > 0 {
			r.Imbalance = math.Sqrt(max(m.varianceSum/r.Seconds, 0)) / perInstance
		}
	}
	return r, nil
}
