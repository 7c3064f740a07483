package sim

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Experiment compares strategies on a workload.
type Experiment struct {
	Workload   *Workload
	Strategies []string // empty: AWS's that suit the workload
	Seed       uint64
	// Repetitions are independent runs of each size and strategy, 1 to 1000; 0
	// means 10. Requests are measured in each, 1 to 1e9; 0 means 100,000.
	Repetitions, Requests int
	// WarmUp is how many requests come before; 0 means a tenth of Requests, and
	// at least 25 a user and 100 an instance. Near saturation a queue takes longer
	// than that to become as long as it gets.
	WarmUp int
	// Parallel runs at a time; 0 means one a processor. It changes no result.
	Parallel int
}

// Report is what an experiment found.
type Report struct {
	Workload    string  `json:"workload"`
	Seed        uint64  `json:"seed"`
	Repetitions int     `json:"repetitions"`
	Rows        []Row   `json:"rows"`
	WallSeconds float64 `json:"wall_seconds"`

	strategies []string
}

// Strategies lists the strategies in the order that was asked for.
func (r *Report) Strategies() []string { return r.strategies }

// Row is one size.
type Row struct {
	Users      int                 `json:"users"`
	Instances  int                 `json:"instances"`
	Strategies map[string]*Summary `json:"strategies"`
}

// Summary is what one strategy made of one size. Times are in seconds; each
// value is the mean over the repetitions, with its 95 % confidence interval.
// Percentiles, with three significant digits, and the mean are of answers
// without error, and unknown without any.
type Summary struct {
	P50          Value    `json:"p50_seconds"`
	P50CI        Interval `json:"p50_seconds_ci95"`
	P90          Value    `json:"p90_seconds"`
	P90CI        Interval `json:"p90_seconds_ci95"`
	P99          Value    `json:"p99_seconds"`
	P99CI        Interval `json:"p99_seconds_ci95"`
	P999         Value    `json:"p999_seconds"`
	P999CI       Interval `json:"p999_seconds_ci95"`
	Mean         Value    `json:"mean_seconds"`
	MeanCI       Interval `json:"mean_seconds_ci95"`
	Throughput   Value    `json:"throughput_per_instance_per_minute"`
	ThroughputCI Interval `json:"throughput_per_instance_per_minute_ci95"`
	// Imbalance is as in Result.
	Imbalance   Value    `json:"load_imbalance"`
	ImbalanceCI Interval `json:"load_imbalance_ci95"`
	// Requests and Errors are of all repetitions together.
	Requests int `json:"requests"`
	Errors   int `json:"errors"`

	// For workloads that stream, and with prefixes.
	FirstTokenP50   *Value    `json:"first_token_p50_seconds,omitempty"`
	FirstTokenP50CI *Interval `json:"first_token_p50_seconds_ci95,omitempty"`
	FirstTokenP99   *Value    `json:"first_token_p99_seconds,omitempty"`
	FirstTokenP99CI *Interval `json:"first_token_p99_seconds_ci95,omitempty"`
	HitRate         *Value    `json:"cache_hit_rate,omitempty"`
	HitRateCI       *Interval `json:"cache_hit_rate_ci95,omitempty"`

	// Runs is the repetitions' own figures; those of two strategies with the same
	// index saw the same requests.
	Runs []Figures `json:"-"`
}

// Figures is one repetition in numbers. Latencies are NaN when there were none.
type Figures struct {
	P50, P90, P99, P999, Mean    float64
	Throughput                   float64 // per instance and minute
	Imbalance                    float64
	FirstTokenP50, FirstTokenP99 float64
	HitRate                      float64
}

const (
	defaultRepetitions = 10
	defaultRequests    = 100_000
)

func (x *Experiment) complete() error {
	if x.Repetitions == 0 {
		x.Repetitions = defaultRepetitions
	}
	if x.Requests == 0 {
		x.Requests = defaultRequests
	}
	switch {
	case x.Repetitions < 1 || x.Repetitions > 1000:
		return fmt.Errorf("%d repetitions are not within 1 to 1000", x.Repetitions)
	case x.Requests < 1 || x.Requests > 1e9 || x.WarmUp < 0 || x.WarmUp > 1e9:
		return fmt.Errorf("%d requests after %d are not within 1 to 1e9", x.Requests, x.WarmUp)
	}
	if len(x.Strategies) == 0 {
		x.Strategies = x.Workload.DefaultStrategies()
	}
	for i, s := range x.Strategies {
		if err := CheckStrategy(s); err != nil {
			return err
		}
		if slices.Contains(x.Strategies[:i], s) {
			return fmt.Errorf("strategy %q is there twice", s)
		}
	}
	if x.Parallel == 0 {
		x.Parallel = runtime.GOMAXPROCS(0)
	}
	return x.Workload.Load.read()
}

// DefaultStrategies is AWS's that suit the workload.
func (w *Workload) DefaultStrategies() []string {
	s := []string{dataplane.StrategyRandom, dataplane.StrategyLeastOutstanding}
	if w.Prefixes != nil {
		s = append(s, dataplane.StrategyPrefixAware)
	}
	return s
}

