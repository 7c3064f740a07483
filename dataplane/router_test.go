package dataplane

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

func picks(r Router, load *Outstanding, key uint64, n int) []int {
	src := source(7)
	var got []int
	for range n {
		got = append(got, r(src, load, key))
	}
	return got
}

func TestRoutersPickTheSameForASeed(t *testing.T) {
	homes := NewAffinity([]string{"0", "1", "2", "3"})
	home := homes.Home(AffinityKey([]byte("a shared prefix"), 4096, ""))
	for _, tc := range []struct {
		name   string
		route  Router
		counts []int
		key    uint64
		want   []int
	}{
		{"RANDOM ignores the counts", Random, []int{9, 0, 0, 9}, 0, []int{2, 2, 3, 3, 1, 2, 1, 2}},
		{"LEAST_OUTSTANDING_REQUESTS takes the only minimum", LeastOutstanding, []int{3, 2, 1, 2}, 0, []int{2, 2, 2, 2}},
		{"LEAST_OUTSTANDING_REQUESTS breaks ties at random", LeastOutstanding, []int{1, 0, 1, 0}, 0, []int{1, 1, 3, 3, 3, 1, 3, 1}},
		{"PREFIX_AWARE goes home", PrefixAware(homes, 4), []int{3, 3, 3, 3}, AffinityKey([]byte("a shared prefix"), 4096, ""), []int{home, home, home}},
		{"PREFIX_AWARE overflows at the threshold", PrefixAware(homes, 3), []int{3, 3, 3, 3, 1}, AffinityKey([]byte("a shared prefix"), 4096, ""), []int{4, 4, 4}},
		{"PREFIX_AWARE without a key is least outstanding", PrefixAware(homes, 4), []int{1, 1, 0, 1}, 0, []int{2, 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := picks(tc.route, NewOutstanding(tc.counts...), tc.key, len(tc.want)); !slices.Equal(got, tc.want) {
				t.Errorf("picked %v, want %v", got, tc.want)
			}
		})
	}
}

// chiSquare is the statistic for equally likely outcomes.
func chiSquare(observed []int) float64 {
	var total int
	for _, n := range observed {
		total += n
	}
	expected := float64(total) / float64(len(observed))
	var x float64
	for _, n := range observed {
		x += (float64(n) - expected) * (float64(n) - expected) / expected
	}
	return x
}

// criticalChiSquare is the value that chance exceeds once in a thousand tests
// (Wilson and Hilferty's approximation).
func criticalChiSquare(degrees int) float64 {
	k := float64(degrees)
	return k * math.Pow(1-2/(9*k)+3.0902*math.Sqrt(2/(9*k)), 3)
}

func TestRandomIsUniform(t *testing.T) {
	const members = 20
	observed := make([]int, members)
	load, src := NewOutstanding(make([]int, members)...), source(1)
	for range 100_000 {
		observed[Random(src, load, 0)]++
	}
	if x, limit := chiSquare(observed), criticalChiSquare(members-1); x > limit {
		t.Errorf("chi-square %.1f exceeds %.1f: %v", x, limit, observed)
	}
}

func TestLeastOutstandingBreaksTiesUniformly(t *testing.T) {
	counts := []int{2, 1, 1, 5, 1, 2, 1, 1, 9, 1}
	observed := map[int]int{}
	load, src := NewOutstanding(counts...), source(1)
	for range 100_000 {
		observed[LeastOutstanding(src, load, 0)]++
	}
	var ties []int
	for i, n := range observed {
		if counts[i] != 1 {
			t.Fatalf("picked member %d with %d outstanding", i, counts[i])
		}
		ties = append(ties, n)
	}
	if len(ties) != 6 {
		t.Fatalf("picked among %d of 6 ties", len(ties))
	}
	if x, limit := chiSquare(ties), criticalChiSquare(5); x > limit {
		t.Errorf("chi-square %.1f exceeds %.1f: %v", x, limit, observed)
	}
}

// One of four workers takes ten times as long. In a closed loop of eight users
// the slow one always holds its share of the users and answers a tenth as
// often, so the others answer 30 of 31 requests.
func TestLeastOutstandingGivesASlowWorkerItsShare(t *testing.T) {
	load, src := NewOutstanding(0, 0, 0, 0), source(3)
	type running struct {
		member int
		ends   float64
	}
	var queue []running
	start := func(now float64) {
		m := LeastOutstanding(src, load, 0)
		load.Add(m)
		mean := 1.0
		if m == 3 {
			mean = 10
		}
		queue = append(queue, running{m, now + mean*src.ExpFloat64()})
	}
	for range 8 {
		start(0)
	}
	served := make([]int, 4)
	for range 200_000 {
		next := 0
		for i := range queue {
			if queue[i].ends < queue[next].ends {
				next = i
			}
		}
		done := queue[next]
		queue = slices.Delete(queue, next, next+1)
		load.Done(done.member)
		served[done.member]++
		start(done.ends)
	}
	slow := float64(served[3]) / 200_000
	fast := float64(served[0]+served[1]+served[2]) / 3 / 200_000
	// RANDOM would give every worker a quarter.
	if slow > 0.06 {
		t.Errorf("the slow worker answered %.3f of all requests: %v", slow, served)
	}
	for m := range 3 {
		if share := float64(served[m]) / 200_000; math.Abs(share-fast) > 0.01 {
			t.Errorf("worker %d answered %.3f, its peers %.3f", m, share, fast)
		}
	}
}

