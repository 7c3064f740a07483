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
	switch {
	case len(v.Targets) == 0 && req.TargetContainer == "":
		return v.Container, nil
	case len(v.Targets) == 0:
		return v.Container, ErrNotDirect
	case req.TargetContainer == "":
		return v.Container, ErrNoTargetContainer
	case !slices.Contains(v.Targets, req.TargetContainer):
		return v.Container, ErrUnknownContainer
	}
	return req.TargetContainer, nil
}
