package sdkcompat

// documentedRule says that AWS documents the rule and not the sentence.
const documentedRule = "the rule is documented"

// What CreateModel refuses of containers.
var (
	ImageOrPackage = message(validation, Seen, "Specify one of either Image and Model Data URL or ModelPackageName in container definition.",
		"a public pipeline's source; without Image and with both")
	ModelDataTwice                    = message(validation, Chosen, "Only one of ModelDataUrl and ModelDataSource can be specified in a container definition.", "")
	ExecutionNeedsContainers          = message(validation, Chosen, "InferenceExecutionConfig requires Containers with more than one container.", documentedRule)
	DirectNeedsHostnames              = message(validation, Chosen, "ContainerHostname must be specified for every container when Mode of InferenceExecutionConfig is Direct.", documentedRule)
	HostnamesOfSome                   = message(validation, Chosen, "ContainerHostname must be specified for every container or for none.", documentedRule)
	MultiModelTwice                   = message(validation, Seen, "More than one container in MultiModel mode is not supported with inference pipeline.", "sagemaker-autopilot-step-functions#10")
	MultiModelExcludesModelDataSource = message(validation, Chosen, "ModelDataSource cannot be specified for a container in MultiModel mode.", documentedRule)
	MultiModelNeedsPrefix             = message(validation, Chosen, "ModelDataUrl must be specified for a container in MultiModel mode.", documentedRule)
	MultiModelPrefixIsModel           = message(validation, Chosen, "ModelDataUrl {url} of a container in MultiModel mode must be the S3 prefix of its models, not one model.", documentedRule)
	EnvironmentTooLarge               = message(validation, Chosen, "The keys and values of Environment have {size} bytes together, more than {limit}.", documentedRule)
	ChannelNotUnique                  = message(validation, Chosen, "The ChannelName of each of the AdditionalModelDataSources must be unique.", "")
	GzipNeedsObject                   = message(validation, Chosen, "{member}: CompressionType Gzip requires S3DataType S3Object.", documentedRule)
	PrefixWithoutSlash                = message(validation, Chosen, "{member}: S3Uri {uri} must end with a slash for S3DataType S3Prefix.", documentedRule)
)

// What CreateEndpointConfig refuses of variants.
var (
	OverrideNeedsModel       = message(validation, Chosen, `Production variant "{variant}": ModelNameOverride of an instance pool requires ModelName.`, "")
	IsolationNeedsComponents = message(validation, Chosen, `Production variant "{variant}": EnableNetworkIsolation of the endpoint configuration cannot be combined with ModelName.`,
		"the rule is told in terraform-provider-aws#48738")

	PoolsExcludeInstanceType = message(validation, Chosen, `Production variant "{variant}": InstancePools cannot be combined with InstanceType.`, documentedRule)
	PoolPriorityNotUnique    = message(validation, Chosen, `Production variant "{variant}": each of the InstancePools must have a Priority of its own.`, "")
	PoolTypeNotUnique        = message(validation, Chosen, `Production variant "{variant}": each of the InstancePools must have an InstanceType of its own.`, "")
	KeyOfLocalStorage        = message(validation, Chosen, `Production variant "{variant}": KmsKeyId cannot be specified for an instance type with local storage.`,
		"the rule was documented until 2026")
	VolumeOfLocalStorage = message(validation, Chosen, `Production variant "{variant}": VolumeSizeInGB cannot be specified for an instance type with local storage.`,
		"the refusal is told in sagemaker-python-sdk#4828")
	LayoutNotSingle         = message(validation, Chosen, `Production variant "{variant}": AcceleratorPartitionLayouts must have a single layout.`, documentedRule)
	LayoutNeedsAccelerators = message(validation, Chosen, `Production variant "{variant}": AcceleratorPartitionLayouts requires an instance type with accelerators.`, "")
	PrefixAwareUnasked      = message(validation, Chosen, `Production variant "{variant}": PrefixAwareRoutingConfig requires RoutingStrategy PREFIX_AWARE.`, documentedRule)

	ShadowExcludesAsync      = message(validation, Chosen, "ShadowProductionVariants cannot be combined with AsyncInferenceConfig.", documentedRule)
	ShadowExcludesInf1       = message(validation, Chosen, `Production variant "{variant}": Inf1 instances cannot be combined with ShadowProductionVariants.`, documentedRule)
	ShadowExcludesContainers = message(validation, Chosen, `Production variant "{variant}": models of several containers cannot be combined with ShadowProductionVariants.`, documentedRule)
	ShadowExcludesMultiModel = message(validation, Chosen, `Production variant "{variant}": multi-model endpoints cannot be combined with ShadowProductionVariants.`, documentedRule)

	ServerlessExcludesInstanceSettings = message(validation, Chosen, `Production variant "{variant}": ServerlessConfig cannot be combined with VolumeSizeInGB, RoutingConfig, AcceleratorType, `+
		"AcceleratorPartitionLayouts, CapacityReservationConfig, InferenceAmiVersion or VariantInstanceProvisionTimeoutInSeconds.", "")
)

// likeIsolation says which sentence was the pattern of those that follow.
const likeIsolation = "the rule is documented; the sentence follows that on network isolation"

// What Serverless Inference does not have.
var (
	ServerlessExcludesIsolation       = message(validation, Seen, "Network isolation is not supported for Serverless Inference", "notes of a public course, 2026")
	ServerlessExcludesVPC             = message(validation, Chosen, "VPC configuration is not supported for Serverless Inference", likeIsolation)
	ServerlessExcludesVariants        = message(validation, Chosen, "Multiple production variants are not supported for Serverless Inference", likeIsolation)
	ServerlessExcludesShadow          = message(validation, Chosen, "Shadow variants are not supported for Serverless Inference", likeIsolation)
	ServerlessExcludesAsync           = message(validation, Chosen, "Asynchronous inference is not supported for Serverless Inference", "")
	ServerlessExcludesCapture         = message(validation, Chosen, "Data capture is not supported for Serverless Inference", likeIsolation)
	ServerlessExcludesContainers      = message(validation, Chosen, "Inference pipelines are not supported for Serverless Inference", likeIsolation)
	ServerlessExcludesMultiModel      = message(validation, Chosen, "Multi-model endpoints are not supported for Serverless Inference", likeIsolation)
	ServerlessExcludesModelDataSource = message(validation, Chosen, "Model with containers that use ModelDataSource is not supported for Serverless Inference",
		"seen as far as ModelDataSource in a public log, 2026")
	ServerlessExcludesRegistries = message(validation, Chosen, "Private Docker registries are not supported for Serverless Inference", likeIsolation)
)

// QuotaExceeded is of the quota's name as AWS lists it. AWS's documentation
// quotes the sentence with both of its hints.
var QuotaExceeded = message("ResourceLimitExceeded", Seen, "The account-level service limit '{quota}' is {limit} {unit}, with current utilization of {used} {unit} and a request delta of {delta} {unit}. "+
	"Please use AWS Service Quotas to request an increase for this quota. If AWS Service Quotas is not available, contact AWS support to request an increase for this quota.",
	"aws-genai-llm-chatbot#244; with the last hint in the developer guide and in logs since 2023")

// sagelocal's own route.
var (
	InvalidCapacityBody = message(validation, Chosen, `The body is not {"rules": [...]} of capacity: {cause}`, "")
	InvalidCapacity     = message(validation, Chosen, "Invalid capacity: {cause}.", "")
)
