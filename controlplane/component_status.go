package controlplane

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// componentStep changes a component from one status or stage to the next. It
// returns true when the component is gone. It is taken twice: to publish what
// follows from it, and to write it.
type componentStep func(c *inferenceComponentRecord, now time.Time) (gone bool)

// copyProgress compares what is wanted of one revision with what is there, in
// the deployment in force.
type copyProgress struct {
	serving int
	extra   bool // there are copies that are stopping, leaving or not wanted
	problem *componentProblem
}

func (r *reconciler) copyProgress(g copyGroup, want map[copyGroup]wantedCopies) copyProgress {
	var p copyProgress
	hosts := r.hostPhases()
	live := 0
	for key, s := range r.components.copies {
		if key.copyGroup != g || s.phase == vacantSlot {
			continue
		}
		if s.phase == stopping || hosts[s.host] != hostOpen {
			p.extra = true
			continue
		}
		live++
		if s.phase == serving {
			p.serving++
		}
	}
	w, wanted := want[g]
	p.extra = p.extra || live > w.count
	if wanted {
		p.problem = r.problem(g, w)
	}
	return p
}

// componentAt is what a component's next step depends on.
type componentAt struct {
	circumstances
	active, target copyProgress
	gone           bool // no copy is left in any deployment
	// Of an adapter: whether all copies of its base know it, why one could not be
	// told, and whether the base's copies are still awaited.
	loaded     bool
	failure    error
	baseAwaits bool
}

// nextComponentStep is the step that a component's life takes, or the time until
// one is due.
func nextComponentStep(c *inferenceComponentRecord, at componentAt) (componentStep, time.Duration) {
	if c.adapter() {
		return nextAdapterStep(c, at), 0
	}
	n := int(c.CopyCount)
	reached := at.active.serving == n && !at.active.extra
	switch c.InferenceComponentStatus {
	case componentCreating:
		switch {
		case at.active.problem != nil:
			return failComponent(at.active.problem.reason), 0
		case reached:
			return serveComponent, 0
		}
	case componentUpdating:
		switch {
		case c.Update != nil:
			return c.Update.next(c, at)
		case reached:
			return serveComponent, 0
		case at.active.problem != nil:
			return resizeBack(at.active.problem.reason), 0
		}
	case componentDeleting:
		if at.gone {
			return func(*inferenceComponentRecord, time.Time) bool { return true }, 0
		}
	}
	return nil, 0
}

func nextAdapterStep(c *inferenceComponentRecord, at componentAt) componentStep {
	switch c.InferenceComponentStatus {
	case componentCreating:
		switch {
		case at.failure != nil:
			return failComponent(adapterFailure(at.failure, *c.InferenceComponentName))
		case at.loaded:
			return serveComponent
		}
	case componentUpdating: // interrupted; its base's copies load it before they serve
		if !at.baseAwaits && at.loaded {
			return serveComponent
		}
	case componentDeleting:
		if at.gone {
			return func(*inferenceComponentRecord, time.Time) bool { return true }
		}
	}
	return nil
}

func serveComponent(c *inferenceComponentRecord, now time.Time) bool {
	c.Served = true
	c.RollbackCopyCount = c.CopyCount
	c.enter(componentInService, now)
	return false
}

func failComponent(reason string) componentStep {
	return func(c *inferenceComponentRecord, now time.Time) bool {
		c.explain(reason)
		c.Generation++
		c.enter(componentFailed, now)
		return false
	}
}

// resizeBack returns to the number of copies before the update. What cannot be had
// of those either is tried for ever, with the component in service.
func resizeBack(reason string) componentStep {
	return func(c *inferenceComponentRecord, now time.Time) bool {
		c.explain(reason)
		c.Generation++
		if c.CopyCount == c.RollbackCopyCount {
			return serveComponent(c, now)
		}
		c.CopyCount = c.RollbackCopyCount
		return false
	}
}

// explain keeps the first of several reasons: the others follow from it.
func (r *inferenceComponentRecord) explain(reason string) {
	if r.FailureReason == nil {
		reason = sdkcompat.Truncate(reason, 1024) // FailureReason (API model)
		r.FailureReason = &reason
	}
}

// dueStep is a step that a component takes, if it is still as it was seen.
type dueStep struct {
	name, uid  string
	generation int64
	step       componentStep
}

