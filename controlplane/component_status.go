package controlplane

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// componentStep changes a component from one status or stage to the next. It
// returns true when the component is gone.
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
	// adapter tells of an adapter whether all copies of its base know it, and why
	// one could not be told.
	loaded  bool
	failure error
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

// begin sets the update's first numbers.
func (u *componentUpdate) begin(total int, now time.Time) {
	u.Fresh = total
	if p := u.rolling(); p != nil {
		u.Fresh = min(total, copiesIn(p.MaximumBatchSize, total))
	}
	u.Stage, u.Since = provisioning, now
}

// next is the next step of the update.
func (u *componentUpdate) next(c *inferenceComponentRecord, at componentAt) (componentStep, time.Duration) {
	if u.Back {
		return u.back(c, at), 0
	}
	if reason := u.verdict(at); reason != "" {
		return turnComponentBack(reason, at.active.serving, at.target.serving), 0
	}
	wait := time.Duration(0)
	if limit := u.limit(); limit > 0 {
		wait = at.left(u.Started, limit)
	}
	if u.rolling() == nil {
		return u.swap(c, at), wait
	}
	step, due := u.roll(c, at)
	return step, sooner(wait, due)
}

// verdict is why the update must be rolled back now; empty when it need not.
func (u *componentUpdate) verdict(at componentAt) string {
	switch {
	case at.target.problem != nil:
		return at.target.problem.reason
	case len(at.alarms) > 0 && at.target.serving > 0:
		return sdkcompat.AlarmRaised.Sentence(strings.Join(at.alarms, ", "))
	case u.limit() > 0 && at.left(u.Started, u.limit()) == 0:
		return sdkcompat.DeploymentLate.Sentence(int(u.limit().Seconds()))
	}
	return ""
}

// swap replaces copies one for one: as many old ones go as new ones serve.
func (u *componentUpdate) swap(c *inferenceComponentRecord, at componentAt) componentStep {
	total, before := int(c.CopyCount), int(c.RollbackCopyCount)
	old := 0
	if at.target.serving < total {
		old = min(u.Old, before-before*at.target.serving/total)
	}
	switch {
	case old < u.Old:
		return func(c *inferenceComponentRecord, _ time.Time) bool {
			c.Update.Old = old
			return false
		}
	case u.Old == 0 && at.target.serving == total && !at.active.extra && at.active.serving == 0:
		return finishComponent
	}
	return nil
}

// roll replaces copies batch by batch: a batch of new ones starts, is watched for
// WaitIntervalInSeconds, and then as many old ones go
// (API_InferenceComponentRollingUpdatePolicy).
func (u *componentUpdate) roll(c *inferenceComponentRecord, at componentAt) (componentStep, time.Duration) {
	total, before := int(c.CopyCount), int(c.RollbackCopyCount)
	there := at.target.serving >= u.Fresh
	switch u.Stage {
	case provisioning:
		if there {
			return stageComponent(baking, u.Fresh, u.Old), 0
		}
	case baking:
		wait := at.left(u.Since, seconds(u.rolling().WaitIntervalInSeconds, 0))
		if wait > 0 || !there {
			return nil, wait
		}
		old := 0
		if u.Fresh < total {
			old = before - before*u.Fresh/total
		}
		return stageComponent(draining, u.Fresh, min(u.Old, old)), 0
	case draining:
		switch {
		case at.active.extra || !there:
		case u.Fresh == total:
			return finishComponent, 0
		default:
			return stageComponent(provisioning, min(total, u.Fresh+copiesIn(u.rolling().MaximumBatchSize, total)), u.Old), 0
		}
	}
	return nil, 0
}

func stageComponent(s stage, fresh, old int) componentStep {
	return func(c *inferenceComponentRecord, now time.Time) bool {
		c.Update.Stage, c.Update.Since, c.Update.Fresh, c.Update.Old = s, now, fresh, old
		return false
	}
}

func finishComponent(c *inferenceComponentRecord, now time.Time) bool {
	c.Active, c.Update = c.Update.Target, nil
	return serveComponent(c, now)
}

