package sdkcompat

// Codes of the catalogue's messages.
const (
	// The control plane's answer to nearly every bad request is not modelled: SDKs
	// raise their generic error, and the EndpointDeleted waiter relies on the code.
	validation = "ValidationException"
	// The runtime's counterpart is modelled.
	runtimeValidation = "ValidationError"
	// Malformed JSON, and members of the wrong JSON type.
	serialization = "SerializationException"

	modelError   = "ModelError"
	unavailable  = "ServiceUnavailable"
	accessDenied = "AccessDeniedException"
)

// What a request says of resources. AWS answers ValidationException, never
// ResourceNotFound, for models, configurations, endpoints and components.
var (
	AlreadyExists = message(validation, Seen, `Cannot create already existing {kind} "{arn}".`,
		"sagemaker-python-sdk#101, spot-tagging-bot#2, astronomer-providers#1055")
	NotFound = message(validation, Seen, `Could not find {kind} "{arn}".`,
		"amazon-sagemaker-examples#2402, terraform-provider-aws#40048")
	EndpointInProgress = message(validation, Seen, `Cannot update in-progress endpoint "{arn}".`,
		"logs of modeldb's tests; AWS Controllers for Kubernetes matches it")
	InvalidPaginationToken = message(validation, Chosen, "Invalid pagination token.", "begins like moto's")
)

// CreateModel.
var (
	ContainersTwice   = message(validation, Chosen, "Only one of PrimaryContainer and Containers can be specified.", "")
	ContainersMissing = message(validation, Chosen, "Either PrimaryContainer or Containers must be specified.", "")
	HostnameNotUnique = message(validation, Chosen, `ContainerHostname "{hostname}" is not unique within the model.`, "")
	// ModelDataUnreadable ends in the local cause, which AWS's does not have.
	ModelDataUnreadable = message(validation, Seen, "Could not access model data at {url}. "+
		`Please ensure that the role exists and that its trust relationship policy allows the action "sts:AssumeRole" `+
		`for the service principal "sagemaker.amazonaws.com". Also ensure that the role has "s3:GetObject" permissions `+
		"and that the object is located in the region of the endpoint ({cause}).", "public logs; the tail in part")
)

// CreateEndpointConfig.
var (
	ShadowNeedsOneOfEach = message(validation, Chosen, "ShadowProductionVariants requires exactly one ProductionVariant and exactly one ShadowProductionVariant.",
		"the rule is documented")
	VariantNotUnique              = message(validation, Chosen, `The variant name "{variant}" was non-unique within the request.`, "moto's")
	ManagedScalingNeedsComponents = message(validation, Seen, "ManagedInstanceScaling is only supported for inference component endpoints.",
		"terraform-provider-aws#45926")
	ServerlessExcludesInstances = message(validation, Chosen, `Production variant "{variant}": ServerlessConfig cannot be combined with InstanceType, InitialInstanceCount or InstancePools.`,
		"the rule is documented")
	InstancesMissing      = message(validation, Chosen, `Production variant "{variant}": either InstanceType, InstancePools or ServerlessConfig must be specified.`, "")
	InstanceCountMissing  = message(validation, Chosen, `Production variant "{variant}": InitialInstanceCount must be specified.`, "")
	MemorySizeStep        = message(validation, Chosen, `Production variant "{variant}": MemorySizeInMB must be a multiple of 1024.`, "the rule is documented")
	PrefixAwareIncomplete = message(validation, Chosen, `Production variant "{variant}": RoutingStrategy PREFIX_AWARE requires PrefixAwareRoutingConfig with PrefixLength and ConcurrencyThreshold.`,
		"the rule is documented")
)

// Operations on endpoints.
var (
	// NotHosted says what is not built.
	NotHosted         = message(validation, Chosen, "sagelocal does not host {what} yet; docs/fidelity.md lists what it does.", "")
	VariantNotPresent = message(validation, Chosen, `The variant name(s) "{variant}" is/are not present within endpoint configuration "{config}".`, "moto's")

	CapacityOfServerless   = message(validation, Chosen, `DesiredInstanceCount cannot be set for serverless variant "{variant}".`, "")
	ConcurrencyOfInstances = message(validation, Chosen, `ServerlessUpdateConfig cannot be set for variant "{variant}", which has instances.`, "")
	CapacityZero           = message(validation, Chosen, `DesiredInstanceCount of variant "{variant}" must be at least 1.`, "")
	ProvisionedAboveMax    = message(validation, Chosen, `ProvisionedConcurrency of variant "{variant}" must not exceed its MaxConcurrency.`, "the rule is documented")
)

