package sim

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/goccy/go-yaml"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Fit is a worker's model fitted to recorded requests.
type Fit struct {
	Requests  int `json:"requests"`
	Instances int `json:"instances"` // of one run
	Runs      int `json:"runs"`
	// Concurrency is the number of slots, 0 for unlimited; Contention is α.
	Concurrency int     `json:"concurrency"`
	Contention  float64 `json:"contention"`
	// Distribution of the work, with its mean in seconds and, if lognormal, sigma.
	Distribution string  `json:"distribution"`
	MeanSeconds  float64 `json:"mean_seconds"`
	Sigma        float64 `json:"sigma,omitempty"`
	// KS is the largest distance between the work's recorded distribution, as the
	// model sees it, and the fitted one (Kolmogorov and Smirnov): 0 is the same, up
	// to 1.
	KS float64 `json:"ks_distance"`
	// Quantiles compare the latencies of one recorded run with those of its
	// simulation, see predict.
	Quantiles []Quantile `json:"quantiles"`
	Verdict   string     `json:"verdict"`

	workload *Workload
}

// Quantile is one of a comparison.
type Quantile struct {
	Percentile float64 `json:"percentile"`
	Recorded   float64 `json:"recorded_seconds"`
	Predicted  float64 `json:"predicted_seconds"`
}

// Workload is the fitted model as a closed loop of as many users as the record
// had requests under way on average.
func (f *Fit) Workload() *Workload { return f.workload }

const (
	minRecords = 30
	// maxSlots is how many slots are tried; beyond it they count as unlimited.
	maxSlots = 64
	// maxContention bounds the search.
	maxContention = 16
	// empiricalAbove is the KS distance from which the recorded works stand for
	// themselves, and empiricalSamples how many of them.
	empiricalAbove   = 0.08
	empiricalSamples = 200
)

// Calibrate finds the slots, the contention and the distribution of the work
// under which the record is most likely. Given slots and contention, what each
// instance was doing at any moment, and so how fast, follows from when its
// requests came and went; each request's work is the integral of its speed. The
// likelihood of its end is then the density of that work times the speed at that
// moment. Who else was on an instance at the record's edges is not known, so the
// requests that came there are not counted.
//
// Without instances in the record the model is fitted to the concurrency at each
// start, if that is there; else the record is taken as one instance's.
func Calibrate(records []Record, seed uint64) (*Fit, error) {
	if len(records) < minRecords {
		return nil, fmt.Errorf("%d answered requests are too few to fit a model to; %d are the least", len(records), minRecords)
	}
	for _, r := range records {
		if r.Latency <= 0 {
			return nil, errors.New("a record has no latency_seconds above 0")
		}
	}
	c := newCalibration(records)
	best := c.search()
	if math.IsInf(best.likelihood, -1) {
		return nil, errors.New("no model explains the record")
	}
	fit := &Fit{
		Requests: len(records), Instances: c.instances, Runs: c.runs,
		Concurrency: best.slots, Contention: best.contention,
		Distribution: best.kind, MeanSeconds: best.mean, Sigma: best.sigma,
		KS: best.distance(),
	}
	fit.workload = fit.model(c, best.works)
	if err := fit.predict(c, seed); err != nil {
		return nil, err
	}
	fit.Verdict = fit.judge()
	return fit, nil
}

// calibration is a record, by instance.
type calibration struct {
	records   []Record
	stays     [][]stay // by instance, ordered by arrival
	direct    bool     // the concurrency at the start is all that is known
	counted   []bool   // by record: it came far enough from the edges of its run
	most      int      // requests at once on any instance
	instances int
	runs      int
	users     int // under way at once in a run, on average
}

// stay is one request's time on its instance.
type stay struct {
	from, to float64
	record   int
}

