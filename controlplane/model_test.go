package controlplane

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// world is the control plane as plain maps: what every answer must agree with.
type world struct {
	models    map[string]bool
	configs   map[string]int32 // instances of the only variant
	endpoints map[string]*worldEndpoint
	tags      map[string]map[string]string // by ARN
}

type worldEndpoint struct {
	config  string
	status  types.EndpointStatus
	desired int32
	current int32
	weight  float32
}

func newWorld() *world {
	return &world{map[string]bool{}, map[string]int32{}, map[string]*worldEndpoint{}, map[string]map[string]string{}}
}

func arnOf(resource, name string) string { return sdkcompat.ARN(home, resource, name) }

func missing(what, resource, name string) string {
	return fmt.Sprintf("Could not find %s %q.", what, arnOf(resource, name))
}

func existing(what, resource, name string) string {
	return fmt.Sprintf("Cannot create already existing %s %q.", what, arnOf(resource, name))
}

// step is one random operation: it runs it against the plane and tells what the
// world says the error must be; empty means success.
type step func(r *rig, w *world, src *rand.Rand) (want string, err error)

func anyName(src *rand.Rand) string { return fmt.Sprintf("n%d", src.IntN(4)) }

var steps = []step{
	func(r *rig, w *world, src *rand.Rand) (string, error) {
		name := anyName(src)
		_, err := r.CreateModel(r.ctx, &sagemaker.CreateModelInput{ModelName: &name, PrimaryContainer: &types.ContainerDefinition{Image: aws.String("image")}})
		if w.models[name] {
			return existing("model", "model", name), err
		}
		w.models[name] = true
		return "", err
	},
	func(r *rig, w *world, src *rand.Rand) (string, error) {
		name := anyName(src)
		_, err := r.DeleteModel(r.ctx, &sagemaker.DeleteModelInput{ModelName: &name})
		if !w.models[name] {
			return missing("model", "model", name), err
		}
		delete(w.models, name)
		delete(w.tags, arnOf("model", name))
		return "", err
	},
	func(r *rig, w *world, src *rand.Rand) (string, error) {
		name, model, count := anyName(src), anyName(src), 1+src.Int32N(3)
		v := variantOf("a", count)
		v.ModelName = &model
		_, err := r.CreateEndpointConfig(r.ctx, &sagemaker.CreateEndpointConfigInput{EndpointConfigName: &name, ProductionVariants: []types.ProductionVariant{v}})
		switch _, exists := w.configs[name]; {
		case exists:
			return existing("endpoint configuration", "endpoint-config", name), err
		case !w.models[model]:
			return missing("model", "model", model), err
		}
		w.configs[name] = count
		return "", err
	},
	func(r *rig, w *world, src *rand.Rand) (string, error) {
		name := anyName(src)
		_, err := r.DeleteEndpointConfig(r.ctx, &sagemaker.DeleteEndpointConfigInput{EndpointConfigName: &name})
		if _, exists := w.configs[name]; !exists {
			return missing("endpoint configuration", "endpoint-config", name), err
		}
		delete(w.configs, name)
		delete(w.tags, arnOf("endpoint-config", name))
		return "", err
	},
	createRandomEndpoint,
	createRandomEndpoint,
	func(r *rig, w *world, src *rand.Rand) (string, error) {
		name := anyName(src)
		_, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: &name})
		switch e := w.endpoints[name]; {
		case e == nil:
			return missing("endpoint", "endpoint", name), err
		case e.status != statusInService:
			return fmt.Sprintf("Cannot update in-progress endpoint %q.", arnOf("endpoint", name)), err
		}
		delete(w.endpoints, name)
		delete(w.tags, arnOf("endpoint", name))
		return "", err
	},
	updateRandomEndpoint,
	tagRandomResource,
	func(r *rig, w *world, _ *rand.Rand) (string, error) {
		time.Sleep(3 * time.Second) // the bubble's clock; instances take two
		for _, e := range w.endpoints {
			e.status, e.current = statusInService, e.desired
		}
		return "", nil
	},
}

func createRandomEndpoint(r *rig, w *world, src *rand.Rand) (string, error) {
	name, config := anyName(src), anyName(src)
	_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &config})
	if w.endpoints[name] != nil {
		return existing("endpoint", "endpoint", name), err
	}
	count, exists := w.configs[config]
	if !exists {
		return missing("endpoint configuration", "endpoint-config", config), err
	}
	// The configuration's model may have been deleted since.
	var e *sdkcompat.Error
	if errors.As(err, &e) && strings.HasPrefix(e.Message, "Could not find model") {
		return e.Message, err
	}
	w.endpoints[name] = &worldEndpoint{config: config, status: statusCreating, desired: count, weight: 1}
	return "", err
}

