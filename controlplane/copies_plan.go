package controlplane

import (
	"cmp"
	"slices"
)

// planCopies brings the number of each group's copies to what is wanted: it
// makes vacant slots for those that are missing, forgets vacant ones that are
// not, and returns the surplus, to be stopped when traffic no longer goes there.
// Copies whose instance is to go are replaced before they stop.
func (r *reconciler) planCopies(want map[copyGroup]wantedCopies) (surplus []copyKey) {
	f := &r.components
	hosts := r.hostPhases()
	groups := map[copyGroup][]copyKey{}
	for key := range f.copies {
		groups[key.copyGroup] = append(groups[key.copyGroup], key)
	}
	for g := range want {
		groups[g] = slices.Clip(groups[g]) // so that there is an entry
	}
	for g, keys := range groups {
		n := want[g].count
		var staying, leaving, vacant []copyKey
		for _, key := range keys {
			s := f.copies[key]
			switch {
			case s.phase == vacantSlot:
				vacant = append(vacant, key)
			case s.live() && hosts[s.host] != hostOpen:
				leaving = append(leaving, key)
			case s.live():
				staying = append(staying, key)
			}
		}
		surplus = append(surplus, f.surplusOf(staying, n)...)
		surplus = append(surplus, r.relieved(g, staying, leaving, n, hosts)...)
		slices.SortFunc(vacant, copyKey.compare)
		for missing := n - len(staying); len(vacant) > max(0, missing); vacant = vacant[:len(vacant)-1] {
			delete(f.copies, vacant[len(vacant)-1])
		}
		for ordinal := 0; len(staying)+len(vacant) < n; ordinal++ {
			key := copyKey{g, ordinal}
			if f.copies[key] == nil {
				f.copies[key] = new(copySlot)
				vacant = append(vacant, key)
			}
		}
	}
	slices.SortFunc(surplus, copyKey.compare)
	return surplus
}

// surplusOf chooses what to stop of the copies beyond n: first those that do not
// serve yet, then those on the instances with the most copies of the component,
// so that SPREAD stays even, and of equal ones the highest.
func (f *componentFleet) surplusOf(staying []copyKey, n int) []copyKey {
	if len(staying) <= n {
		return nil
	}
	left := slices.Clone(staying)
	var surplus []copyKey
	for len(left) > n {
		crowd := map[string]int{}
		for _, key := range left {
			crowd[f.copies[key].host]++
		}
		i := 0
		for j := range left {
			if f.stopsBefore(left[j], left[i], crowd) {
				i = j
			}
		}
		surplus = append(surplus, left[i])
		left = slices.Delete(left, i, i+1)
	}
	return surplus
}

func (f *componentFleet) stopsBefore(a, b copyKey, crowd map[string]int) bool {
	sa, sb := f.copies[a], f.copies[b]
	return cmp.Or(
		cmp.Compare(int(sa.phase), int(sb.phase)), // starting comes before serving
		cmp.Compare(crowd[sb.host], crowd[sa.host]),
		b.compare(a)) < 0
}

// relieved are the copies on leaving hosts that can stop: those whose work others
// do, and all of them when the instance must go and there is no room elsewhere.
func (r *reconciler) relieved(g copyGroup, staying, leaving []copyKey, n int, hosts map[string]hostState) []copyKey {
	f := &r.components
	slices.SortFunc(leaving, copyKey.compare)
	up := 0
	for _, key := range slices.Concat(staying, leaving) {
		if f.copies[key].phase == serving {
			up++
		}
	}
	_, roomless := f.roomless[g]
	var stop []copyKey
	for _, key := range leaving {
		s := f.copies[key]
		switch {
		case s.phase == starting:
			stop = append(stop, key)
		case up > n, roomless && hosts[s.host] == hostLeaving:
			stop = append(stop, key)
			up--
		}
	}
	return stop
}

// hostState tells what an instance does with copies.
type hostState int

const (
	hostGone    hostState = iota
	hostOpen              // takes copies
	hostClosed            // is being emptied by consolidation
	hostLeaving           // is not wanted any more
)

func (r *reconciler) hostPhases() map[string]hostState {
	all := map[string]hostState{}
	for _, s := range r.slots {
		if !s.host || s.instance == nil {
			continue
		}
		switch {
		case s.phase == stopping:
			all[s.instance.ID] = hostLeaving
		case s.closed:
			all[s.instance.ID] = hostClosed
		default:
			all[s.instance.ID] = hostOpen
		}
	}
	return all
}
