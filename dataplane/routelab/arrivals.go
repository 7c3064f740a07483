package routelab

import (
	"iter"
	"math/rand/v2"
	"time"
)

// Arrival is a request and when it is due, counted from the start of the load.
type Arrival struct {
	At      time.Duration
	Request Request
}

// Arrivals is an arrival process, in order of time. What it draws comes from
// rng, so that every strategy can be given the same arrivals.
type Arrivals func(rng *rand.Rand, bodies Bodies) iter.Seq[Arrival]

// Poisson has independent users: exponential gaps, perSecond on average.
func Poisson(perSecond float64) Arrivals {
	return process(func(_ int, last float64, rng *rand.Rand) float64 { return last + rng.ExpFloat64()/perSecond })
}

// Constant has equal gaps, perSecond a second; the first arrival is one gap after
// the start.
func Constant(perSecond float64) Arrivals {
	return process(func(n int, _ float64, _ *rand.Rand) float64 { return float64(n) / perSecond })
}

// process makes arrivals of the time of the nth, from 1, in seconds.
func process(next func(n int, last float64, rng *rand.Rand) float64) Arrivals {
	return func(rng *rand.Rand, bodies Bodies) iter.Seq[Arrival] {
		return func(yield func(Arrival) bool) {
			at := 0.0
			for n := 1; ; n++ {
				at = next(n, at, rng)
				if !yield(Arrival{At: seconds(at), Request: bodies(rng)}) {
					return
				}
			}
		}
	}
}

// Trace replays recorded arrivals. One without a body takes the load's.
func Trace(recorded []Arrival) Arrivals {
	return func(rng *rand.Rand, bodies Bodies) iter.Seq[Arrival] {
		return func(yield func(Arrival) bool) {
			for _, a := range recorded {
				if a.Request.Body == nil {
					a.Request = bodies(rng)
				}
				if !yield(a) {
					return
				}
			}
		}
	}
}

// Think is how long a user of a closed loop pauses between an answer and the
// next request.
type Think func(rng *rand.Rand) time.Duration

// ThinkConstant pauses for d every time.
func ThinkConstant(d time.Duration) Think { return func(*rand.Rand) time.Duration { return d } }

// ThinkExponential pauses for mean on average, without memory.
func ThinkExponential(mean time.Duration) Think {
	return func(rng *rand.Rand) time.Duration { return time.Duration(rng.ExpFloat64() * float64(mean)) }
}

// seconds is a duration that does not overflow; a load ends long before.
func seconds(s float64) time.Duration {
	const longest = 365 * 24 * time.Hour
	if !(s < longest.Seconds()) {
		return longest
	}
	return time.Duration(s * float64(time.Second))
}
