package controlplane

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
	"github.com/sagelocal/sagelocal/store"
)

// modelHolding is the simulated kind whose answers name the model and the
// instance, and whose models take three seconds to load and a GiB of memory.
func modelHolding() dataplane.Launcher {
	return simulated.New(simulated.Config{
		Startup: 2 * time.Second, Latency: simulated.Latency{Mean: time.Second, Distribution: "constant"},
		Models: simulated.Models{Load: 3 * time.Second, MemoryMiB: 1024},
		Answer: simulated.Answer{Template: &simulated.Template{Text: "{{.TargetModel}}"}},
	}, Shape, 1)
}

// multiModel creates a multi-model model.
func (r *rig) multiModel(name string, cache types.ModelCacheSetting) {
	r.t.Helper()
	_, err := r.CreateModel(r.ctx, &sagemaker.CreateModelInput{ModelName: &name, PrimaryContainer: &types.ContainerDefinition{
		Image: aws.String("image"), Mode: types.ContainerModeMultiModel, ModelDataUrl: aws.String("s3://models/mme/"),
		MultiModelConfig: &types.MultiModelConfig{ModelCacheSetting: cache},
	}})
	r.must(err)
}

func (r *rig) multiModelEndpoint(cache types.ModelCacheSetting, instances int32) {
	r.t.Helper()
	r.multiModel("e", cache)
	r.config("e", "e", variantOf("a", instances))
	_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("e")})
	r.must(err)
	r.settle("e", statusInService)
}

// models is what the instances of "e" hold, by instance.
func (r *rig) models() map[string]dataplane.ModelStatus {
	all := map[string]dataplane.ModelStatus{}
	for _, v := range r.Fleet.Lookup(endpointKey(home, "e")).Snapshot().Variants {
		for _, in := range v.Instances {
			if s := in.Status(); s.Models != nil {
				all[in.ID] = *s.Models
			}
		}
	}
	return all
}

func (r *rig) want(target string) dataplane.Route {
	r.t.Helper()
	body, route, err := r.send(&dataplane.Request{TargetModel: target, Timeout: time.Minute})
	if err != nil || body != target {
		r.t.Errorf("%s: %q, %v", target, body, err)
	}
	return route
}

func TestMultiModelEndpointLoadsOnDemandAndPrefersWhereItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, modelHolding())
		defer r.stop()
		var mu sync.Mutex
		events := map[string]int{}
		r.ModelEvents = func(e dataplane.ModelEvent) {
			mu.Lock()
			defer mu.Unlock()
			events[e.Metric+" "+e.Variant+" "+e.TargetModel]++
		}
		r.multiModelEndpoint("", 4)
		for _, s := range r.models() {
			if len(s.Loaded) != 0 {
				t.Errorf("loaded before a request: %v", s.Loaded)
			}
		}
		began := time.Now()
		first := r.want("x.tar.gz")
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("the first request took %v, want 3 s of loading and 1 s", took)
		}
		for range 10 {
			if again := r.want("x.tar.gz"); again.Instance != first.Instance {
				t.Errorf("went to %s, and %s has the model", again.Instance, first.Instance)
			}
		}
		if s := r.models()[first.Instance]; s.Hits != 10 || s.Misses != 1 || len(s.Loaded) != 1 {
			t.Errorf("status %+v", s)
		}
		for metric, want := range map[string]int{
			dataplane.ModelCacheHit: 11, dataplane.ModelLoadingTime: 1, dataplane.ModelLoadingWaitTime: 1,
		} {
			if n := events[metric+" a x.tar.gz"]; n != want {
				t.Errorf("%d of %s, want %d", n, metric, want)
			}
		}
		for target, want := range map[string]error{"": dataplane.ErrNoTargetModel, "../x": dataplane.ErrTargetModel} {
			if _, _, err := r.send(&dataplane.Request{TargetModel: target}); !errors.Is(err, want) {
				t.Errorf("%q: %v, want %v", target, err, want)
			}
		}
	})
}

func TestMultiModelEndpointSpillsUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, modelHolding())
		defer r.stop()
		r.multiModelEndpoint("", 3)
		r.want("x")
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() { r.want("x") })
		}
		all.Wait()
		for id, s := range r.models() {
			if len(s.Loaded) != 1 {
				t.Errorf("%s holds %v", id, s.Loaded)
			}
		}
	})
}

