package sdkcompat

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
	"github.com/aws/smithy-go"
)

func TestErrorBodies(t *testing.T) {
	for _, test := range []struct {
		err             Error
		control, runtim string
	}{
		{
			Error{Code: validation, Message: `a "b"`},
			`{"__type":"ValidationException","message":"a \"b\""}`, `{"message":"a \"b\""}`,
		},
		{
			Error{Code: "ResourceLimitExceeded", Message: "m"},
			`{"Message":"m","__type":"ResourceLimitExceeded"}`, `{"message":"m"}`,
		},
		{
			Error{Code: serialization},
			`{"__type":"SerializationException"}`, `{"message":null}`,
		},
		{
			Error{Code: "ThrottlingException"},
			`{"__type":"ThrottlingException"}`, `{"message":null}`,
		},
		{
			Error{Code: runtimeValidation, Message: "m"},
			`{"__type":"ValidationError","message":"m"}`, `{"ErrorCode":"VALIDATION_ERROR","Message":"m"}`,
		},
		{
			Error{Code: "ValidationError", Message: "m", Members: map[string]any{"ErrorCode": "TARGET_MODEL_HEADER_NOT_SUPPORTED"}},
			`{"ErrorCode":"TARGET_MODEL_HEADER_NOT_SUPPORTED","__type":"ValidationError","message":"m"}`,
			`{"ErrorCode":"TARGET_MODEL_HEADER_NOT_SUPPORTED","Message":"m"}`,
		},
		{
			Error{Code: "ModelError", Message: "m", Members: map[string]any{
				"OriginalStatusCode": 500, "OriginalMessage": "boom", "LogStreamArn": "arn",
			}},
			`{"LogStreamArn":"arn","OriginalMessage":"boom","OriginalStatusCode":500,"__type":"ModelError","message":"m"}`,
			`{"ErrorCode":"INTERNAL_FAILURE_FROM_MODEL","LogStreamArn":"arn","Message":"m","OriginalMessage":"boom","OriginalStatusCode":500}`,
		},
		{
			Error{Code: "ModelError", Message: "m", Members: map[string]any{"OriginalStatusCode": 422, "Odd": complex(1, 2)}},
			`{"Odd":"(1+2i)","OriginalStatusCode":422,"__type":"ModelError","message":"m"}`,
			`{"ErrorCode":"CLIENT_ERROR_FROM_MODEL","Message":"m","Odd":"(1+2i)","OriginalStatusCode":422}`,
		},
	} {
		if got := string(test.err.AppendJSON11([]byte("x"))); got != "x"+test.control {
			t.Errorf("%s, JSON 1.1: got %s", test.err.Code, got)
		}
		if got := string(test.err.AppendRuntime(nil)); got != test.runtim {
			t.Errorf("%s, runtime: got %s", test.err.Code, got)
		}
	}
}

// answer serves one error the way the edge does.
func answer(t *testing.T, e *Error, runtime bool) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body := e.AppendJSON11(nil)
		contentType := "application/x-amz-json-1.1"
		if runtime {
			body, contentType = e.AppendRuntime(nil), "application/json"
			w.Header().Set("x-amzn-ErrorType", e.Code)
		}
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(e.Status)
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

var staticCredentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
})

func createEndpoint(t *testing.T, e *Error) error {
	client := sagemaker.New(sagemaker.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(answer(t, e, false)), Credentials: staticCredentials, Retryer: aws.NopRetryer{},
	})
	_, err := client.CreateEndpoint(t.Context(), &sagemaker.CreateEndpointInput{EndpointName: aws.String("e"), EndpointConfigName: aws.String("c")})
	return err
}

func invokeEndpoint(t *testing.T, e *Error) error {
	client := sagemakerruntime.New(sagemakerruntime.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(answer(t, e, true)), Credentials: staticCredentials, Retryer: aws.NopRetryer{},
	})
	_, err := client.InvokeEndpoint(t.Context(), &sagemakerruntime.InvokeEndpointInput{EndpointName: aws.String("e"), Body: []byte("x")})
	return err
}

// asType gives the SDK's typed error, or fails.
func asType[E error](t *testing.T, err error) (target E) {
	t.Helper()
	if !errors.As(err, &target) {
		t.Fatalf("got %T: %v, want a %T", err, err, target)
	}
	return target
}

func TestGoClientGetsControlPlaneErrors(t *testing.T) {
	limit := asType[*types.ResourceLimitExceeded](t, createEndpoint(t, &Error{Code: "ResourceLimitExceeded", Message: "too many", Status: 400}))
	if aws.ToString(limit.Message) != "too many" {
		t.Errorf("got %v", limit)
	}
	for _, want := range []*Error{EndpointInProgress.Error("arn"), {Code: "ThrottlingException", Message: "Rate exceeded", Status: 400}} {
		generic := asType[*smithy.GenericAPIError](t, createEndpoint(t, want))
		if generic.Code != want.Code || generic.Message != want.Message {
			t.Errorf("got %v", generic)
		}
	}
}

func TestGoClientGetsRuntimeErrors(t *testing.T) {
	model := asType[*runtimetypes.ModelError](t, invokeEndpoint(t, &Error{
		Code: "ModelError", Message: "m", Status: 424,
		Members: map[string]any{"OriginalStatusCode": 500, "OriginalMessage": "boom", "LogStreamArn": "arn"},
	}))
	if aws.ToInt32(model.OriginalStatusCode) != 500 || aws.ToString(model.OriginalMessage) != "boom" ||
		aws.ToString(model.LogStreamArn) != "arn" || model.ErrorMessage() != "m" {
		t.Errorf("got %+v", model)
	}
	if e := asType[*runtimetypes.ValidationError](t, invokeEndpoint(t, NoWeight.Error("e"))); e.ErrorMessage() != NoWeight.Sentence("e") {
		t.Errorf("got %v", e)
	}
	asType[*runtimetypes.ModelNotReadyException](t, invokeEndpoint(t, &Error{Code: "ModelNotReadyException", Message: "m", Status: 429}))
	asType[*runtimetypes.InternalFailure](t, invokeEndpoint(t, &Error{Code: "InternalFailure", Message: "m", Status: 500}))
	asType[*runtimetypes.InternalDependencyException](t, invokeEndpoint(t, &Error{Code: "InternalDependencyException", Message: "m", Status: 530}))
	asType[*runtimetypes.ServiceUnavailable](t, invokeEndpoint(t, &Error{Code: "ServiceUnavailable", Message: "m", Status: 503}))
	throttled := asType[*smithy.GenericAPIError](t, invokeEndpoint(t, &Error{Code: "ThrottlingException", Status: 400}))
	if throttled.Code != "ThrottlingException" {
		t.Errorf("got %v", throttled)
	}
}

// boto reads a JSON 1.1 error from the body alone: __type up to a colon and
// after a #, and the message in either case.
func TestControlPlaneBodyAloneNamesTheError(t *testing.T) {
	for _, e := range []*Error{{Code: validation, Message: "m"}, {Code: "ResourceInUse", Message: "m"}} {
		tree, err := ParseJSON(e.AppendJSON11(nil))
		if err != nil {
			t.Fatal(err)
		}
		body := tree.(Object)
		code, _ := body.Get("__type")
		lower, _ := body.Get("message")
		upper, _ := body.Get("Message")
		if code != e.Code || lower != "m" && upper != "m" {
			t.Errorf("got %v", body)
		}
	}
	if body := NoWeight.Error("e").AppendRuntime(nil); bytes.Contains(body, []byte("__type")) {
		t.Errorf("got %s", body)
	}
}
