package clients_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
)

// stage is a container of several.
func stage(host, image string, environment map[string]string) types.ContainerDefinition {
	c := types.ContainerDefinition{Image: &image, Environment: environment}
	if host != "" {
		c.ContainerHostname = &host
	}
	return c
}

// several creates a model of several containers; mode may be empty.
func (c *goClient) several(t *testing.T, name string, mode types.InferenceExecutionMode, containers ...types.ContainerDefinition) {
	t.Helper()
	in := &sagemaker.CreateModelInput{
		ModelName: &name, Containers: containers,
		ExecutionRoleArn: aws.String("arn:aws:iam::" + c.account + ":role/sagemaker"),
	}
	if mode != "" {
		in.InferenceExecutionConfig = &types.InferenceExecutionConfig{Mode: mode}
	}
	if _, err := c.sm.CreateModel(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// serveSeveral makes an endpoint of such a model and waits for it.
func (c *goClient) serveSeveral(t *testing.T, name string, mode types.InferenceExecutionMode, instances int32, containers ...types.ContainerDefinition) {
	t.Helper()
	c.several(t, name, mode, containers...)
	c.createEndpoint(t, name, variant("AllTraffic", name, instances, 1))
	c.awaitInService(t, name)
}

// invokeInput sends an invocation as it is.
func (c *goClient) invokeInput(t *testing.T, in sagemakerruntime.InvokeEndpointInput) (string, error) {
	t.Helper()
	if in.ContentType == nil {
		in.ContentType = aws.String("text/plain")
	}
	out, err := c.runtime.InvokeEndpoint(t.Context(), &in)
	if err != nil {
		return "", err
	}
	return string(out.Body), nil
}

func wantValidation(t *testing.T, err error, want string) {
	t.Helper()
	if e := asError[*runtimetypes.ValidationError](t, err); e.ErrorMessage() != want {
		t.Errorf("got %q\nwant %q", e.ErrorMessage(), want)
	}
}

func TestPipelineOfProcessesGoesThroughAllContainers(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serveSeveral(t, "pipeline", types.InferenceExecutionModeSerial, 2,
		stage("", testImage, nil), stage("", echoImage, nil), stage("", testImage, nil))
	if got := c.mustInvoke(t, "pipeline", "echo echo through"); got != "through" {
		t.Errorf("got %q", got)
	}
	got, err := c.invokeInput(t, sagemakerruntime.InvokeEndpointInput{
		EndpointName: aws.String("pipeline"), ContentType: aws.String("text/csv"), Accept: aws.String("text/html"),
		CustomAttributes: aws.String("trace=1"), InferenceId: aws.String("one"), Body: []byte("echo headers"),
	})
	if want := "Content-Type=text/plain;Accept=text/html;Custom-Attributes=trace=1;Inference-Id=one;Target-Model=;"; err != nil || got != want {
		t.Errorf("the last container got %q (%v), want %q", got, err, want)
	}
	ports := map[string]bool{}
	for range 50 {
		ports[c.mustInvoke(t, "pipeline", "echo env SAGEMAKER_BIND_TO_PORT")] = true
	}
	for _, in := range c.instances(t, "pipeline") {
		addresses := strings.Split(in.Address, ", ")
		if in.Kind != "process, simulated" || len(addresses) != 3 || addresses[0] == addresses[2] || !ports[strings.TrimPrefix(addresses[2], "127.0.0.1:")] {
			t.Errorf("instance %+v; the last containers' ports are %v", in, ports)
		}
	}
	for body, want := range map[string]string{
		"status 400 no":      `Received client error (400) from container-1 with message "no". See `,
		"echo status 503 no": `Received server error (503) from container-3 with message "no". See `,
	} {
		_, err := c.invoke(t.Context(), "pipeline", body)
		if e := asError[*runtimetypes.ModelError](t, err); !strings.HasPrefix(e.ErrorMessage(), want) || aws.ToString(e.OriginalMessage) != "no" {
			t.Errorf("got %q\nwant %q", e.ErrorMessage(), want)
		}
	}
	_, err = c.invokeInput(t, sagemakerruntime.InvokeEndpointInput{EndpointName: aws.String("pipeline"), TargetContainerHostname: aws.String("container-1"), Body: []byte("pid")})
	wantValidation(t, err, "Endpoint pipeline is not a multi-container endpoint in direct mode and does not support target container hostname header.")
	if images := c.describe(t, "pipeline").ProductionVariants[0].DeployedImages; len(images) != 3 || *images[1].SpecifiedImage != echoImage {
		t.Errorf("deployed images %+v", images)
	}
}

func TestDirectModeInvokesTheTargetContainerHostname(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serveSeveral(t, "direct", types.InferenceExecutionModeDirect, 1,
		stage("first", testImage, map[string]string{"WHO": "I am the first"}), stage("second", testImage, map[string]string{"WHO": "I am the second"}))
	in := func(host *string, body string) sagemakerruntime.InvokeEndpointInput {
		return sagemakerruntime.InvokeEndpointInput{EndpointName: aws.String("direct"), TargetContainerHostname: host, Body: []byte(body)}
	}
	for _, host := range []string{"first", "second"} {
		if got, err := c.invokeInput(t, in(&host, "env WHO")); err != nil || got != "I am the "+host {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
	_, err := c.invokeInput(t, in(aws.String("second"), "status 500 no"))
	if e := asError[*runtimetypes.ModelError](t, err); !strings.HasPrefix(e.ErrorMessage(), `Received server error (500) from second with message "no". See `) {
		t.Errorf("got %q", e.ErrorMessage())
	}
	_, err = c.invokeInput(t, in(aws.String("third"), "pid"))
	wantValidation(t, err, "Endpoint direct has no container with hostname third.")
	_, err = c.invokeInput(t, in(nil, "pid"))
	e := asError[*runtimetypes.ValidationError](t, err)
	id, tail, _ := strings.Cut(strings.TrimPrefix(e.ErrorMessage(), "Request "), " ")
	if len(id) != 36 || tail != "is missing a target container hostname header." {
		t.Errorf("got %q", e.ErrorMessage())
	}
}

// A container that does not pass its ping is named, and so is its log stream.
func TestPipelineThatDoesNotStartNamesItsContainer(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.several(t, "unhealthy", "", stage("prepare", testImage, nil), stage("predict", testImage, map[string]string{"READY_FILE": "/nowhere/ready"}))
	v := variant("v1", "unhealthy", 1, 1)
	v.ContainerStartupHealthCheckTimeoutInSeconds = aws.Int32(60)
	c.createEndpoint(t, "unhealthy", v)
	out := c.awaitStatus(t, "unhealthy", types.EndpointStatusFailed)
	want := "The predict container for production variant v1 did not pass the ping health check. Please check CloudWatch logs for this endpoint."
	if aws.ToString(out.FailureReason) != want {
		t.Errorf("got %q", aws.ToString(out.FailureReason))
	}
	logs := admin[struct {
		Streams []struct {
			Stream string
			Lines  []string
		}
	}](t, c.daemon, "GET", "/endpoints/unhealthy/logs?account="+c.account, "")
	var names []string
	for _, s := range logs.Streams {
		parts := strings.Split(s.Stream, "/")
		if names = append(names, parts[len(parts)-1]); len(parts) != 3 || parts[0] != "v1" || !strings.HasPrefix(parts[1], "i-") {
			t.Errorf("stream %s", s.Stream)
		}
	}
	slices.Sort(names)
	if !slices.Equal(slices.Compact(names), []string{"predict", "prepare"}) {
		t.Errorf("streams of %v", names)
	}
}

func TestCrashedContainerOfAPipelineReplacesTheInstance(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serveSeveral(t, "fragile", "", 1, stage("", testImage, nil), stage("", testImage, nil))
	old := c.instances(t, "fragile")[0].ID
	_, err := c.invoke(t.Context(), "fragile", "echo crash")
	if e := asError[*runtimetypes.ModelError](t, err); !strings.HasPrefix(e.ErrorMessage(), "Received server error (0) from container-2 with message \"") {
		t.Errorf("got %q", e.ErrorMessage())
	}
	eventually(t, waitLimit, func() error {
		if now := c.instances(t, "fragile"); len(now) != 1 || now[0].ID == old || now[0].State != "InService" {
			return fmt.Errorf("instances %+v", now)
		}
		return nil
	})
	if got := c.mustInvoke(t, "fragile", "echo echo on"); got != "on" {
		t.Errorf("got %q", got)
	}
}

// A pipeline and a multi-model endpoint come back after kill -9, and no process
// of the killed daemon stays.
func TestSeveralContainersAndModelsComeBackAfterKill(t *testing.T) {
	t.Parallel()
	build, err := binaries.get()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(build, "several-killed")
	d := startDaemon(t, daemonOptions{dir: dir})
	c := newGoClient(d)
	c.serveSeveral(t, "pipeline", "", 2, stage("", testImage, nil), stage("", testImage, nil))
	c.serveModels(t, "models", c.models(t, "a"), 1, nil)
	c.wantModel(t, "models", "a")
	if err := d.kill(); err != nil {
		t.Fatal(err)
	}
	if err := d.workersGone(); err != nil {
		t.Fatal(err)
	}
	again := goClientOf(startDaemon(t, daemonOptions{dir: dir}), c.account)
	for _, name := range []string{"pipeline", "models"} {
		again.awaitInService(t, name)
	}
	if got := again.mustInvoke(t, "pipeline", "echo echo back"); got != "back" {
		t.Errorf("got %q", got)
	}
	again.wantModel(t, "models", "a")
	if left, err := filepath.Glob(filepath.Join(dir, "data", "instances", "*")); err != nil || len(left) != 3 {
		t.Errorf("instance directories %v, %v; want those of three", left, err)
	}
}
