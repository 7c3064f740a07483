package sim

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// calibration is a record, by instance.
type calibration struct {
	records   []Record
	stays     [][]stay // by instance, ordered by arrival
	ends      [][]int  // by instance: the same stays by time of end
	direct    bool     // the concurrency at the start is all that is known
	counted   []bool   // by record: it came far enough from the edges of its run
	most      int      // requests at once on any instance
	instances int
	runs      int
	closed    bool
	users     int // of a closed loop, see closedLoop
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
	for i, r := range records {
		name := r.Instance
		if name == "" {
			name, known = r.Run+"/", false
		}
		concurrent = concurrent && r.Concurrency > 0
		byName[name] = append(byName[name], stay{r.Start, r.Start + r.Latency, i})
		if runs[r.Run] == nil {
			runs[r.Run] = map[string]bool{}
		}
		runs[r.Run][name] = true
	}
	c.direct = !known && concurrent
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		stays := byName[name]
		ends := make([]int, len(stays))
		for i := range ends {
			ends[i] = i
		}
		slices.SortStableFunc(ends, func(a, b int) int { return cmp.Compare(stays[a].to, stays[b].to) })
		c.stays, c.ends = append(c.stays, stays), append(c.ends, ends)
		c.most = max(c.most, overlap(stays))
	}
	for _, instances := range runs {
		c.instances = max(c.instances, len(instances))
	}
	c.runs = len(runs)
	c.users, c.closed = closedLoop(c.firstRun())
	c.trim()
	return c
}

// firstRun is its records.
func (c *calibration) firstRun() []Record {
	var records []Record
	for _, r := range c.records {
		if r.Run == c.records[0].Run {
			records = append(records, r)
		}
	}
	return records
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
	if math.IsInf(best.likelihood, -1) || c.uncontended(slots) {
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

// uncontended tells that no two requests are seen at work on one instance.
func (c *calibration) uncontended(slots int) bool {
	return slots == 1 || c.most == 1 && !c.direct
}

// contentionRange is where the contention is with 95 % confidence, given the number
// of slots: where the record is not less likely than e^-1.92 of the best (the
// profile likelihood, Wilks' theorem: half of χ²'s 95th percentile of one degree).
func (c *calibration) contentionRange(best candidate) (low, high float64) {
	const fall = 1.92
	if c.uncontended(best.slots) {
		return 0, maxContention
	}
	top := c.try(best.slots, best.contention).likelihood // the search has charged for slots
	inside := func(contention float64) bool { return c.try(best.slots, contention).likelihood >= top-fall }
	edge := func(outside float64) float64 {
		if inside(outside) {
			return outside
		}
		in := best.contention
		for math.Abs(outside-in) > 1e-3*(1+in) {
			if middle := (in + outside) / 2; inside(middle) {
				in = middle
			} else {
				outside = middle
			}
		}
		return in
	}
	return edge(0), edge(maxContention)
}

// try fits the distribution under the given slots and contention; its likelihood
// is −∞ when the record contradicts them.
func (c *calibration) try(slots int, contention float64) candidate {
	works := make([]float64, len(c.records))
	speeds := 0.0 // the sum of the logarithms of the speeds at the ends
	begun := make([]float64, len(c.records))
	for i, stays := range c.stays {
		var sum float64
		var ok bool
		if c.direct {
			sum, ok = c.directWorks(stays, contention, works), true
		} else {
			sum, ok = c.serve(stays, c.ends[i], begun[:len(stays)], candidate{slots: slots, contention: contention}, works)
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
// cannot have begun by then. It uses begun for what was attained when each began.
func (c *calibration) serve(stays []stay, ends []int, begun []float64, model candidate, works []float64) (float64, bool) {
	for i := range begun {
		begun[i] = math.NaN() // it waits
	}
	var now, attained, sum float64
	running, arrived, next := 0, 0, 0 // next: the first that waits
	speed := func() float64 { return 1 / (1 + model.contention*float64(max(running, 1)-1)) }
	to := func(t float64) {
		if running > 0 {
			attained += (t - now) * speed()
		}
		now = t
	}
	begin := func() {
		for next < arrived && (model.slots == 0 || running < model.slots) {
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

// equalWithin is the relative spread up to which works are a constant: the fitted
// contention is known to no more, nor is a recorded latency.
const equalWithin = 1e-3

// fitWorks is the likelier of a lognormal and an exponential distribution, or a
// constant.
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
	if sigma <= equalWithin {
		lognormal.kind, lognormal.sigma, lognormal.mean = Constant, 0, sum/n
	}
	// One parameter more has to earn its place (Akaike's criterion).
	if exponential.likelihood > lognormal.likelihood-1 {
		return exponential
	}
	return lognormal
}

// distance is Kolmogorov's and Smirnov's between the works and the fit.
func (c candidate) distance() float64 {
	if c.kind == Constant {
		return 0
	}
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
