package sdkcompat

// Stateful sessions.
var (
	SessionUnknown  = message(runtimeValidation, Chosen, "Endpoint {endpoint} has no such session: it has expired, was closed, or ended with its instance.", "")
	SessionOfStream = message(runtimeValidation, Chosen, "A session cannot begin with InvokeEndpointWithResponseStream; begin it with InvokeEndpoint.", "the rule is documented")
)
