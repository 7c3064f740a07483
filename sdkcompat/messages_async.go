package sdkcompat

// InvokeEndpointAsync.
var (
	// That an endpoint takes either is documented (docs: async-inference).
	AsyncOnly = message(runtimeValidation, Chosen, "Endpoint {endpoint} has AsyncInferenceConfig and takes InvokeEndpointAsync only.", documentedRule)
	NotAsync  = message(runtimeValidation, Chosen, "Endpoint {endpoint} has no AsyncInferenceConfig and does not take InvokeEndpointAsync.", documentedRule)

	AsyncInputMissing = message(runtimeValidation, Chosen, "Either InputLocation or Body must be specified.", documentedRule)
	AsyncInputTwice   = message(runtimeValidation, Chosen, "Only one of InputLocation and Body can be specified.", documentedRule)
	AsyncBodyTooLong  = message(runtimeValidation, Chosen, "1 validation error detected: Value at 'body' failed to satisfy constraint: Member must have length less than or equal to {limit}",
		"the limit is in the service model; the sentence is that of other sensitive members")
	AsyncInputElsewhere = message(runtimeValidation, Chosen, "InputLocation {location} does not name an object in Amazon S3.", "")
	AsyncQueueFull      = message("ThrottlingException", Chosen, "The queue of endpoint {endpoint} is full. Please try again.", "the bound of 120,000 is documented; AWS throttles without a message")
)

// What a notification's failureReason says, and, but for the first, the failure
// object too.
var (
	AsyncModelFailed = message(FailureReason, Seen, "{error}: Received {kind} error ({status}) from {container}. See the SageMaker Endpoint logs in your account for more information.",
		"public logs, of a container's 400")
	AsyncInputFailed     = message(FailureReason, Chosen, "ClientError: Could not read the request payload at {location}: {cause}.", "")
	AsyncOutputFailed    = message(FailureReason, Chosen, "ServerError: Could not write the response to {location}: {cause}.", "")
	AsyncExpired         = message(FailureReason, Chosen, "ClientError: The request was in the queue for more than {seconds} seconds.", "")
	AsyncEndpointDeleted = message(FailureReason, Chosen, "ServerError: Endpoint {endpoint} was deleted before it processed the request.", "")
	AsyncInvalid         = message(FailureReason, Chosen, "ClientError: The request could not be sent to the container: {cause}.", "")
)
