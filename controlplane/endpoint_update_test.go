package controlplane

import (
	"context"
	"errors"
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
	"github.com/sagelocal/sagelocal/dataplane/simulated"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// config creates a configuration of the endpoint's model.
func (r *rig) config(name, model string, variants ...types.ProductionVariant) {
	r.t.Helper()
	for i := range variants {
		variants[i].ModelName = &model
	}
	_, err := r.CreateEndpointConfig(r.ctx, &sagemaker.CreateEndpointConfigInput{EndpointConfigName: &name, ProductionVariants: variants})
	r.must(err)
}

func (r *rig) model(name, image string) {
	r.t.Helper()
	_, err := r.CreateModel(r.ctx, &sagemaker.CreateModelInput{ModelName: &name, PrimaryContainer: &types.ContainerDefinition{Image: &image}})
	r.must(err)
}

func (r *rig) update(endpoint, config string, policy *types.DeploymentConfig) {
	r.t.Helper()
	_, err := r.UpdateEndpoint(r.ctx, &sagemaker.UpdateEndpointInput{EndpointName: &endpoint, EndpointConfigName: &config, DeploymentConfig: policy})
	r.must(err)
}

// byImage launches what answers with its image's name, and fails images named
// "broken".
func byImage() dataplane.Launcher {
	kind := echo()
	return launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
		if spec.Container.Image == "broken" {
			return nil, fmt.Errorf("exit status 1: %w", dataplane.ErrPing)
		}
		w, err := kind.Launch(ctx, spec)
		return named{w, spec.Container.Image}, err
	})
}

type named struct {
	dataplane.Worker
	image string
}

func (w named) Invoke(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	err := w.Worker.Invoke(ctx, req, ans)
	ans.Body = append(ans.Body[:0], w.image...)
	return err
}

// shareOf is the part of n invocations that an image answers.
func (r *rig) shareOf(image string, n int) float64 {
	r.t.Helper()
	hits := 0
	for range n {
		body, err := r.invoke("e")
		r.must(err)
		if body == image {
			hits++
		}
	}
	return float64(hits) / float64(n)
}

func near(got, want float64) bool { return got > want-0.05 && got < want+0.05 }

// updatable is an endpoint "e" of n instances of "image" and a configuration
// "green" of n instances of another.
func updatable(t *testing.T, n int32, image string) *rig {
	r := newRig(t, byImage())
	r.deploy("e", variantOf("a", n))
	r.settle("e", statusInService)
	r.model("green", image)
	r.config("green", "green", variantOf("a", n))
	return r
}

func TestUpdateEndpointSwitchesItsConfigurationAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 2, "new")
		defer r.stop()
		began := time.Now()
		r.update("e", "green", nil)
		time.Sleep(time.Second) // the bubble's clock; instances take two
		out := r.endpoint("e")
		p := out.PendingDeploymentSummary
		if out.EndpointStatus != statusUpdating || *out.EndpointConfigName != "e" || p == nil || *p.EndpointConfigName != "green" || !p.StartTime.Equal(began) {
			t.Fatalf("while updating: %s on %s, pending %+v", out.EndpointStatus, *out.EndpointConfigName, p)
		}
		if v := p.ProductionVariants[0]; *v.CurrentInstanceCount != 0 || *v.DesiredInstanceCount != 2 || v.InstanceType != "ml.m5.large" || v.VariantStatus[0].Status != types.VariantStatusCreating {
			t.Errorf("pending variant %+v", v)
		}
		if v := out.ProductionVariants[0]; *v.CurrentInstanceCount != 2 || v.VariantStatus[0].Status != types.VariantStatusUpdating {
			t.Errorf("old variant %+v", v)
		}
		if got := r.shareOf("image", 50); got != 1 {
			t.Errorf("the old fleet answers %v of the requests, want all", got)
		}
		if at := out.ProductionVariants[0].DeployedImages[0].ResolutionTime; !at.Equal(*out.CreationTime) {
			t.Errorf("the old image was resolved at %v, want %v", at, out.CreationTime)
		}
		if at := p.ProductionVariants[0].DeployedImages[0].ResolutionTime; !at.Equal(began) {
			t.Errorf("the new image was resolved at %v, want %v", at, began)
		}
		out = r.settle("e", statusInService)
		if *out.EndpointConfigName != "green" || out.PendingDeploymentSummary != nil || out.FailureReason != nil || out.LastDeploymentConfig != nil {
			t.Errorf("after: %+v", out)
		}
		if got := r.shareOf("new", 50); got != 1 {
			t.Errorf("the new fleet answers %v of the requests, want all", got)
		}
		if n := len(r.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Variants); n != 1 {
			t.Errorf("%d groups of instances are left, want 1", n)
		}
	})
}

