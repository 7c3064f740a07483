package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
)

func TestEndpointIsInServiceOnlyWhenEveryInstanceAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var launched atomic.Int32
		kind := echo()
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			// The third instance takes ten seconds longer.
			if launched.Add(1) == 3 {
				time.Sleep(10 * time.Second)
			}
			return kind.Launch(ctx, spec)
		}))
		defer r.stop()
		r.deploy("e", variantOf("a", 2), variantOf("b", 1))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		out := r.endpoint("e")
		if out.EndpointStatus != statusCreating || len(out.ProductionVariants) != 0 {
			t.Fatalf("after 5 s: %s with %d variants, want Creating with none", out.EndpointStatus, len(out.ProductionVariants))
		}
		pending := out.PendingDeploymentSummary
		if pending == nil || *pending.EndpointConfigName != "e" || len(pending.ProductionVariants) != 2 {
			t.Fatalf("pending deployment %+v", pending)
		}
		current := *pending.ProductionVariants[0].CurrentInstanceCount + *pending.ProductionVariants[1].CurrentInstanceCount
		if current != 2 || pending.ProductionVariants[0].VariantStatus[0].Status != types.VariantStatusCreating {
			t.Errorf("%d instances current, want 2; status %+v", current, pending.ProductionVariants[0].VariantStatus)
		}
		if _, err := r.invoke("e"); !errors.Is(err, dataplane.ErrNoEndpoint) {
			t.Errorf("invoking it while Creating: %v, want ErrNoEndpoint", err)
		}
		out = r.settle("e", statusInService)
		if out.PendingDeploymentSummary != nil || len(out.ProductionVariants) != 2 {
			t.Fatalf("in service: %+v", out)
		}
		for i, want := range []int32{2, 1} {
			v := out.ProductionVariants[i]
			if *v.CurrentInstanceCount != want || *v.DesiredInstanceCount != want || *v.CurrentWeight != 1 || len(v.VariantStatus) != 0 {
				t.Errorf("variant %s: %d of %d instances, weight %v, status %v", *v.VariantName, *v.CurrentInstanceCount, *v.DesiredInstanceCount, *v.CurrentWeight, v.VariantStatus)
			}
		}
		if body, err := r.invoke("e"); body != "ping" || err != nil {
			t.Errorf("invoking it: %q, %v", body, err)
		}
	})
}

func TestCreateEndpointFailsWithAWSsReasonAndCanOnlyBeDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var launches atomic.Int32
		r := newRig(t, launcherFunc(func(context.Context, dataplane.Spec) (dataplane.Worker, error) {
			launches.Add(1)
			return nil, fmt.Errorf("exit status 3: %w", dataplane.ErrPing)
		}))
		defer r.stop()
		r.deploy("e", variantOf("AllTraffic", 1))
		out := r.settle("e", statusFailed)
		want := "The primary container for production variant AllTraffic did not pass the ping health check. Please check CloudWatch logs for this endpoint."
		if aws.ToString(out.FailureReason) != want || launches.Load() != maxStarts {
			t.Errorf("after %d starts: %q, want %q", launches.Load(), aws.ToString(out.FailureReason), want)
		}
		if _, err := r.invoke("e"); !errors.Is(err, dataplane.ErrNoEndpoint) {
			t.Errorf("invoking it: %v, want ErrNoEndpoint", err)
		}
		_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("AllTraffic"), DesiredWeight: aws.Float32(1)}))
		wantMessage(t, err, "ValidationException", `Cannot update in-progress endpoint "arn:aws:sagemaker:us-east-1:123456789012:endpoint/e".`)
		r.remove("e")
	})
}

func (r *rig) remove(name string) {
	r.t.Helper()
	_, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: &name})
	r.must(err)
	r.awaitGone(name)
}

