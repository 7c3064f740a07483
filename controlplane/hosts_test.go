package controlplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/store"
)

func (r *rig) instances(endpoint string) int {
	r.t.Helper()
	synctest.Wait()
	v := r.endpoint(endpoint).ProductionVariants[0]
	if *v.CurrentInstanceCount != *v.DesiredInstanceCount {
		r.t.Errorf("%d instances, %d desired", *v.CurrentInstanceCount, *v.DesiredInstanceCount)
	}
	return int(*v.CurrentInstanceCount)
}

func TestManagedInstanceScalingFollowsTheCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, managed(1, 4)))
		r.component("c", "e", gpus("one", 2), 2)
		r.settleComponent("c", componentInService)
		if n := r.instances("e"); n != 1 {
			t.Errorf("two copies of half an instance are on %d instances, want 1", n)
		}
		r.resize("c", 7)
		r.settleComponent("c", componentInService)
		if n := r.instances("e"); n != 4 || r.endpoint("e").EndpointStatus != statusInService {
			t.Errorf("seven copies on %d instances of an endpoint that is %s, want 4 and InService", n, r.endpoint("e").EndpointStatus)
		}
		r.resize("c", 9)
		out := r.settleComponent("c", componentInService)
		if r.instances("e") != 4 || *out.RuntimeConfig.CurrentCopyCount != 7 || out.FailureReason == nil {
			t.Errorf("beyond MaxInstanceCount: %d instances, %d copies, reason %q", r.instances("e"), *out.RuntimeConfig.CurrentCopyCount, aws.ToString(out.FailureReason))
		}
		r.resize("c", 1)
		r.settleComponent("c", componentInService)
		time.Sleep(idleRelease - time.Second)
		if n := r.instances("e"); n != 4 {
			t.Errorf("%d instances before %v of idleness, want 4", n, idleRelease)
		}
		time.Sleep(2 * time.Second)
		if n := r.instances("e"); n != 1 {
			t.Errorf("%d instances after it, want 1", n)
		}
	})
}

func TestEndpointScalesToZeroInstancesAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, managed(0, 2)))
		r.component("c", "e", gpus("one", 4), 1)
		r.settleComponent("c", componentInService)
		r.resize("c", 0)
		out := r.settleComponent("c", componentInService)
		if *out.RuntimeConfig.CurrentCopyCount != 0 || out.FailureReason != nil {
			t.Errorf("scaled to zero: %+v, reason %q", out.RuntimeConfig, aws.ToString(out.FailureReason))
		}
		for range 3 {
			if _, err := r.askComponent("e", "c"); !errors.Is(err, dataplane.ErrNoCopies) {
				t.Errorf("without copies: %v", err)
			}
		}
		if n := r.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Components["c"].NoCapacity.Load(); n != 3 {
			t.Errorf("NoCapacityInvocationFailures is %d, want 3", n)
		}
		time.Sleep(2 * idleRelease)
		if n := r.instances("e"); n != 0 || r.endpoint("e").EndpointStatus != statusInService {
			t.Errorf("%d instances, endpoint %s; want 0, InService", n, r.endpoint("e").EndpointStatus)
		}
		r.resize("c", 2)
		r.settleComponent("c", componentInService)
		if n := r.instances("e"); n != 2 {
			t.Errorf("%d instances, want 2", n)
		}
		if body, err := r.askComponent("e", "c"); body != "one" || err != nil {
			t.Errorf("back again: %q, %v", body, err)
		}
	})
}

