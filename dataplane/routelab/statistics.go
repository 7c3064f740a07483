package routelab

import (
	"encoding/json"
	"math"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// confidence of every interval.
const confidence = 0.95

// Interval is a mean over repetitions and its 95 % confidence interval (Student's
// t). Low and High are NaN with fewer than two repetitions.
type Interval struct{ Mean, Low, High float64 }

// MeanInterval leaves out what is NaN.
func MeanInterval(xs []float64) Interval {
	xs = numbers(xs)
	if len(xs) == 0 {
		return Interval{math.NaN(), math.NaN(), math.NaN()}
	}
	mean, stderr := meanAndError(xs)
	half := stderr * students(len(xs), confidence)
	return Interval{mean, mean - half, mean + half}
}

// meanAndError is the mean and its standard error, NaN of one value.
func meanAndError(xs []float64) (mean, stderr float64) {
	n := float64(len(xs))
	if n < 2 {
		return stat.Mean(xs, nil), math.NaN()
	}
	mean, deviation := stat.MeanStdDev(xs, nil)
	return mean, deviation / math.Sqrt(n)
}

// students is half the width of the interval around a mean of n values, in
// standard errors.
func students(n int, confidence float64) float64 {
	if n < 2 {
		return math.NaN()
	}
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 1)}.Quantile((1 + confidence) / 2)
}

func numbers(xs []float64) []float64 {
	var kept []float64
	for _, x := range xs {
		if !math.IsNaN(x) {
			kept = append(kept, x)
		}
	}
	return kept
}

// Change is how a metric of one strategy differs from a baseline's, as a fraction
// of the baseline: −0.24 is 24 % lower.
type Change struct {
	Metric      string
	Strategy    string
	Baseline    string
	Change      float64
	Low, High   float64 // 95 % confidence interval; NaN with fewer than two pairs
	P           float64 // of a paired t test for no change; NaN likewise
	Repetitions int     // pairs that it rests on

	mean, stderr float64 // of the ratios' logarithms
}

// PairedChange compares what was measured side by side: pair i of both slices
// comes from the same repetition, and so from the same arrivals and the same
// minutes of the machine. It is a paired t test on the logarithms, because latency
// and throughput change by factors. Pairs with anything but positive numbers are
// left out.
func PairedChange(baseline, strategy []float64) Change {
	var logs []float64
	for i := range min(len(baseline), len(strategy)) {
		if ratio := strategy[i] / baseline[i]; ratio > 0 && !math.IsInf(ratio, 0) {
			logs = append(logs, math.Log(ratio))
		}
	}
	c := Change{Change: math.NaN(), Low: math.NaN(), High: math.NaN(), P: math.NaN(), Repetitions: len(logs)}
	if len(logs) == 0 {
		return c
	}
	c.mean, c.stderr = meanAndError(logs)
	c.Change = math.Expm1(c.mean)
	if n := float64(len(logs)); n >= 2 {
		t := c.mean / c.stderr // NaN for no change at all in any pair
		c.P = 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Survival(math.Abs(t))
	}
	return c.together(1)
}

// together is the change with an interval so wide that of so many intervals all
// hold at once with 95 % confidence (Bonferroni).
func (c Change) together(intervals int) Change {
	half := c.stderr * students(c.Repetitions, 1-(1-confidence)/float64(intervals))
	c.Low, c.High = math.Expm1(c.mean-half), math.Expm1(c.mean+half)
	return c
}

// Sure says whether the interval leaves out no change.
func (c Change) Sure() bool { return c.Low > 0 || c.High < 0 }

// number is a float64 whose NaN and infinities are null in JSON.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// MarshalJSON writes what is not known as null.
func (c Change) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Strategy    string    `json:"strategy"`
		Baseline    string    `json:"baseline"`
		Metric      string    `json:"metric"`
		Change      number    `json:"change"`
		CI95        [2]number `json:"ci95"`
		P           number    `json:"p_value"`
		Repetitions int       `json:"repetitions"`
	}{c.Strategy, c.Baseline, c.Metric, number(c.Change), [2]number{number(c.Low), number(c.High)}, number(c.P), c.Repetitions})
}
