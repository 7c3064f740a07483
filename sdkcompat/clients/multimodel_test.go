package clients_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"

	"github.com/sagelocal/sagelocal/dataplane"
)

// models puts archives NAME.tar.gz of the test model into a bucket of the
// embedded S3 and returns their prefix. Each has its name in a file.
func (c *goClient) models(t *testing.T, names ...string) (prefix string) {
	t.Helper()
	client, bucket := c.s3Client(t)
	for _, name := range names {
		upload(t, client, bucket, "mme/"+name+".tar.gz", tarGz(t, map[string]string{"name": "model " + name}))
	}
	return "s3://" + bucket + "/mme/"
}

func modelsContainer(prefix string, environment map[string]string) types.ContainerDefinition {
	return types.ContainerDefinition{
		Image: aws.String(testImage), Mode: types.ContainerModeMultiModel, ModelDataUrl: &prefix, Environment: environment,
	}
}

func (c *goClient) serveModels(t *testing.T, name, prefix string, instances int32, environment map[string]string) {
	t.Helper()
	c.serve(t, name, modelsContainer(prefix, environment), instances)
}

func (c *goClient) askModel(t *testing.T, endpoint, model, body string) (string, error) {
	t.Helper()
	return c.invokeInput(t, sagemakerruntime.InvokeEndpointInput{EndpointName: &endpoint, TargetModel: &model, Body: []byte(body)})
}

func (c *goClient) wantModel(t *testing.T, endpoint, name string) {
	t.Helper()
	if got, err := c.askModel(t, endpoint, name+".tar.gz", "read name"); err != nil || got != "model "+name {
		t.Errorf("%s: %q, %v", name, got, err)
	}
}

// held is what the instances of an endpoint hold, as GET fleet shows it.
func (c *goClient) held(t *testing.T, endpoint string) []dataplane.ModelStatus {
	t.Helper()
	view := admin[struct {
		Endpoints []struct {
			Name     string
			Variants []struct{ Instances []dataplane.InstanceStatus }
		}
	}](t, c.daemon, "GET", "/fleet?account="+c.account, "")
	var all []dataplane.ModelStatus
	for _, e := range view.Endpoints {
		if e.Name != endpoint {
			continue
		}
		for _, in := range e.Variants[0].Instances {
			if in.Models == nil {
				t.Fatalf("instance %+v holds no models", in)
			}
			all = append(all, *in.Models)
		}
	}
	return all
}

func TestMultiModelEndpointLoadsModelsOnDemand(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	prefix := c.models(t, "a", "b", "c", "deep/er")
	c.serveModels(t, "mme", prefix, 1, map[string]string{"MODELS_ROOM": "2", "SAGEMAKER_MULTI_MODEL": "false"})
	if held := c.held(t, "mme"); len(held) != 1 || len(held[0].Loaded) != 0 {
		t.Errorf("loaded at the start: %+v", held)
	}
	for _, name := range []string{"a", "b", "a", "c", "deep/er", "a"} {
		c.wantModel(t, "mme", name)
	}
	held := c.held(t, "mme")[0]
	if !slices.Equal(held.Loaded, []string{"deep/er.tar.gz", "a.tar.gz"}) || held.Hits != 1 || held.Misses != 5 || held.Evictions != 3 || held.OnDisk != 4 {
		t.Errorf("holds %+v", held)
	}
	got, err := c.askModel(t, "mme", "a.tar.gz", "headers")
	if want := "Content-Type=text/plain;Accept=;Custom-Attributes=;Inference-Id=;Target-Model=a.tar.gz;"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if got, err := c.askModel(t, "mme", "a.tar.gz", "env SAGEMAKER_MULTI_MODEL"); err != nil || got != "true" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = c.askModel(t, "mme", "a.tar.gz", "status 404 no such row")
	if e := asError[*runtimetypes.ModelError](t, err); aws.ToInt32(e.OriginalStatusCode) != 404 || aws.ToString(e.OriginalMessage) != "no such row" {
		t.Errorf("got %v", e)
	}
}

