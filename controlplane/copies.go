package controlplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// provisionTimeout is how long copies wait for room before their component is
// given up: the least that AWS allows for
// VariantInstanceProvisionTimeoutInSeconds, whose default it does not publish.
const provisionTimeout = 5 * time.Minute

// componentFleet is the copies of an endpoint's inference components. It belongs
// to the endpoint's reconciler.
type componentFleet struct {
	copies      map[copyKey]*copySlot
	pools       map[poolKey]*dataplane.Pool
	generations map[string]int64         // by componentKey, worked on last
	noCapacity  map[string]*atomic.Int64 // by componentKey
	// roomless tells since when copies of a group have found no place.
	roomless     map[copyGroup]time.Time
	consolidated map[group]time.Time // last scale-in by consolidation
	// exhausted tells until when the machine has no room for a type.
	exhausted map[hostOffer]time.Time
	loading   int // loads and unloads of adapters under way
	// adapterErrors tells why an adapter could not be loaded, by componentKey.
	adapterErrors map[string]error
}

func newComponentFleet() componentFleet {
	return componentFleet{
		copies: map[copyKey]*copySlot{}, pools: map[poolKey]*dataplane.Pool{}, generations: map[string]int64{},
		noCapacity: map[string]*atomic.Int64{}, roomless: map[copyGroup]time.Time{},
		consolidated: map[group]time.Time{}, exhausted: map[hostOffer]time.Time{},
		adapterErrors: map[string]error{},
	}
}

// poolKey names the copies of a component in one deployment, of whatever
// revision.
type poolKey struct {
	deployment int64
	component  string // componentKey
}

// hostOffer is an instance type of a group.
type hostOffer struct {
	group
	instanceType string
}

// copySlot is the state of a copy and, unless it is vacant, its worker.
type copySlot struct {
	slotState
	host     string // the id of its instance
	needs    resources
	instance *dataplane.Instance
	cancel   context.CancelFunc // ends the copy
	served   time.Time
	// adapters are those that the worker was told of, by componentKey; true once
	// it has answered.
	adapters map[string]bool
}

// idle tells that nothing runs.
func (f *componentFleet) idle() bool { return len(f.copies) == 0 && f.loading == 0 }

func (s *copySlot) live() bool { return s.phase == starting || s.phase == serving }

// componentKey tells components of one name apart, and orders them by name.
func (r *inferenceComponentRecord) key() string { return r.id() + "#" + r.UID }

// revisions are those that the component has copies of now, with how many are
// wanted in all.
func (r *inferenceComponentRecord) revisions() map[*revision]int {
	switch {
	case r.adapter(), r.InferenceComponentStatus == componentDeleting, r.InferenceComponentStatus == componentFailed:
		return nil
	case r.Update == nil:
		return map[*revision]int{&r.Active: int(r.CopyCount)}
	}
	return map[*revision]int{&r.Active: r.Update.Old, &r.Update.Target: r.Update.Fresh}
}

// wantedCopies is how many copies each group should have, with what they are.
type wantedCopies struct {
	component *inferenceComponentRecord
	revision  *revision
	variant   *variant
	hosts     group
	count     int
}

// wantCopies spreads the components' copies over the endpoint's deployments.
// While a rolling update has part of a fleet only, that part has its part of the
// copies.
func wantCopies(rec *endpointRecord, components []*inferenceComponentRecord) map[copyGroup]wantedCopies {
	all := map[copyGroup]wantedCopies{}
	if rec.EndpointStatus == statusDeleting || rec.EndpointStatus == statusFailed {
		return all
	}
	for _, f := range rec.fleets() {
		for _, c := range components {
			v := f.variant(*c.VariantName)
			if v == nil || !v.hosts() {
				continue
			}
			for revision, n := range c.revisions() {
				if total := int(v.Count); total > 0 {
					n = (n*min(f.count(v), total) + total - 1) / total
				}
				all[copyGroup{f.ID, c.key(), revision.Number}] = wantedCopies{c, revision, v, group{f.ID, v.name()}, n}
			}
		}
	}
	return all
}

