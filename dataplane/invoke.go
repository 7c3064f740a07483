package dataplane

import (
	"context"
	"errors"
	"time"
)

// The ways in which a request cannot be routed, beside ErrNoInstance.
var (
	// ErrNoEndpoint: the runtime does not know the endpoint (yet).
	ErrNoEndpoint = errors.New("endpoint not found")
	// ErrNoVariant: TargetVariant names none of the endpoint's variants.
	ErrNoVariant = errors.New("variant not found")
	// ErrNoWeight: every variant has weight 0.
	ErrNoWeight = errors.New("no variant has a weight above zero")
)

// Route tells which way an invocation went.
type Route struct {
	Variant   string // InvokedProductionVariant
	Container string // the container's name in error sentences
	Instance  string // instance id; ScriptedInstance for a scripted answer
	// Component is the inference component that was asked for; nil when there is
	// none of that name.
	Component *Component
	// ColdStart is how long the request waited for an environment of a serverless
	// variant; 0 when one was idle.
	ColdStart time.Duration
}

// ScriptedInstance stands for the instance in a scripted answer.
const ScriptedInstance = "scripted"

// Invoke is the path of InvokeEndpoint: endpoint, variant by TargetVariant or by
// weight, a scripted answer if one matches, else an instance by the variant's
// routing strategy. Errors are those of this package; the Route is as far as
// the request came.
func (f *Fleet) Invoke(ctx context.Context, key Key, req *Request, ans *Answer) (Route, error) {
	e := f.Lookup(key)
	if e == nil {
		return Route{}, ErrNoEndpoint
	}
	if f := e.faults.Load(); f != nil && e.Snapshot().Serving {
		var err error
		if req.fault, err = f.strike(req.Operation); err != nil {
			return Route{}, err
		}
	}
	if req.SessionID != "" {
		return e.invokeSession(ctx, req, ans)
	}
	return e.route(ctx, req, ans)
}

// route finds an instance for a request, of the newest snapshot if need be.
func (e *Endpoint) route(ctx context.Context, req *Request, ans *Answer) (Route, error) {
	s := e.Snapshot()
	for {
		route, err := e.invoke(ctx, s, req, ans)
		if !errors.Is(err, ErrNoInstance) && !errors.Is(err, ErrNoCopies) {
			return route, err
		}
		// The instances may have left for those of a newer snapshot, which is
		// always published first.
		now := e.Snapshot()
		if now == s {
			if c := route.Component; c != nil && c.NoCapacity != nil {
				c.NoCapacity.Add(1)
			}
			return route, err
		}
		s = now
	}
}

func (e *Endpoint) invoke(ctx context.Context, s *Snapshot, req *Request, ans *Answer) (Route, error) {
	if !s.Serving {
		return Route{}, ErrNoEndpoint
	}
	if s.Async != nil || req.PerInstance > 0 {
		return e.invokeAsync(ctx, s, req, ans)
	}
	if s.HostsComponents {
		if err := refuseTargets(req); err != nil {
			return Route{}, err
		}
		return e.invokeComponent(ctx, s, req, ans)
	}
	if req.InferenceComponentName != "" {
		return Route{}, ErrComponentNotAllowed
	}
	v, err := e.choose(s, req.TargetVariant)
	if err != nil {
		return Route{}, err
	}
	container, err := v.admit(req)
	route := Route{Variant: v.Name, Container: container}
	ans.routed(route)
	if err != nil {
		return route, err
	}
	if scripted, err := e.responses.Load().answer(ctx, req, ans); scripted {
		route.Instance = ScriptedInstance
		return route, err
	}
	in, err := v.Pool.Invoke(ctx, req, ans)
	if errors.Is(err, ErrNoInstance) {
		in, err = s.substitute(ctx, v, req, ans)
	}
	if in != nil {
		route.Instance = in.ID
	}
	if ans.Container != "" {
		route.Container = ans.Container
	}
	route.ColdStart = ans.ColdStart
	return route, err
}

// substitute invokes the same variant in another deployment, when an update is
// under way and the chosen one has lost its instances.
func (s *Snapshot) substitute(ctx context.Context, chosen *Variant, req *Request, ans *Answer) (*Instance, error) {
	for i := range s.Variants {
		v := &s.Variants[i]
		if v == chosen || v.Name != chosen.Name {
			continue
		}
		if _, err := v.admit(req); err != nil {
			continue
		}
		if in, err := v.Pool.Invoke(ctx, req, ans); !errors.Is(err, ErrNoInstance) {
			return in, err
		}
	}
	return nil, ErrNoInstance
}

// choose finds the variant that TargetVariant names, or else one by weight.
func (e *Endpoint) choose(s *Snapshot, target string) (*Variant, error) {
	if v := e.variant(s, target); v != nil {
		return v, nil
	}
	if target == "" {
		return nil, ErrNoWeight
	}
	if v := s.named(target); v != nil {
		return v, nil // one of weight 0 can still be asked for
	}
	return nil, ErrNoVariant
}
