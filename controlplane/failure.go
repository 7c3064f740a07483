package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sagelocal/sagelocal/dataplane"
)

// giveUp tells whether a slot has failed for good: what cannot be read or
// executed will not be on the next try either, a health check that used up its
// whole time is not given it twice, and a crash loop ends after maxStarts.
func giveUp(s slotState) bool {
	switch {
	case s.err == nil:
		return false
	case errors.Is(s.err, dataplane.ErrModelData), errors.Is(s.err, dataplane.ErrCannotStart), errors.Is(s.err, dataplane.ErrCapacity):
		return true
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
	switch {
	case errors.Is(err, dataplane.ErrCannotStart):
		return fmt.Sprintf("CannotStartContainerError. Please ensure the model container for variant %s starts correctly when invoked with 'docker run <image> serve'", variant)
	case errors.Is(err, dataplane.ErrCapacity):
		return "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please retry using a different ML instance type or after some time."
	case errors.Is(err, dataplane.ErrModelData):
		detail := strings.TrimLeft(strings.TrimPrefix(err.Error(), dataplane.ErrModelData.Error()), ": ")
		return fmt.Sprintf("Failed to download model data for production variant %s: %s.", variant, detail)
	case errors.Is(err, dataplane.ErrPing):
		return fmt.Sprintf("The primary container for production variant %s did not pass the ping health check. Please check CloudWatch logs for this endpoint.", variant)
	}
	return "Request to service failed. If failure persists after retry, contact customer support."
}
