package sim

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/goccy/go-yaml"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Fit is a worker's model fitted to recorded requests.
type Fit struct {
	Requests  int `json:"requests"`
	Instances int `json:"instances"` // of one run
	Runs      int `json:"runs"`
	// Concurrency is the number of slots, 0 for unlimited; Contention is α.
	Concurrency int     `json:"concurrency"`
	Contention  float64 `json:"contention"`
	// ContentionLow and ContentionHigh bound the contention with 95 % confidence. A
	// record of requests that never meet, or whose numbers at once hardly differ,
	// leaves them far apart.
	ContentionLow  float64 `json:"contention_low"`
	ContentionHigh float64 `json:"contention_high"`
	// Distribution of the work, with its mean in seconds and, if lognormal, sigma.
	Distribution string  `json:"distribution"`
	MeanSeconds  float64 `json:"mean_seconds"`
	Sigma        float64 `json:"sigma,omitempty"`
	// KS is the largest distance between the work's recorded distribution, as the
	// model sees it, and the fitted one (Kolmogorov and Smirnov): 0 is the same, up
	// to 1.
	KS float64 `json:"ks_distance"`
	// Quantiles compare the latencies of one recorded run with those of its
	// simulation, see predict.
	Quantiles []Quantile `json:"quantiles"`
	Verdict   string     `json:"verdict"`

	workload *Workload
}

// Quantile is one of a comparison.
type Quantile struct {
	Percentile float64 `json:"percentile"`
	Recorded   float64 `json:"recorded_seconds"`
	Predicted  float64 `json:"predicted_seconds"`
}

// Workload is the fitted model under the load of the record's first run: a closed
// loop of its users, or Poisson arrivals at its rate.
func (f *Fit) Workload() *Workload { return f.workload }

const (
	minRecords = 30
	// maxSlots is how many slots are tried; beyond it they count as unlimited.
	maxSlots = 64
	// maxContention bounds the search.
	maxContention = 16
	// empiricalAbove is the KS distance from which the recorded works stand for
	// themselves, and empiricalSamples how many of them.
	empiricalAbove   = 0.08
	empiricalSamples = 200
)

// Calibrate finds the slots, the contention and the distribution of the work
// under which the record is most likely. Given slots and contention, what each
// instance was doing at any moment, and so how fast, follows from when its
// requests came and went; each request's work is the integral of its speed. The
// likelihood of its end is then the density of that work times the speed at that
// moment. Who else was on an instance at the record's edges is not known, so the
// requests that came there are not counted.
//
// Without instances in the record the model is fitted to the concurrency at each
// start, if that is there; else the record is taken as one instance's.
func Calibrate(records []Record, seed uint64) (*Fit, error) {
	if len(records) < minRecords {
		return nil, fmt.Errorf("%d answered requests are too few to fit a model to; %d are the least", len(records), minRecords)
	}
	for _, r := range records {
		switch {
		case r.Latency <= 0:
			return nil, errors.New("a record has no latency_seconds above 0; captured data has it where the daemon's configuration says capture: {timings: true}")
		case r.Start+r.Latency == r.Start:
			return nil, fmt.Errorf("start_seconds %g is so large that a latency of %g s is nothing beside it; count from a moment near the record", r.Start, r.Latency)
		}
	}
	c := newCalibration(records)
	best := c.search()
	if math.IsInf(best.likelihood, -1) {
		return nil, errors.New("no model explains the record")
	}
	fit := &Fit{
		Requests: len(records), Instances: c.instances, Runs: c.runs,
		Concurrency: best.slots, Contention: best.contention,
		Distribution: best.kind, MeanSeconds: best.mean, Sigma: best.sigma,
		KS: best.distance(),
	}
	fit.ContentionLow, fit.ContentionHigh = c.contentionRange(best)
	fit.workload = fit.model(c, best.works)
	if err := fit.predict(c, seed); err != nil {
		return nil, err
	}
	fit.Verdict = fit.judge()
	return fit, nil
}

// model is the fit as a workload.
func (f *Fit) model(c *calibration, works []float64) *Workload {
	latency := Distribution{Kind: f.Distribution, Mean: Quantity(f.MeanSeconds), Sigma: f.Sigma}
	if f.KS > empiricalAbove {
		sorted := slices.Sorted(slices.Values(works))
		latency = Distribution{Kind: Empirical}
		for i := range empiricalSamples {
			at := (float64(i) + 0.5) / empiricalSamples * float64(len(sorted))
			latency.Samples = append(latency.Samples, Quantity(sorted[int(at)]))
		}
	}
	size, load := Size{Instances: f.Instances}, Load{}
	if run := c.firstRun(); c.closed {
		size.Users = c.users
	} else {
		span := max(run[len(run)-1].Start-run[0].Start, 1e-6)
		load.Poisson = min(float64(len(run))/span/float64(f.Instances), maxQuantity)
	}
	return &Workload{
		Name:        "calibrated",
		Description: fmt.Sprintf("Fitted to %d recorded requests", f.Requests),
		Sizes:       []Size{size},
		Load:        load,
		Worker:      Worker{Concurrency: f.Concurrency, Contention: f.Contention, Queue: -1},
		Requests:    []Request{{Latency: latency}},
	}
}

