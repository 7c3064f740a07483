package sdkcompat

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

func checkJSON(tb testing.TB, operation, body string) error {
	tb.Helper()
	tree, err := ParseJSON([]byte(body))
	if err != nil {
		tb.Fatalf("%s: %v", body, err)
	}
	return CheckInput(operation, tree)
}

// detected is how AWS begins; the rest of every expectation below has the form
// of a sentence seen from the real service, with today's patterns.
func detected(items ...string) string {
	plural := "s"
	if len(items) == 1 {
		plural = ""
	}
	return fmt.Sprintf("%d validation error%s detected: %s", len(items), plural, strings.Join(items, "; "))
}

const (
	modelNamePattern = `Member must satisfy regular expression pattern: [a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?`
	namePattern      = `Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`
)

func TestCheckInputSaysWhatAWSSays(t *testing.T) {
	long := strings.Repeat("{", 64)
	wide := strings.Repeat("é", 63)
	for _, test := range []struct{ operation, body, message string }{
		{
			// aws-samples/sagemaker-ml-workflow-with-apache-airflow#3: length before pattern.
			"CreateModel", `{"ModelName":"` + long + `"}`,
			detected(
				`Value '`+long+`' at 'modelName' failed to satisfy constraint: Member must have length less than or equal to 63`,
				`Value '`+long+`' at 'modelName' failed to satisfy constraint: `+modelNamePattern,
			),
		},
		{
			// aws/amazon-sagemaker-examples#2228: the path of a list element.
			"CreateEndpointConfig", `{"EndpointConfigName":"c","ProductionVariants":[{"VariantName":"v","ModelName":"ENTER MODEL NAME"}]}`,
			detected(`Value 'ENTER MODEL NAME' at 'productionVariants.1.member.modelName' failed to satisfy constraint: ` + modelNamePattern),
		},
		{
			"CreateModel", `{}`,
			detected(`Value null at 'modelName' failed to satisfy constraint: Member must not be null`),
		},
		{
			"CreateEndpoint", `{"EndpointName":null,"EndpointConfigName":"-c","Tags":[{"Key":"k","Value":"v"},null,{"Key":"","Value":"v"},{"Value":"v"}]}`,
			detected(
				`Value '-c' at 'endpointConfigName' failed to satisfy constraint: `+namePattern,
				`Value null at 'endpointName' failed to satisfy constraint: Member must not be null`,
				`Value '' at 'tags.2.member.key' failed to satisfy constraint: Member must have length greater than or equal to 1`,
				`Value null at 'tags.3.member.key' failed to satisfy constraint: Member must not be null`,
			),
		},
		{
			"CreateEndpointConfig", `{"EndpointConfigName":"c","ProductionVariants":[]}`,
			detected(`Value '[]' at 'productionVariants' failed to satisfy constraint: Member must have length greater than or equal to 1`),
		},
		{
			"CreateEndpointConfig", `{"EndpointConfigName":"c","ProductionVariants":[{"VariantName":"v","InitialInstanceCount":0,"InitialVariantWeight":-1,
				"VolumeSizeInGB":513,"RoutingConfig":{"RoutingStrategy":"ROUND_ROBIN","PrefixAwareRoutingConfig":{"PrefixLength":1}}}]}`,
			detected(
				`Value '0' at 'productionVariants.1.member.initialInstanceCount' failed to satisfy constraint: Member must have value greater than or equal to 1`,
				`Value '-1.0' at 'productionVariants.1.member.initialVariantWeight' failed to satisfy constraint: Member must have value greater than or equal to 0.0`,
				`Value '1' at 'productionVariants.1.member.routingConfig.prefixAwareRoutingConfig.prefixLength' failed to satisfy constraint: Member must have value greater than or equal to 1024`,
				`Value 'ROUND_ROBIN' at 'productionVariants.1.member.routingConfig.routingStrategy' failed to satisfy constraint: Member must satisfy enum value set: [LEAST_OUTSTANDING_REQUESTS, PREFIX_AWARE, RANDOM]`,
				`Value '513' at 'productionVariants.1.member.volumeSizeInGB' failed to satisfy constraint: Member must have value less than or equal to 512`,
			),
		},
		{
			// aws/sagemaker-sparkml-serving-container#12: a map's values.
			"CreateModel", `{"ModelName":"m","PrimaryContainer":{"Environment":{"A":"` + strings.Repeat("x", 1025) + `","B":"1"}}}`,
			detected(`Value '{A=` + strings.Repeat("x", 1025) + `, B=1}' at 'primaryContainer.environment' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: [\S\s]*]`),
		},
		{
			"CreateModel", `{"ModelName":"m","PrimaryContainer":{"Environment":{"1A":"x"}}}`,
			detected(`Value '{1A=x}' at 'primaryContainer.environment' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: [a-zA-Z_][a-zA-Z0-9_]*]`),
		},
		{
			"CreateModel", `{"ModelName":"m","VpcConfig":{"Subnets":["ok","a b"],"SecurityGroupIds":["1","2","3","4","5","6"]}}`,
			detected(
				`Value '[1, 2, 3, 4, 5, 6]' at 'vpcConfig.securityGroupIds' failed to satisfy constraint: Member must have length less than or equal to 5`,
				`Value '[ok, a b]' at 'vpcConfig.subnets' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 32, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: [-0-9a-zA-Z]+]`,
			),
		},
		{
			"UpdateEndpointWeightsAndCapacities", `{"EndpointName":"e","DesiredWeightsAndCapacities":[{"VariantName":"a"},{"VariantName":"b","DesiredWeight":-0.5}]}`,
			detected(`Value '-0.5' at 'desiredWeightsAndCapacities.2.member.desiredWeight' failed to satisfy constraint: Member must have value greater than or equal to 0.0`),
		},
		{
			"CreateEndpointConfig", `{"EndpointConfigName":"c","ProductionVariants":[{"VariantName":"v","InitialVariantWeight":"NaN"}]}`,
			detected(`Value 'NaN' at 'productionVariants.1.member.initialVariantWeight' failed to satisfy constraint: Member must have value greater than or equal to 0.0`),
		},
		{
			"ListTags", `{"ResourceArn":"arn:aws:sagemaker:us-east-1:123456789012:endpoint/e","MaxResults":7}`,
			detected(`Value '7' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 50`),
		},
		{
			"CreateEndpointConfig", `{"EndpointConfigName":"c","ProductionVariants":[{"VariantName":"v"}],"MetricsConfig":{"MetricPublishFrequencyInSeconds":11}}`,
			detected(`Value '11' at 'metricsConfig.metricPublishFrequencyInSeconds' failed to satisfy constraint: Member must satisfy enum value set: [10, 30, 60, 120, 180, 240, 300]`),
		},
		{
			// 63 code points, but 126 bytes: only the pattern is broken.
			"DescribeModel", `{"ModelName":"` + wide + `"}`,
			detected(`Value '` + wide + `' at 'modelName' failed to satisfy constraint: ` + modelNamePattern),
		},
		{
			"DeleteTags", `{"ResourceArn":"arn:aws:sagemaker:us-east-1:123456789012:endpoint/e","TagKeys":[]}`,
			detected(`Value '[]' at 'tagKeys' failed to satisfy constraint: Member must have length greater than or equal to 1`),
		},
		{
			"CreateModel", `{"ModelName":"m","Containers":[` + strings.TrimSuffix(strings.Repeat(`{"Mode":"SingleModel"},`, 16), ",") + `]}`,
			detected(`Value '[` + strings.TrimSuffix(strings.Repeat(`ContainerDefinition(mode=SingleModel), `, 16), ", ") + `]' at 'containers' failed to satisfy constraint: Member must have length less than or equal to 15`),
		},
	} {
		err := checkJSON(t, test.operation, test.body)
		assertError(t, err, "ValidationException", test.message)
	}
}

