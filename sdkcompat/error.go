// Package sdkcompat is the AWS wire as a leaf library: the codec between bytes
// and the SDK's own structs, the constraint check, errors, ARNs and instance
// shapes. It imports the SDK and the standard library and nothing of sagelocal.
package sdkcompat

// Error is the only error type whose text a caller may see. Everything else is
// logged and shown as InternalFailure with the request id.
type Error struct {
	// Code is AWS's wire name, for example ValidationException (control plane)
	// or ValidationError (runtime).
	Code string
	// Message is AWS's sentence. An empty one is left out of a control-plane
	// body, as AWS does for malformed JSON, and sent as null by the runtime, as
	// its ThrottlingException is.
	Message string
	// Status is the HTTP status code.
	Status int
	// Members holds what a modelled error carries beside Code and Message,
	// for example ModelError's OriginalStatusCode; keyed by AWS member name.
	// Values are what ToTree takes.
	Members map[string]any
}

// Error gives "Code: Message", for logs.
func (e *Error) Error() string { return e.Code + ": " + e.Message }
