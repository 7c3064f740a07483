package sim

import (
	"bytes"
	"container/list"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
)

func builtinWorkload(t testing.TB, name string) *Workload {
	t.Helper()
	w, err := Builtin(name)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestSeedFixesTheReportHoweverManyRunAtOnce(t *testing.T) {
	for _, name := range Names() {
		report := func(seed uint64, parallel int) []byte {
			w := builtinWorkload(t, name)
			w.Sizes = []Size{{Instances: min(w.Sizes[0].Instances, 20), Users: min(w.Sizes[0].Users, 80)}}
			r, err := Experiment{Workload: w, Strategies: Strategies, Seed: seed, Repetitions: 3, Requests: 3000, Parallel: parallel}.Do(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r.WallSeconds = 0
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		once := report(1, 1)
		if again := report(1, 4); !bytes.Equal(once, again) {
			t.Errorf("%s: the same seed gave\n%s\nand\n%s", name, once, again)
		}
		if bytes.Equal(once, report(2, 1)) {
			t.Errorf("%s: another seed gave the same", name)
		}
	}
}

func TestRequestsAllocateNothing(t *testing.T) {
	for _, name := range Names() {
		for _, strategy := range Strategies {
			w := builtinWorkload(t, name)
			if w.Failures != nil { // the affinity table is built anew
				continue
			}
			size := Size{Instances: min(w.Sizes[0].Instances, 10), Users: min(w.Sizes[0].Users, 40)}
			e, err := Run{Workload: w, Size: size, Strategy: strategy, Seed: 1, WarmUp: 1 << 40, Requests: 1}.engine()
			if err != nil {
				t.Fatal(err)
			}
			e.answer(60_000) // until queues have been as long as they get
			if got := testing.AllocsPerRun(10, func() { e.answer(1000) }); got > 0 {
				t.Errorf("%s under %s: %v allocations in 1000 requests", name, strategy, got)
			}
		}
	}
}

// The real worker, in real time that synctest makes pass at once.
func TestAgreesWithTheSimulatedWorker(t *testing.T) {
	for _, test := range []simulated.Config{
		{},
		{Concurrency: 2},
		{Contention: 0.5},
		{Concurrency: 3, Contention: 0.35, Queue: 4},
	} {
		test.Latency = simulated.Latency{Mean: time.Second}
		rng := rand.New(rand.NewPCG(4, 4))
		var at []float64
		for now := 0.0; len(at) < 300; now += math.Round(rng.ExpFloat64()*0.45e6) / 1e6 {
			at = append(at, now)
		}
		real, refused := playReal(t, test, at)
		w := &Workload{
			Name: "agreement", Sizes: []Size{{Instances: 1}},
			Worker:   Worker{Concurrency: test.Concurrency, Queue: test.Queue, Contention: test.Contention},
			Requests: []Request{{Latency: Distribution{Mean: 1}}},
		}
		for _, t := range at {
			w.Load.arrivals = append(w.Load.arrivals, arrival{t, -1})
		}
		var virtual []float64
		result, err := Run{
			Workload: w, Size: w.Sizes[0], Strategy: dataplane.StrategyRandom, Requests: len(at),
			observe: func(r Record) { virtual = append(virtual, r.Latency) },
		}.Simulate()
		if err != nil {
			t.Fatal(err)
		}
		if result.Errors != refused {
			t.Errorf("%+v: %d refused, the worker refused %d", test, result.Errors, refused)
		}
		slices.Sort(real)
		slices.Sort(virtual)
		if len(real) != len(virtual) {
			t.Fatalf("%+v: %d answers, the worker gave %d", test, len(virtual), len(real))
		}
		for i := range real {
			if math.Abs(real[i]-virtual[i]) > 1e-6 {
				t.Errorf("%+v: latency %d is %v, the worker's %v", test, i, virtual[i], real[i])
				break
			}
		}
	}
}

// playReal sends requests to a simulated worker and returns the latencies in
// seconds of those that it answered.
func playReal(t *testing.T, cfg simulated.Config, at []float64) (latencies []float64, refused int) {
	t.Helper()
	shape := dataplane.Shape{InstanceType: "ml.m5.large", VCPU: 2, MemoryGiB: 8}
	launcher := simulated.New(cfg, func(string) (dataplane.Shape, bool) { return shape, true }, 1)
	synctest.Test(t, func(t *testing.T) {
		worker, err := launcher.Launch(context.Background(), dataplane.Spec{InstanceID: "i-1", Shape: shape})
		if err != nil {
			t.Fatal(err)
		}
		type answer struct {
			latency float64
			status  int
		}
		answers := make(chan answer, len(at))
		epoch := time.Now()
		for _, a := range at {
			time.Sleep(time.Duration(math.Round(a*1e9)) - time.Since(epoch))
			go func() {
				var ans dataplane.Answer
				begun := time.Now()
				if err := worker.Invoke(context.Background(), &dataplane.Request{}, &ans); err != nil {
					t.Error(err)
				}
				answers <- answer{time.Since(begun).Seconds(), ans.StatusCode}
			}()
			synctest.Wait()
		}
		for range at {
			if a := <-answers; a.status == 200 {
				latencies = append(latencies, a.latency)
			} else {
				refused++
			}
		}
		if err := worker.Stop(context.Background(), 0); err != nil {
			t.Error(err)
		}
	})
	return latencies, refused
}

func TestRequestsOnAFailedInstanceGetErrorsAndItComesBack(t *testing.T) {
	w := builtinWorkload(t, "failing-instances")
	w.Failures = &Failures{Between: 100, Lasting: 50}
	for _, strategy := range []string{dataplane.StrategyRandom, dataplane.StrategyLeastOutstanding, StaleLeastOutstanding, PowerOfTwoChoices} {
		e, err := Run{Workload: w, Size: w.Sizes[0], Strategy: strategy, Seed: 1, Requests: 60_000}.engine()
		if err != nil {
			t.Fatal(err)
		}
		down, steps := 0, 0
		for e.left > 0 && e.step() {
			steps++
			down += len(e.instances) - e.load.Len()
			if steps%1000 == 0 {
				checkCounts(t, e)
			}
		}
		if e.measure.errors == 0 {
			t.Errorf("%s: no request failed", strategy)
		}
		// An instance is down a third of the time: 50 of 150 seconds.
		share := float64(down) / float64(steps*len(e.instances))
		if math.Abs(share-1.0/3) > 0.05 {
			t.Errorf("%s: instances are down %.3f of the events, want about a third", strategy, share)
		}
	}
}

// checkCounts holds the router's counts against what the instances have.
func checkCounts(t *testing.T, e *engine) {
	t.Helper()
	total := 0.0
	for i := range e.instances {
		in := &e.instances[i]
		has := int(in.running) + e.waiting[i].count
		total += float64(has)
		switch {
		case in.member < 0 && has > 0:
			t.Fatalf("instance %d is down and has %d requests", i, has)
		case in.member >= 0 && e.load.Count(int(in.member)) != has:
			t.Fatalf("instance %d has %d requests, counted are %d", i, has, e.load.Count(int(in.member)))
		case in.member >= 0 && e.instanceOf[in.member] != int32(i):
			t.Fatalf("instance %d is not where its member says", i)
		}
	}
	if e.measure.total != total {
		t.Fatalf("%v requests are in the system, counted are %v", total, e.measure.total)
	}
}

func TestFirstTokenComesBeforeTheRest(t *testing.T) {
	w := &Workload{
		Name: "stream", Sizes: []Size{{Instances: 1, Users: 1}},
		Requests: []Request{{Stream: &Stream{FirstToken: Distribution{Mean: 0.5}, Tokens: Distribution{Mean: 100}, TokensPerSecond: 50}}},
		Prefixes: &Prefixes{Distinct: 1, Cache: 1, Saving: 0.8},
	}
	got := measured(t, w, dataplane.StrategyRandom, 1000)
	if math.Abs(float64(*got.FirstTokenP99-0.1)) > 1e-3 || math.Abs(float64(got.P50-2.1)) > 1e-2 || *got.HitRate != 1 {
		t.Errorf("first token after %v s and the last after %v at a hit rate of %v, want 0.1, 2.1 and 1", *got.FirstTokenP99, got.P50, *got.HitRate)
	}
}

func TestEventsComeInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	e, model := newEvents(50), map[int32]float64{}
	for range 20_000 {
		thing := int32(rng.IntN(50))
		switch rng.IntN(3) {
		case 0:
			e.clear(thing)
			delete(model, thing)
		default:
			at := float64(rng.IntN(1000))
			e.set(thing, at)
			model[thing] = at
		}
		next, soonest, ok := e.next()
		if ok != (len(model) > 0) {
			t.Fatalf("an event is there: %v, but %d are planned", ok, len(model))
		}
		for _, at := range model {
			if at < soonest {
				t.Fatalf("next is at %v, but one is planned at %v", soonest, at)
			}
		}
		if ok && model[next] != soonest {
			t.Fatalf("next is %d at %v, planned at %v", next, soonest, model[next])
		}
	}
}

func TestCacheForgetsTheLeastRecentlyUsed(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, capacity := range []int{1, 2, 7, 64} {
		c := newCache(capacity)
		order, held := list.New(), map[int32]*list.Element{}
		for range 20_000 {
			if rng.IntN(2000) == 0 {
				c.empty()
				order.Init()
				clear(held)
			}
			key := int32(rng.IntN(3 * capacity))
			element, want := held[key]
			if got := c.use(key); got != want {
				t.Fatalf("capacity %d: key %d is held: %v, want %v", capacity, key, got, want)
			}
			if want {
				order.MoveToFront(element)
				continue
			}
			if order.Len() == capacity {
				delete(held, order.Remove(order.Back()).(int32))
			}
			held[key] = order.PushFront(key)
		}
	}
}

func TestDiscreteDrawsByWeight(t *testing.T) {
	weights := zipf(20, 1.1)
	d, rng := newDiscrete(weights), rand.New(rand.NewPCG(5, 6))
	counts, total := make([]float64, len(weights)), 0.0
	for _, w := range weights {
		total += w
	}
	const draws = 300_000
	for range draws {
		counts[d.draw(rng)]++
	}
	for i, w := range weights {
		want := draws * w / total
		if math.Abs(counts[i]-want) > 5*math.Sqrt(want) {
			t.Errorf("%d was drawn %v times, want about %.0f", i, counts[i], want)
		}
	}
}
