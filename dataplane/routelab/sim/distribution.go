package sim

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Quantity is a number of seconds or of tokens. In YAML a string such as 250ms
// is a duration and becomes seconds; a plain number is taken as it is.
type Quantity float64

// UnmarshalYAML reads a number or a Go duration.
func (q *Quantity) UnmarshalYAML(node ast.Node) error {
	text, at := node.GetToken().Value, node.GetToken().Position
	if number, err := strconv.ParseFloat(text, 64); err == nil {
		*q = Quantity(number)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("[%d:%d] %q is neither a number nor a duration such as 250ms", at.Line, at.Column, text)
	}
	*q = Quantity(d.Seconds())
	return nil
}

// Distribution is of a positive quantity.
type Distribution struct {
	// Kind is constant, exponential, lognormal or empirical; empty means constant.
	Kind string `yaml:"distribution"`
	// Mean is the mean of the distribution itself, 0 to 1e6.
	Mean Quantity `yaml:"mean,omitempty"`
	// Sigma is the standard deviation of the logarithm, 0 to 10, for lognormal
	// only.
	Sigma float64 `yaml:"sigma,omitempty"`
	// Samples are drawn from with equal probability, for empirical only.
	Samples []Quantity `yaml:"samples,omitempty,flow"`
}

// The distributions.
const (
	Constant    = "constant"
	Exponential = "exponential"
	Lognormal   = "lognormal"
	Empirical   = "empirical"
)

const (
	maxQuantity = 1e6
	maxSigma    = 10
)

// Average is the distribution's mean.
func (d Distribution) Average() float64 {
	if d.Kind != Empirical {
		return float64(d.Mean)
	}
	sum := 0.0
	for _, s := range d.Samples {
		sum += float64(s)
	}
	return sum / float64(len(d.Samples))
}

func (d Distribution) validate() error {
	switch d.Kind {
	case "", Constant, Exponential, Lognormal:
		if len(d.Samples) > 0 {
			return fmt.Errorf("samples belong to distribution %s only", Empirical)
		}
	case Empirical:
		if len(d.Samples) == 0 {
			return fmt.Errorf("distribution %s needs samples", Empirical)
		}
		if d.Mean != 0 {
			return fmt.Errorf("mean does not go with distribution %s", Empirical)
		}
	default:
		return fmt.Errorf("distribution %q is not one of %s, %s, %s, %s", d.Kind, Constant, Exponential, Lognormal, Empirical)
	}
	for _, q := range append(slices.Clone(d.Samples), d.Mean) {
		if !(q >= 0 && q <= maxQuantity) { // also catches NaN
			return fmt.Errorf("%v is not within 0 to %g", float64(q), float64(maxQuantity))
		}
	}
	switch {
	case !(d.Sigma >= 0 && d.Sigma <= maxSigma):
		return fmt.Errorf("sigma %v is not within 0 to %d", d.Sigma, maxSigma)
	case d.Sigma != 0 && d.Kind != Lognormal:
		return errors.New("sigma belongs to distribution " + Lognormal + " only")
	}
	return nil
}

// draw returns the next value.
func (d *Distribution) draw(r *rand.Rand) float64 {
	switch d.Kind {
	case Exponential:
		return float64(d.Mean) * r.ExpFloat64()
	case Lognormal:
		return float64(d.Mean) * math.Exp(d.Sigma*r.NormFloat64()-d.Sigma*d.Sigma/2)
	case Empirical:
		return float64(d.Samples[r.IntN(len(d.Samples))])
	}
	return float64(d.Mean)
}

// discrete draws indices with given weights in constant time: Walker's alias
// method as Vose built it (IEEE Transactions on Software Engineering, 1991).
type discrete struct {
	keep  []float64
	alias []int32
}

func newDiscrete(weights []float64) discrete {
	n := len(weights)
	d := discrete{keep: make([]float64, n), alias: make([]int32, n)}
	total := 0.0
	for _, w := range weights {
		total += w
	}
	scaled := make([]float64, n)
	var small, large []int32
	for i, w := range weights {
		scaled[i] = w / total * float64(n)
		if scaled[i] < 1 {
			small = append(small, int32(i))
		} else {
			large = append(large, int32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		d.keep[s], d.alias[s] = scaled[s], l
		scaled[l] -= 1 - scaled[s]
		if scaled[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, i := range append(small, large...) { // 1 but for rounding
		d.keep[i], d.alias[i] = 1, i
	}
	return d
}

func (d *discrete) draw(r *rand.Rand) int32 {
	if len(d.keep) == 1 {
		return 0
	}
	i := int32(r.IntN(len(d.keep)))
	if r.Float64() < d.keep[i] {
		return i
	}
	return d.alias[i]
}

// zipf is the weights of n keys whose popularity falls with their rank to the
// power of the exponent; 0 makes all equally popular.
func zipf(n int, exponent float64) []float64 {
	weights := make([]float64, n)
	for i := range weights {
		weights[i] = math.Pow(float64(i+1), -exponent)
	}
	return weights
}