// The instance type's set is too long to write down; what is around it is not.
func TestUnknownInstanceTypeListsTheWholeSet(t *testing.T) {
	err := checkJSON(t, "CreateEndpointConfig",
		`{"EndpointConfigName":"c","ProductionVariants":[{"VariantName":"v","InstanceType":"ml.t3.medium"}]}`)
	var wire *Error
	if !errors.As(err, &wire) {
		t.Fatal(err)
	}
	const before = `1 validation error detected: Value 'ml.t3.medium' at 'productionVariants.1.member.instanceType' failed to satisfy constraint: Member must satisfy enum value set: [`
	set, ok := strings.CutPrefix(wire.Message, before)
	if !ok || !strings.HasSuffix(set, "]") {
		t.Fatalf("got %s", wire.Message)
	}
	listed := strings.Split(strings.TrimSuffix(set, "]"), ", ")
	if want := len(types.ProductionVariantInstanceType("").Values()); len(listed) < want {
		t.Errorf("the set has %d values, the SDK %d", len(listed), want)
	}
}

func TestWrongJSONKindComesBeforeEveryViolation(t *testing.T) {
	for _, test := range []struct{ body, message string }{
		{`{"EndpointConfigName":"-","ProductionVariants":"x"}`, "Expected list or null"},
		{`{"ProductionVariants":[{"InstanceType":"nope"},7]}`, "Expected null"},
		{`{"ProductionVariants":[{"VariantName":7}]}`, "NUMBER_VALUE can not be converted to a String"},
		{`{"ProductionVariants":[{"InitialInstanceCount":2147483648}]}`, "NUMBER_VALUE can not be converted to an Integer"},
		{`{"Tags":[{"Key":{}}]}`, "Start of structure or map found where not expected."},
		{`{"VpcConfig":{"Subnets":[[]]}}`, "Start of list found where not expected"},
		{`{"EnableNetworkIsolation":1}`, "NUMBER_VALUE can not be converted to an Boolean"},
		{`[]`, "Start of list found where not expected"},
		{`null`, ""},
		{`"x"`, ""},
	} {
		assertError(t, checkJSON(t, "CreateEndpointConfig", test.body), "SerializationException", test.message)
	}
	assertError(t, checkJSON(t, "CreateModel", `{"PrimaryContainer":{"Environment":[]}}`), "SerializationException", "Start of list found where not expected")
	assertError(t, checkJSON(t, "CreateModel", `{"PrimaryContainer":{"Environment":1}}`), "SerializationException", "Expected map or null")
	assertError(t, checkJSON(t, "ListModels", `{"CreationTimeAfter":"soon"}`), "SerializationException", "STRING_VALUE can not be converted to a Timestamp")
}

