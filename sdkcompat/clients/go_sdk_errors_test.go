package clients_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// goOperation calls one operation with an input from a tree.
type goOperation func(ctx context.Context, c *goClient, input sdkcompat.Object) error

var goOperations = map[string]goOperation{
	"CreateEndpoint":                     ofControl((*sagemaker.Client).CreateEndpoint),
	"CreateEndpointConfig":               ofControl((*sagemaker.Client).CreateEndpointConfig),
	"CreateModel":                        ofControl((*sagemaker.Client).CreateModel),
	"DeleteDomain":                       ofControl((*sagemaker.Client).DeleteDomain),
	"DeleteEndpoint":                     ofControl((*sagemaker.Client).DeleteEndpoint),
	"DescribeEndpoint":                   ofControl((*sagemaker.Client).DescribeEndpoint),
	"DescribeModel":                      ofControl((*sagemaker.Client).DescribeModel),
	"DescribeTrainingJob":                ofControl((*sagemaker.Client).DescribeTrainingJob),
	"ListModels":                         ofControl((*sagemaker.Client).ListModels),
	"UpdateAction":                       ofControl((*sagemaker.Client).UpdateAction),
	"UpdateEndpoint":                     ofControl((*sagemaker.Client).UpdateEndpoint),
	"UpdateEndpointWeightsAndCapacities": ofControl((*sagemaker.Client).UpdateEndpointWeightsAndCapacities),
	"InvokeEndpoint":                     ofRuntime((*sagemakerruntime.Client).InvokeEndpoint),
	"InvokeEndpointAsync":                ofRuntime((*sagemakerruntime.Client).InvokeEndpointAsync),
	"InvokeEndpointWithResponseStream":   ofRuntime((*sagemakerruntime.Client).InvokeEndpointWithResponseStream),
}

func ofControl[In, Out any](call func(*sagemaker.Client, context.Context, *In, ...func(*sagemaker.Options)) (*Out, error)) goOperation {
	return func(ctx context.Context, c *goClient, input sdkcompat.Object) error {
		in, err := filled[In](input)
		if err == nil {
			_, err = call(c.sm, ctx, in)
		}
		return err
	}
}

func ofRuntime[In, Out any](call func(*sagemakerruntime.Client, context.Context, *In, ...func(*sagemakerruntime.Options)) (*Out, error)) goOperation {
	return func(ctx context.Context, c *goClient, input sdkcompat.Object) error {
		in, err := filled[In](input)
		if err == nil {
			_, err = call(c.runtime, ctx, in)
		}
		return err
	}
}

// filled is an input with the tree's members. A Body is text, not base64.
func filled[In any](input sdkcompat.Object) (*In, error) {
	in := new(In)
	rest := sdkcompat.Object{}
	for _, m := range input {
		if m.Name == "Body" {
			reflect.ValueOf(in).Elem().FieldByName("Body").SetBytes([]byte(m.Value.(string)))
		} else {
			rest.Set(m.Name, m.Value)
		}
	}
	return in, sdkcompat.FromTree(rest, in)
}

// asGiven are clients at url that send what they are given, required members
// missing or not, and raw in place of the body when it is not empty.
func (c *goClient) asGiven(url, raw string) *goClient {
	options := func(stack *middleware.Stack) error {
		_, _ = stack.Initialize.Remove("OperationInputValidation") // an operation that requires nothing has none
		if raw == "" {
			return nil
		}
		return stack.Build.Add(middleware.BuildMiddlewareFunc("RawBody",
			func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
				req, err := in.Request.(*smithyhttp.Request).SetStream(strings.NewReader(raw))
				if err != nil {
					return middleware.BuildOutput{}, middleware.Metadata{}, err
				}
				in.Request = req
				return next.HandleBuild(ctx, in)
			}), middleware.Before)
	}
	control, runtime := c.sm.Options(), c.runtime.Options()
	control.BaseEndpoint, runtime.BaseEndpoint = &url, &url
	control.APIOptions = append(control.APIOptions, options)
	runtime.APIOptions = append(runtime.APIOptions, options)
	return &goClient{daemon: c.daemon, account: c.account, sm: sagemaker.New(control), runtime: sagemakerruntime.New(runtime)}
}

// checkGo makes the call and compares what the Go SDK makes of the answer.
func (e *errorCase) checkGo(t *testing.T, c *goClient, loopback string) {
	url := c.daemon.URL
	if e.Loopback {
		url = loopback
	}
	text, err := json.Marshal(e.Input)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := sdkcompat.ParseJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	call := goOperations[e.Operation]
	if call == nil {
		t.Fatalf("goOperations has no %s", e.Operation)
	}
	err = call(t.Context(), c.asGiven(url, e.Raw), tree.(sdkcompat.Object))
	got := asError[smithy.APIError](t, err)
	want := e.Message
	if want == "" {
		want = "UnknownError" // the SDK's word for an error without a message
	}
	said := got.ErrorMessage()
	if e.Begins {
		said = said[:min(len(said), len(want))]
	}
	if got.ErrorCode() != e.Code || said != want {
		t.Errorf("got  %s %q\nwant %s %q", got.ErrorCode(), got.ErrorMessage(), e.Code, want)
	}
	if _, generic := got.(*smithy.GenericAPIError); generic == e.Typed || e.Typed && fmt.Sprintf("%T", got) != "*types."+e.Code {
		t.Errorf("got a %T", got)
	}
	res := asError[*awshttp.ResponseError](t, err)
	if res.HTTPStatusCode() != e.Status || len(res.ServiceRequestID()) != 36 {
		t.Errorf("got status %d, request id %q", res.HTTPStatusCode(), res.ServiceRequestID())
	}
	for name, value := range e.Members {
		field := reflect.ValueOf(got).Elem().FieldByName(name)
		if !field.IsValid() || field.IsNil() || fmt.Sprint(field.Elem()) != fmt.Sprint(value) {
			t.Errorf("%s is %v, want %v", name, field, value)
		}
	}
}
