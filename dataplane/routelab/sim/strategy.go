package sim

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Strategies for comparison, which no endpoint offers.
const (
	// CentralQueue is what could be done if requests belonged to no instance: see
	// fleetCurve.
	CentralQueue = "CENTRAL_QUEUE"
	// PowerOfTwoChoices is the less busy of two instances drawn at random
	// (Mitzenmacher 2001).
	PowerOfTwoChoices = "POWER_OF_TWO_CHOICES"
	// StaleLeastOutstanding is LEAST_OUTSTANDING_REQUESTS on counts that are
	// learned every Routing.Stale, as many front ends that report to each other.
	StaleLeastOutstanding = "STALE_LEAST_OUTSTANDING"
	// RoundRobin is each in turn.
	RoundRobin = "ROUND_ROBIN"
)

// Reference lists the strategies for comparison, and Strategies all.
var (
	Reference  = []string{CentralQueue, PowerOfTwoChoices, StaleLeastOutstanding, RoundRobin}
	Strategies = append([]string{dataplane.StrategyRandom, dataplane.StrategyLeastOutstanding, dataplane.StrategyPrefixAware}, Reference...)
)

// CheckStrategy tells that a name is not one of Strategies.
func CheckStrategy(name string) error {
	if !slices.Contains(Strategies, name) {
		return fmt.Errorf("strategy %q is not one of %s", name, strings.Join(Strategies, ", "))
	}
	return nil
}

// router is the strategy's choice among the engine's instances.
func (e *engine) router(strategy string) dataplane.Router {
	routing := e.workload.Routing
	switch strategy {
	case dataplane.StrategyLeastOutstanding:
		return dataplane.LeastOutstanding
	case dataplane.StrategyPrefixAware:
		threshold := routing.ConcurrencyThreshold
		if threshold == 0 {
			threshold = defaultThreshold
		}
		e.homes = new(dataplane.Affinity)
		return dataplane.PrefixAware(e.homes, threshold)
	case PowerOfTwoChoices:
		return powerOfTwo
	case RoundRobin:
		next := -1
		return func(_ *rand.Rand, members *dataplane.Outstanding, _ uint64) int {
			next = (next + 1) % members.Len()
			return next
		}
	case StaleLeastOutstanding:
		return e.stale(routing.Stale)
	case CentralQueue:
		return func(*rand.Rand, *dataplane.Outstanding, uint64) int { return 0 }
	}
	return dataplane.Random
}

func powerOfTwo(src *rand.Rand, members *dataplane.Outstanding, _ uint64) int {
	n := members.Len()
	if n == 1 {
		return 0
	}
	a, b := src.IntN(n), src.IntN(n-1)
	if b >= a {
		b++
	}
	if members.Count(b) < members.Count(a) { // a is random already where they tie
		return b
	}
	return a
}

// stale keeps the members that were least busy when the counts were last
// learned, and spreads requests over them until it learns anew.
func (e *engine) stale(every Quantity) dataplane.Router {
	if every == 0 {
		every = defaultStale
	}
	var least []int32
	next, changes := 0.0, -1
	return func(src *rand.Rand, members *dataplane.Outstanding, _ uint64) int {
		if e.now >= next || changes != e.changes {
			least = append(least[:0], members.Least()...)
			next = float64(every) * (math.Floor(e.now/float64(every)) + 1)
			changes = e.changes
		}
		return int(least[src.IntN(len(least))])
	}
}

// fleetCurve makes one big instance of a fleet, for the bound CENTRAL_QUEUE: at
// every moment the n requests that run are spread over the instances in the way
// that does most work per second, moved from one to another at no cost, and
// share that work equally; the rest waits in one queue. No router can make the
// instances do more with n requests, as long as the contention is at most 1 (an
// instance's total speed then grows less with every further request, so that the
// greedy allocation is the best one). Beyond that an instance gets slower by a
// second request; the bound then has it stay as fast, which no router can beat
// either.
func fleetCurve(shapes []shape, contention float64) *curve {
	gains := make(gainHeap, len(shapes))
	for i, s := range shapes {
		gains[i] = gain{shape: s, next: s.speed}
	}
	heap.Init(&gains)
	total := 0.0
	return &curve{extend: func(n int) float64 {
		best := &gains[0]
		total += best.next
		best.running++
		k := float64(best.running)
		best.next = max(0, best.speed*((k+1)/(1+contention*k)-k/(1+contention*(k-1))))
		if best.slots > 0 && best.running >= best.slots {
			best.next = 0 // never asked for: the whole has no more slots than its parts
		}
		heap.Fix(&gains, 0)
		return total / float64(n)
	}}
}

// wholeSlots is how many requests a fleet runs at once; 0 for any number, as soon
// as one of the instances takes any number.
func wholeSlots(shapes []shape) int32 {
	total := int64(0)
	for _, s := range shapes {
		if s.slots == 0 {
			return 0
		}
		total += int64(s.slots)
	}
	return int32(min(total, math.MaxInt32))
}

// gain is what one more request would add to an instance's total speed.
type gain struct {
	shape
	running int32
	next    float64
}

type gainHeap []gain

func (h gainHeap) Len() int           { return len(h) }
func (h gainHeap) Less(i, j int) bool { return h[i].next > h[j].next }
func (h gainHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *gainHeap) Push(any)          { panic("the fleet is fixed") }
func (h *gainHeap) Pop() any          { panic("the fleet is fixed") }
