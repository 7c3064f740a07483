package controlplane

import (
	"context"
	"maps"
	"slices"
	"time"
)

// provisionTimeout is how long copies wait for room before their component is
// given up: the least that AWS allows for
// VariantInstanceProvisionTimeoutInSeconds, whose default it does not publish.
const provisionTimeout = 5 * time.Minute

// requests are the vacant copies of a group of hosts that may start now, and how
// long it is until the next may.
func (r *reconciler) requests(hosts group, want map[copyGroup]wantedCopies) (due []copyRequest, wait time.Duration) {
	now := time.Now()
	for key, s := range r.components.copies {
		w := want[key.copyGroup]
		if s.phase != vacantSlot || w.hosts != hosts {
			continue
		}
		if left := s.retryAt.Sub(now); left > 0 {
			wait = sooner(wait, left)
			continue
		}
		due = append(due, w.request(key))
	}
	return due, wait
}

func (w wantedCopies) request(key copyKey) copyRequest {
	return copyRequest{key, w.revision.strategy(), w.revision.needs}
}

// movable are the copies that live on a group's hosts, and what each would ask
// for elsewhere.
func (r *reconciler) movable(g group, want map[copyGroup]wantedCopies) ([]placedCopy, map[copyKey]copyRequest) {
	requests := map[copyKey]copyRequest{}
	for key, s := range r.components.copies {
		if w := want[key.copyGroup]; s.live() && w.hosts == g && w.count > 0 {
			requests[key] = w.request(key)
		}
	}
	return r.components.placed(true), requests
}

// offers are the types that a variant's next instance may have now: all but those
// that the machine has no room for.
func (r *reconciler) offers(v *variant, g group) []placementHost {
	all := v.offers()
	left := slices.DeleteFunc(slices.Clone(all), func(h placementHost) bool {
		return time.Now().Before(r.components.exhausted[hostOffer{g, h.instanceType}])
	})
	if len(left) == 0 {
		return all
	}
	return left
}

// hostType is the type of a group's next instance: one that a waiting copy fits
// on, by priority, or the first.
func (r *reconciler) hostType(v *variant, g group, want map[copyGroup]wantedCopies) string {
	offers := r.offers(v, g)
	due, _ := r.requests(g, want)
	_, unplaced := place(r.hostsOf(v, g), r.components.placed(true), due)
	if types := growth(offers, unplaced, 1); len(types) > 0 {
		return types[0]
	}
	return offers[0].instanceType
}

// startCopies places what waits on each group's hosts and starts it. unplaced are
// the copies for which there is no room even when those that are stopping have
// gone.
func (r *reconciler) startCopies(ctx context.Context, now *desired, want map[copyGroup]wantedCopies) (unplaced map[group][]copyRequest, wait time.Duration) {
	f := &r.components
	unplaced = map[group][]copyRequest{}
	hosted := map[group]*variant{}
	for _, w := range want {
		hosted[w.hosts] = w.variant
	}
	waiting := map[copyGroup]bool{}
	for _, g := range slices.SortedFunc(maps.Keys(hosted), group.compare) {
		v := hosted[g]
		due, next := r.requests(g, want)
		wait = sooner(wait, next)
		if len(due) == 0 {
			continue
		}
		hosts := r.hostsOf(v, g)
		assigned, without := place(hosts, f.placed(true), due)
		for _, key := range slices.SortedFunc(maps.Keys(assigned), copyKey.compare) {
			r.launchCopy(ctx, key, assigned[key], want[key.copyGroup], adaptersOf(want[key.copyGroup].component, now.components))
		}
		for _, u := range without {
			waiting[u.copyGroup] = true
		}
		_, unplaced[g] = place(hosts, f.placed(false), without)
	}
	r.tellAdapters(r.plane.ctx, now.components)
	return unplaced, sooner(wait, r.observeRoom(want, waiting))
}

// observeRoom keeps account of the groups of which copies wait for room. wait is
// how long it is until the first of them is given up.
func (r *reconciler) observeRoom(want map[copyGroup]wantedCopies, waiting map[copyGroup]bool) (wait time.Duration) {
	f := &r.components
	for g := range f.roomless {
		if _, vacant := f.count(g); vacant == 0 {
			delete(f.roomless, g)
		}
	}
	for g := range waiting {
		live, _ := f.count(g)
		if short, known := f.roomless[g]; !known || live > short.live {
			f.roomless[g] = shortage{time.Now(), live}
		}
	}
	for g, short := range f.roomless {
		if w, wanted := want[g]; wanted {
			wait = sooner(wait, max(0, time.Until(short.since.Add(r.provisionTimeout(w.variant)))))
		}
	}
	return wait
}

// provisionTimeout is the variant's VariantInstanceProvisionTimeoutInSeconds,
// scaled.
func (r *reconciler) provisionTimeout(v *variant) time.Duration {
	return r.plane.scaled(seconds(v.Config.VariantInstanceProvisionTimeoutInSeconds, provisionTimeout))
}
