package controlplane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
)

// crashing launches copies of which some die after a while and some never start.
func crashing() dataplane.Launcher {
	kind := byImage()
	return launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
		if spec.Seed%7 == 0 {
			time.Sleep(time.Duration(spec.Seed%5000) * time.Millisecond)
		}
		w, err := kind.Launch(ctx, spec)
		if err != nil || spec.Seed%5 != 0 {
			return w, err
		}
		dead := make(chan struct{})
		time.AfterFunc(time.Duration(spec.Seed%90)*time.Second, func() { close(dead) })
		return mortal{w, dead}, nil
	})
}

// soak does random operations on the components of one endpoint.
type soak struct {
	*rig
	src *rand.Rand
}

// Whatever is done to components, in whatever order and while copies crash: no
// instance ever has more copies than it has room for, the number of instances
// stays within its bounds, and everything comes to rest with what was asked for.
func TestRandomOperationsOnComponentsComeToRest(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := rand.New(rand.NewPCG(seed, 3))
				s := &soak{rig: newRig(t, crashing()), src: src}
				defer s.stop()
				s.Seed = seed
				m := managed(int32(src.IntN(2)), 4)
				if src.IntN(2) == 0 {
					m.ScaleInPolicy = &types.ProductionVariantManagedInstanceScalingScaleInPolicy{
						Strategy: types.ManagedInstanceScalingScaleInStrategyConsolidation, CooldownInMinutes: aws.Int32(5),
					}
				}
				s.deployHosts("e", hostOf("v", 1+int32(src.IntN(2)), m))
				s.hostConfig("again", hostOf("v", 1, m))
				for range 60 {
					s.operate()
					for range src.IntN(20) {
						time.Sleep(time.Duration(src.IntN(3000)) * time.Millisecond)
						s.checkRoom()
					}
				}
				s.rest()
			})
		})
	}
}

func (s *soak) operate() {
	name := string(rune('a' + s.src.IntN(4)))
	n := int32(1 + s.src.IntN(5))
	size := float32(1 + s.src.IntN(2))
	spec := gpus(name, size)
	if s.src.IntN(2) == 0 {
		spec.SchedulingConfig = &types.InferenceComponentSchedulingConfig{PlacementStrategy: binpack}
	}
	switch s.src.IntN(8) {
	case 0, 1, 2:
		_, _ = s.CreateInferenceComponent(s.ctx, &sagemaker.CreateInferenceComponentInput{
			InferenceComponentName: &name, EndpointName: aws.String("e"), Specification: spec, RuntimeConfig: copyCount(n),
		})
	case 3, 4:
		_, _ = s.UpdateInferenceComponentRuntimeConfig(s.ctx, &sagemaker.UpdateInferenceComponentRuntimeConfigInput{
			InferenceComponentName: &name, DesiredRuntimeConfig: copyCount(n - 1),
		})
	case 5:
		in := &sagemaker.UpdateInferenceComponentInput{InferenceComponentName: &name, Specification: gpus(name+"2", 1)}
		if s.src.IntN(2) == 0 {
			in.DeploymentConfig = rolling(1, int32(s.src.IntN(10)))
		}
		_, _ = s.UpdateInferenceComponent(s.ctx, in)
	case 6:
		_, _ = s.DeleteInferenceComponent(s.ctx, &sagemaker.DeleteInferenceComponentInput{InferenceComponentName: &name})
	case 7:
		if s.src.IntN(3) == 0 {
			_, _ = s.UpdateEndpoint(s.ctx, &sagemaker.UpdateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("again")})
		}
	}
}

// checkRoom looks at what runs where. An update makes copies of one accelerator of
// what had one or two, so that a copy is counted with one.
func (s *soak) checkRoom() {
	s.t.Helper()
	snapshot := s.Fleet.Lookup(endpointKey(home, "e")).Snapshot()
	used := map[string]int{}
	for _, c := range snapshot.Components {
		for _, in := range c.Copies {
			if in.State() != dataplane.Stopped {
				used[in.Host]++
			}
		}
	}
	for host, n := range used {
		if n > 4 {
			s.t.Fatalf("%d copies on instance %s, which has four accelerators", n, host)
		}
	}
	for _, v := range snapshot.Variants {
		if len(v.Instances) > 4 {
			s.t.Fatalf("%d instances, of four at most", len(v.Instances))
		}
	}
}

// rest waits until nothing more happens, and compares.
func (s *soak) rest() {
	s.t.Helper()
	time.Sleep(2 * time.Hour)
	synctest.Wait()
	if status := s.endpoint("e").EndpointStatus; status != statusInService {
		s.t.Errorf("the endpoint is %s (%s)", status, aws.ToString(s.endpoint("e").FailureReason))
	}
	copies := 0
	list, err := s.ListInferenceComponents(s.ctx, &sagemaker.ListInferenceComponentsInput{MaxResults: aws.Int32(100)})
	s.must(err)
	for _, c := range list.InferenceComponents {
		out := s.describeComponent(*c.InferenceComponentName)
		rc := out.RuntimeConfig
		switch {
		case out.InferenceComponentStatus == componentFailed:
			if *rc.CurrentCopyCount != 0 || out.FailureReason == nil {
				s.t.Errorf("Failed component %s has %d copies and reason %q", *c.InferenceComponentName, *rc.CurrentCopyCount, aws.ToString(out.FailureReason))
			}
			continue
		case out.InferenceComponentStatus != componentInService:
			seen := s.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Components[*c.InferenceComponentName]
			s.t.Errorf("component %s is still %s with %d of %d copies: %s", *c.InferenceComponentName, out.InferenceComponentStatus, *rc.CurrentCopyCount, *rc.DesiredCopyCount, seen.Message)
			continue
		}
		copies += int(*rc.CurrentCopyCount)
		if *rc.CurrentCopyCount > *rc.DesiredCopyCount {
			s.t.Errorf("component %s has %d copies of %d", *c.InferenceComponentName, *rc.CurrentCopyCount, *rc.DesiredCopyCount)
		}
		if *rc.CurrentCopyCount == 0 {
			continue
		}
		image := *out.Specification.Container.DeployedImage.SpecifiedImage
		if body, err := s.askComponent("e", *c.InferenceComponentName); body != image || err != nil {
			s.t.Errorf("component %s answers %q, %v; want %q", *c.InferenceComponentName, body, err, image)
		}
	}
	if v := s.endpoint("e").ProductionVariants[0]; copies == 0 && *v.CurrentInstanceCount > 1 {
		s.t.Errorf("%d instances without a copy", *v.CurrentInstanceCount)
	}
}
