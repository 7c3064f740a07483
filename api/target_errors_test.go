package api

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

func TestErrorsOfContainersAndModelsAreAWSs(t *testing.T) {
	const id = "0b1c2d3e-0000-4000-8000-000000000000"
	missing := &dataplane.ModelFetchError{URL: "s3://bucket/mme/m.tar.gz", Err: fmt.Errorf("%w: %s: %w", dataplane.ErrModelData, "s3://bucket/mme/m.tar.gz", fs.ErrNotExist)}
	for _, tc := range []struct {
		err    error
		code   string
		status int
		body   string
	}{
		{dataplane.ErrNotMultiModel, "ValidationError", 400, `{"ErrorCode":"TARGET_MODEL_HEADER_NOT_SUPPORTED","Message":"Endpoint e is not a multi-model endpoint and does not support target model header."}`},
		{dataplane.ErrNoTargetModel, "ValidationError", 400, `{"ErrorCode":"VALIDATION_ERROR","Message":"Request ` + id + ` is missing a target model header."}`},
		{dataplane.ErrTargetModel, "ValidationError", 400, `{"ErrorCode":"VALIDATION_ERROR","Message":"TargetModel m.tar.gz is not a path below the ModelDataUrl of endpoint e."}`},
		{fmt.Errorf("%w after 60s", dataplane.ErrModelNotReady), "ModelNotReadyException", 429, `{"ErrorCode":"MODEL_NOT_READY","Message":"Model m.tar.gz of endpoint e is still being downloaded or loaded. Please try again."}`},
		{dataplane.ErrNotDirect, "ValidationError", 400, `{"ErrorCode":"VALIDATION_ERROR","Message":"Endpoint e is not a multi-container endpoint in direct mode and does not support target container hostname header."}`},
		{dataplane.ErrNoTargetContainer, "ValidationError", 400, `{"ErrorCode":"VALIDATION_ERROR","Message":"Request ` + id + ` is missing a target container hostname header."}`},
		{dataplane.ErrUnknownContainer, "ValidationError", 400, `{"ErrorCode":"VALIDATION_ERROR","Message":"Endpoint e has no container with hostname h."}`},
		{missing, "ValidationError", 400, `{"ErrorCode":"VALIDATION_ERROR","Message":"Failed to download model data (bucket: bucket, key: mme/m.tar.gz). ` +
			`Please ensure that there is an object located at the URL and that the role passed to CreateModel has permissions to download the object (file does not exist)."}`},
	} {
		ctx := new(fasthttp.RequestCtx)
		ctx.Response.Header.Set(requestIDHeader, id)
		req := &dataplane.Request{TargetModel: "m.tar.gz", TargetContainer: "h"}
		err := invokeError(ctx, req, new(dataplane.Answer), tc.err, sdkcompat.Scope{}, "e", dataplane.Route{})
		e, ok := errors.AsType[*sdkcompat.Error](err)
		if !ok || e.Code != tc.code || e.Status != tc.status || string(e.AppendRuntime(nil)) != tc.body {
			t.Errorf("%v: %v", tc.err, err)
			if ok {
				t.Errorf("%d %s", e.Status, e.AppendRuntime(nil))
			}
		}
	}
	if err := targetError(new(dataplane.Request), errors.New("another"), "e", id); err != nil {
		t.Errorf("another error is %v", err)
	}
}