func (r *rig) awaitGone(name string) {
	r.t.Helper()
	for range 1000 {
		synctest.Wait()
		if _, err := r.DescribeEndpoint(r.ctx, &sagemaker.DescribeEndpointInput{EndpointName: &name}); err != nil {
			wantMessage(r.t, err, "ValidationException", fmt.Sprintf("Could not find endpoint %q.", "arn:aws:sagemaker:us-east-1:123456789012:endpoint/"+name))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatalf("endpoint %s is still there", name)
}

func capacities(d ...types.DesiredWeightAndCapacity) *sagemaker.UpdateEndpointWeightsAndCapacitiesInput {
	return &sagemaker.UpdateEndpointWeightsAndCapacitiesInput{EndpointName: aws.String("e"), DesiredWeightsAndCapacities: d}
}

func TestUpdateEndpointWeightsAndCapacitiesChangesDesiredAtOnceAndCurrentOnCompletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 1), variantOf("b", 3))
		r.settle("e", statusInService)
		_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(
			types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(4)},
			types.DesiredWeightAndCapacity{VariantName: aws.String("b"), DesiredInstanceCount: aws.Int32(1), DesiredWeight: aws.Float32(3)},
		))
		r.must(err)
		synctest.Wait()
		out := r.endpoint("e")
		a, b := out.ProductionVariants[0], out.ProductionVariants[1]
		if out.EndpointStatus != statusUpdating || out.PendingDeploymentSummary != nil {
			t.Errorf("status %s, pending %v; want Updating without a pending deployment", out.EndpointStatus, out.PendingDeploymentSummary)
		}
		if *a.DesiredInstanceCount != 4 || *a.CurrentInstanceCount != 1 || *b.DesiredWeight != 3 || *b.CurrentWeight != 1 {
			t.Errorf("a has %d of %d instances, b weight %v of %v; want 1 of 4, 1 of 3",
				*a.CurrentInstanceCount, *a.DesiredInstanceCount, *b.CurrentWeight, *b.DesiredWeight)
		}
		if _, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: aws.String("e")}); err == nil {
			t.Error("deleted while Updating")
		}
		if body, err := r.invoke("e"); body != "ping" || err != nil {
			t.Errorf("invoking it while Updating: %q, %v", body, err)
		}
		out = r.settle("e", statusInService)
		a, b = out.ProductionVariants[0], out.ProductionVariants[1]
		if *a.CurrentInstanceCount != 4 || *b.CurrentInstanceCount != 1 || *b.CurrentWeight != 3 {
			t.Errorf("a has %d instances, b %d and weight %v; want 4, 1, 3", *a.CurrentInstanceCount, *b.CurrentInstanceCount, *b.CurrentWeight)
		}
	})
}

func TestUpdateEndpointWeightsAndCapacitiesRefusesWhatAWSRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		one := types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredWeight: aws.Float32(1)}
		other := types.DesiredWeightAndCapacity{VariantName: aws.String("z"), DesiredWeight: aws.Float32(1)}
		zero := types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(0)}
		for want, in := range map[string]*sagemaker.UpdateEndpointWeightsAndCapacitiesInput{
			`The variant name "a" was non-unique within the request.`:                              capacities(one, one),
			`The variant name(s) "z" is/are not present within endpoint configuration "e".`:        capacities(one, other),
			`DesiredInstanceCount of variant "a" must be at least 1.`:                              capacities(zero),
			`Could not find endpoint "arn:aws:sagemaker:us-east-1:123456789012:endpoint/missing".`: {EndpointName: aws.String("missing"), DesiredWeightsAndCapacities: []types.DesiredWeightAndCapacity{one}},
		} {
			_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, in)
			wantMessage(t, err, "ValidationException", want)
		}
		if s := r.endpoint("e").EndpointStatus; s != statusInService {
			t.Errorf("a refused update left the endpoint %s", s)
		}
	})
}

func TestFailedScaleOutRollsBackAndLeavesAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		kind := echo()
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			if full.Load() {
				return nil, dataplane.ErrCapacity
			}
			return kind.Launch(ctx, spec)
		}))
		defer r.stop()
		r.deploy("e", variantOf("a", 2))
		r.settle("e", statusInService)
		full.Store(true)
		_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(5)}))
		r.must(err)
		out := r.settle("e", statusInService)
		v := out.ProductionVariants[0]
		if *v.DesiredInstanceCount != 2 || *v.CurrentInstanceCount != 2 || out.FailureReason == nil {
			t.Errorf("%d of %d instances, reason %q; want 2 of 2 and a reason", *v.CurrentInstanceCount, *v.DesiredInstanceCount, aws.ToString(out.FailureReason))
		}
		full.Store(false)
		_, err = r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(3)}))
		r.must(err)
		if out = r.settle("e", statusInService); out.FailureReason != nil || *out.ProductionVariants[0].CurrentInstanceCount != 3 {
			t.Errorf("after a good update: reason %q, %d instances", aws.ToString(out.FailureReason), *out.ProductionVariants[0].CurrentInstanceCount)
		}
	})
}

