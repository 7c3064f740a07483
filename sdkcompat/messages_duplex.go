package sdkcompat

// inputValidation is SageMaker Runtime HTTP2's name of ValidationError.
const inputValidation = "InputValidationError"

// Bidirectional streams. AWS page: API_runtimehttp2_InvokeEndpointWithBidirectionalStream.
var (
	DuplexRefused     = message(modelError, Seen, "Failed to establish WebSocket connection", "a public log; within the sentence above, status 424")
	DuplexClosed      = message(modelStreamError, Chosen, `Container {container} closed the WebSocket with code {code} and reason "{reason}".`, "that the code is told is documented")
	DuplexUnanswered  = message(modelStreamError, Chosen, "Container {container} left {count} pings in a row unanswered.", "that the connection is closed is documented")
	DuplexTooLarge    = message(modelStreamError, Chosen, "Container {container} sent a frame of more than {limit} bytes.", "")
	DuplexInvalid     = message(internalStreamFailure, Chosen, "The request stream could not be read: {cause}.", "")
	DuplexUnsupported = message(inputValidation, Chosen, "Endpoint {endpoint} does not support bidirectional streaming: {cause}.", "")
	DuplexNeedsHTTP2  = message(inputValidation, Chosen, "InvokeEndpointWithBidirectionalStream requires HTTP/2.", "the rule is documented")
	DuplexTooMany     = message(unavailable, Chosen, "There are {limit} bidirectional streams already. Please try again.", "")
)
