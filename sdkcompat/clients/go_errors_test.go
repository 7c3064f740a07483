package clients_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
	"github.com/aws/smithy-go"
)

func TestGoClientGetsAWSSentences(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.createModel(t, "m", echoContainer)
	c.createEndpoint(t, "e", variant("v", "m", 1, 1))
	c.awaitInService(t, "e")
	long := strings.Repeat("n", 70)
	const pattern = "failed to satisfy constraint: Member must satisfy regular expression pattern: "
	for _, test := range []struct {
		what, want string
		call       func() error
	}{
		{"existing model", fmt.Sprintf("Cannot create already existing model %q.", c.arn("model", "m")), func() error {
			_, err := c.sm.CreateModel(t.Context(), &sagemaker.CreateModelInput{ModelName: aws.String("m"), PrimaryContainer: &echoContainer})
			return err
		}},
		{"existing configuration", fmt.Sprintf("Cannot create already existing endpoint configuration %q.", c.arn("endpoint-config", "e")), func() error {
			_, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{
				EndpointConfigName: aws.String("e"), ProductionVariants: []types.ProductionVariant{variant("v", "m", 1, 1)},
			})
			return err
		}},
		{"existing endpoint", fmt.Sprintf("Cannot create already existing endpoint %q.", c.arn("endpoint", "e")), func() error {
			_, err := c.sm.CreateEndpoint(t.Context(), &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("e")})
			return err
		}},
		{"missing configuration", fmt.Sprintf("Could not find endpoint configuration %q.", c.arn("endpoint-config", "none")), func() error {
			_, err := c.sm.CreateEndpoint(t.Context(), &sagemaker.CreateEndpointInput{EndpointName: aws.String("e2"), EndpointConfigName: aws.String("none")})
			return err
		}},
		{"missing model", fmt.Sprintf("Could not find model %q.", c.arn("model", "none")), func() error {
			_, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{
				EndpointConfigName: aws.String("c2"), ProductionVariants: []types.ProductionVariant{variant("v", "none", 1, 1)},
			})
			return err
		}},
		{"name too long", "2 validation errors detected: Value '" + long + "' at 'endpointName' failed to satisfy constraint: " +
			"Member must have length less than or equal to 63; Value '" + long + "' at 'endpointName' " + pattern + "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", func() error {
			_, err := c.sm.DescribeEndpoint(t.Context(), &sagemaker.DescribeEndpointInput{EndpointName: &long})
			return err
		}},
		{"name with a hyphen at the end", "1 validation error detected: Value '-bad-' at 'endpointConfigName' " + pattern + "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", func() error {
			_, err := c.sm.DeleteEndpointConfig(t.Context(), &sagemaker.DeleteEndpointConfigInput{EndpointConfigName: aws.String("-bad-")})
			return err
		}},
		{"element of a list", "1 validation error detected: Value 'ENTER MODEL NAME' at 'productionVariants.1.member.modelName' " + pattern + `[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?`, func() error {
			_, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{
				EndpointConfigName: aws.String("c2"), ProductionVariants: []types.ProductionVariant{variant("v", "ENTER MODEL NAME", 1, 1)},
			})
			return err
		}},
		{"unknown variants", `The variant name(s) "w" is/are not present within endpoint configuration "e".`, func() error {
			return c.scale(t, "e", types.DesiredWeightAndCapacity{VariantName: aws.String("w"), DesiredInstanceCount: aws.Int32(1)})
		}},
		{"variant named twice", `The variant name "v" was non-unique within the request.`, func() error {
			v := types.DesiredWeightAndCapacity{VariantName: aws.String("v"), DesiredInstanceCount: aws.Int32(1)}
			return c.scale(t, "e", v, v)
		}},
	} {
		t.Run(test.what, func(t *testing.T) { wantError(t, test.call(), "ValidationException", test.want) })
	}
	t.Run("unknown enum", func(t *testing.T) { c.checkEnums(t) })
	// The model of a running endpoint can be deleted; the endpoint keeps serving.
	if _, err := c.sm.DeleteModel(t.Context(), &sagemaker.DeleteModelInput{ModelName: aws.String("m")}); err != nil {
		t.Error(err)
	}
	if got := c.mustInvoke(t, "e", "still here"); got != "still here" {
		t.Errorf("got %q", got)
	}
}