// An ml.m5.large has 8 GiB.
func TestModelsAreEvictedWhenTheInstancesMemoryIsUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, modelHolding())
		defer r.stop()
		r.multiModelEndpoint("", 1)
		for i := range 12 {
			r.want(fmt.Sprint(i))
		}
		for _, s := range r.models() {
			if len(s.Loaded) != 8 || s.Loaded[0] != "4" || s.Evictions != 4 {
				t.Errorf("status %+v", s)
			}
		}
	})
}

func TestModelCacheSettingDisabledForgetsModels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, modelHolding())
		defer r.stop()
		r.multiModelEndpoint(types.ModelCacheSettingDisabled, 1)
		r.want("x")
		r.want("x")
		synctest.Wait()
		for _, s := range r.models() {
			if len(s.Loaded) != 0 || s.Misses != 2 {
				t.Errorf("status %+v", s)
			}
		}
	})
}

// A request that waits for a load is answered though its instance is replaced
// meanwhile.
func TestUpdateEndpointWaitsForTheLoadsOfTheOldFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, modelHolding())
		defer r.stop()
		r.multiModelEndpoint("", 1)
		r.multiModel("green", types.ModelCacheSettingEnabled)
		r.config("green", "green", variantOf("a", 1))
		r.update("e", "green", nil)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { r.want("x") })
			time.Sleep(500 * time.Millisecond)
		}
		all.Wait()
		out := r.settle("e", statusInService)
		if *out.EndpointConfigName != "green" {
			t.Errorf("on %s", *out.EndpointConfigName)
		}
		if held := r.models(); len(held) != 1 {
			t.Errorf("instances %v", held)
		}
	})
}

func TestMultiModelEndpointComesBackAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		open := func() *rig {
			db, err := store.Open(store.Options{Path: path, Tables: Tables()})
			if err != nil {
				t.Fatal(err)
			}
			return rigOver(t, db, t.TempDir(), modelHolding())
		}
		r := open()
		r.multiModelEndpoint("", 1)
		r.want("x")
		r.stop()
		r = open()
		defer r.stop()
		r.settle("e", statusInService)
		r.want("x")
	})
}

// docs: multi-model-endpoints; one container of a pipeline may hold several
// models.
func TestPipelineWithAMultiModelContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, simulated.New(simulated.Config{
			Answer: simulated.Answer{Template: &simulated.Template{Text: "{{.Body}}[{{.TargetModel}}]"}},
		}, Shape, 1))
		defer r.stop()
		_, err := r.CreateModel(r.ctx, &sagemaker.CreateModelInput{ModelName: aws.String("e"), Containers: []types.ContainerDefinition{
			{Image: aws.String("image")},
			{Image: aws.String("image"), Mode: types.ContainerModeMultiModel, ModelDataUrl: aws.String("s3://models/mme/")},
		}})
		r.must(err)
		r.config("e", "e", variantOf("a", 2))
		_, err = r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("e")})
		r.must(err)
		r.settle("e", statusInService)
		body, route, err := r.send(&dataplane.Request{TargetModel: "x"})
		if err != nil || body != "[][x]" {
			t.Errorf("%q, %v", body, err)
		}
		for range 5 {
			if _, again, err := r.send(&dataplane.Request{TargetModel: "x"}); err != nil || again.Instance != route.Instance {
				t.Errorf("went to %s, and %s has the model (%v)", again.Instance, route.Instance, err)
			}
		}
		if held := r.models(); len(held[route.Instance].Loaded) != 1 {
			t.Errorf("models %v", held)
		}
	})
}

func TestVolumeIsTheInstanceTypesUnlessConfigured(t *testing.T) {
	for _, tc := range []struct {
		config types.ProductionVariant
		want   int
	}{
		{types.ProductionVariant{InstanceType: "ml.m5.large"}, defaultVolumeGiB},
		{types.ProductionVariant{InstanceType: "ml.g5.xlarge"}, 250},
		{types.ProductionVariant{InstanceType: "ml.m5.large", VolumeSizeInGB: aws.Int32(200)}, 200},
	} {
		v := variant{Config: tc.config}
		if got := v.volumeGiB(string(tc.config.InstanceType)); got != tc.want {
			t.Errorf("%+v: %d, want %d", tc.config, got, tc.want)
		}
	}
}