func newCalibration(records []Record) *calibration {
	c := &calibration{records: records}
	byName, runs := map[string][]stay{}, map[string]map[string]bool{}
	known, concurrent := true, true
	busy, first, last := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for i, r := range records {
		name := r.Instance
		if name == "" {
			name, known = r.Run+"/", false
		}
		concurrent = concurrent && r.Concurrency > 0
		byName[name] = append(byName[name], stay{r.Start, r.Start + r.Latency, i})
		if runs[r.Run] == nil {
			runs[r.Run], first[r.Run] = map[string]bool{}, r.Start
		}
		runs[r.Run][name] = true
		busy[r.Run] += r.Latency
		last[r.Run] = max(last[r.Run], r.Start+r.Latency)
	}
	c.direct = !known && concurrent
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c.stays = append(c.stays, byName[name])
		c.most = max(c.most, overlap(byName[name]))
	}
	users := 0.0
	for run, instances := range runs {
		c.instances = max(c.instances, len(instances))
		users = max(users, busy[run]/(last[run]-first[run]))
	}
	c.runs, c.users = len(runs), max(1, int(users+0.5))
	c.trim()
	return c
}

// trim leaves out the requests that came within the 99th percentile of latency
// of their run's first or last arrival, unless that were most of them. Leaving
// out by the arrival, not by the end, favours neither short nor long ones.
func (c *calibration) trim() {
	first, last := map[string]float64{}, map[string]float64{}
	latencies := make([]float64, len(c.records))
	for i, r := range c.records { // ordered by start
		if _, ok := first[r.Run]; !ok {
			first[r.Run] = r.Start
		}
		last[r.Run] = r.Start
		latencies[i] = r.Latency
	}
	slices.Sort(latencies)
	edge := latencies[len(latencies)*99/100]
	c.counted = make([]bool, len(c.records))
	left := 0
	for i, r := range c.records {
		c.counted[i] = r.Start >= first[r.Run]+edge && r.Start <= last[r.Run]-edge
		if c.counted[i] {
			left++
		}
	}
	if left < len(c.records)/2 {
		for i := range c.counted {
			c.counted[i] = true
		}
	}
}

// overlap is the most that are there at once.
func overlap(stays []stay) int {
	ends := make([]float64, len(stays))
	for i, s := range stays {
		ends[i] = s.to
	}
	slices.Sort(ends)
	most, gone := 0, 0
	for i, s := range stays {
		for ends[gone] <= s.from {
			gone++
		}
		most = max(most, i+1-gone)
	}
	return most
}

// candidate is one model, and how likely it makes the record.
type candidate struct {
	slots       int
	contention  float64
	kind        string
	mean, sigma float64
	likelihood  float64 // its logarithm
	works       []float64
}

// search tries every number of slots and, for each, finds the best contention.
func (c *calibration) search() candidate {
	best := candidate{likelihood: math.Inf(-1)}
	tried := []int{0}
	if !c.direct {
		for slots := 1; slots < min(c.most, maxSlots+1); slots++ {
			tried = append(tried, slots)
		}
	}
	for _, slots := range tried {
		got := c.bestContention(slots)
		if slots > 0 {
			// A limit has to earn its place (Schwarz's criterion, twice, for so many
			// limits are tried).
			got.likelihood -= math.Log(float64(len(c.records)))
		}
		if got.likelihood > best.likelihood {
			best = got
		}
	}
	return best
}

// bestContention scans a coarse grid, for the likelihood may have more than one
// hill, and then narrows by golden section.
func (c *calibration) bestContention(slots int) candidate {
	best := c.try(slots, 0)
	if math.IsInf(best.likelihood, -1) || c.most == 1 || slots == 1 {
		return best
	}
	const steps = 12
	at := func(i float64) float64 { return math.Pow(1+maxContention, i/steps) - 1 }
	top := 0.0
	for i := 1.0; i <= steps; i++ {
		if got := c.try(slots, at(i)); got.likelihood > best.likelihood {
			best, top = got, i
		}
	}
	low, high := at(max(top-1, 0)), at(min(top+1, steps))
	ratio := (math.Sqrt(5) - 1) / 2
	a, b := c.try(slots, high-ratio*(high-low)), c.try(slots, low+ratio*(high-low))
	for high-low > 1e-3*(1+low) {
		if a.likelihood > b.likelihood {
			high, b = b.contention, a
			a = c.try(slots, high-ratio*(high-low))
		} else {
			low, a = a.contention, b
			b = c.try(slots, low+ratio*(high-low))
		}
	}
	for _, got := range []candidate{a, b} {
		if got.likelihood > best.likelihood {
			best = got
		}
	}
	return best
}

