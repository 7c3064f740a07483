package sdkcompat

// Invocations of one of several containers (docs: multi-container-direct, which
// says that each of these is an error).
var (
	NotMultiContainer = message(runtimeValidation, Chosen, "Endpoint {endpoint} is not a multi-container endpoint in direct mode and does not support target container hostname header.",
		"the rule is documented; begins like that on the target model header")
	TargetContainerMissing = message(runtimeValidation, Chosen, "Request {request} is missing a target container hostname header.",
		"the rule is documented; begins like that on the target model header")
	TargetContainerUnknown = message(runtimeValidation, Chosen, "Endpoint {endpoint} has no container with hostname {hostname}.", "the rule is documented")
)

// Invocations of one of several models.
var (
	NotMultiModel = message(runtimeValidation, Seen, "Endpoint {endpoint} is not a multi-model endpoint and does not support target model header.",
		"amazon-sagemaker-examples#1026, #1216")
	TargetModelMissing = message(runtimeValidation, Seen, "Request {request} is missing a target model header.",
		"sagemaker-tensorflow-serving-container#166, where the end is cut off")
	TargetModelInvalid = message(runtimeValidation, Chosen, "TargetModel {model} is not a path below the ModelDataUrl of endpoint {endpoint}.", "")
	// ModelFetchFailed ends in the local cause, which AWS's does not have.
	ModelFetchFailed = message(runtimeValidation, Seen, "Failed to download model data (bucket: {bucket}, key: {key}). "+
		"Please ensure that there is an object located at the URL and that the role passed to CreateModel has permissions to download the object ({cause}).",
		"a public troubleshooting page for adapters; the end as in fraud-detection-using-machine-learning#9")
	ModelNotReady = message("ModelNotReadyException", Chosen, "Model {model} of endpoint {endpoint} is still being downloaded or loaded. Please try again.",
		"the code and when it comes are documented")
)
