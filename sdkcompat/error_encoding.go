package sdkcompat

import (
	"fmt"
)

// modelledErrors are the error shapes of the sagemaker model; their member is
// Message. All others, also ValidationException, are the framework's own and
// carry message in lower case.
var modelledErrors = map[string]bool{
	"ConflictException":     true,
	"ResourceInUse":         true,
	"ResourceLimitExceeded": true,
	"ResourceNotFound":      true,
}

// runtimeErrorCodes maps the modelled errors of sagemaker-runtime to the
// ErrorCode member that real bodies have beside the model's. ModelError's is
// seen in the wild (aws/sagemaker-tensorflow-serving-container#109); the others
// follow its style.
var runtimeErrorCodes = map[string]string{
	"InternalDependencyException": "INTERNAL_DEPENDENCY_FAILURE",
	"InternalFailure":             "INTERNAL_FAILURE",
	"ModelError":                  "CLIENT_ERROR_FROM_MODEL",
	"ModelNotReadyException":      "MODEL_NOT_READY",
	"ServiceUnavailable":          "SERVICE_UNAVAILABLE",
	"ValidationError":             "VALIDATION_ERROR",

	// What SageMaker Runtime HTTP2 calls three of them.
	"InputValidationError":    "VALIDATION_ERROR",
	"InternalServerError":     "INTERNAL_FAILURE",
	"ServiceUnavailableError": "SERVICE_UNAVAILABLE",
}

// AppendJSON11 appends the control plane's error body: __type, the message and
// Members. An empty message is left out, as for malformed JSON on AWS.
//
// https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
func (e *Error) AppendJSON11(dst []byte) []byte {
	body := e.members()
	body.Set("__type", e.Code)
	if e.Message != "" {
		name := "message"
		if modelledErrors[e.Code] {
			name = "Message"
		}
		body.Set(name, e.Message)
	}
	return appendBody(dst, body)
}

// AppendRuntime appends the runtime's error body, without __type: the error's
// name goes into the header x-amzn-ErrorType, which the caller must send. A
// modelled error has ErrorCode (an ErrorCode among Members goes first), Message
// and Members; any other has only message, which is null when empty, as for
// ThrottlingException (opensearch-project/ml-commons#2429).
//
// https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html#API_runtime_InvokeEndpoint_Errors
func (e *Error) AppendRuntime(dst []byte) []byte {
	body := e.members()
	code, modelled := runtimeErrorCodes[e.Code]
	name := "message"
	if modelled {
		name = "Message"
		if _, ok := body.Get("ErrorCode"); !ok {
			body.Set("ErrorCode", e.errorCode(code, body))
		}
	}
	if e.Message == "" {
		body.Set(name, nil)
	} else {
		body.Set(name, e.Message)
	}
	return appendBody(dst, body)
}

// errorCode tells a model's own failure (5xx) from a refused request.
func (e *Error) errorCode(code string, body Object) string {
	if e.Code != "ModelError" {
		return code
	}
	if status, ok := body.Get("OriginalStatusCode"); ok {
		if n, ok := parseInteger(status); ok && n >= 500 {
			return "INTERNAL_FAILURE_FROM_MODEL"
		}
	}
	return code
}

// members is Members as a tree. A value that has no wire form is shown as text
// instead, so that an error never turns into another one on its way out.
func (e *Error) members() Object {
	var body Object
	for name, value := range e.Members {
		node, err := ToTree(value)
		if err == nil {
			_, err = AppendJSON(nil, node)
		}
		if err != nil {
			node = fmt.Sprint(value)
		}
		body.Set(name, node)
	}
	return body
}

// appendBody writes a body that members has vetted, so it cannot fail.
func appendBody(dst []byte, body Object) []byte {
	out, err := AppendJSON(dst, body)
	if err != nil {
		return append(dst, "{}"...)
	}
	return out
}