// try fits the distribution under the given slots and contention; its likelihood
// is −∞ when the record contradicts them.
func (c *calibration) try(slots int, contention float64) candidate {
	works := make([]float64, len(c.records))
	speeds := 0.0 // the sum of the logarithms of the speeds at the ends
	for _, stays := range c.stays {
		var sum float64
		var ok bool
		if c.direct {
			sum, ok = c.directWorks(stays, contention, works), true
		} else {
			sum, ok = c.serve(stays, slots, contention, works)
		}
		if !ok {
			return candidate{slots: slots, contention: contention, likelihood: math.Inf(-1)}
		}
		speeds += sum
	}
	counted := make([]float64, 0, len(works))
	for i, w := range works {
		if c.counted[i] {
			counted = append(counted, w)
		}
	}
	works = counted
	got := fitWorks(works)
	got.slots, got.contention, got.works = slots, contention, works
	got.likelihood += speeds
	return got
}

// directWorks takes the concurrency at the start for the whole stay.
func (c *calibration) directWorks(stays []stay, contention float64, works []float64) float64 {
	sum := 0.0
	for _, s := range stays {
		speed := 1 / (1 + contention*float64(c.records[s.record].Concurrency-1))
		works[s.record] = (s.to - s.from) * speed
		if c.counted[s.record] {
			sum += math.Log(speed)
		}
	}
	return sum
}

// serve goes through an instance's record as the model would, and returns the sum
// of the logarithms of the speeds at the ends; false when a request ends that
// cannot have begun by then.
func (c *calibration) serve(stays []stay, slots int, contention float64, works []float64) (float64, bool) {
	ends := make([]int, len(stays)) // by time of end
	for i := range ends {
		ends[i] = i
	}
	sort.Slice(ends, func(a, b int) bool { return stays[ends[a]].to < stays[ends[b]].to })
	begun := make([]float64, len(stays)) // attained when it began; NaN: it waits
	for i := range begun {
		begun[i] = math.NaN()
	}
	var now, attained, sum float64
	running, arrived, next := 0, 0, 0 // next: the first that waits
	speed := func() float64 { return 1 / (1 + contention*float64(max(running, 1)-1)) }
	to := func(t float64) {
		if running > 0 {
			attained += (t - now) * speed()
		}
		now = t
	}
	begin := func() {
		for next < arrived && (slots == 0 || running < slots) {
			begun[next] = attained
			next++
			running++
		}
	}
	for _, i := range ends {
		for arrived < len(stays) && stays[arrived].from < stays[i].to {
			to(stays[arrived].from)
			arrived++
			begin()
		}
		to(stays[i].to)
		work := attained - begun[i]
		if !(work > 0) { // also when it waits
			return 0, false
		}
		works[stays[i].record] = work
		if c.counted[stays[i].record] {
			sum += math.Log(speed())
		}
		running--
		begin()
	}
	return sum, true
}

