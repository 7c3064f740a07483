package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// fill puts an instance into a vacant slot: a host for copies, or one that runs
// the variant's model. It is of the first type for which there is capacity
// (docs: realtime-endpoints-heterogeneous); without any the slot stays vacant,
// and retry is how long it is until the next try.
func (r *reconciler) fill(ctx context.Context, rec *endpointRecord, key slotKey, copies map[copyGroup]wantedCopies) (retry time.Duration) {
	v := rec.deployment(key.deployment).variant(key.variant)
	s := r.slots[key]
	if s == nil {
		s = new(slot)
		r.slots[key] = s
	}
	if v.hosts() {
		return r.fillHost(v, s, key, copies)
	}
	instanceType, ok := r.plane.Capacity.reserve(s.candidates(v))
	if !ok {
		return r.refuse(v, s, key)
	}
	if errors.Is(s.err, dataplane.ErrCapacity) {
		s.failures = 0 // having waited is no crash
	}
	r.launch(ctx, v, key, instanceType)
	return 0
}

// fillHost asks for a host of the type that suits the waiting copies best, and
// then for the next.
func (r *reconciler) fillHost(v *variant, s *slot, key slotKey, copies map[copyGroup]wantedCopies) (retry time.Duration) {
	for range v.offers() {
		best := r.hostType(v, key.group, copies)
		if _, ok := r.plane.Capacity.reserve([]string{best}); ok {
			r.allocate(key, best)
			return 0
		}
		r.components.exhausted[hostOffer{key.group, best}] = time.Now().Add(r.plane.scaled(maxBackOff))
	}
	return r.refuse(v, s, key)
}

// candidates are the types that the slot's next instance may have: those that a
// kind of worker had no room for are left out until all were tried. A serverless
// variant's has none.
func (s *slotState) candidates(v *variant) []string {
	all := instanceTypes(&v.Config)
	if v.Config.ServerlessConfig != nil {
		all = []string{""}
	}
	return slices.DeleteFunc(all, func(t string) bool { return slices.Contains(s.full, t) })
}

// refuse notes that there is no instance to be had for a slot. It is tried again
// until VariantInstanceProvisionTimeoutInSeconds are over (AWS page:
// API_ProductionVariant), without which the deployment fails at once.
func (r *reconciler) refuse(v *variant, s *slot, key slotKey) (retry time.Duration) {
	now := time.Now()
	if !errors.Is(s.err, dataplane.ErrCapacity) {
		s.err = fmt.Errorf("%w: there is no %s", dataplane.ErrCapacity, strings.Join(instanceTypes(&v.Config), ", "))
	}
	if s.short.IsZero() {
		s.short, s.failures = now, 0
		r.log.Warn("no capacity", "variant", key.variant, "instance", key.ordinal, "error", s.err)
	}
	s.failures++
	s.full = nil
	left := s.short.Add(r.plane.scaled(seconds(v.Config.VariantInstanceProvisionTimeoutInSeconds, 0))).Sub(now)
	s.waits = left > 0
	retry = r.plane.scaled(backOff(s.failures))
	if s.waits {
		retry = min(retry, left)
	}
	s.retryAt = now.Add(retry)
	return retry
}

// observeShortage takes in that a kind of worker had no room for an instance:
// the next type is tried at once.
func (s *slot) observeShortage(instanceType string, err error) {
	s.phase, s.err, s.retryAt = vacantSlot, err, time.Time{}
	s.full = append(s.full, instanceType)
}

// lookForCapacity lets everything that waits for capacity try again when the
// rules have changed.
func (r *reconciler) lookForCapacity() {
	version := r.plane.Capacity.rulesVersion()
	if r.capacityRules == version {
		return
	}
	r.capacityRules = version
	clear(r.components.exhausted)
	for _, s := range r.slots {
		if s.phase == vacantSlot && errors.Is(s.err, dataplane.ErrCapacity) {
			s.retryAt = time.Time{}
		}
	}
}

// retireHost ends a host on which there is no copy.
func (r *reconciler) retireHost(key slotKey, s *slot) {
	s.instance.Retire()
	r.plane.Capacity.release(s.instance.Type)
	delete(r.slots, key)
}

// poolModel is what the instances of a pool run that has a ModelNameOverride.
type poolModel struct {
	Containers []types.ContainerDefinition
	Direct     bool
}

// override resolves the models of the variant's instance pools.
func (v *variant) override(tx *store.Tx, scope sdkcompat.Scope) error {
	for _, pool := range v.Config.InstancePools {
		if pool.ModelNameOverride == nil {
			continue
		}
		model, err := getModel(tx, scope, *pool.ModelNameOverride)
		if err != nil {
			return err
		}
		var other variant
		other.run(model)
		if v.Overrides == nil {
			v.Overrides = map[string]poolModel{}
		}
		v.Overrides[string(pool.InstanceType)] = poolModel{other.Containers, other.Direct}
	}
	return nil
}

// on is the variant as its instances of a type run it.
func (v *variant) on(instanceType string) *variant {
	model, ok := v.Overrides[instanceType]
	if !ok {
		return v
	}
	other := *v
	other.Containers, other.Direct = model.Containers, model.Direct
	return &other
}

// images are those of the variant's containers, and of its pools' own where they
// are others.
func (v *variant) images() []string {
	var all []string
	for _, c := range v.Containers {
		if c.Image != nil {
			all = append(all, *c.Image)
		}
	}
	for _, t := range instanceTypes(&v.Config) {
		for _, c := range v.Overrides[t].Containers {
			if c.Image != nil && !slices.Contains(all, *c.Image) {
				all = append(all, *c.Image)
			}
		}
	}
	return all
}

// shapeOf a serverless variant follows its memory: one vCPU for 1.8 GB, as AWS
// documents for Lambda.
func shapeOf(v *variant, instanceType string) dataplane.Shape {
	if c := v.Config.ServerlessConfig; c != nil {
		gib := float64(aws.ToInt32(c.MemorySizeInMB)) / 1024
		return dataplane.Shape{VCPU: max(1, int(gib/1.8)), MemoryGiB: gib}
	}
	s, _ := Shape(instanceType) // the constraint check has let no other type through
	return s
}