func updateRandomEndpoint(r *rig, w *world, src *rand.Rand) (string, error) {
	name, count, weight := anyName(src), 1+src.Int32N(4), float32(src.IntN(3))
	_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, &sagemaker.UpdateEndpointWeightsAndCapacitiesInput{
		EndpointName: &name,
		DesiredWeightsAndCapacities: []types.DesiredWeightAndCapacity{{
			VariantName: aws.String("a"), DesiredInstanceCount: &count, DesiredWeight: &weight,
		}},
	})
	e := w.endpoints[name]
	switch {
	case e == nil:
		return missing("endpoint", "endpoint", name), err
	case e.status != statusInService:
		return fmt.Sprintf("Cannot update in-progress endpoint %q.", arnOf("endpoint", name)), err
	}
	e.desired, e.weight = count, weight
	if count > e.current {
		e.status = statusUpdating // until the new instances are up
	} else {
		e.current = count
	}
	return "", err
}

func tagRandomResource(r *rig, w *world, src *rand.Rand) (string, error) {
	name := anyName(src)
	resource := []string{"model", "endpoint-config", "endpoint"}[src.IntN(3)]
	what := map[string]string{"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}[resource]
	arn := arnOf(resource, name)
	_, isConfig := w.configs[name]
	exists := map[string]bool{"model": w.models[name], "endpoint-config": isConfig, "endpoint": w.endpoints[name] != nil}[resource]
	key, value := fmt.Sprint("k", src.IntN(3)), fmt.Sprint("v", src.IntN(9))
	var err error
	remove := src.IntN(3) == 0
	if remove {
		_, err = r.DeleteTags(r.ctx, &sagemaker.DeleteTagsInput{ResourceArn: &arn, TagKeys: []string{key}})
	} else {
		_, err = r.AddTags(r.ctx, &sagemaker.AddTagsInput{ResourceArn: &arn, Tags: []types.Tag{{Key: &key, Value: &value}}})
	}
	if !exists {
		return missing(what, resource, name), err
	}
	if w.tags[arn] == nil {
		w.tags[arn] = map[string]string{}
	}
	if remove {
		delete(w.tags[arn], key)
	} else {
		w.tags[arn][key] = value
	}
	return "", err
}

func TestRandomOperationsAgreeWithPlainMaps(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, w, src := newRig(t, echo()), newWorld(), rand.New(rand.NewPCG(seed, 1))
				defer r.stop()
				for n := range 400 {
					i := src.IntN(len(steps))
					want, err := steps[i](r, w, src)
					synctest.Wait()
					if want == "" && err != nil {
						t.Fatalf("operation %d (step %d): %v", n, i, err)
					}
					if want != "" {
						wantMessage(t, err, "ValidationException", want)
					}
					agree(t, r, w)
					if t.Failed() {
						t.Fatalf("after operation %d (step %d)", n, i)
					}
				}
			})
		})
	}
}

// agree compares everything that can be asked with what the world says.
func agree(t *testing.T, r *rig, w *world) {
	t.Helper()
	for i := range 4 {
		name := fmt.Sprintf("n%d", i)
		out, err := r.DescribeEndpoint(r.ctx, &sagemaker.DescribeEndpointInput{EndpointName: &name})
		e := w.endpoints[name]
		if e == nil {
			wantMessage(t, err, "ValidationException", missing("endpoint", "endpoint", name))
			continue
		}
		if err != nil || out.EndpointStatus != e.status || *out.EndpointConfigName != e.config {
			t.Errorf("%s: %+v, %v; want %+v", name, out, err, e)
			continue
		}
		if e.status == statusCreating {
			continue
		}
		v := out.ProductionVariants[0]
		if *v.CurrentInstanceCount != e.current || *v.DesiredInstanceCount != e.desired || *v.DesiredWeight != e.weight {
			t.Errorf("%s: %d of %d instances, weight %v; want %+v", name, *v.CurrentInstanceCount, *v.DesiredInstanceCount, *v.DesiredWeight, e)
		}
	}
	for arn, want := range w.tags {
		out, err := r.ListTags(r.ctx, &sagemaker.ListTagsInput{ResourceArn: &arn})
		got := map[string]string{}
		if err == nil {
			for _, tag := range out.Tags {
				got[*tag.Key] = *tag.Value
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("tags of %s: %v, %v; want %v", arn, got, err, want)
		}
	}
	list, err := r.ListEndpoints(r.ctx, &sagemaker.ListEndpointsInput{SortBy: types.EndpointSortKeyName, SortOrder: types.OrderKeyAscending})
	if err != nil {
		t.Error(err)
		return
	}
	var names []string
	for _, e := range list.Endpoints {
		names = append(names, *e.EndpointName)
	}
	if want := slices.Sorted(maps.Keys(w.endpoints)); !slices.Equal(names, want) {
		t.Errorf("ListEndpoints gives %v, want %v", names, want)
	}
}