func TestDeleteEndpointConfigAndModelKeepTheEndpointRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		_, err := r.DeleteEndpointConfig(r.ctx, &sagemaker.DeleteEndpointConfigInput{EndpointConfigName: aws.String("e")})
		r.must(err)
		_, err = r.DeleteModel(r.ctx, &sagemaker.DeleteModelInput{ModelName: aws.String("e")})
		r.must(err)
		_, err = r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(2)}))
		r.must(err)
		if out := r.settle("e", statusInService); *out.EndpointConfigName != "e" || *out.ProductionVariants[0].CurrentInstanceCount != 2 {
			t.Errorf("config %s, %d instances", *out.EndpointConfigName, *out.ProductionVariants[0].CurrentInstanceCount)
		}
		if body, err := r.invoke("e"); body != "ping" || err != nil {
			t.Errorf("invoking it: %q, %v", body, err)
		}
	})
}

// Whoever has DeleteEndpoint's answer can be sure, however busy the daemon is.
func TestDeleteEndpointEndsInvocationsBeforeItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("v", 1))
		for range 2 { // its name is free for one that serves
			r.settle("e", statusInService)
			if _, err := r.request("e"); err != nil {
				t.Errorf("an invocation before: %v", err)
			}
			_, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: aws.String("e")})
			r.must(err)
			if _, err := r.request("e"); !errors.Is(err, dataplane.ErrNoEndpoint) {
				t.Errorf("right after DeleteEndpoint: %v, want that there is no endpoint", err)
			}
			r.awaitGone("e")
			_, err = r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("e")})
			r.must(err)
		}
	})
}

func TestDeletedEndpointLeavesNothingAndItsNameIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deploy("e", variantOf("a", 2))
		r.settle("e", statusInService)
		r.must(r.PutResponses(r.ctx, "e", []dataplane.ResponseRule{{Body: "scripted"}}))
		if body, _ := r.invoke("e"); body != "scripted" {
			t.Fatalf("answer %q, want the scripted one", body)
		}
		arn := r.endpoint("e").EndpointArn
		_, err := r.AddTags(r.ctx, &sagemaker.AddTagsInput{ResourceArn: arn, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}})
		r.must(err)
		r.remove("e")
		if r.Fleet.Lookup(endpointKey(home, "e")) != nil {
			t.Error("the fleet still knows it")
		}
		_, err = r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("e")})
		r.must(err)
		r.settle("e", statusInService)
		if body, err := r.invoke("e"); body != "ping" || err != nil {
			t.Errorf("the new endpoint answers %q, %v", body, err)
		}
		tags, err := r.ListTags(r.ctx, &sagemaker.ListTagsInput{ResourceArn: arn})
		if err != nil || len(tags.Tags) != 0 {
			t.Errorf("the new endpoint has tags %v, %v", tags, err)
		}
	})
}

// mortal is an echo worker that dies on command.
type mortal struct {
	dataplane.Worker
	dead chan struct{}
}

func (m mortal) Done() <-chan struct{} { return m.dead }
func (m mortal) Err() error            { return errors.New("signal: killed") }

func TestCrashedInstanceIsReplacedWhileTheOthersServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kind := echo()
		dead := make(chan struct{}) // ends the first worker
		var launched atomic.Int32
		r := newRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			w, err := kind.Launch(ctx, spec)
			if err != nil {
				return nil, err
			}
			if launched.Add(1) > 1 {
				return w, nil
			}
			return mortal{w, dead}, nil
		}))
		defer r.stop()
		r.deploy("e", variantOf("a", 2))
		r.settle("e", statusInService)
		close(dead)
		synctest.Wait()
		out := r.endpoint("e")
		if out.EndpointStatus != statusInService || *out.ProductionVariants[0].CurrentInstanceCount != 1 {
			t.Fatalf("after the crash: %s with %d instances, want InService with 1", out.EndpointStatus, *out.ProductionVariants[0].CurrentInstanceCount)
		}
		for range 10 {
			if body, err := r.invoke("e"); body != "ping" || err != nil {
				t.Fatalf("invoking it: %q, %v", body, err)
			}
		}
		time.Sleep(firstBackOff + 2*time.Second)
		synctest.Wait()
		if n := *r.endpoint("e").ProductionVariants[0].CurrentInstanceCount; n != 2 {
			t.Errorf("%d instances after the back-off, want 2", n)
		}
	})
}

func TestScaleInLetsOutstandingRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, slowEcho(20*time.Second))
		defer r.stop()
		r.deploy("e", variantOf("a", 4))
		r.settle("e", statusInService)
		failed := make(chan error, 64)
		for range 64 {
			go func() {
				_, err := r.invoke("e")
				failed <- err
			}()
		}
		synctest.Wait()
		_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: aws.Int32(1)}))
		r.must(err)
		for range 64 {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
		r.settle("e", statusInService)
	})
}
