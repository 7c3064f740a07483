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
func (f *componentFleet) surplusOf(staying []copyKey, n int) (surplus []copyKey) {
	if len(staying) <= n {
		return nil
	}
	// On one instance the last is the next to stop.
	byHost := map[string][]copyKey{}
	for _, key := range staying {
		host := f.copies[key].host
		byHost[host] = append(byHost[host], key)
	}
	for _, keys := range byHost {
		slices.SortFunc(keys, func(a, b copyKey) int {
			return cmp.Or(cmp.Compare(f.copies[b].phase, f.copies[a].phase), a.compare(b))
		})
	}
	for len(staying)-len(surplus) > n {
		fullest := ""
		for host, keys := range byHost {
			if fullest == "" || f.stopsBefore(keys, byHost[fullest]) {
				fullest = host
			}
		}
		keys := byHost[fullest]
		surplus = append(surplus, keys[len(keys)-1])
		if byHost[fullest] = keys[:len(keys)-1]; len(keys) == 1 {
			delete(byHost, fullest)
		}
	}
	return surplus
}

// stopsBefore compares the last copies of two instances.
func (f *componentFleet) stopsBefore(onA, onB []copyKey) bool {
	a, b := onA[len(onA)-1], onB[len(onB)-1]
	return cmp.Or(
		cmp.Compare(f.copies[a].phase, f.copies[b].phase), // starting comes before serving
		cmp.Compare(len(onB), len(onA)),
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