func (c *goClient) scale(t *testing.T, endpoint string, to ...types.DesiredWeightAndCapacity) error {
	t.Helper()
	_, err := c.sm.UpdateEndpointWeightsAndCapacities(t.Context(), &sagemaker.UpdateEndpointWeightsAndCapacitiesInput{
		EndpointName: &endpoint, DesiredWeightsAndCapacities: to,
	})
	return err
}

// checkEnums: the set is AWS's, the order within the sentence is not specified.
func (c *goClient) checkEnums(t *testing.T) {
	t.Helper()
	odd := variant("v", "m", 1, 1)
	odd.InstanceType = "ml.t3.medium"
	odd.RoutingConfig.RoutingStrategy = "ROUND_ROBIN"
	_, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: aws.String("c2"), ProductionVariants: []types.ProductionVariant{odd},
	})
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != "ValidationException" {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"2 validation errors detected: ",
		"Value 'ml.t3.medium' at 'productionVariants.1.member.instanceType' failed to satisfy constraint: Member must satisfy enum value set: [",
		"Value 'ROUND_ROBIN' at 'productionVariants.1.member.routingConfig.routingStrategy' failed to satisfy constraint: Member must satisfy enum value set: [",
		"LEAST_OUTSTANDING_REQUESTS", "RANDOM", "PREFIX_AWARE", "ml.g7.2xlarge",
	} {
		if !strings.Contains(e.ErrorMessage(), want) {
			t.Errorf("got %q, want %q in it", e.ErrorMessage(), want)
		}
	}
}

func TestGoClientGetsRuntimeErrorsTyped(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.serve(t, "errors", workerContainer, 1)
	for _, test := range []struct {
		body, said string
		status     int32
	}{
		{"status 500 out of memory", "out of memory", 500},
		{"status 404 ", "", 404},
		{`status 422 {"détail": "\"quoted\""}`, `{"détail": "\"quoted\""}`, 422},
		{"nonsense", "unknown verb nonsense\n", 400},
	} {
		_, err := c.invoke(t.Context(), "errors", test.body)
		e := asError[*runtimetypes.ModelError](t, err)
		kind := "client"
		if test.status >= 500 {
			kind = "server"
		}
		begin := fmt.Sprintf("Received %s error (%d) from primary with message %q", kind, test.status, "")
		begin = strings.TrimSuffix(begin, `"`) + test.said + `". See `
		if aws.ToInt32(e.OriginalStatusCode) != test.status || aws.ToString(e.OriginalMessage) != test.said || !strings.HasPrefix(e.ErrorMessage(), begin) {
			t.Errorf("%s: got %d %q %q", test.body, aws.ToInt32(e.OriginalStatusCode), aws.ToString(e.OriginalMessage), e.ErrorMessage())
		}
	}
	for what, in := range map[string]sagemakerruntime.InvokeEndpointInput{
		"Endpoint absent of account " + c.account + " not found.":                                 {EndpointName: aws.String("absent")},
		"Endpoint errors is not a multi-model endpoint and does not support target model header.": {EndpointName: aws.String("errors"), TargetModel: aws.String("m.tar.gz")},
		"1 validation error detected: Value '" + strings.Repeat("v", 65) + "' at 'inferenceId' failed to satisfy constraint: Member must have length less than or equal to 64": {
			EndpointName: aws.String("errors"), InferenceId: aws.String(strings.Repeat("v", 65)),
		},
	} {
		in.Body = []byte("echo")
		_, err := c.runtime.InvokeEndpoint(t.Context(), &in)
		if e := asError[*runtimetypes.ValidationError](t, err); e.ErrorMessage() != what {
			t.Errorf("got %q\nwant %q", e.ErrorMessage(), what)
		}
	}
}