func TestHostileRequestGetsAShortAnswer(t *testing.T) {
	body := `{"EndpointConfigName":"c","ProductionVariants":[` + strings.TrimSuffix(strings.Repeat(`{},`, 5000), ",") + `]}`
	err := checkJSON(t, "CreateEndpointConfig", body)
	if !strings.Contains(err.Error(), "100 validation errors detected") {
		t.Errorf("got %.200s", err)
	}
}

func TestUnknownOperationIsNotTheCallersFault(t *testing.T) {
	var wire *Error
	if err := CheckInput("CreateNotebook", Object{}); err == nil || errors.As(err, &wire) {
		t.Errorf("got %v", err)
	}
	if err := CheckRuntime("InvokeNotebook", "e", func(string) string { return "" }); err == nil || errors.As(err, &wire) {
		t.Errorf("got %v", err)
	}
}

func TestValidRequestsPass(t *testing.T) {
	for operation, body := range map[string]string{
		"CreateEndpointConfig": realisticEndpointConfig,
		"CreateModel": `{"ModelName":"m","ExecutionRoleArn":"arn:aws:iam::123456789012:role/service-role/R","Unknown":{},
			"PrimaryContainer":{"Image":"123456789012.dkr.ecr.us-east-1.amazonaws.com/a:1","ModelDataUrl":"s3://b/m.tar.gz","Environment":{"A":""}}}`,
		"ListModels": `{"CreationTimeAfter":1700000000,"CreationTimeBefore":"2026-01-01T00:00:00Z","NameContains":"a-b","MaxResults":100}`,
	} {
		if err := checkJSON(t, operation, body); err != nil {
			t.Errorf("%s: %v", operation, err)
		}
	}
}

