package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

func (r *rig) updateComponent(name string, spec *types.InferenceComponentSpecification, policy *types.InferenceComponentDeploymentConfig) {
	r.t.Helper()
	_, err := r.UpdateInferenceComponent(r.ctx, &sagemaker.UpdateInferenceComponentInput{InferenceComponentName: &name, Specification: spec, DeploymentConfig: policy})
	r.must(err)
}

func (r *rig) resize(name string, copies int32) {
	r.t.Helper()
	_, err := r.UpdateInferenceComponentRuntimeConfig(r.ctx, &sagemaker.UpdateInferenceComponentRuntimeConfigInput{InferenceComponentName: &name, DesiredRuntimeConfig: copyCount(copies)})
	r.must(err)
}

// rolling replaces so many copies at a time, with a baking period of seconds.
func rolling(batch, wait int32, alarms ...string) *types.InferenceComponentDeploymentConfig {
	c := &types.InferenceComponentDeploymentConfig{RollingUpdatePolicy: &types.InferenceComponentRollingUpdatePolicy{
		MaximumBatchSize:      &types.InferenceComponentCapacitySize{Type: types.InferenceComponentCapacitySizeTypeCopyCount, Value: &batch},
		WaitIntervalInSeconds: &wait,
	}}
	for _, a := range alarms {
		if c.AutoRollbackConfiguration == nil {
			c.AutoRollbackConfiguration = &types.AutoRollbackConfig{}
		}
		c.AutoRollbackConfiguration.Alarms = append(c.AutoRollbackConfiguration.Alarms, types.Alarm{AlarmName: &a})
	}
	return c
}

// loadComponent invokes a component from several callers until stop is called, which
// returns how many answers of each kind there were, and the first error.
func (r *rig) loadComponent(endpoint, component string, callers int, pause time.Duration) (stop func() (map[string]int, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var first error
	answers := map[string]int{}
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for ctx.Err() == nil {
				body, err := r.askComponent(endpoint, component)
				mu.Lock()
				if err != nil && first == nil {
					first = fmt.Errorf("after %v: %w", answers, err)
				}
				answers[body]++
				mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	return func() (map[string]int, error) {
		cancel()
		running.Wait()
		return answers, first
	}
}

func answered(answers map[string]int) (n int) {
	for _, k := range answers {
		n += k
	}
	return n
}

func TestRollingUpdateInferenceComponentLosesNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 2, nil))
		r.component("c", "e", gpus("old", 1), 6) // 2 of 8 accelerators are free
		r.settleComponent("c", componentInService)
		stop := r.loadComponent("e", "c", 20, 50*time.Millisecond)
		time.Sleep(time.Second)
		began := time.Now()
		r.updateComponent("c", gpus("new", 1), rolling(2, 10))
		seen := map[int32]bool{}
		for r.describeComponent("c").InferenceComponentStatus == componentUpdating {
			out := r.describeComponent("c")
			if *out.Specification.Container.DeployedImage.SpecifiedImage != "old" {
				t.Fatal("the specification changes before the update has ended")
			}
			seen[*out.RuntimeConfig.CurrentCopyCount] = true
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < 36*time.Second || took > 37*time.Second {
			t.Errorf("it took %v, want three batches of 2 s to start and 10 s of baking", took)
		}
		out := r.describeComponent("c")
		if *out.Specification.Container.DeployedImage.SpecifiedImage != "new" || out.FailureReason != nil || out.LastDeploymentConfig == nil {
			t.Errorf("after: %+v", out)
		}
		for n := range seen {
			if n < 6 || n > 8 {
				t.Errorf("%d copies served in between, want 6 to 8", n)
			}
		}
		answers, err := stop()
		if err != nil || answered(answers) < 10_000 || answers["old"] == 0 || answers["new"] == 0 {
			t.Errorf("answers %v, first error %v; want 10,000 and no error", answers, err)
		}
		if body, err := r.askComponent("e", "c"); body != "new" || err != nil {
			t.Errorf("afterwards %q, %v", body, err)
		}
	})
}

func TestUpdateInferenceComponentWithoutPolicyNeedsRoomForOneCopyOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, nil))
		r.component("c", "e", gpus("old", 1), 3)
		r.settleComponent("c", componentInService)
		stop := r.loadComponent("e", "c", 5, 20*time.Millisecond)
		r.updateComponent("c", gpus("new", 1), nil)
		out := r.settleComponent("c", componentInService)
		answers, err := stop()
		if err != nil || answers["new"] == 0 || out.FailureReason != nil || *out.RuntimeConfig.CurrentCopyCount != 3 {
			t.Errorf("answers %v, first error %v, %+v", answers, err, out.RuntimeConfig)
		}
	})
}

