package controlplane

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// reconciler makes one endpoint's workers match its record. It runs on one
// goroutine, which alone decides what starts and what stops; each instance it
// starts lives on a goroutine of its own and reports back.
type reconciler struct {
	plane *Plane
	key   dataplane.Key
	scope store.Scope
	log   *slog.Logger

	woken  chan struct{} // holds one wake-up
	events chan event

	looksMu sync.Mutex
	looks   []chan struct{} // to be closed after the next look

	// What the endpoint with this UID and generation has.
	uid        string
	generation int64
	slots      map[slotKey]*slot
	pools      map[group]*dataplane.Pool
	components componentFleet
	taps       taps

	awake bool // an instance is there for a backlog, on a variant scaled to zero

	capacityRules int64 // those that the slots have been tried under
}

// desired is what the store says that there should be.
type desired struct {
	*endpointRecord
	alarms     []string                    // of its update, that are in ALARM
	components []*inferenceComponentRecord // on it, by name
	// componentAlarms are those of the components' updates, by componentKey.
	componentAlarms map[string][]string
}

// slot is the state of a slot and, unless it is vacant, its instance.
type slot struct {
	slotState
	instance *dataplane.Instance
	cancel   context.CancelFunc // ends the instance
	served   time.Time

	// A host has no worker: copies of inference components are placed on it.
	host      bool
	closed    bool      // is to be emptied and released
	evicted   bool      // its copies know that it is stopping
	idleSince time.Time // without a copy
}

// event is what an instance reports of itself.
type event struct {
	key   slotKey
	ready bool  // it serves
	err   error // otherwise it is gone: why, or nil when it was told to stop

	// Of a copy of an inference component, instead of key.
	copy         *copyKey
	host         string // its instance
	alternatives int    // instance types that its variant may have
	instance     string // its own id
	adapter      string // componentKey of an adapter that was loaded, or unloaded
	unloaded     bool
}

func newReconciler(p *Plane, key dataplane.Key) *reconciler {
	r := &reconciler{
		plane: p, key: key, scope: store.Scope{Account: key.Account, Region: key.Region},
		log:   p.Logger.With("endpoint", key.Name, "account", key.Account, "region", key.Region),
		woken: make(chan struct{}, 1), events: make(chan event),
		slots: map[slotKey]*slot{}, pools: map[group]*dataplane.Pool{}, components: newComponentFleet(), taps: newTaps(),
	}
	r.notify()
	return r
}

// notify never blocks: one wake-up stands for all since the last look.
func (r *reconciler) notify() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// look wakes the reconciler. The channel closes when it has acted on what the
// record says from now on; of what it had for an earlier one nothing is left then.
func (r *reconciler) look() <-chan struct{} {
	done := make(chan struct{})
	r.looksMu.Lock()
	r.looks = append(r.looks, done)
	r.looksMu.Unlock()
	r.notify()
	return done
}

// takeLooks are those that were asked for before the look that is about to begin.
func (r *reconciler) takeLooks() []chan struct{} {
	r.looksMu.Lock()
	defer r.looksMu.Unlock()
	looks := r.looks
	r.looks = nil
	return looks
}

// run works until the endpoint is gone or ctx ends; then no worker of it is left.
func (r *reconciler) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-r.woken:
		case <-timer.C:
		case ev := <-r.events:
			r.observeAll(ev)
		case <-ctx.Done():
			r.stopAll()
			return
		}
		looks := r.takeLooks()
		wait, gone := r.reconcile(ctx)
		for _, done := range looks {
			close(done)
		}
		if gone && r.plane.forget(r) {
			return
		}
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
	}
	r.stopAll()
}

// reconcile takes one step: read what is desired, start and stop, publish, and
// write the status that has been reached. A change of status is looked at again
// at once.
func (r *reconciler) reconcile(ctx context.Context) (wait time.Duration, gone bool) {
	for {
		now, err := r.load()
		if errors.Is(err, store.ErrNotFound) {
			r.clear()
			return 0, true
		}
		if err != nil {
			r.log.Error("cannot read the endpoint's record", "error", err)
			return r.plane.scaled(maxBackOff), false
		}
		r.adopt(now)
		r.lookForCapacity()
		if err := r.makePools(now.endpointRecord); err != nil {
			r.log.Error("cannot route to the endpoint", "error", err)
			return r.plane.scaled(maxBackOff), false
		}
		changed, wait, err := r.step(ctx, now)
		if err != nil {
			r.log.Error("cannot write the endpoint's status", "error", err)
			return r.plane.scaled(maxBackOff), false
		}
		if !changed {
			return wait, false
		}
	}
}