// predict simulates the record's first run and compares the latencies. Requests
// go where the recorded strategy sends them or, without one, to the recorded
// instances in turn. They come when the recorded ones came, unless as many were
// under way all the time: then it was a closed loop, and is simulated as one.
func (f *Fit) predict(c *calibration, seed uint64) error {
	records := c.firstRun()
	replay := *f.workload
	replay.Load = Load{}
	pins, instances := pinned(records)
	replay.Sizes = []Size{{Instances: instances}}
	strategy := records[0].Strategy
	if strategy == dataplane.StrategyPrefixAware || CheckStrategy(strategy) != nil {
		strategy = dataplane.StrategyRandom
	} else {
		for i := range pins {
			pins[i] = -1
		}
	}
	if c.closed {
		replay.Sizes[0].Users, replay.Load.pins = c.users, pins
	} else {
		for i, r := range records {
			replay.Load.arrivals = append(replay.Load.arrivals, arrival{r.Start - records[0].Start, pins[i]})
		}
	}
	latencies := make([]float64, len(records))
	for i, r := range records {
		latencies[i] = r.Latency
	}
	slices.Sort(latencies)
	// Each repetition draws other works; together they predict the mean run.
	const repetitions = 5
	predicted := hdrhistogram.New(1, maxLatency, precision)
	for i := range repetitions {
		result, err := Run{
			Workload: &replay, Size: replay.Sizes[0], Strategy: strategy,
			Seed: repeat(seed, i), Requests: len(records),
		}.Simulate()
		if err != nil {
			return err
		}
		predicted.Merge(result.Latency)
	}
	for _, p := range []float64{10, 50, 90, 99} {
		f.Quantiles = append(f.Quantiles, Quantile{
			Percentile: p,
			Recorded:   latencies[min(int(p/100*float64(len(latencies))), len(latencies)-1)],
			Predicted:  float64(predicted.ValueAtPercentile(p)) / 1e6,
		})
	}
	return nil
}

// pinned numbers the instances as they appear.
func pinned(records []Record) (pins []int32, instances int) {
	numbers := map[string]int32{}
	for _, r := range records {
		n, ok := numbers[r.Instance]
		if !ok {
			n = int32(len(numbers))
			numbers[r.Instance] = n
		}
		pins = append(pins, n)
	}
	return pins, len(numbers)
}

// judge says how well it fits, in a sentence.
func (f *Fit) judge() string {
	worst := Quantile{}
	off := func(q Quantile) float64 { return math.Abs(q.Predicted/q.Recorded - 1) }
	for _, q := range f.Quantiles {
		if worst.Recorded == 0 || off(q) > off(worst) {
			worst = q
		}
	}
	within := func(share float64) bool {
		for _, q := range f.Quantiles {
			allowed := share
			if q.Percentile >= 99 { // one run's P99 is itself known to so much only
				allowed *= 2
			}
			if off(q) > allowed {
				return false
			}
		}
		return true
	}
	word := "poor"
	switch {
	case within(0.1) && f.KS <= empiricalAbove:
		word = "good"
	case within(0.25):
		word = "fair"
	}
	return fmt.Sprintf("a %s fit: P%g is predicted worst, by %.0f %%, and the distance to the %s distribution is %.3f",
		word, worst.Percentile, 100*off(worst), f.Distribution, f.KS)
}

// contentionWords says how much the record tells of the contention.
func (f *Fit) contentionWords() string {
	switch {
	case f.Concurrency == 1:
		return "of no effect with one slot"
	case f.ContentionLow == 0 && f.ContentionHigh >= maxContention:
		return "not known from this record: record requests that meet on an instance, in varying numbers"
	case f.ContentionHigh >= maxContention:
		return fmt.Sprintf("above %.3g with 95 %% confidence", f.ContentionLow)
	}
	return fmt.Sprintf("within %.3g and %.3g with 95 %% confidence", f.ContentionLow, f.ContentionHigh)
}

// Print writes the workload in YAML under comments on the fit.
func (f *Fit) Print(out io.Writer) error {
	slots := "unlimited"
	if f.Concurrency > 0 {
		slots = fmt.Sprint(f.Concurrency)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %d requests to %d instances in %d runs; %s.\n", f.Requests, f.Instances, f.Runs, f.Verdict)
	fmt.Fprintf(&b, "# concurrency %s, contention %.3g, work %s with mean %.4g s", slots, f.Contention, f.Distribution, f.MeanSeconds)
	if f.Distribution == Lognormal {
		fmt.Fprintf(&b, " and sigma %.3g", f.Sigma)
	}
	fmt.Fprintf(&b, ".\n# The contention is %s", f.contentionWords())
	b.WriteString("\n# percentile  recorded s  predicted s\n")
	for _, q := range f.Quantiles {
		fmt.Fprintf(&b, "#  P%-9g  %10.4g  %11.4g\n", q.Percentile, q.Recorded, q.Predicted)
	}
	text, err := yaml.Marshal(f.workload)
	if err != nil {
		return err
	}
	b.Write(text)
	_, err = io.WriteString(out, b.String())
	return err
}