func TestEndpointOfMissingProgramFailsWithAWSReason(t *testing.T) {
	t.Parallel()
	c := newGoClient(sharedDaemon(t))
	c.createModel(t, "broken", types.ContainerDefinition{Image: aws.String(missingImage)})
	c.createEndpoint(t, "broken", variant("v1", "broken", 1, 1))
	out := c.awaitStatus(t, "broken", types.EndpointStatusFailed)
	want := "CannotStartContainerError. Please ensure the model container for variant v1 starts correctly when invoked with 'docker run <image> serve'"
	if aws.ToString(out.FailureReason) != want {
		t.Errorf("got %q", aws.ToString(out.FailureReason))
	}
	// A Failed endpoint can be deleted and nothing else.
	wantError(t, c.scale(t, "broken", types.DesiredWeightAndCapacity{VariantName: aws.String("v1"), DesiredInstanceCount: aws.Int32(2)}),
		"ValidationException", fmt.Sprintf("Cannot update in-progress endpoint %q.", c.arn("endpoint", "broken")))
	_, err := c.invoke(t.Context(), "broken", "x")
	asError[*runtimetypes.ValidationError](t, err)
	c.delete(t, "broken")
	c.awaitDeleted(t, "broken")
}

func TestAccountsAndRegionsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	d := sharedDaemon(t)
	one, other := newGoClient(d), newGoClient(d)
	one.serve(t, "same", echoContainer, 1)
	_, err := other.sm.DescribeEndpoint(t.Context(), &sagemaker.DescribeEndpointInput{EndpointName: aws.String("same")})
	wantError(t, err, "ValidationException", fmt.Sprintf("Could not find endpoint %q.", other.arn("endpoint", "same")))
	_, err = other.invoke(t.Context(), "same", "x")
	asError[*runtimetypes.ValidationError](t, err)
	if out, err := other.sm.ListModels(t.Context(), &sagemaker.ListModelsInput{}); err != nil || len(out.Models) != 0 {
		t.Errorf("got %+v, %v", out, err)
	}
	_, err = other.sm.AddTags(t.Context(), &sagemaker.AddTagsInput{
		ResourceArn: aws.String(one.arn("endpoint", "same")), Tags: []types.Tag{{Key: aws.String("mine"), Value: aws.String("now")}},
	})
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != "ValidationException" {
		t.Errorf("a foreign endpoint was tagged: %v", err)
	}
	inRegion := func(o *sagemaker.Options) { o.Region = "eu-central-1" }
	_, err = one.sm.DescribeEndpoint(t.Context(), &sagemaker.DescribeEndpointInput{EndpointName: aws.String("same")}, inRegion)
	wantError(t, err, "ValidationException", fmt.Sprintf(`Could not find endpoint "arn:aws:sagemaker:eu-central-1:%s:endpoint/same".`, one.account))
	// The same names can be taken by everybody.
	other.serve(t, "same", workerContainer, 1)
	if a, b := one.mustInvoke(t, "same", "echo hi"), other.mustInvoke(t, "same", "echo hi"); a != "echo hi" || b != "hi" {
		t.Errorf("got %q and %q", a, b)
	}
	// An access key that is not twelve digits works in the default account.
	plain := goClientOf(d, "AKIAIOSFODNN7EXAMPLE")
	_, err = plain.sm.DescribeEndpoint(t.Context(), &sagemaker.DescribeEndpointInput{EndpointName: aws.String("same")})
	wantError(t, err, "ValidationException", `Could not find endpoint "arn:aws:sagemaker:us-east-1:123456789012:endpoint/same".`)
}
