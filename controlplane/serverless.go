package controlplane

import (
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Serverless says how the execution environments of serverless variants come and
// go. AWS publishes neither figure.
type Serverless struct {
	// IdleTimeout is how long an environment beyond ProvisionedConcurrency has no
	// request before it stops; 0 is 5 minutes. The time scale divides both.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// ColdStart is how much longer every environment takes to start than its
	// worker does.
	ColdStart time.Duration `yaml:"cold_start"`
}

const defaultIdleTimeout = 5 * time.Minute

// Validate refuses negative durations.
func (s *Serverless) Validate() error {
	switch {
	case s.IdleTimeout < 0:
		return errors.New("idle_timeout is negative")
	case s.ColdStart < 0:
		return errors.New("cold_start is negative")
	}
	return nil
}

func (p *Plane) idleTimeout() time.Duration {
	if p.Serverless.IdleTimeout == 0 {
		return p.scaled(defaultIdleTimeout)
	}
	return p.scaled(p.Serverless.IdleTimeout)
}

// need is what a slot is wanted for.
type need uint8

const (
	always need = iota
	// onDemand is an environment of a serverless variant that requests want, or
	// wanted until lately. No deployment depends on it.
	onDemand
	// unneeded is one that none does. It stops, and stays away.
	unneeded
)

// serverless is the ServerlessConfig in force: UpdateEndpointWeightsAndCapacities
// changes it when the endpoint is InService again.
func (v *variant) serverless() *types.ProductionVariantServerlessConfig {
	if v.CurrentServerless != nil {
		return v.CurrentServerless
	}
	return v.Config.ServerlessConfig
}

// standing is how many environments of a serverless variant there always are:
// ProvisionedConcurrency, and one while a deployment is put into service, so that
// no endpoint gets there whose container does not start.
func (r *endpointRecord) standing(deployment int64, v *variant) int {
	n := int(aws.ToInt32(v.Config.ServerlessConfig.ProvisionedConcurrency))
	if r.EndpointStatus == statusCreating || r.Update != nil && r.Update.Target.ID == deployment {
		return max(1, n)
	}
	return n
}

// gate is nil for a group that is not of a serverless variant.
func (r *reconciler) gate(g group) *dataplane.Serverless {
	if pool := r.pools[g]; pool != nil {
		return pool.Serverless()
	}
	return nil
}

// scaleServerless replaces the counts of serverless variants, which say only
// whether a fleet is wanted, by how many environments there should be at this
// moment. ending are the gates of fleets that are not wanted any more, and wait
// is when the next environment has been idle for long enough.
func (r *reconciler) scaleServerless(rec *endpointRecord, want map[group]int) (ending []*dataplane.Serverless, wait time.Duration) {
	for g := range r.pools {
		gate := r.gate(g)
		if gate == nil {
			continue
		}
		if want[g] == 0 {
			ending = append(ending, gate)
			for key, s := range r.slots {
				if key.group == g {
					s.need = always // that is: until it is gone
				}
			}
			continue
		}
		count, due := r.environments(rec, g, gate)
		want[g], wait = count, sooner(wait, due)
	}
	return ending, wait
}

// environments are the standing ones, those that have had a request lately, and
// one more for each request that waits, as far as none is on its way already.
func (r *reconciler) environments(rec *endpointRecord, g group, gate *dataplane.Serverless) (count int, wait time.Duration) {
	v := rec.deployment(g.deployment).variant(g.variant)
	standing := rec.standing(g.deployment, v)
	gate.SetLimit(int(aws.ToInt32(v.serverless().MaxConcurrency)))
	count = standing
	coming := 0
	for key, s := range r.slots {
		if key.group != g {
			continue
		}
		if s.phase == starting {
			coming++
		}
		due := r.need(s, key.ordinal < standing, gate)
		if wait = sooner(wait, due); s.need == onDemand {
			count = max(count, key.ordinal+1)
		}
	}
	now := time.Now()
	for ordinal := range standing {
		s := r.slots[slotKey{g, ordinal}]
		if s == nil || s.phase == vacantSlot && !s.retryAt.After(now) {
			coming++ // this step starts it
		}
	}
	// Requests that wait or are served never exceed MaxConcurrency, nor do these.
	missing := gate.Waiting() - coming
	for ordinal := standing; missing > 0; ordinal++ {
		key := slotKey{g, ordinal}
		if s := r.slots[key]; s != nil && s.phase != vacantSlot {
			continue
		}
		r.slots[key] = &slot{slotState: slotState{need: onDemand}}
		count = max(count, ordinal+1)
		missing--
	}
	for ordinal := standing; ordinal < count; ordinal++ {
		if key := (slotKey{g, ordinal}); r.slots[key] == nil {
			r.slots[key] = &slot{slotState: slotState{need: unneeded}}
		}
	}
	return count, wait
}

// need notes what the slot is wanted for, and tells when its environment may have
// been idle for long enough.
func (r *reconciler) need(s *slot, standing bool, gate *dataplane.Serverless) (wait time.Duration) {
	switch s.need = unneeded; {
	case standing:
		s.need = always
	case s.phase == vacantSlot:
		s.slotState = slotState{need: unneeded} // its failures matter to nobody
	case s.phase == starting:
		s.need = onDemand
	case s.phase == serving:
		wait = r.plane.idleTimeout()
		if since, idle := gate.IdleSince(s.instance); idle {
			wait = time.Until(since.Add(wait))
		}
		if wait <= 0 {
			return 0
		}
		s.need = onDemand
	}
	return wait
}

// observeSetup reports how long an environment took to come into service (docs:
// monitoring-cloudwatch, ModelSetupTime).
func (r *reconciler) observeSetup(key slotKey, s *slot) {
	if r.gate(key.group) == nil {
		return
	}
	r.plane.ModelEvents.Observe(dataplane.ModelEvent{
		Metric: dataplane.ModelSetupTime, Key: r.key, Variant: key.variant,
		InstanceID: s.instance.ID, Took: s.served.Sub(s.instance.Created),
	})
}

// closeServerless lets the requests that wait look elsewhere.
func (r *reconciler) closeServerless() {
	for g := range r.pools {
		if gate := r.gate(g); gate != nil {
			gate.Close()
		}
	}
}
