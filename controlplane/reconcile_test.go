package controlplane

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
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
		seen.EndpointStatus = statusUpdating // what it believes it works on
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
			changed, _, err := work.advance(seen.endpointRecord, progress{reached: true}, nil)
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
