package routelab

import (
	"encoding/json"
	"math"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Setup says what was measured, in words that go into every form of the report.
type Setup struct {
	Tool         string    `json:"tool"` // and its version
	URL          string    `json:"url"`
	Started      time.Time `json:"started"`
	Load         string    `json:"load"`   // such as "closed loop, 20 users"
	Bodies       string    `json:"bodies"` // such as "50 bytes of text/csv"
	InstanceType string    `json:"instance_type,omitempty"`
	Seed         uint64    `json:"seed"`
	WarmUp       float64   `json:"warm_up_seconds"`
	Duration     float64   `json:"duration_seconds"` // 0 when it ends by number
	Open         bool      `json:"open_loop"`
	Machine      string    `json:"machine"` // that the client ran on
	Repetitions  int       `json:"repetitions"`
}

// Report is a comparison, ready to be printed.
type Report struct {
	Setup       Setup
	Strategies  []Summary // in the order of the subjects
	Changes     []Change  // of every other strategy against the baseline, by metric
	Verdict     string    // one sentence
	Notes       []string  // what a reader has to know to trust the figures
	Runs        []*Run
	Interrupted bool
}

// Summary is one strategy over its repetitions.
type Summary struct {
	Strategy    string
	Instances   int
	Repetitions int
	Requests    int64
	Errors      map[string]int64
	NotSent     int64
	Metrics     map[string]Interval // by Metric.Name
	Runs        []*Run
}

// baselineStrategy is SageMaker's default (API_ProductionVariantRoutingConfig).
const baselineStrategy = "RANDOM"

// NewReport compares the strategies of runs. Repetitions that were interrupted
// count only when there is nothing else.
func NewReport(setup Setup, strategies []string, runs []*Run) *Report {
	r := &Report{Setup: setup, Runs: runs}
	r.Interrupted = len(runs) < setup.Repetitions*len(strategies) || slices.ContainsFunc(runs, func(run *Run) bool { return run.Interrupted })
	counted := slices.DeleteFunc(slices.Clone(runs), func(run *Run) bool { return run.Interrupted })
	for _, name := range strategies {
		if !slices.ContainsFunc(counted, func(run *Run) bool { return run.Strategy == name }) {
			counted = runs
		}
	}
	for _, name := range strategies {
		r.Strategies = append(r.Strategies, summarize(name, counted))
	}
	r.Changes = changes(r.Strategies)
	r.Verdict, r.Notes = r.verdict(), r.notes()
	return r
}

func summarize(name string, runs []*Run) Summary {
	s := Summary{Strategy: name, Errors: map[string]int64{}, Metrics: map[string]Interval{}}
	for _, run := range runs {
		if run.Strategy != name {
			continue
		}
		s.Runs = append(s.Runs, run)
		s.Instances = run.Instances
		s.Repetitions++
		s.Requests += run.Requests
		s.NotSent += run.NotSent
		for kind, n := range run.Errors {
			s.Errors[kind] += n
		}
	}
	for _, m := range Metrics {
		s.Metrics[m.Name] = MeanInterval(s.values(m))
	}
	return s
}

func (s *Summary) values(m Metric) []float64 {
	values := make([]float64, len(s.Runs))
	for i, run := range s.Runs {
		values[i] = m.Of(run)
	}
	return values
}

// Failed is the number of requests that got an error or no answer.
func (s *Summary) Failed() int64 {
	var n int64
	for _, of := range s.Errors {
		n += of
	}
	return n
}

// changes compares each strategy with the baseline: RANDOM, or else the first.
func changes(strategies []Summary) []Change {
	if len(strategies) < 2 {
		return nil
	}
	base := &strategies[max(0, slices.IndexFunc(strategies, func(s Summary) bool { return s.Strategy == baselineStrategy }))]
	var all []Change
	for i := range strategies {
		s := &strategies[i]
		if s == base {
			continue
		}
		for _, m := range Metrics {
			c := PairedChange(paired(m, base, s))
			c.Metric, c.Strategy, c.Baseline = m.Name, s.Strategy, base.Strategy
			all = append(all, c)
		}
	}
	return all
}

// paired are a metric's values in the repetitions that both strategies have.
func paired(m Metric, a, b *Summary) (of, and []float64) {
	for _, run := range a.Runs {
		i := slices.IndexFunc(b.Runs, func(other *Run) bool { return other.Repetition == run.Repetition })
		if i >= 0 {
			of, and = append(of, m.Of(run)), append(and, m.Of(b.Runs[i]))
		}
	}
	return of, and
}

// change is the one of a strategy and a metric.
func (r *Report) change(strategy, metric string) Change {
	i := slices.IndexFunc(r.Changes, func(c Change) bool { return c.Strategy == strategy && c.Metric == metric })
	if i < 0 {
		return Change{Change: math.NaN(), Low: math.NaN(), High: math.NaN(), P: math.NaN()}
	}
	return r.Changes[i]
}

// MarshalJSON writes the report for programs; docs/bench.md describes it.
func (r *Report) MarshalJSON() ([]byte, error) {
	out := struct {
		Setup
		Verdict     string            `json:"verdict"`
		Notes       []string          `json:"notes"`
		Interrupted bool              `json:"interrupted"`
		Strategies  []json.RawMessage `json:"strategies"`
		Changes     []Change          `json:"changes"`
		Runs        []json.RawMessage `json:"runs"`
	}{Setup: r.Setup, Verdict: r.Verdict, Notes: orEmpty(r.Notes), Interrupted: r.Interrupted, Changes: orEmpty(r.Changes)}
	for i := range r.Strategies {
		text, err := r.Strategies[i].flat()
		if err != nil {
			return nil, err
		}
		out.Strategies = append(out.Strategies, text)
	}
	for _, run := range r.Runs {
		text, err := run.flat()
		if err != nil {
			return nil, err
		}
		out.Runs = append(out.Runs, text)
	}
	return json.Marshal(out)
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// flat is the summary with its metrics as members of their own.
func (s *Summary) flat() (json.RawMessage, error) {
	members := map[string]any{
		"strategy": s.Strategy, "instances": s.Instances, "repetitions": s.Repetitions,
		"requests": s.Requests, "errors": s.Errors, "not_sent": s.NotSent,
	}
	intervals := map[string][2]number{}
	for _, m := range Metrics {
		v := s.Metrics[m.Name]
		members[m.Name] = number(v.Mean)
		intervals[m.Name] = [2]number{number(v.Low), number(v.High)}
	}
	members["ci95"] = intervals
	return json.Marshal(members)
}

// flat is the run with its metrics as members of their own.
func (r *Run) flat() (json.RawMessage, error) {
	own, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	members := map[string]any{}
	if err := json.Unmarshal(own, &members); err != nil {
		return nil, err
	}
	for _, m := range Metrics {
		members[m.Name] = number(m.Of(r))
	}
	return json.Marshal(members)
}

// merged are the latencies of all repetitions.
func (s *Summary) merged() *hdrhistogram.Histogram {
	all := newHistogram()
	for _, run := range s.Runs {
		all.Merge(run.Latency)
	}
	return all
}
