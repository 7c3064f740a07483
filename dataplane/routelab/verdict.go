package routelab

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// verdict is what the comparison comes to, in one sentence that says how sure it
// is.
func (r *Report) verdict() string {
	var total int64
	repetitions := math.MaxInt
	for i := range r.Strategies {
		total += r.Strategies[i].Requests
		repetitions = min(repetitions, r.Strategies[i].Repetitions)
	}
	switch {
	case total == 0:
		return "No request was answered with success: there is nothing to judge."
	case len(r.Strategies) == 1:
		return r.single()
	case repetitions == 0:
		return "Not every strategy was measured: there is nothing to compare."
	}
	var clauses []string
	for i := range r.Strategies {
		name := r.Strategies[i].Strategy
		if c := r.change(name, p99); c.Strategy != "" {
			clauses = append(clauses, r.clause(name))
		}
	}
	baseline := r.Changes[0].Baseline
	sure := fmt.Sprintf("; %d repetitions, intervals widened to hold together.", repetitions)
	if repetitions < 2 {
		sure = " in a single repetition, which may be chance; more --repetitions would tell."
	}
	if share := r.failedShare(); share > doubtfulErrors {
		sure = fmt.Sprintf(", but %s %% of the requests of one failed%s", percent(share), sure)
	}
	if len(clauses) == 1 {
		return clauses[0] + " against " + baseline + sure
	}
	return "Against " + baseline + ", " + strings.Join(clauses, "; ") + sure
}

// failedShare is that of the strategy with the most failures.
func (r *Report) failedShare() (worst float64) {
	for i := range r.Strategies {
		s := &r.Strategies[i]
		if total := s.Failed() + s.Requests; total > 0 {
			worst = max(worst, float64(s.Failed())/float64(total))
		}
	}
	return worst
}

// single is the verdict on one strategy alone.
func (r *Report) single() string {
	s := &r.Strategies[0]
	latency, rate := s.Metrics[p99], s.Metrics[throughput]
	text := fmt.Sprintf("%s answers %s requests a second with a P99 of %s", s.Strategy, formatRate(rate.Mean), formatSeconds(latency.Mean))
	if math.IsNaN(latency.Low) {
		return text + ", in a single repetition."
	}
	return fmt.Sprintf("%s (95 %% CI %s to %s); %d repetitions.", text, formatSeconds(max(0, latency.Low)), formatSeconds(latency.High), s.Repetitions)
}

// clause says what a strategy does to P99 and to throughput. In an open loop the
// arrivals set the throughput, so it is told only where it changed for sure. The
// sentence names a winner by any of its intervals, so that all of them have to
// hold: each alone would let one comparison of equals in ten have one.
func (r *Report) clause(strategy string) string {
	intervals := 2 * (len(r.Strategies) - 1)
	latency, rate := r.change(strategy, p99).together(intervals), r.change(strategy, throughput).together(intervals)
	latencyText, rateText := effect("P99", latency), effect("throughput", rate)
	switch {
	case math.IsNaN(latency.Low):
		return fmt.Sprintf("%s measured a P99 %s and a throughput %s", strategy, different(latency.Change), different(rate.Change))
	case r.Setup.Open && !rate.Sure():
		return strategy + " " + latencyText
	case !latency.Sure() && !rate.Sure():
		return fmt.Sprintf("%s has no effect that is sure on P99 (%s) or on throughput (%s)", strategy, around(latency), around(rate))
	}
	return fmt.Sprintf("%s %s and %s", strategy, latencyText, rateText)
}

// effect is "lowers P99 by 24 % (95 % CI 18–30 %)", or that nothing is sure.
func effect(what string, c Change) string {
	switch {
	case c.High < 0:
		return fmt.Sprintf("lowers %s by %s %% (95 %% CI %s–%s %%)", what, percent(-c.Change), percent(-c.High), percent(-c.Low))
	case c.Low > 0:
		return fmt.Sprintf("raises %s by %s %% (95 %% CI %s–%s %%)", what, percent(c.Change), percent(c.Low), percent(c.High))
	}
	return fmt.Sprintf("has no effect on %s that is sure (%s)", what, around(c))
}

