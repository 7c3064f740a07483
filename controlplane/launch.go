package controlplane

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// Waits of an instance's life.
const (
	// startupTimeout is the health check's default
	// (docs: your-algorithms-inference-code).
	startupTimeout = 8 * time.Minute
	// downloadTimeout is ModelDataDownloadTimeoutInSeconds' upper bound; AWS
	// publishes no default.
	downloadTimeout = time.Hour
	// drainTimeout lets the longest stream end; any other invocation has ended
	// after a minute, by its own timeout.
	drainTimeout = 8 * time.Minute
	// stopGrace lies between SIGTERM and SIGKILL
	// (docs: your-algorithms-inference-code).
	stopGrace = 30 * time.Second
	// When the daemon itself stops, all of it has to fit into 30 s.
	shutdownDrain = 5 * time.Second
	shutdownGrace = 20 * time.Second
)

// makePools gives every variant of every deployment its pool, once.
func (r *reconciler) makePools(rec *endpointRecord) error {
	for _, f := range rec.fleets() {
		for i := range f.Variants {
			v := &f.Variants[i]
			g := group{f.ID, v.name()}
			if r.pools[g] != nil {
				continue
			}
			if v.Config.ServerlessConfig != nil {
				r.pools[g] = dataplane.NewServerlessPool(r.notify)
				continue
			}
			pool, err := dataplane.NewPool(v.routing(), r.seed(v.name()))
			if err != nil {
				return fmt.Errorf("variant %s: %w", v.name(), err)
			}
			r.pools[g] = pool
		}
	}
	return nil
}

// routing is the variant's RoutingConfig in the data plane's words.
func (v *variant) routing() (routing dataplane.Routing) {
	c := v.Config.RoutingConfig
	if c == nil {
		return routing
	}
	routing.Strategy = string(c.RoutingStrategy)
	if pa := c.PrefixAwareRoutingConfig; pa != nil {
		routing.PrefixLength = int(aws.ToInt32(pa.PrefixLength))
		routing.ConcurrencyThreshold = int(aws.ToInt32(pa.ConcurrencyThreshold))
	}
	return routing
}

// seed derives a source of randomness from the daemon's seed and what it is for.
func (r *reconciler) seed(purpose ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, r.plane.Seed, r.key, purpose)
	return h.Sum64()
}

// launch puts a new instance of a type into a slot.
func (r *reconciler) launch(ctx context.Context, v *variant, key slotKey, instanceType string) {
	s := r.slots[key]
	// The instance outlives ctx by the time that it takes to stop in order.
	lifetime, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.phase, s.cancel = starting, cancel
	s.instance = dataplane.NewInstance(r.pools[key.group], instanceID(), instanceType, key.ordinal, time.Now())
	spec := dataplane.Spec{
		Key: r.key, Variant: key.variant, InstanceID: s.instance.ID,
		Shape:           shapeOf(v, instanceType),
		StartupTimeout:  r.plane.scaled(seconds(v.Config.ContainerStartupHealthCheckTimeoutInSeconds, startupTimeout)),
		DownloadTimeout: r.plane.scaled(seconds(v.Config.ModelDataDownloadTimeoutInSeconds, downloadTimeout)),
		Dir:             r.plane.instanceDir(s.instance.ID),
		Seed:            r.seed(key.variant, key.ordinal),
	}
	v.on(instanceType).contain(&spec)
	in, hooks := s.instance, lifeHooks{ready: func() { r.events <- event{key: key, ready: true} }}
	if v.Config.ServerlessConfig != nil {
		hooks.delay = r.plane.scaled(r.plane.Serverless.ColdStart)
	}
	go func() {
		defer cancel()
		err := r.live(lifetime, in, spec, hooks)
		r.plane.Capacity.release(instanceType)
		r.events <- event{key: key, err: err}
	}()
}

func seconds(n *int32, fallback time.Duration) time.Duration {
	if n == nil {
		return fallback
	}
	return time.Duration(*n) * time.Second
}

// Shape is what an instance type offers, in the data plane's words; false for a
// type that does not exist.
func Shape(instanceType string) (dataplane.Shape, bool) {
	s, ok := sdkcompat.Shape(instanceType)
	return dataplane.Shape{
		InstanceType: instanceType, VCPU: s.VCPU, MemoryGiB: s.MemoryGiB,
		Accelerators: s.Accelerators, AcceleratorKind: s.Accelerator, AcceleratorGiB: s.AcceleratorGiB,
	}, ok
}

