package api

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// Limits of an ordinary invocation (docs: hosting-faqs,
// your-algorithms-inference-code).
const (
	invokeTimeout  = 60 * time.Second
	maxInvokeBytes = 25 << 20
)

// runtime answers SageMaker Runtime. It is the hot path: an invocation touches
// neither mux nor the control plane nor the store.
type runtime struct {
	fleet  *dataplane.Fleet
	scopes *scopes
	log    *slog.Logger
	ctx    context.Context // ends when the server stops waiting for invocations
	states sync.Pool       // of *invocation
}

// invocation is the memory that one invocation needs, used again by the next.
type invocation struct {
	req dataplane.Request
	ans dataplane.Answer
}

var (
	endpointsPath = []byte("/endpoints/")
	invokeAction  = []byte("invocations")
	asyncAction   = []byte("async-invocations")
	streamAction  = []byte("invocations-response-stream")
)

// isRuntimePath tells the runtime's requests from all others.
func isRuntimePath(path []byte) bool { return bytes.HasPrefix(path, endpointsPath) }

// serve takes POST /endpoints/{EndpointName}/{action}.
func (r *runtime) serve(ctx *fasthttp.RequestCtx) {
	id := newRequestID()
	setRequestID(&ctx.Response.Header, id[:])
	name, action, ok := bytes.Cut(ctx.Path()[len(endpointsPath):], []byte("/"))
	switch {
	case !ok || !ctx.IsPost():
		unknownPath(ctx)
	case bytes.Equal(action, invokeAction):
		if err := r.invoke(ctx, name); err != nil {
			r.fail(ctx, err)
		}
	case bytes.Equal(action, asyncAction):
		r.fail(ctx, unbuilt("InvokeEndpointAsync"))
	case bytes.Equal(action, streamAction):
		r.fail(ctx, unbuilt("InvokeEndpointWithResponseStream"))
	default:
		unknownPath(ctx)
	}
}

func unbuilt(operation string) error {
	return sdkcompat.RuntimeValidation("sagelocal does not implement " + operation + " yet; docs/fidelity.md lists what it does.")
}

// unknownPath answers as the runtime's host does for a path that it does not
// know: XML, whatever the caller speaks.
func unknownPath(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(http.StatusNotFound)
	ctx.SetContentType("application/xml")
	ctx.SetBodyString("<UnknownOperationException/>\n")
}

func (r *runtime) fail(ctx *fasthttp.RequestCtx, err error) {
	e := shown(r.log, err, string(ctx.Response.Header.Peek(requestIDHeader)), "runtime "+printable(string(ctx.Path())))
	ctx.SetStatusCode(e.Status)
	ctx.SetContentType("application/json")
	ctx.Response.Header.Set(errorTypeHeader, e.Code)
	ctx.SetBody(e.AppendRuntime(nil))
}

// invoke is InvokeEndpoint. AWS page: API_runtime_InvokeEndpoint.
func (r *runtime) invoke(ctx *fasthttp.RequestCtx, name []byte) error {
	h := &ctx.Request.Header
	if err := checkInvokeHeaders(h, name); err != nil {
		return err
	}
	scope := r.scopes.of(h.Peek("Authorization"))
	key := dataplane.Key{Account: scope.Account, Region: scope.Region, Name: strings.ToLower(text(name))}

	state, _ := r.states.Get().(*invocation)
	if state == nil {
		state = new(invocation)
	}
	defer r.states.Put(state)
	state.req = dataplane.Request{
		Operation:        "InvokeEndpoint",
		ContentType:      text(h.ContentType()),
		Accept:           text(h.Peek("Accept")),
		CustomAttributes: text(h.Peek("X-Amzn-Sagemaker-Custom-Attributes")),
		InferenceID:      text(h.Peek("X-Amzn-Sagemaker-Inference-Id")),
		PrefixAwareID:    text(h.Peek("X-Amzn-Sagemaker-Prefix-Aware-Id")),
		TargetVariant:    text(h.Peek("X-Amzn-Sagemaker-Target-Variant")),
		Body:             ctx.PostBody(),
		Timeout:          invokeTimeout,
	}
	state.ans = dataplane.Answer{Body: state.ans.Body[:0]}

	until, done := watch(ctx, r.ctx)
	route, err := r.fleet.Invoke(until, key, &state.req, &state.ans)
	done()
	if err != nil || state.ans.StatusCode/100 != 2 {
		setRoute(&ctx.Response.Header, &route)
		return invokeError(&state.ans, err, scope, text(name), route)
	}
	setRoute(&ctx.Response.Header, &route)
	if ct := state.ans.ContentType; ct != "" {
		ctx.Response.Header.SetContentType(ct)
	}
	if a := state.ans.CustomAttributes; a != "" {
		ctx.Response.Header.Set("X-Amzn-Sagemaker-Custom-Attributes", a)
	}
	// The answer's buffer becomes the response's, and the other way round.
	state.ans.Body = ctx.Response.SwapBody(state.ans.Body)
	return nil
}

// setRoute says which variant and which instance answered.
func setRoute(h *fasthttp.ResponseHeader, route *dataplane.Route) {
	if route.Variant != "" {
		h.Set("X-Amzn-Invoked-Production-Variant", route.Variant)
	}
	if route.Instance != "" {
		h.Set("X-Sagelocal-Instance", route.Instance)
	}
}

// checkInvokeHeaders holds the constraints of the service model and refuses the
// members that only kinds of endpoints use that are not built yet.
func checkInvokeHeaders(h *fasthttp.RequestHeader, name []byte) error {
	if err := sdkcompat.CheckRuntime("InvokeEndpoint", text(name), func(member string) string {
		if member == "EndpointName" {
			return text(name)
		}
		return text(h.Peek(member))
	}); err != nil {
		return err
	}
	for _, refused := range &unusableHeaders {
		if len(h.Peek(refused.header)) > 0 {
			return sdkcompat.RuntimeValidation(strings.ReplaceAll(refused.message, "<name>", string(name)))
		}
	}
	return nil
}

// unusableHeaders name what no endpoint here can be yet, with AWS's sentence for
// an endpoint that is not of that kind where one is known.
var unusableHeaders = [...]struct{ header, message string }{
	{"X-Amzn-Sagemaker-Target-Model", "Endpoint <name> is not a multi-model endpoint and does not support target model header."},
	{"X-Amzn-Sagemaker-Target-Container-Hostname", "Endpoint <name> is not a multi-container endpoint in direct mode and does not support target container hostname header."},
	{"X-Amzn-Sagemaker-Inference-Component", "Inference Component Name header is not allowed for endpoints to which you dont plan to deploy inference components. Please remove the Inference Component Name header and try again."},
	{"X-Amzn-Sagemaker-Session-Id", "sagelocal does not implement stateful sessions yet; docs/fidelity.md lists what it does."},
	{"X-Amzn-Sagemaker-Enable-Explanations", "sagelocal does not implement EnableExplanations yet; docs/fidelity.md lists what it does."},
}

// text is b without a copy: valid until the handler returns, which is as long as
// a worker may use a request.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// setRequestID writes the id in its text form.
func setRequestID(h *fasthttp.ResponseHeader, id []byte) {
	const digits = "0123456789abcdef"
	var out [36]byte
	at := 0
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out[at] = '-'
			at++
		}
		out[at], out[at+1] = digits[b>>4], digits[b&15]
		at += 2
	}
	h.SetBytesV(requestIDHeader, out[:])
}
