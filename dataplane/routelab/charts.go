package routelab

import (
	"maps"
	"math"
	"slices"
	"time"
)

// charts is what the page's script draws. Columns are as uPlot wants them.
type charts struct {
	Strategies   []string       `json:"strategies"`
	Percentiles  columns        `json:"percentiles"` // X is the number of nines: 2 is P99
	Distribution columns        `json:"distribution"`
	Throughput   columns        `json:"throughput"`
	InFlight     []inFlightPlot `json:"in_flight"`
}

type columns struct {
	X []number   `json:"x"`
	Y [][]number `json:"y"` // one a strategy
}

// inFlightPlot is one strategy's instances over one repetition. Of a fleet too
// large for a line each, Y holds quantiles across the instances.
type inFlightPlot struct {
	Strategy   string     `json:"strategy"`
	Repetition int        `json:"repetition"`
	Instances  int        `json:"instances"`
	Labels     []string   `json:"labels"`
	X          []number   `json:"x"`
	Y          [][]number `json:"y"`
}

const (
	percentilePoints = 120
	distributionBins = 64 // at most
	throughputPoints = 40
	inFlightPoints   = 120
	maxInstanceLines = 24
)

func (r *Report) charts() charts {
	c := charts{Percentiles: r.percentiles(), Distribution: r.distribution(), Throughput: r.throughputs()}
	for i := range r.Strategies {
		s := &r.Strategies[i]
		c.Strategies = append(c.Strategies, s.Strategy)
		if plot, ok := s.inFlight(); ok {
			c.InFlight = append(c.InFlight, plot)
		}
	}
	return c
}

// percentiles go as far as the smallest strategy has ten requests beyond.
func (r *Report) percentiles() columns {
	c := columns{Y: make([][]number, len(r.Strategies))}
	fewest := math.Inf(1)
	for i := range r.Strategies {
		fewest = min(fewest, float64(r.Strategies[i].Requests))
	}
	nines := math.Log10(max(10, fewest/10))
	for p := range percentilePoints + 1 {
		x := nines * float64(p) / percentilePoints
		c.X = append(c.X, number(x))
	}
	for i := range r.Strategies {
		merged := r.Strategies[i].merged()
		for _, x := range c.X {
			v := math.NaN()
			if merged.TotalCount() > 0 {
				v = float64(merged.ValueAtPercentile(100*(1-math.Pow(10, -float64(x))))) / 1e9
			}
			c.Y[i] = append(c.Y[i], number(v))
		}
	}
	return c
}

// distribution is the share of requests, in percent, in bins of equal ratio.
func (r *Report) distribution() columns {
	low, high, fewest := math.Inf(1), 0.0, math.Inf(1)
	for i := range r.Strategies {
		if h := r.Strategies[i].merged(); h.TotalCount() > 0 {
			low = min(low, float64(h.ValueAtPercentile(0.1)))
			high = max(high, float64(h.ValueAtPercentile(99.9)))
			fewest = min(fewest, float64(h.TotalCount()))
		}
	}
	c := columns{Y: make([][]number, len(r.Strategies))}
	if high == 0 {
		return c
	}
	low, high = low/1.1, high*1.1
	// Fewer requests need wider bins, or the bins show chance.
	bins := int(min(max(12, math.Sqrt(fewest)*0.8), distributionBins))
	ratio := math.Log(high/low) / float64(bins)
	for bin := range bins {
		c.X = append(c.X, number(low*math.Exp(ratio*(float64(bin)+0.5))/1e9))
	}
	for i := range r.Strategies {
		h, shares := r.Strategies[i].merged(), make([]number, bins)
		for _, bar := range h.Distribution() {
			bin := int(math.Log(float64(bar.From+bar.To)/2/low) / ratio)
			if bar.Count > 0 && bin >= 0 && bin < bins {
				shares[bin] += number(100 * float64(bar.Count) / float64(h.TotalCount()))
			}
		}
		c.Y[i] = shares
	}
	return c
}

// throughputs are answers a second, averaged over the repetitions.
func (r *Report) throughputs() columns {
	shortest, width := math.Inf(1), firstWidth
	for i := range r.Strategies {
		for _, run := range r.Strategies[i].Runs {
			shortest, width = min(shortest, run.Seconds), max(width, run.Answers.Width)
		}
	}
	if math.IsInf(shortest, 1) {
		return columns{Y: make([][]number, len(r.Strategies))}
	}
	length := time.Duration(shortest * float64(time.Second))
	for width < length/throughputPoints {
		width *= 2
	}
	n := int(length / width)
	c := columns{X: middles(width, n), Y: make([][]number, len(r.Strategies))}
	for i := range r.Strategies {
		sums := make([]number, n)
		for _, run := range r.Strategies[i].Runs {
			_, values := run.Answers.mean(width, length)
			for at := range sums {
				sums[at] += number(values[at] / float64(len(r.Strategies[i].Runs)))
			}
		}
		c.Y[i] = sums
	}
	return c
}

func middles(width time.Duration, n int) []number {
	x := make([]number, n)
	for i := range x {
		x[i] = number((float64(i) + 0.5) * width.Seconds())
	}
	return x
}

// inFlight takes the repetition whose P99 is in the middle.
func (s *Summary) inFlight() (inFlightPlot, bool) {
	runs := slices.DeleteFunc(slices.Clone(s.Runs), func(r *Run) bool { return len(r.InFlight) == 0 })
	if len(runs) == 0 {
		return inFlightPlot{}, false
	}
	slices.SortStableFunc(runs, func(a, b *Run) int {
		return int(a.Latency.ValueAtPercentile(99) - b.Latency.ValueAtPercentile(99))
	})
	run := runs[(len(runs)-1)/2]
	length := time.Duration(run.Seconds * float64(time.Second))
	levels := run.levels(length / inFlightPoints)
	plot := inFlightPlot{Strategy: s.Strategy, Repetition: run.Repetition, Instances: len(levels.of), X: middles(levels.width, levels.n)}
	if len(levels.of) > maxInstanceLines {
		plot.quantiles(levels)
		return plot, true
	}
	for _, id := range slices.Sorted(maps.Keys(levels.of)) {
		values := make([]number, levels.n)
		for i, v := range levels.of[id] {
			values[i] = number(v)
		}
		plot.Labels, plot.Y = append(plot.Labels, id), append(plot.Y, values)
	}
	return plot, true
}

// quantiles fills the plot with what lies across the instances in each interval.
func (p *inFlightPlot) quantiles(levels levels) {
	shares := []float64{1, 0.75, 0.5, 0.25, 0}
	p.Labels, p.Y = []string{"most", "upper quartile", "median", "lower quartile", "least"}, make([][]number, len(shares))
	for i := range levels.n {
		across := make([]float64, 0, len(levels.of))
		for _, values := range levels.of {
			across = append(across, values[i])
		}
		slices.Sort(across)
		for q, share := range shares {
			p.Y[q] = append(p.Y[q], number(across[int(share*float64(len(across)-1)+0.5)]))
		}
	}
}