func TestUpdateEndpointToTheSameConfigurationReplacesItsInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		instance := func() string {
			return r.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Variants[0].Instances[0].ID
		}
		before := instance()
		r.update("e", "e", nil)
		r.settle("e", statusInService)
		if instance() == before {
			t.Error("the instance is the old one")
		}
	})
}

func TestFailedUpdateEndsInServiceOnTheOldConfigurationWithFailureReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 2, "broken")
		defer r.stop()
		r.update("e", "green", nil)
		out := r.settle("e", statusInService)
		want := "The primary container for production variant a did not pass the ping health check. Please check CloudWatch logs for this endpoint."
		if *out.EndpointConfigName != "e" || aws.ToString(out.FailureReason) != want || *out.ProductionVariants[0].CurrentInstanceCount != 2 {
			t.Errorf("after: %+v", out)
		}
		if got := r.shareOf("image", 20); got != 1 {
			t.Errorf("the old fleet answers %v of the requests", got)
		}
		// The reason is gone as soon as the next update starts.
		r.update("e", "e", nil)
		if out := r.endpoint("e"); out.FailureReason != nil {
			t.Errorf("while the next update runs the reason is %q", *out.FailureReason)
		}
		if out := r.settle("e", statusInService); out.FailureReason != nil {
			t.Errorf("after the next update the reason is %q", *out.FailureReason)
		}
	})
}

func canaryPolicy(size *types.CapacitySize, wait int32, alarms ...string) *types.DeploymentConfig {
	p := &types.DeploymentConfig{BlueGreenUpdatePolicy: &types.BlueGreenUpdatePolicy{
		TrafficRoutingConfiguration: &types.TrafficRoutingConfig{
			Type: types.TrafficRoutingConfigTypeCanary, CanarySize: size, WaitIntervalInSeconds: &wait,
		},
	}}
	for _, name := range alarms {
		if p.AutoRollbackConfiguration == nil {
			p.AutoRollbackConfiguration = &types.AutoRollbackConfig{}
		}
		p.AutoRollbackConfiguration.Alarms = append(p.AutoRollbackConfiguration.Alarms, types.Alarm{AlarmName: &name})
	}
	return p
}

func (r *rig) pendingStatus() types.VariantStatus {
	out := r.endpoint("e")
	if out.PendingDeploymentSummary == nil || len(out.PendingDeploymentSummary.ProductionVariants[0].VariantStatus) == 0 {
		return ""
	}
	return out.PendingDeploymentSummary.ProductionVariants[0].VariantStatus[0].Status
}

func TestCanaryTakesItsShareAndBakesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 4, "new")
		defer r.stop()
		policy := canaryPolicy(count(1), 120, "latency")
		policy.BlueGreenUpdatePolicy.TerminationWaitInSeconds = aws.Int32(60)
		r.update("e", "green", policy)
		time.Sleep(10 * time.Second)
		if got := r.shareOf("new", 2000); r.pendingStatus() != types.VariantStatusBaking || !near(got, 0.25) {
			t.Errorf("%s with %v of the traffic, want a baking canary of 0.25", r.pendingStatus(), got)
		}
		time.Sleep(2 * time.Minute)
		if got := r.shareOf("new", 100); r.pendingStatus() != types.VariantStatusBaking || got != 1 {
			t.Errorf("%s with %v of the traffic, want the final baking period with all", r.pendingStatus(), got)
		}
		time.Sleep(2 * time.Minute)
		out := r.endpoint("e")
		if r.pendingStatus() != "" || out.EndpointStatus != statusUpdating || *out.ProductionVariants[0].CurrentInstanceCount != 4 {
			t.Errorf("%q, %s; want the old fleet kept for TerminationWaitInSeconds", r.pendingStatus(), out.EndpointStatus)
		}
		out = r.settle("e", statusInService)
		if *out.EndpointConfigName != "green" || out.LastDeploymentConfig == nil {
			t.Errorf("after: %+v", out)
		}
	})
}

func TestAlarmWhileBakingRollsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 4, "new")
		defer r.stop()
		r.update("e", "green", canaryPolicy(percent(50), 600, "errors", "latency"))
		time.Sleep(time.Minute)
		r.must(r.SetAlarmState(r.ctx, "unrelated", AlarmAlarm))
		r.must(r.SetAlarmState(r.ctx, "errors", AlarmOK))
		synctest.Wait()
		if s := r.endpoint("e").EndpointStatus; s != statusUpdating {
			t.Fatalf("%s before an alarm of the update", s)
		}
		r.must(r.SetAlarmState(r.ctx, "latency", AlarmAlarm))
		out := r.settle("e", statusInService)
		if want := "One or more alarms of the AutoRollbackConfiguration went into the ALARM state during the deployment: latency."; *out.EndpointConfigName != "e" || aws.ToString(out.FailureReason) != want {
			t.Errorf("after: %s, %q", *out.EndpointConfigName, aws.ToString(out.FailureReason))
		}
		if got := r.shareOf("image", 50); got != 1 {
			t.Errorf("the old fleet answers %v of the requests, want all", got)
		}
		r.must(r.SetAlarmState(r.ctx, "latency", AlarmOK))
		r.update("e", "green", canaryPolicy(percent(50), 1, "errors", "latency"))
		if out := r.settle("e", statusInService); *out.EndpointConfigName != "green" {
			t.Errorf("the repaired update ends on %s", *out.EndpointConfigName)
		}
	})
}

func TestAlarmCountsOnceTheNewFleetTakesTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 2, "new")
		defer r.stop()
		r.must(r.SetAlarmState(r.ctx, "latency", AlarmAlarm))
		r.update("e", "green", canaryPolicy(percent(50), 600, "latency"))
		time.Sleep(time.Second) // the new fleet takes two to start
		synctest.Wait()
		if s := r.endpoint("e").EndpointStatus; s != statusUpdating {
			t.Errorf("%s while the new fleet starts", s)
		}
		began := time.Now()
		r.settle("e", statusInService)
		if took := time.Since(began); took > 10*time.Second || r.endpoint("e").FailureReason == nil {
			t.Errorf("rolled back after %v", took)
		}
	})
}

func TestUpdateWaitsForTheAnswersOfTheOldFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, slowEcho(40*time.Second))
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		answered := make(chan error, 1)
		go func() {
			_, err := r.invoke("e")
			answered <- err
		}()
		synctest.Wait()
		r.update("e", "e", nil)
		time.Sleep(30 * time.Second)
		out := r.endpoint("e")
		if s := out.ProductionVariants[0].VariantStatus; out.EndpointStatus != statusUpdating || len(s) != 1 || s[0].Status != types.VariantStatusDeleting {
			t.Errorf("%s, %+v; want it updating while the old fleet has a request", out.EndpointStatus, s)
		}
		r.must(<-answered)
		r.settle("e", statusInService)
	})
}

func TestAlarmStatesAreCloudWatchs(t *testing.T) {
	r := newRig(t, echo())
	defer r.stop()
	wantMessage(t, r.SetAlarmState(r.ctx, "x", "RED"), "ValidationException", `Alarm state "RED" is none of OK, ALARM, INSUFFICIENT_DATA.`)
	wantMessage(t, r.SetAlarmState(r.ctx, "", AlarmOK), "ValidationException", "An alarm's name has 1 to 255 characters.")
	r.must(r.SetAlarmState(r.ctx, "x", AlarmAlarm))
	all, err := r.ListAlarms(r.ctx)
	if err != nil || len(all) != 1 || all[0].Name != "x" || all[0].State != AlarmAlarm {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestLinearShiftMovesTrafficStepByStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 3, "new")
		defer r.stop()
		r.update("e", "green", &types.DeploymentConfig{BlueGreenUpdatePolicy: &types.BlueGreenUpdatePolicy{
			TrafficRoutingConfiguration: &types.TrafficRoutingConfig{
				Type: types.TrafficRoutingConfigTypeLinear, LinearStepSize: count(1), WaitIntervalInSeconds: aws.Int32(60),
			},
		}})
		time.Sleep(10 * time.Second)
		for _, want := range []float64{1. / 3, 2. / 3, 1} {
			if got := r.shareOf("new", 3000); !near(got, want) {
				t.Errorf("the new fleet has %v of the traffic, want %v", got, want)
			}
			time.Sleep(time.Minute)
		}
		if out := r.settle("e", statusInService); *out.EndpointConfigName != "green" {
			t.Errorf("after: %s", *out.EndpointConfigName)
		}
	})
}

func TestDeploymentThatTakesTooLongRollsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 2, "new")
		defer r.stop()
		policy := canaryPolicy(percent(50), 3600)
		policy.BlueGreenUpdatePolicy.MaximumExecutionTimeoutInSeconds = aws.Int32(600)
		began := time.Now()
		r.update("e", "green", policy)
		out := r.settle("e", statusInService)
		if *out.EndpointConfigName != "e" || aws.ToString(out.FailureReason) != "The deployment did not end within MaximumExecutionTimeoutInSeconds (600)." {
			t.Errorf("after: %s, %q", *out.EndpointConfigName, aws.ToString(out.FailureReason))
		}
		if took := time.Since(began); took < 10*time.Minute || took > 11*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

func rollingPolicy(batch, rollback *types.CapacitySize, wait int32, alarms ...string) *types.DeploymentConfig {
	p := canaryPolicy(nil, 0, alarms...)
	p.BlueGreenUpdatePolicy = nil
	p.RollingUpdatePolicy = &types.RollingUpdatePolicy{MaximumBatchSize: batch, RollbackMaximumBatchSize: rollback, WaitIntervalInSeconds: &wait}
	return p
}

// inService counts the endpoint's instances that take requests.
func (r *rig) inService() (n int) {
	for _, v := range r.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Variants {
		n += v.Pool.Len()
	}
	return n
}

func TestRollingUpdateNeverHasLessThanItsInstancesNorMoreThanABatchBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 6, "new")
		defer r.stop()
		r.update("e", "green", rollingPolicy(count(2), nil, 30))
		began, seen := time.Now(), map[int]bool{}
		for r.endpoint("e").EndpointStatus == statusUpdating {
			synctest.Wait()
			n := r.inService()
			seen[n] = true
			if n < 6 || n > 8 {
				t.Fatalf("%d instances in service after %v", n, time.Since(began))
			}
			time.Sleep(time.Second)
		}
		out := r.settle("e", statusInService)
		if *out.EndpointConfigName != "green" || r.inService() != 6 || !seen[6] || !seen[8] {
			t.Errorf("after: %s with %d instances; seen %v", *out.EndpointConfigName, r.inService(), seen)
		}
		if took := time.Since(began); took < 90*time.Second || took > 2*time.Minute {
			t.Errorf("three batches that bake 30 s took %v", took)
		}
	})
}

func TestRollingUpdateRollsBackOnAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 4, "new")
		defer r.stop()
		r.update("e", "green", rollingPolicy(count(1), count(1), 60, "latency"))
		time.Sleep(150 * time.Second) // in the third batch
		r.must(r.SetAlarmState(r.ctx, "latency", AlarmAlarm))
		for r.endpoint("e").EndpointStatus != statusInService {
			synctest.Wait()
			if n := r.inService(); n < 4 || n > 5 {
				t.Fatalf("%d instances in service while rolling back", n)
			}
			time.Sleep(time.Second)
		}
		if out := r.endpoint("e"); *out.EndpointConfigName != "e" || out.FailureReason == nil || r.shareOf("image", 50) != 1 {
			t.Errorf("after: %+v", out)
		}
	})
}

func TestRollbackThatFailsIsRepairedByAnotherUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool // the old image cannot be started any more
		kind := byImage()
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			if spec.Container.Image == "image" && gone.Load() {
				return nil, dataplane.ErrCannotStart
			}
			return kind.Launch(ctx, spec)
		}))
		defer r.stop()
		r.deploy("e", variantOf("a", 4))
		r.settle("e", statusInService)
		r.model("green", "new")
		r.config("green", "green", variantOf("a", 4))
		r.update("e", "green", rollingPolicy(count(1), nil, 60, "latency"))
		time.Sleep(90 * time.Second) // the second batch bakes
		gone.Store(true)
		r.must(r.SetAlarmState(r.ctx, "latency", AlarmAlarm))
		out := r.settle("e", statusUpdateRollbackFailed)
		if *out.EndpointConfigName != "e" || out.FailureReason == nil || r.inService() < 4 {
			t.Errorf("after the rollback failed: %+v with %d instances", out, r.inService())
		}
		if got := r.shareOf("new", 2000); !near(got, 2./5) {
			t.Errorf("the new fleet has %v of the traffic; 2 of its instances serve beside 3 old ones", got)
		}
		_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(2)}))
		wantMessage(t, err, "ValidationException", fmt.Sprintf("Cannot update in-progress endpoint %q.", arnOf("endpoint", "e")))
		r.must(r.SetAlarmState(r.ctx, "latency", AlarmOK))
		r.update("e", "green", rollingPolicy(count(1), nil, 60))
		out = r.settle("e", statusInService)
		if *out.EndpointConfigName != "green" || out.FailureReason != nil || r.inService() != 4 || r.shareOf("new", 50) != 1 {
			t.Errorf("after the repair: %+v with %d instances", out, r.inService())
		}
	})
}

