package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
)

const componentARNs = "arn:aws:sagemaker:us-east-1:123456789012:inference-component/"

// hostOf is a variant for inference components.
func hostOf(name string, count int32, managed *types.ProductionVariantManagedInstanceScaling) types.ProductionVariant {
	return types.ProductionVariant{
		VariantName: &name, InitialInstanceCount: &count, ManagedInstanceScaling: managed,
		InstanceType: types.ProductionVariantInstanceTypeMlG512xlarge, // 48 vCPU, 192 GiB, 4 GPUs
	}
}

func managed(least, most int32) *types.ProductionVariantManagedInstanceScaling {
	return &types.ProductionVariantManagedInstanceScaling{
		Status: types.ManagedInstanceScalingStatusEnabled, MinInstanceCount: &least, MaxInstanceCount: &most,
	}
}

// hostConfig creates a configuration for inference components.
func (r *rig) hostConfig(name string, variants ...types.ProductionVariant) {
	r.t.Helper()
	_, err := r.CreateEndpointConfig(r.ctx, &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: &name, ProductionVariants: variants, ExecutionRoleArn: aws.String("arn:aws:iam::123456789012:role/r"),
	})
	r.must(err)
}

// deployHosts brings up an endpoint for inference components.
func (r *rig) deployHosts(name string, variants ...types.ProductionVariant) {
	r.t.Helper()
	r.hostConfig(name, variants...)
	_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &name})
	r.must(err)
	r.settle(name, statusInService)
}

// gpus is a specification of a container that needs so many accelerators.
func gpus(image string, n float32) *types.InferenceComponentSpecification {
	return &types.InferenceComponentSpecification{
		Container: &types.InferenceComponentContainerSpecification{Image: &image},
		ComputeResourceRequirements: &types.InferenceComponentComputeResourceRequirements{
			MinMemoryRequiredInMb: aws.Int32(1024), NumberOfAcceleratorDevicesRequired: &n,
		},
	}
}

func copyCount(n int32) *types.InferenceComponentRuntimeConfig {
	return &types.InferenceComponentRuntimeConfig{CopyCount: &n}
}

func (r *rig) component(name, endpoint string, spec *types.InferenceComponentSpecification, copies int32) {
	r.t.Helper()
	_, err := r.CreateInferenceComponent(r.ctx, &sagemaker.CreateInferenceComponentInput{
		InferenceComponentName: &name, EndpointName: &endpoint, VariantName: aws.String("v"),
		Specification: spec, RuntimeConfig: copyCount(copies),
	})
	r.must(err)
}

func (r *rig) describeComponent(name string) *sagemaker.DescribeInferenceComponentOutput {
	r.t.Helper()
	out, err := r.DescribeInferenceComponent(r.ctx, &sagemaker.DescribeInferenceComponentInput{InferenceComponentName: &name})
	r.must(err)
	return out
}

func (r *rig) settleComponent(name string, status types.InferenceComponentStatus) *sagemaker.DescribeInferenceComponentOutput {
	r.t.Helper()
	for range 20_000 {
		synctest.Wait()
		if out := r.describeComponent(name); out.InferenceComponentStatus == status {
			return out
		}
		time.Sleep(100 * time.Millisecond) // the bubble's clock
	}
	out := r.describeComponent(name)
	r.t.Fatalf("component is %s (%s), want %s", out.InferenceComponentStatus, aws.ToString(out.FailureReason), status)
	return nil
}

