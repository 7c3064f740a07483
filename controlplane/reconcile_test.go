package controlplane

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
	"github.com/sagelocal/sagelocal/store"
)

func TestStatusIsNotWrittenForAnOlderGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		work := newReconciler(r.Plane, endpointKey(home, "e"))
		seen, err := work.load()
		r.must(err)
		for name, change := range map[string]func(*endpointRecord){
			"changed since":       func(rec *endpointRecord) { rec.Generation++ },
			"another of its name": func(rec *endpointRecord) { rec.UID = "another" },
		} {
			r.must(r.DB.Update(func(tx *store.Tx) error {
				rec := *seen.endpointRecord
				rec.EndpointStatus = statusCreating
				change(&rec)
				return endpoints.Put(tx, work.scope, "e", &rec)
			}))
			seen.EndpointStatus = statusUpdating // what it believes it works on
			changed, _, err := work.advance(seen, progress{reached: true})
			if !changed || err != nil || r.endpoint("e").EndpointStatus != statusCreating {
				t.Errorf("%s: look again %v, %v, status %s; want it untouched", name, changed, err, r.endpoint("e").EndpointStatus)
			}
		}
	})
}

func TestEndpointOfTheSameNameStartsAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		instance := func() string {
			return r.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Variants[0].Instances[0].ID
		}
		before := instance()
		// Gone and back before the reconciler looks.
		r.must(r.DB.Update(func(tx *store.Tx) error { return tx.DeleteAll() }))
		v := variantOf("a", 1)
		v.RoutingConfig = &types.ProductionVariantRoutingConfig{RoutingStrategy: types.RoutingStrategyLeastOutstandingRequests}
		r.deploy("e", v)
		r.settle("e", statusInService)
		if instance() == before {
			t.Error("the old endpoint's instance serves the new one")
		}
		if got := r.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Variants[0].Pool.Routing().Strategy; got != dataplane.StrategyLeastOutstanding {
			t.Errorf("routed by %q", got)
		}
	})
}

func TestUpdateGivesFailedInstancesANewChance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		dead := make(chan struct{})
		kind := echo()
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			if broken.Load() {
				return nil, dataplane.ErrPing
			}
			w, err := kind.Launch(ctx, spec)
			if err != nil {
				return nil, err
			}
			return mortal{w, dead}, nil
		}))
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		broken.Store(true)
		close(dead)
		time.Sleep(5 * time.Minute) // it fails far more often than maxStarts
		synctest.Wait()
		dead = make(chan struct{})
		broken.Store(false)
		_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(2)}))
		r.must(err)
		out := r.settle("e", statusInService)
		if n := *out.ProductionVariants[0].CurrentInstanceCount; n != 2 || out.FailureReason != nil {
			t.Errorf("%d instances, reason %q; want 2 and none", n, aws.ToString(out.FailureReason))
		}
	})
}

// TestEndpointTakesTrafficWhenDescribeSaysSo: whoever sees a status may rely on
// what it says about invocations at once. This test runs in real time, for the
// bubble's would hide who is first.
func TestEndpointTakesTrafficWhenDescribeSaysSo(t *testing.T) {
	r := newRig(t, simulated.New(simulated.Config{}, Shape, 1))
	defer r.stop()
	until := func(name string) {
		for r.endpoint(name).EndpointStatus != statusInService {
			runtime.Gosched()
		}
	}
	for i := range 100 {
		name := fmt.Sprint("e", i)
		r.deploy(name, variantOf("a", 1), variantOf("b", 1))
		until(name)
		if _, err := r.invoke(name); err != nil {
			t.Fatalf("endpoint %d is in service: %v", i, err)
		}
		_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, &sagemaker.UpdateEndpointWeightsAndCapacitiesInput{
			EndpointName: &name, DesiredWeightsAndCapacities: []types.DesiredWeightAndCapacity{{VariantName: aws.String("a"), DesiredWeight: aws.Float32(0)}},
		})
		r.must(err)
		until(name)
		for range 10 {
			route, err := r.Fleet.Invoke(r.ctx, endpointKey(home, name), &dataplane.Request{Body: []byte("x")}, new(dataplane.Answer))
			if err != nil || route.Variant != "b" {
				t.Fatalf("endpoint %d has the new weights: variant %s answers, %v", i, route.Variant, err)
			}
		}
	}
}

// A CreateEndpoint that commits between a reconciler's last look and its end must
// not be lost.
func TestEndpointCreatedAsItsPredecessorGoesIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		last := newReconciler(r.Plane, endpointKey(home, "e"))
		r.mu.Lock()
		r.reconcilers[last.key] = last
		r.mu.Unlock()
		<-last.woken
		if _, gone := last.reconcile(r.ctx); !gone {
			t.Fatal("there is an endpoint")
		}
		r.deploy("e", variantOf("a", 1))
		if r.forget(last) {
			t.Fatal("its reconciler ends")
		}
		r.running.Add(1)
		go func() {
			defer r.running.Done()
			select {
			case <-last.woken:
				last.notify()
				last.run(r.Plane.ctx)
			default:
				t.Error("its reconciler waits for another wake-up")
			}
		}()
		r.settle("e", statusInService)
	})
}
