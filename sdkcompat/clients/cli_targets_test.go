package clients_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

// In these tests the Go client makes what a command, which takes about a second,
// is not needed for.

// known runs a command that an older client may not have, and skips the test there.
func (a *awsCLI) known(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, err := a.run(t, args...)
	for _, unknown := range []string{"Unknown options: ", "Invalid choice", "invalid choice", "Unknown parameter in "} {
		if err != nil && strings.Contains(errs, unknown) {
			skip(t, "this aws does not know %s: %s", strings.Join(args[:2], " "), errs)
		}
	}
	if err != nil {
		t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, errs)
	}
	return out
}

// invoke gives the answer's body, and what the client prints of its headers.
func (a *awsCLI) invoke(t *testing.T, endpoint, body string, args ...string) (got string, headers map[string]string) {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	command := append([]string{"sagemaker-runtime", "invoke-endpoint", "--endpoint-name", endpoint, "--body", "fileb://" + in, "--output", "json"}, args...)
	if err := json.Unmarshal([]byte(a.known(t, append(command, out)...)), &headers); err != nil {
		t.Fatal(err)
	}
	answer, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer), headers
}

func TestAWSCLITargetModel(t *testing.T) {
	t.Parallel()
	needProgram(t, "aws")
	c := newGoClient(sharedDaemon(t))
	// In a bucket that does not exist every model of a simulated worker is there.
	models := types.ContainerDefinition{Image: aws.String("tell-model:1"), Mode: types.ContainerModeMultiModel, ModelDataUrl: aws.String("s3://elsewhere/mme/")}
	c.serve(t, "models", models, 1)
	a := &awsCLI{c.daemon, c.account}
	if got, _ := a.invoke(t, "models", "x", "--target-model", "deep/a.tar.gz"); got != "deep/a.tar.gz x" {
		t.Errorf("got %q", got)
	}
}

func TestAWSCLISession(t *testing.T) {
	t.Parallel()
	needProgram(t, "aws")
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "chat", types.ContainerDefinition{Image: aws.String("stateful:1")}, 4)
	a := &awsCLI{c.daemon, c.account}
	home, headers := a.invoke(t, "chat", "{}", "--session-id", "NEW_SESSION")
	id, _, ok := strings.Cut(headers["NewSessionId"], "; Expires=")
	if !ok {
		t.Fatalf("got %v", headers)
	}
	for range 2 { // the worker refuses a session that it did not begin
		if got, headers := a.invoke(t, "chat", "{}", "--session-id", id); got != home || headers["NewSessionId"] != "" {
			t.Errorf("%q answers the session of %q with %v", got, home, headers)
		}
	}
	if _, headers := a.invoke(t, "chat", `{"requestType": "CLOSE"}`, "--session-id", id); headers["ClosedSessionId"] != id {
		t.Errorf("got %v", headers)
	}
	a.refused(t, "(ValidationError) when calling the InvokeEndpoint operation: Endpoint chat has no such session: ",
		"sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "chat", "--session-id", id, "--body", "eA==", filepath.Join(t.TempDir(), "out"))
}

func TestAWSCLIInferenceComponent(t *testing.T) {
	t.Parallel()
	needProgram(t, "aws")
	c := newGoClient(sharedDaemon(t))
	c.createHosts(t)
	a := &awsCLI{c.daemon, c.account}
	a.known(t, "sagemaker", "create-inference-component", "--inference-component-name", "blue", "--endpoint-name", "shared", "--variant-name", "hosts",
		"--specification", `{"Container": {"Image": "tell-blue:1"}, "ComputeResourceRequirements": {"NumberOfCpuCoresRequired": 1, "MinMemoryRequiredInMb": 512}}`,
		"--runtime-config", "CopyCount=1")
	c.awaitComponent(t, "blue")
	if out := a.sagemaker(t, "describe-inference-component", "--inference-component-name", "blue"); out["InferenceComponentStatus"] != "InService" || out["EndpointName"] != "shared" {
		t.Errorf("got %v", out)
	}
	got, headers := a.invoke(t, "shared", "12345678 x", "--inference-component-name", "blue")
	if got != "blue  x" || headers["InvokedProductionVariant"] != "hosts" {
		t.Errorf("got %q, %v", got, headers)
	}
	a.refused(t, "(ValidationError) when calling the InvokeEndpoint operation: Inference Component Name header is required ",
		"sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "shared", "--body", "eA==", filepath.Join(t.TempDir(), "out"))
}

func TestAWSCLIUpdateEndpoint(t *testing.T) {
	t.Parallel()
	needProgram(t, "aws")
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "e", types.ContainerDefinition{Image: aws.String("tell-blue:1")}, 1)
	c.createModel(t, "green", types.ContainerDefinition{Image: aws.String("tell-green:1")})
	c.createConfig(t, "green", variant("AllTraffic", "green", 2, 1))
	a := &awsCLI{c.daemon, c.account}
	var made struct{ EndpointArn string }
	answer := a.known(t, "sagemaker", "update-endpoint", "--endpoint-name", "e", "--endpoint-config-name", "green", "--retain-all-variant-properties", "--output", "json",
		"--deployment-config", `{"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}, "TerminationWaitInSeconds": 0}}`)
	if err := json.Unmarshal([]byte(answer), &made); err != nil || made.EndpointArn != c.arn("endpoint", "e") {
		t.Errorf("got %s, %v", answer, err)
	}
	c.awaitOn(t, "e", "green", "")
	a.sagemaker(t, "wait", "endpoint-in-service", "--endpoint-name", "e")
	out := a.sagemaker(t, "describe-endpoint", "--endpoint-name", "e")
	if n := len(c.instances(t, "e")); out["EndpointConfigName"] != "green" || out["LastDeploymentConfig"] == nil || n != 1 {
		t.Errorf("%d instances, got %v; want the one that was retained", n, out)
	}
	if got := c.mustInvoke(t, "e", "12345678 x"); got != "green  x" {
		t.Errorf("got %q", got)
	}
	a.refused(t, fmt.Sprintf(`(ValidationException) when calling the UpdateEndpoint operation: Could not find endpoint configuration "%s".`, c.arn("endpoint-config", "absent")),
		"sagemaker", "update-endpoint", "--endpoint-name", "e", "--endpoint-config-name", "absent")
}
