package routelab

import (
	"maps"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Sample is one measured request. The simulator's --calibrate reads these, one
// JSON object a line.
type Sample struct {
	StartSeconds   float64 `json:"start_seconds"`   // when it was due, from the start of measurement
	LatencySeconds float64 `json:"latency_seconds"` // from when it was due to the last byte
	// WaitSeconds is the part of the latency that passed in the client, before it
	// was sent.
	WaitSeconds float64 `json:"wait_seconds,omitempty"`
	Instance    string  `json:"instance,omitempty"`
	Status      int     `json:"status"` // of HTTP; 0 without an answer
	Error       string  `json:"error,omitempty"`
	Strategy    string  `json:"strategy"`
	Repetition  int     `json:"repetition"` // from 1
}

// Latencies are kept from 1 µs to 1 hour with three significant digits.
const (
	shortest = int64(time.Microsecond)
	longest  = int64(time.Hour)
	digits   = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(shortest, longest, digits) }

// Recorder measures one run while it goes on.
type Recorder struct {
	observe func(Sample)

	mu       sync.Mutex
	run      Run
	start    time.Time     // of measurement
	length   time.Duration // of measurement; 0 when it is not known
	last     time.Duration // when the last measured answer came
	inFlight int
}

func newRecorder(run Run, observe func(Sample)) *Recorder {
	run.Latency, run.Lag = newHistogram(), newHistogram()
	run.Errors, run.PerInstance, run.InFlight = map[string]int64{}, map[string]int64{}, map[string]*Series{}
	return &Recorder{run: run, observe: observe}
}

func (r *Recorder) begin(start time.Time, length time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.start, r.length, r.run.Started = start, length, start
}

func (r *Recorder) sent() time.Time {
	now := time.Now()
	r.mu.Lock()
	r.inFlight++
	r.mu.Unlock()
	return now
}

// abandoned takes off a request that the end of the whole bench cut off.
func (r *Recorder) abandoned() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight--
	r.run.CutOff++
}

// notSent counts an arrival that was due and never left the client.
func (r *Recorder) notSent(due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if due.Before(r.start) {
		return
	}
	r.run.NotSent++
	r.run.LongestUnsentSeconds = max(r.run.LongestUnsentSeconds, time.Since(due).Seconds())
}

func (r *Recorder) answered(due, sent, done time.Time, resp Response, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight--
	at := done.Sub(r.start)
	if resp.Instance != "" {
		s := r.run.InFlight[resp.Instance]
		if s == nil {
			s = new(Series)
			r.run.InFlight[resp.Instance] = s
		}
		s.spread(sent.Sub(r.start), at)
	}
	// Throughput is of answers within the time of measurement, whenever their
	// requests left.
	if err == nil && at > 0 && (r.length == 0 || at <= r.length) {
		r.run.completed++
		r.run.Answers.add(at-1, 1) // an answer at the end belongs to the last interval
	}
	if due.Before(r.start) {
		return
	}
	r.last = max(r.last, at)
	latency := done.Sub(due)
	sample := Sample{
		StartSeconds: due.Sub(r.start).Seconds(), LatencySeconds: latency.Seconds(), WaitSeconds: sent.Sub(due).Seconds(),
		Instance: resp.Instance, Status: resp.Status, Strategy: r.run.Strategy, Repetition: r.run.Repetition,
	}
	_ = r.run.Lag.RecordValue(clamp(sent.Sub(due)))
	if resp.Instance != "" {
		r.run.PerInstance[resp.Instance]++
	}
	if err != nil {
		sample.Error = errorKind(err)
		r.run.Errors[sample.Error]++
	} else {
		r.run.Requests++
		_ = r.run.Latency.RecordValue(clamp(latency))
	}
	if r.observe != nil {
		r.observe(sample)
	}
}

// clamp keeps a latency within the histogram, which then refuses nothing.
func clamp(d time.Duration) int64 { return min(max(int64(d), shortest), longest) }

// fleet takes a look at how many requests each instance has.
func (r *Recorder) fleet(inFlight map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for id := range inFlight {
		if _, known := r.run.PerInstance[id]; !known {
			r.run.PerInstance[id] = 0 // an instance that gets nothing counts too
		}
	}
	if now.After(r.start) {
		r.run.looks.add(inFlight)
	}
}

func (r *Recorder) end(interrupted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	length := max(0, time.Since(r.start))
	switch {
	case r.length > 0 && length >= r.length:
		length = r.length // the rest was waiting for the last answers
	case !interrupted:
		length = r.last
	}
	r.run.Seconds = length.Seconds()
	r.run.Interrupted = interrupted
}

// Progress is a look at a run that goes on.
type Progress struct {
	Strategy   string
	Repetition int
	WarmUp     bool
	Elapsed    time.Duration // of measurement
	Length     time.Duration // of measurement; 0 when it ends by number
	Requests   int64
	Errors     int64
	NotSent    int64
	InFlight   int
	PerSecond  float64
	P99        time.Duration
}

// Progress reads how far the run is.
func (r *Recorder) Progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Progress{
		Strategy: r.run.Strategy, Repetition: r.run.Repetition, Length: r.length, InFlight: r.inFlight,
		Requests: r.run.Requests, NotSent: r.run.NotSent, P99: time.Duration(r.run.Latency.ValueAtPercentile(99)),
	}
	for _, n := range r.run.Errors {
		p.Errors += n
	}
	p.Elapsed = time.Since(r.start)
	if r.start.IsZero() || p.Elapsed <= 0 {
		p.WarmUp, p.Elapsed = true, 0
		return p
	}
	if r.length > 0 {
		p.Elapsed = min(p.Elapsed, r.length)
	}
	p.PerSecond = float64(r.run.completed) / p.Elapsed.Seconds()
	return p
}

// result is the run as measured. Call it after the end.
func (r *Recorder) result() *Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.run
	run.PerInstance = maps.Clone(r.run.PerInstance)
	return &run
}
