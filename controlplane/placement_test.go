package controlplane

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

const (
	spread  = types.InferenceComponentPlacementStrategySpread
	binpack = types.InferenceComponentPlacementStrategyBinpack
)

func hostsOf(capacity resources, ids ...string) []placementHost {
	var all []placementHost
	for _, id := range ids {
		all = append(all, placementHost{id: id, instanceType: "ml.g5.12xlarge", capacity: capacity})
	}
	return all
}

// copiesOf asks for n copies of a component that runs everywhere.
func copiesOf(component string, n int, strategy types.InferenceComponentPlacementStrategy, needs resources) []copyRequest {
	var all []copyRequest
	for i := range n {
		all = append(all, copyRequest{copyKey{copyGroup{component: component}, i}, strategy, func(string) (resources, bool) { return needs, true }})
	}
	return all
}

func TestPlaceSpreadsOrPacks(t *testing.T) {
	big := resources{milliCPU: 8000, memoryMiB: 16_000, accelerators: 4}
	small := resources{milliCPU: 1000, memoryMiB: 1000, accelerators: 1}
	half := resources{milliCPU: 4000, memoryMiB: 8000, accelerators: 2}
	for name, tc := range map[string]struct {
		hosts    []placementHost
		placed   []placedCopy
		requests []copyRequest
		want     map[string]int // copies by host
		unplaced int
	}{
		"SPREAD takes one host after the other": {
			hosts: hostsOf(big, "a", "b", "c"), requests: copiesOf("x", 4, spread, small), want: map[string]int{"a": 2, "b": 1, "c": 1},
		},
		"no SchedulingConfig spreads": {
			hosts: hostsOf(big, "a", "b"), requests: copiesOf("x", 2, "", small), want: map[string]int{"a": 1, "b": 1},
		},
		"BINPACK fills a host before the next": {
			hosts: hostsOf(big, "a", "b"), requests: copiesOf("x", 5, binpack, small), want: map[string]int{"a": 4, "b": 1},
		},
		"BINPACK prefers the host with the least room left": {
			hosts: hostsOf(big, "a", "b"), placed: []placedCopy{{copyKey{copyGroup{component: "y"}, 0}, "b", half}},
			requests: copiesOf("x", 2, binpack, small), want: map[string]int{"b": 3},
		},
		"SPREAD counts the component's own copies before all others": {
			hosts: hostsOf(big, "a", "b"), placed: []placedCopy{
				{copyKey{copyGroup{component: "x"}, 9}, "a", small},
				{copyKey{copyGroup{component: "y"}, 0}, "b", small},
				{copyKey{copyGroup{component: "y"}, 1}, "b", small},
			},
			requests: copiesOf("x", 1, spread, small), want: map[string]int{"a": 1, "b": 3},
		},
		"an accelerator is never shared": {
			hosts: hostsOf(big, "a"), requests: copiesOf("x", 5, spread, small), want: map[string]int{"a": 4}, unplaced: 1,
		},
		"memory bounds too": {
			hosts: hostsOf(big, "a"), requests: copiesOf("x", 3, binpack, resources{memoryMiB: 8000}), want: map[string]int{"a": 2}, unplaced: 1,
		},
		"vCPUs bound too": {
			hosts: hostsOf(big, "a"), requests: copiesOf("x", 3, binpack, resources{milliCPU: 2750}), want: map[string]int{"a": 2}, unplaced: 1,
		},
		"large copies go first, so that the small ones fit beside them": {
			hosts: hostsOf(big, "a", "b"), requests: append(copiesOf("a-small", 4, spread, small), copiesOf("large", 1, spread, big)...),
			want: map[string]int{"a": 1, "b": 4},
		},
		"a closed host keeps what it has and takes nothing": {
			hosts: []placementHost{{id: "a", capacity: big, closed: true}, {id: "b", capacity: big}}, placed: []placedCopy{{copyKey{copyGroup{component: "y"}, 0}, "a", small}},
			requests: copiesOf("x", 2, spread, small), want: map[string]int{"a": 1, "b": 2},
		},
		"no host, no place": {requests: copiesOf("x", 2, spread, small), want: map[string]int{}, unplaced: 2},
	} {
		t.Run(name, func(t *testing.T) {
			assigned, unplaced := place(tc.hosts, tc.placed, tc.requests)
			got := map[string]int{}
			for _, c := range tc.placed {
				got[c.host]++
			}
			for _, host := range assigned {
				got[host]++
			}
			if !maps.Equal(got, tc.want) || len(unplaced) != tc.unplaced {
				t.Errorf("copies by host %v with %d left over, want %v with %d", got, len(unplaced), tc.want, tc.unplaced)
			}
		})
	}
}

