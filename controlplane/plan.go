package controlplane

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// group names the instances of one variant in one deployment. While an update is
// under way a variant has two groups.
type group struct {
	deployment int64
	variant    string
}

func (g group) compare(other group) int {
	return cmp.Or(cmp.Compare(g.deployment, other.deployment), cmp.Compare(g.variant, other.variant))
}

// slotKey names one of the instances that a group should have: "instance 2 of
// AllTraffic". Instances that follow each other in a slot have different ids.
type slotKey struct {
	group
	ordinal int
}

func (k slotKey) compare(other slotKey) int {
	return cmp.Or(k.group.compare(other.group), cmp.Compare(k.ordinal, other.ordinal))
}

// phase is where the present instance of a slot stands.
type phase int

const (
	vacantSlot phase = iota // none; maybe waiting for retryAt
	starting
	serving
	stopping
)

// slotState is what a reconciler knows of a slot.
type slotState struct {
	phase    phase
	failures int // in a row
	retryAt  time.Time
	err      error // the last failure

	// While there is no capacity: the types that have failed since one was had,
	// since when there is none, and whether VariantInstanceProvisionTimeoutInSeconds
	// has not passed yet.
	full  []string
	short time.Time
	waits bool

	need need
}

// actions is the difference between what is wanted and what is there.
type actions struct {
	launch, stop []slotKey
	wait         time.Duration // until the next retry is due; 0 for none
}

// plan decides what to start and what to stop. Scale-in takes the highest
// slots. A vacant slot is filled when its back-off is over.
func plan(want map[group]int, have map[slotKey]slotState, now time.Time) actions {
	var a actions
	for _, g := range slices.SortedFunc(maps.Keys(want), group.compare) {
		for ordinal := range want[g] {
			key := slotKey{g, ordinal}
			s := have[key]
			if s.phase != vacantSlot || s.need == unneeded {
				continue
			}
			if due := s.retryAt.Sub(now); due > 0 {
				a.wait = sooner(a.wait, due)
				continue
			}
			a.launch = append(a.launch, key)
		}
	}
	for key, s := range have {
		if (key.ordinal >= want[key.group] || s.need == unneeded) && (s.phase == starting || s.phase == serving) {
			a.stop = append(a.stop, key)
		}
	}
	slices.SortFunc(a.stop, slotKey.compare)
	return a
}

// sooner is the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// progress compares what is wanted with what is there.
type progress struct {
	reached bool // every wanted instance serves, and there are no others
	empty   bool // there are no instances at all
	// failure is the first of those of the fleets.
	failure
	fleets map[int64]fleetProgress // by deployment
}

// failure says that a wanted instance cannot be had; its err is nil while there
// is hope.
type failure struct {
	err     error
	variant string
}

// fleetProgress is the progress of one deployment.
type fleetProgress struct {
	reached bool // every wanted instance serves
	surplus bool // there are instances that are not wanted
	failure
	serving map[string]int // instances by variant, wanted or not
}

// settled tells whether there is nothing to wait for: every wanted instance
// serves, or one of them cannot be had.
func (f *fleetProgress) settled() bool { return f.reached || f.err != nil }

func measure(want map[group]int, have map[slotKey]slotState) progress {
	p := progress{reached: true, empty: true, fleets: map[int64]fleetProgress{}}
	fleet := func(id int64) fleetProgress {
		if f, ok := p.fleets[id]; ok {
			return f
		}
		return fleetProgress{reached: true, serving: map[string]int{}}
	}
	for _, key := range slices.SortedFunc(maps.Keys(have), slotKey.compare) {
		s, f := have[key], fleet(key.deployment)
		wanted := key.ordinal < want[key.group]
		if s.phase != vacantSlot {
			p.empty = false
			f.surplus = f.surplus || !wanted && s.need == always
		}
		if s.phase == serving {
			f.serving[key.variant]++
		}
		if wanted && s.phase == vacantSlot && f.err == nil && giveUp(s) {
			f.failure = failure{s.err, key.variant}
		}
		p.fleets[key.deployment] = f
	}
	for g, n := range want {
		f := fleet(g.deployment)
		for ordinal := range n {
			s := have[slotKey{g, ordinal}]
			f.reached = f.reached && (s.phase == serving || s.need != always)
		}
		p.fleets[g.deployment] = f
	}
	for _, id := range slices.Sorted(maps.Keys(p.fleets)) {
		f := p.fleets[id]
		p.reached = p.reached && f.reached && !f.surplus
		if p.err == nil {
			p.failure = f.failure
		}
	}
	return p
}

// maxStarts is how often an instance is started before its deployment is given
// up. AWS keeps trying for about 24 minutes; somebody at a laptop wants to know
// sooner.
const maxStarts = 3

// Back-off between the starts of an instance, doubled after each failure.
const (
	firstBackOff = time.Second
	maxBackOff   = time.Minute
	// stableAfter is how long an instance must have served for its next failure
	// to count as the first again.
	stableAfter = time.Minute
)

// backOff is the wait after the n-th failure in a row, from 1.
func backOff(n int) time.Duration {
	if n > 7 {
		return maxBackOff
	}
	return min(firstBackOff<<(n-1), maxBackOff)
}
