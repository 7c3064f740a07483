package controlplane

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

func quotaOf(name string, limit int, unit string, used, delta int) string {
	return sdkcompat.QuotaExceeded.Sentence(name, limit, unit, used, delta)
}

func TestQuotaExceededIsAWSsSentence(t *testing.T) {
	err := (&Quotas{Instances: map[string]int{"ml.g5.xlarge": 2}}).check(
		&demand{Instances: map[string]int{"ml.g5.xlarge": 1}}, new(demand), &demand{Instances: map[string]int{"ml.g5.xlarge": 3}})
	wantMessage(t, err, "ResourceLimitExceeded", "The account-level service limit 'ml.g5.xlarge for endpoint usage' is 2 Instances, "+
		"with current utilization of 1 Instances and a request delta of 3 Instances. "+
		"Please use AWS Service Quotas to request an increase for this quota. "+
		"If AWS Service Quotas is not available, contact AWS support to request an increase for this quota.")
}

func TestQuotasAreComparedOneByOne(t *testing.T) {
	n := aws.Int
	types := func(instances ...string) instanceCounts {
		counts := instanceCounts{}
		for _, name := range instances {
			counts[name]++
		}
		return counts
	}
	for _, tc := range []struct {
		name                string
		quotas              Quotas
		used, before, after demand
		want                string // empty: allowed
	}{
		{"no quota", Quotas{}, demand{}, demand{}, demand{Endpoints: 1, Instances: types("a", "a")}, ""},
		{"the last instance", Quotas{Instances: map[string]int{"a": 3}}, demand{Instances: types("a", "b")}, demand{}, demand{Instances: types("a", "a")}, ""},
		{"one too many", Quotas{Instances: map[string]int{"a": 2}}, demand{Instances: types("a")}, demand{}, demand{Instances: types("a", "a")}, quotaOf("a for endpoint usage", 2, "Instances", 1, 2)},
		{"of the default", Quotas{Instances: map[string]int{"a": 9, "default": 0}}, demand{}, demand{}, demand{Instances: types("a", "b")}, quotaOf("b for endpoint usage", 0, "Instances", 0, 1)},
		{"a named type has no default", Quotas{Instances: map[string]int{"a": 9, "default": 0}}, demand{}, demand{}, demand{Instances: types("a")}, ""},
		{"growth counts beside the endpoint's own", Quotas{Instances: map[string]int{"a": 3}}, demand{Instances: types("a", "a", "a")}, demand{Instances: types("a", "a")}, demand{Instances: types("a", "a", "a")}, quotaOf("a for endpoint usage", 3, "Instances", 3, 1)},
		{"no growth is never refused", Quotas{Instances: map[string]int{"a": 1}}, demand{Instances: types("a", "a", "a")}, demand{Instances: types("a", "a")}, demand{Instances: types("a", "a")}, ""},
		{"nor is shrinking", Quotas{Instances: map[string]int{"a": 0}, AllInstances: n(0)}, demand{Instances: types("a", "a")}, demand{Instances: types("a", "a")}, demand{Instances: types("a")}, ""},
		{"endpoints", Quotas{Endpoints: n(2)}, demand{Endpoints: 2}, demand{}, demand{Endpoints: 1}, quotaOf("Number of active endpoints", 2, "Endpoints", 2, 1)},
		{"an endpoint that is there", Quotas{Endpoints: n(1)}, demand{Endpoints: 1}, demand{Endpoints: 1}, demand{Endpoints: 1}, ""},
		{"instances of all types", Quotas{AllInstances: n(3)}, demand{Instances: types("a", "b")}, demand{}, demand{Instances: types("b", "c")}, quotaOf("Number of instances across active endpoints", 3, "Instances", 2, 2)},
		{"instances of one endpoint", Quotas{EndpointInstances: n(2)}, demand{Instances: types("a", "a", "a", "a")}, demand{Instances: types("a")}, demand{Instances: types("a", "a", "b")}, quotaOf("Maximum number of instances per endpoint", 2, "Instances", 1, 2)},
		{"others' instances do not count for an endpoint", Quotas{EndpointInstances: n(2)}, demand{Instances: types("a", "a", "a", "a")}, demand{}, demand{Instances: types("a", "a")}, ""},
		{"serverless endpoints", Quotas{ServerlessEndpoints: n(1)}, demand{Serverless: 1}, demand{}, demand{Serverless: 1}, quotaOf("Maximum number of serverless endpoints", 1, "Endpoints", 1, 1)},
		{"serverless concurrency", Quotas{ServerlessConcurrency: n(10)}, demand{Concurrency: 5}, demand{}, demand{Concurrency: 6}, quotaOf("Maximum total concurrency that can be allocated across all serverless endpoints", 10, "Invocations", 5, 6)},
		{"serverless memory", Quotas{ServerlessMemory: n(3072)}, demand{memory: 3072}, demand{}, demand{memory: 4096}, quotaOf("Memory size in MB per serverless endpoint", 3072, "MBs", 0, 4096)},
		{"serverless memory of each", Quotas{ServerlessMemory: n(3072)}, demand{memory: 3072}, demand{}, demand{memory: 3072}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.quotas.check(&tc.used, &tc.before, &tc.after)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "":
				wantMessage(t, err, "ResourceLimitExceeded", tc.want)
			}
		})
	}
}