// fitWorks is the likelier of a lognormal and an exponential distribution.
func fitWorks(works []float64) candidate {
	n := float64(len(works))
	var sum, logs, squares float64
	for _, w := range works {
		l := math.Log(w)
		sum += w
		logs += l
		squares += l * l
	}
	mu := logs / n
	// Equal works have a likelihood without bound; a spread of 10⁻⁶ is equal.
	sigma := math.Max(math.Sqrt(math.Max(squares/n-mu*mu, 0)), 1e-6)
	lognormal := candidate{
		kind: Lognormal, sigma: sigma, mean: math.Exp(mu + sigma*sigma/2),
		likelihood: -logs - n*math.Log(sigma*math.Sqrt(2*math.Pi)) - n/2*math.Min(1, (squares/n-mu*mu)/(sigma*sigma)),
	}
	exponential := candidate{kind: Exponential, mean: sum / n, likelihood: -n * (math.Log(sum/n) + 1)}
	// One parameter more has to earn its place (Akaike's criterion).
	if exponential.likelihood > lognormal.likelihood-1 {
		return exponential
	}
	return lognormal
}

// distance is Kolmogorov's and Smirnov's between the works and the fit.
func (c candidate) distance() float64 {
	sorted := slices.Sorted(slices.Values(c.works))
	cdf := distuv.Exponential{Rate: 1 / c.mean}.CDF
	if c.kind == Lognormal {
		cdf = distuv.LogNormal{Mu: math.Log(c.mean) - c.sigma*c.sigma/2, Sigma: c.sigma}.CDF
	}
	n, most := float64(len(sorted)), 0.0
	for i, w := range sorted {
		p := cdf(w)
		most = max(most, p-float64(i)/n, float64(i+1)/n-p)
	}
	return most
}

// model is the fit as a workload.
func (f *Fit) model(c *calibration, works []float64) *Workload {
	latency := Distribution{Kind: f.Distribution, Mean: Quantity(f.MeanSeconds), Sigma: f.Sigma}
	if f.KS > empiricalAbove {
		sorted := slices.Sorted(slices.Values(works))
		latency = Distribution{Kind: Empirical}
		for i := range empiricalSamples {
			at := (float64(i) + 0.5) / empiricalSamples * float64(len(sorted))
			latency.Samples = append(latency.Samples, Quantity(sorted[int(at)]))
		}
	}
	return &Workload{
		Name:        "calibrated",
		Description: fmt.Sprintf("Fitted to %d recorded requests", f.Requests),
		Sizes:       []Size{{Instances: f.Instances, Users: c.users}},
		Worker:      Worker{Concurrency: f.Concurrency, Contention: f.Contention, Queue: -1},
		Requests:    []Request{{Latency: latency}},
	}
}

// predict simulates the record's first run and compares the latencies. Requests
// go where the recorded strategy sends them or, without one, to the recorded
// instances in turn. They come when the recorded ones came, unless as many were
// under way all the time: then it was a closed loop, and is simulated as one.
func (f *Fit) predict(c *calibration, seed uint64) error {
	run := c.records[0].Run
	var records []Record
	for _, r := range c.records {
		if r.Run == run {
			records = append(records, r)
		}
	}
	replay := *f.workload
	pins, instances := pinned(records)
	replay.Sizes = []Size{{Instances: instances}}
	strategy := records[0].Strategy
	if strategy == dataplane.StrategyPrefixAware || CheckStrategy(strategy) != nil {
		strategy = dataplane.StrategyRandom
	} else {
		for i := range pins {
			pins[i] = -1
		}
	}
	if users, closed := closedLoop(records); closed {
		replay.Sizes[0].Users, replay.Load.pins = users, pins
	} else {
		for i, r := range records {
			replay.Load.arrivals = append(replay.Load.arrivals, arrival{r.Start - records[0].Start, pins[i]})
		}
	}
	latencies := make([]float64, len(records))
	for i, r := range records {
		latencies[i] = r.Latency
	}
	slices.Sort(latencies)
	// Each repetition draws other works; together they predict the mean run.
	const repetitions = 5
	predicted := hdrhistogram.New(1, maxLatency, precision)
	for i := range repetitions {
		result, err := Run{
			Workload: &replay, Size: replay.Sizes[0], Strategy: strategy,
			Seed: repeat(seed, i), Requests: len(records),
		}.Simulate()
		if err != nil {
			return err
		}
		predicted.Merge(result.Latency)
	}
	for _, p := range []float64{10, 50, 90, 99} {
		f.Quantiles = append(f.Quantiles, Quantile{
			Percentile: p,
			Recorded:   latencies[min(int(p/100*float64(len(latencies))), len(latencies)-1)],
			Predicted:  float64(predicted.ValueAtPercentile(p)) / 1e6,
		})
	}
	return nil
}

