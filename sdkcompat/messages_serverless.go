package sdkcompat

// Invocations of serverless variants.
var (
	// Throttled has no message: its body is {"message":null}.
	Throttled = message("ThrottlingException", Seen, "", "ml-commons#2429, amazon-kinesis-video-streams-parser-library#187")
	// EnvironmentNotReady is retried by AWS's clients.
	EnvironmentNotReady = message("ModelNotReadyException", Chosen, "The resources of serverless variant {variant} of endpoint {endpoint} are still being provisioned. Please try again.",
		"the code and when it comes are documented")
	EnvironmentFailed = message(modelError, Chosen, "Container {container} of the serverless variant did not start. Review its logs, resolve the issue, and try again.",
		"within the sentence above, status 0")
	SessionOfServerless = message(runtimeValidation, Chosen, "Serverless variant {variant} of endpoint {endpoint} does not support stateful sessions.", "")
	ServerlessPayload   = message("RequestEntityTooLargeException", Chosen, "The request body is larger than the {limit} bytes that a serverless variant takes.", "the limit is documented")
)