func TestUpdateInferenceComponentRollsBack(t *testing.T) {
	for name, tc := range map[string]struct {
		image  string
		policy *types.InferenceComponentDeploymentConfig
		after  time.Duration // 10 s when 0
		during func(r *rig)
		want   string
	}{
		"when new copies fail": {
			image: "broken", policy: rolling(1, 5),
			want: "The container of inference component c did not pass the ping health check. Please check CloudWatch logs for this inference component.",
		},
		"when new copies fail, without a policy": {
			image: "broken",
			want:  "The container of inference component c did not pass the ping health check. Please check CloudWatch logs for this inference component.",
		},
		"on an alarm": {
			image: "new", policy: rolling(1, 60, "errors"),
			during: func(r *rig) { r.must(r.SetAlarmState(r.ctx, "errors", AlarmAlarm)) },
			want:   "One or more alarms of the AutoRollbackConfiguration went into the ALARM state during the deployment: errors.",
		},
		"on an alarm when half is done": {
			image: "new", policy: rolling(1, 8, "errors"), after: 15 * time.Second,
			during: func(r *rig) { r.must(r.SetAlarmState(r.ctx, "errors", AlarmAlarm)) },
			want:   "One or more alarms of the AutoRollbackConfiguration went into the ALARM state during the deployment: errors.",
		},
		"when its time is up": {
			image: "new", policy: late(rolling(1, 400)),
			want: "The deployment did not end within MaximumExecutionTimeoutInSeconds (600).",
		},
		"when there is no room": {
			image: "large",
			want:  "The instances of production variant v had no room for 3 of the copies of inference component c within 300 seconds.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, byImage())
				defer r.stop()
				r.deployHosts("e", hostOf("v", 1, nil))
				r.component("c", "e", gpus("old", 1), 3)
				r.settleComponent("c", componentInService)
				stop := r.loadComponent("e", "c", 5, 100*time.Millisecond)
				spec := gpus(tc.image, 1)
				if tc.image == "large" {
					spec = gpus(tc.image, 2)
				}
				r.updateComponent("c", spec, tc.policy)
				time.Sleep(cmp.Or(tc.after, 10*time.Second))
				if tc.during != nil {
					tc.during(r)
				}
				for synctest.Wait(); r.describeComponent("c").InferenceComponentStatus == componentUpdating; synctest.Wait() {
					if n := *r.describeComponent("c").RuntimeConfig.CurrentCopyCount; n < 3 {
						t.Fatalf("only %d copies serve while it rolls back", n)
					}
					time.Sleep(50 * time.Millisecond)
				}
				out := r.settleComponent("c", componentInService)
				if got := aws.ToString(out.FailureReason); got != tc.want {
					t.Errorf("FailureReason %q, want %q", got, tc.want)
				}
				if image := *out.Specification.Container.DeployedImage.SpecifiedImage; image != "old" || *out.RuntimeConfig.CurrentCopyCount != 3 || *out.RuntimeConfig.DesiredCopyCount != 3 {
					t.Errorf("image %s, %+v; want old, 3 of 3", image, out.RuntimeConfig)
				}
				if answers, err := stop(); err != nil {
					t.Errorf("answers %v, first error %v", answers, err)
				}
				for range 20 {
					if body, err := r.askComponent("e", "c"); body != "old" || err != nil {
						t.Fatalf("afterwards %q, %v", body, err)
					}
				}
				r.updateComponent("c", gpus("next", 1), nil)
				if out := r.settleComponent("c", componentInService); out.FailureReason != nil {
					t.Errorf("the next update ends with %q", *out.FailureReason)
				}
			})
		})
	}
}

func late(c *types.InferenceComponentDeploymentConfig) *types.InferenceComponentDeploymentConfig {
	c.RollingUpdatePolicy.MaximumExecutionTimeoutInSeconds = aws.Int32(600)
	return c
}

func TestUpdateInferenceComponentRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, nil))
		r.component("c", "e", gpus("old", 1), 2)
		r.settleComponent("c", componentInService)
		_, err := r.CreateInferenceComponent(r.ctx, &sagemaker.CreateInferenceComponentInput{
			InferenceComponentName: aws.String("a"), EndpointName: aws.String("e"), Specification: &types.InferenceComponentSpecification{
				BaseInferenceComponentName: aws.String("c"), Container: &types.InferenceComponentContainerSpecification{ArtifactUrl: aws.String("s3://b/a.tar.gz")},
			},
		})
		r.must(err)
		r.settleComponent("a", componentInService)
		adapter := &types.InferenceComponentSpecification{
			BaseInferenceComponentName: aws.String("c"), Container: &types.InferenceComponentContainerSpecification{ArtifactUrl: aws.String("s3://b/b.tar.gz")},
		}
		for want, in := range map[string]*sagemaker.UpdateInferenceComponentInput{
			`Could not find inference component "` + componentARNs + `none".`:                    {InferenceComponentName: aws.String("none"), Specification: gpus("x", 1)},
			"At least one of Specification, Specifications and RuntimeConfig must be specified.": {InferenceComponentName: aws.String("c"), DeploymentConfig: rolling(1, 0)},
			`Update operation is not supported for inference component "` + componentARNs + `a": an adapter is replaced by deleting and creating it.`: {
				InferenceComponentName: aws.String("a"), Specification: adapter,
			},
			`Update operation is not supported for inference component "` + componentARNs + `c": an adapter is replaced by deleting and creating it.`: {
				InferenceComponentName: aws.String("c"), Specification: adapter,
			},
			`Update operation is not supported for inference component "` + componentARNs + `a": an adapter runs in the copies of its base.`: {
				InferenceComponentName: aws.String("a"), RuntimeConfig: copyCount(2),
			},
			"MaximumBatchSize must be between 5 and 50 percent of the copy count, or at least one copy.": {
				InferenceComponentName: aws.String("c"), Specification: gpus("x", 1), DeploymentConfig: rolling(2, 0),
			},
			"Each of the Alarms in AutoRollbackConfiguration needs a name of its own.": {
				InferenceComponentName: aws.String("c"), Specification: gpus("x", 1), DeploymentConfig: rolling(1, 0, "x", "x"),
			},
		} {
			_, err := r.UpdateInferenceComponent(r.ctx, in)
			wantMessage(t, err, "ValidationException", want)
		}
		if s := r.describeComponent("c").InferenceComponentStatus; s != componentInService {
			t.Errorf("a refused update left the component %s", s)
		}
	})
}

func TestCopyCountChangesLoseNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, managed(1, 4)))
		r.component("c", "e", gpus("one", 1), 2)
		r.settleComponent("c", componentInService)
		stop := r.loadComponent("e", "c", 20, 50*time.Millisecond)
		for _, n := range []int32{12, 1, 7, 3, 16, 2} {
			r.resize("c", n)
			if out := r.describeComponent("c"); *out.RuntimeConfig.DesiredCopyCount != n {
				t.Errorf("%d copies desired right after asking for %d", *out.RuntimeConfig.DesiredCopyCount, n)
			}
			out := r.settleComponent("c", componentInService)
			if *out.RuntimeConfig.CurrentCopyCount != n || out.FailureReason != nil {
				t.Errorf("%d copies, reason %q; want %d", *out.RuntimeConfig.CurrentCopyCount, aws.ToString(out.FailureReason), n)
			}
			time.Sleep(5 * time.Second)
		}
		if answers, err := stop(); err != nil || answered(answers) < 10_000 {
			t.Errorf("answers %v, first error %v; want 10,000 and no error", answers, err)
		}
	})
}

func TestResizeBeyondTheRoomReturnsToTheOldCopyCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, nil))
		r.component("c", "e", gpus("one", 1), 2)
		r.settleComponent("c", componentInService)
		r.resize("c", 6)
		out := r.settleComponent("c", componentInService)
		want := "The instances of production variant v had no room for 2 of the copies of inference component c within 300 seconds."
		if *out.RuntimeConfig.CurrentCopyCount != 2 || *out.RuntimeConfig.DesiredCopyCount != 2 || aws.ToString(out.FailureReason) != want {
			t.Errorf("%d of %d copies, reason %q", *out.RuntimeConfig.CurrentCopyCount, *out.RuntimeConfig.DesiredCopyCount, aws.ToString(out.FailureReason))
		}
	})
}

