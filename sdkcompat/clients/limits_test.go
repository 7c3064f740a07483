package clients_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

// limitedDaemon is one whose configuration is only this.
func limitedDaemon(t *testing.T, config string) *daemon {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sagelocal.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return startDaemon(t, daemonOptions{args: []string{"--config=" + path}})
}

const limitSentence = "The account-level service limit 'ml.m5.large for endpoint usage' is 3 Instances, with current utilization of %d Instances and a request delta of %d Instances. " +
	"Please use AWS Service Quotas to request an increase for this quota. If AWS Service Quotas is not available, contact AWS support to request an increase for this quota."

func wantLimit(t *testing.T, err error, used, delta int) {
	t.Helper()
	var limit *types.ResourceLimitExceeded
	if want := fmt.Sprintf(limitSentence, used, delta); !errors.As(err, &limit) || limit.ErrorMessage() != want {
		t.Errorf("got %v, want ResourceLimitExceeded: %s", err, want)
	}
}

func TestResourceLimitExceededIsTyped(t *testing.T) {
	t.Parallel()
	d := limitedDaemon(t, "quotas:\n  instances: {default: 3}\n")
	c := newGoClient(d)
	c.serve(t, "e", echoContainer, 2)
	config := variant("v", "e", 2, 1)
	if _, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{EndpointConfigName: aws.String("two"), ProductionVariants: []types.ProductionVariant{config}}); err != nil {
		t.Fatal(err) // AWS looks at quotas when instances are asked for, not before
	}
	_, err := c.sm.CreateEndpoint(t.Context(), &sagemaker.CreateEndpointInput{EndpointName: aws.String("f"), EndpointConfigName: aws.String("two")})
	wantLimit(t, err, 2, 2)
	wantLimit(t, c.scale(t, "e", types.DesiredWeightAndCapacity{VariantName: aws.String("AllTraffic"), DesiredInstanceCount: aws.Int32(5)}), 2, 3)
	_, err = c.sm.UpdateEndpoint(t.Context(), &sagemaker.UpdateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("two")})
	wantLimit(t, err, 2, 2)

	needProgram(t, "python3")
	script := `
import boto3
sm = boto3.client("sagemaker")
try:
    sm.create_endpoint(EndpointName="f", EndpointConfigName="two")
except sm.exceptions.ResourceLimitExceeded as e:
    print(e.response["Error"]["Message"])
`
	cmd := exec.CommandContext(t.Context(), "python3", "-c", script)
	cmd.Env = clientEnvironment(d, c.account)
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "No module named 'boto3'") {
		skip(t, "python3 has no boto3")
	}
	if want := fmt.Sprintf(limitSentence, 2, 2); err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("boto3 got %s (%v), want %s", out, err, want)
	}
}

type capacityView struct {
	Rules []struct {
		InstanceType string `json:"instance_type"`
	}
	InUse map[string]int `json:"in_use"`
}

func TestInsufficientInstanceCapacityUntilThereIsSome(t *testing.T) {
	t.Parallel()
	d := limitedDaemon(t, "capacity:\n  - {instance_type: ml.m5.large, instances: 1}\n  - {instance_type: 'ml.g5.*', unavailable: true}\n")
	c := newGoClient(d)
	c.createModel(t, "m", echoContainer)
	c.createEndpoint(t, "e", variant("v", "m", 2, 1))
	eventually(t, waitLimit, func() error {
		out := c.describe(t, "e")
		if out.EndpointStatus != types.EndpointStatusFailed {
			return fmt.Errorf("endpoint is %s", out.EndpointStatus)
		}
		if want := "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please retry using a different ML instance type or after some time."; aws.ToString(out.FailureReason) != want {
			t.Errorf("got %q, want %q", aws.ToString(out.FailureReason), want)
		}
		return nil
	})
	c.delete(t, "e")
	c.awaitDeleted(t, "e")
	if got := admin[capacityView](t, d, "GET", "/capacity", ""); len(got.Rules) != 2 || len(got.InUse) != 0 {
		t.Errorf("got %+v, want two rules and no instance in use", got)
	}

	// The second pool takes what the first has no room for.
	v := variant("v", "m", 3, 1)
	v.InstanceType = ""
	v.InstancePools = []types.InstancePool{
		{InstanceType: types.ProductionVariantInstanceTypeMlG5Xlarge, Priority: aws.Int32(1)},
		{InstanceType: types.ProductionVariantInstanceTypeMlM5Large, Priority: aws.Int32(2)},
		{InstanceType: types.ProductionVariantInstanceTypeMlC5Large, Priority: aws.Int32(3)},
	}
	if _, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{EndpointConfigName: aws.String("pools"), ProductionVariants: []types.ProductionVariant{v}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.sm.CreateEndpoint(t.Context(), &sagemaker.CreateEndpointInput{EndpointName: aws.String("pools"), EndpointConfigName: aws.String("pools")}); err != nil {
		t.Fatal(err)
	}
	wantPools(t, c.awaitInService(t, "pools"), 0, 1, 2)

	// Capacity comes back.
	admin[capacityView](t, d, "PUT", "/capacity", `{"rules": []}`)
	if err := c.scale(t, "pools", types.DesiredWeightAndCapacity{VariantName: aws.String("v"), DesiredInstanceCount: aws.Int32(5)}); err != nil {
		t.Fatal(err)
	}
	wantPools(t, c.awaitInService(t, "pools"), 2, 1, 2)
}

func wantPools(t *testing.T, out *sagemaker.DescribeEndpointOutput, want ...int32) {
	t.Helper()
	pools := out.ProductionVariants[0].InstancePools
	if len(pools) != len(want) {
		t.Fatalf("got %d pools, want %d", len(pools), len(want))
	}
	for i, p := range pools {
		if *p.CurrentInstanceCount != want[i] {
			t.Errorf("%d instances of %s, want %d", *p.CurrentInstanceCount, p.InstanceType, want[i])
		}
	}
}

func TestCapacityRouteRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	d := sharedDaemon(t)
	for body, want := range map[string]string{
		`{"rules": [{"instance_type": "*"}]}`:                              "exactly one of",
		`{"rules": [{"instance_type": "*", "unavailable": true, "x": 1}]}`: "x",
		`[]`: "capacity",
	} {
		in := rawRequest{method: "PUT", path: "/_sagelocal/capacity", body: body}
		if res, text := in.send(t, d); res.StatusCode != 400 || !strings.Contains(text, "ValidationException") || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s, want a ValidationException with %q", body, res.StatusCode, text, want)
		}
	}
}