func TestPlaceTakesOnlyInstanceTypesThatTheComponentNames(t *testing.T) {
	hosts := []placementHost{
		{id: "a", instanceType: "ml.g5.xlarge", capacity: resources{memoryMiB: 1000}},
		{id: "b", instanceType: "ml.g6.xlarge", capacity: resources{memoryMiB: 1000}},
	}
	onlyG6 := copyRequest{copyKey{copyGroup{component: "x"}, 0}, spread, func(instanceType string) (resources, bool) {
		return resources{memoryMiB: 10}, instanceType == "ml.g6.xlarge"
	}}
	assigned, unplaced := place(hosts, nil, []copyRequest{onlyG6})
	if assigned[onlyG6.copyKey] != "b" || len(unplaced) != 0 {
		t.Errorf("placed on %q, %d left over; want b", assigned[onlyG6.copyKey], len(unplaced))
	}
	if possible(hosts[:1], onlyG6) || !possible(hosts, onlyG6) {
		t.Error("possible does not go by the component's instance types")
	}
}

func TestPlaceGivesEachPartitionToOneCopy(t *testing.T) {
	hosts := []placementHost{{id: "a", capacity: resources{memoryMiB: 1000}, partitions: map[string]int64{"mig-3g.40gb": 2, "mig-1g.10gb": 1}}}
	requests := copiesOf("x", 3, spread, resources{memoryMiB: 10, partition: "mig-3g.40gb"})
	requests = append(requests, copiesOf("y", 1, spread, resources{memoryMiB: 10, partition: "mig-1g.10gb"})...)
	requests = append(requests, copiesOf("z", 1, spread, resources{memoryMiB: 10, partition: "mig-7g.80gb"})...)
	assigned, unplaced := place(hosts, nil, requests)
	if len(assigned) != 3 || len(unplaced) != 2 {
		t.Errorf("%d placed, %d left over; want 3 and 2", len(assigned), len(unplaced))
	}
}

// randomNeeds are anything from nothing to a little more than a host has.
func randomNeeds(r *rand.Rand) resources {
	return resources{milliCPU: r.Int64N(40) * 250, memoryMiB: 128 + r.Int64N(20_000), accelerators: r.Int64N(5)}
}

