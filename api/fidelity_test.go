package api

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
)

// rows are the first two columns of every table row under a heading.
func rows(t *testing.T, heading string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../docs/fidelity.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "## "+heading+"\n")
	if !found {
		t.Fatalf("docs/fidelity.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	table := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Za-z0-9.]+) \| (.*) \|$`).FindAllStringSubmatch(section, -1) {
		table[m[1]] = m[2]
	}
	delete(table, "operation") // the tables' own headings
	delete(table, "member")
	return table
}

func TestFidelityListsTheOperationsThatAreDone(t *testing.T) {
	table := rows(t, "Operations")
	done := append(Operations(), "InvokeEndpoint", asyncOperation, streamOperation, duplexOperation)
	for _, name := range done {
		if table[name] != "done" {
			t.Errorf("%s is implemented, docs/fidelity.md says %q", name, table[name])
		}
	}
	for name, state := range table {
		if state == "done" && !slices.Contains(done, name) {
			t.Errorf("docs/fidelity.md says %s is done; it is not implemented", name)
		}
	}
}

// InvokeEndpointWithBidirectionalStreamInput has no Go module.
type InvokeEndpointWithBidirectionalStreamInput struct {
	EndpointName, TargetVariant, ModelInvocationPath, ModelQueryString, Body string
}

func TestFidelitySaysOfEveryMemberWhatItDoes(t *testing.T) {
	table := rows(t, "Members")
	state := regexp.MustCompile(`^(acts|stored|refused|as for InvokeEndpoint)\b`)
	known := map[string]bool{}
	for _, in := range []any{
		sagemaker.CreateModelInput{},
		types.ContainerDefinition{},
		sagemaker.CreateEndpointConfigInput{},
		types.ProductionVariant{},
		sagemaker.CreateEndpointInput{},
		sagemaker.UpdateEndpointInput{},
		types.DeploymentConfig{},
		sagemaker.UpdateEndpointWeightsAndCapacitiesInput{},
		sagemaker.CreateInferenceComponentInput{},
		sagemaker.UpdateInferenceComponentInput{},
		sagemaker.UpdateInferenceComponentRuntimeConfigInput{},
		types.InferenceComponentSpecification{},
		types.InferenceComponentDeploymentConfig{},
		sagemakerruntime.InvokeEndpointInput{},
		sagemakerruntime.InvokeEndpointWithResponseStreamInput{},
		sagemakerruntime.InvokeEndpointAsyncInput{},
		InvokeEndpointWithBidirectionalStreamInput{},
		types.AsyncInferenceClientConfig{},
		types.AsyncInferenceOutputConfig{},
		types.AsyncInferenceNotificationConfig{},
	} {
		shape := reflect.TypeOf(in)
		for i := range shape.NumField() {
			field := shape.Field(i)
			if !field.IsExported() {
				continue
			}
			member := strings.TrimSuffix(shape.Name(), "Input") + "." + field.Name
			known[member] = true
			if !state.MatchString(table[member]) {
				t.Errorf("%s: docs/fidelity.md says %q", member, table[member])
			}
		}
	}
	for member := range table {
		if !known[member] {
			t.Errorf("docs/fidelity.md lists %s, which does not exist", member)
		}
	}
}
