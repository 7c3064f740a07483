package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// invokeError is AWS's answer to an invocation that did not succeed.
func invokeError(ans *dataplane.Answer, err error, scope sdkcompat.Scope, endpoint string, route dataplane.Route) error {
	switch {
	case err == nil:
		return modelError(ans.StatusCode, string(ans.Body), scope, endpoint, route.Container)
	case errors.Is(err, dataplane.ErrNoEndpoint):
		return sdkcompat.RuntimeValidation(fmt.Sprintf("Endpoint %s of account %s not found.", endpoint, scope.Account))
	case errors.Is(err, dataplane.ErrNoVariant):
		return sdkcompat.RuntimeValidation("TargetVariant names no production variant of endpoint " + endpoint + ".")
	case errors.Is(err, dataplane.ErrNoWeight):
		return sdkcompat.RuntimeValidation("No production variant of endpoint " + endpoint + " has a weight above zero.")
	case errors.Is(err, dataplane.ErrNoInstance):
		return &sdkcompat.Error{
			Code: "ServiceUnavailable", Status: http.StatusServiceUnavailable,
			Message: fmt.Sprintf("No instance of production variant %s of endpoint %s is in service at the moment. Please try again.", route.Variant, endpoint),
		}
	case errors.Is(err, dataplane.ErrTimeout):
		// Status 0: the container gave none (seen on AWS for answers after 60 s).
		return modelError(0, fmt.Sprintf("Your invocation timed out while waiting for a response from container %s. "+
			"Review the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again.", route.Container),
			scope, endpoint, route.Container)
	case errors.Is(err, dataplane.ErrTooLarge):
		return modelError(0, fmt.Sprintf("The response from container %s is larger than %d bytes.", route.Container, maxInvokeBytes), scope, endpoint, route.Container)
	case errors.Is(err, dataplane.ErrBroken):
		return modelError(0, fmt.Sprintf("The connection to container %s failed before its response was complete.", route.Container), scope, endpoint, route.Container)
	case errors.Is(err, context.Canceled):
		// Nobody reads this any more, unless the daemon itself stops.
		return &sdkcompat.Error{Code: "ServiceUnavailable", Status: http.StatusServiceUnavailable, Message: "The request was canceled."}
	}
	return err
}

// maxModelMessage is how long ModelError.Message may be (API model).
const maxModelMessage = 2048

// modelError is ModelError with AWS's sentence around what the container said.
// AWS page: API_runtime_InvokeEndpoint, section Errors.
func modelError(status int, said string, scope sdkcompat.Scope, endpoint, container string) error {
	kind, code := "server", "INTERNAL_FAILURE_FROM_MODEL"
	if status >= 400 && status < 500 {
		kind, code = "client", "CLIENT_ERROR_FROM_MODEL"
	}
	group := "/aws/sagemaker/Endpoints/" + endpoint
	message := fmt.Sprintf("Received %s error (%d) from %s with message \"%s\". "+
		"See https://%s.console.aws.amazon.com/cloudwatch/home?region=%s#logEventViewer:group=%s in account %s for more information.",
		kind, status, container, said, scope.Region, scope.Region, group, scope.Account)
	return &sdkcompat.Error{
		Code: "ModelError", Status: http.StatusFailedDependency, Message: sdkcompat.Truncate(message, maxModelMessage),
		Members: map[string]any{
			"ErrorCode": code, "OriginalStatusCode": status, "OriginalMessage": said,
			"LogStreamArn": "arn:aws:logs:" + scope.Region + ":" + scope.Account + ":log-group:" + group,
		},
	}
}