// copiesOn counts the copies on an instance, those that are stopping included.
func (f *componentFleet) copiesOn(host string) (n int) {
	for _, s := range f.copies {
		if s.phase != vacantSlot && s.host == host {
			n++
		}
	}
	return n
}

// placed are the copies that take room; with stopping, also those on their way
// out.
func (f *componentFleet) placed(withStopping bool) []placedCopy {
	var all []placedCopy
	for key, s := range f.copies {
		if s.live() || withStopping && s.phase == stopping {
			all = append(all, placedCopy{key, s.host, s.needs})
		}
	}
	return all
}

// adoptComponents gives failed copies a new chance when what is desired of their
// component has changed.
func (r *reconciler) adoptComponents(now *desired) {
	f := &r.components
	r.tidyComponents(now)
	for _, f := range now.fleets() {
		for i := range f.Variants {
			if f.Variants[i].hosts() {
				r.arrangeHosts(group{f.ID, f.Variants[i].name()})
			}
		}
	}
	for _, c := range now.components {
		key := c.key()
		if f.generations[key] == c.Generation {
			continue
		}
		f.generations[key] = c.Generation
		for k, s := range f.copies {
			if k.component == key && s.phase == vacantSlot {
				s.slotState = slotState{}
			}
		}
		for g := range f.roomless {
			if g.component == key {
				delete(f.roomless, g)
			}
		}
	}
}

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
			delete(f.roomless, key.copyGroup) // it gets on: the time-out begins anew
			r.launchCopy(ctx, key, assigned[key], want[key.copyGroup], adaptersOf(want[key.copyGroup].component, now.components))
		}
		for _, u := range without {
			waiting[u.copyGroup] = true
		}
		_, unplaced[g] = place(hosts, f.placed(false), without)
	}
	r.tellAdapters(r.plane.ctx, now.components)
	for g := range f.roomless {
		if !waiting[g] {
			delete(f.roomless, g)
		}
	}
	for g := range waiting {
		if f.roomless[g].IsZero() {
			f.roomless[g] = time.Now()
		}
		if left := time.Until(f.roomless[g].Add(r.provisionTimeout(want[g].variant))); left > 0 {
			wait = sooner(wait, left)
		}
	}
	return unplaced, wait
}

// provisionTimeout is the variant's VariantInstanceProvisionTimeoutInSeconds,
// scaled.
func (r *reconciler) provisionTimeout(v *variant) time.Duration {
	return r.plane.scaled(seconds(v.Config.VariantInstanceProvisionTimeoutInSeconds, provisionTimeout))
}

// componentPool is the pool that a component's copies of one deployment are in.
// Its router is that of the variant.
func (r *reconciler) componentPool(g copyGroup, v *variant) *dataplane.Pool {
	key := poolKey{g.deployment, g.component}
	if p := r.components.pools[key]; p != nil {
		return p
	}
	p, err := dataplane.NewPool(v.routing(), r.seed("component", g.component))
	if err != nil { // makePools has made one of the same routing
		r.log.Error("cannot route to the component", "error", err)
		p, _ = dataplane.NewPool(dataplane.Routing{}, 0)
	}
	r.components.pools[key] = p
	return p
}

// tidyComponents forgets what belongs to components and deployments that are
// gone.
func (r *reconciler) tidyComponents(now *desired) {
	f := &r.components
	known, deployments := map[string]bool{}, map[int64]bool{}
	for _, c := range now.components {
		known[c.key()] = true
	}
	for _, d := range now.fleets() {
		deployments[d.ID] = true
	}
	for key := range f.copies {
		known[key.component], deployments[key.deployment] = true, true
	}
	maps.DeleteFunc(f.pools, func(k poolKey, _ *dataplane.Pool) bool { return !known[k.component] || !deployments[k.deployment] })
	maps.DeleteFunc(f.generations, func(k string, _ int64) bool { return !known[k] })
	maps.DeleteFunc(f.noCapacity, func(k string, _ *atomic.Int64) bool { return !known[k] })
	maps.DeleteFunc(f.adapterErrors, func(k string, _ error) bool { return !known[k] })
	maps.DeleteFunc(f.consolidated, func(k group, _ time.Time) bool { return !deployments[k.deployment] })
	maps.DeleteFunc(f.exhausted, func(k hostOffer, _ time.Time) bool { return !deployments[k.deployment] })
}