// turnComponentBack begins to roll an update back.
func turnComponentBack(reason string, old, fresh int) componentStep {
	return func(c *inferenceComponentRecord, now time.Time) bool {
		c.explain(reason)
		c.CopyCount = c.RollbackCopyCount
		u := c.Update
		u.Back, u.Stage, u.Since = true, restoring, now
		u.Fresh = min(u.Fresh, fresh)
		u.Old = u.restored(int(c.CopyCount), old)
		c.Generation++
		return false
	}
}

// restored is how many old copies are wanted while so many serve: the next batch
// more, by RollbackMaximumBatchSize, which is all of them when it is absent.
func (u *componentUpdate) restored(total, up int) int {
	batch := total
	if p := u.rolling(); p != nil {
		batch = copiesIn(p.RollbackMaximumBatchSize, total)
	}
	return max(u.Old, min(total, up+batch))
}

// back returns to the old revision: new copies go as old ones serve again.
func (u *componentUpdate) back(c *inferenceComponentRecord, at componentAt) componentStep {
	total := int(c.CopyCount)
	fresh := min(u.Fresh, max(0, total-at.active.serving))
	old := u.restored(total, at.active.serving)
	switch {
	case fresh < u.Fresh || old > u.Old:
		return stageComponent(restoring, fresh, old)
	case u.Fresh == 0 && at.target.serving == 0 && !at.target.extra && at.active.serving == total:
		return returnComponent
	case at.active.problem != nil && u.Fresh > 0:
		// There is no room beside the new copies: one of them makes some.
		return func(c *inferenceComponentRecord, now time.Time) bool {
			c.Generation++
			return stageComponent(restoring, u.Fresh-1, u.Old)(c, now)
		}
	case at.active.problem != nil:
		return returnComponent // the old copies are tried for ever
	}
	return nil
}

// returnComponent ends a rollback; FailureReason stays.
func returnComponent(c *inferenceComponentRecord, now time.Time) bool {
	c.Update = nil
	c.Generation++
	return serveComponent(c, now)
}

// tooLarge, noRoom, copyFailure and adapterFailure are FailureReasons.
func tooLarge(w wantedCopies) string {
	n, _ := w.revision.needs(w.variant.instanceType())
	need := fmt.Sprintf("it needs %g vCPU, %d MB of memory and %d accelerators", float64(n.milliCPU)/1000, n.memoryMiB, n.accelerators)
	return sdkcompat.ComponentTooLarge.Sentence(w.variant.name(), *w.component.InferenceComponentName, need)
}

func noRoom(w wantedCopies, n int) string {
	limit := seconds(w.variant.Config.VariantInstanceProvisionTimeoutInSeconds, provisionTimeout)
	return sdkcompat.ComponentNoRoom.Sentence(w.variant.name(), n, *w.component.InferenceComponentName, int(limit.Seconds()))
}

func copyFailure(err error, component string) string {
	switch {
	case errors.Is(err, dataplane.ErrCannotStart):
		return sdkcompat.ComponentCannotRun.Sentence(component)
	case errors.Is(err, dataplane.ErrCapacity):
		return sdkcompat.InsufficientCapacity.Sentence()
	case errors.Is(err, dataplane.ErrModelData):
		return sdkcompat.ComponentDataFailed.Sentence(component, dataCause(err))
	case errors.Is(err, dataplane.ErrPing):
		return sdkcompat.ComponentPingFailed.Sentence(component)
	}
	return sdkcompat.ServiceFailed.Sentence()
}

func adapterFailure(err error, component string) string {
	if errors.Is(err, dataplane.ErrModelData) {
		return sdkcompat.ComponentDataFailed.Sentence(component, dataCause(err))
	}
	return sdkcompat.AdapterFailed.Sentence(component, err)
}

func dataCause(err error) string {
	return strings.TrimLeft(strings.TrimPrefix(err.Error(), dataplane.ErrModelData.Error()), ": ")
}

