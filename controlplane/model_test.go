package controlplane

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/store"
)

// step is one random operation: it runs it against the plane and tells what the
// world says the error must be; empty means success.
type step func(r *rig, w *world, src *rand.Rand) (want string, err error)

func anyName(src *rand.Rand) string { return fmt.Sprintf("n%d", src.IntN(3)) }

// steps are drawn by weight, so that every operation often succeeds and is often
// refused.
var steps = []struct {
	name   string
	weight int
	run    step
}{
	{"CreateModel", 5, createRandomModel},
	{"DeleteModel", 2, deleteRandomModel},
	{"CreateEndpointConfig", 6, createRandomConfig},
	{"DeleteEndpointConfig", 2, deleteRandomConfig},
	{"CreateEndpoint", 5, createRandomEndpoint},
	{"CreateEndpoint twice at once", 1, createOneEndpointTwice},
	{"DeleteEndpoint", 1, deleteRandomEndpoint},
	{"UpdateEndpoint", 8, updateRandomEndpoint},
	{"UpdateEndpointWeightsAndCapacities", 2, scaleRandomEndpoint},
	{"AddTags, DeleteTags", 2, tagRandomResource},
	{"time passes", 7, func(_ *rig, w *world, _ *rand.Rand) (string, error) {
		time.Sleep(30 * time.Second) // the bubble's clock; the longest update takes less
		w.pass()
		return "", nil
	}},
}

// draw picks a step by weight.
func draw(src *rand.Rand) int {
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	at := src.IntN(total)
	for i, s := range steps {
		if at -= s.weight; at < 0 {
			return i
		}
	}
	panic("weights")
}

func createRandomModel(r *rig, w *world, src *rand.Rand) (string, error) {
	name, image := anyName(src), "image"
	if src.IntN(3) == 0 {
		image = "broken"
	}
	_, err := r.CreateModel(r.ctx, &sagemaker.CreateModelInput{ModelName: &name, PrimaryContainer: &types.ContainerDefinition{Image: &image}})
	if _, exists := w.models[name]; exists {
		return existing("model", name), err
	}
	w.models[name] = image == "broken"
	w.created("model", name)
	return "", err
}

func deleteRandomModel(r *rig, w *world, src *rand.Rand) (string, error) {
	name := anyName(src)
	_, err := r.DeleteModel(r.ctx, &sagemaker.DeleteModelInput{ModelName: &name})
	if _, exists := w.models[name]; !exists {
		return missingOne("model", name), err
	}
	delete(w.models, name)
	w.deleted("model", name)
	return "", err
}

func createRandomConfig(r *rig, w *world, src *rand.Rand) (string, error) {
	name, model, count := anyName(src), anyName(src), 1+src.Int32N(3)
	v := variantOf("a", count)
	v.ModelName = &model
	_, err := r.CreateEndpointConfig(r.ctx, &sagemaker.CreateEndpointConfigInput{EndpointConfigName: &name, ProductionVariants: []types.ProductionVariant{v}})
	if _, exists := w.configs[name]; exists {
		return existing("endpoint-config", name), err
	}
	if _, exists := w.models[model]; !exists {
		return missingOne("model", model), err
	}
	w.configs[name] = worldConfig{model, count}
	w.created("endpoint-config", name)
	return "", err
}

func deleteRandomConfig(r *rig, w *world, src *rand.Rand) (string, error) {
	name := anyName(src)
	_, err := r.DeleteEndpointConfig(r.ctx, &sagemaker.DeleteEndpointConfigInput{EndpointConfigName: &name})
	if _, exists := w.configs[name]; !exists {
		return missingOne("endpoint-config", name), err
	}
	delete(w.configs, name)
	w.deleted("endpoint-config", name)
	return "", err
}

func createRandomEndpoint(r *rig, w *world, src *rand.Rand) (string, error) {
	name, config := anyName(src), anyName(src)
	_, err := r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &config})
	return w.createEndpoint(name, config), err
}

func (w *world) createEndpoint(name, config string) (want string) {
	if w.endpoints[name] != nil {
		return existing("endpoint", name)
	}
	d, want := w.takeOver(config)
	if want == "" {
		w.endpoints[name] = &worldEndpoint{config: config, status: statusCreating, pending: d}
		w.created("endpoint", name)
	}
	return want
}