// A placement of anything on anything never takes more than there is, moves
// nothing, and leaves a copy out only when no host has room for it.
func TestPlaceHoldsItsPromisesForRandomFleets(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		var hosts []placementHost
		for i := range r.IntN(7) {
			hosts = append(hosts, placementHost{
				id: fmt.Sprint("h", i), instanceType: fmt.Sprint("type", r.IntN(2)), closed: r.IntN(8) == 0,
				capacity: resources{milliCPU: r.Int64N(9) * 1000, memoryMiB: r.Int64N(32_000), accelerators: r.Int64N(5)},
			})
		}
		var requests []copyRequest
		for c := range r.IntN(5) {
			needs := [2]resources{randomNeeds(r), randomNeeds(r)}
			only := r.IntN(4)
			strategy := []types.InferenceComponentPlacementStrategy{spread, binpack}[r.IntN(2)]
			for i := range r.IntN(6) {
				requests = append(requests, copyRequest{copyKey{copyGroup{component: fmt.Sprint("c", c)}, i}, strategy, func(it string) (resources, bool) {
					k := int(it[len(it)-1] - '0')
					return needs[k], k != only
				}})
			}
		}
		first, rest := requests[:len(requests)/2], requests[len(requests)/2:]
		assigned, _ := place(hosts, nil, first)
		placed := asPlaced(hosts, first, assigned)
		more, unplaced := place(hosts, placed, rest)
		placed = append(placed, asPlaced(hosts, rest, more)...)
		for key := range more {
			if _, was := assigned[key]; was {
				t.Fatalf("seed %d: copy %v was moved", seed, key)
			}
		}
		if len(more)+len(unplaced) != len(rest) {
			t.Fatalf("seed %d: %d copies became %d placed and %d left over", seed, len(rest), len(more), len(unplaced))
		}
		for _, h := range loads(hosts, placed) {
			if h.free.milliCPU < 0 || h.free.memoryMiB < 0 || h.free.accelerators < 0 {
				t.Fatalf("seed %d: host %s is overcommitted: %+v left", seed, h.id, h.free)
			}
			if h.closed && h.copies > 0 {
				t.Fatalf("seed %d: closed host %s has %d copies", seed, h.id, h.copies)
			}
			for _, u := range unplaced {
				if n, ok := u.needs(h.instanceType); ok && !h.closed && h.fits(n) {
					t.Fatalf("seed %d: copy %v has no place though %s has room", seed, u.copyKey, h.id)
				}
			}
		}
		shuffled := slices.Clone(rest)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again, _ := place(reversed(hosts), reversed(placed[:len(assigned)]), shuffled); !maps.Equal(again, more) {
			t.Fatalf("seed %d: the order of the arguments changes the placement: %v, then %v", seed, more, again)
		}
	}
}

func reversed[T any](s []T) []T {
	s = slices.Clone(s)
	slices.Reverse(s)
	return s
}

func asPlaced(hosts []placementHost, requests []copyRequest, assigned map[copyKey]string) (placed []placedCopy) {
	for _, r := range requests {
		for _, h := range hosts {
			if h.id == assigned[r.copyKey] {
				needs, _ := r.needs(h.instanceType)
				placed = append(placed, placedCopy{r.copyKey, h.id, needs})
			}
		}
	}
	return placed
}

// On equal hosts with room, SPREAD never lets two hosts differ by more than one
// copy, and BINPACK never uses a host more than it needs.
func TestSpreadAndBinpackOnEqualHosts(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		per := 1 + r.Int64N(6)
		needs := resources{milliCPU: 1000, memoryMiB: 1000}
		var ids []string
		for i := range 1 + r.IntN(6) {
			ids = append(ids, fmt.Sprint("h", i))
		}
		hosts := hostsOf(resources{milliCPU: per * 1000, memoryMiB: per * 1000}, ids...)
		n := 1 + r.IntN(int(per)*len(ids))
		for _, strategy := range []types.InferenceComponentPlacementStrategy{spread, binpack} {
			assigned, unplaced := place(hosts, nil, copiesOf("x", n, strategy, needs))
			count := map[string]int{}
			for _, h := range assigned {
				count[h]++
			}
			lo, hi := n, 0
			for _, id := range ids {
				lo, hi = min(lo, count[id]), max(hi, count[id])
			}
			switch {
			case len(unplaced) > 0:
				t.Fatalf("seed %d: %s leaves %d copies out where all fit", seed, strategy, len(unplaced))
			case strategy == spread && hi-lo > 1:
				t.Fatalf("seed %d: SPREAD gives hosts %d to %d copies", seed, lo, hi)
			case strategy == binpack && len(count) != (n+int(per)-1)/int(per):
				t.Fatalf("seed %d: BINPACK uses %d hosts for %d copies of %d a host", seed, len(count), n, per)
			}
		}
	}
}