func TestQuotasMustMakeSense(t *testing.T) {
	for want, q := range map[string]Quotas{
		"":                     {Instances: map[string]int{"ml.m5.large": 0, "default": 3}, Endpoints: aws.Int(0)},
		`"m5" is no instance`:  {Instances: map[string]int{"m5": 1}},
		"default is negative":  {Instances: map[string]int{"default": -1}},
		"endpoints is negativ": {Endpoints: aws.Int(-1)},
	} {
		if err := q.Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestDemandIsThatOfTheHeightOfAnUpdate(t *testing.T) {
	of := func(instanceType types.ProductionVariantInstanceType, count int32) deployment {
		v := variantOf("a", count)
		v.InstanceType = instanceType
		return deployment{Variants: []variant{{Config: v, Count: count}}}
	}
	batches := func(size int32) *types.DeploymentConfig {
		return &types.DeploymentConfig{RollingUpdatePolicy: &types.RollingUpdatePolicy{
			MaximumBatchSize: &types.CapacitySize{Type: types.CapacitySizeTypeInstanceCount, Value: &size},
		}}
	}
	for _, tc := range []struct {
		name string
		rec  endpointRecord
		a, b int
	}{
		{"none", endpointRecord{Deployment: of("a", 3)}, 3, 0},
		{"blue/green", endpointRecord{Deployment: of("a", 3), Update: &rollout{Target: of("a", 4)}}, 7, 0},
		{"blue/green of another type", endpointRecord{Deployment: of("a", 3), Update: &rollout{Target: of("b", 4)}}, 3, 4},
		{"blue/green at its end", endpointRecord{Deployment: of("a", 3), Update: &rollout{Target: of("a", 4), Stage: draining}}, 7, 0},
		{"rolling", endpointRecord{Deployment: of("a", 10), Update: &rollout{Target: of("a", 10), Policy: batches(2)}}, 12, 0},
		{"rolling to more", endpointRecord{Deployment: of("a", 4), Update: &rollout{Target: of("a", 8), Policy: batches(4)}}, 10, 0},
		{"rolling to another type", endpointRecord{Deployment: of("a", 4), Update: &rollout{Target: of("b", 4), Policy: batches(1), Step: 3}}, 4, 4},
		{"beside what a rollback left", endpointRecord{Deployment: of("a", 3), Leftover: &deployment{Variants: of("b", 1).Variants}}, 3, 1},
		{"failed", endpointRecord{Deployment: of("a", 3), DescribeEndpointOutput: sagemaker.DescribeEndpointOutput{EndpointStatus: statusFailed}}, 0, 0},
		{"failed, and being deleted", endpointRecord{Deployment: of("a", 3), DescribeEndpointOutput: sagemaker.DescribeEndpointOutput{EndpointStatus: statusDeleting}}, 0, 0},
		{"deleting", endpointRecord{Served: true, Deployment: of("a", 3), DescribeEndpointOutput: sagemaker.DescribeEndpointOutput{EndpointStatus: statusDeleting}}, 3, 0},
	} {
		if d := tc.rec.demand(); d.Endpoints != 1 || d.Instances["a"] != tc.a || d.Instances["b"] != tc.b {
			t.Errorf("%s: %+v, want %d of a and %d of b", tc.name, d, tc.a, tc.b)
		}
	}
	serverless := func(memory, concurrency int32) deployment {
		d := of("", 1)
		d.Variants[0].Config.ServerlessConfig = &types.ProductionVariantServerlessConfig{MemorySizeInMB: &memory, MaxConcurrency: &concurrency}
		return d
	}
	rec := endpointRecord{Deployment: serverless(2048, 20), Update: &rollout{Target: serverless(1024, 30)}}
	if d := rec.demand(); d.Serverless != 1 || d.memory != 2048 || d.Concurrency != 30 || d.Instances.sum() != 0 {
		t.Errorf("serverless: %+v", d)
	}
}

func TestQuotasHoldAtCreateScaleOutAndUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.Quotas = Quotas{Instances: map[string]int{"ml.m5.large": 4}}
		const m5 = "ml.m5.large for endpoint usage"
		r.deploy("e", variantOf("a", 3))
		r.settle("e", statusInService)
		r.config("two", "e", variantOf("a", 2))
		create := func() error {
			_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("f"), EndpointConfigName: aws.String("two")})
			return err
		}
		scale := func(count int32) error {
			_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("a"), DesiredInstanceCount: &count}))
			return err
		}
		wantMessage(t, create(), "ResourceLimitExceeded", quotaOf(m5, 4, "Instances", 3, 2))
		wantMessage(t, scale(6), "ResourceLimitExceeded", quotaOf(m5, 4, "Instances", 3, 3))
		if out := r.endpoint("e"); out.EndpointStatus != statusInService || *out.ProductionVariants[0].DesiredInstanceCount != 3 {
			t.Errorf("after a refused scale-out: %s, %d desired", out.EndpointStatus, *out.ProductionVariants[0].DesiredInstanceCount)
		}
		// Blue/green starts the new fleet beside the old one.
		_, err := r.UpdateEndpoint(r.ctx, &sagemaker.UpdateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("two")})
		wantMessage(t, err, "ResourceLimitExceeded", quotaOf(m5, 4, "Instances", 3, 2))
		r.must(scale(2))
		r.settle("e", statusInService)
		r.must(create())
		r.settle("f", statusInService)
		// Another region of the account, and another account, have their own.
		for _, scope := range []sdkcompat.Scope{{Account: home.Account, Region: "eu-west-1"}, {Account: "210987654321", Region: home.Region}} {
			away := *r
			away.ctx = WithScope(r.ctx, scope)
			away.deploy("e", variantOf("a", 4))
		}
		r.remove("f")
		r.must(scale(4))
	})
}

func TestFailedEndpointGivesItsInstancesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, byImage())
		defer r.stop()
		r.Quotas = Quotas{AllInstances: aws.Int(2)}
		r.model("broken", "broken")
		r.config("broken", "broken", variantOf("a", 2))
		_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("broken"), EndpointConfigName: aws.String("broken")})
		r.must(err)
		r.settle("broken", statusFailed)
		r.deploy("e", variantOf("a", 2))
		_, err = r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("f"), EndpointConfigName: aws.String("e")})
		var e *sdkcompat.Error
		if !errors.As(err, &e) || e.Code != "ResourceLimitExceeded" || e.Status != 400 {
			t.Errorf("a third and fourth instance: %v", err)
		}
	})
}

func TestQuotaHoldsAmongConcurrentCreatesAndDeletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.Quotas = Quotas{AllInstances: aws.Int(7)}
		r.deploy("e", variantOf("a", 1))
		r.settle("e", statusInService)
		for range 3 {
			var created, refused atomic.Int64
			var callers sync.WaitGroup
			for i := range 20 {
				callers.Go(func() {
					name := fmt.Sprint("n", i)
					_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: aws.String("e")})
					var e *sdkcompat.Error
					switch {
					case err == nil:
						created.Add(1)
					case errors.As(err, &e) && e.Code == "ResourceLimitExceeded":
						refused.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			callers.Wait()
			if created.Load() != 6 || refused.Load() != 14 {
				t.Errorf("%d endpoints created, %d refused; want 6 and 14", created.Load(), refused.Load())
			}
			agreeOnUsage(t, r)
			list, err := r.ListEndpoints(r.ctx, &sagemaker.ListEndpointsInput{NameContains: aws.String("n")})
			r.must(err)
			for _, e := range list.Endpoints {
				r.settle(*e.EndpointName, statusInService)
				callers.Go(func() {
					_, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: e.EndpointName})
					r.must(err)
				})
			}
			callers.Wait()
			agreeOnUsage(t, r)
			time.Sleep(time.Minute) // the bubble's clock; they are gone then
			agreeOnUsage(t, r)
		}
	})
}