// createOneEndpointTwice sends two requests at the same time: exactly one of them
// may win.
func createOneEndpointTwice(r *rig, w *world, src *rand.Rand) (string, error) {
	name, config := anyName(src), anyName(src)
	var errs [2]error
	var both sync.WaitGroup
	for i := range errs {
		both.Go(func() {
			_, errs[i] = r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &config})
		})
	}
	both.Wait()
	want := w.createEndpoint(name, config)
	if want != "" {
		wantMessage(r.t, errs[0], "ValidationException", want)
		return want, errs[1]
	}
	if errs[0] != nil {
		errs[0], errs[1] = errs[1], errs[0]
	}
	r.must(errs[0])
	return existing("endpoint", name), errs[1]
}

func deleteRandomEndpoint(r *rig, w *world, src *rand.Rand) (string, error) {
	name := anyName(src)
	_, err := r.DeleteEndpoint(r.ctx, &sagemaker.DeleteEndpointInput{EndpointName: &name})
	switch e := w.endpoints[name]; {
	case e == nil:
		return missingOne("endpoint", name), err
	case e.status != statusInService && e.status != statusFailed:
		return busyEndpoint(name), err
	}
	delete(w.endpoints, name)
	w.deleted("endpoint", name)
	return "", err
}

var randomPolicies = []*types.DeploymentConfig{
	nil, canaryPolicy(percent(50), 2), rollingPolicy(percent(50), nil, 1), canaryPolicy(percent(50), 1, "never"),
}

func updateRandomEndpoint(r *rig, w *world, src *rand.Rand) (string, error) {
	name, config, retained := anyName(src), anyName(src), src.IntN(2) == 0
	_, err := r.UpdateEndpoint(r.ctx, &sagemaker.UpdateEndpointInput{
		EndpointName: &name, EndpointConfigName: &config, RetainAllVariantProperties: &retained,
		DeploymentConfig: randomPolicies[src.IntN(len(randomPolicies))],
	})
	e := w.endpoints[name]
	switch {
	case e == nil:
		return missingOne("endpoint", name), err
	case e.status != statusInService:
		return busyEndpoint(name), err
	}
	if _, exists := w.configs[e.config]; !exists {
		return missingOne("endpoint-config", e.config), err
	}
	d, want := w.takeOver(config)
	if want != "" {
		return want, err
	}
	if retained {
		d.count, d.weight = e.desired, e.weight
	}
	e.status, e.pending, e.failed = statusUpdating, d, false
	return "", err
}

func scaleRandomEndpoint(r *rig, w *world, src *rand.Rand) (string, error) {
	name, count, weight := anyName(src), 1+src.Int32N(4), 1+float32(src.IntN(3))
	_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, &sagemaker.UpdateEndpointWeightsAndCapacitiesInput{
		EndpointName: &name,
		DesiredWeightsAndCapacities: []types.DesiredWeightAndCapacity{{
			VariantName: aws.String("a"), DesiredInstanceCount: &count, DesiredWeight: &weight,
		}},
	})
	e := w.endpoints[name]
	switch {
	case e == nil:
		return missingOne("endpoint", name), err
	case e.status != statusInService:
		return busyEndpoint(name), err
	}
	e.desired, e.weight, e.failed = count, weight, false
	if count > e.current {
		e.status = statusUpdating // until the new instances are up
	} else {
		e.current = count
	}
	return "", err
}

func tagRandomResource(r *rig, w *world, src *rand.Rand) (string, error) {
	name := anyName(src)
	resource := slices.Sorted(maps.Keys(kinds))[src.IntN(len(kinds))]
	arn := arnOf(resource, name)
	key, value := fmt.Sprint("k", src.IntN(3)), fmt.Sprint("v", src.IntN(9))
	var err error
	remove := src.IntN(3) == 0
	if remove {
		_, err = r.DeleteTags(r.ctx, &sagemaker.DeleteTagsInput{ResourceArn: &arn, TagKeys: []string{key}})
	} else {
		_, err = r.AddTags(r.ctx, &sagemaker.AddTagsInput{ResourceArn: &arn, Tags: []types.Tag{{Key: &key, Value: &value}}})
	}
	if w.tags[arn] == nil {
		return missingOne(resource, name), err
	}
	if remove {
		delete(w.tags[arn], key)
	} else {
		w.tags[arn][key] = value
	}
	return "", err
}

