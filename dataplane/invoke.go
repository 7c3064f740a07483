package dataplane

import (
	"context"
	"errors"
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
	s := e.Snapshot()
	if !s.Serving {
		return Route{}, ErrNoEndpoint
	}
	v, err := e.choose(s, req.TargetVariant)
	if err != nil {
		return Route{}, err
	}
	route := Route{Variant: v.Name, Container: v.Container}
	if scripted, err := e.responses.Load().answer(ctx, req, ans); scripted {
		route.Instance = ScriptedInstance
		return route, err
	}
	in, err := v.Pool.Invoke(ctx, req, ans)
	if in != nil {
		route.Instance = in.ID
	}
	return route, err
}

func (e *Endpoint) choose(s *Snapshot, target string) (*Variant, error) {
	if target != "" {
		if v := s.named(target); v != nil {
			return v, nil
		}
		return nil, ErrNoVariant
	}
	if v := e.variant(s); v != nil {
		return v, nil
	}
	return nil, ErrNoWeight
}
