package sdkcompat

// Operations on inference components.
var (
	ComponentInProgress = message(validation, Chosen, `Cannot update in-progress inference component "{arn}".`,
		"as for endpoints; that AWS refuses is seen in amazon-sagemaker-examples#3432")
	ComponentDeleting = message(validation, Chosen, `Inference component "{arn}" is being deleted: DELETE_IN_PROGRESS.`,
		"the word that terraform-provider-aws#48894 matches")
	ComponentFailed    = message(validation, Chosen, `Inference component "{arn}" is Failed and can only be deleted.`, "as for endpoints")
	BaseHasAdapters    = message(validation, Chosen, `Inference component "{arn}" is a base inference component for one or more associated adapter inference components.`, "the words that terraform-provider-aws#48894 matches")
	ComponentsOnDelete = message(validation, Seen, "Cannot delete endpoint with inference component associated. Please delete inference component and try it again.",
		"gruntwork-io/cloud-nuke#1142")
	ComponentsLose = message(validation, Chosen, `Endpoint configuration "{config}" has no production variant "{variant}" without ModelName, which inference component "{arn}" is on.`, "")
	CopyCountZero  = message(validation, Seen, "Inference components copy count an integer larger than 0.",
		"stdapi.ai#43; what stands around these words is unknown")
	UpdateUnsupported = message(validation, Chosen, `Update operation is not supported for inference component "{arn}": {cause}.`,
		"begins as seen in public logs")

	ComponentEndpointNotReady = message(validation, Chosen, `Endpoint "{arn}" must be InService for an inference component to be created on it; it is {status}.`, "the rule is seen in stdapi.ai#43")
	ComponentVariantMissing   = message(validation, Chosen, `VariantName must be specified: endpoint "{arn}" has several production variants.`, "")
	ComponentVariantUnknown   = message(validation, Chosen, `Endpoint "{arn}" has no production variant "{variant}".`, "")
	ComponentVariantHasModel  = message(validation, Chosen, `Production variant "{variant}" of endpoint "{arn}" has a model and takes no inference components.`, "")

	SpecificationTwice    = message(validation, Chosen, "Only one of Specification and Specifications can be specified.", "the rule is documented")
	SpecificationMissing  = message(validation, Chosen, "Either Specification or Specifications must be specified.", "")
	UpdateEmpty           = message(validation, Chosen, "At least one of Specification, Specifications and RuntimeConfig must be specified.", "")
	SpecificationModel    = message(validation, Chosen, "A specification must have exactly one of ModelName, Container and BaseInferenceComponentName.", "")
	SpecificationImage    = message(validation, Chosen, "Container must specify Image unless the inference component is an adapter.", "")
	SpecificationSize     = message(validation, Chosen, "ComputeResourceRequirements must be specified unless the inference component is an adapter.", "the rule is documented")
	SpecificationMaximum  = message(validation, Chosen, "MaxMemoryRequiredInMb must not be less than MinMemoryRequiredInMb.", "")
	SpecificationDevices  = message(validation, Chosen, "NumberOfAcceleratorDevicesRequired must be a whole number.", "")
	SpecificationTypes    = message(validation, Chosen, "Each of several Specifications must have an InstanceType of its own.", "the rule is documented")
	SpecificationElsewise = message(validation, Chosen, `Production variant "{variant}" has no instances of type {type}.`, "")
	SpecificationMixed    = message(validation, Chosen, "Specifications cannot hold adapters: an adapter has one Specification.", "")

	PartitionMissing = message(validation, Chosen, `AcceleratorPartitionType must be specified: production variant "{variant}" has AcceleratorPartitionLayouts.`, "the rule is documented")
	PartitionUnknown = message(validation, Chosen, `Production variant "{variant}" has no accelerator partition of type {type}.`, "the rule is documented")
	PartitionDevices = message(validation, Chosen, "NumberOfAcceleratorDevicesRequired must be 1 with AcceleratorPartitionType.", "the rule is documented")

	AdapterArtifact = message(validation, Chosen, "An adapter must specify ArtifactUrl in Container, and no Image.", "the rule is documented")
	AdapterSize     = message(validation, Chosen, "An adapter uses the compute resources of its base: it cannot have ComputeResourceRequirements, SchedulingConfig or InstanceType.", "the rule is documented")
	AdapterOfOther  = message(validation, Chosen, `Base inference component "{arn}" is not on endpoint {endpoint} and variant {variant}.`, "")
	AdapterOfBase   = message(validation, Chosen, `Inference component "{arn}" is an adapter itself and cannot be the base of another.`, "")
	BaseNotReady    = message(validation, Chosen, `Base inference component "{arn}" must be InService; it is {status}.`, "the rule is documented")

	BatchSizeRange = message(validation, Chosen, "MaximumBatchSize must be between 5 and 50 percent of the copy count, or at least one copy.", "the rule is documented")
)

