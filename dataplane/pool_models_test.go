package dataplane

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// modelWorker holds the models that it was asked for until it is told to forget.
type modelWorker struct {
	*blocking
	loaded map[string]bool
}

func (w *modelWorker) HasModel(target string) bool {
	return w.loaded[target]
}

func (w *modelWorker) Models() ModelStatus { return ModelStatus{} }

func (w *modelWorker) forget(target string) {
	delete(w.loaded, target)
}

// modelPool is a pool of such workers.
type modelPool struct {
	*Pool
	t         *testing.T
	instances []*Instance
	workers   []*modelWorker
	under     [][]string // by instance: the models of the requests under way
}

func newModelPool(t *testing.T, strategy string, n int) *modelPool {
	pool, err := NewPool(Routing{Strategy: strategy}, 1)
	if err != nil {
		t.Fatal(err)
	}
	p := &modelPool{Pool: pool, t: t, under: make([][]string, n)}
	for i := range n {
		in := NewInstance(pool, fmt.Sprint("i-", i), "ml.m5.large", i, time.Unix(0, 0))
		w := &modelWorker{blocking: newBlocking(), loaded: map[string]bool{}}
		in.Serve(w, time.Unix(0, 0))
		p.instances, p.workers = append(p.instances, in), append(p.workers, w)
	}
	return p
}

