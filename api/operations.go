package api

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// operation does the wire work of one control-plane operation around the method
// that knows what it means.
type operation func(p *controlplane.Plane, ctx context.Context, name string, body []byte) ([]byte, error)

// operations are the SageMaker operations that sagelocal answers, by wire name.
var operations = map[string]operation{
	"AddTags":                               op((*controlplane.Plane).AddTags),
	"CreateEndpoint":                        op((*controlplane.Plane).CreateEndpoint),
	"CreateEndpointConfig":                  op((*controlplane.Plane).CreateEndpointConfig),
	"CreateInferenceComponent":              op((*controlplane.Plane).CreateInferenceComponent),
	"CreateModel":                           op((*controlplane.Plane).CreateModel),
	"DeleteEndpoint":                        silent(op((*controlplane.Plane).DeleteEndpoint)),
	"DeleteEndpointConfig":                  silent(op((*controlplane.Plane).DeleteEndpointConfig)),
	"DeleteInferenceComponent":              silent(op((*controlplane.Plane).DeleteInferenceComponent)),
	"DeleteModel":                           silent(op((*controlplane.Plane).DeleteModel)),
	"DeleteTags":                            op((*controlplane.Plane).DeleteTags),
	"DescribeEndpoint":                      op((*controlplane.Plane).DescribeEndpoint),
	"DescribeEndpointConfig":                op((*controlplane.Plane).DescribeEndpointConfig),
	"DescribeInferenceComponent":            op((*controlplane.Plane).DescribeInferenceComponent),
	"DescribeModel":                         op((*controlplane.Plane).DescribeModel),
	"ListEndpointConfigs":                   op((*controlplane.Plane).ListEndpointConfigs),
	"ListEndpoints":                         op((*controlplane.Plane).ListEndpoints),
	"ListInferenceComponents":               op((*controlplane.Plane).ListInferenceComponents),
	"ListModels":                            op((*controlplane.Plane).ListModels),
	"ListTags":                              op((*controlplane.Plane).ListTags),
	"UpdateEndpoint":                        op((*controlplane.Plane).UpdateEndpoint),
	"UpdateEndpointWeightsAndCapacities":    op((*controlplane.Plane).UpdateEndpointWeightsAndCapacities),
	"UpdateInferenceComponent":              op((*controlplane.Plane).UpdateInferenceComponent),
	"UpdateInferenceComponentRuntimeConfig": op((*controlplane.Plane).UpdateInferenceComponentRuntimeConfig),
}

// op decodes, checks every constraint of the service model, calls and encodes.
func op[In, Out any](call func(*controlplane.Plane, context.Context, *In) (*Out, error)) operation {
	return func(p *controlplane.Plane, ctx context.Context, name string, body []byte) ([]byte, error) {
		tree, err := sdkcompat.ParseJSON(body)
		if err != nil {
			return nil, err
		}
		if err := sdkcompat.CheckInput(name, tree); err != nil {
			return nil, err
		}
		in := new(In)
		if err := sdkcompat.FromTree(tree, in); err != nil {
			return nil, err
		}
		out, err := call(p, ctx, in)
		if err != nil {
			return nil, err
		}
		return sdkcompat.Marshal(out)
	}
}

// silent is for operations without an output shape in the service model: AWS
// answers them with an empty body.
func silent(o operation) operation {
	return func(p *controlplane.Plane, ctx context.Context, name string, body []byte) ([]byte, error) {
		_, err := o(p, ctx, name, body)
		return nil, err
	}
}

// Operations lists the supported operations in order.
func Operations() []string { return slices.Sorted(maps.Keys(operations)) }

// targetPrefix begins the X-Amz-Target of every SageMaker request.
const targetPrefix = "SageMaker."

// lookUp finds the operation that an X-Amz-Target names.
func lookUp(target string) (string, operation, error) {
	name, ok := strings.CutPrefix(target, targetPrefix)
	if o := operations[name]; ok && o != nil {
		return name, o, nil
	}
	return "", nil, sdkcompat.UnknownOperation.Error(printable(target), strings.Join(Operations(), ", "))
}

// printable keeps a caller's text from filling a log or an answer.
func printable(s string) string {
	if s == "" {
		return "a request without X-Amz-Target"
	}
	if len(s) > 100 {
		s = s[:100] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