// advanceComponents writes the statuses that components have reached, and what
// managed scaling wants.
func (r *reconciler) advanceComponents(now *desired, want map[copyGroup]wantedCopies, unplaced map[group][]copyRequest) (changed bool, wait time.Duration, err error) {
	changed, wait, err = r.scale(now, want, unplaced)
	if changed || err != nil {
		return changed, wait, err
	}
	for _, c := range now.components {
		step, due := nextComponentStep(c, r.componentAt(now, c, want))
		// What an UpdateEndpoint does to the copies says nothing of the component.
		if now.Update != nil && c.InferenceComponentStatus != componentDeleting {
			step, due = nil, 0
		}
		wait = sooner(wait, due)
		if step == nil {
			continue
		}
		if err := r.stepComponent(c, step); err != nil {
			return false, 0, err
		}
		changed = true
	}
	return changed, wait, nil
}

func (r *reconciler) componentAt(now *desired, c *inferenceComponentRecord, want map[copyGroup]wantedCopies) componentAt {
	at := componentAt{circumstances: circumstances{now: time.Now(), scaled: r.plane.scaled, alarms: now.componentAlarms[c.key()]}}
	if c.adapter() {
		at.gone = c.InferenceComponentStatus == componentDeleting && r.forgetAdapter(r.plane.ctx, c)
		at.failure = r.components.adapterErrors[c.key()]
		at.loaded = r.knows(now, c)
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
			if key.component == base.key() && s.live() && !s.adapters[adapter.key()] {
				return false
			}
		}
	}
	return true
}

// stepComponent takes a step if the component is as it was seen.
func (r *reconciler) stepComponent(seen *inferenceComponentRecord, step componentStep) error {
	err := r.plane.DB.Update(func(tx *store.Tx) error {
		rec, err := inferenceComponents.Get(tx, r.scope, seen.id())
		if err != nil || rec.UID != seen.UID || rec.Generation != seen.Generation {
			return ignoreMissing(err)
		}
		if gone := step(rec, tx.Now); gone {
			return removeComponent(tx, sdkcompat.Scope(r.scope), rec)
		}
		if rec.FailureReason != nil && seen.FailureReason == nil {
			r.log.Error("inference component failed", "component", *rec.InferenceComponentName, "reason", *rec.FailureReason)
		}
		return inferenceComponents.Put(tx, r.scope, rec.id(), rec)
	})
	if err != nil {
		return fmt.Errorf("inference component %s: %w", *seen.InferenceComponentName, err)
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

// scale writes the number of instances that managed scaling wants, and closes
// instances that it can empty.
func (r *reconciler) scale(now *desired, want map[copyGroup]wantedCopies, unplaced map[group][]copyRequest) (changed bool, wait time.Duration, err error) {
	d := &now.Deployment
	if u := now.Update; u != nil {
		if u.rolling() != nil || u.Stage != provisioning || now.EndpointStatus != statusUpdating {
			return false, 0, nil
		}
		d = &u.Target
	}
	quiet := now.TransitionTime
	for _, c := range now.components {
		if c.TransitionTime.After(quiet) {
			quiet = c.TransitionTime
		}
	}
	for i := range d.Variants {
		v := &d.Variants[i]
		g := group{d.ID, v.name()}
		if !v.hosts() || v.scaling() == nil || now.EndpointStatus == statusDeleting || now.EndpointStatus == statusFailed {
			continue
		}
		if len(unplaced[g]) > 0 && r.reopenHosts(g) {
			return true, 0, nil
		}
		count, due := r.scaleHosts(now.endpointRecord, v, g, unplaced[g])
		wait = sooner(wait, due)
		if count != int(v.Count) {
			changed, err := r.setCount(now.endpointRecord, g, count)
			if !changed && err == nil && count > int(v.Count)+1 { // a quota may leave room for one
				changed, err = r.setCount(now.endpointRecord, g, int(v.Count)+1)
			}
			if changed || err != nil {
				return changed, 0, err
			}
		}
		closed, due := r.consolidateHosts(now.endpointRecord, v, g, want, quiet)
		wait = sooner(wait, due)
		if closed {
			return true, 0, nil
		}
	}
	return false, wait, nil
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