// begin sends a request, and returns the index of the instance that got it.
func (p *modelPool) begin(model string) int {
	p.t.Helper()
	in, err := p.acquireModel(model, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	p.workers[in.Slot].loaded[model] = true
	p.under[in.Slot] = append(p.under[in.Slot], model)
	return in.Slot
}

func (p *modelPool) counts() []int {
	counts := make([]int, len(p.instances))
	for i, in := range p.instances {
		counts[i] = p.outstanding(in)
	}
	return counts
}

// end answers the oldest request of an instance.
func (p *modelPool) end(i int) {
	model := p.under[i][0]
	p.under[i] = p.under[i][1:]
	p.releaseModel(p.instances[i], model)
}

func TestRequestsForAModelStayWhereItIsLoaded(t *testing.T) {
	for _, strategy := range []string{StrategyRandom, StrategyLeastOutstanding} {
		p := newModelPool(t, strategy, 8)
		seen := map[string]int{}
		for range 20 {
			for _, model := range []string{"a", "b", "c"} {
				i := p.begin(model)
				if at, known := seen[model]; known && at != i {
					t.Fatalf("%s: %s went to %d and to %d", strategy, model, at, i)
				}
				seen[model] = i
				p.end(i)
			}
		}
	}
}

// An instance that holds the model takes 4 requests more than the least busy one,
// and half of what that has, before another one loads the model too.
func TestBusyInstancesSpillModelsOver(t *testing.T) {
	p := newModelPool(t, StrategyLeastOutstanding, 3)
	first := p.begin("a")
	for range modelSpill - 1 {
		if i := p.begin("a"); i != first {
			t.Fatalf("spilled to %d with %v outstanding", i, p.counts())
		}
	}
	second := p.begin("a")
	if second == first {
		t.Fatalf("did not spill with %v outstanding", p.counts())
	}
	// Now two hold it, and the less busy one gets it.
	for range modelSpill - 1 {
		if i := p.begin("a"); i != second {
			t.Fatalf("went to %d with %v outstanding", i, p.counts())
		}
	}
	third := p.begin("a")
	if third == first || third == second {
		t.Fatalf("did not spill again with %v outstanding", p.counts())
	}
	if n := len(p.models.byModel["a"]); n != 3 {
		t.Errorf("%d instances hold it", n)
	}
	for i, n := range p.counts() {
		for range n {
			p.end(i)
		}
	}
}

func TestEvictedModelGoesByTheRoutingStrategyAgain(t *testing.T) {
	p := newModelPool(t, StrategyLeastOutstanding, 4)
	holder := p.begin("a")
	p.workers[holder].forget("a") // its load is about to begin
	if i := p.begin("a"); i != holder {
		t.Errorf("a second request went to %d while %d loads", i, holder)
	}
	p.end(holder)
	p.end(holder)
	p.workers[holder].forget("a")
	busy := p.begin("b")
	for range 20 {
		i := p.begin("a")
		if i == busy {
			t.Fatal("went to the busiest")
		}
		p.end(i)
		p.workers[i].forget("a")
	}
}

func TestModelOfAnInstanceThatLeavesIsLoadedElsewhere(t *testing.T) {
	p := newModelPool(t, StrategyRandom, 3)
	first := p.begin("a")
	p.leave(p.instances[first])
	second := p.begin("a")
	if second == first {
		t.Fatal("went to an instance that has left")
	}
	p.end(first)
	p.end(second)
	if i := p.begin("a"); i != second {
		t.Errorf("went to %d, and %d holds it", i, second)
	}
}

func TestModelsThatNobodyHoldsAreForgotten(t *testing.T) {
	p := newModelPool(t, StrategyRandom, 2)
	for i := range 5000 {
		model := fmt.Sprint(i)
		at := p.begin(model)
		p.end(at)
		p.workers[at].forget(model)
	}
	if n := len(p.models.byModel); n > 1024 {
		t.Errorf("%d models are kept in mind", n)
	}
}

func TestPoolWithoutInstancesHasNoModels(t *testing.T) {
	p := newModelPool(t, StrategyRandom, 0)
	if _, err := p.Invoke(t.Context(), &Request{TargetModel: "a"}, new(Answer)); !errors.Is(err, ErrNoInstance) {
		t.Errorf("got %v, want ErrNoInstance", err)
	}
}

func TestRequestsAndContainersHaveToFit(t *testing.T) {
	serial := Variant{Container: "container-1"}
	direct := Variant{Container: "a", Targets: []string{"a", "b"}}
	models := Variant{Container: "primary", MultiModel: "primary"}
	both := Variant{Container: "a", Targets: []string{"a", "b"}, MultiModel: "b"}
	pipeline := Variant{Container: "container-1", MultiModel: "container-2"}
	for _, tc := range []struct {
		variant           *Variant
		container, target string
		named             string
		err               error
	}{
		{&serial, "", "", "container-1", nil},
		{&serial, "container-1", "", "container-1", ErrNotDirect},
		{&serial, "", "m", "container-1", ErrNotMultiModel},
		{&direct, "b", "", "b", nil},
		{&direct, "", "", "a", ErrNoTargetContainer},
		{&direct, "c", "", "a", ErrUnknownContainer},
		{&direct, "B", "", "a", ErrUnknownContainer},
		{&direct, "b", "m", "b", ErrNotMultiModel},
		{&models, "", "m", "primary", nil},
		{&models, "", "", "primary", ErrNoTargetModel},
		{&models, "primary", "m", "primary", ErrNotDirect},
		{&both, "b", "m", "b", nil},
		{&both, "b", "", "b", ErrNoTargetModel},
		{&both, "a", "", "a", nil},
		{&both, "a", "m", "a", ErrNotMultiModel},
		{&pipeline, "", "m", "container-1", nil},
		{&pipeline, "", "", "container-1", ErrNoTargetModel},
	} {
		named, err := tc.variant.admit(&Request{TargetContainer: tc.container, TargetModel: tc.target})
		if named != tc.named || !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
			t.Errorf("%+v, container %q, model %q: %q, %v; want %q, %v", *tc.variant, tc.container, tc.target, named, err, tc.named, tc.err)
		}
	}
}

func TestHolderIsTheLeastBusyOneAndTiesAreRandom(t *testing.T) {
	p := newModelPool(t, StrategyLeastOutstanding, 3)
	for i := range p.workers {
		p.workers[i].loaded["a"] = true
		p.models.add("a", p.instances[i])
		p.models.done("a", p.instances[i])
	}
	var seen []int
	for range 50 {
		i := p.begin("a")
		p.end(i)
		if !slices.Contains(seen, i) {
			seen = append(seen, i)
		}
	}
	if len(seen) != 3 {
		t.Errorf("only %v were chosen", seen)
	}
}
