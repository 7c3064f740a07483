package controlplane

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/store"
)

// shadowConfig is a configuration of one production and one shadow variant, whose
// models have their images' names.
func (r *rig) shadowConfig(name, production, shadow string, counts ...int32) {
	r.t.Helper()
	main, side := variantOf("main", counts[0]), variantOf("side", counts[1])
	main.ModelName, side.ModelName = &production, &shadow
	_, err := r.CreateEndpointConfig(r.ctx, &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: &name, ProductionVariants: []types.ProductionVariant{main}, ShadowProductionVariants: []types.ProductionVariant{side},
	})
	r.must(err)
}

func (r *rig) create(endpoint, config string) {
	r.t.Helper()
	_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &endpoint, EndpointConfigName: &config})
	r.must(err)
}

// shadowRig has an endpoint e of two instances, which one shadow instance follows.
func shadowRig(t *testing.T, launcher dataplane.Launcher) *rig {
	t.Helper()
	r := newRig(t, launcher)
	for _, image := range []string{"blue", "green", "grey", "black", "broken"} {
		r.model(image, image)
	}
	r.shadowConfig("e", "blue", "grey", 2, 1)
	r.create("e", "e")
	return r
}

func (r *rig) snapshot(name string) *dataplane.Snapshot {
	return r.Fleet.Lookup(endpointKey(home, name)).Snapshot()
}

// copies are how many copies e's shadow variant gets of n requests, all of which
// image must answer.
func (r *rig) copies(image string, n int) int64 {
	r.t.Helper()
	shadow := r.snapshot("e").Shadows[0].Shadow
	before := shadow.Status().Sent
	for range n {
		if got, err := r.invoke("e"); err != nil || got != image {
			r.t.Fatalf("answered by %q, %v; want %q", got, err, image)
		}
	}
	time.Sleep(10 * time.Millisecond) // the bubble's clock
	synctest.Wait()
	if got := shadow.Status(); got.Errors > 0 {
		r.t.Errorf("got %+v", got)
	}
	return shadow.Status().Sent - before
}

func TestShadowVariantRunsBesideTheProductionVariantAndAnswersNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := shadowRig(t, byImage())
		defer r.stop()
		synctest.Wait()
		p := r.endpoint("e").PendingDeploymentSummary
		if len(p.ProductionVariants) != 1 || len(p.ShadowProductionVariants) != 1 || *p.ShadowProductionVariants[0].VariantName != "side" {
			t.Errorf("while Creating: %+v", p)
		}
		out := r.settle("e", statusInService)
		if len(out.ProductionVariants) != 1 || len(out.ShadowProductionVariants) != 1 {
			t.Fatalf("got %+v", out)
		}
		v := out.ShadowProductionVariants[0]
		if *v.VariantName != "side" || *v.CurrentInstanceCount != 1 || *v.DesiredInstanceCount != 1 || *v.CurrentWeight != 1 || *v.DeployedImages[0].SpecifiedImage != "grey" {
			t.Errorf("got %+v", v)
		}
		if got := r.copies("blue", 20); got != 20 {
			t.Errorf("%d of 20 requests were copied", got)
		}
		_, err := r.Fleet.Invoke(t.Context(), endpointKey(home, "e"), &dataplane.Request{TargetVariant: "side"}, new(dataplane.Answer))
		if !errors.Is(err, dataplane.ErrNoVariant) {
			t.Errorf("TargetVariant of a shadow variant: %v", err)
		}
		r.remove("e")
	})
}

func TestUpdateEndpointWeightsAndCapacitiesActsOnShadowVariants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := shadowRig(t, byImage())
		defer r.stop()
		r.settle("e", statusInService)
		_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{
			VariantName: aws.String("side"), DesiredInstanceCount: aws.Int32(3), DesiredWeight: aws.Float32(0.25),
		}))
		r.must(err)
		if v := r.endpoint("e").ShadowProductionVariants[0]; *v.DesiredInstanceCount != 3 || *v.CurrentInstanceCount != 1 || *v.CurrentWeight != 1 {
			t.Errorf("while Updating: %+v", v)
		}
		if v := r.settle("e", statusInService).ShadowProductionVariants[0]; *v.CurrentInstanceCount != 3 || *v.CurrentWeight != 0.25 {
			t.Errorf("got %+v", v)
		}
		if got := r.copies("blue", 1000); got < 200 || got > 300 {
			t.Errorf("%d of 1000 requests were copied, want a quarter", got)
		}
		_, err = r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("side"), DesiredWeight: aws.Float32(0)}))
		r.must(err)
		r.settle("e", statusInService)
		if got := r.copies("blue", 50); got != 0 {
			t.Errorf("%d requests were copied to a shadow variant of weight 0", got)
		}
	})
}

