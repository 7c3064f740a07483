package sdkcompat

// Injected faults.
var (
	FaultThrottled   = message("ThrottlingException", Seen, "", "opensearch-project/ml-commons#2429: AWS sends null")
	FaultInternal    = message("InternalFailure", Chosen, "An internal failure that was injected into endpoint {endpoint}.", "")
	FaultUnavailable = message(unavailable, Chosen, "An unavailability that was injected into endpoint {endpoint}.", "")
	FaultNotReady    = message("ModelNotReadyException", Chosen, "A model that is not ready, injected into endpoint {endpoint}.", "")
)
