package sdkcompat

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
)

// hostingOperations is every operation of the control plane that the project
// serves, by the SDK's own structs.
var hostingOperations = map[string]struct{ in, out reflect.Type }{
	"AddTags":                               {reflect.TypeFor[sagemaker.AddTagsInput](), reflect.TypeFor[sagemaker.AddTagsOutput]()},
	"CreateEndpoint":                        {reflect.TypeFor[sagemaker.CreateEndpointInput](), reflect.TypeFor[sagemaker.CreateEndpointOutput]()},
	"CreateEndpointConfig":                  {reflect.TypeFor[sagemaker.CreateEndpointConfigInput](), reflect.TypeFor[sagemaker.CreateEndpointConfigOutput]()},
	"CreateInferenceComponent":              {reflect.TypeFor[sagemaker.CreateInferenceComponentInput](), reflect.TypeFor[sagemaker.CreateInferenceComponentOutput]()},
	"CreateModel":                           {reflect.TypeFor[sagemaker.CreateModelInput](), reflect.TypeFor[sagemaker.CreateModelOutput]()},
	"DeleteEndpoint":                        {reflect.TypeFor[sagemaker.DeleteEndpointInput](), reflect.TypeFor[sagemaker.DeleteEndpointOutput]()},
	"DeleteEndpointConfig":                  {reflect.TypeFor[sagemaker.DeleteEndpointConfigInput](), reflect.TypeFor[sagemaker.DeleteEndpointConfigOutput]()},
	"DeleteInferenceComponent":              {reflect.TypeFor[sagemaker.DeleteInferenceComponentInput](), reflect.TypeFor[sagemaker.DeleteInferenceComponentOutput]()},
	"DeleteModel":                           {reflect.TypeFor[sagemaker.DeleteModelInput](), reflect.TypeFor[sagemaker.DeleteModelOutput]()},
	"DeleteTags":                            {reflect.TypeFor[sagemaker.DeleteTagsInput](), reflect.TypeFor[sagemaker.DeleteTagsOutput]()},
	"DescribeEndpoint":                      {reflect.TypeFor[sagemaker.DescribeEndpointInput](), reflect.TypeFor[sagemaker.DescribeEndpointOutput]()},
	"DescribeEndpointConfig":                {reflect.TypeFor[sagemaker.DescribeEndpointConfigInput](), reflect.TypeFor[sagemaker.DescribeEndpointConfigOutput]()},
	"DescribeInferenceComponent":            {reflect.TypeFor[sagemaker.DescribeInferenceComponentInput](), reflect.TypeFor[sagemaker.DescribeInferenceComponentOutput]()},
	"DescribeModel":                         {reflect.TypeFor[sagemaker.DescribeModelInput](), reflect.TypeFor[sagemaker.DescribeModelOutput]()},
	"ListEndpointConfigs":                   {reflect.TypeFor[sagemaker.ListEndpointConfigsInput](), reflect.TypeFor[sagemaker.ListEndpointConfigsOutput]()},
	"ListEndpoints":                         {reflect.TypeFor[sagemaker.ListEndpointsInput](), reflect.TypeFor[sagemaker.ListEndpointsOutput]()},
	"ListInferenceComponents":               {reflect.TypeFor[sagemaker.ListInferenceComponentsInput](), reflect.TypeFor[sagemaker.ListInferenceComponentsOutput]()},
	"ListModels":                            {reflect.TypeFor[sagemaker.ListModelsInput](), reflect.TypeFor[sagemaker.ListModelsOutput]()},
	"ListTags":                              {reflect.TypeFor[sagemaker.ListTagsInput](), reflect.TypeFor[sagemaker.ListTagsOutput]()},
	"UpdateEndpoint":                        {reflect.TypeFor[sagemaker.UpdateEndpointInput](), reflect.TypeFor[sagemaker.UpdateEndpointOutput]()},
	"UpdateEndpointWeightsAndCapacities":    {reflect.TypeFor[sagemaker.UpdateEndpointWeightsAndCapacitiesInput](), reflect.TypeFor[sagemaker.UpdateEndpointWeightsAndCapacitiesOutput]()},
	"UpdateInferenceComponent":              {reflect.TypeFor[sagemaker.UpdateInferenceComponentInput](), reflect.TypeFor[sagemaker.UpdateInferenceComponentOutput]()},
	"UpdateInferenceComponentRuntimeConfig": {reflect.TypeFor[sagemaker.UpdateInferenceComponentRuntimeConfigInput](), reflect.TypeFor[sagemaker.UpdateInferenceComponentRuntimeConfigOutput]()},
}

// snapshotBody reads the body of one of the SDK module's own wire snapshots.
func snapshotBody(tb testing.TB, operation, direction string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(sdkDir(tb), direction+"_snapshot", operation+"."+direction+".snap"))
	if err != nil {
		tb.Fatal(err)
	}
	_, body, _ := bytes.Cut(data, []byte("SageMaker."+operation+"\n\n"))
	return body
}

var sdkDirFound string

func sdkDir(tb testing.TB) string {
	tb.Helper()
	if sdkDirFound == "" {
		out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/sagemaker").Output()
		if err != nil {
			tb.Fatal(err)
		}
		sdkDirFound = strings.TrimSpace(string(out))
	}
	return sdkDirFound
}

func TestSDKSnapshotsRoundTripByteForByte(t *testing.T) {
	for operation, types := range hostingOperations {
		for direction, typ := range map[string]reflect.Type{"request": types.in, "response": types.out} {
			t.Run(operation+"/"+direction, func(t *testing.T) {
				want := snapshotBody(t, operation, direction)
				if len(want) == 0 {
					if direction == "request" {
						t.Fatal("snapshot has no body")
					}
					t.Skip("the operation has no output")
				}
				v := reflect.New(typ).Interface()
				if err := Unmarshal(want, v); err != nil {
					t.Fatal(err)
				}
				got, err := Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			})
		}
	}
}