func TestShadowRateIsTheRatioOfTheWeights(t *testing.T) {
	for _, c := range []struct {
		production, shadow float32
		want               float64
	}{{1, 1, 1}, {1, 2, 1}, {2, 1, 0.5}, {1, 0, 0}, {0, 1, 1}, {0, 0, 0}} {
		if got := shadowRate(c.production, c.shadow); got != c.want {
			t.Errorf("%v to %v: got %v, want %v", c.shadow, c.production, got, c.want)
		}
	}
}

func TestUpdatesCarryShadowVariants(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy *types.DeploymentConfig
	}{
		{"all at once", nil},
		{"canary", canaryPolicy(percent(50), 60)},
		// The shadow variant has more instances than there are batches.
		{"rolling", rollingPolicy(&types.CapacitySize{Type: types.CapacitySizeTypeInstanceCount, Value: aws.Int32(1)}, nil, 60)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := shadowRig(t, byImage())
				defer r.stop()
				r.settle("e", statusInService)
				r.shadowConfig("next", "green", "black", 2, 5)
				r.update("e", "next", test.policy)
				for r.endpoint("e").EndpointStatus == statusUpdating {
					synctest.Wait()
					up := 0
					for _, v := range r.snapshot("e").Shadows {
						for _, in := range v.Instances {
							if in.State() == dataplane.InService {
								up++
							}
						}
					}
					if up == 0 {
						t.Fatal("no shadow instance is in service")
					}
					if _, err := r.invoke("e"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(200 * time.Millisecond) // the bubble's clock
				}
				out := r.settle("e", statusInService)
				v := out.ShadowProductionVariants[0]
				if *out.EndpointConfigName != "next" || *v.CurrentInstanceCount != 5 || *v.DeployedImages[0].SpecifiedImage != "black" || len(r.snapshot("e").Shadows) != 1 {
					t.Errorf("got %+v", v)
				}
				if got := r.copies("green", 10); got != 10 {
					t.Errorf("%d of 10 requests were copied", got)
				}
			})
		})
	}
}

func TestFailedUpdateLeavesTheShadowVariantAsItWas(t *testing.T) {
	for _, policy := range []*types.DeploymentConfig{nil, rollingPolicy(percent(50), nil, 60)} {
		synctest.Test(t, func(t *testing.T) {
			r := shadowRig(t, byImage())
			defer r.stop()
			r.settle("e", statusInService)
			r.shadowConfig("next", "green", "broken", 2, 2)
			r.update("e", "next", policy)
			out := r.settle("e", statusInService)
			if *out.EndpointConfigName != "e" || !strings.Contains(aws.ToString(out.FailureReason), "side") {
				t.Errorf("got %+v", out)
			}
			if v := out.ShadowProductionVariants[0]; *v.CurrentInstanceCount != 1 || *v.DeployedImages[0].SpecifiedImage != "grey" {
				t.Errorf("got %+v", v)
			}
			if got := r.copies("blue", 10); got != 10 {
				t.Errorf("%d of 10 requests were copied", got)
			}
		})
	}
}

func TestShadowVariantMayComeAndGoWithAnUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := shadowRig(t, byImage())
		defer r.stop()
		r.settle("e", statusInService)
		r.config("plain", "green", variantOf("main", 1))
		r.update("e", "plain", canaryPolicy(percent(50), 10)) // the production variants keep their names
		if out := r.settle("e", statusInService); len(out.ShadowProductionVariants) != 0 || len(r.snapshot("e").Shadows) != 0 {
			t.Errorf("got %+v", out.ShadowProductionVariants)
		}
		if p := r.snapshot("e").Variants[0].Pool; p.Tap() != nil {
			t.Errorf("the pool copies to %+v", p.Tap())
		}
		r.update("e", "e", nil)
		r.settle("e", statusInService)
		if got := r.copies("blue", 5); got != 5 {
			t.Errorf("%d of 5 requests were copied", got)
		}
	})
}

func TestShadowVariantReturnsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(store.Options{InMemory: true, Tables: Tables()})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		first := rigOver(t, db, dir, byImage())
		first.model("blue", "blue")
		first.model("grey", "grey")
		first.shadowConfig("e", "blue", "grey", 1, 1)
		first.create("e", "e")
		first.settle("e", statusInService)
		first.must(first.Stop(context.Background()))
		r := rigOver(t, db, dir, byImage())
		defer r.stop()
		r.settle("e", statusInService)
		if got := r.copies("blue", 5); got != 5 {
			t.Errorf("%d of 5 requests were copied", got)
		}
	})
}

