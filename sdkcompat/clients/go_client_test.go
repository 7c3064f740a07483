package clients_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	"github.com/aws/smithy-go"
)

// goClient is one account's pair of aws-sdk-go-v2 clients, without retries: what
// the daemon answers is what the test sees.
type goClient struct {
	daemon  *daemon
	account string
	sm      *sagemaker.Client
	runtime *sagemakerruntime.Client
}

func newGoClient(d *daemon) *goClient { return goClientOf(d, newAccount()) }

func goClientOf(d *daemon, account string) *goClient {
	credentials := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: account, SecretAccessKey: "secret"}, nil
	})
	client := wholeAnswers{awshttp.NewBuildableClient()}
	return &goClient{
		daemon: d, account: account,
		sm: sagemaker.New(sagemaker.Options{
			Region: "us-east-1", BaseEndpoint: &d.URL, Credentials: credentials, Retryer: aws.NopRetryer{}, HTTPClient: client,
		}),
		runtime: sagemakerruntime.New(sagemakerruntime.Options{
			Region: "us-east-1", BaseEndpoint: &d.URL, Credentials: credentials, Retryer: aws.NopRetryer{}, HTTPClient: client,
		}),
	}
}

// wholeAnswers hides the WriteTo of smithy-go's request body. Up to 1.28.8 the
// SDK closes that body as soon as an answer begins, and a closed WriteTo returns
// io.EOF, for which net/http ends the connection: about one in 10,000 answers
// over 4 KB loses its end when the server is as near as this one.
type wholeAnswers struct{ client *awshttp.BuildableClient }

func (w wholeAnswers) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return w.client.Do(r)
}

func (c *goClient) arn(resource, name string) string {
	return "arn:aws:sagemaker:us-east-1:" + c.account + ":" + resource + "/" + strings.ToLower(name)
}

func (c *goClient) createModel(t *testing.T, name string, container types.ContainerDefinition) {
	t.Helper()
	out, err := c.sm.CreateModel(t.Context(), &sagemaker.CreateModelInput{
		ModelName: &name, PrimaryContainer: &container,
		ExecutionRoleArn: aws.String("arn:aws:iam::" + c.account + ":role/sagemaker"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := aws.ToString(out.ModelArn); got != c.arn("model", name) {
		t.Errorf("got ModelArn %s", got)
	}
}

var (
	echoContainer   = types.ContainerDefinition{Image: aws.String(echoImage)}
	workerContainer = types.ContainerDefinition{Image: aws.String(testImage)}
)

func variant(name, model string, instances int32, weight float32) types.ProductionVariant {
	return types.ProductionVariant{
		VariantName: &name, ModelName: &model, InstanceType: types.ProductionVariantInstanceTypeMlM5Large,
		InitialInstanceCount: &instances, InitialVariantWeight: &weight,
		RoutingConfig: &types.ProductionVariantRoutingConfig{RoutingStrategy: types.RoutingStrategyLeastOutstandingRequests},
	}
}

func (c *goClient) createConfig(t *testing.T, name string, variants ...types.ProductionVariant) {
	t.Helper()
	out, err := c.sm.CreateEndpointConfig(t.Context(), &sagemaker.CreateEndpointConfigInput{
		EndpointConfigName: &name, ProductionVariants: variants,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := aws.ToString(out.EndpointConfigArn); got != c.arn("endpoint-config", name) {
		t.Errorf("got EndpointConfigArn %s", got)
	}
}

// createEndpoint makes a configuration and an endpoint of the same name.
func (c *goClient) createEndpoint(t *testing.T, name string, variants ...types.ProductionVariant) {
	t.Helper()
	c.createConfig(t, name, variants...)
	endpoint, err := c.sm.CreateEndpoint(t.Context(), &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &name})
	if err != nil {
		t.Fatal(err)
	}
	if got := aws.ToString(endpoint.EndpointArn); got != c.arn("endpoint", name) {
		t.Errorf("got EndpointArn %s", got)
	}
}

// serve makes everything that an endpoint of one variant needs and waits for it.
func (c *goClient) serve(t *testing.T, name string, container types.ContainerDefinition, instances int32) {
	t.Helper()
	c.createModel(t, name, container)
	c.createEndpoint(t, name, variant("AllTraffic", name, instances, 1))
	c.awaitInService(t, name)
}

func (c *goClient) awaitInService(t *testing.T, name string) *sagemaker.DescribeEndpointOutput {
	t.Helper()
	waiter := sagemaker.NewEndpointInServiceWaiter(c.sm, func(o *sagemaker.EndpointInServiceWaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 100*time.Millisecond
	})
	out, err := waiter.WaitForOutput(t.Context(), &sagemaker.DescribeEndpointInput{EndpointName: &name}, waitLimit)
	if err != nil {
		t.Fatalf("endpoint %s: %v, status %+v", name, err, c.describe(t, name))
	}
	return out
}

func (c *goClient) awaitDeleted(t *testing.T, name string) {
	t.Helper()
	waiter := sagemaker.NewEndpointDeletedWaiter(c.sm, func(o *sagemaker.EndpointDeletedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 100*time.Millisecond
	})
	if err := waiter.Wait(t.Context(), &sagemaker.DescribeEndpointInput{EndpointName: &name}, waitLimit); err != nil {
		t.Fatal(err)
	}
}

func (c *goClient) awaitStatus(t *testing.T, name string, want types.EndpointStatus) (out *sagemaker.DescribeEndpointOutput) {
	t.Helper()
	eventually(t, waitLimit, func() error {
		if out = c.describe(t, name); out.EndpointStatus != want {
			return fmt.Errorf("endpoint %s is %s (%s), want %s", name, out.EndpointStatus, aws.ToString(out.FailureReason), want)
		}
		return nil
	})
	return out
}

func (c *goClient) describe(t *testing.T, name string) *sagemaker.DescribeEndpointOutput {
	t.Helper()
	out, err := c.sm.DescribeEndpoint(t.Context(), &sagemaker.DescribeEndpointInput{EndpointName: &name})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *goClient) delete(t *testing.T, name string) {
	t.Helper()
	if _, err := c.sm.DeleteEndpoint(t.Context(), &sagemaker.DeleteEndpointInput{EndpointName: &name}); err != nil {
		t.Fatal(err)
	}
}

// invoke sends plain text, which is what the test model speaks.
func (c *goClient) invoke(ctx context.Context, name, body string) (string, error) {
	out, err := c.runtime.InvokeEndpoint(ctx, &sagemakerruntime.InvokeEndpointInput{
		EndpointName: &name, ContentType: aws.String("text/plain"), Body: []byte(body),
	})
	if err != nil {
		return "", err
	}
	return string(out.Body), nil
}

func (c *goClient) mustInvoke(t *testing.T, name, body string) string {
	t.Helper()
	out, err := c.invoke(t.Context(), name, body)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wantError checks the code and the text of an error that the service model does
// not have, as AWS's ValidationException.
func wantError(t *testing.T, err error, code, message string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want %s", err, code)
	}
	if e.ErrorCode() != code || e.ErrorMessage() != message {
		t.Errorf("got %s: %s\nwant %s: %s", e.ErrorCode(), e.ErrorMessage(), code, message)
	}
}

// asError gives an error of the SDK's type, or fails.
func asError[E error](t *testing.T, err error) (target E) {
	t.Helper()
	if !errors.As(err, &target) {
		t.Fatalf("got %T: %v, want a %T", err, err, target)
	}
	return target
}
