package controlplane

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
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

// hosts tells whether the variant's instances host copies of inference
// components instead of a model.
func (v *variant) hosts() bool { return v.Config.ModelName == nil && v.Config.ServerlessConfig == nil }

// hostsComponents tells whether the endpoint is one for inference components.
func (r *endpointRecord) hostsComponents() bool {
	return len(r.Deployment.Variants) > 0 && r.Deployment.Variants[0].hosts()
}

// hostVariant is a variant for inference components. Without InitialInstanceCount
// it begins with MinInstanceCount, and with one instance without that.
func hostVariant(pv types.ProductionVariant) variant {
	v := variant{Config: pv, Weight: aws.ToFloat32(pv.InitialVariantWeight)}
	v.Count = int32(v.least())
	if pv.InitialInstanceCount != nil {
		v.Count = *pv.InitialInstanceCount
	}
	v.CurrentWeight, v.RollbackCount, v.RollbackWeight = v.Weight, v.Count, v.Weight
	return v
}

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

// allocate puts a host into a slot. It has no worker and so is in service at once.
func (r *reconciler) allocate(key slotKey, instanceType string) {
	now := time.Now()
	in := dataplane.NewInstance(r.pools[key.group], instanceID(), instanceType, r.freeSlot(key.group), now)
	in.Allocate()
	r.slots[key] = &slot{slotState: slotState{phase: serving}, instance: in, served: now, host: true, idleSince: now}
	r.log.Info("instance allocated", "variant", key.variant, "instance", in.ID, "type", instanceType)
}

// freeSlot is the least number that no host of the group shows: which host goes
// when the group shrinks depends on the copies, so the slots' own numbers change.
func (r *reconciler) freeSlot(g group) int {
	taken := map[int]bool{}
	for key, s := range r.slots {
		if key.group == g && s.instance != nil {
			taken[s.instance.Slot] = true
		}
	}
	n := 0
	for taken[n] {
		n++
	}
	return n
}

// leavingOrdinal is where the numbers of hosts that are stopping begin.
const leavingOrdinal = 1 << 20

// arrangeHosts renumbers the hosts of a group so that those with the fewest
// copies are the highest, which plan stops first, those that wait for capacity
// come after them, and those that are stopping are out of the way. Nothing runs
// in a host's name, so that its number is free to change.
func (r *reconciler) arrangeHosts(g group) {
	type numbered struct {
		ordinal int
		*slot
	}
	var staying, waiting, leaving []numbered
	for key, s := range r.slots {
		if key.group != g {
			continue
		}
		switch s.phase {
		case serving:
			staying = append(staying, numbered{key.ordinal, s})
		case stopping:
			leaving = append(leaving, numbered{key.ordinal, s})
		default:
			waiting = append(waiting, numbered{key.ordinal, s})
		}
		delete(r.slots, key)
	}
	byOrdinal := func(a, b numbered) int { return cmp.Compare(a.ordinal, b.ordinal) }
	slices.SortFunc(staying, func(a, b numbered) int {
		return cmp.Or(
			cmp.Compare(boolInt(a.closed), boolInt(b.closed)),
			cmp.Compare(r.components.copiesOn(b.instance.ID), r.components.copiesOn(a.instance.ID)),
			byOrdinal(a, b))
	})
	slices.SortFunc(waiting, byOrdinal)
	for i, s := range slices.Concat(staying, waiting) {
		r.slots[slotKey{g, i}] = s.slot
	}
	for i, s := range leaving {
		r.slots[slotKey{g, leavingOrdinal + i}] = s.slot
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// hostsOf are the hosts of a group, open to new copies or not.
func (r *reconciler) hostsOf(v *variant, g group) []placementHost {
	var all []placementHost
	for key, s := range r.slots {
		if key.group != g || !s.host || s.instance == nil {
			continue
		}
		h := v.offer(s.instance.Type)
		h.id, h.closed = s.instance.ID, s.closed || s.phase != serving
		all = append(all, h)
	}
	return all
}

// freeHosts drops the stopping hosts whose last copy is gone. It returns true when
// a host has begun to stop, for its copies must now go elsewhere.
func (r *reconciler) freeHosts() (evicted bool) {
	for key, s := range r.slots {
		if !s.host || s.phase != stopping {
			continue
		}
		if r.components.copiesOn(s.instance.ID) == 0 {
			r.retireHost(key, s)
			continue
		}
		evicted = evicted || !s.evicted
		s.evicted = true
	}
	return evicted
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
	for key, s := range r.slots {
		if key.group != g || !s.host || s.phase != serving {
			continue
		}
		if r.components.copiesOn(s.instance.ID) > 0 {
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