func TestDeleteEndpointDoesNotWaitForTheShadowVariantsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast, slow := echo(), slowEcho(50*time.Second)
		r := shadowRig(t, launcherFunc(func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
			if spec.Variant == "side" {
				return slow.Launch(ctx, spec)
			}
			return fast.Launch(ctx, spec)
		}))
		defer r.stop()
		r.settle("e", statusInService)
		began := time.Now()
		for range 10 {
			if _, err := r.invoke("e"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Millisecond) // the bubble's clock
		synctest.Wait()
		r.remove("e")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestShadowInstancesCountForTheQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.Quotas.EndpointInstances = aws.Int(2)
		r.model("blue", "blue")
		r.shadowConfig("e", "blue", "blue", 2, 1)
		_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("e")})
		if err == nil || !strings.Contains(err.Error(), "ResourceLimitExceeded") {
			t.Errorf("got %v", err)
		}
	})
}

// captureBucket counts the lines of what is put into it, by variant.
type captureBucket struct {
	mu    sync.Mutex
	lines map[string]int
}

func (b *captureBucket) PutObject(_ context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// capture/e/main/2000/...
	b.lines[strings.Split(*in.Key, "/")[2]] += strings.Count(string(body), "\n")
	return &s3.PutObjectOutput{}, nil
}

func (b *captureBucket) of(variant string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines[variant]
}

// captureRig has an endpoint e that captures everything, shadow variant included.
func captureRig(t *testing.T, enabled *bool) (*rig, *captureBucket) {
	t.Helper()
	r, b := newRig(t, byImage()), &captureBucket{lines: map[string]int{}}
	r.Captures.S3 = func(string) dataplane.ObjectPutter { return b }
	r.model("blue", "blue")
	main, side := variantOf("main", 1), variantOf("side", 1)
	main.ModelName, side.ModelName = aws.String("blue"), aws.String("blue")
	_, err := r.CreateEndpointConfig(r.ctx, &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: aws.String("e"), ProductionVariants: []types.ProductionVariant{main}, ShadowProductionVariants: []types.ProductionVariant{side},
		DataCaptureConfig: &types.DataCaptureConfig{
			EnableCapture: enabled, InitialSamplingPercentage: aws.Int32(100), DestinationS3Uri: aws.String("s3://data/capture"),
			CaptureOptions: []types.CaptureOption{{CaptureMode: types.CaptureModeInputAndOutput}},
		},
	})
	r.must(err)
	r.create("e", "e")
	if got := r.endpoint("e").DataCaptureConfig.CaptureStatus; got != types.CaptureStatusStopped {
		t.Errorf("while Creating it is %s", got)
	}
	r.settle("e", statusInService)
	return r, b
}

func TestDataCaptureIsWrittenWhenTheEndpointChangesOrGoes(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(r *rig)
	}{
		{"update", func(r *rig) {
			r.config("plain", "blue", variantOf("main", 1))
			r.update("e", "plain", nil)
			if out := r.settle("e", statusInService); out.DataCaptureConfig != nil {
				r.t.Errorf("got %+v", out.DataCaptureConfig)
			}
		}},
		{"delete", func(r *rig) { r.remove("e") }},
		{"stop", func(r *rig) { r.must(r.Stop(context.Background())) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, b := captureRig(t, nil)
				defer r.stop()
				if got := r.endpoint("e").DataCaptureConfig; got.CaptureStatus != types.CaptureStatusStarted || !*got.EnableCapture || *got.CurrentSamplingPercentage != 100 {
					t.Errorf("got %+v", got)
				}
				for range 7 {
					if _, err := r.invoke("e"); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(10 * time.Millisecond) // the bubble's clock
				synctest.Wait()
				if got := b.of("main"); got != 0 {
					t.Errorf("%d records are written at once", got)
				}
				test.end(r)
				synctest.Wait()
				if main, side := b.of("main"), b.of("side"); main != 7 || side != 7 {
					t.Errorf("%d records of the production and %d of the shadow variant, want 7 of each", main, side)
				}
			})
		})
	}
}

func TestDataCaptureThatIsNotEnabledIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, b := captureRig(t, aws.Bool(false))
		if got := r.endpoint("e").DataCaptureConfig; got.CaptureStatus != types.CaptureStatusStopped || *got.EnableCapture {
			t.Errorf("got %+v", got)
		}
		if _, err := r.invoke("e"); err != nil {
			t.Error(err)
		}
		r.stop()
		if got := b.of("main"); got != 0 {
			t.Errorf("%d records", got)
		}
	})
}
