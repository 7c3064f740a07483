package controlplane

import (
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// world is the control plane as plain maps, with AWS's rules: what every answer
// must agree with. Names are in lower case.
type world struct {
	models    map[string]bool // whether its container is broken
	configs   map[string]worldConfig
	endpoints map[string]*worldEndpoint
	tags      map[string]map[string]string // by ARN of what exists
	gone      map[string]bool              // ARNs of what was deleted
}

type worldConfig struct {
	model string
	count int32 // of its only variant
	// broken models were so when the configuration was taken over.
}

type worldEndpoint struct {
	config  string // in force
	status  types.EndpointStatus
	desired int32
	current int32
	weight  float32
	failed  bool // has a FailureReason

	// The deployment under way, until time passes.
	pending *worldDeployment
}

type worldDeployment struct {
	config string
	count  int32
	weight float32
	broken bool
}

func newWorld() *world {
	return &world{
		models: map[string]bool{}, configs: map[string]worldConfig{},
		endpoints: map[string]*worldEndpoint{}, tags: map[string]map[string]string{}, gone: map[string]bool{},
	}
}

func arnOf(resource, name string) string { return sdkcompat.ARN(home, resource, name) }

// kinds are the resources as their ARNs and as AWS's sentences name them.
var kinds = map[string]string{"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}

func missing(what, resource, name string) string {
	return fmt.Sprintf("Could not find %s %q.", what, arnOf(resource, name))
}

func missingOne(resource, name string) string { return missing(kinds[resource], resource, name) }

func existing(resource, name string) string {
	return fmt.Sprintf("Cannot create already existing %s %q.", kinds[resource], arnOf(resource, name))
}

func busyEndpoint(name string) string {
	return fmt.Sprintf("Cannot update in-progress endpoint %q.", arnOf("endpoint", name))
}

func (w *world) created(resource, name string) {
	arn := arnOf(resource, name)
	w.tags[arn] = map[string]string{}
	delete(w.gone, arn)
}

func (w *world) deleted(resource, name string) {
	arn := arnOf(resource, name)
	delete(w.tags, arn)
	w.gone[arn] = true
}

// takeOver resolves a configuration as CreateEndpoint and UpdateEndpoint do.
func (w *world) takeOver(config string) (*worldDeployment, string) {
	c, exists := w.configs[config]
	if !exists {
		return nil, missingOne("endpoint-config", config)
	}
	broken, exists := w.models[c.model]
	if !exists {
		return nil, missingOne("model", c.model)
	}
	return &worldDeployment{config: config, count: c.count, weight: 1, broken: broken}, ""
}

// pass lets enough time go by for everything under way to end.
func (w *world) pass() {
	for _, e := range w.endpoints {
		switch p := e.pending; {
		case e.status == statusCreating && p.broken:
			e.status, e.failed = statusFailed, true
		case e.status == statusUpdating && p != nil && p.broken:
			e.status, e.failed = statusInService, true
		case p != nil:
			e.status, e.config = statusInService, p.config
			e.desired, e.current, e.weight = p.count, p.count, p.weight
		case e.status == statusUpdating:
			e.status, e.current = statusInService, e.desired
		}
		e.pending = nil
	}
}

func (w *world) names(resource string) []string {
	switch resource {
	case "model":
		return slices.Sorted(maps.Keys(w.models))
	case "endpoint-config":
		return slices.Sorted(maps.Keys(w.configs))
	}
	return slices.Sorted(maps.Keys(w.endpoints))
}
