package controlplane

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

func (r *rig) capacity(rules ...CapacityRule) {
	r.t.Helper()
	r.must(r.SetCapacity(rules))
}

// pooled is a variant of so many instances of the types, by priority.
func pooled(count int32, instanceTypes ...types.ProductionVariantInstanceType) types.ProductionVariant {
	v := variantOf("a", count)
	v.InstanceType = ""
	for i, t := range instanceTypes {
		v.InstancePools = append(v.InstancePools, pool(t, int32(i+1)))
	}
	return v
}

// poolCounts are what DescribeEndpoint says of a variant's pools.
func poolCounts(out *sagemaker.DescribeEndpointOutput) string {
	counts := map[types.ProductionVariantInstanceType]int32{}
	for _, p := range out.ProductionVariants[0].InstancePools {
		counts[p.InstanceType] = *p.CurrentInstanceCount
	}
	return fmt.Sprint(counts)
}

func TestInstancePoolsFallBackByPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.capacity(CapacityRule{InstanceType: "ml.g5.*", Instances: aws.Int(2)}, CapacityRule{InstanceType: "ml.g6.*", Unavailable: true})
		r.deploy("e", pooled(5, "ml.g5.xlarge", "ml.g6.xlarge", "ml.m5.large"))
		out := r.settle("e", statusInService)
		if got := poolCounts(out); got != "map[ml.g5.xlarge:2 ml.g6.xlarge:0 ml.m5.large:3]" || *out.ProductionVariants[0].CurrentInstanceCount != 5 {
			t.Errorf("pools %s, want 2 of the first and 3 of the last", got)
		}
		// What the fallback started last goes first.
		scale := func(n int32) *sagemaker.DescribeEndpointOutput {
			_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: &n}))
			r.must(err)
			return r.settle("e", statusInService)
		}
		if got := poolCounts(scale(3)); got != "map[ml.g5.xlarge:2 ml.g6.xlarge:0 ml.m5.large:1]" {
			t.Errorf("after the scale-in: %s", got)
		}
		r.capacity()
		if got := poolCounts(scale(4)); got != "map[ml.g5.xlarge:3 ml.g6.xlarge:0 ml.m5.large:1]" {
			t.Errorf("after capacity came back: %s", got)
		}
		if got := r.Capacity.Status().InUse; !maps.Equal(got, map[string]int{"ml.g5.xlarge": 3, "ml.m5.large": 1}) {
			t.Errorf("in use: %v", got)
		}
		r.remove("e")
		if got := r.Capacity.Status().InUse; len(got) != 0 {
			t.Errorf("in use when all are gone: %v", got)
		}
	})
}

func TestEndpointWithoutCapacityFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.capacity(CapacityRule{InstanceType: "ml.m5.large", Instances: aws.Int(1)}, CapacityRule{InstanceType: "*", Unavailable: true})
		begun := time.Now()
		r.deploy("e", variantOf("a", 2))
		out := r.settle("e", statusFailed)
		if got := aws.ToString(out.FailureReason); got != sdkcompat.InsufficientCapacity.Sentence() || time.Since(begun) > 5*time.Second {
			t.Errorf("after %v: %q", time.Since(begun), got)
		}
		r.deploy("pools", pooled(1, "ml.g5.xlarge", "ml.g6.xlarge"))
		r.settle("pools", statusFailed)
		// Serverless takes no instance of a type.
		v := variantOf("a", 1)
		makeServerless(&v)
		r.deploy("serverless", v)
		r.settle("serverless", statusInService)
		r.remove("e")
	})
}

func TestHostsOfComponentsNeedCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.capacity(CapacityRule{InstanceType: "ml.m5.large", Instances: aws.Int(2)})
		create := func(name string, count int32) {
			in := config()
			makeComponents(in)
			in.EndpointConfigName, in.ProductionVariants[0].InitialInstanceCount = &name, &count
			_, err := r.CreateEndpointConfig(r.ctx, in)
			r.must(err)
			_, err = r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &name})
			r.must(err)
		}
		create("e", 2)
		r.settle("e", statusInService)
		create("f", 1)
		if out := r.settle("f", statusFailed); aws.ToString(out.FailureReason) != sdkcompat.InsufficientCapacity.Sentence() {
			t.Errorf("reason %q", aws.ToString(out.FailureReason))
		}
		r.remove("e")
		if got := r.Capacity.Status().InUse; len(got) != 0 {
			t.Errorf("in use when all are gone: %v", got)
		}
	})
}

