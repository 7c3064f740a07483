package sdkcompat

// Injected faults.
var (
	FaultInternal    = message("InternalFailure", Chosen, "An internal failure that was injected into endpoint {endpoint}.", "")
	FaultUnavailable = message(unavailable, Chosen, "An unavailability that was injected into endpoint {endpoint}.", "")
	FaultNotReady    = message("ModelNotReadyException", Chosen, "A model that is not ready, injected into endpoint {endpoint}.", "")
)
