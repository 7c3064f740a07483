package sim

import (
	"context"
	"math"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane"
)

// measured runs a workload of one size and returns the strategy's summary.
func measured(t *testing.T, w *Workload, strategy string, requests int) *Summary {
	t.Helper()
	if err := w.Validate(); err != nil {
		t.Fatal(err)
	}
	report, err := Experiment{Workload: w, Strategies: []string{strategy}, Seed: 7, Requests: requests}.Do(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return report.Rows[0].Strategies[strategy]
}

// within checks that theory lies in the confidence interval, widened by a half,
// because one in twenty lies outside of it by chance.
func within(t *testing.T, what string, ci Interval, want float64) {
	t.Helper()
	middle, half := float64(ci[0]+ci[1])/2, ci.Half()
	if math.Abs(middle-want) > 1.5*half {
		t.Errorf("%s is within %.5g ± %.2g, theory says %.5g", what, middle, half, want)
	}
	if half > 0.05*want {
		t.Errorf("%s is known to ± %.2g only of %.5g", what, half, want)
	}
}

// queue is a workload of one instance and Poisson arrivals.
func queue(rate float64, worker Worker, latency Distribution) *Workload {
	worker.Queue = -1
	return &Workload{
		Name: "queue", Sizes: []Size{{Instances: 1}}, Load: Load{Poisson: rate},
		Worker: worker, Requests: []Request{{Latency: latency}},
	}
}

// erlangC is the probability that a request waits in M/M/c with offered load a.
func erlangC(c int, a float64) float64 {
	b := 1.0
	for k := 1; k <= c; k++ {
		b = a * b / (float64(k) + a*b)
	}
	return b / (1 - a/float64(c)*(1-b))
}

func TestMeanWaitOfMMcIsErlangs(t *testing.T) {
	for _, test := range []struct {
		servers int
		load    float64
	}{{1, 0.5}, {1, 0.8}, {4, 0.7}, {16, 0.85}} {
		rate := test.load * float64(test.servers)
		w := queue(rate, Worker{Concurrency: test.servers}, Distribution{Kind: Exponential, Mean: 1})
		want := 1 + erlangC(test.servers, rate)/(float64(test.servers)-rate)
		within(t, "mean", measured(t, w, dataplane.StrategyRandom, 60_000).MeanCI, want)
	}
}

// The bound of a fleet of c instances of one slot is one queue with c servers.
func TestCentralQueueIsMMc(t *testing.T) {
	w := queue(0.85, Worker{Concurrency: 1}, Distribution{Kind: Exponential, Mean: 1})
	w.Sizes[0].Instances = 16
	want := 1 + erlangC(16, 0.85*16)/(16-0.85*16)
	within(t, "mean", measured(t, w, CentralQueue, 60_000).MeanCI, want)
}

// The mean under processor sharing depends on nothing but the mean of the work.
func TestProcessorSharingIsInsensitive(t *testing.T) {
	for _, latency := range []Distribution{
		{Kind: Constant, Mean: 1},
		{Kind: Exponential, Mean: 1},
		{Kind: Lognormal, Mean: 1, Sigma: 1.2},
		{Kind: Empirical, Samples: []Quantity{0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 7.75}},
	} {
		got := measured(t, queue(0.7, Worker{Contention: 1}, latency), dataplane.StrategyRandom, 60_000)
		within(t, latency.Kind+" mean", got.MeanCI, 1/(1-0.7))
	}
}

// A third of the requests would get through M/M/1 with room for one and a load of
// two: an M/M/1/2 queue refuses 4/7.
func TestFullQueueRefusesAsErlangSays(t *testing.T) {
	w := queue(2, Worker{Concurrency: 1}, Distribution{Kind: Exponential, Mean: 1})
	w.Worker.Queue = 1
	got := measured(t, w, dataplane.StrategyRandom, 50_000)
	if share := float64(got.Errors) / float64(got.Requests); math.Abs(share-4.0/7) > 0.005 {
		t.Errorf("%.4f are refused, theory says %.4f", share, 4.0/7)
	}
}

func TestLittlesLawHolds(t *testing.T) {
	for _, name := range Names() {
		w, err := Builtin(name)
		if err != nil {
			t.Fatal(err)
		}
		if w.Failures != nil { // broken requests were outstanding too
			continue
		}
		for _, strategy := range Strategies {
			size := w.Sizes[len(w.Sizes)-1]
			size.Instances, size.Users = min(size.Instances, 20), min(size.Users, 80)
			r, err := Run{Workload: w, Size: size, Strategy: strategy, Seed: 3, Requests: 40_000, WarmUp: 4_000}.Simulate()
			if err != nil {
				t.Fatal(err)
			}
			want := float64(r.Completed) / r.Seconds * r.MeanSeconds
			if math.Abs(r.Outstanding/want-1) > 0.01 {
				t.Errorf("%s under %s: %.4f outstanding, rate times mean latency is %.4f", name, strategy, r.Outstanding, want)
			}
		}
	}
}

// Users who think and one server that repairs: the machine-repair model.
func TestClosedLoopIsMachineRepair(t *testing.T) {
	const users, think = 10, 8.0
	w := queue(0, Worker{Concurrency: 1}, Distribution{Kind: Exponential, Mean: 1})
	w.Load = Load{Think: Distribution{Kind: Exponential, Mean: think}}
	w.Sizes = []Size{{Instances: 1, Users: users}}
	term, sum := 1.0, 1.0
	for k := 1; k <= users; k++ {
		term *= float64(users-k+1) / think
		sum += term
	}
	throughput := 1 - 1/sum
	got := measured(t, w, dataplane.StrategyRandom, 60_000)
	within(t, "throughput", got.ThroughputCI, 60*throughput)
	within(t, "mean", got.MeanCI, users/throughput-think)
}

// Random routing in a closed loop over m single servers is a closed Jackson
// network: each is busy N/(N+m−1) of the time.
func TestRandomClosedLoopIsJacksonNetwork(t *testing.T) {
	w := queue(0, Worker{Contention: 1}, Distribution{Kind: Lognormal, Mean: 1, Sigma: 0.5})
	w.Load, w.Sizes = Load{}, []Size{{Instances: 5, Users: 20}}
	got := measured(t, w, dataplane.StrategyRandom, 60_000)
	within(t, "throughput", got.ThroughputCI, 60*20.0/24)
}

func TestNothingBeatsTheCentralQueue(t *testing.T) {
	for _, name := range Names() {
		w, err := Builtin(name)
		if err != nil {
			t.Fatal(err)
		}
		w.Sizes = []Size{{Instances: min(w.Sizes[0].Instances, 20), Users: min(w.Sizes[0].Users, 80)}}
		report, err := Experiment{Workload: w, Strategies: Strategies, Seed: 5, Repetitions: 4, Requests: 8_000}.Do(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		row := report.Rows[0].Strategies
		for _, strategy := range Strategies {
			if row[strategy].Mean < 0.995*row[CentralQueue].Mean {
				t.Errorf("%s: %s has mean %v, the bound %v", name, strategy, row[strategy].Mean, row[CentralQueue].Mean)
			}
			if row[strategy].Throughput > 1.005*row[CentralQueue].Throughput {
				t.Errorf("%s: %s has throughput %v, the bound %v", name, strategy, row[strategy].Throughput, row[CentralQueue].Throughput)
			}
		}
	}
}

// The bound holds for fleets that are not uniform and for contention of any
// strength too.
func TestNothingBeatsTheCentralQueueOfAMixedFleet(t *testing.T) {
	for _, test := range []struct {
		name   string
		worker Worker
		kinds  []Kind
		users  int // 0: an open loop
	}{
		{"one with slots among unlimited", Worker{Contention: 0.3}, []Kind{{Count: 1, Speed: 3, Concurrency: 5}}, 17},
		{"the same in an open loop", Worker{Contention: 0.3}, []Kind{{Count: 1, Speed: 3, Concurrency: 5}}, 0},
		{"two slow ones", Worker{Concurrency: 2, Contention: 0.3}, []Kind{{Count: 2, Speed: 0.3}}, 17},
		{"a second request costs more than it gives", Worker{Concurrency: 2, Contention: 4}, nil, 6},
		{"and on slow ones", Worker{Contention: 6}, []Kind{{Count: 2, Speed: 0.5}}, 6},
	} {
		w := &Workload{
			Name: test.name, Sizes: []Size{{Instances: 5, Users: test.users}}, Worker: test.worker, Instances: test.kinds,
			Requests: []Request{{Latency: Distribution{Kind: Lognormal, Mean: 1, Sigma: 0.8}}},
		}
		if test.users == 0 {
			w.Load.Poisson = 1.2
		}
		if err := w.Validate(); err != nil {
			t.Fatal(err)
		}
		report, err := Experiment{Workload: w, Strategies: Strategies, Seed: 5, Repetitions: 4, Requests: 5_000}.Do(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		row := report.Rows[0].Strategies
		for _, strategy := range Strategies {
			if row[strategy].Mean < 0.995*row[CentralQueue].Mean {
				t.Errorf("%s: %s has mean %v, the bound %v", test.name, strategy, row[strategy].Mean, row[CentralQueue].Mean)
			}
			if row[strategy].Throughput > 1.005*row[CentralQueue].Throughput {
				t.Errorf("%s: %s has throughput %v, the bound %v", test.name, strategy, row[strategy].Throughput, row[CentralQueue].Throughput)
			}
		}
	}
}