// advanceComponents writes the statuses that components have reached, and what
// managed scaling wants.
func (r *reconciler) advanceComponents(now *desired, want map[copyGroup]wantedCopies, unplaced map[group][]copyRequest) (changed bool, wait time.Duration, err error) {
	changed, wait, err = r.scale(now, want, unplaced)
	if changed || err != nil {
		return changed, wait, err
	}
	var due []dueStep
	for _, c := range now.components {
		step, left := nextComponentStep(c, r.componentAt(now, c, want))
		// What an UpdateEndpoint does to the copies says nothing of the component.
		if now.Update != nil && c.InferenceComponentStatus != componentDeleting {
			step, left = nil, 0
		}
		wait = sooner(wait, left)
		if step != nil {
			due = append(due, dueStep{c.id(), c.UID, c.Generation, step})
		}
	}
	if len(due) == 0 {
		return false, wait, nil
	}
	r.foretellComponents(now, due)
	for _, d := range due {
		if err := r.stepComponent(d); err != nil {
			return false, 0, err
		}
	}
	return true, 0, nil
}

// foretellComponents publishes what the next statuses mean for traffic before
// anybody can read them; see foretell.
func (r *reconciler) foretellComponents(now *desired, due []dueStep) {
	now.components = slices.DeleteFunc(now.components, func(c *inferenceComponentRecord) bool {
		i := slices.IndexFunc(due, func(d dueStep) bool { return d.uid == c.UID })
		return i >= 0 && due[i].step(c, time.Now())
	})
	r.publish(now, wanted(now.endpointRecord), wantCopies(now.endpointRecord, now.components))
}

func (r *reconciler) componentAt(now *desired, c *inferenceComponentRecord, want map[copyGroup]wantedCopies) componentAt {
	at := componentAt{circumstances: circumstances{now: time.Now(), scaled: r.plane.scaled, alarms: now.componentAlarms[c.key()]}}
	if c.adapter() {
		at.gone = c.InferenceComponentStatus == componentDeleting && r.forgetAdapter(r.plane.ctx, c)
		at.failure = r.components.adapterErrors[c.key()]
		at.loaded = r.knows(now, c)
		at.baseAwaits = slices.ContainsFunc(now.components, func(b *inferenceComponentRecord) bool {
			return b.id() == c.Base && b.InferenceComponentStatus == componentUpdating
		})
		return at
	}
	g := copyGroup{now.Deployment.ID, c.key(), c.Active.Number}
	at.active = r.copyProgress(g, want)
	if c.Update != nil {
		g.revision = c.Update.Target.Number
		at.target = r.copyProgress(g, want)
	}
	at.gone = true
	for key := range r.components.copies {
		at.gone = at.gone && key.component != c.key()
	}
	return at
}

// knows tells whether all copies of an adapter's base have loaded it. Copies that
// start count too: they would otherwise serve without it.
func (r *reconciler) knows(now *desired, adapter *inferenceComponentRecord) bool {
	for _, base := range now.components {
		if base.id() != adapter.Base {
			continue
		}
		for key, s := range r.components.copies {
			if key.component == base.key() && s.live() && s.adapters[adapter.key()] != adapterKnown {
				return false
			}
		}
	}
	return true
}

// stepComponent takes a step if the component is as it was seen.
func (r *reconciler) stepComponent(d dueStep) error {
	err := r.plane.DB.UpdateSoon(func(tx *store.Tx) error {
		rec, err := inferenceComponents.Get(tx, r.scope, d.name)
		if err != nil || rec.UID != d.uid || rec.Generation != d.generation {
			return ignoreMissing(err)
		}
		before := rec.FailureReason
		if gone := d.step(rec, tx.Now); gone {
			return removeComponent(tx, sdkcompat.Scope(r.scope), rec)
		}
		if rec.FailureReason != nil && before == nil {
			r.log.Error("inference component failed", "component", *rec.InferenceComponentName, "reason", *rec.FailureReason)
		}
		return inferenceComponents.Put(tx, r.scope, rec.id(), rec)
	})
	if err != nil {
		return fmt.Errorf("inference component %s: %w", d.name, err)
	}
	return nil
}

// ignoreMissing takes a record that is gone for one that has changed: the next
// look will find out.
func ignoreMissing(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// componentAlarms are the alarms that a component's update watches and that are
// in ALARM.
func (p *Plane) componentAlarms(tx *store.Tx, scope sdkcompat.Scope, c *inferenceComponentRecord) ([]string, error) {
	if c.Update == nil || c.Update.Policy == nil || c.Update.Policy.AutoRollbackConfiguration == nil {
		return nil, nil
	}
	var in []string
	for _, a := range c.Update.Policy.AutoRollbackConfiguration.Alarms {
		name := aws.ToString(a.AlarmName)
		state, err := p.Alarms.AlarmState(tx, scope, name)
		if err != nil {
			return nil, fmt.Errorf("alarm %s: %w", name, err)
		}
		if state == AlarmAlarm {
			in = append(in, name)
		}
	}
	return in, nil
}
