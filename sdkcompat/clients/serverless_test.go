package clients_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// serverlessDaemon lets idle environments stop after a second.
func serverlessDaemon(t *testing.T) *daemon {
	t.Helper()
	dir, err := binaries.get()
	if err != nil {
		t.Fatal(err)
	}
	return limitedDaemon(t, fmt.Sprintf(`
serverless: {idle_timeout: 20s, cold_start: 4s} # 1 s and 200 ms by the tests' time scale
images:
  - image: "testmodel:*"
    process: {command: [%q]}
  - image: "slow:*"
    simulated: {startup: 6s, latency: {mean: 2s}}
  - image: "double:*"
    simulated: {answer: {template: {text: "{{.Body}}{{.Body}}"}}}
`, filepath.Join(dir, "testmodel")))
}

func serverlessVariant(model string, concurrency int32) types.ProductionVariant {
	return types.ProductionVariant{
		VariantName: aws.String("AllTraffic"), ModelName: &model,
		ServerlessConfig: &types.ProductionVariantServerlessConfig{MemorySizeInMB: aws.Int32(1024), MaxConcurrency: &concurrency},
	}
}

type serverlessView struct {
	MaxConcurrency int    `json:"max_concurrency"`
	Concurrency    int    `json:"concurrent_requests"`
	Waiting        int    `json:"waiting_requests"`
	Throttles      int    `json:"throttles"`
	Started        int    `json:"environments_started"`
	Failed         int    `json:"environments_failed"`
	ModelSetupTime string `json:"model_setup_time"`
}

// serverless is an endpoint's only variant in GET fleet.
func (c *goClient) serverless(t *testing.T, endpoint string) serverlessView {
	t.Helper()
	view := admin[struct {
		Endpoints []struct {
			Name     string
			Variants []struct{ Serverless *serverlessView }
		}
	}](t, c.daemon, "GET", "/fleet?account="+c.account, "")
	for _, e := range view.Endpoints {
		if e.Name == endpoint && e.Variants[0].Serverless != nil {
			return *e.Variants[0].Serverless
		}
	}
	t.Fatalf("%s is no serverless endpoint: %+v", endpoint, view)
	return serverlessView{}
}

func (c *goClient) awaitWaiting(t *testing.T, endpoint string, want int) {
	t.Helper()
	eventually(t, waitLimit, func() error {
		if s := c.serverless(t, endpoint); s.Waiting != want {
			return fmt.Errorf("%+v, want %d requests that wait", s, want)
		}
		return nil
	})
}

func (c *goClient) awaitZero(t *testing.T, endpoint string) {
	t.Helper()
	eventually(t, waitLimit, func() error {
		if all := c.instances(t, endpoint); len(all) > 0 {
			return fmt.Errorf("%d environments are left", len(all))
		}
		return nil
	})
}

// coldStart invokes and tells how many milliseconds the cold start took.
func (c *goClient) coldStart(ctx context.Context, endpoint, body string) (string, int, error) {
	out, err := c.runtime.InvokeEndpoint(ctx, &sagemakerruntime.InvokeEndpointInput{EndpointName: &endpoint, Body: []byte(body)})
	if err != nil {
		return "", 0, err
	}
	res, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response)
	if !ok {
		return "", 0, errors.New("no response")
	}
	ms, _ := strconv.Atoi(res.Header.Get("X-Sagelocal-Cold-Start-Ms"))
	return string(out.Body), ms, nil
}

