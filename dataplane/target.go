package dataplane

import (
	"errors"
	"slices"
)

// The ways in which a request and the containers of a variant do not fit.
var (
	// ErrNotDirect: TargetContainerHostname is given, and the containers are not
	// invoked directly.
	ErrNotDirect = errors.New("the containers are not invoked directly")
	// ErrNoTargetContainer: the containers are invoked directly, and the request
	// names none.
	ErrNoTargetContainer = errors.New("the request names no container")
	// ErrUnknownContainer: TargetContainerHostname names none of the containers.
	ErrUnknownContainer = errors.New("container not found")
)

// admit holds what a request asks for against what the variant is, and names the
// container that it is for.
func (v *Variant) admit(req *Request) (container string, err error) {
	container = v.Container
	if len(v.Targets) == 0 && v.MultiModel == "" {
		return container, refuseTargets(req)
	}
	multiModel := v.MultiModel != ""
	switch {
	case len(v.Targets) == 0:
		if req.TargetContainer != "" {
			return container, ErrNotDirect
		}
	case req.TargetContainer == "":
		return container, ErrNoTargetContainer
	default:
		i := slices.Index(v.Targets, req.TargetContainer)
		if i < 0 {
			return container, ErrUnknownContainer
		}
		container = v.Targets[i] // the request's own is a view of the connection
		multiModel = v.MultiModel == container
	}
	switch {
	case multiModel && req.TargetModel == "":
		return container, ErrNoTargetModel
	case !multiModel && req.TargetModel != "":
		return container, ErrNotMultiModel
	}
	return container, nil
}

// refuseTargets is for what has one container with one model.
func refuseTargets(req *Request) error {
	switch {
	case req.TargetModel != "":
		return ErrNotMultiModel
	case req.TargetContainer != "":
		return ErrNotDirect
	}
	return nil
}