func (r *rig) removeComponent(name string) {
	r.t.Helper()
	_, err := r.DeleteInferenceComponent(r.ctx, &sagemaker.DeleteInferenceComponentInput{InferenceComponentName: &name})
	r.must(err)
	for range 2000 {
		synctest.Wait()
		if _, err := r.DescribeInferenceComponent(r.ctx, &sagemaker.DescribeInferenceComponentInput{InferenceComponentName: &name}); err != nil {
			wantMessage(r.t, err, "ValidationException", fmt.Sprintf("Could not find inference component %q.", componentARNs+name))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatalf("component %s is still there", name)
}

// askComponent invokes a component and returns the answer.
func (r *rig) askComponent(endpoint, component string) (string, error) {
	ans := new(dataplane.Answer)
	_, err := r.Fleet.Invoke(r.ctx, endpointKey(home, endpoint), &dataplane.Request{InferenceComponentName: component, Body: []byte("ping")}, ans)
	return string(ans.Body), err
}

// hosting is how many copies of each component each instance has.
func (r *rig) hosting(endpoint string) map[string]map[string]int {
	s := r.Fleet.Lookup(endpointKey(home, endpoint)).Snapshot()
	byHost := map[string]map[string]int{}
	for _, v := range s.Variants {
		for _, in := range v.Instances {
			byHost[in.ID] = map[string]int{}
		}
	}
	for _, c := range s.Components {
		for _, in := range c.Copies {
			if byHost[in.Host] == nil {
				byHost[in.Host] = map[string]int{}
			}
			byHost[in.Host][c.Name]++
		}
	}
	return byHost
}

func TestInferenceComponentsShareAnEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 2, nil))
		r.component("One", "e", gpus("one", 1), 3)
		r.component("two", "e", gpus("two", 2), 2)
		synctest.Wait()
		if _, err := r.askComponent("e", "one"); !errors.Is(err, dataplane.ErrComponentNotServing) {
			t.Errorf("invoking it while Creating: %v", err)
		}
		one, two := r.settleComponent("one", componentInService), r.settleComponent("two", componentInService)
		if *one.InferenceComponentName != "One" || *one.InferenceComponentArn != componentARNs+"one" || *one.VariantName != "v" {
			t.Errorf("described as %s, %s, variant %s", *one.InferenceComponentName, *one.InferenceComponentArn, *one.VariantName)
		}
		rc := two.RuntimeConfig
		if *rc.CurrentCopyCount != 2 || *rc.DesiredCopyCount != 2 || len(rc.PlacementStatus) != 1 || *rc.PlacementStatus[0].CurrentCopyCount != 2 {
			t.Errorf("runtime configuration %+v", rc)
		}
		for host, copies := range r.hosting("e") {
			if copies["One"]+2*copies["two"] > 4 || copies["two"] != 1 {
				t.Errorf("instance %s hosts %v: more than 4 accelerators, or not spread", host, copies)
			}
		}
		for _, name := range []string{"ONE", "two"} {
			if body, err := r.askComponent("e", name); err != nil || body != dataplane.ComponentKey(name) {
				t.Errorf("invoking %s: %q, %v", name, body, err)
			}
		}
		if _, err := r.askComponent("e", ""); !errors.Is(err, dataplane.ErrComponentRequired) {
			t.Errorf("without a component: %v", err)
		}
		if _, err := r.askComponent("e", "three"); !errors.Is(err, dataplane.ErrNoComponent) {
			t.Errorf("with an unknown component: %v", err)
		}
		_, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: aws.String("e")})
		wantMessage(t, err, "ValidationException", "Cannot delete endpoint with inference component associated. Please delete inference component and try it again.")
		r.removeComponent("one")
		r.removeComponent("two")
		r.remove("e")
	})
}

