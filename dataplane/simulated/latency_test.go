package simulated

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestDrawsHaveTheConfiguredMeanAndSpread(t *testing.T) {
	const n = 400_000
	for _, l := range []Latency{
		{},
		{Mean: 80 * time.Millisecond},
		{Distribution: Constant, Mean: 80 * time.Millisecond},
		{Distribution: Exponential, Mean: 80 * time.Millisecond},
		{Distribution: Lognormal, Mean: 80 * time.Millisecond},
		{Distribution: Lognormal, Mean: 80 * time.Millisecond, Sigma: 0.3},
		{Distribution: Lognormal, Mean: 80 * time.Millisecond, Sigma: 1},
	} {
		if err := l.validate(); err != nil {
			t.Errorf("%v: %v", l, err)
		}
		r := rand.New(rand.NewPCG(1, 2))
		var sum, squares, logs, logSquares float64
		for range n {
			x := l.draw(r)
			sum += x
			squares += x * x
			if x > 0 {
				logs += math.Log(x)
				logSquares += math.Log(x) * math.Log(x)
			}
		}
		mean, want := sum/n, float64(l.Mean)
		if math.Abs(mean-want) > 0.01*want {
			t.Errorf("%v: mean %v", l, time.Duration(mean))
		}
		deviation := math.Sqrt(max(0, squares/n-mean*mean))
		if l.Distribution == Exponential && math.Abs(deviation-want) > 0.01*want {
			t.Errorf("%v: standard deviation %v", l, time.Duration(deviation))
		}
		sigma := math.Sqrt(max(0, logSquares/n-logs/n*logs/n))
		if l.Distribution != Exponential && math.Abs(sigma-l.Sigma) > 0.005 {
			t.Errorf("%v: sigma %v", l, sigma)
		}
	}
}

func TestDrawsStayWithinADuration(t *testing.T) {
	l := Latency{Distribution: Lognormal, Mean: maxMean, Sigma: maxSigma}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		if x := l.draw(r); !(x >= 0 && x <= maxWork) {
			t.Fatal(x)
		}
	}
}
