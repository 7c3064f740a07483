package main

import (
	"context"
	"slices"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/routelab/sim"
)

// study is one chart.
type study struct {
	name   string
	panels func(ctx context.Context) ([]panel, error)
}

var studies = []study{
	{"aws", awsTable},
	{"load", load},
	{"prefix", prefix},
	{"slow", slow},
	{"heterogeneous", heterogeneous},
	{"mixed", mixed},
	{"bound", bound},
	{"stale", stale},
}

// Short names, for the lists below.
const (
	random = dataplane.StrategyRandom
	least  = dataplane.StrategyLeastOutstanding
	aware  = dataplane.StrategyPrefixAware
)

const (
	seed        = 1
	repetitions = 8
	requests    = 60_000
)

// sweep runs a workload with one thing changed, at each of the values.
type sweep struct {
	workload   string
	strategies []string
	values     []float64
	change     func(w *sim.Workload, value float64)
	figure     func(f sim.Figures) float64
}

func (s sweep) lines(ctx context.Context) ([]line, error) {
	lines := make([]line, len(s.strategies))
	for i, name := range s.strategies {
		lines[i].name = name
	}
	for _, value := range s.values {
		w, err := sim.Builtin(s.workload)
		if err != nil {
			return nil, err
		}
		s.change(w, value)
		if err := w.Validate(); err != nil {
			return nil, err
		}
		report, err := sim.Experiment{
			Workload: w, Strategies: s.strategies, Seed: seed, Repetitions: repetitions, Requests: requests,
		}.Do(ctx)
		if err != nil {
			return nil, err
		}
		for i, name := range s.strategies {
			y, ci := report.Rows[0].Strategies[name].Over(s.figure)
			lines[i].points = append(lines[i].points, point{value, float64(y), float64(ci[0]), float64(ci[1])})
		}
	}
	return lines, nil
}

func p99(f sim.Figures) float64  { return f.P99 }
func mean(f sim.Figures) float64 { return f.Mean }

// awsTable is AWS's setting: the change from RANDOM to LEAST_OUTSTANDING_REQUESTS
// by size, as the model has it and as one run of AWS's kind would show it.
func awsTable(ctx context.Context) ([]panel, error) {
	throughput := func(f sim.Figures) float64 { return f.Throughput }
	panels := []panel{
		{title: "Throughput per instance, LOR against RANDOM", x: "instances, 4 users each", from: 0, to: 30, percentTicks: true, bandLow: 15, bandHigh: 16, ticks: []float64{5, 10, 15, 20}},
		{title: "P99 latency, LOR against RANDOM", x: "instances, 4 users each", from: -50, to: 10, percentTicks: true, bandLow: -33, bandHigh: -4, ticks: []float64{5, 10, 15, 20}},
	}
	for i, figure := range []func(sim.Figures) float64{throughput, p99} {
		panels[i].lines = []line{{name: single, bars: true}, {name: model}}
		for _, size := range []int{5, 10, 15, 20} {
			long, err := awsRow(ctx, size, 20, 100_000)
			if err != nil {
				return nil, err
			}
			change, bounds := long[least].Against(long[random], figure)
			y, ci := 100*float64(change), [2]float64{100 * float64(bounds[0]), 100 * float64(bounds[1])}
			panels[i].lines[1].points = append(panels[i].lines[1].points, point{float64(size), y, ci[0], ci[1]})
			// Ten minutes at about 40 requests a minute and instance.
			short, err := awsRow(ctx, size, 400, 400*size)
			if err != nil {
				return nil, err
			}
			low, high := spread(short, figure)
			panels[i].lines[0].points = append(panels[i].lines[0].points, point{float64(size), y, 100 * low, 100 * high})
		}
	}
	return panels, nil
}

func awsRow(ctx context.Context, instances, repetitions, requests int) (map[string]*sim.Summary, error) {
	w, err := sim.Builtin("codegen2-7b-g5.24xlarge")
	if err != nil {
		return nil, err
	}
	w.Sizes = []sim.Size{{Instances: instances, Users: 4 * instances}}
	report, err := sim.Experiment{
		Workload: w, Strategies: []string{random, least}, Seed: seed, Repetitions: repetitions, Requests: requests,
	}.Do(ctx)
	if err != nil {
		return nil, err
	}
	return report.Rows[0].Strategies, nil
}