func TestCreateInferenceComponentRefusesWhatCannotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, nil))
		r.hostConfig("two", hostOf("v", 1, nil), hostOf("w", 1, nil))
		_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("two"), EndpointConfigName: aws.String("two")})
		r.must(err)
		r.deploy("plain", variantOf("a", 1))
		r.component("base", "e", gpus("one", 1), 1)
		const endpoint = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/"
		adapter := func(base string) *types.InferenceComponentSpecification {
			return &types.InferenceComponentSpecification{
				BaseInferenceComponentName: &base, Container: &types.InferenceComponentContainerSpecification{ArtifactUrl: aws.String("s3://b/a.tar.gz")},
			}
		}
		_, err = r.CreateInferenceComponent(r.ctx, &sagemaker.CreateInferenceComponentInput{
			InferenceComponentName: aws.String("early"), EndpointName: aws.String("plain"), VariantName: aws.String("a"), Specification: gpus("one", 1), RuntimeConfig: copyCount(1),
		})
		wantMessage(t, err, "ValidationException", `Endpoint "`+endpoint+`plain" must be InService for an inference component to be created on it; it is Creating.`)
		_, err = r.CreateInferenceComponent(r.ctx, &sagemaker.CreateInferenceComponentInput{
			InferenceComponentName: aws.String("a"), EndpointName: aws.String("e"), Specification: adapter("base"),
		})
		wantMessage(t, err, "ValidationException", `Base inference component "`+componentARNs+`base" must be InService; it is Creating.`)
		r.settleComponent("base", componentInService)
		r.settle("two", statusInService)
		r.settle("plain", statusInService)
		for name, tc := range map[string]struct {
			change func(*sagemaker.CreateInferenceComponentInput)
			want   string
		}{
			"a name that exists, in other letters": {
				func(in *sagemaker.CreateInferenceComponentInput) { in.InferenceComponentName = aws.String("BASE") },
				`Cannot create already existing inference component "` + componentARNs + `base".`,
			},
			"no such endpoint": {
				func(in *sagemaker.CreateInferenceComponentInput) { in.EndpointName = aws.String("none") },
				`Could not find endpoint "` + endpoint + `none".`,
			},
			"no such variant": {
				func(in *sagemaker.CreateInferenceComponentInput) { in.VariantName = aws.String("none") },
				`Endpoint "` + endpoint + `e" has no production variant "none".`,
			},
			"which of two variants": {
				func(in *sagemaker.CreateInferenceComponentInput) {
					in.EndpointName, in.VariantName = aws.String("two"), nil
				},
				`VariantName must be specified: endpoint "` + endpoint + `two" has several production variants.`,
			},
			"a variant with a model": {
				func(in *sagemaker.CreateInferenceComponentInput) {
					in.EndpointName, in.VariantName = aws.String("plain"), aws.String("a")
				},
				`Production variant "a" of endpoint "` + endpoint + `plain" has a model and takes no inference components.`,
			},
			"no copies": {
				func(in *sagemaker.CreateInferenceComponentInput) { in.RuntimeConfig = copyCount(0) },
				"Inference components copy count an integer larger than 0.",
			},
			"no RuntimeConfig": {
				func(in *sagemaker.CreateInferenceComponentInput) { in.RuntimeConfig = nil },
				"Inference components copy count an integer larger than 0.",
			},
			"two kinds of specification": {func(in *sagemaker.CreateInferenceComponentInput) {
				in.Specifications = []types.InferenceComponentSpecification{*gpus("one", 1)}
			}, "Only one of Specification and Specifications can be specified."},
			"no specification": {
				func(in *sagemaker.CreateInferenceComponentInput) { in.Specification = nil },
				"Either Specification or Specifications must be specified.",
			},
			"no such model": {func(in *sagemaker.CreateInferenceComponentInput) {
				in.Specification.Container, in.Specification.ModelName = nil, aws.String("none")
			}, `Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/none".`},
			"both model and container": {
				func(in *sagemaker.CreateInferenceComponentInput) { in.Specification.ModelName = aws.String("none") },
				"A specification must have exactly one of ModelName, Container and BaseInferenceComponentName.",
			},
			"no image": {
				func(in *sagemaker.CreateInferenceComponentInput) { in.Specification.Container.Image = nil },
				"Container must specify Image unless the inference component is an adapter.",
			},
			"no size": {
				func(in *sagemaker.CreateInferenceComponentInput) { in.Specification.ComputeResourceRequirements = nil },
				"ComputeResourceRequirements must be specified unless the inference component is an adapter.",
			},
			"less at most than at least": {func(in *sagemaker.CreateInferenceComponentInput) {
				in.Specification.ComputeResourceRequirements.MaxMemoryRequiredInMb = aws.Int32(512)
			}, "MaxMemoryRequiredInMb must not be less than MinMemoryRequiredInMb."},
			"half an accelerator": {func(in *sagemaker.CreateInferenceComponentInput) {
				in.Specification.ComputeResourceRequirements.NumberOfAcceleratorDevicesRequired = aws.Float32(1.5)
			}, "NumberOfAcceleratorDevicesRequired must be a whole number."},
			"a type that the variant has not": {func(in *sagemaker.CreateInferenceComponentInput) {
				in.Specification.InstanceType = types.ProductionVariantInstanceTypeMlC5Large
			}, `Production variant "v" has no instances of type ml.c5.large.`},
			"two specifications of one type": {func(in *sagemaker.CreateInferenceComponentInput) {
				in.Specifications = []types.InferenceComponentSpecification{*in.Specification, *in.Specification}
				in.Specification = nil
			}, "Each of several Specifications must have an InstanceType of its own."},
			"an adapter among Specifications": {func(in *sagemaker.CreateInferenceComponentInput) {
				in.Specification, in.Specifications = nil, []types.InferenceComponentSpecification{*adapter("base")}
			}, "Specifications cannot hold adapters: an adapter has one Specification."},
			"a partition where there is none": {func(in *sagemaker.CreateInferenceComponentInput) {
				in.Specification.ComputeResourceRequirements.AcceleratorPartitionType = aws.String("mig-1g.5gb")
			}, `Production variant "v" has no accelerator partition of type mig-1g.5gb.`},
			"no such base": {
				func(in *sagemaker.CreateInferenceComponentInput) { in.Specification = adapter("none") },
				`Could not find inference component "` + componentARNs + `none".`,
			},
			"a base elsewhere": {func(in *sagemaker.CreateInferenceComponentInput) {
				in.Specification, in.EndpointName = adapter("base"), aws.String("two")
			}, `Base inference component "` + componentARNs + `base" is not on endpoint two and variant v.`},
			"an adapter with a size": {func(in *sagemaker.CreateInferenceComponentInput) {
				size := in.Specification.ComputeResourceRequirements
				in.Specification = adapter("base")
				in.Specification.ComputeResourceRequirements = size
			}, "An adapter uses the compute resources of its base: it cannot have ComputeResourceRequirements, SchedulingConfig or InstanceType."},
			"an adapter without artifact": {func(in *sagemaker.CreateInferenceComponentInput) {
				in.Specification = adapter("base")
				in.Specification.Container.ArtifactUrl = nil
			}, "An adapter must specify ArtifactUrl in Container, and no Image."},
		} {
			in := &sagemaker.CreateInferenceComponentInput{
				InferenceComponentName: aws.String("new"), EndpointName: aws.String("e"), VariantName: aws.String("v"),
				Specification: gpus("one", 1), RuntimeConfig: copyCount(1),
			}
			tc.change(in)
			_, err := r.CreateInferenceComponent(r.ctx, in)
			t.Log(name)
			wantMessage(t, err, "ValidationException", tc.want)
		}
	})
}

