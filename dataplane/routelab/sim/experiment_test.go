package sim

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// failing is a workload whose requests all take longer than their instances live.
func failing(t *testing.T) *Workload {
	t.Helper()
	w := &Workload{
		Name: "failing", Sizes: []Size{{Instances: 2, Users: 2}},
		Requests: []Request{{Latency: Distribution{Mean: 1e5}}}, Failures: &Failures{Between: 1, Lasting: 1},
	}
	if err := w.Validate(); err != nil {
		t.Fatal(err)
	}
	return w
}

// summaryJSON is a strategy's summary as a reader of the JSON sees it.
func summaryJSON(t *testing.T, x Experiment) map[string]any {
	t.Helper()
	report, err := x.Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(report.Rows[0].Strategies[dataplane.StrategyRandom])
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	return members
}

func TestLatenciesAreUnknownWhenNoRequestIsAnswered(t *testing.T) {
	got := summaryJSON(t, Experiment{Workload: failing(t), Seed: 1, Repetitions: 3, Requests: 200})
	if got["requests"] != 600.0 || got["errors"] != 600.0 {
		t.Errorf("%v of %v requests failed, want all of 600", got["errors"], got["requests"])
	}
	for _, name := range []string{"p50_seconds", "p99_seconds", "mean_seconds"} {
		if v, ok := got[name]; !ok || v != nil {
			t.Errorf("%s is %v without an answer, want null", name, v)
		}
	}
	if got["throughput_per_instance_per_minute"] != 0.0 {
		t.Errorf("throughput is %v, want 0", got["throughput_per_instance_per_minute"])
	}
}

func TestOneRepetitionHasNoConfidenceInterval(t *testing.T) {
	w := builtinWorkload(t, "mixed-lengths")
	for repetitions, known := range map[int]bool{1: false, 2: true} {
		got := summaryJSON(t, Experiment{Workload: w, Seed: 1, Repetitions: repetitions, Requests: 200})
		for name, v := range got {
			if !strings.HasSuffix(name, "_ci95") {
				continue
			}
			for _, end := range v.([]any) {
				if (end != nil) != known {
					t.Errorf("%d repetitions: %s is %v", repetitions, name, v)
				}
			}
		}
	}
}

func TestExperimentStopsWithinARun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := Experiment{Workload: builtinWorkload(t, "mixed-lengths"), Seed: 1, Requests: 1e9, Repetitions: 1}.Do(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after %v: %v, want that time is up", time.Since(begun), err)
	}
}

// Counts that are learned more often than the clock can tell are exact ones.
func TestCountsLearnedAllTheTimeAreNotStale(t *testing.T) {
	w := builtinWorkload(t, "mixed-lengths")
	w.Routing.Stale = 1e-9
	result, err := Run{Workload: w, Size: w.Sizes[0], Strategy: StaleLeastOutstanding, Seed: 1, Requests: 20_000, WarmUp: 1_000}.Simulate()
	if err != nil {
		t.Fatal(err)
	}
	exact, err := Run{Workload: w, Size: w.Sizes[0], Strategy: dataplane.StrategyLeastOutstanding, Seed: 1, Requests: 20_000, WarmUp: 1_000}.Simulate()
	if err != nil {
		t.Fatal(err)
	}
	if ratio := result.MeanSeconds / exact.MeanSeconds; ratio < 0.98 || ratio > 1.02 {
		t.Errorf("the mean is %v of that of exact counts", ratio)
	}
}
