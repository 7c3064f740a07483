package clients_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// awsCLI runs the AWS command line client as somebody at a shell would.
type awsCLI struct {
	daemon  *daemon
	account string
}

func (a *awsCLI) run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	// Before 1.29 and 2.13 it does not read the endpoint from the environment.
	cmd := exec.CommandContext(t.Context(), "aws", append(args, "--endpoint-url", a.daemon.URL)...)
	cmd.Env = clientEnvironment(a.daemon, a.account)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// sagemaker runs a command of the control plane that must succeed and gives its
// JSON, which is nil for commands without an answer.
func (a *awsCLI) sagemaker(t *testing.T, args ...string) (answer map[string]any) {
	t.Helper()
	out, errs, err := a.run(t, append([]string{"sagemaker"}, args...)...)
	if err != nil {
		t.Fatalf("aws sagemaker %s: %v\n%s", strings.Join(args, " "), err, errs)
	}
	if out != "" {
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatalf("aws sagemaker %s: %v in %s", strings.Join(args, " "), err, out)
		}
	}
	return answer
}

func (a *awsCLI) refused(t *testing.T, want string, args ...string) {
	t.Helper()
	out, errs, err := a.run(t, args...)
	if err == nil || !strings.Contains(errs, want) {
		t.Errorf("aws %s: %v\n%s%s\nwant %q", strings.Join(args, " "), err, out, errs, want)
	}
}

func (a *awsCLI) awaitInService(t *testing.T) (out map[string]any) {
	t.Helper()
	eventually(t, waitLimit, func() error {
		if out = a.sagemaker(t, "describe-endpoint", "--endpoint-name", "iris"); out["EndpointStatus"] != "InService" {
			return fmt.Errorf("got %v", out)
		}
		return nil
	})
	// It describes first, and would wait for 30 s only if that did not suffice.
	a.sagemaker(t, "wait", "endpoint-in-service", "--endpoint-name", "iris")
	return out
}

func TestAWSCLIJourney(t *testing.T) {
	t.Parallel()
	needProgram(t, "aws")
	a := &awsCLI{sharedDaemon(t), newAccount()}
	arn := "arn:aws:sagemaker:us-east-1:" + a.account + ":endpoint/iris"
	begun := time.Now().Add(-time.Second)
	model := []string{"create-model", "--model-name", "iris", "--execution-role-arn", "arn:aws:iam::" + a.account + ":role/sagemaker", "--primary-container", "Image=" + irisImage + ",ModelDataUrl=" + irisData}
	a.sagemaker(t, model...)
	a.createConfig(t)
	if out := a.sagemaker(t, "create-endpoint", "--endpoint-name", "iris", "--endpoint-config-name", "iris"); out["EndpointArn"] != arn {
		t.Errorf("got %v", out)
	}
	out := a.awaitInService(t)
	created, err := parseCLITime(out["CreationTime"])
	if err != nil || created.Before(begun) || created.After(time.Now().Add(time.Second)) {
		t.Errorf("got CreationTime %v, %v", out["CreationTime"], err)
	}
	if variants, ok := out["ProductionVariants"].([]any); !ok || len(variants) != 2 || variants[0].(map[string]any)["CurrentInstanceCount"] != 3.0 {
		t.Errorf("got %v", out)
	}
	t.Run("invoke", a.checkInvocations)
	a.sagemaker(t, "update-endpoint-weights-and-capacities", "--endpoint-name", "iris",
		"--desired-weights-and-capacities", "VariantName=blue,DesiredInstanceCount=1,DesiredWeight=0", "VariantName=green,DesiredWeight=1")
	if blue := a.awaitInService(t)["ProductionVariants"].([]any)[0].(map[string]any); blue["CurrentInstanceCount"] != 1.0 || blue["CurrentWeight"] != 0.0 {
		t.Errorf("got %v", blue)
	}
	t.Run("tags", func(t *testing.T) { a.checkTags(t, arn) })
	t.Run("lists", a.checkLists)
	a.refused(t, `(ValidationException) when calling the CreateModel operation: Cannot create already existing model "`, append([]string{"sagemaker"}, model...)...)
	a.refused(t, "1 validation error detected: Value '-bad-' at 'endpointName' failed to satisfy constraint: Member must satisfy regular expression pattern: ",
		"sagemaker", "describe-endpoint", "--endpoint-name=-bad-")
	a.sagemaker(t, "delete-endpoint", "--endpoint-name", "iris")
	eventually(t, waitLimit, func() error {
		if out := a.sagemaker(t, "list-endpoints"); len(out["Endpoints"].([]any)) > 0 {
			return fmt.Errorf("got %v", out)
		}
		return nil
	})
	a.sagemaker(t, "wait", "endpoint-deleted", "--endpoint-name", "iris")
	a.refused(t, `(ValidationException) when calling the DescribeEndpoint operation: Could not find endpoint "`+arn+`".`, "sagemaker", "describe-endpoint", "--endpoint-name", "iris")
	a.sagemaker(t, "delete-endpoint-config", "--endpoint-config-name", "iris")
	a.sagemaker(t, "delete-model", "--model-name", "iris")
}