func TestInferenceComponentThatNoInstanceCanHoldFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, managed(1, 5)))
		began := time.Now()
		r.component("huge", "e", gpus("one", 8), 1)
		out := r.settleComponent("huge", componentFailed)
		want := "No instance of production variant v can ever hold a copy of inference component huge: it needs 0 vCPU, 1024 MB of memory and 8 accelerators."
		if aws.ToString(out.FailureReason) != want || time.Since(began) > time.Second {
			t.Errorf("after %v: %q, want %q", time.Since(began), aws.ToString(out.FailureReason), want)
		}
		_, err := r.UpdateInferenceComponentRuntimeConfig(r.ctx, &sagemaker.UpdateInferenceComponentRuntimeConfigInput{
			InferenceComponentName: aws.String("huge"), DesiredRuntimeConfig: copyCount(2),
		})
		wantMessage(t, err, "ValidationException", `Inference component "`+componentARNs+`huge" is Failed and can only be deleted.`)
		r.removeComponent("huge")
	})
}

// AWS's model bounds NumberOfCpuCoresRequired and
// NumberOfAcceleratorDevicesRequired from below only.
func TestInferenceComponentThatNeedsMoreThanAnInt64Fails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, nil))
		vcpus, devices := gpus("one", 0), gpus("one", 1e38)
		vcpus.ComputeResourceRequirements.NumberOfAcceleratorDevicesRequired = nil
		vcpus.ComputeResourceRequirements.NumberOfCpuCoresRequired = aws.Float32(9.3e15)
		r.component("vcpus", "e", vcpus, 1)
		r.component("devices", "e", devices, 1)
		r.settleComponent("vcpus", componentFailed)
		r.settleComponent("devices", componentFailed)
	})
}

