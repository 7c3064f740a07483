package controlplane

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// slotKey names one of the instances that a variant should have: "instance 2 of
// AllTraffic". Instances that follow each other in a slot have different ids.
type slotKey struct {
	variant string
	ordinal int
}

func (k slotKey) compare(other slotKey) int {
	return cmp.Or(cmp.Compare(k.variant, other.variant), cmp.Compare(k.ordinal, other.ordinal))
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
}

// actions is the difference between what is wanted and what is there.
type actions struct {
	launch, stop []slotKey
	wait         time.Duration // until the next retry is due; 0 for none
}

// plan decides what to start and what to stop. Scale-in takes the highest
// slots. A vacant slot is filled when its back-off is over.
func plan(want map[string]int, have map[slotKey]slotState, now time.Time) actions {
	var a actions
	for _, variant := range slices.Sorted(maps.Keys(want)) {
		for ordinal := range want[variant] {
			key := slotKey{variant, ordinal}
			s := have[key]
			if s.phase != vacantSlot {
				continue
			}
			if due := s.retryAt.Sub(now); due > 0 {
				if a.wait == 0 || due < a.wait {
					a.wait = due
				}
				continue
			}
			a.launch = append(a.launch, key)
		}
	}
	for key, s := range have {
		if key.ordinal >= want[key.variant] && (s.phase == starting || s.phase == serving) {
			a.stop = append(a.stop, key)
		}
	}
	slices.SortFunc(a.stop, slotKey.compare)
	return a
}

// progress compares what is wanted with what is there.
type progress struct {
	reached bool  // every wanted instance serves, and there are no others
	empty   bool  // there are no instances at all
	failed  error // a wanted instance cannot be had; nil while there is hope
	variant string
}

func measure(want map[string]int, have map[slotKey]slotState) progress {
	p := progress{reached: true, empty: true}
	for _, key := range slices.SortedFunc(maps.Keys(have), slotKey.compare) {
		s := have[key]
		if s.phase != vacantSlot {
			p.empty = false
		}
		wanted := key.ordinal < want[key.variant]
		if !wanted && s.phase != vacantSlot {
			p.reached = false
		}
		if wanted && s.phase == vacantSlot && p.failed == nil && giveUp(s) {
			p.failed, p.variant = s.err, key.variant
		}
	}
	for variant, n := range want {
		for ordinal := range n {
			if have[slotKey{variant, ordinal}].phase != serving {
				p.reached = false
			}
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