func TestEndpointWhoseRollbackFailedCanBeDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		r.must(r.DB.Update(func(tx *store.Tx) error {
			rec, err := getEndpoint(tx, home, "e")
			if err != nil {
				return err
			}
			left := rec.Deployment
			left.ID = 7
			rec.Leftover = &left
			rec.enter(statusUpdateRollbackFailed, tx.Now)
			return endpoints.Put(tx, store.Scope(home), "e", rec)
		}))
		_, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: aws.String("e")})
		r.must(err)
		time.Sleep(time.Minute)
		synctest.Wait()
		_, err = r.DescribeEndpoint(r.ctx, &sagemaker.DescribeEndpointInput{EndpointName: aws.String("e")})
		wantMessage(t, err, "ValidationException", missing("endpoint", "endpoint", "e"))
	})
}

func TestUpdateEndpointFailsWhenThePresentConfigurationWasDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 1, "new")
		defer r.stop()
		in := &sagemaker.UpdateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("nothing")}
		_, err := r.UpdateEndpoint(r.ctx, in)
		wantMessage(t, err, "ValidationException", missing("endpoint configuration", "endpoint-config", "nothing"))
		_, err = r.DeleteEndpointConfig(r.ctx, &sagemaker.DeleteEndpointConfigInput{EndpointConfigName: aws.String("e")})
		r.must(err)
		in.EndpointConfigName = aws.String("green")
		_, err = r.UpdateEndpoint(r.ctx, in)
		wantMessage(t, err, "ValidationException", missing("endpoint configuration", "endpoint-config", "e"))
		in.EndpointName = aws.String("other")
		_, err = r.UpdateEndpoint(r.ctx, in)
		wantMessage(t, err, "ValidationException", missing("endpoint", "endpoint", "other"))
	})
}

func TestUpdateEndpointIsRefusedWhileAnotherRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 1, "new")
		defer r.stop()
		r.update("e", "green", nil)
		busy := fmt.Sprintf("Cannot update in-progress endpoint %q.", arnOf("endpoint", "e"))
		_, err := r.UpdateEndpoint(r.ctx, &sagemaker.UpdateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("green")})
		wantMessage(t, err, "ValidationException", busy)
		_, err = r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: aws.String("e")})
		wantMessage(t, err, "ValidationException", busy)
		_, err = r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a")}))
		wantMessage(t, err, "ValidationException", busy)
	})
}

func TestRetainedVariantPropertiesAreTheLiveOnes(t *testing.T) {
	for _, tc := range []struct {
		name     string
		retain   bool
		excluded []types.VariantPropertyType
		count    int32
		weight   float32
	}{
		{"not retained", false, nil, 1, 1},
		{"excluded without retaining", false, []types.VariantPropertyType{types.VariantPropertyTypeDesiredWeight}, 1, 1},
		{"retained", true, nil, 3, 7},
		{"but for the count", true, []types.VariantPropertyType{types.VariantPropertyTypeDesiredInstanceCount}, 1, 7},
		{"but for the weight", true, []types.VariantPropertyType{types.VariantPropertyTypeDesiredWeight}, 3, 1},
		{"DataCaptureConfig has no effect", true, []types.VariantPropertyType{types.VariantPropertyTypeDataCaptureConfig}, 3, 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := updatable(t, 1, "new")
				defer r.stop()
				_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{
					VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(3), DesiredWeight: aws.Float32(7),
				}))
				r.must(err)
				r.settle("e", statusInService)
				in := &sagemaker.UpdateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("green"), RetainAllVariantProperties: &tc.retain}
				for _, kind := range tc.excluded {
					in.ExcludeRetainedVariantProperties = append(in.ExcludeRetainedVariantProperties, types.VariantProperty{VariantPropertyType: kind})
				}
				_, err = r.UpdateEndpoint(r.ctx, in)
				r.must(err)
				v := r.settle("e", statusInService).ProductionVariants[0]
				if *v.CurrentInstanceCount != tc.count || *v.CurrentWeight != tc.weight || *v.DesiredWeight != tc.weight {
					t.Errorf("%d instances, weight %v; want %d and %v", *v.CurrentInstanceCount, *v.CurrentWeight, tc.count, tc.weight)
				}
			})
		})
	}
}

func TestRetainDeploymentConfigReusesTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 2, "new")
		defer r.stop()
		r.update("e", "green", canaryPolicy(percent(50), 300))
		r.settle("e", statusInService)
		in := &sagemaker.UpdateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("e"), RetainDeploymentConfig: aws.Bool(true)}
		_, err := r.UpdateEndpoint(r.ctx, in)
		r.must(err)
		began := time.Now()
		out := r.settle("e", statusInService)
		if took := time.Since(began); took < 10*time.Minute || out.LastDeploymentConfig == nil {
			t.Errorf("the update took %v; two baking periods take 10 minutes", took)
		}
		in.RetainDeploymentConfig = nil
		_, err = r.UpdateEndpoint(r.ctx, in)
		r.must(err)
		if out := r.settle("e", statusInService); out.LastDeploymentConfig != nil {
			t.Errorf("an update without a DeploymentConfig keeps %+v", out.LastDeploymentConfig)
		}
	})
}

// TestCreateEndpointRefusesTheDeploymentConfigsThatUpdateEndpointRefuses: what it
// stored would otherwise be refused when RetainDeploymentConfig brings it back.
func TestCreateEndpointRefusesTheDeploymentConfigsThatUpdateEndpointRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := updatable(t, 4, "new")
		defer r.stop()
		r.config("two", "e", variantOf("a", 4), variantOf("b", 4))
		both := canaryPolicy(count(1), 1)
		both.RollingUpdatePolicy = rollingPolicy(count(1), nil, 1).RollingUpdatePolicy
		for _, tc := range []struct {
			config, want string
			policy       *types.DeploymentConfig
		}{
			{"e", sdkcompat.PolicyTwice.Sentence(), both},
			{"e", sdkcompat.SizeMissing.Sentence("CanarySize"), canaryPolicy(nil, 1)},
			{"e", sdkcompat.SizeRange.Sentence("CanarySize", 1.0, 50.0, "a", int32(4)), canaryPolicy(count(3), 1)},
			{"e", sdkcompat.SizeRange.Sentence("MaximumBatchSize", 5.0, 50.0, "a", int32(4)), rollingPolicy(count(4), nil, 1)},
			{"two", sdkcompat.RollingOfMany.Sentence(), rollingPolicy(count(1), nil, 1)},
			{"e", sdkcompat.AlarmNotUnique.Sentence(), canaryPolicy(count(1), 1, "x", "x")},
		} {
			_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{
				EndpointName: aws.String("f"), EndpointConfigName: &tc.config, DeploymentConfig: tc.policy,
			})
			wantMessage(t, err, "ValidationException", tc.want)
			if tc.config == "e" {
				_, err = r.UpdateEndpoint(r.ctx, &sagemaker.UpdateEndpointInput{
					EndpointName: aws.String("e"), EndpointConfigName: aws.String("green"), DeploymentConfig: tc.policy,
				})
				wantMessage(t, err, "ValidationException", tc.want)
			}
		}
		_, err := r.DescribeEndpoint(r.ctx, &sagemaker.DescribeEndpointInput{EndpointName: aws.String("f")})
		wantMessage(t, err, "ValidationException", missingOne("endpoint", "f"))
		_, err = r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{
			EndpointName: aws.String("f"), EndpointConfigName: aws.String("e"), DeploymentConfig: canaryPolicy(count(2), 1),
		})
		r.must(err)
		_, err = r.UpdateEndpoint(r.ctx, &sagemaker.UpdateEndpointInput{
			EndpointName: aws.String("e"), EndpointConfigName: aws.String("two"), DeploymentConfig: canaryPolicy(count(1), 1),
		})
		wantMessage(t, err, "ValidationException", sdkcompat.VariantsChanged.Sentence("two", "e"))
	})
}

