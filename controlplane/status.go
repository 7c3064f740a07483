package controlplane

import (
	"time"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// transition changes a record from one status or stage to the next. It returns true
// when the endpoint is gone.
type transition func(rec *endpointRecord, now time.Time) (gone bool)

// nextStatus is the step that an endpoint's life takes once its instances are
// where progress says; nil for none.
func nextStatus(rec *endpointRecord, at progress) transition {
	switch rec.EndpointStatus {
	case statusCreating:
		switch {
		case at.reached:
			return serve
		case at.err != nil:
			return fail(at.failure)
		}
	case statusUpdating:
		switch {
		case at.reached:
			return serve
		case at.err != nil:
			return rollBack(at.failure)
		}
	case statusRollingBack:
		// FailureReason stays: an endpoint whose update failed is InService
		// with the reason filled in.
		if at.reached {
			return serve
		}
	case statusSystemUpdating:
		// There is nothing to roll back to, so the instances are tried for
		// ever, and meanwhile FailureReason says what is wrong.
		switch {
		case at.reached:
			return recovered
		case at.err != nil && rec.FailureReason == nil:
			return explain(at.reason())
		}
	case statusDeleting:
		if at.empty {
			return func(*endpointRecord, time.Time) bool { return true }
		}
	}
	return nil
}

func serve(rec *endpointRecord, now time.Time) bool {
	for i := range rec.Deployment.Variants {
		v := &rec.Deployment.Variants[i]
		v.CurrentWeight, v.CurrentServerless = v.Weight, nil
	}
	rec.Served = true
	rec.enter(statusInService, now)
	return false
}

// recovered ends SystemUpdating. The reason of a failed update stays until the
// next update starts (terraform-provider-aws#46663), whatever happened to the
// workers meanwhile.
func recovered(rec *endpointRecord, now time.Time) bool {
	rec.FailureReason, rec.ReasonBefore = rec.ReasonBefore, nil
	return serve(rec, now)
}

func fail(f failure) transition {
	return func(rec *endpointRecord, now time.Time) bool {
		explain(f.reason())(rec, now)
		rec.enter(statusFailed, now)
		return false
	}
}

// rollBack returns to the counts and weights that were desired before the
// update. That is a change of the desired state, hence a new generation.
func rollBack(f failure) transition {
	return func(rec *endpointRecord, now time.Time) bool {
		explain(f.reason())(rec, now)
		for i := range rec.Deployment.Variants {
			v := &rec.Deployment.Variants[i]
			v.Count, v.Weight = v.RollbackCount, v.RollbackWeight
			v.Config.ServerlessConfig = v.serverless()
		}
		rec.Generation++
		rec.enter(statusRollingBack, now)
		return false
	}
}

func explain(reason string) transition {
	return func(rec *endpointRecord, _ time.Time) bool {
		// FailureReason holds at most 1,024 characters (API model).
		reason := sdkcompat.Truncate(reason, 1024)
		rec.FailureReason = &reason
		return false
	}
}
