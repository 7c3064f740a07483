package sim

import (
	"encoding/json"
	"math"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Value is a figure; NaN, which is null in JSON, when nothing is known of it.
type Value float64

// MarshalJSON writes what is not known as null.
func (v Value) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(v)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(v))
}

// Interval is a 95 % confidence interval, from low to high.
type Interval [2]Value

// Half is half of its width.
func (i Interval) Half() float64 { return float64(i[1]-i[0]) / 2 }

// estimate is the mean over independent repetitions and its confidence interval
// by Student's t distribution, for repetitions are few. Those that tell nothing,
// NaN, are left out, and of one alone no interval is known.
func estimate(values []float64) (Value, Interval) {
	known := make([]float64, 0, len(values))
	for _, v := range values {
		if !math.IsNaN(v) {
			known = append(known, v)
		}
	}
	unknown := Interval{Value(math.NaN()), Value(math.NaN())}
	switch len(known) {
	case 0:
		return unknown[0], unknown
	case 1:
		return Value(known[0]), unknown
	}
	mean, sd := stat.MeanStdDev(known, nil)
	t := distuv.StudentsT{Sigma: 1, Nu: float64(len(known) - 1)}.Quantile(0.975)
	half := t * sd / math.Sqrt(float64(len(known)))
	return Value(mean), Interval{Value(mean - half), Value(mean + half)}
}
