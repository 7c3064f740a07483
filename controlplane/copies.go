package controlplane

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// componentFleet is the copies of an endpoint's inference components. It belongs
// to the endpoint's reconciler.
type componentFleet struct {
	copies       map[copyKey]*copySlot
	pools        map[poolKey]*dataplane.Pool
	generations  map[string]int64         // by componentKey, worked on last
	noCapacity   map[string]*atomic.Int64 // by componentKey
	roomless     map[copyGroup]shortage
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
		noCapacity: map[string]*atomic.Int64{}, roomless: map[copyGroup]shortage{},
		consolidated: map[group]time.Time{}, exhausted: map[hostOffer]time.Time{},
		adapterErrors: map[string]error{},
	}
}

// shortage tells since when copies of a group have found no place, with so many
// that had one. It begins anew when there are more of them, and ends when all
// have one.
type shortage struct {
	since time.Time
	live  int
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
	adapters map[string]adapterState // by componentKey
}

// adapterState is what a copy makes of an adapter.
type adapterState int

const (
	adapterUntold adapterState = iota
	adapterTold                // a load or an unload is under way
	adapterKnown
	adapterRefused
)

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

// count is how many of a group's copies have a place, and how many have none.
func (f *componentFleet) count(g copyGroup) (live, vacant int) {
	for key, s := range f.copies {
		switch {
		case key.copyGroup != g:
		case s.live():
			live++
		case s.phase == vacantSlot:
			vacant++
		}
	}
	return live, vacant
}

// crowd counts the copies on each instance, those that are stopping included.
func (f *componentFleet) crowd() map[string]int {
	on := map[string]int{}
	for _, s := range f.copies {
		if s.phase != vacantSlot {
			on[s.host]++
		}
	}
	return on
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
		if ev.alternatives > 1 && r.components.crowd()[s.instance.ID] == 0 {
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