// CreateEndpointConfig of an endpoint for inference components.
var (
	ComponentsNeedRole = message(validation, Chosen, "ExecutionRoleArn must be specified for endpoints to which you plan to deploy inference components.",
		"the rule is seen in stdapi.ai#43")
	VariantsMixed           = message(validation, Chosen, "Production variants with and without ModelName cannot be combined.", "")
	ServerlessNeedsModel    = message(validation, Chosen, `Production variant "{variant}": ServerlessConfig requires ModelName.`, "")
	ManagedScalingRange     = message(validation, Chosen, `Production variant "{variant}": ManagedInstanceScaling requires MinInstanceCount <= InitialInstanceCount <= MaxInstanceCount.`, "")
	ManagedScalingElsewhere = message(validation, Seen, "ManagedInstanceScaling is not supported with the given EndpointConfig setup.", "rse-grand-challenge#4659")
)

// What an inference component's FailureReason says.
var (
	ComponentPingFailed = message(FailureReason, Chosen, "The container of inference component {component} did not pass the ping health check. Please check CloudWatch logs for this inference component.", "as for endpoints")
	ComponentCannotRun  = message(FailureReason, Chosen, "CannotStartContainerError. Please ensure the model container for inference component {component} starts correctly when invoked with 'docker run <image> serve'", "as for endpoints")
	ComponentDataFailed = message(FailureReason, Chosen, "Failed to download model data for inference component {component}: {cause}.", "")
	ComponentTooLarge   = message(FailureReason, Chosen, "No instance of production variant {variant} can ever hold a copy of inference component {component}: {cause}.", "")
	ComponentNoRoom     = message(FailureReason, Chosen, "The instances of production variant {variant} had no room for {count} of the copies of inference component {component} within {seconds} seconds.", "")
	AdapterFailed       = message(FailureReason, Chosen, "The base inference component could not load adapter {component}: {cause}.", "")
)

// What the fleet shows of a component's copies while they are tried again.
var (
	CopyFailing       = message(StatusMessage, Chosen, "Copy {ordinal} failed {count} times: {cause}", "")
	CopiesWithoutRoom = message(StatusMessage, Chosen, "Copies find no room on the instances of variant {variant}.", "")
)

// Invocations of inference components.
var (
	ComponentHeaderMissing = message(runtimeValidation, Seen, "Inference Component Name header is required for endpoints to which you plan to deploy inference components. "+
		"Please include Inference Component Name header or consider using SageMaker models.", "litellm's fixtures")
	ComponentUnknown    = message(runtimeValidation, Chosen, "Inference component {component} was not found on endpoint {endpoint}.", "")
	ComponentNotServing = message(runtimeValidation, Chosen, "Inference component {component} of endpoint {endpoint} is {status} and takes no requests.", "")
	ComponentNoCopies   = message(runtimeValidation, Chosen, "Inference component {component} of endpoint {endpoint} has no copies: it is scaled to zero.", "that it is an error is documented")
	ComponentElsewhere  = message(runtimeValidation, Chosen, "Inference component {component} of endpoint {endpoint} is not on the variant that TargetVariant names.", "")
	NoCopy              = message(unavailable, Chosen, "No copy of inference component {component} of endpoint {endpoint} is in service at the moment. Please try again.", "")
)