// TestRandomOperationsAgreeWithPlainMaps runs a thousand random sequences and
// compares every answer, and after each everything that can be described.
func TestRandomOperationsAgreeWithPlainMaps(t *testing.T) {
	const sequences, parts = 1_000, 4
	var mu sync.Mutex
	covered := map[string]int{}
	for part := range uint64(parts) {
		t.Run(fmt.Sprint("part ", part), func(t *testing.T) {
			t.Parallel()
			for seed := part; seed < sequences && !t.Failed(); seed += parts {
				synctest.Test(t, func(t *testing.T) {
					outcomes := runSequence(t, seed)
					mu.Lock()
					defer mu.Unlock()
					for outcome, n := range outcomes {
						covered[outcome] += n
					}
				})
			}
		})
	}
	t.Cleanup(func() {
		for _, s := range steps {
			for _, outcome := range []string{" done", " refused"} {
				impossible := s.name+outcome == "time passes refused" || s.name+outcome == "CreateEndpoint twice at once done"
				if n := covered[s.name+outcome]; n < 100 && !impossible && !t.Failed() {
					t.Errorf("%s%s only %d times", s.name, outcome, n)
				}
			}
		}
		if covered["failed update"] < 30 {
			t.Errorf("only %d updates failed", covered["failed update"])
		}
	})
}

// runSequence counts what came of its operations.
func runSequence(t *testing.T, seed uint64) map[string]int {
	r, w, src := newRig(t, byImage()), newWorld(), rand.New(rand.NewPCG(seed, 1))
	defer r.stop()
	r.Quotas = Quotas{AllInstances: aws.Int(1_000_000)}
	outcomes := map[string]int{}
	for n := range 60 {
		s := steps[draw(src)]
		want, err := s.run(r, w, src)
		synctest.Wait()
		if want == "" && err != nil {
			t.Fatalf("seed %d, operation %d (%s): %v", seed, n, s.name, err)
		}
		outcome := " done"
		if want != "" {
			wantMessage(t, err, "ValidationException", want)
			outcome = " refused"
		}
		agree(t, r, w)
		if t.Failed() {
			t.Fatalf("seed %d, after operation %d (%s)", seed, n, s.name)
		}
		outcomes[s.name+outcome]++
		for _, e := range w.endpoints {
			if s.name == "time passes" && e.status == statusInService && e.failed {
				outcomes["failed update"]++
			}
		}
	}
	return outcomes
}

// agree compares everything that can be asked with what the world says.
func agree(t *testing.T, r *rig, w *world) {
	t.Helper()
	for i := range 3 {
		name := fmt.Sprintf("n%d", i)
		agreeOnModel(t, r, w, name)
		agreeOnConfig(t, r, w, name)
		agreeOnEndpoint(t, r, w, name)
	}
	agreeOnTags(t, r, w)
	agreeOnLists(t, r, w)
	agreeOnUsage(t, r)
}

// agreeOnUsage: what the quotas are held against is what the records say.
func agreeOnUsage(t *testing.T, r *rig) {
	t.Helper()
	r.must(r.DB.Update(func(tx *store.Tx) error { // the first time it is counted
		got, err := usedOf(tx, store.Scope(home))
		if err != nil {
			return err
		}
		want, err := recount(tx, store.Scope(home))
		if err == nil && !got.equal(want) {
			t.Errorf("the quotas see %+v in use, the records say %+v", got, want)
		}
		return err
	}))
}

func agreeOnModel(t *testing.T, r *rig, w *world, name string) {
	t.Helper()
	out, err := r.DescribeModel(r.ctx, &sagemaker.DescribeModelInput{ModelName: &name})
	broken, exists := w.models[name]
	if !exists {
		wantMessage(t, err, "ValidationException", missingOne("model", name))
		return
	}
	if err != nil || (*out.PrimaryContainer.Image == "broken") != broken {
		t.Errorf("model %s: %+v, %v", name, out, err)
	}
}