func TestInstancesWaitForCapacityAsLongAsTheProvisionTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		waiting := func(name string) {
			v := pooled(2, "ml.g5.xlarge", "ml.m5.large")
			v.VariantInstanceProvisionTimeoutInSeconds = aws.Int32(600)
			r.deploy(name, v)
		}
		r.capacity(CapacityRule{InstanceType: "*", Unavailable: true})
		waiting("e")
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if s := r.endpoint("e").EndpointStatus; s != statusCreating {
			t.Fatalf("after nine of ten minutes: %s", s)
		}
		// It notices at once that there is capacity again.
		r.capacity(CapacityRule{InstanceType: "ml.g5.xlarge", Unavailable: true})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if out := r.endpoint("e"); out.EndpointStatus != statusInService || poolCounts(out) != "map[ml.g5.xlarge:0 ml.m5.large:2]" {
			t.Errorf("with capacity: %s", out.EndpointStatus)
		}

		r.capacity(CapacityRule{InstanceType: "ml.m5.large", Instances: aws.Int(2)}, CapacityRule{InstanceType: "*", Unavailable: true})
		begun := time.Now()
		waiting("late")
		r.settle("late", statusFailed)
		if d := time.Since(begun); d < 600*time.Second || d > 610*time.Second {
			t.Errorf("failed after %v, want 600 s", d)
		}

		// What another endpoint gives back is found on the next try.
		waiting("next")
		time.Sleep(2 * time.Minute)
		r.remove("e")
		if out := r.settle("next", statusInService); poolCounts(out) != "map[ml.g5.xlarge:0 ml.m5.large:2]" {
			t.Errorf("pools %s", poolCounts(out))
		}
	})
}

func TestPoolsFallBackWhenAKindOfWorkerHasNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kind := echo()
		var tried []string
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			tried = append(tried, spec.Shape.InstanceType)
			if spec.Shape.InstanceType != "ml.m5.large" {
				return nil, fmt.Errorf("%w: no node has a GPU", dataplane.ErrCapacity)
			}
			return kind.Launch(ctx, spec)
		}))
		defer r.stop()
		r.deploy("e", pooled(1, "ml.g5.xlarge", "ml.g6.xlarge", "ml.m5.large"))
		out := r.settle("e", statusInService)
		if got := fmt.Sprint(tried); got != "[ml.g5.xlarge ml.g6.xlarge ml.m5.large]" || poolCounts(out) != "map[ml.g5.xlarge:0 ml.g6.xlarge:0 ml.m5.large:1]" {
			t.Errorf("tried %s, pools %s", got, poolCounts(out))
		}
		tried = nil
		r.deploy("f", pooled(1, "ml.g5.xlarge", "ml.g6.xlarge"))
		r.settle("f", statusFailed)
		if got := fmt.Sprint(tried); got != "[ml.g5.xlarge ml.g6.xlarge]" {
			t.Errorf("tried %s, want each once", got)
		}
		if got := r.Capacity.Status().InUse; !maps.Equal(got, map[string]int{"ml.m5.large": 1}) {
			t.Errorf("in use: %v", got)
		}
	})
}

func TestPoolRunsItsModelNameOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.model("compiled", "compiled")
		v := pooled(1, "ml.g5.xlarge", "ml.m5.large")
		v.InstancePools[0].ModelNameOverride = aws.String("compiled")
		r.deploy("e", v)
		out := r.settle("e", statusInService)
		if images := out.ProductionVariants[0].DeployedImages; len(images) != 2 || *images[0].SpecifiedImage != "image" || *images[1].SpecifiedImage != "compiled" {
			t.Errorf("images %+v", images)
		}
		if body, err := r.invoke("e"); body != "compiled" || err != nil {
			t.Errorf("the first pool answers %q, %v", body, err)
		}
		r.capacity(CapacityRule{InstanceType: "ml.g5.*", Instances: aws.Int(1)})
		r.must(func() error {
			_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(2)}))
			return err
		}())
		r.settle("e", statusInService)
		if share := r.shareOf("image", 400); share < 0.4 || share > 0.6 {
			t.Errorf("the second pool answers %v of the requests, want half", share)
		}
	})
}

func TestUpdateWithoutCapacityForTheNewFleetRollsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 3, "green")
		defer r.stop()
		r.capacity(CapacityRule{InstanceType: "ml.m5.large", Instances: aws.Int(5)})
		r.update("e", "green", nil)
		out := r.settle("e", statusInService)
		if *out.EndpointConfigName != "e" || aws.ToString(out.FailureReason) != sdkcompat.InsufficientCapacity.Sentence() || *out.ProductionVariants[0].CurrentInstanceCount != 3 {
			t.Errorf("configuration %s, reason %q", *out.EndpointConfigName, aws.ToString(out.FailureReason))
		}
		r.capacity(CapacityRule{InstanceType: "ml.m5.large", Instances: aws.Int(6)})
		r.update("e", "green", nil)
		if out = r.settle("e", statusInService); *out.EndpointConfigName != "green" || out.FailureReason != nil {
			t.Errorf("with capacity: configuration %s, reason %q", *out.EndpointConfigName, aws.ToString(out.FailureReason))
		}
	})
}

func TestCrashedInstanceIsReplacedWhenThereIsCapacityAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kind, dead := echo(), make(chan struct{})
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			w, err := kind.Launch(ctx, spec)
			return mortal{w, dead}, err
		}))
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		r.capacity(CapacityRule{InstanceType: "*", Unavailable: true})
		close(dead)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		out := r.endpoint("e")
		if out.EndpointStatus != statusInService || *out.ProductionVariants[0].CurrentInstanceCount != 0 {
			t.Errorf("without capacity: %s with %d instances", out.EndpointStatus, *out.ProductionVariants[0].CurrentInstanceCount)
		}
		dead = make(chan struct{})
		r.capacity()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := *r.endpoint("e").ProductionVariants[0].CurrentInstanceCount; n != 1 {
			t.Errorf("%d instances with capacity", n)
		}
	})
}