// spread is the range that holds 95 % of comparisons of one run with another
// that saw other requests, as runs on AWS do.
func spread(row map[string]*sim.Summary, figure func(sim.Figures) float64) (low, high float64) {
	a, b := row[least].Runs, row[random].Runs
	var changes []float64
	for i := range a {
		changes = append(changes, figure(a[i])/figure(b[(i+1)%len(b)])-1)
	}
	slices.Sort(changes)
	return changes[len(changes)*25/1000], changes[len(changes)*975/1000]
}

// load is where RANDOM is as good: P99 in service times, by load.
func load(ctx context.Context) ([]panel, error) {
	var panels []panel
	for _, slots := range []int{1, 16} {
		title := "One slot an instance"
		if slots > 1 {
			title = "16 slots an instance"
		}
		lines, err := sweep{
			"short-uniform",
			[]string{random, least, sim.CentralQueue},
			[]float64{5, 10, 20, 30, 40, 50, 60, 70, 80, 90},
			func(w *sim.Workload, percent float64) {
				w.Worker.Concurrency = slots
				w.Load.Poisson = percent / 100 * float64(slots) / w.MeanWork()
			},
			func(f sim.Figures) float64 { return f.P99 / 0.02 },
		}.lines(ctx)
		if err != nil {
			return nil, err
		}
		panels = append(panels, panel{title: title, x: "load, % of capacity", ticks: []float64{10, 30, 50, 70, 90}, y: "P99 / time of an answer", lines: lines, logY: true, from: 0.9, to: 30})
	}
	return panels, nil
}

// prefix is where PREFIX_AWARE wins and where it hurts.
func prefix(ctx context.Context) ([]panel, error) {
	strategies := []string{random, least, aware}
	byPrefixes, err := sweep{
		"chat-prefixes", strategies,
		[]float64{10, 20, 50, 100, 200, 500, 1000, 2000, 5000},
		func(w *sim.Workload, n float64) { w.Prefixes.Distinct = int(n) },
		mean,
	}.lines(ctx)
	if err != nil {
		return nil, err
	}
	bySkew, err := sweep{
		"chat-prefixes", strategies,
		[]float64{0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2},
		func(w *sim.Workload, exponent float64) {
			w.Prefixes.Zipf = exponent
			w.Routing.ConcurrencyThreshold = 32
		},
		p99,
	}.lines(ctx)
	if err != nil {
		return nil, err
	}
	return []panel{
		{title: "Wins: many prefixes, a cache of 50 an instance", x: "distinct prefixes", y: "mean latency, s", lines: byPrefixes, logX: true, from: 0, to: 2.5},
		{title: "Hurts: few hot prefixes, threshold 32", x: "popularity (Zipf exponent; 0: all equal)", y: "P99 latency, s", lines: bySkew, from: 0, to: 12},
	}, nil
}

// slow is one slow instance of ten.
func slow(ctx context.Context) ([]panel, error) {
	var panels []panel
	for _, p := range []panel{
		{title: "P99 latency", y: "s", logY: true},
		{title: "Throughput", y: "requests per minute and instance"},
	} {
		figure := p99
		if !p.logY {
			figure = func(f sim.Figures) float64 { return f.Throughput }
		}
		lines, err := sweep{
			"one-slow-instance",
			[]string{random, sim.RoundRobin, least, sim.CentralQueue},
			[]float64{10, 20, 30, 40, 50, 60, 70, 80, 90, 100},
			func(w *sim.Workload, percent float64) { w.Instances[0].Speed = percent / 100 },
			figure,
		}.lines(ctx)
		if err != nil {
			return nil, err
		}
		p.x, p.lines, p.ticks = "speed of the slow one of ten instances, %", lines, []float64{20, 40, 60, 80, 100}
		if !p.logY {
			p.from, p.to = 0, 45
		}
		panels = append(panels, p)
	}
	return panels, nil
}