// TestUpdateGoesOnWhereItWasAfterARestart stops the plane at many moments of
// every kind of update and lets a second one over the same store end it.
func TestUpdateGoesOnWhereItWasAfterARestart(t *testing.T) {
	for name, policy := range map[string]*types.DeploymentConfig{
		"all at once": nil, "canary": canaryPolicy(count(1), 20), "rolling": rollingPolicy(count(1), nil, 10),
	} {
		t.Run(name, func(t *testing.T) {
			for moment := time.Second; moment < time.Minute; moment += 7 * time.Second {
				synctest.Test(t, func(t *testing.T) {
					first := updatable(t, 2, "new")
					first.update("e", "green", policy)
					time.Sleep(moment)
					synctest.Wait()
					first.must(first.Stop(context.Background()))
					second := rigOver(t, first.db, t.TempDir(), byImage())
					defer second.stop()
					out := second.settle("e", statusInService)
					if *out.EndpointConfigName != "green" || second.inService() != 2 || second.shareOf("new", 20) != 1 {
						t.Errorf("stopped after %v: %+v with %d instances", moment, out, second.inService())
					}
				})
			}
		})
	}
}

// load sends one request every millisecond and a half until stop is closed, and
// counts.
func (r *rig) load(stop <-chan struct{}) (sent *atomic.Int64, failures func() []error) {
	sent = new(atomic.Int64)
	var mu sync.Mutex
	var failed []error
	var running sync.WaitGroup
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(1500 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				running.Wait()
				return
			case <-tick.C:
			}
			sent.Add(1)
			running.Go(func() {
				if _, err := r.invoke("e"); err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
			})
		}
	}()
	return sent, func() []error {
		<-done
		return failed
	}
}

// TestNoRequestIsLostWhateverHappensToTheFleet: each change runs under a load of
// answers that take 200 ms, so that every instance that goes has some in hand.
func TestNoRequestIsLostWhateverHappensToTheFleet(t *testing.T) {
	two := func(r *rig, config string, policy *types.DeploymentConfig) {
		r.update("e", config, policy)
		r.settle("e", statusInService)
	}
	for name, change := range map[string]func(r *rig){
		"blue/green": func(r *rig) { two(r, "green", nil) },
		"canary":     func(r *rig) { two(r, "green", canaryPolicy(percent(50), 3)) },
		"rolling":    func(r *rig) { two(r, "green", rollingPolicy(count(1), nil, 1)) },
		"rollback of blue/green": func(r *rig) {
			r.update("e", "green", canaryPolicy(percent(50), 600, "x"))
			time.Sleep(10 * time.Second)
			r.must(r.SetAlarmState(r.ctx, "x", AlarmAlarm))
			r.settle("e", statusInService)
		},
		"rollback of rolling": func(r *rig) {
			r.update("e", "green", rollingPolicy(count(1), count(1), 3, "x"))
			time.Sleep(12 * time.Second)
			r.must(r.SetAlarmState(r.ctx, "x", AlarmAlarm))
			r.settle("e", statusInService)
		},
		"scale-in and out": func(r *rig) {
			for _, n := range []int32{1, 4, 2} {
				_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: &n}))
				r.must(err)
				r.settle("e", statusInService)
				time.Sleep(2 * time.Second)
			}
		},
		"delete of a variant": func(r *rig) { two(r, "two", nil); two(r, "other", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := simulated.Config{Startup: 2 * time.Second, Latency: simulated.Latency{Mean: 200 * time.Millisecond}}
				r := newRig(t, simulated.New(slow, Shape, 1))
				defer r.stop()
				v := variantOf("a", 4)
				v.RoutingConfig = &types.ProductionVariantRoutingConfig{RoutingStrategy: types.RoutingStrategyLeastOutstandingRequests}
				r.deploy("e", v)
				r.settle("e", statusInService)
				r.config("green", "e", v)
				r.config("two", "e", v, variantOf("b", 2))
				r.config("other", "e", variantOf("b", 1))
				stop := make(chan struct{})
				sent, failures := r.load(stop)
				time.Sleep(5 * time.Second)
				change(r)
				time.Sleep(5 * time.Second)
				close(stop)
				if failed := failures(); len(failed) > 0 {
					t.Errorf("%d of %d requests failed: %v", len(failed), sent.Load(), errors.Join(failed[:min(3, len(failed))]...))
				}
				if n := sent.Load(); n < 8_000 {
					t.Errorf("only %d requests", n)
				}
			})
		})
	}
}
