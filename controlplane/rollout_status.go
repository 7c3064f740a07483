package controlplane

import (
	"slices"
	"strings"
	"time"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// circumstances are what a rollout depends on beside its instances.
type circumstances struct {
	now    time.Time
	scaled func(time.Duration) time.Duration
	// alarms are those of the update's AutoRollbackConfiguration that are in
	// ALARM.
	alarms []string
}

// left is how much of d is to come since a moment; 0 when it is over.
func (c circumstances) left(since time.Time, d time.Duration) time.Duration {
	return max(0, since.Add(c.scaled(d)).Sub(c.now))
}

// nextStage is the step that an update takes, or the time until one is due. It
// is nil, with no wait, while instances are awaited.
func nextStage(rec *endpointRecord, at progress, c circumstances) (transition, time.Duration) {
	if rec.EndpointStatus == statusRollingBack {
		return nextReturn(rec, at), 0
	}
	u := rec.Update
	limit := time.Duration(0)
	if u.reversible() {
		if reason := u.verdict(at, c); reason != "" {
			return turnBack(reason, at.fleets[u.Target.ID].serving), 0
		}
		if u.limit() > 0 {
			limit = c.left(u.Started, u.limit())
		}
	}
	next, wait := u.forward(rec, at, c)
	return next, sooner(wait, limit)
}

// verdict is why the update must be rolled back now; empty when it need not.
func (u *rollout) verdict(at progress, c circumstances) string {
	if f := at.fleets[u.Target.ID].failure; f.err != nil {
		return f.reason()
	}
	if len(c.alarms) > 0 && u.watched() {
		return sdkcompat.AlarmRaised.Sentence(strings.Join(c.alarms, ", "))
	}
	if u.limit() > 0 && c.left(u.Started, u.limit()) == 0 {
		return sdkcompat.DeploymentLate.Sentence(int(u.limit().Seconds()))
	}
	return ""
}

func (u *rollout) forward(rec *endpointRecord, at progress, c circumstances) (transition, time.Duration) {
	var next transition
	var wait time.Duration
	// After a restart the new fleet has to start again: until it serves, the
	// traffic goes no further and the old fleet stays.
	fresh := at.fleets[u.Target.ID]
	switch u.Stage {
	case provisioning:
		if fresh.reached {
			next = enterStage(activating)
		}
	case activating:
		// The record of this stage is out, and with it the new traffic.
		next = enterStage(baking)
	case baking:
		if wait = c.left(u.Since, u.interval()); wait == 0 && fresh.reached {
			next = u.baked()
		}
	case terminating:
		if wait = c.left(u.Since, seconds(u.blueGreen().TerminationWaitInSeconds, 0)); wait == 0 && fresh.reached {
			next = enterStage(draining)
		}
	case draining:
		switch {
		case rec.oldSurplus(at), !fresh.settled():
		case u.rolling() != nil && !u.last():
			next = nextStep(provisioning)
		default:
			next = finish
		}
	}
	return next, wait
}

// baked follows a step of traffic or a batch that raised no alarm.
func (u *rollout) baked() transition {
	switch {
	case u.rolling() != nil:
		return enterStage(draining)
	case u.complete():
		return enterStage(terminating)
	}
	return nextStep(activating)
}

func enterStage(s stage) transition {
	return func(rec *endpointRecord, now time.Time) bool {
		rec.Update.enter(s, now)
		return false
	}
}

func nextStep(s stage) transition {
	return func(rec *endpointRecord, now time.Time) bool {
		rec.Update.Step++
		rec.Update.enter(s, now)
		return false
	}
}

// oldSurplus tells whether instances of the old fleets run that are not wanted.
func (r *endpointRecord) oldSurplus(at progress) bool {
	return at.fleets[r.Deployment.ID].surplus || r.Leftover != nil && at.fleets[r.Leftover.ID].surplus
}

// finish makes the new deployment the endpoint's only one. EndpointConfigName
// changes here, at the end (ACK sagemaker-controller#7).
func finish(rec *endpointRecord, now time.Time) bool {
	rec.take(rec.Update.Target)
	rec.Update, rec.Leftover = nil, nil
	return serve(rec, now)
}

// turnBack begins to roll an update back. serving is how many instances of the
// new fleet serve, by variant.
func turnBack(reason string, serving map[string]int) transition {
	return func(rec *endpointRecord, now time.Time) bool {
		explain(reason)(rec, now)
		rec.Update.withdraw(&rec.Deployment.Variants[0], serving[rec.Update.Target.Variants[0].name()], now)
		rec.Generation++
		rec.enter(statusRollingBack, now)
		return false
	}
}

// nextReturn is the step that a rollback takes.
func nextReturn(rec *endpointRecord, at progress) transition {
	u, old, fresh := rec.Update, at.fleets[rec.Deployment.ID], at.fleets[rec.Update.Target.ID]
	switch u.Stage {
	case restoring:
		switch {
		case old.err != nil:
			return stick(old)
		case old.reached:
			return func(rec *endpointRecord, now time.Time) bool {
				u := rec.Update
				u.release(&rec.Deployment.Variants[0], now)
				return false
			}
		}
	case withdrawing:
		switch {
		case fresh.surplus:
		case u.Kept > 0:
			return func(rec *endpointRecord, now time.Time) bool {
				rec.Update.nextRestore(&rec.Deployment.Variants[0], now)
				return false
			}
		case old.settled():
			return returned
		}
	}
	return nil
}

// returned ends a rollback: the endpoint is InService on what it had before, with
// FailureReason (ACK sagemaker-controller#7, terraform-provider-aws#39099).
func returned(rec *endpointRecord, now time.Time) bool {
	rec.Update = nil
	if rec.Leftover != nil {
		rec.enter(statusUpdateRollbackFailed, now)
		return false
	}
	return serve(rec, now)
}

// stick ends a rollback that fails as well: the endpoint serves with what is left
// of both fleets until another UpdateEndpoint repairs it
// (docs: deployment-guardrails-rolling).
func stick(old fleetProgress) transition {
	return func(rec *endpointRecord, now time.Time) bool {
		v := &rec.Deployment.Variants[0]
		reason := old.reason()
		if rec.FailureReason != nil {
			reason = sdkcompat.RollbackFailed.Sentence(*rec.FailureReason, reason)
		}
		explain(reason)(rec, now)
		v.RollbackCount, v.Count = v.Count, int32(old.serving[v.name()])
		left := rec.Update.Target
		left.Variants = slices.Clone(left.production())
		left.Variants[0].Count = int32(rec.Update.Kept)
		rec.Update, rec.Leftover = nil, &left
		rec.Generation++
		rec.enter(statusUpdateRollbackFailed, now)
		return false
	}
}