// parseCLITime reads the two ways in which versions 1 and 2 print a moment.
func parseCLITime(v any) (time.Time, error) {
	if seconds, ok := v.(float64); ok {
		return time.UnixMilli(int64(seconds * 1000)), nil
	}
	return time.Parse(time.RFC3339Nano, fmt.Sprint(v))
}

// createConfig does without RoutingConfig in a client that is too old for it.
func (a *awsCLI) createConfig(t *testing.T) {
	t.Helper()
	const routing = `, "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}`
	variants := `[{"VariantName": "blue", "ModelName": "iris", "InstanceType": "ml.m5.large", "InitialInstanceCount": 3` + routing + `},
		{"VariantName": "green", "ModelName": "iris", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1, "InitialVariantWeight": 0` + routing + `}]`
	args := []string{"create-endpoint-config", "--endpoint-config-name", "iris", "--production-variants"}
	_, errs, err := a.run(t, append(append([]string{"sagemaker"}, args...), variants)...)
	if err != nil && strings.Contains(errs, `Unknown parameter in ProductionVariants[0]: "RoutingConfig"`) {
		a.sagemaker(t, append(args, strings.ReplaceAll(variants, routing, ""))...)
	} else if err != nil {
		t.Fatal(errs)
	}
}

func (a *awsCLI) checkInvocations(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	for _, test := range []struct{ contentType, accept, body, want string }{
		{"text/csv", "text/csv", "5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n", "setosa\nvirginica\n"},
		{"application/json", "application/json", `{"instances": [[5.9, 3.0, 4.2, 1.5]]}`, `{"predictions":[{"label":"versicolor"`},
	} {
		if err := os.WriteFile(in, []byte(test.body), 0o600); err != nil {
			t.Fatal(err)
		}
		answer, errs, err := a.run(t, "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "iris", "--content-type", test.contentType,
			"--accept", test.accept, "--body", "fileb://"+in, "--target-variant", "green", out)
		if err != nil {
			t.Fatal(errs)
		}
		got, err := os.ReadFile(out)
		if err != nil || !strings.HasPrefix(string(got), test.want) {
			t.Errorf("got %q, %v, want %q", got, err, test.want)
		}
		if !strings.Contains(answer, `"InvokedProductionVariant": "green"`) {
			t.Errorf("got %s", answer)
		}
	}
	if err := os.WriteFile(in, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.refused(t, `(ModelError) when calling the InvokeEndpoint operation: Received client error (400) from primary with message "`,
		"sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "iris", "--content-type", "text/csv", "--body", "fileb://"+in, out)
	a.refused(t, "(ValidationError) when calling the InvokeEndpoint operation: Endpoint absent of account "+a.account+" not found.",
		"sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "absent", "--body", "fileb://"+in, out)
}

func (a *awsCLI) checkTags(t *testing.T, arn string) {
	a.sagemaker(t, "add-tags", "--resource-arn", arn, "--tags", "Key=team,Value=flora", "Key=tier,Value=1")
	a.sagemaker(t, "delete-tags", "--resource-arn", arn, "--tag-keys", "tier")
	out, err := json.Marshal(a.sagemaker(t, "list-tags", "--resource-arn", arn)["Tags"])
	if err != nil || string(out) != `[{"Key":"team","Value":"flora"}]` {
		t.Errorf("got %s, %v", out, err)
	}
}

// checkLists creates through the Go client, for a command takes about a second.
func (a *awsCLI) checkLists(t *testing.T) {
	c := goClientOf(a.daemon, a.account)
	for i := range 25 {
		c.createModel(t, fmt.Sprintf("many-%02d", i), echoContainer)
	}
	out := a.sagemaker(t, "list-models", "--name-contains", "many", "--page-size", "10", "--sort-by", "Name", "--sort-order", "Ascending")
	models := out["Models"].([]any)
	if len(models) != 25 || models[0].(map[string]any)["ModelName"] != "many-00" || models[24].(map[string]any)["ModelName"] != "many-24" {
		t.Errorf("got %v", models)
	}
}
