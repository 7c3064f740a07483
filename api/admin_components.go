package api

import (
	"maps"
	"slices"

	"github.com/sagelocal/sagelocal/dataplane"
)

// componentView is an inference component as GET fleet shows it. A copy's host is
// the id of one of the variant's instances.
type componentView struct {
	Name         string `json:"name"`
	Variant      string `json:"variant"`
	Status       string `json:"status"`
	Adapter      bool   `json:"adapter,omitempty"`
	DesiredCount int    `json:"desired_copies"`
	Message      string `json:"message,omitempty"`
	// NoCapacity counts requests that found no copy since the daemon started.
	NoCapacity int64                      `json:"no_capacity_invocation_failures"`
	Copies     []dataplane.InstanceStatus `json:"copies"`
}

func componentViews(s *dataplane.Snapshot) []componentView {
	var all []componentView
	for _, key := range slices.Sorted(maps.Keys(s.Components)) {
		c := s.Components[key]
		v := componentView{
			Name: c.Name, Variant: c.Variant, Status: c.Status, Adapter: c.Adapter != "", DesiredCount: c.Desired,
			Message: c.Message, NoCapacity: c.NoCapacity.Load(), Copies: []dataplane.InstanceStatus{},
		}
		for _, in := range c.Copies {
			v.Copies = append(v.Copies, in.Status())
		}
		all = append(all, v)
	}
	return all
}