// pinned numbers the instances as they appear.
func pinned(records []Record) (pins []int32, instances int) {
	numbers := map[string]int32{}
	for _, r := range records {
		n, ok := numbers[r.Instance]
		if !ok {
			n = int32(len(numbers))
			numbers[r.Instance] = n
		}
		pins = append(pins, n)
	}
	return pins, len(numbers)
}

// closedLoop tells whether the number of requests under way stays put, as that of
// a closed loop without think time does, and what it is. In an open loop its
// variance is about its mean or larger.
func closedLoop(records []Record) (users int, closed bool) {
	type change struct {
		at float64
		by float64
	}
	var changes []change
	for _, r := range records {
		changes = append(changes, change{r.Start, 1}, change{r.Start + r.Latency, -1})
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	// The middle, for a record begins and ends with nobody.
	from, to := records[len(records)/10].Start, records[len(records)*9/10].Start
	var n, last, span, sum, squares float64
	for _, c := range changes {
		if at := min(max(c.at, from), to); at > last || last == 0 {
			begin := min(max(last, from), to)
			span += at - begin
			sum += n * (at - begin)
			squares += n * n * (at - begin)
			last = at
		}
		n += c.by
	}
	if span <= 0 || sum <= 0 {
		return 1, false
	}
	mean := sum / span
	variance := squares/span - mean*mean
	return max(1, int(mean+0.5)), variance < 0.3*mean
}

// judge says how well it fits, in a sentence.
func (f *Fit) judge() string {
	worst := Quantile{}
	off := func(q Quantile) float64 { return math.Abs(q.Predicted/q.Recorded - 1) }
	for _, q := range f.Quantiles {
		if worst.Recorded == 0 || off(q) > off(worst) {
			worst = q
		}
	}
	within := func(share float64) bool {
		for _, q := range f.Quantiles {
			allowed := share
			if q.Percentile >= 99 { // one run's P99 is itself known to so much only
				allowed *= 2
			}
			if off(q) > allowed {
				return false
			}
		}
		return true
	}
	word := "poor"
	switch {
	case within(0.1) && f.KS <= empiricalAbove:
		word = "good"
	case within(0.25):
		word = "fair"
	}
	return fmt.Sprintf("a %s fit: P%g is predicted worst, by %.0f %%, and the distance to the %s distribution is %.3f",
		word, worst.Percentile, 100*off(worst), f.Distribution, f.KS)
}

// Print writes the workload in YAML under comments on the fit.
func (f *Fit) Print(out io.Writer) error {
	slots := "unlimited"
	if f.Concurrency > 0 {
		slots = fmt.Sprint(f.Concurrency)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %d requests to %d instances in %d runs; %s.\n", f.Requests, f.Instances, f.Runs, f.Verdict)
	fmt.Fprintf(&b, "# concurrency %s, contention %.3g, work %s with mean %.4g s", slots, f.Contention, f.Distribution, f.MeanSeconds)
	if f.Distribution == Lognormal {
		fmt.Fprintf(&b, " and sigma %.3g", f.Sigma)
	}
	b.WriteString("\n# percentile  recorded s  predicted s\n")
	for _, q := range f.Quantiles {
		fmt.Fprintf(&b, "#  P%-9g  %10.4g  %11.4g\n", q.Percentile, q.Recorded, q.Predicted)
	}
	text, err := yaml.Marshal(f.workload)
	if err != nil {
		return err
	}
	b.Write(text)
	_, err = io.WriteString(out, b.String())
	return err
}
