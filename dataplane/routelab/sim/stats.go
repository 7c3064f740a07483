package sim

import (
	"math"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Interval is a 95 % confidence interval, from low to high.
type Interval [2]float64

// estimate is the mean over independent repetitions and its confidence interval
// by Student's t distribution, for repetitions are few. With one alone nothing is
// known of the interval, and both ends are the mean.
func estimate(values []float64) (float64, Interval) {
	if len(values) < 2 {
		return values[0], Interval{values[0], values[0]}
	}
	mean, sd := stat.MeanStdDev(values, nil)
	t := distuv.StudentsT{Sigma: 1, Nu: float64(len(values) - 1)}.Quantile(0.975)
	half := t * sd / math.Sqrt(float64(len(values)))
	return mean, Interval{mean - half, mean + half}
}
