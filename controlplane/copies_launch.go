package controlplane

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// launchCopy starts a copy on a host.
func (r *reconciler) launchCopy(ctx context.Context, key copyKey, host string, w wantedCopies, adapters []*inferenceComponentRecord) {
	hostType := r.typeOf(host)
	s := r.components.copies[key]
	// The copy outlives ctx by the time that it takes to stop in order.
	lifetime, cancel := context.WithCancel(context.WithoutCancel(ctx))
	now := time.Now()
	in := dataplane.NewInstance(r.componentPool(key.copyGroup, w.variant), instanceID(), hostType, key.ordinal, now)
	in.Host, in.Component = host, *w.component.InferenceComponentName
	s.phase, s.cancel, s.instance, s.host = starting, cancel, in, host
	s.needs, _ = w.revision.needs(hostType)
	s.adapters = map[string]adapterState{}
	for _, a := range adapters {
		s.adapters[a.key()] = adapterKnown
	}
	spec := r.copySpec(key, in, w)
	alternatives := len(instanceTypes(&w.variant.Config))
	go func() {
		defer cancel()
		err := r.live(lifetime, in, spec, lifeHooks{
			prepare: func(ctx context.Context, worker dataplane.Worker) {
				for _, a := range adapters {
					if err := r.plane.loadAdapter(ctx, worker, spec.Dir, a); err != nil {
						r.log.Warn("copy cannot load an adapter", "copy", in.ID, "adapter", a.id(), "error", err)
					}
				}
			},
			ready: func() { r.events <- event{copy: &key, ready: true} },
		})
		r.events <- event{copy: &key, err: err, host: host, alternatives: alternatives}
	}()
}

func (r *reconciler) typeOf(host string) string {
	for _, s := range r.slots {
		if s.host && s.instance != nil && s.instance.ID == host {
			return s.instance.Type
		}
	}
	return ""
}

func (r *reconciler) copySpec(key copyKey, in *dataplane.Instance, w wantedCopies) dataplane.Spec {
	spec := w.revision.spec(in.Type)
	var startup, download *int32 // seconds
	if p := spec.Specification.StartupParameters; p != nil {
		startup, download = p.ContainerStartupHealthCheckTimeoutInSeconds, p.ModelDataDownloadTimeoutInSeconds
	}
	return dataplane.Spec{
		Key: r.key, Variant: w.variant.name(), InstanceID: in.ID, InferenceComponent: in.Component, Host: in.Host,
		Container:       containerOf(&spec.Container),
		Shape:           w.revision.shape(in.Type),
		StartupTimeout:  r.plane.scaled(seconds(startup, seconds(w.variant.Config.ContainerStartupHealthCheckTimeoutInSeconds, startupTimeout))),
		DownloadTimeout: r.plane.scaled(seconds(download, seconds(w.variant.Config.ModelDataDownloadTimeoutInSeconds, downloadTimeout))),
		Dir:             r.plane.instanceDir(in.ID),
		Seed:            r.seed(key.component, key.revision, key.ordinal),
	}
}

// adaptersOf are the adapters of a base that requests may come for.
func adaptersOf(base *inferenceComponentRecord, components []*inferenceComponentRecord) []*inferenceComponentRecord {
	var all []*inferenceComponentRecord
	for _, c := range components {
		if c.Base == base.id() && c.InferenceComponentStatus != componentDeleting && c.InferenceComponentStatus != componentFailed {
			all = append(all, c)
		}
	}
	return all
}

// adapterTimeout bounds the time that a worker may take to load an adapter that is
// unpacked.
const adapterTimeout = time.Minute

// loadAdapter unpacks an adapter's artifact into the copy's directory and tells
// the worker of it. A worker that needs no telling has nothing to load.
func (p *Plane) loadAdapter(ctx context.Context, worker dataplane.Worker, dir string, a *inferenceComponentRecord) error {
	host, ok := worker.(dataplane.AdapterHost)
	if !ok {
		return nil
	}
	dir, err := filepath.Abs(filepath.Join(dir, "adapters", a.id()))
	if err != nil {
		return fmt.Errorf("adapter directory: %w", err)
	}
	artifact := dataplane.ModelSource{URL: *a.Active.Specs[0].Container.ModelDataUrl, Gzip: true}
	if err := p.ModelData.Download(ctx, artifact, dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, adapterTimeout)
	defer cancel()
	return host.LoadAdapter(ctx, *a.InferenceComponentName, dir)
}

// tellAdapters loads adapters into copies that serve and do not know them yet.
func (r *reconciler) tellAdapters(ctx context.Context, components []*inferenceComponentRecord) {
	for _, base := range components {
		for _, a := range adaptersOf(base, components) {
			for key, s := range r.components.copies {
				if key.component != base.key() || s.phase != serving || s.adapters[a.key()] != adapterUntold {
					continue
				}
				s.adapters[a.key()] = adapterTold
				r.components.loading++
				in := s.instance
				go func() {
					err := r.plane.loadAdapter(ctx, in.Worker(), r.plane.instanceDir(in.ID), a)
					r.events <- event{copy: &key, instance: in.ID, adapter: a.key(), err: err}
				}()
			}
		}
	}
}

// forgetAdapter lets the copies forget an adapter that is being deleted. It
// returns true when all have.
func (r *reconciler) forgetAdapter(ctx context.Context, a *inferenceComponentRecord) bool {
	done := true
	for key, s := range r.components.copies {
		host, ok := worker(s).(dataplane.AdapterHost)
		switch s.adapters[a.key()] {
		case adapterUntold:
			continue
		case adapterTold:
			done = false
			continue
		case adapterRefused:
			ok = false
		}
		if !ok || s.phase != serving {
			delete(s.adapters, a.key())
			continue
		}
		done = false
		s.adapters[a.key()] = adapterTold
		r.components.loading++
		in := s.instance
		go func() {
			ctx, cancel := context.WithTimeout(ctx, adapterTimeout)
			defer cancel()
			err := host.UnloadAdapter(ctx, *a.InferenceComponentName)
			r.events <- event{copy: &key, instance: in.ID, adapter: a.key(), unloaded: true, err: err}
		}()
	}
	return done
}

func worker(s *copySlot) dataplane.Worker {
	if s.instance == nil {
		return nil
	}
	return s.instance.Worker()
}

// observeAdapter takes in how a load or an unload ended.
func (r *reconciler) observeAdapter(s *copySlot, ev event) {
	if s.adapters == nil {
		return
	}
	switch {
	case ev.unloaded:
		if ev.err != nil {
			r.log.Warn("copy cannot unload an adapter", "adapter", ev.adapter, "error", ev.err)
		}
		delete(s.adapters, ev.adapter)
	case errors.Is(ev.err, context.Canceled): // the plane stops
		delete(s.adapters, ev.adapter)
	case ev.err != nil:
		r.components.adapterErrors[ev.adapter] = ev.err
		s.adapters[ev.adapter] = adapterRefused
	default:
		s.adapters[ev.adapter] = adapterKnown
	}
}
