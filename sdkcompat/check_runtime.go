package sdkcompat

import (
	"encoding/json"
	"fmt"
)

// CheckRuntime holds an invocation's endpoint name and headers against the
// service model. header returns a header's value, or "" when it is absent; it
// is asked by canonical name (http.CanonicalHeaderKey). Breaches of length,
// range, pattern and set give one ValidationError with AWS's sentence; a header
// that is no integer where one must be gives a SerializationException. Valid
// requests cost no allocation. The body is not checked here: its limits depend
// on the kind of endpoint.
//
// An operation that the table does not have is an ordinary error.
//
// https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
func CheckRuntime(operation, endpointName string, header func(name string) string) error {
	table, err := constraintTable()
	if err != nil {
		return err
	}
	input, ok := table.runtime[operation]
	if !ok {
		return fmt.Errorf("sdkcompat: no constraints for operation %q", operation)
	}
	var found violations
	for i := range input.members {
		m := &input.members[i]
		var value string
		switch {
		case m.header != "":
			value = header(m.header)
		case m.name == "EndpointName":
			value = endpointName
		default:
			continue
		}
		if value == "" {
			if m.required {
				found.null([]byte(m.path))
			}
			continue
		}
		if err := m.checkText(value, &found); err != nil {
			return err
		}
	}
	return found.err(runtimeValidation)
}

// checkText checks a value that travels as text whatever its shape.
func (m *memberShape) checkText(value string, found *violations) error {
	if m.kind == stringShape {
		if broken := m.checkString(value); broken != 0 {
			found.report(m.shape, value, []byte(m.path), broken)
		}
		return nil
	}
	node, err := ParseJSON([]byte(value))
	if _, ok := node.(json.Number); err != nil || !ok {
		return wrongScalar(value, asInteger)
	}
	broken, err := m.checkScalar(node)
	if err == nil {
		found.report(m.shape, node, []byte(m.path), broken)
	}
	return err
}