func TestModelsThatCannotBeHadAreAWSsErrors(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	client, bucket := c.s3Client(t)
	prefix := "s3://" + bucket + "/mme"
	upload(t, client, bucket, "mme/refused.tar.gz", tarGz(t, map[string]string{"refuse": "500 corrupt"}))
	upload(t, client, bucket, "mme/large.tar.gz", tarGz(t, map[string]string{"refuse": "507 too large"}))
	upload(t, client, bucket, "mme/garbage.tar.gz", bytes.Repeat([]byte("garbage "), 100))
	upload(t, client, bucket, "other.tar.gz", tarGz(t, map[string]string{"name": "model other"}))
	c.serveModels(t, "errors", prefix, 1, nil)

	_, err := c.askModel(t, "errors", "absent.tar.gz", "x")
	wantValidation(t, err, "Failed to download model data (bucket: "+bucket+", key: mme/absent.tar.gz). Please ensure that there is an object located at the URL "+
		"and that the role passed to CreateModel has permissions to download the object (no such object in the bucket).")
	_, err = c.askModel(t, "errors", "garbage.tar.gz", "x")
	if e := asError[*runtimetypes.ValidationError](t, err); !strings.Contains(e.ErrorMessage(), "not in gzip format") {
		t.Errorf("got %q", e.ErrorMessage())
	}
	_, err = c.askModel(t, "errors", "../other.tar.gz", "x")
	wantValidation(t, err, "TargetModel ../other.tar.gz is not a path below the ModelDataUrl of endpoint errors.")
	_, err = c.invoke(t.Context(), "errors", "x")
	e := asError[*runtimetypes.ValidationError](t, err)
	id, tail, _ := strings.Cut(strings.TrimPrefix(e.ErrorMessage(), "Request "), " ")
	if len(id) != 36 || tail != "is missing a target model header." {
		t.Errorf("got %q", e.ErrorMessage())
	}
	for model, status := range map[string]int32{"refused.tar.gz": 500, "large.tar.gz": 507} {
		_, err := c.askModel(t, "errors", model, "x")
		if e := asError[*runtimetypes.ModelError](t, err); aws.ToInt32(e.OriginalStatusCode) != status ||
			!strings.HasPrefix(e.ErrorMessage(), fmt.Sprintf("Received server error (%d) from primary with message ", status)) {
			t.Errorf("%s: %q", model, e.ErrorMessage())
		}
	}
	if held := c.held(t, "errors")[0]; len(held.Loaded) != 0 || held.OnDisk != 0 {
		t.Errorf("holds %+v", held)
	}
}

// All that ask while a model is being loaded are answered by the one load.
func TestRequestsForOneModelShareItsLoad(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	client, bucket := c.s3Client(t)
	path := filepath.Join(t.TempDir(), "go")
	upload(t, client, bucket, "mme/slow.tar.gz", tarGz(t, map[string]string{"name": "model slow", "wait": path}))
	c.serveModels(t, "slow", "s3://"+bucket+"/mme/", 3, nil)
	var all sync.WaitGroup
	for range 4 { // a fifth would go to another instance
		all.Go(func() { c.wantModel(t, "slow", "slow") })
	}
	c.inFlight(t, "slow", 4)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	loaded := 0
	for _, held := range c.held(t, "slow") {
		loaded += len(held.Loaded)
	}
	if loaded != 1 {
		t.Errorf("loaded on %d instances, want one", loaded)
	}
}

func TestUpdateEndpointOfAMultiModelEndpointLosesNoRequest(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	names := []string{"a", "b", "c", "d"}
	prefix := c.models(t, names...)
	c.serveModels(t, "moving", prefix, 2, map[string]string{"MODELS_ROOM": "2"})
	c.createModel(t, "moved", modelsContainer(prefix, nil))
	_, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: aws.String("moved"), ProductionVariants: []types.ProductionVariant{variant("AllTraffic", "moved", 2, 1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					c.wantModel(t, "moving", name)
				}
			}
		})
	}
	if _, err := c.sm.UpdateEndpoint(t.Context(), &sagemaker.UpdateEndpointInput{EndpointName: aws.String("moving"), EndpointConfigName: aws.String("moved")}); err != nil {
		t.Error(err)
	}
	out := c.awaitInService(t, "moving")
	close(stop)
	all.Wait()
	if *out.EndpointConfigName != "moved" {
		t.Errorf("on %s", *out.EndpointConfigName)
	}
}

func TestModelCacheSettingDisabledUnloadsAfterUse(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	container := modelsContainer(c.models(t, "a"), nil)
	container.MultiModelConfig = &types.MultiModelConfig{ModelCacheSetting: types.ModelCacheSettingDisabled}
	c.serve(t, "forgetful", container, 1)
	c.wantModel(t, "forgetful", "a")
	c.wantModel(t, "forgetful", "a")
	eventually(t, waitLimit, func() error {
		if held := c.held(t, "forgetful")[0]; len(held.Loaded) != 0 || held.Misses != 2 {
			return fmt.Errorf("holds %+v", held)
		}
		return nil
	})
}
