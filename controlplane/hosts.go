package controlplane

import (
	"cmp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
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
	crowd := r.components.crowd()
	byOrdinal := func(a, b numbered) int { return cmp.Compare(a.ordinal, b.ordinal) }
	slices.SortFunc(staying, func(a, b numbered) int {
		return cmp.Or(
			cmp.Compare(boolInt(a.closed), boolInt(b.closed)),
			cmp.Compare(crowd[b.instance.ID], crowd[a.instance.ID]),
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
	crowd := r.components.crowd()
	for key, s := range r.slots {
		if !s.host || s.phase != stopping {
			continue
		}
		if crowd[s.instance.ID] == 0 {
			r.retireHost(key, s)
			continue
		}
		evicted = evicted || !s.evicted
		s.evicted = true
	}
	return evicted
}