func TestOutstandingAgreesWithCounting(t *testing.T) {
	src := source(11)
	o := NewOutstanding()
	var model []int // counts by member
	for step := range 50_000 {
		switch op := src.IntN(10); {
		case op == 0 && len(model) < 12:
			c := src.IntN(4)
			model = append(model, c)
			o.Join(c)
		case op == 1 && len(model) > 0:
			i := src.IntN(len(model))
			model[i] = model[len(model)-1]
			model = model[:len(model)-1]
			o.Leave(i)
		case op < 6 && len(model) > 0:
			i := src.IntN(len(model))
			model[i]++
			o.Add(i)
		case len(model) > 0:
			i := src.IntN(len(model))
			model[i] = max(0, model[i]-1)
			o.Done(i)
		}
		if err := compare(o, model); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
}

func compare(o *Outstanding, model []int) error {
	if o.Len() != len(model) {
		return fmt.Errorf("%d members, want %d", o.Len(), len(model))
	}
	var least []int32
	for i, c := range model {
		if o.Count(i) != c {
			return fmt.Errorf("member %d has %d, want %d", i, o.Count(i), c)
		}
		if c == slices.Min(model) {
			least = append(least, int32(i))
		}
	}
	if got := slices.Sorted(slices.Values(o.Least())); !slices.Equal(got, least) {
		return fmt.Errorf("least %v, want %v (counts %v)", got, least, model)
	}
	return nil
}

func TestAffinitySharesAreEven(t *testing.T) {
	names := make([]string, 50)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	homes, src := NewAffinity(names), source(5)
	shares := make([]float64, len(names))
	const keys = 500_000
	for range keys {
		shares[homes.Home(src.Uint64())]++
	}
	for i, n := range shares {
		if ratio := n / keys * float64(len(names)); ratio < 0.85 || ratio > 1.15 {
			t.Errorf("member %d is home to %.2f of its fair share", i, ratio)
		}
	}
}

func TestAffinityMovesLittleWhenAMemberLeaves(t *testing.T) {
	names := make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	before, after, src := NewAffinity(names), NewAffinity(names[:19]), source(5)
	const keys = 100_000
	moved := 0
	for range keys {
		key := src.Uint64()
		if home := before.Home(key); home != 19 && after.Home(key) != home {
			moved++
		}
	}
	// A plain modulus would move 95 % of them.
	if share := float64(moved) / keys; share > 0.25 {
		t.Errorf("%.2f of the other members' keys moved", share)
	}
}

func TestAffinityKeySeesPrefixAndIDOnly(t *testing.T) {
	base := AffinityKey([]byte("prefix one"), 6, "")
	if AffinityKey([]byte("prefix two"), 6, "") != base {
		t.Error("bytes behind the prefix changed the key")
	}
	if AffinityKey([]byte("prefix one"), 7, "") == base {
		t.Error("a longer prefix did not change the key")
	}
	if AffinityKey([]byte("prefix one"), 6, "tenant") == base {
		t.Error("the Prefix-Aware-Id did not change the key")
	}
	if AffinityKey(nil, 6, "") != 0 || AffinityKey(nil, 6, "tenant") == 0 {
		t.Error("only a request with neither body nor id has no key")
	}
}

func BenchmarkPick(b *testing.B) {
	for _, strategy := range []string{StrategyRandom, StrategyLeastOutstanding, StrategyPrefixAware} {
		for _, n := range []int{10, 1_000, 10_000} {
			b.Run(fmt.Sprintf("%s/instances=%d", strategy, n), func(b *testing.B) {
				pool := testPool(b, Routing{Strategy: strategy, PrefixLength: 1024, ConcurrencyThreshold: 8}, n)
				// A steady load of one request for every instance.
				outstanding := make([]*Instance, n)
				for i := range outstanding {
					outstanding[i], _ = pool.acquire(uint64(i)+1, 0)
				}
				src := source(1)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					at := i % n
					pool.release(outstanding[at])
					in, err := pool.acquire(src.Uint64()|1, 0)
					if err != nil {
						b.Fatal(err)
					}
					outstanding[at] = in
				}
			})
		}
	}
}
