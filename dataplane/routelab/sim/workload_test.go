package sim

import (
	"strings"
	"testing"
)

func TestBuiltinWorkloadsAreValidAndNamedAsTheirFiles(t *testing.T) {
	for _, name := range Names() {
		if w, err := Builtin(name); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if w.Name != name {
			t.Errorf("%s calls itself %s", name, w.Name)
		}
	}
	if _, err := Builtin("../engine"); err == nil {
		t.Error("a path outside is a workload")
	}
}

const sample = `name: sample
sizes:
  - {instances: 2, users: 4}
worker: {concurrency: 1, contention: 0}
requests:
  - latency: {mean: 250ms}
`

func TestWhatIsWrongWithAWorkloadIsTold(t *testing.T) {
	for _, test := range []struct{ old, new, want string }{
		{"", "", ""},
		{"250ms", "0.25", ""},
		{"contention: 0", "contention: 0, speed: 3", "[4:"},
		{"250ms", "soon", "[6:"},
		{"250ms", "-1s", "requests[0]: latency"},
		{"users: 4", "users: 0", "sizes[0]: users"},
		{"instances: 2", "instances: 0", "sizes[0]: instances"},
		{"name: sample", "description: x", "name is missing"},
		{"worker:", "load: {poisson: 3}\nworker:", "users belongs to a closed loop"},
		{"worker:", "load: {poisson: 3, constant: 2}\nworker:", "exclude each other"},
		{"worker:", "instances: [{count: 3, speed: 2}]\nworker:", "more than the 2"},
		{"worker:", "instances: [{share: .5, count: 1}]\nworker:", "either count"},
		{"worker:", "prefixes: {distinct: 0, cache: 1}\nworker:", "distinct"},
		{"worker:", "failures: {between: 1s}\nworker:", "failures"},
		{"mean: 250ms", "mean: 250ms, sigma: 1", "sigma belongs"},
		{"mean: 250ms", "distribution: empirical", "samples"},
		{"mean: 250ms", "distribution: uniform", "uniform"},
		{sample, "", "empty"},
	} {
		_, err := Parse([]byte(strings.Replace(sample, test.old, test.new, 1)))
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q: %v", test.new, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: got %v, want %q", test.new, err, test.want)
		}
	}
}

// Whatever text is a workload can be simulated, and no text does harm.
func FuzzWorkload(f *testing.F) {
	f.Add(sample)
	for _, name := range Names() {
		text, err := builtin.ReadFile("workloads/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := Parse([]byte(text))
		if err != nil || w.Load.Trace != "" || w.Sizes[0].Instances > 100 || w.Sizes[0].Users > 1000 ||
			w.Prefixes != nil && w.Prefixes.Distinct > 1000 {
			return
		}
		for _, strategy := range Strategies {
			if _, err := (Run{Workload: w, Size: w.Sizes[0], Strategy: strategy, Requests: 20}).Simulate(); err != nil {
				t.Fatalf("%s: %v", strategy, err)
			}
		}
	})
}