func TestConsolidationEmptiesInstancesWithoutLosingRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		m := managed(1, 4)
		m.ScaleInPolicy = &types.ProductionVariantManagedInstanceScalingScaleInPolicy{
			Strategy: types.ManagedInstanceScalingScaleInStrategyConsolidation, CooldownInMinutes: aws.Int32(10), MaximumStepSize: aws.Int32(2),
		}
		r.deployHosts("e", hostOf("v", 4, m))
		r.component("c", "e", gpus("one", 1), 4) // spread over four instances
		r.settleComponent("c", componentInService)
		stop := r.loadComponent("e", "c", 5, 100*time.Millisecond)
		time.Sleep(9 * time.Minute)
		if n := r.instances("e"); n != 4 {
			t.Errorf("%d instances before the cooldown, want 4", n)
		}
		time.Sleep(2 * time.Minute)
		if n := r.instances("e"); n != 2 {
			t.Errorf("%d instances after the first step, want 2", n)
		}
		time.Sleep(11 * time.Minute)
		if n := r.instances("e"); n != 1 {
			t.Errorf("%d instances after the second, want 1", n)
		}
		if answers, err := stop(); err != nil {
			t.Errorf("answers %v, first error %v", answers, err)
		}
		if n := *r.describeComponent("c").RuntimeConfig.CurrentCopyCount; n != 4 {
			t.Errorf("%d copies, want 4", n)
		}
	})
}

// hostsOfPools is a variant of three instance types.
func hostsOfPools(count int32, m *types.ProductionVariantManagedInstanceScaling) types.ProductionVariant {
	v := hostOf("v", count, m)
	v.InstanceType = ""
	v.InstancePools = []types.InstancePool{
		{InstanceType: types.ProductionVariantInstanceTypeMlG6Xlarge, Priority: aws.Int32(2)},
		{InstanceType: types.ProductionVariantInstanceTypeMlG5Xlarge, Priority: aws.Int32(1)},
		{InstanceType: types.ProductionVariantInstanceTypeMlG512xlarge, Priority: aws.Int32(3)},
	}
	return v
}

func placement(out *sagemaker.DescribeInferenceComponentOutput) map[string]int32 {
	byType := map[string]int32{}
	for _, p := range out.RuntimeConfig.PlacementStatus {
		byType[string(p.InstanceType)] = *p.CurrentCopyCount
	}
	return byType
}

func TestInstancePoolsAreTriedByPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kind := byImage()
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			if spec.Shape.InstanceType == "ml.g5.xlarge" {
				return nil, dataplane.ErrCapacity
			}
			return kind.Launch(ctx, spec)
		}))
		defer r.stop()
		r.deployHosts("e", hostsOfPools(1, managed(0, 5)))
		r.component("small", "e", gpus("one", 1), 2)
		out := r.settleComponent("small", componentInService)
		if got := placement(out); got["ml.g5.xlarge"] != 0 || got["ml.g6.xlarge"]+got["ml.g5.12xlarge"] != 2 {
			t.Errorf("copies are on %v; there is no room on ml.g5.xlarge", got)
		}
		r.component("large", "e", gpus("two", 3), 1)
		if got := placement(r.settleComponent("large", componentInService)); got["ml.g5.12xlarge"] != 1 {
			t.Errorf("a copy of three accelerators is on %v", got)
		}
		for _, p := range r.endpoint("e").ProductionVariants[0].InstancePools {
			if p.InstanceType == "ml.g5.xlarge" && *p.CurrentInstanceCount != 0 {
				t.Errorf("%d instances of a type without room", *p.CurrentInstanceCount)
			}
		}
	})
}

func TestSpecificationsSayWhatRunsOnWhichInstanceType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostsOfPools(1, managed(1, 5)))
		g6, large := gpus("six", 1), gpus("twelve", 2)
		g6.InstanceType, large.InstanceType = "ml.g6.xlarge", "ml.g5.12xlarge"
		_, err := r.CreateInferenceComponent(r.ctx, &sagemaker.CreateInferenceComponentInput{
			InferenceComponentName: aws.String("c"), EndpointName: aws.String("e"), RuntimeConfig: copyCount(2),
			Specifications: []types.InferenceComponentSpecification{*g6, *large},
		})
		r.must(err)
		out := r.settleComponent("c", componentInService)
		if got := placement(out); !maps.Equal(got, map[string]int32{"ml.g6.xlarge": 2}) {
			t.Errorf("copies on %v, want two on ml.g6.xlarge: nothing is specified for ml.g5.xlarge", got)
		}
		if out.Specification != nil || len(out.Specifications) != 2 {
			t.Errorf("described with Specification %v and %d Specifications", out.Specification, len(out.Specifications))
		}
		if body, err := r.askComponent("e", "c"); body != "six" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	})
}

