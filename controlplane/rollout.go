package controlplane

import (
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

// stage is where an update stands. AWS page: deployment-guardrails-blue-green
// and deployment-guardrails-rolling in the developer guide.
type stage string

const (
	provisioning stage = "Provisioning" // the new fleet, or its next batch, starts
	activating   stage = "Activating"   // the next step of traffic is turned on
	baking       stage = "Baking"       // alarms are watched for WaitIntervalInSeconds
	terminating  stage = "Terminating"  // the old fleet is kept for TerminationWaitInSeconds
	draining     stage = "Draining"     // the old fleet, or a batch of it, stops
	restoring    stage = "Restoring"    // rolling back: a batch of the old fleet starts
	withdrawing  stage = "Withdrawing"  // rolling back: the new fleet, or a batch of it, stops
)

// rollout is an UpdateEndpoint under way. It is stored with the endpoint, so that
// it goes on where it was after a restart.
type rollout struct {
	Target deployment
	// Policy is the DeploymentConfig in force; nil is blue/green, all at once and
	// without baking (docs: deployment-guardrails-exclusions).
	Policy  *types.DeploymentConfig
	Started time.Time
	Stage   stage
	Since   time.Time // of Stage
	// Step counts the steps of traffic of a blue/green update, or the batches of
	// a rolling one, from 1.
	Step int
	// Restored and Kept are how many instances of the old and of the new fleet a
	// rolling update wants while it rolls back.
	Restored, Kept int
}

func (u *rollout) enter(s stage, now time.Time) { u.Stage, u.Since = s, now }

func (u *rollout) rolling() *types.RollingUpdatePolicy {
	if u.Policy == nil {
		return nil
	}
	return u.Policy.RollingUpdatePolicy
}

func (u *rollout) blueGreen() *types.BlueGreenUpdatePolicy {
	if u.Policy == nil || u.Policy.BlueGreenUpdatePolicy == nil {
		return &types.BlueGreenUpdatePolicy{}
	}
	return u.Policy.BlueGreenUpdatePolicy
}

// interval is WaitIntervalInSeconds.
func (u *rollout) interval() time.Duration {
	if p := u.rolling(); p != nil {
		return seconds(p.WaitIntervalInSeconds, 0)
	}
	if t := u.blueGreen().TrafficRoutingConfiguration; t != nil {
		return seconds(t.WaitIntervalInSeconds, 0)
	}
	return 0
}

// limit is MaximumExecutionTimeoutInSeconds; 0 is none.
func (u *rollout) limit() time.Duration {
	if p := u.rolling(); p != nil {
		return seconds(p.MaximumExecutionTimeoutInSeconds, 0)
	}
	return seconds(u.blueGreen().MaximumExecutionTimeoutInSeconds, 0)
}

// alarms are the names of AutoRollbackConfiguration.
func (u *rollout) alarms() []string {
	if u.Policy == nil || u.Policy.AutoRollbackConfiguration == nil {
		return nil
	}
	var names []string
	for _, a := range u.Policy.AutoRollbackConfiguration.Alarms {
		names = append(names, aws.ToString(a.AlarmName))
	}
	return names
}

// watched tells whether alarms count now: while the new fleet takes traffic and
// the old one is there to return to.
func (u *rollout) watched() bool {
	switch u.Stage {
	case activating, baking, terminating:
		return true
	case provisioning, draining:
		return u.rolling() != nil && u.Step > 1
	}
	return false
}

// reversible tells whether the old fleet can still take everything back.
func (u *rollout) reversible() bool { return u.Stage != draining || u.rolling() != nil }

// oldCount is how many instances of a variant of the old fleet are wanted. A
// rolling update replaces a shadow variant as a whole: it is there until the last
// batch.
func (u *rollout) oldCount(v *variant) int {
	total := int(v.Count)
	if v.Shadow && u.rolling() != nil && (u.Stage != draining || !u.last()) {
		return total
	}
	if u.rolling() == nil || v.Shadow {
		if u.Stage == draining {
			return 0
		}
		return total
	}
	switch u.Stage {
	case restoring, withdrawing:
		return u.Restored
	case draining:
		return total - u.moved(total, u.Step)
	}
	return total - u.moved(total, u.Step-1)
}

// newCount is how many instances of a variant of the new fleet are wanted.
func (u *rollout) newCount(v *variant) int {
	switch {
	case v.Shadow && (u.Stage == withdrawing || u.Stage == restoring):
		return 0
	case v.Shadow:
		return int(v.Count)
	case u.Stage == withdrawing || u.Stage == restoring:
		return u.Kept
	case u.rolling() == nil:
		return int(v.Count)
	}
	return u.batched(int(v.Count), u.Step)
}

// batched is the size of the new fleet after so many batches.
func (u *rollout) batched(total, batches int) int {
	return min(total, batches*instances(u.rolling().MaximumBatchSize, total))
}

// moved is how many of the old fleet's instances so many batches replace. The
// two fleets may differ in size; the last batch takes all that is left.
func (u *rollout) moved(old, batches int) int {
	total := int(u.Target.Variants[0].Count)
	if there := u.batched(total, batches); there < total {
		return old * there / total
	}
	return old
}

// last tells whether the present batch is the last.
func (u *rollout) last() bool {
	total := int(u.Target.Variants[0].Count)
	return u.batched(total, u.Step) == total
}

// share is the part of a variant's traffic that the new fleet of a blue/green
// update takes, from 0 to 1.
func (u *rollout) share(total int) float64 {
	switch u.Stage {
	case activating, baking:
		return shareAt(u.blueGreen().TrafficRoutingConfiguration, u.Step, total)
	case terminating, draining:
		return 1
	}
	return 0
}

// shareAt is the share after so many steps of traffic to a variant of total
// instances.
func shareAt(t *types.TrafficRoutingConfig, step, total int) float64 {
	if t == nil {
		return 1
	}
	switch {
	case t.Type == types.TrafficRoutingConfigTypeCanary && step == 1:
		return min(1, stepSize(t.CanarySize, total))
	case t.Type == types.TrafficRoutingConfigTypeLinear:
		return min(1, float64(step)*stepSize(t.LinearStepSize, total))
	}
	return 1
}

// complete tells whether the present step turns on all traffic for every
// variant.
func (u *rollout) complete() bool {
	for i := range u.Target.production() {
		// Thirds of a linear shift add up to one but for a rounding error.
		if u.share(int(u.Target.Variants[i].Count)) < 1-1e-9 {
			return false
		}
	}
	return true
}

// stepSize is the part of the traffic that a CapacitySize means. A percentage is
// a whole number; one that is whole instances but for that counts as those
// instances: AWS's notebooks on linear and rolling updates call 33 percent of 3
// instances one instance, so that three steps of it are everything.
func stepSize(size *types.CapacitySize, total int) float64 {
	part := fraction(size, total)
	if whole := math.Round(part*float64(total)) / float64(max(1, total)); whole > 0 && math.Abs(whole-part) < 0.01 {
		return whole
	}
	return part
}

// fraction is a CapacitySize as part of a whole.
func fraction(size *types.CapacitySize, total int) float64 {
	if size == nil {
		return 1
	}
	value := float64(aws.ToInt32(size.Value))
	if size.Type == types.CapacitySizeTypeCapacityPercent {
		return value / 100
	}
	return value / float64(max(1, total))
}

// instances is a CapacitySize in instances, at least 1: a percentage is rounded
// up.
func instances(size *types.CapacitySize, total int) int {
	if size == nil {
		return total
	}
	value := int(aws.ToInt32(size.Value))
	if size.Type == types.CapacitySizeTypeCapacityPercent {
		value = (total*value + 99) / 100
	}
	return max(1, min(value, total))
}

// withdraw turns the rollout round. up is how many instances of the new fleet
// serve.
func (u *rollout) withdraw(old *variant, up int, now time.Time) {
	if u.rolling() == nil {
		u.Kept = 0
		u.enter(withdrawing, now)
		return
	}
	restored := u.oldCount(old)
	u.Kept = min(u.newCount(&u.Target.Variants[0]), up)
	u.Restored = restored
	u.nextRestore(old, now)
}

// nextRestore brings back the next batch of the old fleet, or, when all of it is
// there, ends the new one.
func (u *rollout) nextRestore(old *variant, now time.Time) {
	total := int(old.Count)
	if u.Restored >= total {
		u.Kept = 0
		u.enter(withdrawing, now)
		return
	}
	u.Restored = min(total, u.Restored+instances(u.rolling().RollbackMaximumBatchSize, total))
	u.enter(restoring, now)
}

// release lets go of the part of the new fleet whose work the restored part of
// the old one has taken over.
func (u *rollout) release(old *variant, now time.Time) {
	total, n := int(old.Count), int(u.Target.Variants[0].Count)
	u.Kept = min(u.Kept, (n*(total-u.Restored)+total-1)/max(1, total))
	u.enter(withdrawing, now)
}
