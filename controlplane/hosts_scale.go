package controlplane

import (
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// Waits of managed instance scaling.
const (
	// idleRelease is how long an instance must have had no copy before it is
	// released. AWS publishes no figure.
	idleRelease = 5 * time.Minute
	// scaleInCooldown is CooldownInMinutes' default
	// (API_ProductionVariantManagedInstanceScalingScaleInPolicy).
	scaleInCooldown = 20 * time.Minute
)

// scaling is the variant's ManagedInstanceScaling with its bounds; nil unless it
// is ENABLED.
func (v *variant) scaling() *types.ProductionVariantManagedInstanceScaling {
	s := v.Config.ManagedInstanceScaling
	if s == nil || s.Status != types.ManagedInstanceScalingStatusEnabled {
		return nil
	}
	return s
}

func (v *variant) least() int {
	if s := v.scaling(); s != nil && s.MinInstanceCount != nil {
		return int(*s.MinInstanceCount)
	}
	return 1
}

// most is MaxInstanceCount; without one the number of instances has no bound but
// the copies that ask for them.
func (v *variant) most() int {
	if s := v.scaling(); s != nil && s.MaxInstanceCount != nil {
		return int(*s.MaxInstanceCount)
	}
	return 1 << 20
}

// scaleHosts decides how many instances a variant of managed scaling should have
// now. unplaced are the copies that found no room. An instance that there was no
// capacity for is asked for no longer than copies wait for it.
func (r *reconciler) scaleHosts(rec *endpointRecord, v *variant, g group, unplaced []copyRequest) (count int, wait time.Duration) {
	have := 0
	for key, s := range r.slots {
		if key.group == g && s.host && s.phase == serving {
			have++
		}
	}
	count = int(v.Count)
	if len(unplaced) > 0 {
		added := growth(r.offers(v, g), unplaced, max(0, v.most()-have))
		return max(count, have+len(added), v.least()), 0
	}
	if rec.Update != nil || rec.EndpointStatus != statusInService {
		return max(count, v.least()), 0
	}
	idle, wait := r.idleHosts(g)
	return max(min(count, have)-idle, v.least()), wait
}

// reopenHosts takes hosts back that consolidation was emptying, because copies
// need the room.
func (r *reconciler) reopenHosts(g group) (reopened bool) {
	for key, s := range r.slots {
		if key.group == g && s.host && s.closed && s.phase == serving {
			s.closed, reopened = false, true
			s.instance.Allocate()
		}
	}
	return reopened
}

// idleHosts counts the hosts that may be released now, and tells when the next
// may be.
func (r *reconciler) idleHosts(g group) (n int, wait time.Duration) {
	crowd := r.components.crowd()
	for key, s := range r.slots {
		if key.group != g || !s.host || s.phase != serving {
			continue
		}
		if crowd[s.instance.ID] > 0 {
			s.idleSince = time.Now()
			continue
		}
		left := time.Until(s.idleSince.Add(r.plane.scaled(idleRelease)))
		if s.closed || left <= 0 {
			n++
		} else {
			wait = sooner(wait, left)
		}
	}
	return n, wait
}

// consolidateHosts closes hosts whose copies fit on the others, once the endpoint
// has been quiet for the cooldown
// (API_ProductionVariantManagedInstanceScalingScaleInPolicy).
func (r *reconciler) consolidateHosts(rec *endpointRecord, v *variant, g group, want map[copyGroup]wantedCopies, quietSince time.Time) (closed bool, wait time.Duration) {
	s := v.scaling()
	if s == nil || s.ScaleInPolicy == nil || s.ScaleInPolicy.Strategy != types.ManagedInstanceScalingScaleInStrategyConsolidation {
		return false, 0
	}
	if rec.Update != nil || rec.EndpointStatus != statusInService || int(v.Count) <= v.least() {
		return false, 0
	}
	cooldown := scaleInCooldown
	if n := s.ScaleInPolicy.CooldownInMinutes; n != nil {
		cooldown = time.Duration(*n) * time.Minute
	}
	if last := r.components.consolidated[g]; last.After(quietSince) {
		quietSince = last
	}
	if left := time.Until(quietSince.Add(r.plane.scaled(cooldown))); left > 0 {
		return false, left
	}
	step := 1
	if n := s.ScaleInPolicy.MaximumStepSize; n != nil {
		step = int(*n)
	}
	hosts := r.hostsOf(v, g)
	placed, requests := r.movable(g, want)
	for _, id := range consolidate(hosts, placed, requests, min(step, int(v.Count)-v.least())) {
		for _, s := range r.slots {
			if s.host && s.instance != nil && s.instance.ID == id {
				s.closed, closed = true, true
				s.instance.Release()
			}
		}
	}
	r.components.consolidated[g] = time.Now()
	return closed, r.plane.scaled(cooldown)
}

// setCount writes how many instances managed scaling wants, unless the endpoint
// has changed in the meantime. It is false when an account's quota is in the way.
func (r *reconciler) setCount(seen *endpointRecord, g group, count int) (bool, error) {
	err := r.plane.DB.Update(func(tx *store.Tx) error {
		rec, err := endpoints.Get(tx, r.scope, r.key.Name)
		if err != nil || rec.UID != seen.UID || rec.Generation != seen.Generation {
			return ignoreMissing(err)
		}
		d := rec.deployment(g.deployment)
		if d == nil || d.variant(g.variant) == nil {
			return nil
		}
		d.variant(g.variant).Count = int32(count)
		if err := r.plane.chargeQuota(tx, sdkcompat.Scope(r.scope), rec); err != nil {
			return err
		}
		return endpoints.Put(tx, r.scope, r.key.Name, rec)
	})
	var refused *sdkcompat.Error
	if errors.As(err, &refused) {
		r.log.Warn("no further instance", "variant", g.variant, "error", refused)
		return false, nil
	}
	return true, err
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
