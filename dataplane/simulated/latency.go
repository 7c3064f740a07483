package simulated

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Latency is how long a request takes that has the instance to itself.
type Latency struct {
	// Distribution is constant, exponential or lognormal; empty means constant.
	Distribution string `yaml:"distribution"`
	// Mean is the mean of the distribution itself, 0 to 24 h. For lognormal it is
	// not the exponential of the underlying normal's mean, which is the median
	// and lies lower by a factor of e^(Sigma²/2).
	Mean time.Duration `yaml:"mean"`
	// Sigma is the standard deviation of the logarithm, 0 to 10, for lognormal
	// only.
	Sigma float64 `yaml:"sigma"`
}

// The distributions.
const (
	Constant    = "constant"
	Exponential = "exponential"
	Lognormal   = "lognormal"
)

const (
	maxMean  = 24 * time.Hour
	maxSigma = 10
	// maxWork keeps any draw, times any contention, far from overflowing a
	// time.Duration; about 30 years.
	maxWork = 1e18
)

func (l Latency) validate() error {
	switch l.Distribution {
	case "", Constant, Exponential, Lognormal:
	default:
		return fmt.Errorf("distribution %q is not one of %s", l.Distribution,
			strings.Join([]string{Constant, Exponential, Lognormal}, ", "))
	}
	switch {
	case l.Mean < 0 || l.Mean > maxMean:
		return fmt.Errorf("mean %v is not within 0s to %v", l.Mean, maxMean)
	case !(l.Sigma >= 0 && l.Sigma <= maxSigma): // also catches NaN
		return fmt.Errorf("sigma %v is not within 0 to %d", l.Sigma, maxSigma)
	case l.Sigma != 0 && l.Distribution != Lognormal:
		return fmt.Errorf("sigma belongs to distribution %s only", Lognormal)
	}
	return nil
}

// draw returns the next latency in nanoseconds.
func (l Latency) draw(r *rand.Rand) float64 {
	mean := float64(l.Mean)
	switch l.Distribution {
	case Exponential:
		mean *= r.ExpFloat64()
	case Lognormal:
		mean *= math.Exp(l.Sigma*r.NormFloat64() - l.Sigma*l.Sigma/2)
	}
	return min(mean, maxWork)
}

func (l Latency) String() string {
	switch l.Distribution {
	case Exponential:
		return fmt.Sprintf("%s with mean %v", l.Distribution, l.Mean)
	case Lognormal:
		return fmt.Sprintf("%s with mean %v and sigma %v", l.Distribution, l.Mean, l.Sigma)
	}
	return l.Mean.String()
}
