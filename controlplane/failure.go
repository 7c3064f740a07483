package controlplane

import (
	"context"
	"errors"
	"strings"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// giveUp tells whether a slot has failed for good: what cannot be read or
// executed will not be on the next try either, a health check that used up its
// whole time is not given it twice, and a crash loop ends after maxStarts.
func giveUp(s slotState) bool {
	switch {
	case s.err == nil:
		return false
	case errors.Is(s.err, dataplane.ErrModelData), errors.Is(s.err, dataplane.ErrCannotStart):
		return true
	case errors.Is(s.err, dataplane.ErrCapacity):
		return !s.waits
	case errors.Is(s.err, context.DeadlineExceeded):
		return true
	}
	return s.failures >= maxStarts
}

// reason is failureReason of a failure.
func (f failure) reason() string { return failureReason(f.err, f.variant) }

// failureReason is AWS's sentence for why an instance of a variant could not be
// had. What the worker printed is in its log and in the daemon's.
func failureReason(err error, variant string) string {
	var problem *componentProblem
	container := "primary"
	if e, ok := errors.AsType[*dataplane.ContainerError](err); ok {
		container, err = e.Container, e.Err
	}
	switch {
	case errors.As(err, &problem):
		return problem.reason
	case errors.Is(err, dataplane.ErrCannotStart):
		return sdkcompat.CannotStart.Sentence(variant)
	case errors.Is(err, dataplane.ErrCapacity):
		return sdkcompat.InsufficientCapacity.Sentence()
	case errors.Is(err, dataplane.ErrModelData):
		detail := strings.TrimLeft(strings.TrimPrefix(err.Error(), dataplane.ErrModelData.Error()), ": ")
		return sdkcompat.ModelDataFailed.Sentence(variant, detail)
	case errors.Is(err, dataplane.ErrPing):
		return sdkcompat.PingFailed.Sentence(container, variant)
	}
	return sdkcompat.ServiceFailed.Sentence()
}
