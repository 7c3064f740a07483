package api

import (
	"context"
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// invokeError is AWS's answer to an invocation that did not succeed.
func invokeError(ctx *fasthttp.RequestCtx, req *dataplane.Request, ans *dataplane.Answer, err error, scope sdkcompat.Scope, endpoint string, route dataplane.Route) error {
	id := func() string { return string(ctx.Response.Header.Peek(requestIDHeader)) }
	return failure(id, req, ans, err, scope, endpoint, route)
}

// failure is invokeError of a request whose id is what id says.
func failure(id func() string, req *dataplane.Request, ans *dataplane.Answer, err error, scope sdkcompat.Scope, endpoint string, route dataplane.Route) error {
	// Status 0: the container gave none (seen on AWS for answers after 60 s).
	noAnswer := func(said string) error { return modelError(0, said, scope, endpoint, route.Container) }
	if e := serverlessError(err, endpoint, &route, noAnswer); e != nil {
		return e
	}
	switch {
	case err == nil:
		return modelError(ans.StatusCode, string(ans.Body), scope, endpoint, route.Container)
	case errors.Is(err, dataplane.ErrNoEndpoint):
		return sdkcompat.EndpointUnknown.Error(endpoint, scope.Account)
	case errors.Is(err, dataplane.ErrNoSession):
		return sdkcompat.SessionUnknown.Error(endpoint)
	case errors.Is(err, dataplane.ErrSessionOfStream):
		return sdkcompat.SessionOfStream.Error()
	case errors.Is(err, dataplane.ErrNoVariant):
		return sdkcompat.TargetVariantUnknown.Error(endpoint)
	case errors.Is(err, dataplane.ErrNoWeight):
		return sdkcompat.NoWeight.Error(endpoint)
	case errors.Is(err, dataplane.ErrComponentNotAllowed):
		return sdkcompat.NoComponents.Error()
	case errors.Is(err, dataplane.ErrComponentRequired):
		return sdkcompat.ComponentHeaderMissing.Error()
	case errors.Is(err, dataplane.ErrNoComponent):
		return sdkcompat.ComponentUnknown.Error(req.InferenceComponentName, endpoint)
	case errors.Is(err, dataplane.ErrComponentNotServing):
		return sdkcompat.ComponentNotServing.Error(route.Component.Name, endpoint, route.Component.Status)
	case errors.Is(err, dataplane.ErrComponentElsewhere):
		return sdkcompat.ComponentElsewhere.Error(route.Component.Name, endpoint)
	case errors.Is(err, dataplane.ErrNoCopies):
		return sdkcompat.ComponentNoCopies.Error(route.Component.Name, endpoint)
	case errors.Is(err, dataplane.ErrNoInstance) && route.Component != nil:
		return sdkcompat.NoCopy.Error(route.Component.Name, endpoint)
	case errors.Is(err, dataplane.ErrNoInstance):
		return sdkcompat.NoInstance.Error(route.Variant, endpoint)
	case errors.Is(err, dataplane.ErrAsyncOnly):
		return sdkcompat.AsyncOnly.Error(endpoint)
	case errors.Is(err, dataplane.ErrTimeout):
		return noAnswer(sdkcompat.InvocationTimedOut.Sentence(route.Container))
	case errors.Is(err, dataplane.ErrTooLarge):
		return noAnswer(sdkcompat.AnswerTooLarge.Sentence(route.Container, maxInvokeBytes))
	case errors.Is(err, dataplane.ErrBroken):
		return noAnswer(sdkcompat.AnswerBroken.Sentence(route.Container))
	case errors.Is(err, context.Canceled):
		// Nobody reads this any more, unless the daemon itself stops.
		return sdkcompat.RequestCanceled.Error()
	}
	if f := (*dataplane.FaultError)(nil); errors.As(err, &f) {
		return injected(f, endpoint)
	}
	if e := targetError(req, err, endpoint, id()); e != nil {
		return e
	}
	return err
}

// maxModelMessage is how long ModelError's Message and OriginalMessage may be (API
// model).
const maxModelMessage = 2048

// modelError is ModelError with AWS's sentence around what the container said.
// AWS page: API_runtime_InvokeEndpoint, section Errors.
func modelError(status int, said string, scope sdkcompat.Scope, endpoint, container string) error {
	kind, code := "server", "INTERNAL_FAILURE_FROM_MODEL"
	if status >= 400 && status < 500 {
		kind, code = "client", "CLIENT_ERROR_FROM_MODEL"
	}
	return modelErrorOf(kind, code, status, said, scope, endpoint, container)
}

func modelErrorOf(kind, code string, status int, said string, scope sdkcompat.Scope, endpoint, container string) error {
	group := "/aws/sagemaker/Endpoints/" + endpoint
	e := sdkcompat.ModelSaid.Error(kind, status, container, said, scope.Region, group, scope.Account)
	e.Message = sdkcompat.Truncate(e.Message, maxModelMessage)
	e.Members = map[string]any{
		"ErrorCode": code, "OriginalStatusCode": status, "OriginalMessage": sdkcompat.Truncate(said, maxModelMessage),
		"LogStreamArn": "arn:aws:logs:" + scope.Region + ":" + scope.Account + ":log-group:" + group,
	}
	return e
}
