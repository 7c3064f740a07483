package clients_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
	"github.com/aws/smithy-go"
)

// faults puts faults into an endpoint that the client's account owns.
func (c *goClient) faults(t *testing.T, endpoint, script string) {
	t.Helper()
	in := rawRequest{method: "PUT", path: "/_sagelocal/endpoints/" + endpoint + "/faults?account=" + c.account, body: script}
	if resp, body := in.send(t, c.daemon); resp.StatusCode != 200 {
		t.Fatalf("PUT faults %s: %d %s", script, resp.StatusCode, body)
	}
}

func TestInjectedFaultsAreWhatTheSDKsKnow(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, daemonOptions{})
	c := newGoClient(d)
	c.serve(t, "e", echoContainer, 2)
	once := func(o *sagemakerruntime.Options) { o.Retryer = aws.NopRetryer{} }
	for code, status := range map[string]int{
		"ThrottlingException": 400, "InternalFailure": 500, "ServiceUnavailable": 503, "ModelNotReadyException": 429,
	} {
		c.faults(t, "e", `{"rules": [{"fault": "`+code+`", "times": 1}]}`)
		_, err := c.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{EndpointName: aws.String("e"), Body: []byte("x")}, once)
		var api smithy.APIError
		var http interface{ HTTPStatusCode() int }
		if !errors.As(err, &api) || api.ErrorCode() != code || !errors.As(err, &http) || http.HTTPStatusCode() != status {
			t.Errorf("%s: %v", code, err)
		}
		if out := c.mustInvoke(t, "e", "x"); out != "x" {
			t.Errorf("%s is spent, but the answer is %q", code, out)
		}
	}

	c.faults(t, "e", `{"rules": [{"fault": "ModelError", "status": 503, "body": "overloaded", "times": 1}]}`)
	_, err := c.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{EndpointName: aws.String("e"), Body: []byte("x")}, once)
	var model *types.ModelError
	if !errors.As(err, &model) || aws.ToInt32(model.OriginalStatusCode) != 503 || aws.ToString(model.OriginalMessage) != "overloaded" {
		t.Errorf("ModelError: %v", err)
	}

	// The SDK's own retries hide a throttle that lasts for two requests.
	c.faults(t, "e", `{"rules": [{"fault": "ThrottlingException", "times": 2}]}`)
	retried, err := c.runtime.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{EndpointName: aws.String("e"), Body: []byte("x")},
		func(o *sagemakerruntime.Options) { o.Retryer = retry.NewStandard() })
	if err != nil || string(retried.Body) != "x" {
		t.Errorf("after two throttles: %v", err)
	}

	c.faults(t, "e", `{"rules": [{"fault": "InstanceCrash", "times": 1}]}`)
	if _, err := c.invoke(t.Context(), "e", "x"); !errors.As(err, &model) || aws.ToInt32(model.OriginalStatusCode) != 0 {
		t.Errorf("crash: %v", err)
	}
	if out := c.mustInvoke(t, "e", "x"); out != "x" {
		t.Errorf("the other instance answers %q", out)
	}
}

func TestInjectedBreakIsAModelStreamError(t *testing.T) {
	t.Parallel()
	d := limitedDaemon(t, "images:\n  - image: \"*\"\n    simulated: {answer: {tokens: {count: 20}}}\n")
	c := newGoClient(d)
	c.serve(t, "e", echoContainer, 1)
	c.faults(t, "e", `{"rules": [{"fault": "StreamBroken", "pieces": 3, "operation": "InvokeEndpointWithResponseStream"}]}`)
	out, err := c.runtime.InvokeEndpointWithResponseStream(t.Context(), &sagemakerruntime.InvokeEndpointWithResponseStreamInput{
		EndpointName: aws.String("e"), ContentType: aws.String("application/json"), Body: []byte(`{"inputs": "x"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	pieces := 0
	for range out.GetStream().Events() {
		pieces++
	}
	var broken *types.ModelStreamError
	if err := out.GetStream().Err(); !errors.As(err, &broken) || aws.ToString(broken.ErrorCode_) != "StreamBroken" || pieces != 3 {
		t.Errorf("%d pieces, then %v; want 3 and ModelStreamError", pieces, err)
	}
	_ = out.GetStream().Close() // gives the same error again
}