// Tags.
var (
	InvalidResourceARN = message(validation, Chosen, `Invalid resource ARN "{arn}".`, "")
	ResourceElsewhere  = message(validation, Chosen, `Could not find resource "{arn}" in account {account} and region {region}.`, "")
	ResourceUntagged   = message(validation, Chosen, `Could not find resource "{arn}": sagelocal keeps tags of models, endpoint configurations, endpoints and inference components.`, "")
	TooManyTags        = message(validation, Chosen, `Resource "{arn}" cannot have more than {limit} tags.`, "the limit is documented")
)

// What an endpoint's FailureReason says.
var (
	PingFailed = message(FailureReason, Seen, "The {container} container for production variant {variant} did not pass the ping health check. "+
		"Please check CloudWatch logs for this endpoint.", "dozens of issues and logs, 2018 to 2026")
	CannotStart = message(FailureReason, Seen, "CannotStartContainerError. Please ensure the model container for variant {variant} starts correctly when invoked with 'docker run <image> serve'",
		"public logs, 2025 and 2026")
	InsufficientCapacity = message(FailureReason, Seen, "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "+
		"Please retry using a different ML instance type or after some time.", "public logs")
	ModelDataFailed = message(FailureReason, Chosen, "Failed to download model data for production variant {variant}: {cause}.", "")
	ServiceFailed   = message(FailureReason, Chosen, "Request to service failed. If failure persists after retry, contact customer support.", "")
	// InstanceFailing is said while instances are tried again.
	InstanceFailing = message(StatusMessage, Chosen, "Instance {ordinal} failed {count} times: {cause}", "")
)

// Invocations. The runtime's code is ValidationError where the control plane's is
// ValidationException.
var (
	EndpointUnknown = message(runtimeValidation, Seen, "Endpoint {endpoint} of account {account} not found.",
		"amazon-sagemaker-examples#293, #559, #1477")
	TargetVariantUnknown = message(runtimeValidation, Chosen, "TargetVariant names no production variant of endpoint {endpoint}.", "")
	NoWeight             = message(runtimeValidation, Chosen, "No production variant of endpoint {endpoint} has a weight above zero.", "")
	NoComponents         = message(runtimeValidation, Seen, "Inference Component Name header is not allowed for endpoints to which you dont plan to deploy inference components. "+
		"Please remove the Inference Component Name header and try again.", "litellm's fixtures")
	NotImplemented = message(runtimeValidation, Chosen, "sagelocal does not implement {what} yet; docs/fidelity.md lists what it does.", "")

	ModelSaid = message(modelError, Seen, `Received {kind} error ({status}) from {container} with message "{said}". `+
		"See https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logEventViewer:group={group} in account {account} for more information.",
		"many issues and logs, 2018 to 2026")
	InvocationTimedOut = message(modelError, Seen, "Your invocation timed out while waiting for a response from container {container}. "+
		"Review the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again.", "public logs, 2026; within the sentence above, status 0")
	AnswerTooLarge = message(modelError, Chosen, "The response from container {container} is larger than {limit} bytes.", "within the sentence above, status 0")
	AnswerBroken   = message(modelError, Chosen, "The connection to container {container} failed before its response was complete.", "within the sentence above, status 0")

	NoInstance      = message(unavailable, Chosen, "No instance of production variant {variant} of endpoint {endpoint} is in service at the moment. Please try again.", "")
	RequestCanceled = message(unavailable, Chosen, "The request was canceled.", "")
)