func TestUpdateEndpointMovesInferenceComponentsWithoutLosingRequests(t *testing.T) {
	linear := &types.DeploymentConfig{BlueGreenUpdatePolicy: &types.BlueGreenUpdatePolicy{TrafficRoutingConfiguration: &types.TrafficRoutingConfig{
		Type: types.TrafficRoutingConfigTypeLinear, WaitIntervalInSeconds: aws.Int32(10),
		LinearStepSize: &types.CapacitySize{Type: types.CapacitySizeTypeCapacityPercent, Value: aws.Int32(50)},
	}}}
	batches := &types.DeploymentConfig{RollingUpdatePolicy: &types.RollingUpdatePolicy{
		MaximumBatchSize: &types.CapacitySize{Type: types.CapacitySizeTypeCapacityPercent, Value: aws.Int32(50)}, WaitIntervalInSeconds: aws.Int32(10),
	}}
	for name, policy := range map[string]*types.DeploymentConfig{"all at once": nil, "linear": linear, "rolling": batches} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, byImage())
				defer r.stop()
				r.deployHosts("e", hostOf("v", 2, nil))
				r.component("one", "e", gpus("one", 1), 4)
				r.component("two", "e", gpus("two", 1), 2)
				r.settleComponent("one", componentInService)
				r.settleComponent("two", componentInService)
				r.hostConfig("green", hostOf("v", 2, nil))
				before := r.hosting("e")
				stopOne, stopTwo := r.loadComponent("e", "one", 10, 20*time.Millisecond), r.loadComponent("e", "two", 10, 20*time.Millisecond)
				r.update("e", "green", policy)
				synctest.Wait()
				_, err := r.CreateInferenceComponent(r.ctx, &sagemaker.CreateInferenceComponentInput{
					InferenceComponentName: aws.String("three"), EndpointName: aws.String("e"), Specification: gpus("x", 1), RuntimeConfig: copyCount(1),
				})
				wantMessage(t, err, "ValidationException", `Endpoint "arn:aws:sagemaker:us-east-1:123456789012:endpoint/e" must be InService for an inference component to be created on it; it is Updating.`)
				out := r.settle("e", statusInService)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if *out.EndpointConfigName != "green" || out.FailureReason != nil || *out.ProductionVariants[0].CurrentInstanceCount != 2 {
					t.Errorf("after: %s, reason %q, %+v", *out.EndpointConfigName, aws.ToString(out.FailureReason), out.ProductionVariants)
				}
				after := r.hosting("e")
				if len(after) != 2 {
					t.Errorf("%d instances, want 2", len(after))
				}
				for host := range after {
					if before[host] != nil {
						t.Errorf("instance %s is still there", host)
					}
				}
				for _, stop := range []func() (map[string]int, error){stopOne, stopTwo} {
					if answers, err := stop(); err != nil || answered(answers) < 1000 {
						t.Errorf("answers %v, first error %v", answers, err)
					}
				}
				for name, n := range map[string]int32{"one": 4, "two": 2} {
					if out := r.describeComponent(name); *out.RuntimeConfig.CurrentCopyCount != n || out.InferenceComponentStatus != componentInService {
						t.Errorf("%s is %s with %d copies, want InService with %d", name, out.InferenceComponentStatus, *out.RuntimeConfig.CurrentCopyCount, n)
					}
				}
			})
		})
	}
}

func TestUpdateEndpointRollsBackWhenComponentsFindNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, nil))
		r.component("c", "e", gpus("one", 2), 2)
		r.settleComponent("c", componentInService)
		small := hostOf("v", 1, nil)
		small.InstanceType = types.ProductionVariantInstanceTypeMlG5Xlarge // one accelerator
		r.hostConfig("small", small)
		r.hostConfig("other", hostOf("w", 1, nil))
		_, err := r.UpdateEndpoint(r.ctx, &sagemaker.UpdateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("other")})
		wantMessage(t, err, "ValidationException", `Endpoint configuration "other" has no production variant "v" without ModelName, which inference component "`+componentARNs+`c" is on.`)
		stop := r.loadComponent("e", "c", 5, 20*time.Millisecond)
		r.update("e", "small", nil)
		out := r.settle("e", statusInService)
		want := "No instance of production variant v can ever hold a copy of inference component c: it needs 0 vCPU, 1024 MB of memory and 2 accelerators."
		if *out.EndpointConfigName != "e" || aws.ToString(out.FailureReason) != want {
			t.Errorf("on %s, reason %q; want %q", *out.EndpointConfigName, aws.ToString(out.FailureReason), want)
		}
		if answers, err := stop(); err != nil {
			t.Errorf("answers %v, first error %v", answers, err)
		}
	})
}

func TestScaleInOfInstancesMovesTheirCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var launches atomic.Int32
		kind := byImage()
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			launches.Add(1)
			return kind.Launch(ctx, spec)
		}))
		defer r.stop()
		r.deployHosts("e", hostOf("v", 3, nil))
		r.component("c", "e", gpus("one", 1), 3)
		r.settleComponent("c", componentInService)
		stop := r.loadComponent("e", "c", 10, 20*time.Millisecond)
		_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("v"), DesiredInstanceCount: aws.Int32(1)}))
		r.must(err)
		for r.endpoint("e").EndpointStatus == statusUpdating {
			if n := *r.describeComponent("c").RuntimeConfig.CurrentCopyCount; n < 3 {
				t.Fatalf("only %d copies serve while two move", n)
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		out := r.settle("e", statusInService)
		if n := *out.ProductionVariants[0].CurrentInstanceCount; n != 1 {
			t.Errorf("%d instances, want 1", n)
		}
		if c := r.describeComponent("c"); *c.RuntimeConfig.CurrentCopyCount != 3 || launches.Load() != 5 {
			t.Errorf("%d copies after %d launches, want 3 after 5: two have moved", *c.RuntimeConfig.CurrentCopyCount, launches.Load())
		}
		if answers, err := stop(); err != nil {
			t.Errorf("answers %v, first error %v", answers, err)
		}
	})
}

func TestResolutionTimeIsThatOfTheUpdateThatBroughtTheImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, nil))
		r.component("c", "e", gpus("one", 1), 1)
		created := *r.settleComponent("c", componentInService).CreationTime
		resolved := func() time.Time {
			return *r.describeComponent("c").Specification.Container.DeployedImage.ResolutionTime
		}
		if got := resolved(); !got.Equal(created) {
			t.Errorf("at first %v, want %v", got, created)
		}
		time.Sleep(time.Hour)
		updated := time.Now()
		r.updateComponent("c", gpus("two", 1), nil)
		r.settleComponent("c", componentInService)
		if got := resolved(); !got.Equal(updated) {
			t.Errorf("after the update %v, want %v", got, updated)
		}
	})
}

func TestDeploymentConfigIsCheckedThoughOnlyTheCopyCountChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, nil))
		r.component("c", "e", gpus("one", 1), 2)
		r.settleComponent("c", componentInService)
		_, err := r.UpdateInferenceComponent(r.ctx, &sagemaker.UpdateInferenceComponentInput{
			InferenceComponentName: aws.String("c"), RuntimeConfig: copyCount(3), DeploymentConfig: rolling(3, 0),
		})
		wantMessage(t, err, "ValidationException", sdkcompat.BatchSizeRange.Sentence())
	})
}

func TestCopiesAskedForDuringAnUpdateDoNotHoldItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, nil))
		r.component("c", "e", gpus("one", 1), 2)
		r.settleComponent("c", componentInService)
		r.hostConfig("green", hostOf("v", 1, nil))
		r.update("e", "green", &types.DeploymentConfig{BlueGreenUpdatePolicy: &types.BlueGreenUpdatePolicy{
			TerminationWaitInSeconds: aws.Int32(20),
		}})
		time.Sleep(10 * time.Second) // the bubble's clock; the new copies serve after two
		_, err := r.UpdateInferenceComponentRuntimeConfig(r.ctx, &sagemaker.UpdateInferenceComponentRuntimeConfigInput{
			InferenceComponentName: aws.String("c"), DesiredRuntimeConfig: copyCount(6), // on four accelerators
		})
		r.must(err)
		began := time.Now()
		out := r.settle("e", statusInService)
		if *out.EndpointConfigName != "green" || out.FailureReason != nil || time.Since(began) > time.Minute {
			t.Errorf("after %v on %s, reason %q", time.Since(began), *out.EndpointConfigName, aws.ToString(out.FailureReason))
		}
		if out := r.settleComponent("c", componentInService); *out.RuntimeConfig.DesiredCopyCount != 2 || out.FailureReason == nil {
			t.Errorf("the component has %+v, reason %q; want its old copies and a reason", out.RuntimeConfig, aws.ToString(out.FailureReason))
		}
	})
}