func TestManagedInstanceScalingStaysWithinTheAccountsQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.Quotas = Quotas{Instances: map[string]int{"ml.g5.12xlarge": 3}}
		r.deployHosts("e", hostOf("v", 1, managed(1, 9)))
		r.component("c", "e", gpus("one", 4), 1)
		r.settleComponent("c", componentInService)
		r.resize("c", 6)
		out := r.settleComponent("c", componentInService)
		if out.FailureReason == nil || *out.RuntimeConfig.DesiredCopyCount != 1 {
			t.Errorf("%+v, reason %q", out.RuntimeConfig, aws.ToString(out.FailureReason))
		}
		r.resize("c", 3)
		if out := r.settleComponent("c", componentInService); out.FailureReason != nil || r.instances("e") != 3 {
			t.Errorf("%d instances, reason %q; want the three that the quota allows", r.instances("e"), aws.ToString(out.FailureReason))
		}
	})
}

func TestInstanceOffersAllButASixteenthOfItsMemory(t *testing.T) {
	v := variant{Config: hostOf("v", 1, nil)}
	got := v.offer("ml.g5.12xlarge")
	if want := (resources{milliCPU: 48_000, memoryMiB: 180 * 1024, accelerators: 4}); got.capacity != want || got.partitions != nil {
		t.Errorf("%+v, want %+v: 48 vCPU, 192 GiB and 4 GPUs less the reserve", got, want)
	}
}

func TestCopiesAreGivenWhatTheyReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kind := byImage()
		specs := make(chan dataplane.Spec, 100)
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			specs <- spec
			return kind.Launch(ctx, spec)
		}))
		defer r.stop()
		mig := hostOf("v", 1, nil)
		mig.InstanceType = "ml.p4d.24xlarge" // eight A100 of 40 GiB
		mig.AcceleratorPartitionLayouts = []types.AcceleratorPartitionLayout{{AcceleratorPartitionTypes: []string{"mig-3g.20gb", "mig-3g.20gb"}}}
		r.deployHosts("e", hostOf("v", 1, nil))
		r.deployHosts("mig", mig)
		part := gpus("one", 2)
		part.ComputeResourceRequirements.NumberOfCpuCoresRequired = aws.Float32(2.5)
		part.ComputeResourceRequirements.MaxMemoryRequiredInMb = aws.Int32(2048)
		part.StartupParameters = &types.InferenceComponentStartupParameters{ContainerStartupHealthCheckTimeoutInSeconds: aws.Int32(90)}
		cpu := gpus("one", 1)
		cpu.ComputeResourceRequirements.NumberOfAcceleratorDevicesRequired = nil
		sliced := gpus("one", 1)
		sliced.ComputeResourceRequirements.AcceleratorPartitionType = aws.String("mig-3g.20gb")
		for i, tc := range []struct {
			endpoint string
			spec     *types.InferenceComponentSpecification
			want     dataplane.Shape
		}{
			{"e", part, dataplane.Shape{InstanceType: "ml.g5.12xlarge", VCPU: 3, MemoryGiB: 2, Accelerators: 2, AcceleratorKind: "NVIDIA A10G", AcceleratorGiB: 22}},
			{"e", cpu, dataplane.Shape{InstanceType: "ml.g5.12xlarge", VCPU: 48, MemoryGiB: 192}},
			{"mig", sliced, dataplane.Shape{InstanceType: "ml.p4d.24xlarge", VCPU: 96, MemoryGiB: 1152, Accelerators: 1, AcceleratorKind: "NVIDIA A100", AcceleratorGiB: 20}},
		} {
			name := fmt.Sprint("c", i)
			r.component(name, tc.endpoint, tc.spec, 1)
			r.settleComponent(name, componentInService)
			spec := <-specs
			if spec.Shape != tc.want || spec.InferenceComponent != name || spec.Host == "" || spec.Host == spec.InstanceID {
				t.Errorf("%s: shape %+v of component %q on %q as %q; want %+v", name, spec.Shape, spec.InferenceComponent, spec.Host, spec.InstanceID, tc.want)
			}
			if i == 0 && spec.StartupTimeout != 90*time.Second {
				t.Errorf("start-up time-out %v", spec.StartupTimeout)
			}
		}
		r.component("many", "mig", sliced, 15)
		r.settleComponent("many", componentInService) // sixteen partitions in all
		r.component("more", "mig", sliced, 1)
		r.settleComponent("more", componentFailed)
	})
}