// Requests that are refused before an operation runs.
var (
	UnknownOperation = message("UnknownOperationException", Chosen, "sagelocal does not implement {operation}. It implements {operations}.", "the code is documented")
	BodyUnreadable   = message(serialization, Chosen, "The request body could not be read.", "")
	NotHTTP          = message(serialization, Chosen, "The request is not valid HTTP.", "")
	BodyTooLarge     = message("RequestEntityTooLargeException", Chosen, "The request body is larger than is allowed.", "the code is documented")
	HeadersTooLarge  = message("RequestHeaderFieldsTooLarge", Chosen, "The request headers are larger than {limit} bytes.", "")
	RequestTimedOut  = message("RequestTimeout", Chosen, "The request did not arrive in time.", "")
	HostRefused      = message(accessDenied, Chosen, "Host {host} is not allowed: use an address, localhost, or a name given with --allow-host.", "")
	CrossSiteRefused = message(accessDenied, Chosen, "Cross-site requests from browsers are refused.", "")
	OriginRefused    = message(accessDenied, Chosen, "Requests from origin {origin} are refused.", "")
	RequestFailed    = message("InternalFailure", Chosen, "The request failed inside sagelocal; its log says why under request id {id}.", "the code is documented")
)

// sagelocal's own routes.
var (
	InvalidResponsesBody = message(validation, Chosen, `The body is not {"rules": [...]}: {cause}`, "")
	InvalidFaults        = message(validation, Chosen, "Invalid faults: {cause}.", "")
	InvalidResponses     = message(validation, Chosen, "Invalid scripted responses: {cause}.", "")
	InvalidTail          = message(validation, Chosen, "tail must be a number from 1 to 10000.", "")
	InvalidEndpointName  = message(validation, Chosen, "Invalid endpoint name {name}.", "")
)

// sister says of a text that SageMaker was not caught saying it.
const sister = "a service built on the same framework"

// The document that a request is: what AWS's JSON parser says, measured on a
// live JSON 1.1 service, article mistakes included. Malformed JSON has no text.
var (
	malformedDocument   = message(serialization, Chosen, "", sister)
	documentTooLong     = message(serialization, Chosen, "The document is longer than {limit} bytes", "")
	documentTooDeep     = message(serialization, Chosen, "The document is nested more than {limit} levels deep", "")
	listUnexpected      = message(serialization, Chosen, "Start of list found where not expected", sister)
	structureUnexpected = message(serialization, Chosen, "Start of structure or map found where not expected.", sister)
	listExpected        = message(serialization, Chosen, "Expected list or null", sister)
	mapExpected         = message(serialization, Chosen, "Expected map or null", sister)
	structureExpected   = message(serialization, Chosen, "Expected null", sister)
	notConvertible      = message(serialization, Chosen, "{kind} can not be converted to {type}", sister)
)

// The parts of the sentence about broken constraints. The runtime has the same
// under its own code.
var (
	violationFound  = message(validation, Seen, "1 validation error detected: {item}", "amazon-sagemaker-examples#2228")
	violationsFound = message(validation, Seen, "{count} validation errors detected: {items}",
		"sagemaker-ml-workflow-with-apache-airflow#3")
	violation         = message(validation, Seen, "Value '{value}' at '{path}' failed to satisfy constraint: {rule}", "amazon-sagemaker-examples#2228")
	violationOfNull   = message(validation, Chosen, "Value null at '{path}' failed to satisfy constraint: Member must not be null", sister)
	violationOfSecret = message(validation, Seen, "Value at '{path}' failed to satisfy constraint: {rule}", "aws-sdk-js#4203, of the runtime")

	maxLength      = message(validation, Seen, "Member must have length less than or equal to {limit}", "sagemaker-ml-workflow-with-apache-airflow#3")
	minLength      = message(validation, Seen, "Member must have length greater than or equal to {limit}", "sagemaker-sparkml-serving-container#12")
	maxValue       = message(validation, Chosen, "Member must have value less than or equal to {limit}", sister)
	minValue       = message(validation, Chosen, "Member must have value greater than or equal to {limit}", sister)
	matchesPattern = message(validation, Seen, "Member must satisfy regular expression pattern: {pattern}", "amazon-sagemaker-examples#2228")
	inEnum         = message(validation, Seen, "Member must satisfy enum value set: [{values}]", "public logs")
	eachElement    = message(validation, Chosen, "Member must satisfy constraint: [{rules}]", "follows that of map values")
	eachKey        = message(validation, Chosen, "Map keys must satisfy constraint: [{rules}]", sister)
	eachValue      = message(validation, Seen, "Map value must satisfy constraint: [{rules}]", "sagemaker-sparkml-serving-container#12")
)