func TestServerlessColdStartAndThrottle(t *testing.T) {
	t.Parallel()
	d := serverlessDaemon(t)
	c := newGoClient(d)
	ready := filepath.Join(t.TempDir(), "ready")
	prepared := func() {
		if err := os.WriteFile(ready, nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	prepared()
	c.createModel(t, "e", types.ContainerDefinition{Image: aws.String(testImage), Environment: map[string]string{"READY_FILE": ready}})
	c.createEndpoint(t, "e", serverlessVariant("e", 2))
	v := c.awaitInService(t, "e").ProductionVariants[0]
	if v.CurrentInstanceCount != nil || v.DesiredInstanceCount != nil || *v.CurrentServerlessConfig.MaxConcurrency != 2 || *v.DesiredServerlessConfig.MemorySizeInMB != 1024 {
		t.Errorf("%+v", v)
	}
	c.awaitZero(t, "e")
	if err := os.Remove(ready); err != nil {
		t.Fatal(err)
	}

	type answer struct {
		text string
		ms   int
		err  error
	}
	answers := make(chan answer, 2)
	for range 2 {
		go func() {
			text, ms, err := c.coldStart(t.Context(), "e", "echo hello")
			answers <- answer{text, ms, err}
		}()
	}
	c.awaitWaiting(t, "e", 2)
	_, err := c.invoke(t.Context(), "e", "echo too many")
	var api smithy.APIError
	var res *awshttp.ResponseError
	if !errors.As(err, &api) || api.ErrorCode() != "ThrottlingException" || !errors.As(err, &res) || res.HTTPStatusCode() != http.StatusBadRequest {
		t.Errorf("got %v, want ThrottlingException with status 400", err)
	}
	raw := rawRequest{method: "POST", path: "/endpoints/e/invocations", body: "echo", header: map[string]string{
		"Authorization": "AWS4-HMAC-SHA256 Credential=" + c.account + "/20260101/us-east-1/sagemaker/aws4_request, SignedHeaders=host, Signature=0",
	}}
	if res, text := raw.send(t, d); res.StatusCode != http.StatusBadRequest || strings.TrimSpace(text) != `{"message":null}` || res.Header.Get("X-Amzn-Errortype") != "ThrottlingException" {
		t.Errorf("got %d %v %s, want AWS's throttle", res.StatusCode, res.Header, text)
	}
	prepared()
	for range 2 {
		if a := <-answers; a.err != nil || a.text != "hello" || a.ms < 200 {
			t.Errorf("%+v; want a cold start of at least 200 ms", a)
		}
	}
	if text, ms, err := c.coldStart(t.Context(), "e", "echo warm"); err != nil || text != "warm" || ms != 0 {
		t.Errorf("%q after %d ms, %v; want a warm environment", text, ms, err)
	}
	if s := c.serverless(t, "e"); s.MaxConcurrency != 2 || s.Throttles != 2 || s.Started < 2 || s.Concurrency != 0 || s.ModelSetupTime == "" {
		t.Errorf("%+v", s)
	}
}

func TestServerlessColdStartThatFails(t *testing.T) {
	t.Parallel()
	c := newGoClient(serverlessDaemon(t))
	ready := filepath.Join(t.TempDir(), "ready")
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.createModel(t, "e", types.ContainerDefinition{Image: aws.String(testImage), Environment: map[string]string{"READY_FILE": ready}})
	v := serverlessVariant("e", 2)
	v.ContainerStartupHealthCheckTimeoutInSeconds = aws.Int32(60) // 3 s by the tests' time scale
	c.createEndpoint(t, "e", v)
	c.awaitInService(t, "e")
	c.awaitZero(t, "e")
	if err := os.Remove(ready); err != nil {
		t.Fatal(err)
	}
	_, err := c.invoke(t.Context(), "e", "echo hello")
	failed := asError[*runtimetypes.ModelError](t, err)
	if *failed.OriginalStatusCode != 0 || !strings.Contains(failed.ErrorMessage(), "Container primary of the serverless variant did not start") {
		t.Errorf("%d %s", *failed.OriginalStatusCode, failed.ErrorMessage())
	}
	if out := c.describe(t, "e"); out.EndpointStatus != types.EndpointStatusInService {
		t.Errorf("endpoint is %s", out.EndpointStatus)
	}
	if s := c.serverless(t, "e"); s.Failed != 1 || s.Concurrency != 0 {
		t.Errorf("%+v", s)
	}
}

func TestServerlessPayloadOverTheWire(t *testing.T) {
	t.Parallel()
	c := newGoClient(serverlessDaemon(t))
	c.createModel(t, "e", types.ContainerDefinition{Image: aws.String("double:1")})
	c.createEndpoint(t, "e", serverlessVariant("e", 2))
	c.awaitInService(t, "e")
	if out, err := c.invoke(t.Context(), "e", strings.Repeat("x", 2<<20)); err != nil || len(out) != 4<<20 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	_, err := c.invoke(t.Context(), "e", strings.Repeat("x", 2<<20+1))
	if failed := asError[*runtimetypes.ModelError](t, err); *failed.OriginalStatusCode != 0 || !strings.Contains(failed.ErrorMessage(), "larger than 4194304 bytes") {
		t.Errorf("%s", failed.ErrorMessage())
	}
	_, err = c.invoke(t.Context(), "e", strings.Repeat("x", 4<<20+1))
	wantError(t, err, "RequestEntityTooLargeException", "The request body is larger than the 4194304 bytes that a serverless variant takes.")

	stream, err := c.runtime.InvokeEndpointWithResponseStream(t.Context(), &sagemakerruntime.InvokeEndpointWithResponseStreamInput{EndpointName: aws.String("e"), Body: []byte("abc")})
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for event := range stream.GetStream().Events() {
		if part, ok := event.(*runtimetypes.ResponseStreamMemberPayloadPart); ok {
			said.Write(part.Value.Bytes)
		}
	}
	if err := stream.GetStream().Close(); err != nil || said.String() != "abcabc" {
		t.Errorf("%q, %v", said.String(), err)
	}
}

func TestServerlessUpdateConfigOverTheWire(t *testing.T) {
	t.Parallel()
	c := newGoClient(serverlessDaemon(t))
	c.createModel(t, "e", types.ContainerDefinition{Image: aws.String("double:1")})
	c.createEndpoint(t, "e", serverlessVariant("e", 2))
	c.awaitInService(t, "e")
	if err := c.scale(t, "e", types.DesiredWeightAndCapacity{
		VariantName: aws.String("AllTraffic"), ServerlessUpdateConfig: &types.ProductionVariantServerlessUpdateConfig{MaxConcurrency: aws.Int32(9), ProvisionedConcurrency: aws.Int32(3)},
	}); err != nil {
		t.Fatal(err)
	}
	v := c.awaitInService(t, "e").ProductionVariants[0]
	if *v.CurrentServerlessConfig.MaxConcurrency != 9 || *v.CurrentServerlessConfig.ProvisionedConcurrency != 3 || len(c.instances(t, "e")) != 3 {
		t.Errorf("%+v and %d environments", v.CurrentServerlessConfig, len(c.instances(t, "e")))
	}
	c.createConfig(t, "instances", variant("AllTraffic", "e", 2, 1))
	if _, err := c.sm.UpdateEndpoint(t.Context(), &sagemaker.UpdateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("instances")}); err != nil {
		t.Fatal(err)
	}
	if v := c.awaitInService(t, "e").ProductionVariants[0]; v.CurrentServerlessConfig != nil || *v.CurrentInstanceCount != 2 {
		t.Errorf("%+v", v)
	}
	if out := c.mustInvoke(t, "e", "ab"); out != "abab" {
		t.Errorf("got %q", out)
	}
}

func TestBoto3Serverless(t *testing.T) {
	t.Parallel()
	needBoto3(t)
	runJourney(t, clientEnvironment(serverlessDaemon(t), newAccount()), "python3", "boto3_serverless.py")
}
