package routelab

import (
	"strings"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/routelab/sim"
)

// simulatedRun is a run of RANDOM in virtual time, as a bench would have measured
// it.
func simulatedRun(t *testing.T, w *sim.Workload, name string, repetition int, seed uint64) *Run {
	t.Helper()
	result, err := sim.Run{
		Workload: w, Size: w.Sizes[0], Strategy: dataplane.StrategyRandom, Seed: seed, Requests: 600, WarmUp: 100,
	}.Simulate()
	if err != nil {
		t.Fatal(err)
	}
	return &Run{
		Strategy: name, Repetition: repetition, Seconds: result.Seconds,
		Requests: int64(result.Requests), completed: int64(result.Completed),
		Latency: result.Latency, Lag: new(hdrhistogram.Histogram), // µs for ns: the changes are the same
	}
}

// Equals that are compared 200 times: each interval leaves out zero about one time
// in twenty, and the sentence names a winner no more often than that, however many
// comparisons it makes.
func TestVerdictOnEqualsNamesAWinnerNoMoreOftenThanItSays(t *testing.T) {
	w, err := sim.Builtin("codegen2-7b-g5.24xlarge")
	if err != nil {
		t.Fatal(err)
	}
	w.Sizes = []sim.Size{{Instances: 4, Users: 16}}
	const trials, repetitions = 200, 3
	names := []string{"RANDOM", "a", "b"}
	winners, alone, seed := 0, 0, uint64(0)
	for range trials {
		var runs []*Run
		for repetition := range repetitions {
			for _, name := range names {
				seed++
				runs = append(runs, simulatedRun(t, w, name, repetition+1, seed))
			}
		}
		r := NewReport(Setup{Repetitions: repetitions}, names, runs)
		if strings.Contains(r.Verdict, "raises") || strings.Contains(r.Verdict, "lowers") {
			winners++
		}
		for _, name := range names[1:] {
			for _, metric := range []string{p99, throughput} {
				if r.change(name, metric).Sure() {
					alone++
				}
			}
		}
	}
	// 5 % of 200 and of 800, and three standard deviations.
	if winners > 10+9 {
		t.Errorf("%d of %d comparisons of equals have a winner, want one in twenty at most", winners, trials)
	}
	if alone < 40-19 || alone > 40+19 {
		t.Errorf("%d of %d intervals leave out zero, want about one in twenty", alone, 4*trials)
	}
}
