package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

var (
	chatAction       = []byte("openai/v1/chat/completions")
	componentsAction = []byte("inference-components/")
)

const componentHeader = "X-Amzn-Sagemaker-Inference-Component"

// chatComponent finds the inference component in
// [inference-components/{name}/]openai/v1/chat/completions; false for any other
// path.
func chatComponent(action []byte) (component []byte, ok bool) {
	if bytes.Equal(action, chatAction) {
		return nil, true
	}
	rest, ok := bytes.CutPrefix(action, componentsAction)
	if !ok {
		return nil, false
	}
	component, rest, _ = bytes.Cut(rest, []byte("/"))
	return component, len(component) > 0 && bytes.Equal(rest, chatAction)
}

// chat is the OpenAI-compatible path: the body goes to the container as it is,
// and the container's answer comes back as it comes. AWS page:
// realtime-endpoints-openai-compatible.
func (r *runtime) chat(ctx *fasthttp.RequestCtx, name, component []byte) error {
	l := newLive()
	h := &l.headers
	h.read(&ctx.Request.Header)
	scope, err := r.bearer(h.authorization)
	if err != nil {
		return err
	}
	if h.get(componentHeader) != "" {
		return sdkcompat.ComponentInPath.Error()
	}
	if len(component) > 0 {
		h.sagemaker = append(h.sagemaker, invokeHeader{componentHeader, text(component)})
	}
	if err := h.check(streamOperation, name); err != nil {
		return err
	}
	key := dataplane.Key{Account: scope.Account, Region: scope.Region, Name: strings.ToLower(text(name))}
	h.fill(&l.req, "ChatCompletions", ctx.PostBody(), streamTimeout)
	l.req.Path = dataplane.ChatCompletionsPath
	id := string(ctx.Response.Header.Peek(requestIDHeader))
	l.form = &verbatim{live: l, failed: func(err error) *sdkcompat.Error {
		return streamError(r.log, err, id, l.route.Container)
	}}

	l.start(ctx, r, key)
	setRoute(&ctx.Response.Header, &l.route)
	if !l.accepted() || l.err != nil && l.empty() {
		ans := dataplane.Answer{StatusCode: l.head.StatusCode, Body: l.refused}
		return invokeError(ctx, &l.req, &ans, l.err, scope, text(name), l.route)
	}
	ctx.SetStatusCode(l.head.StatusCode)
	if ct := l.head.ContentType; ct != "" {
		ctx.Response.Header.SetContentType(ct)
	}
	if l.ended && l.err == nil {
		ctx.Response.SetBody(l.out.Bytes()) // whole, and so with its length
		l.release()
		return nil
	}
	l.respond(ctx)
	return nil
}

// bearer is the scope of an Authorization header with a bearer token.
func (r *runtime) bearer(authorization []byte) (sdkcompat.Scope, error) {
	scheme, token, _ := strings.Cut(text(authorization), " ")
	switch {
	case len(authorization) == 0:
		return sdkcompat.Scope{}, sdkcompat.BearerMissing.Error()
	case strings.HasPrefix(scheme, "AWS4-"):
		return sdkcompat.Scope{}, sdkcompat.BearerNotSigV4.Error()
	case !strings.EqualFold(scheme, "Bearer"):
		return sdkcompat.Scope{}, sdkcompat.BearerMissing.Error()
	}
	return sdkcompat.ScopeFromBearer(strings.TrimSpace(token), r.scopes.fallback, time.Now())
}

// failChat answers in the shape that OpenAI's clients decode and AWS uses on this
// path (seen in stdapi.ai's fixtures). An error of the container's keeps its
// status.
func (r *runtime) failChat(ctx *fasthttp.RequestCtx, err error) {
	e := shown(r.log, err, string(ctx.Response.Header.Peek(requestIDHeader)), "runtime "+printable(string(ctx.Path())))
	status := e.Status
	if original, ok := e.Members["OriginalStatusCode"].(int); ok && original >= 400 {
		status = original
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.Response.Header.Set(errorTypeHeader, e.Code)
	ctx.SetBody(chatError(e))
}

// chatError is an error's body.
func chatError(e *sdkcompat.Error) []byte {
	type detail struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    string `json:"code"`
	}
	kind := "invalid_request_error"
	if e.Status >= http.StatusInternalServerError || strings.HasPrefix(e.Code, "Model") || e.Status == 0 {
		kind = "server_error"
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(struct {
		Error detail `json:"error"`
	}{detail{e.Message, kind, snake(strings.TrimSuffix(e.Code, "Exception"))}})
	if err != nil {
		return []byte(`{"error":{}}`) // cannot be: three strings
	}
	return bytes.TrimSuffix(body.Bytes(), []byte("\n"))
}

// snake writes ModelError as model_error.
func snake(name string) string {
	var b strings.Builder
	for i, c := range name {
		if unicode.IsUpper(c) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// verbatim passes an answer on as it is.
type verbatim struct {
	live   *live
	failed func(error) *sdkcompat.Error
}

func (v *verbatim) piece(out *bytes.Buffer, p []byte) error {
	_, err := out.Write(p)
	return err
}

var errIncomplete = errors.New("the container's answer is incomplete")

// failure of server-sent events is one more event, of which OpenAI's clients
// make an error. The blank lines before it end an event that is incomplete. Any
// other answer is cut off, so that it is not taken for whole.
func (v *verbatim) failure(out *bytes.Buffer, err error) error {
	if kind, _, parse := mime.ParseMediaType(v.live.head.ContentType); parse != nil || kind != "text/event-stream" || canceled(err) {
		return fmt.Errorf("%w: %w", errIncomplete, err)
	}
	fmt.Fprintf(out, "\n\ndata: %s\n\n", chatError(v.failed(err)))
	return nil
}
