package sim

import (
	"math"
	"math/bits"
	"slices"
)

// events is when each of a fixed number of things happens next: a tournament.
// The times lie in groups of eight, a cache line; the earliest of each group
// plays on the level above, up to the one that comes next. A thing always plays
// in the same places, so that a change touches memory that is known beforehand
// and fetched all at once, where a heap's way down is fetched one step after the
// other; most changes make no difference to their group and end there.
// Things at the same time come in an order that depends on nothing but the
// history of calls.
type events struct {
	levels []level // the things first, one winner last
}

// level is each place's time, and whose it is but for the first level, where
// every thing has the place of its number.
type level struct {
	at    []moment
	thing []int32
}

// moment is the bits of a time that is not negative, which are ordered as it is.
type moment uint64

const (
	never = ^moment(0) // nothing is planned
	group = 8
)

func newEvents(things int) *events {
	e := new(events)
	for n := things; ; {
		groups := (n + group - 1) / group
		r := level{at: slices.Repeat([]moment{never}, groups*group)}
		if e.levels != nil {
			r.thing = make([]int32, groups*group)
		}
		e.levels = append(e.levels, r)
		if r.thing != nil && n == 1 {
			return e
		}
		n = groups
	}
}

// next is the thing whose event is the earliest; false without any.
func (e *events) next() (thing int32, at float64, ok bool) {
	top := &e.levels[len(e.levels)-1]
	return top.thing[0], math.Float64frombits(uint64(top.at[0])), top.at[0] != never
}

// clear plans nothing for the thing.
func (e *events) clear(thing int32) { e.plan(thing, never) }

// set plans the thing's next event, in place of one planned before.
func (e *events) set(thing int32, at float64) { e.plan(thing, moment(math.Float64bits(at))) }

func (e *events) plan(thing int32, at moment) {
	e.levels[0].at[thing] = at
	place, winner := thing, thing
	for l := 1; l < len(e.levels); l++ {
		above := &e.levels[l]
		place /= group
		switch {
		case at < above.at[place]:
		case above.thing[place] == thing: // it was the earliest
			below, best := &e.levels[l-1], place*group
			best += int32(earliest((*[group]moment)(below.at[best:])))
			at, winner = below.at[best], best
			if l > 1 {
				winner = below.thing[best]
			}
		default:
			return
		}
		above.at[place], above.thing[place] = at, winner
	}
}

// earliest is the place in the group of the earliest time.
func earliest(at *[group]moment) uint64 {
	return earlier(at,
		earlier(at, earlier(at, 0, 1), earlier(at, 2, 3)),
		earlier(at, earlier(at, 4, 5), earlier(at, 6, 7)))
}

// earlier is which of two places has the earlier time, the first when they are
// at the same. It has no branch: nothing could predict one here, and a loop that
// compares takes a fifth more time for a whole request at 1,000 instances.
func earlier(at *[group]moment, a, b uint64) uint64 {
	_, before := bits.Sub64(uint64(at[b%group]), uint64(at[a%group]), 0) // 1: b's is
	return a ^ (a^b)&-before
}