// step starts and stops what it must, publishes, and writes what was reached.
func (r *reconciler) step(ctx context.Context, now *desired) (changed bool, wait time.Duration, err error) {
	want := wanted(now.endpointRecord)
	idle := r.startForBacklog(now.endpointRecord, want)
	ending, nextIdle := r.scaleServerless(now.endpointRecord, want)
	r.tidy(want)
	r.makeTaps(now.endpointRecord, want)
	copies := wantCopies(now.endpointRecord, now.components)
	surplus := r.planCopies(copies)
	todo := plan(want, r.states(), time.Now())
	for _, key := range todo.launch {
		todo.wait = sooner(todo.wait, r.fill(ctx, now.endpointRecord, key, copies))
	}
	unplaced, copyWait := r.startCopies(ctx, now, copies)
	// Traffic leaves an instance before the instance leaves its pool, so
	// that no request finds an empty one.
	r.publish(now, want, copies)
	for _, gate := range ending {
		gate.Close()
	}
	for _, key := range todo.stop {
		r.stop(key)
	}
	for _, key := range surplus {
		r.stopCopy(key)
	}
	evicted := r.freeHosts()
	at := measure(want, r.states())
	r.awaitComponents(now, copies, &at)
	changed, wait, err = r.advance(now, at)
	if !changed && err == nil {
		var due time.Duration
		changed, due, err = r.advanceComponents(now, copies, unplaced)
		wait = sooner(wait, due)
	}
	return changed || evicted, sooner(sooner(sooner(todo.wait, copyWait), wait), sooner(idle, nextIdle)), err
}

// adopt starts afresh with another endpoint of the same name, and gives failed
// instances a new chance when the desired state has changed.
func (r *reconciler) adopt(rec *desired) {
	if r.uid != "" && r.uid != rec.UID {
		r.clear()
	}
	r.adoptComponents(rec)
	if r.generation != rec.Generation {
		for _, s := range r.slots {
			if s.phase == vacantSlot {
				s.slotState = slotState{}
			}
		}
	}
	r.uid, r.generation = rec.UID, rec.Generation
}

// clear ends everything that the endpoint had.
func (r *reconciler) clear() {
	r.plane.Fleet.Withdraw(r.key)
	r.stopAll()
	r.uid, r.pools, r.components = "", map[group]*dataplane.Pool{}, newComponentFleet()
}

// tidy forgets the failures of slots that are not wanted any more, and the pools
// of deployments that are gone.
func (r *reconciler) tidy(want map[group]int) {
	used := map[group]bool{}
	for key, s := range r.slots {
		if s.phase == vacantSlot && key.ordinal >= want[key.group] {
			delete(r.slots, key)
			continue
		}
		used[key.group] = true
	}
	for g := range r.pools {
		if _, wanted := want[g]; !wanted && !used[g] {
			delete(r.pools, g)
		}
	}
}

func (r *reconciler) states() map[slotKey]slotState {
	states := make(map[slotKey]slotState, len(r.slots))
	for key, s := range r.slots {
		states[key] = s.slotState
	}
	return states
}

// observeAll takes in an event and all that wait behind it, so that a thousand
// instances that come up together are one step and not a thousand.
func (r *reconciler) observeAll(ev event) {
	for {
		r.observe(ev)
		select {
		case ev = <-r.events:
		default:
			return
		}
	}
}

// observe takes in what an instance reported.
func (r *reconciler) observe(ev event) {
	if ev.copy != nil {
		r.observeCopy(ev)
		return
	}
	s := r.slots[ev.key]
	if ev.ready {
		if s.phase == starting {
			s.phase, s.served = serving, time.Now()
			s.full, s.short, s.waits = nil, time.Time{}, false
			r.observeSetup(ev.key, s)
		}
		return
	}
	if gate := r.gate(ev.key.group); gate != nil && s.phase == starting {
		gate.Fail(ev.err)
	}
	instanceType := s.instance.Type
	s.instance, s.cancel = nil, nil
	switch {
	case s.phase == stopping:
		delete(r.slots, ev.key)
		return
	case s.phase == starting && errors.Is(ev.err, dataplane.ErrCapacity):
		s.observeShortage(instanceType, ev.err)
		return
	}
	if s.phase == serving && time.Since(s.served) >= r.plane.scaled(stableAfter) {
		s.failures = 0
	}
	s.failures++
	s.phase, s.err = vacantSlot, ev.err
	s.retryAt = time.Now().Add(r.plane.scaled(backOff(s.failures)))
	r.log.Warn("instance failed", "variant", ev.key.variant, "instance", ev.key.ordinal, "failures", s.failures, "error", ev.err)
}