// around is a change whose sign is not known: "−5 %, 95 % CI −15 to +6 %".
func around(c Change) string {
	if math.IsNaN(c.Change) {
		return "unknown"
	}
	return fmt.Sprintf("%s %%, 95 %% CI %s to %s %%", signed(c.Change), signed(c.Low), signed(c.High))
}

func different(change float64) string {
	switch {
	case math.IsNaN(change):
		return "that is unknown"
	case change < 0:
		return percent(-change) + " % lower"
	}
	return percent(change) + " % higher"
}

// percent has one decimal below ten, where it matters.
func percent(fraction float64) string {
	if p := fraction * 100; math.Abs(p) < 9.95 {
		return fmt.Sprintf("%.1f", p)
	}
	return fmt.Sprintf("%.0f", fraction*100)
}

func signed(fraction float64) string {
	text := percent(fraction)
	if number, negative := strings.CutPrefix(text, "-"); negative {
		return "−" + number
	}
	return "+" + text
}

// A figure that rests on less than these is noted.
const (
	fewRequests = 1000  // a repetition: ten beyond P99
	notedErrors = 0.001 // of the requests
	// doubtfulErrors are enough to put the comparison in doubt: errors are often
	// faster, or slower, than answers.
	doubtfulErrors = 0.01
	notedLag       = 5e-3 // seconds that the client was late, at P99
	notedLagPart   = 0.05 // of the median latency
)

// notes are the reservations.
func (r *Report) notes() []string {
	var notes []string
	if r.Interrupted {
		notes = append(notes, "Interrupted: the figures are of what was measured until then.")
	}
	for i := range r.Strategies {
		s := &r.Strategies[i]
		if failed := s.Failed(); float64(failed) > notedErrors*float64(failed+s.Requests) {
			notes = append(notes, fmt.Sprintf("%s: %s %% of the requests failed (%s); the percentiles are of the others.",
				s.Strategy, percent(float64(failed)/float64(failed+s.Requests)), errorList(s.Errors)))
		}
		if s.NotSent > 0 {
			notes = append(notes, fmt.Sprintf("%s: %d arrivals were never sent, because as many requests as allowed were in flight; one had waited %s. Its true percentiles are higher than those shown.",
				s.Strategy, s.NotSent, formatSeconds(longestUnsent(s.Runs))))
		}
		if lag := worstLag(s.Runs); r.Setup.Open && s.NotSent == 0 && lag > max(notedLag, notedLagPart*s.Metrics["p50_seconds"].Mean) {
			notes = append(notes, fmt.Sprintf("%s: the client itself sent late, by %s at P99; it needs more processor than it had. The latencies include it.", s.Strategy, formatSeconds(lag)))
		}
	}
	if n := fewest(r.Strategies); n < fewRequests {
		notes = append(notes, fmt.Sprintf("A repetition has only %d requests: its P99 rests on %d of them, and P99.9 says little.", n, n/100))
	}
	return notes
}

func longestUnsent(runs []*Run) (longest float64) {
	for _, r := range runs {
		longest = max(longest, r.LongestUnsentSeconds)
	}
	return longest
}

// fewest are the requests of the smallest repetition.
func fewest(strategies []Summary) int64 {
	least := int64(math.MaxInt64)
	for _, s := range strategies {
		for _, r := range s.Runs {
			least = min(least, r.Requests)
		}
	}
	return least
}

func worstLag(runs []*Run) (worst float64) {
	for _, r := range runs {
		worst = max(worst, float64(r.Lag.ValueAtPercentile(99))/1e9)
	}
	return worst
}

// errorList is "ModelError 12, timeout 3", the most frequent first.
func errorList(errors map[string]int64) string {
	kinds := make([]string, 0, len(errors))
	for kind := range errors {
		kinds = append(kinds, kind)
	}
	slices.SortFunc(kinds, func(a, b string) int {
		if errors[a] != errors[b] {
			return int(errors[b] - errors[a])
		}
		return strings.Compare(a, b)
	})
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%s %d", kind, errors[kind])
	}
	return strings.Join(kinds, ", ")
}