func TestGrowthTriesInstanceTypesByPriority(t *testing.T) {
	small := placementHost{instanceType: "small", capacity: resources{memoryMiB: 1000, accelerators: 1}}
	large := placementHost{instanceType: "large", capacity: resources{memoryMiB: 4000, accelerators: 4}}
	one := resources{memoryMiB: 500, accelerators: 1}
	two := resources{memoryMiB: 500, accelerators: 2}
	never := resources{memoryMiB: 500, accelerators: 8}
	for name, tc := range map[string]struct {
		offers   []placementHost
		requests []copyRequest
		limit    int
		want     []string
	}{
		"the first type that fits":                {[]placementHost{small, large}, copiesOf("x", 2, spread, one), 9, []string{"small", "small"}},
		"the next one for what does not fit":      {[]placementHost{small, large}, copiesOf("x", 1, spread, two), 9, []string{"large"}},
		"one instance for as many as it can hold": {[]placementHost{large, small}, copiesOf("x", 5, spread, one), 9, []string{"large", "large"}},
		"no more than the limit":                  {[]placementHost{small}, copiesOf("x", 5, spread, one), 2, []string{"small", "small"}},
		"nothing for what fits nowhere":           {[]placementHost{small, large}, copiesOf("x", 1, spread, never), 9, nil},
	} {
		if got := growth(tc.offers, tc.requests, tc.limit); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestConsolidateEmptiesTheHostsWithFewestCopies(t *testing.T) {
	hosts := hostsOf(resources{memoryMiB: 400}, "a", "b", "c")
	one := resources{memoryMiB: 100}
	requests := map[copyKey]copyRequest{}
	var placed []placedCopy
	for i, host := range []string{"a", "a", "b", "c", "c"} {
		r := copiesOf("x", 6, binpack, one)[i]
		requests[r.copyKey] = r
		placed = append(placed, placedCopy{r.copyKey, host, one})
	}
	if got := consolidate(hosts, placed, requests, 1); !slices.Equal(got, []string{"b"}) {
		t.Errorf("one step empties %v, want b", got)
	}
	// Five copies fill one host and a quarter of another: only one host can go.
	if got := consolidate(hosts, placed, requests, 3); !slices.Equal(got, []string{"b"}) {
		t.Errorf("three steps empty %v, want b alone", got)
	}
	leaving := maps.Clone(requests)
	delete(leaving, placed[2].copyKey)
	if got := consolidate(hosts, placed, leaving, 1); slices.Contains(got, "b") {
		t.Error("a host is emptied whose copy is on its way out")
	}
	full := append(placed, placedCopy{copyKey{copyGroup{component: "y"}, 0}, "a", resources{memoryMiB: 200}}, placedCopy{copyKey{copyGroup{component: "y"}, 1}, "c", resources{memoryMiB: 200}})
	if got := consolidate(hosts, full, requests, 1); len(got) != 0 {
		t.Errorf("%v emptied though its copies fit nowhere else", got)
	}
}

// The surplus of a scale-in is what stopping one copy after the other would
// choose, and is found at once for ten thousand copies.
func TestSurplusOfCopiesKeepsSpreadEven(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	fleetOf := func(copies, hosts int) (*componentFleet, []copyKey) {
		f := newComponentFleet()
		var keys []copyKey
		for i := range copies {
			key := copyKey{copyGroup{1, "c", 1}, i}
			phase := serving
			if random.IntN(4) == 0 {
				phase = starting
			}
			f.copies[key] = &copySlot{slotState: slotState{phase: phase}, host: fmt.Sprint("i-", random.IntN(hosts))}
			keys = append(keys, key)
		}
		return &f, keys
	}
	for range 200 {
		f, staying := fleetOf(1+random.IntN(30), 1+random.IntN(6))
		n := random.IntN(len(staying) + 1)
		got := f.surplusOf(staying, n)
		left := slices.Clone(staying)
		for _, key := range got {
			most := map[string]int{}
			for _, k := range left {
				most[f.copies[k].host]++
			}
			for _, k := range left {
				a, b := f.copies[k], f.copies[key]
				if a.phase < b.phase || a.phase == b.phase && most[a.host] > most[b.host] {
					t.Fatalf("%v on %s stops before %v on %s", key, b.host, k, a.host)
				}
			}
			left = slices.DeleteFunc(left, func(k copyKey) bool { return k == key })
		}
		if len(left) != n {
			t.Fatalf("%d of %d are left, want %d", len(left), len(staying), n)
		}
	}
	f, staying := fleetOf(maxCopies, 8)
	// A walk through all copies for each that stops would take minutes here.
	if n := len(f.surplusOf(staying, 1)); n != maxCopies-1 {
		t.Errorf("%d stop", n)
	}
}