// A start counts what the last run has left, whether that run kept count or not.
func TestQuotasAreCountedAnewAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		run := func(quotas Quotas, do func(r *rig)) {
			db, err := store.Open(store.Options{Path: path, Tables: Tables()})
			if err != nil {
				t.Fatal(err)
			}
			r := rigWith(t, db, t.TempDir(), echo(), quotas)
			defer r.stop()
			do(r)
			agreeOnUsage(t, r)
		}
		limited := Quotas{AllInstances: aws.Int(3)}
		create := func(r *rig, name string) error {
			_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: aws.String("e")})
			return err
		}
		run(limited, func(r *rig) { r.deploy("e", variantOf("a", 1)); r.must(create(r, "f")) })
		run(Quotas{}, func(r *rig) { r.must(create(r, "g")); r.must(create(r, "h")) })
		run(limited, func(r *rig) {
			wantMessage(t, create(r, "i"), "ResourceLimitExceeded", quotaOf("Number of instances across active endpoints", 3, "Instances", 4, 1))
			r.must(r.Reset(r.ctx, home.Account))
			r.deploy("e", variantOf("a", 3))
		})
	})
}

// Neither InitialInstanceCount nor CopyCount has a maximum in AWS's model, so
// callers can ask for two thousand million of each.
func TestNoEndpointOrComponentIsLargerThanTheDaemonCanBear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echo())
		defer r.stop()
		r.deployHosts("e", hostOf("v", 2, nil))
		const most = math.MaxInt32
		scale := func(count int32) error {
			_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, capacities(types.DesiredWeightAndCapacity{VariantName: aws.String("v"), DesiredInstanceCount: &count}))
			return err
		}
		wantMessage(t, scale(most), "ResourceLimitExceeded", quotaOf(instancesQuota, maxInstances, "Instances", 2, most-2))
		_, err := r.CreateInferenceComponent(r.ctx, &sagemaker.CreateInferenceComponentInput{
			InferenceComponentName: aws.String("c"), EndpointName: aws.String("e"), Specification: gpus("image", 1), RuntimeConfig: copyCount(most),
		})
		wantMessage(t, err, "ResourceLimitExceeded", quotaOf(copiesQuota, maxCopies, "Copies", 0, most))
		r.component("c", "e", gpus("image", 1), 1)
		r.settleComponent("c", componentInService)
		_, err = r.UpdateInferenceComponentRuntimeConfig(r.ctx, &sagemaker.UpdateInferenceComponentRuntimeConfigInput{
			InferenceComponentName: aws.String("c"), DesiredRuntimeConfig: copyCount(most),
		})
		wantMessage(t, err, "ResourceLimitExceeded", quotaOf(copiesQuota, maxCopies, "Copies", 1, most-1))
	})
}
