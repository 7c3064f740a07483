package routelab

import "math"

// Metric is a figure that every run has and that strategies are compared by.
type Metric struct {
	Name  string // in JSON and CSV
	Title string
	Unit  string // "s", "/s", "/min" or empty
	// HigherIsBetter is false for latencies and imbalance.
	HigherIsBetter bool
	of             func(*Run) float64
}

// Of is the run's figure; NaN when the run does not tell.
func (m Metric) Of(r *Run) float64 { return m.of(r) }

// Names of the metrics that a verdict speaks of.
const (
	p99        = "p99_seconds"
	throughput = "throughput_per_second"
)

// Metrics are all figures, in the order of the table.
var Metrics = []Metric{
	{"p50_seconds", "P50", "s", false, quantile(50)},
	{"p90_seconds", "P90", "s", false, quantile(90)},
	{p99, "P99", "s", false, quantile(99)},
	{"p999_seconds", "P99.9", "s", false, quantile(99.9)},
	{"mean_seconds", "mean", "s", false, func(r *Run) float64 {
		return ifAny(r, r.Latency.Mean()/1e9)
	}},
	{"max_seconds", "max", "s", false, func(r *Run) float64 { return ifAny(r, float64(r.Latency.Max())/1e9) }},
	{throughput, "throughput", "/s", true, (*Run).throughput},
	{"throughput_per_instance_per_minute", "per instance", "/min", true, func(r *Run) float64 {
		if r.Instances == 0 {
			return math.NaN()
		}
		return r.throughput() * 60 / float64(r.Instances)
	}},
	{"requests_cv", "requests CV", "", false, func(r *Run) float64 { cv, _ := Imbalance(r.requestCounts()); return cv }},
	{"requests_max_to_mean", "requests max/mean", "", false, func(r *Run) float64 { _, m := Imbalance(r.requestCounts()); return m }},
	{"in_flight_cv", "in flight CV", "", false, func(r *Run) float64 { cv, _ := r.inFlightImbalance(); return cv }},
	{"in_flight_max_to_mean", "in flight max/mean", "", false, func(r *Run) float64 { _, m := r.inFlightImbalance(); return m }},
}

func quantile(percent float64) func(*Run) float64 {
	return func(r *Run) float64 { return ifAny(r, float64(r.Latency.ValueAtPercentile(percent))/1e9) }
}

// ifAny is v for a run that has latencies.
func ifAny(r *Run, v float64) float64 {
	if r.Latency.TotalCount() == 0 {
		return math.NaN()
	}
	return v
}

func (r *Run) throughput() float64 {
	if r.Seconds <= 0 {
		return math.NaN()
	}
	return float64(r.completed) / r.Seconds
}
