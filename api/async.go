package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

const asyncOperation = "InvokeEndpointAsync"

// async is InvokeEndpointAsync. It is not on the hot path: its answer waits for
// the disk. AWS page: API_runtime_InvokeEndpointAsync.
func (r *runtime) async(ctx *fasthttp.RequestCtx, name []byte) error {
	var h invokeHeaders
	h.read(&ctx.Request.Header)
	if err := sdkcompat.CheckRuntime(asyncOperation, text(name), h.get); err != nil {
		return err
	}
	endpoint := string(name)
	in := &sagemakerruntime.InvokeEndpointAsyncInput{
		EndpointName: &endpoint, Body: ctx.PostBody(),
		InputLocation: h.copied("InputLocation"), InferenceId: h.copied("Inference-Id"),
		ContentType: h.copied("Content-Type"), Accept: h.copied("Accept"), CustomAttributes: h.copied("Custom-Attributes"),
		Filename: h.copied("Filename"), S3OutputPathExtension: h.copied("S3OutputPathExtension"),
		RequestTTLSeconds: h.number("RequestTTLSeconds"), InvocationTimeoutSeconds: h.number("InvocationTimeoutSeconds"),
	}
	out, err := r.plane.InvokeEndpointAsync(controlplane.WithScope(ctx, r.scopes.of(h.authorization)), in)
	if err != nil {
		return err
	}
	body, err := json.Marshal(struct{ InferenceId string }{*out.InferenceId})
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	ctx.SetStatusCode(http.StatusAccepted)
	ctx.SetContentType("application/json")
	if out.OutputLocation != nil {
		ctx.Response.Header.Set(sagemakerPrefix+"OutputLocation", *out.OutputLocation)
	}
	if out.FailureLocation != nil {
		ctx.Response.Header.Set(sagemakerPrefix+"FailureLocation", *out.FailureLocation)
	}
	ctx.SetBody(body)
	return nil
}

// copied is the value of an X-Amzn-SageMaker- header for keeps; nil when it is
// absent.
func (h *invokeHeaders) copied(name string) *string {
	value := h.get(http.CanonicalHeaderKey(sagemakerPrefix + name))
	if value == "" {
		return nil
	}
	value = string([]byte(value))
	return &value
}

// number is a header's value that the constraint check has let through.
func (h *invokeHeaders) number(name string) *int32 {
	value := h.get(http.CanonicalHeaderKey(sagemakerPrefix + name))
	f, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return nil
	}
	n := int32(f)
	return &n
}
