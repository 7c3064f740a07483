package sdkcompat

// Errors of a stream that has begun (API_runtime_InvokeEndpointWithResponseStream).
const (
	modelStreamError      = "ModelStreamError"
	internalStreamFailure = "InternalStreamFailure"
)

// Streams.
var (
	StreamTimedOut = message(modelStreamError, Chosen, "Your invocation timed out while container {container} was sending its response.", "the ErrorCode ModelInvocationTimeExceeded is documented")
	StreamBroken   = message(modelStreamError, Chosen, "The connection to container {container} failed before its response was complete.", "the ErrorCode StreamBroken is documented")
	StreamCanceled = message(internalStreamFailure, Chosen, "The request was canceled.", "")
)

// The OpenAI-compatible route (docs: realtime-endpoints-openai-compatible).
var (
	BearerMissing   = message("MissingAuthenticationTokenException", Chosen, "A bearer token is required: Authorization: Bearer sagemaker-api-key-...", "")
	BearerNotSigV4  = message(accessDenied, Chosen, "This path takes a bearer token and no signature.", "that it is refused with 403 is seen in stdapi.ai's source")
	BearerInvalid   = message("UnrecognizedClientException", Chosen, "The bearer token is not valid: {cause}.", "")
	BearerExpired   = message("ExpiredTokenException", Chosen, "The bearer token expired at {time}.", "")
	ComponentInPath = message(runtimeValidation, Chosen, "Inference Component Name header is not allowed on this path: put the name into the path as /endpoints/ENDPOINT/inference-components/COMPONENT/openai/v1.",
		"the refusal is seen in stdapi.ai's source")
)