// Do runs the experiment.
func (x Experiment) Do(ctx context.Context) (*Report, error) {
	begun := time.Now()
	if err := x.complete(); err != nil {
		return nil, err
	}
	report := &Report{Workload: x.Workload.Name, Seed: x.Seed, Repetitions: x.Repetitions, strategies: x.Strategies}
	for _, size := range x.Workload.Sizes {
		row := Row{Users: size.Users, Instances: size.Instances, Strategies: map[string]*Summary{}}
		results, err := x.size(ctx, size)
		if err != nil {
			return nil, fmt.Errorf("%d instances: %w", size.Instances, err)
		}
		for i, strategy := range x.Strategies {
			row.Strategies[strategy] = summarize(results[i], size.Instances)
		}
		report.Rows = append(report.Rows, row)
	}
	report.WallSeconds = time.Since(begun).Seconds()
	return report, nil
}

// size does all repetitions of all strategies at one size; the result is by
// strategy, then by repetition.
func (x *Experiment) size(ctx context.Context, size Size) ([][]*Result, error) {
	warmUp := x.WarmUp
	if warmUp == 0 {
		warmUp = max(x.Requests/10, 25*size.Users, 100*size.Instances)
	}
	results := make([][]*Result, len(x.Strategies))
	for i := range results {
		results[i] = make([]*Result, x.Repetitions)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	slots := make(chan struct{}, x.Parallel)
	for repetition := range x.Repetitions {
		for i, strategy := range x.Strategies {
			slots <- struct{}{}
			wait.Go(func() {
				defer func() { <-slots }()
				if ctx.Err() != nil {
					return
				}
				result, err := Run{
					Workload: x.Workload, Size: size, Strategy: strategy,
					Seed: repeat(x.Seed, repetition), Requests: x.Requests, WarmUp: warmUp,
				}.simulate(ctx)
				if err != nil {
					cancel(fmt.Errorf("%s: %w", strategy, err))
				}
				results[i][repetition] = result
			})
		}
	}
	wait.Wait()
	return results, context.Cause(ctx)
}

// repeat is the seed of a repetition: SplitMix64's sequence.
func repeat(seed uint64, repetition int) uint64 {
	x := seed + uint64(repetition+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (r *Result) figures(instances int) Figures {
	f := Figures{
		P50: seconds(r.Latency, 50), P90: seconds(r.Latency, 90), P99: seconds(r.Latency, 99), P999: seconds(r.Latency, 99.9),
		Mean: r.MeanSeconds, Imbalance: r.Imbalance,
		HitRate: float64(r.Hits) / float64(r.Requests),
	}
	if r.Seconds > 0 {
		f.Throughput = 60 * float64(r.Completed) / r.Seconds / float64(instances)
	}
	if r.FirstToken != nil {
		f.FirstTokenP50, f.FirstTokenP99 = seconds(r.FirstToken, 50), seconds(r.FirstToken, 99)
	}
	return f
}

// seconds is a percentile of a histogram in microseconds; NaN of an empty one.
func seconds(h *hdrhistogram.Histogram, percentile float64) float64 {
	if h.TotalCount() == 0 {
		return math.NaN()
	}
	return float64(h.ValueAtPercentile(percentile)) / 1e6
}

func summarize(results []*Result, instances int) *Summary {
	s := new(Summary)
	streams, cached := false, false
	for _, r := range results {
		s.Runs = append(s.Runs, r.figures(instances))
		s.Requests += r.Requests
		s.Errors += r.Errors
		streams = streams || r.FirstToken != nil
		cached = cached || r.Cached
	}
	s.P50, s.P50CI = s.Over(func(f Figures) float64 { return f.P50 })
	s.P90, s.P90CI = s.Over(func(f Figures) float64 { return f.P90 })
	s.P99, s.P99CI = s.Over(func(f Figures) float64 { return f.P99 })
	s.P999, s.P999CI = s.Over(func(f Figures) float64 { return f.P999 })
	s.Mean, s.MeanCI = s.Over(func(f Figures) float64 { return f.Mean })
	s.Throughput, s.ThroughputCI = s.Over(func(f Figures) float64 { return f.Throughput })
	s.Imbalance, s.ImbalanceCI = s.Over(func(f Figures) float64 { return f.Imbalance })
	if streams {
		s.FirstTokenP50, s.FirstTokenP50CI = pointers(s.Over(func(f Figures) float64 { return f.FirstTokenP50 }))
		s.FirstTokenP99, s.FirstTokenP99CI = pointers(s.Over(func(f Figures) float64 { return f.FirstTokenP99 }))
	}
	if cached {
		s.HitRate, s.HitRateCI = pointers(s.Over(func(f Figures) float64 { return f.HitRate }))
	}
	return s
}

// Over is a figure's mean over the repetitions and its 95 % confidence interval.
func (s *Summary) Over(figure func(Figures) float64) (Value, Interval) {
	values := make([]float64, len(s.Runs))
	for i, f := range s.Runs {
		values[i] = figure(f)
	}
	return estimate(values)
}

// Against is the mean of a figure's relative change from another strategy's, in
// pairs of repetitions that saw the same requests: 0.15 is 15 % more. A pair with
// nothing to divide by tells nothing.
func (s *Summary) Against(base *Summary, figure func(Figures) float64) (Value, Interval) {
	values := make([]float64, len(s.Runs))
	for i := range s.Runs {
		values[i] = figure(s.Runs[i])/figure(base.Runs[i]) - 1
		if math.IsInf(values[i], 0) {
			values[i] = math.NaN()
		}
	}
	return estimate(values)
}

func pointers(value Value, ci Interval) (*Value, *Interval) { return &value, &ci }
