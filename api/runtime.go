package api

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/eventloop"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// Limits of an ordinary invocation (docs: hosting-faqs,
// your-algorithms-inference-code).
const (
	invokeTimeout  = 60 * time.Second
	maxInvokeBytes = 25 << 20
)

// runtime answers SageMaker Runtime. It is the hot path: an invocation that is not
// asynchronous touches neither mux nor the control plane nor the store.
type runtime struct {
	fleet  *dataplane.Fleet
	plane  *controlplane.Plane // for asynchronous requests only
	scopes *scopes
	log    *slog.Logger
	ctx    context.Context // ends when the server stops waiting for invocations
	states sync.Pool       // of *invocation
}

// invocation is the memory that one invocation needs, used again by the next.
type invocation struct {
	headers invokeHeaders
	req     dataplane.Request
	ans     dataplane.Answer
	out     []byte // the head of the answer
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
			strandOf(ctx).Leave() // it is logged
			r.fail(ctx, err)
		}
	default:
		strandOf(ctx).Leave()
		r.serveOther(ctx, name, action)
	}
}

// serveOther takes the operations that are not InvokeEndpoint.
func (r *runtime) serveOther(ctx *fasthttp.RequestCtx, name, action []byte) {
	switch {
	case bytes.Equal(action, asyncAction):
		if err := r.async(ctx, name); err != nil {
			r.fail(ctx, err)
		}
	case bytes.Equal(action, streamAction):
		if err := r.stream(ctx, name); err != nil {
			r.fail(ctx, err)
		}
	default:
		component, ok := chatComponent(action)
		if !ok {
			unknownPath(ctx)
		} else if err := r.chat(ctx, name, component); err != nil {
			r.failChat(ctx, err)
		}
	}
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
	state := r.state()
	defer r.states.Put(state)
	state.headers.read(&ctx.Request.Header)
	state.ans = dataplane.Answer{Body: state.ans.Body[:0]}
	until, done := watch(ctx, r.ctx)
	scope, route, err := r.attempt(until, state, name, ctx.PostBody(), strandOf(ctx))
	done()
	setRoute(&ctx.Response.Header, &route)
	if err != nil || state.ans.StatusCode/100 != 2 {
		return invokeError(ctx, &state.req, &state.ans, err, scope, text(name), route)
	}
	handled(ctx, state.ans.Inline() && expressible(&ctx.Request))
	if ct := state.ans.ContentType; ct != "" {
		ctx.Response.Header.SetContentType(ct)
	}
	if a := state.ans.CustomAttributes; a != "" {
		ctx.Response.Header.Set("X-Amzn-Sagemaker-Custom-Attributes", a)
	}
	setSession(&ctx.Response.Header, &state.ans)
	// The answer's buffer becomes the response's, and the other way round.
	state.ans.Body = ctx.Response.SwapBody(state.ans.Body)
	return nil
}

func (r *runtime) state() *invocation {
	if state, ok := r.states.Get().(*invocation); ok {
		return state
	}
	return new(invocation)
}

// attempt is InvokeEndpoint between the request's headers, which are in state, and
// the answer, which will be.
func (r *runtime) attempt(until context.Context, state *invocation, name, body []byte, strand *eventloop.Strand) (sdkcompat.Scope, dataplane.Route, error) {
	h := &state.headers
	if err := h.check("InvokeEndpoint", name); err != nil {
		return sdkcompat.Scope{}, dataplane.Route{}, err
	}
	scope := r.scopes.of(h.authorization)
	key := dataplane.Key{Account: scope.Account, Region: scope.Region, Name: strings.ToLower(text(name))}
	h.fill(&state.req, "InvokeEndpoint", body, invokeTimeout)
	state.req.Strand = strand
	route, err := r.fleet.Invoke(until, key, &state.req, &state.ans)
	return scope, route, err
}

// setRoute says which variant and which instance answered.
func setRoute(h *fasthttp.ResponseHeader, route *dataplane.Route) {
	if route.Variant != "" {
		h.SetCanonical(variantHeader, octets(route.Variant))
	}
	if route.Instance != "" {
		h.SetCanonical(instanceHeader, octets(route.Instance))
	}
	if route.ColdStart > 0 {
		h.SetCanonical(coldStartHeader, strconv.AppendInt(nil, coldStartMillis(route), 10))
	}
}

// coldStartMillis is in whole milliseconds, at least 1.
func coldStartMillis(route *dataplane.Route) int64 {
	return int64((route.ColdStart + time.Millisecond - 1) / time.Millisecond)
}

// setSession passes on what the container said of a stateful session. Its
// X-Amzn-SageMaker-Session-Id has another name here (docs: stateful-sessions).
func setSession(h *fasthttp.ResponseHeader, ans *dataplane.Answer) {
	if ans.NewSession != "" {
		h.Set("X-Amzn-Sagemaker-New-Session-Id", ans.NewSession)
	}
	if ans.ClosedSession != "" {
		h.Set("X-Amzn-Sagemaker-Closed-Session-Id", ans.ClosedSession)
	}
}

var (
	variantHeader  = []byte("X-Amzn-Invoked-Production-Variant")
	instanceHeader = []byte("X-Sagelocal-Instance")
	// coldStartHeader is how long the request waited for an environment of a
	// serverless variant.
	coldStartHeader = []byte("X-Sagelocal-Cold-Start-Ms")
)

// text is b without a copy: valid until the handler returns, which is as long as
// a worker may use a request.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// octets is s without a copy, to be read only.
func octets(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// setRequestID writes the id in its text form.
func setRequestID(h *fasthttp.ResponseHeader, id []byte) {
	var out [36]byte
	h.SetCanonical(octets(requestIDHeader), appendUUID(out[:0], id))
}

// appendUUID appends the text form of an id.
func appendUUID(b, id []byte) []byte {
	const digits = "0123456789abcdef"
	for i, c := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}