// After a crash at any commit of a component's life, the next run brings what was
// under way to its end.
func TestCrashAtEveryCommitOfAComponentIsRecoveredFrom(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	var copies []string
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(store.Options{Path: path, Tables: Tables(), Committed: func() {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			copied := filepath.Join(dir, fmt.Sprint("copy-", len(copies)))
			if err := os.WriteFile(copied, text, 0o600); err != nil {
				t.Error(err)
			}
			copies = append(copies, copied)
		}})
		if err != nil {
			t.Fatal(err)
		}
		r := rigOver(t, db, t.TempDir(), byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 1, managed(1, 3)))
		r.component("c", "e", gpus("one", 1), 2)
		r.settleComponent("c", componentInService)
		r.resize("c", 5)
		r.settleComponent("c", componentInService)
		r.updateComponent("c", gpus("two", 1), rolling(2, 5))
		r.settleComponent("c", componentInService)
		r.updateComponent("c", gpus("broken", 1), rolling(2, 5))
		r.settleComponent("c", componentInService)
		r.removeComponent("c")
	})
	if len(copies) < 20 {
		t.Fatalf("only %d commits in a component's life", len(copies))
	}
	for i, path := range copies {
		t.Run(fmt.Sprint("commit ", i+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { recoverComponent(t, path) })
		})
	}
}

