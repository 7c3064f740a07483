package routelab

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Run is what one repetition of one strategy measured.
type Run struct {
	Strategy   string    `json:"strategy"`
	Repetition int       `json:"repetition"` // from 1
	Started    time.Time `json:"started"`    // the end of the warm-up
	Seconds    float64   `json:"seconds"`    // that it measured
	Instances  int       `json:"instances"`  // behind the endpoint; 0 when unknown

	Requests int64            `json:"requests"` // answered with success, due within the measured time
	Errors   map[string]int64 `json:"errors"`   // by kind; not among the latencies
	// NotSent arrivals were due and still waited in the client at the end, the
	// longest for LongestUnsentSeconds.
	NotSent              int64   `json:"not_sent"`
	LongestUnsentSeconds float64 `json:"longest_unsent_seconds,omitempty"`
	CutOff               int64   `json:"cut_off"` // under way when the bench was interrupted
	Interrupted          bool    `json:"interrupted"`

	PerInstance map[string]int64 `json:"requests_per_instance,omitempty"`

	// Latency is of successful answers, from when they were due; Lag is how late
	// the client sent them.
	Latency *hdrhistogram.Histogram `json:"-"`
	Lag     *hdrhistogram.Histogram `json:"-"`

	Answers  Series             `json:"-"` // successful, by the time they came
	InFlight map[string]*Series `json:"-"` // by instance, as the client saw it

	completed int64
	looks     looks
}

// Failed is the number of requests that got an error or no answer.
func (r *Run) Failed() int64 {
	var n int64
	for _, of := range r.Errors {
		n += of
	}
	return n
}

// looks adds up how even the counts in flight were, over the looks at the fleet
// that saw any.
type looks struct {
	n         int
	cv        float64
	maxToMean float64
}

func (l *looks) add(inFlight map[string]int) {
	counts := make([]float64, 0, len(inFlight))
	for _, n := range inFlight {
		counts = append(counts, float64(n))
	}
	if cv, maxToMean := Imbalance(counts); !math.IsNaN(cv) {
		l.n++
		l.cv += cv
		l.maxToMean += maxToMean
	}
}

// Imbalance is the coefficient of variation of counts, standard deviation over
// mean, and the largest over the mean: 0 and 1 when all are equal. Both are NaN
// when there is nothing to divide.
func Imbalance(counts []float64) (cv, maxToMean float64) {
	var sum, largest float64
	for _, c := range counts {
		sum += c
		largest = max(largest, c)
	}
	if sum == 0 {
		return math.NaN(), math.NaN()
	}
	mean := sum / float64(len(counts))
	var squares float64
	for _, c := range counts {
		squares += (c - mean) * (c - mean)
	}
	return math.Sqrt(squares/float64(len(counts))) / mean, largest / mean
}

// requestCounts are the requests of every instance, those that got none included.
func (r *Run) requestCounts() []float64 {
	counts := make([]float64, 0, len(r.PerInstance))
	for _, n := range r.PerInstance {
		counts = append(counts, float64(n))
	}
	for len(counts) > 0 && len(counts) < r.Instances {
		counts = append(counts, 0)
	}
	return counts
}

// inFlightImbalance is of looks at the fleet, at moments, or else of the client's
// own view, averaged over intervals.
func (r *Run) inFlightImbalance() (cv, maxToMean float64) {
	if r.looks.n > 0 {
		return r.looks.cv / float64(r.looks.n), r.looks.maxToMean / float64(r.looks.n)
	}
	var seen looks
	levels := r.levels(0)
	for i := range levels.n {
		counts := make([]float64, 0, len(levels.of))
		for _, values := range levels.of {
			counts = append(counts, values[i])
		}
		for len(counts) < r.Instances {
			counts = append(counts, 0)
		}
		if cv, maxToMean := Imbalance(counts); !math.IsNaN(cv) {
			seen.n, seen.cv, seen.maxToMean = seen.n+1, seen.cv+cv, seen.maxToMean+maxToMean
		}
	}
	return seen.cv / float64(seen.n), seen.maxToMean / float64(seen.n)
}

// levels are the requests in flight of every instance in the same intervals.
type levels struct {
	width time.Duration
	n     int // intervals
	of    map[string][]float64
}

func (r *Run) levels(width time.Duration) levels {
	l := levels{width: max(width, firstWidth), of: map[string][]float64{}}
	for _, s := range r.InFlight {
		l.width = max(l.width, s.Width)
	}
	length := time.Duration(r.Seconds * float64(time.Second))
	for id, s := range r.InFlight {
		l.width, l.of[id] = s.mean(l.width, length)
		l.n = len(l.of[id])
	}
	return l
}
