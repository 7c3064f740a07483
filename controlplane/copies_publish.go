package controlplane

import (
	"slices"
	"sync/atomic"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// publishComponents adds the endpoint's components to what the data plane sees.
func (r *reconciler) publishComponents(s *dataplane.Snapshot, now *desired, want map[copyGroup]wantedCopies) {
	if s.HostsComponents = now.hostsComponents(); !s.HostsComponents {
		return
	}
	s.Components = map[string]*dataplane.Component{}
	for _, c := range now.components {
		if !c.adapter() {
			s.Components[c.id()] = r.publishComponent(now, c, want)
		}
	}
	for _, c := range now.components {
		base := s.Components[c.Base]
		if !c.adapter() || base == nil {
			continue
		}
		s.Components[c.id()] = &dataplane.Component{
			Name: *c.InferenceComponentName, Variant: base.Variant, Container: base.Container,
			Status: string(c.InferenceComponentStatus), Serving: c.takesRequests() && base.Serving,
			Adapter: *c.InferenceComponentName, Desired: base.Desired, Targets: base.Targets, NoCapacity: r.noCapacity(c),
		}
	}
}

// takesRequests: an update does not interrupt a component that was in service.
func (r *inferenceComponentRecord) takesRequests() bool {
	return r.Served && r.InferenceComponentStatus != componentDeleting && r.InferenceComponentStatus != componentFailed
}

func (r *reconciler) noCapacity(c *inferenceComponentRecord) *atomic.Int64 {
	n := r.components.noCapacity[c.key()]
	if n == nil {
		n = new(atomic.Int64)
		r.components.noCapacity[c.key()] = n
	}
	return n
}

func (r *reconciler) publishComponent(now *desired, c *inferenceComponentRecord, want map[copyGroup]wantedCopies) *dataplane.Component {
	pub := &dataplane.Component{
		Name: *c.InferenceComponentName, Variant: *c.VariantName, Container: "primary",
		Status: string(c.InferenceComponentStatus), Serving: c.takesRequests(), Desired: int(c.CopyCount), NoCapacity: r.noCapacity(c),
	}
	up := map[int64]int{} // copies that serve, by deployment
	for key, s := range r.components.copies {
		if key.component != c.key() {
			continue
		}
		if s.instance != nil {
			pub.Copies = append(pub.Copies, s.instance)
		}
		if s.phase == serving {
			up[key.deployment]++
		}
		if s.err != nil && s.phase != serving {
			pub.Message = sdkcompat.CopyFailing.Sentence(key.ordinal+1, s.failures, s.err)
		}
	}
	slices.SortFunc(pub.Copies, func(a, b *dataplane.Instance) int { return a.Slot - b.Slot })
	fleets := now.fleets()
	for _, f := range fleets {
		v := f.variant(*c.VariantName)
		pool := r.components.pools[poolKey{f.ID, c.key()}]
		if v == nil || pool == nil {
			continue
		}
		weight := now.share(f, fleets, v, func(g group) int { return up[g.deployment] })
		pub.Targets = append(pub.Targets, dataplane.ComponentTarget{Deployment: f.ID, Weight: weight, Pool: pool})
	}
	for g, w := range want {
		if _, waiting := r.components.roomless[g]; waiting && w.component == c && pub.Message == "" {
			pub.Message = sdkcompat.CopiesWithoutRoom.Sentence(*c.VariantName)
		}
	}
	return pub
}

// awaitComponents holds an endpoint's progress back until the copies of its
// components serve: of the new fleet of an update before it gets traffic, and of
// the only one after a restart.
func (r *reconciler) awaitComponents(now *desired, want map[copyGroup]wantedCopies, at *progress) {
	fleet := now.Deployment.ID
	switch {
	case now.Update != nil:
		fleet = now.Update.Target.ID
	case now.EndpointStatus != statusSystemUpdating:
		return
	}
	// Components are InService before their endpoint, so that who sees the endpoint
	// InService can change them.
	if now.Update == nil && slices.ContainsFunc(now.components, (*inferenceComponentRecord).awaitsCopies) {
		f := at.fleets[fleet]
		f.reached, at.reached = false, false
		at.fleets[fleet] = f
	}
	for g, w := range want {
		if g.deployment != fleet || !w.component.Served || w.revision != &w.component.Active {
			continue
		}
		p := r.copyProgress(g, want)
		f := at.fleets[fleet]
		if now.Update != nil {
			if p.problem != nil && f.err == nil {
				f.failure = failure{p.problem, w.variant.name()}
			}
			// Copies without room hold back a new fleet that is to be whole. Those
			// that were asked for later have to wait for the update's end.
			_, roomless := r.components.roomless[g]
			whole := now.Update.rolling() == nil && now.Update.Stage == provisioning
			if p.serving < w.count && (!roomless || whole) {
				f.reached = false
			}
		} else if p.serving < w.count && p.problem == nil {
			f.reached, at.reached = false, false
		}
		at.fleets[fleet] = f
	}
}