// lifeHooks are called in the course of an instance's life.
type lifeHooks struct {
	delay   time.Duration                           // before the worker starts
	prepare func(context.Context, dataplane.Worker) // before it serves; may be nil
	ready   func()                                  // when it serves
}

// live is an instance's whole life: start the worker, serve until told to stop
// or until the worker dies, drain, stop, clean up. The error says why it ended
// on its own; nil when ctx ended it.
func (r *reconciler) live(ctx context.Context, in *dataplane.Instance, spec dataplane.Spec, hooks lifeHooks) (err error) {
	defer in.Retire()
	defer func() { err = errors.Join(err, os.RemoveAll(spec.Dir)) }()
	if len(spec.Containers) == 0 { // several have logs of their own
		log, err := r.plane.Logs.Open(r.key, filepath.Join(spec.Variant, id(spec.InferenceComponent)), spec.InstanceID)
		if err != nil {
			return fmt.Errorf("instance log: %w", err)
		}
		defer log.Close()
		spec.Log = log
	}

	if !dataplane.Sleep(ctx, hooks.delay) {
		return nil
	}
	worker, err := r.plane.launcher(&spec).Launch(ctx, spec)
	if ctx.Err() != nil && err != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if hooks.prepare != nil {
		hooks.prepare(ctx, worker)
	}
	in.Serve(worker, time.Now())
	hooks.ready()
	select {
	case <-worker.Done():
		err = worker.Err()
		in.Retire()
	case <-ctx.Done():
	}
	drain, grace := drainTimeout, stopGrace
	if r.plane.ctx.Err() != nil {
		drain, grace = shutdownDrain, shutdownGrace
	}
	r.drain(in, drain)
	return errors.Join(err, worker.Stop(context.WithoutCancel(ctx), grace))
}

// drain waits for the instance's outstanding requests, less long once the whole
// plane stops.
func (r *reconciler) drain(in *dataplane.Instance, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	stop := context.AfterFunc(r.plane.ctx, func() {
		time.AfterFunc(shutdownDrain, cancel)
	})
	defer stop()
	in.Drain(ctx)
}

// instanceID looks like EC2's.
func instanceID() string {
	var b [9]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	return "i-" + hex.EncodeToString(b[:])[:17]
}

// publish makes the present instances and weights what the data plane sees.
func (r *reconciler) publish(rec *desired, want map[group]int, copies map[copyGroup]wantedCopies) {
	s := &dataplane.Snapshot{Status: string(rec.EndpointStatus), Serving: rec.Served && rec.EndpointStatus != statusDeleting}
	weights := rec.traffic(func(g group) int { return r.serving(g, want[g]) })
	for _, f := range rec.fleets() {
		for i := range f.Variants {
			g := group{f.ID, f.Variants[i].name()}
			v := r.observeGroup(g)
			v.Weight = weights[g]
			f.Variants[i].show(&v)
			if f.Variants[i].Shadow {
				v.Weight, v.Shadow = float64(f.Variants[i].CurrentWeight), r.taps.shadows[g]
				s.Shadows = append(s.Shadows, v)
			} else {
				s.Variants = append(s.Variants, v)
			}
		}
	}
	r.publishComponents(s, rec, copies)
	s.Async = rec.async()
	defer r.plane.queue.Wake(rec.UID)
	r.tap(s, rec)
	if e := r.plane.Fleet.Publish(r.key, s, r.seed("variants")); e.Responses() == nil {
		if err := r.plane.equip(e, rec.endpointRecord); err != nil {
			r.log.Error("cannot read the endpoint's scripts", "error", err)
		}
	}
}

// serving is how many of a group's wanted instances serve.
func (r *reconciler) serving(g group, want int) (n int) {
	for key, s := range r.slots {
		if key.group == g && key.ordinal < want && s.phase == serving {
			n++
		}
	}
	return n
}

// observeGroup is a group as the data plane sees it, but for its weight.
func (r *reconciler) observeGroup(g group) dataplane.Variant {
	v := dataplane.Variant{Name: g.variant, Deployment: g.deployment, Pool: r.pools[g]}
	for key, s := range r.slots {
		if key.group != g {
			continue
		}
		if s.instance != nil {
			v.Instances = append(v.Instances, s.instance)
		}
		if s.err != nil && s.phase != serving {
			v.Message = sdkcompat.InstanceFailing.Sentence(key.ordinal+1, s.failures, s.err)
		}
	}
	slices.SortFunc(v.Instances, func(a, b *dataplane.Instance) int { return a.Slot - b.Slot })
	return v
}