func TestInferenceComponentWithoutRoomFailsWhenItsTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		v := hostOf("v", 1, nil)
		v.VariantInstanceProvisionTimeoutInSeconds = aws.Int32(600)
		r.deployHosts("e", v)
		r.component("first", "e", gpus("one", 3), 1)
		r.settleComponent("first", componentInService)
		r.component("second", "e", gpus("two", 1), 3)
		began := time.Now()
		synctest.Wait()
		_, err := r.DeleteInferenceComponent(r.ctx, &sagemaker.DeleteInferenceComponentInput{InferenceComponentName: aws.String("second")})
		wantMessage(t, err, "ValidationException", `Cannot update in-progress inference component "`+componentARNs+`second".`)
		out := r.settleComponent("second", componentFailed)
		want := "The instances of production variant v had no room for 2 of the copies of inference component second within 600 seconds."
		if aws.ToString(out.FailureReason) != want || time.Since(began) < 600*time.Second || time.Since(began) > 601*time.Second {
			t.Errorf("after %v: %q, want %q after 600 s", time.Since(began), aws.ToString(out.FailureReason), want)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := *r.describeComponent("second").RuntimeConfig.CurrentCopyCount; n != 0 {
			t.Errorf("a Failed component has %d copies", n)
		}
	})
}

func TestFailureReasonOfAnInferenceComponentSaysWhatWentWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"no ping":     {dataplane.ErrPing, "The container of inference component c did not pass the ping health check. Please check CloudWatch logs for this inference component."},
		"cannot run":  {dataplane.ErrCannotStart, "CannotStartContainerError. Please ensure the model container for inference component c starts correctly when invoked with 'docker run <image> serve'"},
		"no data":     {fmt.Errorf("%w: no such key", dataplane.ErrModelData), "Failed to download model data for inference component c: no such key."},
		"no capacity": {dataplane.ErrCapacity, "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please retry using a different ML instance type or after some time."},
		"else":        {errors.New("broken"), "Request to service failed. If failure persists after retry, contact customer support."},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, launcherFunc(func(context.Context, dataplane.Spec) (dataplane.Worker, error) { return nil, tc.err }))
				defer r.stop()
				r.deployHosts("e", hostOf("v", 1, nil))
				r.component("c", "e", gpus("one", 1), 2)
				if out := r.settleComponent("c", componentFailed); aws.ToString(out.FailureReason) != tc.want {
					t.Errorf("%q, want %q", aws.ToString(out.FailureReason), tc.want)
				}
			})
		})
	}
}

func TestDeleteInferenceComponentWaitsForItsRequestsAndAdapters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, slowEcho(10*time.Second))
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, nil))
		r.component("base", "e", gpus("one", 1), 1)
		r.settleComponent("base", componentInService)
		_, err := r.CreateInferenceComponent(r.ctx, &sagemaker.CreateInferenceComponentInput{
			InferenceComponentName: aws.String("French"), EndpointName: aws.String("e"),
			Specification: &types.InferenceComponentSpecification{
				BaseInferenceComponentName: aws.String("Base"),
				Container:                  &types.InferenceComponentContainerSpecification{ArtifactUrl: aws.String("s3://b/french.tar.gz")},
			},
		})
		r.must(err)
		out := r.settleComponent("french", componentInService)
		if *out.VariantName != "v" || *out.RuntimeConfig.CurrentCopyCount != 1 || *out.Specification.BaseInferenceComponentName != "Base" || *out.Specification.Container.ArtifactUrl != "s3://b/french.tar.gz" {
			t.Errorf("adapter %+v", out)
		}
		remove := func(name string) error {
			_, err := r.DeleteInferenceComponent(r.ctx, &sagemaker.DeleteInferenceComponentInput{InferenceComponentName: &name})
			return err
		}
		wantMessage(t, remove("base"), "ValidationException", `Inference component "`+componentARNs+`base" is a base inference component for one or more associated adapter inference components.`)
		answered := make(chan error)
		go func() {
			body, err := r.askComponent("e", "FRENCH")
			if err == nil && body != "ping" {
				err = fmt.Errorf("answer %q", body)
			}
			answered <- err
		}()
		synctest.Wait()
		r.removeComponent("french")
		r.must(remove("base"))
		synctest.Wait()
		wantMessage(t, remove("base"), "ValidationException", `Inference component "`+componentARNs+`base" is being deleted: DELETE_IN_PROGRESS.`)
		if err := <-answered; err != nil {
			t.Errorf("the request under way: %v", err)
		}
		if _, err := r.askComponent("e", "base"); err == nil {
			t.Error("a component that is being deleted takes requests")
		}
	})
}