// FuzzCheckedInputAlwaysDecodes also holds that no input makes the check panic.
func FuzzCheckedInputAlwaysDecodes(f *testing.F) {
	f.Add("CreateEndpointConfig", []byte(realisticEndpointConfig))
	f.Add("CreateModel", []byte(`{"ModelName":"m","PrimaryContainer":{"Environment":{"A":"b","C":null}}}`))
	f.Add("ListEndpoints", []byte(`{"CreationTimeAfter":1e99,"MaxResults":1.5}`))
	f.Fuzz(func(t *testing.T, operation string, data []byte) {
		types, ok := hostingOperations[operation]
		if !ok {
			return
		}
		tree, err := ParseJSON(data)
		if err != nil {
			return
		}
		if err := CheckInput(operation, tree); err != nil {
			var wire *Error
			if !errors.As(err, &wire) {
				t.Fatal(err)
			}
			return
		}
		if err := FromTree(tree, reflect.New(types.in).Interface()); err != nil {
			t.Fatalf("%s passed the check, then: %v", data, err)
		}
	})
}

const realisticEndpointConfig = `{"EndpointConfigName":"llm-2026-01-02","ProductionVariants":[
	{"VariantName":"AllTraffic","ModelName":"llm","InstanceType":"ml.g5.2xlarge","InitialInstanceCount":2,"InitialVariantWeight":1.0,
	 "ModelDataDownloadTimeoutInSeconds":600,"ContainerStartupHealthCheckTimeoutInSeconds":600,
	 "RoutingConfig":{"RoutingStrategy":"LEAST_OUTSTANDING_REQUESTS"},
	 "ManagedInstanceScaling":{"Status":"ENABLED","MinInstanceCount":1,"MaxInstanceCount":4}},
	{"VariantName":"Canary","ModelName":"llm-next","InstanceType":"ml.g7.2xlarge","InitialInstanceCount":1,"InitialVariantWeight":0.1}],
	"DataCaptureConfig":{"EnableCapture":true,"InitialSamplingPercentage":20,"DestinationS3Uri":"s3://b/c",
	 "CaptureOptions":[{"CaptureMode":"Input"},{"CaptureMode":"Output"}]},
	"Tags":[{"Key":"team","Value":"search"},{"Key":"cost","Value":""}]}`

func BenchmarkCreateEndpointConfigDecodeAndCheck(b *testing.B) {
	data := []byte(realisticEndpointConfig)
	if err := checkJSON(b, "CreateEndpointConfig", realisticEndpointConfig); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		tree, err := ParseJSON(data)
		if err != nil {
			b.Fatal(err)
		}
		if err := CheckInput("CreateEndpointConfig", tree); err != nil {
			b.Fatal(err)
		}
		var in sagemaker.CreateEndpointConfigInput
		if err := FromTree(tree, &in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDescribeEndpointEncode(b *testing.B) {
	var out sagemaker.DescribeEndpointOutput
	if err := Unmarshal(snapshotBody(b, "DescribeEndpoint", "response"), &out); err != nil {
		b.Fatal(err)
	}
	out.PendingDeploymentSummary, out.ShadowProductionVariants = nil, nil
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Marshal(&out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadConstraints(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := loadConstraints(); err != nil {
			b.Fatal(err)
		}
	}
}
