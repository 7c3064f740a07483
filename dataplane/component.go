package dataplane

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
)

// The ways in which a request to an inference component cannot be routed, beside
// ErrNoInstance.
var (
	// ErrComponentRequired: the endpoint hosts components and the request names
	// none.
	ErrComponentRequired = errors.New("the request names no inference component")
	// ErrComponentNotAllowed: the request names a component and the endpoint hosts
	// none.
	ErrComponentNotAllowed = errors.New("the endpoint hosts no inference components")
	// ErrNoComponent: the endpoint has no such component.
	ErrNoComponent = errors.New("inference component not found")
	// ErrComponentNotServing: the component was not in service yet, or is going.
	ErrComponentNotServing = errors.New("inference component is not in service")
	// ErrNoCopies: the component is scaled to zero.
	ErrNoCopies = errors.New("inference component has no copies")
	// ErrComponentElsewhere: TargetVariant names another variant than the
	// component's.
	ErrComponentElsewhere = errors.New("inference component is on another variant")
)

// Component is an inference component in a snapshot. Its requests go to its
// copies, by the strategy of its variant. An adapter has the copies of its base.
type Component struct {
	Name      string
	Variant   string
	Container string // its container's name in error sentences
	Status    string
	// Serving is true once the component was InService.
	Serving bool
	// Adapter is the name that the copies know an adapter by; empty for a
	// component that is none.
	Adapter string
	// Desired is how many copies there should be, over all deployments.
	Desired int
	Targets []ComponentTarget
	Copies  []*Instance // present in any deployment; none for an adapter
	// Message says what keeps the component from its desired state.
	Message string
	// NoCapacity counts the requests that found no copy, as
	// NoCapacityInvocationFailures does (docs: monitoring-cloudwatch).
	NoCapacity *atomic.Int64
}

// ComponentTarget is the copies that a component has in one deployment.
type ComponentTarget struct {
	Deployment int64
	Weight     float64 // share of the requests while an update moves them
	Pool       *Pool
}

// ComponentKey is the key of Snapshot.Components: names differ in more than case.
func ComponentKey(name string) string { return strings.ToLower(name) }

// component finds where a request that names a component is to go.
func (s *Snapshot) component(req *Request) (*Component, error) {
	if req.InferenceComponentName == "" {
		return nil, ErrComponentRequired
	}
	c := s.Components[ComponentKey(req.InferenceComponentName)]
	switch {
	case c == nil:
		return nil, ErrNoComponent
	case !c.Serving:
		return c, ErrComponentNotServing
	case req.TargetVariant != "" && req.TargetVariant != c.Variant:
		return c, ErrComponentElsewhere
	}
	return c, nil
}

// invokeComponent is the path of a request to an endpoint that hosts components.
func (e *Endpoint) invokeComponent(ctx context.Context, s *Snapshot, req *Request, ans *Answer) (Route, error) {
	c, err := s.component(req)
	if err != nil {
		return Route{Component: c}, err
	}
	route := Route{Variant: c.Variant, Container: c.Container, Component: c}
	ans.routed(route)
	if scripted, err := e.responses.Load().answer(ctx, req, ans); scripted {
		route.Instance = ScriptedInstance
		return route, err
	}
	req.Adapter = c.Adapter
	in, err := e.invokeTargets(ctx, c, req, ans)
	if in != nil {
		route.Instance = in.ID
	}
	if errors.Is(err, ErrNoInstance) && c.Desired == 0 {
		err = ErrNoCopies
	}
	return route, err
}

// invokeTargets tries the deployment that the weights choose, and then any other:
// a copy that serves is better than none.
func (e *Endpoint) invokeTargets(ctx context.Context, c *Component, req *Request, ans *Answer) (*Instance, error) {
	first := e.target(c)
	if first < 0 {
		return nil, ErrNoInstance
	}
	in, err := c.Targets[first].Pool.Invoke(ctx, req, ans)
	for i := 0; i < len(c.Targets) && errors.Is(err, ErrNoInstance); i++ {
		if i != first {
			in, err = c.Targets[i].Pool.Invoke(ctx, req, ans)
		}
	}
	return in, err
}

// target chooses by weight; -1 when there is nothing to choose from.
func (e *Endpoint) target(c *Component) int {
	if len(c.Targets) < 2 {
		return len(c.Targets) - 1
	}
	var total float64
	for i := range c.Targets {
		total += c.Targets[i].Weight
	}
	if total <= 0 {
		return 0
	}
	e.mu.Lock()
	at := e.src.Float64() * total
	e.mu.Unlock()
	last := 0
	for i := range c.Targets {
		if c.Targets[i].Weight <= 0 {
			continue
		}
		last = i
		if at -= c.Targets[i].Weight; at < 0 {
			break
		}
	}
	return last
}