// observeCopy takes in what a copy reported.
func (r *reconciler) observeCopy(ev event) {
	f := &r.components
	s := f.copies[*ev.copy]
	switch {
	case ev.adapter != "":
		f.loading--
		if s != nil && s.instance != nil && s.instance.ID == ev.instance {
			r.observeAdapter(s, ev)
		}
		return
	case ev.ready:
		if s.phase == starting {
			s.phase, s.served = serving, time.Now()
		}
		return
	}
	if s.phase == stopping {
		delete(f.copies, *ev.copy)
		return
	}
	failures := s.failures
	if s.phase == serving && time.Since(s.served) >= r.plane.scaled(stableAfter) {
		failures = 0
	}
	failures++
	*s = copySlot{slotState: slotState{
		phase: vacantSlot, failures: failures, err: ev.err, retryAt: time.Now().Add(r.plane.scaled(backOff(failures))),
	}}
	r.log.Warn("copy failed", "component", ev.copy.component, "copy", ev.copy.ordinal, "failures", failures, "error", ev.err)
	if errors.Is(ev.err, dataplane.ErrCapacity) {
		r.exhaust(ev)
	}
}

// exhaust gives up an empty instance on which the machine has no room for a copy,
// so that another of the variant's types is tried (API_InstancePool).
func (r *reconciler) exhaust(ev event) {
	for key, s := range r.slots {
		if !s.host || s.instance == nil || s.instance.ID != ev.host {
			continue
		}
		r.components.exhausted[hostOffer{key.group, s.instance.Type}] = time.Now().Add(r.plane.scaled(maxBackOff))
		if ev.alternatives > 1 && r.components.copiesOn(s.instance.ID) == 0 {
			r.retireHost(key, s)
		}
	}
}

func (r *reconciler) stopCopy(key copyKey) {
	s := r.components.copies[key]
	s.phase = stopping
	s.cancel()
}

// stopCopies ends every copy.
func (r *reconciler) stopCopies() {
	for key, s := range r.components.copies {
		switch s.phase {
		case vacantSlot:
			delete(r.components.copies, key)
		case starting, serving:
			r.stopCopy(key)
		}
	}
}

// problem says what keeps a group's copies from being had; empty while there is
// hope.
func (r *reconciler) problem(g copyGroup, w wantedCopies) *componentProblem {
	name := *w.component.InferenceComponentName
	if w.count > 0 && !possible(w.variant.offers(), w.request(copyKey{copyGroup: g})) {
		return &componentProblem{reason: tooLarge(w)}
	}
	for key, s := range r.components.copies {
		if key.copyGroup == g && s.phase == vacantSlot && giveUp(s.slotState) && !r.otherTypes(s.slotState, w) {
			return &componentProblem{reason: copyFailure(s.err, name), err: s.err}
		}
	}
	since, waiting := r.components.roomless[g]
	timeout := r.provisionTimeout(w.variant)
	if waiting && time.Since(since) >= timeout {
		n := 0
		for key, s := range r.components.copies {
			if key.copyGroup == g && s.phase == vacantSlot {
				n++
			}
		}
		return &componentProblem{reason: noRoom(w, n)}
	}
	return nil
}

// otherTypes tells whether a copy that the machine had no room for may still find
// it on another type.
func (r *reconciler) otherTypes(s slotState, w wantedCopies) bool {
	return errors.Is(s.err, dataplane.ErrCapacity) && s.failures < len(instanceTypes(&w.variant.Config))
}

// componentProblem is why a component cannot have its copies.
type componentProblem struct {
	reason string // FailureReason
	err    error
}

func (p *componentProblem) Error() string {
	if p.err != nil {
		return fmt.Sprintf("%s (%v)", p.reason, p.err)
	}
	return p.reason
}
