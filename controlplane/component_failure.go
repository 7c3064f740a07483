package controlplane

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// problem says what keeps a group's copies from being had; empty while there is
// hope.
func (r *reconciler) problem(g copyGroup, w wantedCopies) *componentProblem {
	name := *w.component.InferenceComponentName
	if w.count > 0 && !possible(w.variant.offers(), w.request(copyKey{copyGroup: g})) {
		return &componentProblem{reason: tooLarge(w)}
	}
	for key, s := range r.components.copies {
		if key.copyGroup == g && s.phase == vacantSlot && giveUp(s.slotState) && !r.otherTypes(s.slotState, w) {
			return &componentProblem{reason: copyFailure(s.err, name), err: s.err}
		}
	}
	short, waiting := r.components.roomless[g]
	if waiting && time.Since(short.since) >= r.provisionTimeout(w.variant) {
		_, vacant := r.components.count(g)
		return &componentProblem{reason: noRoom(w, vacant)}
	}
	return nil
}

// otherTypes tells whether a copy that the machine had no room for may still find
// it on another type.
func (r *reconciler) otherTypes(s slotState, w wantedCopies) bool {
	return errors.Is(s.err, dataplane.ErrCapacity) && s.failures < len(instanceTypes(&w.variant.Config))
}

// componentProblem is why a component cannot have its copies.
type componentProblem struct {
	reason string // FailureReason
	err    error
}

func (p *componentProblem) Error() string {
	if p.err != nil {
		return fmt.Sprintf("%s (%v)", p.reason, p.err)
	}
	return p.reason
}

// tooLarge, noRoom, copyFailure and adapterFailure are FailureReasons.
func tooLarge(w wantedCopies) string {
	n, _ := w.revision.needs(w.variant.instanceType())
	need := fmt.Sprintf("it needs %g vCPU, %d MB of memory and %d accelerators", float64(n.milliCPU)/1000, n.memoryMiB, n.accelerators)
	return sdkcompat.ComponentTooLarge.Sentence(w.variant.name(), *w.component.InferenceComponentName, need)
}

func noRoom(w wantedCopies, n int) string {
	limit := seconds(w.variant.Config.VariantInstanceProvisionTimeoutInSeconds, provisionTimeout)
	return sdkcompat.ComponentNoRoom.Sentence(w.variant.name(), n, *w.component.InferenceComponentName, int(limit.Seconds()))
}

func copyFailure(err error, component string) string {
	switch {
	case errors.Is(err, dataplane.ErrCannotStart):
		return sdkcompat.ComponentCannotRun.Sentence(component)
	case errors.Is(err, dataplane.ErrCapacity):
		return sdkcompat.InsufficientCapacity.Sentence()
	case errors.Is(err, dataplane.ErrModelData):
		return sdkcompat.ComponentDataFailed.Sentence(component, dataCause(err))
	case errors.Is(err, dataplane.ErrPing):
		return sdkcompat.ComponentPingFailed.Sentence(component)
	}
	return sdkcompat.ServiceFailed.Sentence()
}

func adapterFailure(err error, component string) string {
	if errors.Is(err, dataplane.ErrModelData) {
		return sdkcompat.ComponentDataFailed.Sentence(component, dataCause(err))
	}
	return sdkcompat.AdapterFailed.Sentence(component, err)
}

func dataCause(err error) string {
	return strings.TrimLeft(strings.TrimPrefix(err.Error(), dataplane.ErrModelData.Error()), ": ")
}