// heterogeneous is a fleet of two generations.
func heterogeneous(ctx context.Context) ([]panel, error) {
	strategies := []string{random, least, sim.CentralQueue}
	bySpeed, err := sweep{
		"two-generations", strategies,
		[]float64{40, 50, 60, 70, 80, 90, 100},
		func(w *sim.Workload, percent float64) {
			w.Instances[0].Speed = percent / 100
			// The same share of the whole fleet's capacity, whatever the mix.
			w.Load.Poisson = 0.45 * (1 + percent/100) / 1.5
		},
		p99,
	}.lines(ctx)
	if err != nil {
		return nil, err
	}
	byLoad, err := sweep{
		"two-generations", strategies,
		// Beyond this RANDOM gives the slower half more than it can do.
		[]float64{0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55},
		func(w *sim.Workload, rate float64) { w.Load.Poisson = rate },
		p99,
	}.lines(ctx)
	if err != nil {
		return nil, err
	}
	return []panel{
		{title: "Half of the fleet is slower", x: "speed of the slower half, %", y: "P99 latency, s", lines: bySpeed, from: 0, to: 40},
		{title: "Half at half the speed", x: "requests per second and instance", y: "P99 latency, s", lines: byLoad, from: 0, to: 40},
	}, nil
}

// mixed is short requests beside long ones.
func mixed(ctx context.Context) ([]panel, error) {
	strategies := []string{random, sim.RoundRobin, least, sim.CentralQueue}
	var panels []panel
	for _, p := range []panel{{title: "Median: the short requests"}, {title: "P99: the long ones"}} {
		// Where one in a hundred is long, P99 is either a short or a long one.
		figure, shares := p99, []float64{2, 3, 5, 10, 15, 20, 30}
		if len(panels) == 0 {
			figure, shares = func(f sim.Figures) float64 { return f.P50 }, []float64{0, 1, 2, 5, 10, 15, 20, 30}
		}
		lines, err := sweep{
			"mixed-lengths", strategies, shares,
			func(w *sim.Workload, percent float64) {
				w.Requests[0].Weight, w.Requests[1].Weight = 100-percent, percent
				if percent == 0 {
					w.Requests = w.Requests[:1]
				}
				w.Load.Poisson = 0.7 * 2 / w.MeanWork()
			},
			figure,
		}.lines(ctx)
		if err != nil {
			return nil, err
		}
		p.x, p.y, p.lines, p.logY = "long requests (20 times the work), %", "s", lines, true
		p.ticks = []float64{2, 10, 20, 30}
		panels = append(panels, p)
	}
	return panels, nil
}

// bound is how close LEAST_OUTSTANDING_REQUESTS is to what is possible.
func bound(ctx context.Context) ([]panel, error) {
	var panels []panel
	for _, p := range []struct {
		title string
		slots int
		alpha float64
	}{
		{"One slot an instance", 1, 0},
		{"Contention 0.38, no limit", 0, 0.38},
	} {
		lines, err := sweep{
			"large-fleet",
			[]string{random, sim.PowerOfTwoChoices, least, sim.CentralQueue},
			[]float64{10, 20, 30, 40, 50, 60, 70, 80, 90},
			func(w *sim.Workload, percent float64) {
				w.Sizes = []sim.Size{{Instances: 20}}
				w.Worker = sim.Worker{Concurrency: p.slots, Contention: p.alpha, Queue: -1}
				capacity := 1.0
				if p.alpha > 0 {
					capacity = 1 / p.alpha
				}
				w.Load.Poisson = percent / 100 * capacity
			},
			mean,
		}.lines(ctx)
		if err != nil {
			return nil, err
		}
		panels = append(panels, panel{title: p.title, x: "load, % of capacity, 20 instances", ticks: []float64{10, 30, 50, 70, 90}, y: "mean latency / work", lines: lines, logY: true, from: 0.95, to: 12})
	}
	return panels, nil
}

// stale is least-outstanding on old counts, beside choices that need few of them.
func stale(ctx context.Context) ([]panel, error) {
	ages := []float64{0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3}
	var panels []panel
	for _, instances := range []int{10, 100} {
		lines, err := sweep{
			"large-fleet",
			[]string{random, sim.StaleLeastOutstanding, sim.PowerOfTwoChoices, least},
			ages,
			func(w *sim.Workload, age float64) {
				w.Sizes = []sim.Size{{Instances: instances}}
				w.Load.Poisson, w.Routing.Stale = 2.8, sim.Quantity(age)
				w.Worker.Queue = -1
			},
			p99,
		}.lines(ctx)
		if err != nil {
			return nil, err
		}
		title := "10 instances of 4 slots, 70 % busy"
		if instances == 100 {
			title = "100 instances of 4 slots, 70 % busy"
		}
		panels = append(panels, panel{title: title, x: "age of the counts / mean work", y: "P99 latency / mean work", lines: lines, logX: true, logY: true, from: 4, to: 25})
	}
	return panels, nil
}
