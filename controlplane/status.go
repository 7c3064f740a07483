package controlplane

import (
	"time"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// nextStatus is the step that an endpoint's life takes once its instances are
// where progress says; nil for none. The step returns true when the endpoint is
// gone.
func nextStatus(rec *endpointRecord, at progress) func(rec *endpointRecord, now time.Time) (gone bool) {
	switch rec.EndpointStatus {
	case statusCreating:
		switch {
		case at.reached:
			return serve
		case at.failed != nil:
			return fail(at)
		}
	case statusUpdating:
		switch {
		case at.reached:
			return serve
		case at.failed != nil:
			return rollBack(at)
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
		case at.failed != nil && rec.FailureReason == nil:
			return explain(at)
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
		v.CurrentWeight = v.Weight
	}
	rec.Served = true
	rec.enter(statusInService, now)
	return false
}

func recovered(rec *endpointRecord, now time.Time) bool {
	rec.FailureReason = nil
	return serve(rec, now)
}

func fail(at progress) func(*endpointRecord, time.Time) bool {
	return func(rec *endpointRecord, now time.Time) bool {
		explain(at)(rec, now)
		rec.enter(statusFailed, now)
		return false
	}
}

// rollBack returns to what was desired before the update. That is a change of
// the desired state, hence a new generation.
func rollBack(at progress) func(*endpointRecord, time.Time) bool {
	return func(rec *endpointRecord, now time.Time) bool {
		explain(at)(rec, now)
		for i := range rec.Deployment.Variants {
			v := &rec.Deployment.Variants[i]
			v.Count, v.Weight = v.RollbackCount, v.RollbackWeight
		}
		rec.Generation++
		rec.enter(statusRollingBack, now)
		return false
	}
}

func explain(at progress) func(*endpointRecord, time.Time) bool {
	return func(rec *endpointRecord, _ time.Time) bool {
		// FailureReason holds at most 1,024 characters (API model).
		reason := sdkcompat.Truncate(failureReason(at.failed, at.variant), 1024)
		rec.FailureReason = &reason
		return false
	}
}
