package dataplane

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrAsyncOnly: the endpoint takes asynchronous requests and no others
	// (docs: async-inference).
	ErrAsyncOnly = errors.New("endpoint takes asynchronous requests only")
	// ErrNotAsync: the endpoint takes no asynchronous requests.
	ErrNotAsync = errors.New("endpoint takes no asynchronous requests")
	// ErrBusy: every instance has as many requests as Request.PerInstance allows.
	ErrBusy = errors.New("every instance is busy")
	// ErrInterrupted: the instance was told to stop before it had answered. It
	// comes together with ErrBroken.
	ErrInterrupted = errors.New("instance stopped")
)

// Async is an endpoint's AsyncInferenceConfig, resolved. AWS page:
// API_AsyncInferenceConfig.
type Async struct {
	UID         string // of the endpoint; tells those apart that had one name
	PerInstance int    // MaxConcurrentInvocationsPerInstance

	// S3 URIs; empty for none.
	OutputPath, FailurePath string
	// ARNs of topics; empty for none.
	SuccessTopic, ErrorTopic string
	// Whether notifications carry what the container said.
	IncludeInSuccess, IncludeInError bool
}

// Capacity is how many asynchronous requests the instances that take requests may
// have at once.
func (s *Snapshot) Capacity() (n int) {
	if s.Async == nil || !s.Serving || s.HostsComponents {
		return 0
	}
	for i := range s.Variants {
		if v := &s.Variants[i]; v.Weight > 0 {
			n += v.Pool.Len() * s.Async.PerInstance
		}
	}
	return n
}

// invokeAsync is invoke for endpoints and requests of which at least one is
// asynchronous. A request goes to a variant by weight; when that has no room it
// goes to any other that takes traffic.
func (e *Endpoint) invokeAsync(ctx context.Context, s *Snapshot, req *Request, ans *Answer) (Route, error) {
	switch {
	case s.Async == nil:
		return Route{}, ErrNotAsync
	case req.PerInstance == 0:
		return Route{}, ErrAsyncOnly
	case s.HostsComponents:
		return Route{}, ErrComponentRequired
	}
	chosen, err := e.choose(s, "")
	if err != nil {
		return Route{}, err
	}
	container, err := chosen.admit(req)
	route := Route{Variant: chosen.Name, Container: container}
	ans.routed(route)
	if err != nil {
		return route, err
	}
	if scripted, err := e.responses.Load().answer(ctx, req, ans); scripted {
		route.Instance = ScriptedInstance
		return route, err
	}
	in, err := chosen.Pool.Invoke(ctx, req, ans)
	for i := range s.Variants {
		if !errors.Is(err, ErrBusy) && !errors.Is(err, ErrNoInstance) {
			break
		}
		v := &s.Variants[i]
		if v == chosen || v.Weight == 0 && v.Name != chosen.Name {
			continue
		}
		if container, refused := v.admit(req); refused == nil {
			route = Route{Variant: v.Name, Container: container}
			var other error
			if in, other = v.Pool.Invoke(ctx, req, ans); !errors.Is(other, ErrNoInstance) || errors.Is(err, ErrNoInstance) {
				err = other // that all are busy says more than that one has no instance
			}
		}
	}
	if in != nil {
		route.Instance = in.ID
		if errors.Is(err, ErrBroken) && in.told.Load() {
			err = fmt.Errorf("%w: %w", ErrInterrupted, err)
		}
	}
	if ans.Container != "" {
		route.Container = ans.Container
	}
	return route, err
}