func agreeOnConfig(t *testing.T, r *rig, w *world, name string) {
	t.Helper()
	out, err := r.DescribeEndpointConfig(r.ctx, &sagemaker.DescribeEndpointConfigInput{EndpointConfigName: &name})
	c, exists := w.configs[name]
	if !exists {
		wantMessage(t, err, "ValidationException", missingOne("endpoint-config", name))
		return
	}
	if err != nil || *out.ProductionVariants[0].ModelName != c.model || *out.ProductionVariants[0].InitialInstanceCount != c.count {
		t.Errorf("configuration %s: %+v, %v; want %+v", name, out, err, c)
	}
}

func agreeOnEndpoint(t *testing.T, r *rig, w *world, name string) {
	t.Helper()
	out, err := r.DescribeEndpoint(r.ctx, &sagemaker.DescribeEndpointInput{EndpointName: &name})
	e := w.endpoints[name]
	if e == nil {
		wantMessage(t, err, "ValidationException", missingOne("endpoint", name))
		return
	}
	if err != nil || out.EndpointStatus != e.status || *out.EndpointConfigName != e.config || (out.FailureReason != nil) != e.failed {
		t.Errorf("%s: %+v, %v; want %+v", name, out, err, e)
		return
	}
	if p := out.PendingDeploymentSummary; (p != nil) != (e.pending != nil) || p != nil && *p.EndpointConfigName != e.pending.config {
		t.Errorf("%s: pending %+v, want %+v", name, p, e.pending)
	}
	if e.status == statusCreating || e.status == statusFailed {
		if out.ProductionVariants != nil {
			t.Errorf("%s is %s with %+v", name, e.status, out.ProductionVariants)
		}
		return
	}
	v := out.ProductionVariants[0]
	if *v.CurrentInstanceCount != e.current || *v.DesiredInstanceCount != e.desired || *v.DesiredWeight != e.weight {
		t.Errorf("%s: %d of %d instances, weight %v; want %+v", name, *v.CurrentInstanceCount, *v.DesiredInstanceCount, *v.DesiredWeight, e)
	}
	if _, err := r.invoke(name); err != nil {
		t.Errorf("%s is %s and answers %v", name, e.status, err)
	}
}

func agreeOnTags(t *testing.T, r *rig, w *world) {
	t.Helper()
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
	for arn := range w.gone {
		if out, err := r.ListTags(r.ctx, &sagemaker.ListTagsInput{ResourceArn: &arn}); err == nil {
			t.Errorf("tags of %s, which was deleted: %+v", arn, out.Tags)
		}
	}
}

func agreeOnLists(t *testing.T, r *rig, w *world) {
	t.Helper()
	got := map[string][]string{}
	modelList, err := r.ListModels(r.ctx, &sagemaker.ListModelsInput{SortBy: types.ModelSortKeyName, SortOrder: types.OrderKeyAscending})
	r.must(err)
	for _, m := range modelList.Models {
		got["model"] = append(got["model"], *m.ModelName)
	}
	configList, err := r.ListEndpointConfigs(r.ctx, &sagemaker.ListEndpointConfigsInput{SortBy: types.EndpointConfigSortKeyName, SortOrder: types.OrderKeyAscending})
	r.must(err)
	for _, c := range configList.EndpointConfigs {
		got["endpoint-config"] = append(got["endpoint-config"], *c.EndpointConfigName)
	}
	endpointList, err := r.ListEndpoints(r.ctx, &sagemaker.ListEndpointsInput{SortBy: types.EndpointSortKeyName, SortOrder: types.OrderKeyAscending})
	r.must(err)
	for _, e := range endpointList.Endpoints {
		got["endpoint"] = append(got["endpoint"], *e.EndpointName)
	}
	for resource := range kinds {
		if want := w.names(resource); !slices.Equal(got[resource], want) {
			t.Errorf("the list of kind %s gives %v, want %v", resource, got[resource], want)
		}
	}
}