func TestCrashedCopyIsReplacedWhileTheOthersServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := make(chan struct{})
		kind := echo()
		var launches atomic.Int32
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			w, err := kind.Launch(ctx, spec)
			if launches.Add(1) == 1 {
				return mortal{w, dead}, err
			}
			return w, err
		}))
		defer r.stop()
		r.deployHosts("e", hostOf("v", 2, nil))
		r.component("c", "e", gpus("one", 1), 2)
		r.settleComponent("c", componentInService)
		close(dead)
		synctest.Wait()
		if out := r.describeComponent("c"); out.InferenceComponentStatus != componentInService || *out.RuntimeConfig.CurrentCopyCount != 1 || *out.RuntimeConfig.DesiredCopyCount != 2 {
			t.Errorf("after the crash: %s, %+v", out.InferenceComponentStatus, out.RuntimeConfig)
		}
		for range 20 {
			if _, err := r.askComponent("e", "c"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if out := r.describeComponent("c"); *out.RuntimeConfig.CurrentCopyCount != 2 || launches.Load() != 3 {
			t.Errorf("%d copies after %d launches, want 2 after 3", *out.RuntimeConfig.CurrentCopyCount, launches.Load())
		}
	})
}

func TestListInferenceComponentsFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("one", hostOf("v", 1, nil))
		r.deployHosts("two", hostOf("v", 1, nil), hostOf("w", 1, nil))
		for name, at := range map[string][2]string{"a": {"one", "v"}, "b": {"two", "v"}, "c": {"two", "w"}} {
			_, err := r.CreateInferenceComponent(r.ctx, &sagemaker.CreateInferenceComponentInput{
				InferenceComponentName: &name, EndpointName: &at[0], VariantName: &at[1], Specification: gpus("one", 1), RuntimeConfig: copyCount(1),
			})
			r.must(err)
		}
		r.component("huge", "one", gpus("one", 5), 1)
		for _, name := range []string{"a", "b", "c"} {
			r.settleComponent(name, componentInService)
		}
		r.settleComponent("huge", componentFailed)
		for want, in := range map[string]*sagemaker.ListInferenceComponentsInput{
			"a b c huge": {},
			"a huge":     {EndpointNameEquals: aws.String("ONE")},
			"b":          {EndpointNameEquals: aws.String("two"), VariantNameEquals: aws.String("v")},
			"c":          {VariantNameEquals: aws.String("w")},
			"huge":       {StatusEquals: componentFailed},
			"a b c":      {StatusEquals: componentInService},
			"":           {NameContains: aws.String("zz")},
		} {
			in.SortBy, in.SortOrder = types.InferenceComponentSortKeyName, types.OrderKeyAscending
			var got []string
			for in.MaxResults = aws.Int32(1); ; {
				out, err := r.ListInferenceComponents(r.ctx, in)
				r.must(err)
				for _, c := range out.InferenceComponents {
					got = append(got, *c.InferenceComponentName)
				}
				if in.NextToken = out.NextToken; in.NextToken == nil {
					break
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%+v lists %v, want %s", in, got, want)
			}
		}
		page, err := r.ListInferenceComponents(r.ctx, &sagemaker.ListInferenceComponentsInput{MaxResults: aws.Int32(1), EndpointNameEquals: aws.String("two")})
		r.must(err)
		_, err = r.ListInferenceComponents(r.ctx, &sagemaker.ListInferenceComponentsInput{NextToken: page.NextToken, EndpointNameEquals: aws.String("one")})
		wantMessage(t, err, "ValidationException", "Invalid pagination token.")
	})
}