func recoverComponent(t *testing.T, path string) {
	db, err := store.Open(store.Options{Path: path, Tables: Tables()})
	if err != nil {
		t.Fatal(err)
	}
	var before *inferenceComponentRecord
	err = db.View(func(tx *store.Tx) error {
		return inferenceComponents.Each(tx, func(_ store.Scope, _ string, rec *inferenceComponentRecord) error {
			before = rec
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if before == nil {
		return
	}
	r := rigOver(t, db, t.TempDir(), byImage())
	defer r.stop()
	synctest.Wait()
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	if s := r.endpoint("e").EndpointStatus; s != statusInService {
		t.Errorf("the endpoint is %s (%s)", s, aws.ToString(r.endpoint("e").FailureReason))
	}
	out, err := r.DescribeInferenceComponent(r.ctx, &sagemaker.DescribeInferenceComponentInput{InferenceComponentName: aws.String("c")})
	if before.InferenceComponentStatus == componentDeleting {
		if err == nil {
			t.Errorf("was Deleting, is %s", out.InferenceComponentStatus)
		}
		return
	}
	r.must(err)
	if out.InferenceComponentStatus != componentInService || *out.RuntimeConfig.CurrentCopyCount != *out.RuntimeConfig.DesiredCopyCount {
		t.Fatalf("was %s, is %s with %d of %d copies", before.InferenceComponentStatus, out.InferenceComponentStatus, *out.RuntimeConfig.CurrentCopyCount, *out.RuntimeConfig.DesiredCopyCount)
	}
	image := *out.Specification.Container.DeployedImage.SpecifiedImage
	if body, err := r.askComponent("e", "c"); body != image || err != nil || image == "broken" {
		t.Errorf("invoking it: %q, %v; want %q", body, err, image)
	}
}

func TestRestartServesAgainBeforeTheEndpointIsInService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		db, err := store.Open(store.Options{Path: path, Tables: Tables()})
		if err != nil {
			t.Fatal(err)
		}
		r := rigOver(t, db, t.TempDir(), byImage())
		r.deployHosts("e", hostOf("v", 2, nil))
		r.component("c", "e", gpus("one", 1), 3)
		r.settleComponent("c", componentInService)
		r.adapter("a", "c", "s3://b/a.tar.gz")
		r.settleComponent("a", componentInService)
		r.component("idle", "e", gpus("one", 1), 1)
		r.settleComponent("idle", componentInService)
		r.resize("idle", 0)
		r.settleComponent("idle", componentInService)
		r.stop()
		if db, err = store.Open(store.Options{Path: path, Tables: Tables()}); err != nil {
			t.Fatal(err)
		}
		r = rigOver(t, db, t.TempDir(), byImage())
		defer r.stop()
		synctest.Wait()
		if s := r.endpoint("e").EndpointStatus; s != statusSystemUpdating {
			t.Errorf("%s right after the restart, want SystemUpdating", s)
		}
		if _, err := r.askComponent("e", "c"); !errors.Is(err, dataplane.ErrNoInstance) {
			t.Errorf("invoking it then: %v, want ErrNoInstance", err)
		}
		// Nothing is InService with nothing behind it, nor does anything that has lost
		// nothing stop being InService.
		for name, want := range map[string]types.InferenceComponentStatus{"c": componentUpdating, "a": componentUpdating, "idle": componentInService} {
			if out := r.describeComponent(name); *out.RuntimeConfig.CurrentCopyCount != 0 || out.InferenceComponentStatus != want {
				t.Errorf("%s is %s with %d copies right after the restart, want %s with none", name, out.InferenceComponentStatus, *out.RuntimeConfig.CurrentCopyCount, want)
			}
		}
		r.settle("e", statusInService)
		for name, copies := range map[string]int32{"c": 3, "a": 3, "idle": 0} {
			if out := r.describeComponent(name); *out.RuntimeConfig.CurrentCopyCount != copies || out.InferenceComponentStatus != componentInService || out.FailureReason != nil {
				t.Errorf("%s is %s with %d copies, want InService with %d", name, out.InferenceComponentStatus, *out.RuntimeConfig.CurrentCopyCount, copies)
			}
		}
	})
}

// What cannot be started again after a restart is tried for ever, as after a crash,
// and neither it nor its endpoint is locked meanwhile.
func TestRestartWithAComponentThatCannotStartAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		open := func(kind dataplane.Launcher) *rig {
			db, err := store.Open(store.Options{Path: path, Tables: Tables()})
			if err != nil {
				t.Fatal(err)
			}
			return rigOver(t, db, t.TempDir(), kind)
		}
		r := open(echo())
		r.deployHosts("e", hostOf("v", 2, nil))
		r.component("c", "e", gpus("broken", 1), 1)
		r.settleComponent("c", componentInService)
		r.stop()
		r = open(byImage()) // which fails what is named broken
		defer r.stop()
		r.settle("e", statusInService)
		if out := r.describeComponent("c"); out.InferenceComponentStatus != componentInService || out.FailureReason == nil {
			t.Errorf("%s with reason %v, want InService with one", out.InferenceComponentStatus, out.FailureReason)
		}
		r.removeComponent("c")
		r.remove("e")
	})
}

func TestStopAndResetEndCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 2, nil))
		r.component("c", "e", gpus("one", 1), 3)
		r.settleComponent("c", componentInService)
		s := r.Fleet.Lookup(endpointKey(home, "e")).Snapshot()
		all := slices.Concat(s.Components["c"].Copies, s.Variants[0].Instances)
		if len(all) != 5 {
			t.Fatalf("%d copies and instances, want 5", len(all))
		}
		r.must(r.Reset(context.Background(), home.Account))
		for _, in := range all {
			if in.State() != dataplane.Stopped {
				t.Errorf("%s is %v", in.ID, in.State())
			}
		}
		out, err := r.ListInferenceComponents(r.ctx, &sagemaker.ListInferenceComponentsInput{})
		if err != nil || len(out.InferenceComponents) != 0 {
			t.Errorf("after the reset: %v, %v", out, err)
		}
	})
}