func (r *reconciler) stop(key slotKey) {
	s := r.slots[key]
	s.phase = stopping
	if s.host {
		s.instance.Release()
		return
	}
	s.cancel()
}

// stopAll ends every instance and waits until they are gone.
func (r *reconciler) stopAll() {
	r.closeServerless()
	r.endShadows(func(group) bool { return true })
	defer r.endCaptures(func(int64) bool { return true })
	for key, s := range r.slots {
		switch s.phase {
		case vacantSlot:
			delete(r.slots, key)
		case starting, serving:
			r.stop(key)
		}
	}
	r.stopCopies()
	for {
		r.freeHosts()
		if len(r.slots) == 0 && r.components.idle() {
			return
		}
		r.observe(<-r.events)
	}
}

// load reads the endpoint, its components, and those of their updates' alarms
// that are in ALARM.
func (r *reconciler) load() (*desired, error) {
	now := &desired{componentAlarms: map[string][]string{}}
	err := r.plane.DB.View(func(tx *store.Tx) (err error) {
		scope := sdkcompat.Scope(r.scope)
		if now.endpointRecord, err = endpoints.Get(tx, r.scope, r.key.Name); err != nil {
			return err
		}
		if now.Update != nil {
			if now.alarms, err = r.plane.alarming(tx, scope, now.Update); err != nil {
				return err
			}
		}
		if !now.hostsComponents() {
			return nil
		}
		if now.components, err = componentsOf(tx, scope, r.key.Name); err != nil {
			return err
		}
		for _, c := range now.components {
			if now.componentAlarms[c.key()], err = r.plane.componentAlarms(tx, scope, c); err != nil {
				return err
			}
		}
		return nil
	})
	return now, err
}

// advance writes the status that the endpoint has reached, if it has reached
// another one, or tells when to look again. The record must still be of the
// generation that was worked on.
func (r *reconciler) advance(seen *desired, at progress) (changed bool, wait time.Duration, err error) {
	var next transition
	if seen.Update != nil {
		next, wait = nextStage(seen.endpointRecord, at, circumstances{now: time.Now(), scaled: r.plane.scaled, alarms: seen.alarms})
	} else {
		next = nextStatus(seen.endpointRecord, at)
	}
	if next == nil {
		return false, wait, nil
	}
	uid, generation := seen.UID, seen.Generation
	r.foretell(seen, next)
	err = r.plane.DB.UpdateSoon(func(tx *store.Tx) error {
		rec, err := endpoints.Get(tx, r.scope, r.key.Name)
		if errors.Is(err, store.ErrNotFound) || err == nil && (rec.UID != uid || rec.Generation != generation) {
			changed = true // look again
			return nil
		}
		if err != nil {
			return err
		}
		changed = true
		if done := next(rec, tx.Now); done {
			return r.remove(tx, rec)
		}
		return endpoints.Put(tx, r.scope, r.key.Name, rec)
	})
	if err == nil && at.err != nil {
		r.log.Error("deployment failed", "variant", at.variant, "error", at.err)
	}
	return changed, 0, err
}

// foretell publishes what the next status means for traffic before anybody can
// read that status, so that an endpoint that is seen InService takes requests, by
// its new weights. The record as seen is of no use any more: should the status
// not be written, the next look publishes what is true.
func (r *reconciler) foretell(seen *desired, next transition) {
	if gone := next(seen.endpointRecord, time.Now()); gone {
		return
	}
	r.publish(seen, wanted(seen.endpointRecord), wantCopies(seen.endpointRecord, seen.components))
}

func (r *reconciler) remove(tx *store.Tx, rec *endpointRecord) error {
	if err := deleteTags(tx, sdkcompat.Scope(r.scope), *rec.EndpointArn); err != nil {
		return err
	}
	return endpoints.Delete(tx, r.scope, r.key.Name)
}
