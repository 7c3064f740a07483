package sdkcompat

import (
	"net/http"
	"strings"
	"testing"
)

func TestCheckRuntimeSaysWhatAWSSays(t *testing.T) {
	const endpointPattern = `Member must satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9])*`
	for _, test := range []struct {
		operation, endpoint string
		headers             map[string]string
		message             string
	}{
		{
			"InvokeEndpoint", "-bad",
			map[string]string{"X-Amzn-SageMaker-Target-Variant": strings.Repeat("v", 64)},
			detected(
				`Value '-bad' at 'endpointName' failed to satisfy constraint: `+endpointPattern,
				`Value '`+strings.Repeat("v", 64)+`' at 'targetVariant' failed to satisfy constraint: Member must have length less than or equal to 63`,
			),
		},
		{
			"InvokeEndpoint", "e",
			map[string]string{"Content-Type": "é", "X-Amzn-SageMaker-Prefix-Aware-Id": strings.Repeat("p", 65)},
			detected(
				`Value 'é' at 'contentType' failed to satisfy constraint: Member must satisfy regular expression pattern: \p{ASCII}*`,
				`Value '`+strings.Repeat("p", 65)+`' at 'prefixAwareId' failed to satisfy constraint: Member must have length less than or equal to 64`,
			),
		},
		{
			// A sensitive member's value is not repeated.
			"InvokeEndpointWithResponseStream", "e",
			map[string]string{"X-Amzn-SageMaker-Custom-Attributes": strings.Repeat("s", 1025)},
			detected(`Value at 'customAttributes' failed to satisfy constraint: Member must have length less than or equal to 1024`),
		},
		{
			"InvokeEndpointAsync", "e",
			map[string]string{
				"X-Amzn-SageMaker-InputLocation":            "ftp://x",
				"X-Amzn-SageMaker-RequestTTLSeconds":        "59",
				"X-Amzn-SageMaker-InvocationTimeoutSeconds": "3601",
				"X-Amzn-SageMaker-Filename":                 "a.b.c",
			},
			detected(
				`Value 'a.b.c' at 'filename' failed to satisfy constraint: Member must satisfy regular expression pattern: ^(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_\.]*$`,
				`Value 'ftp://x' at 'inputLocation' failed to satisfy constraint: Member must satisfy regular expression pattern: ^(https|s3)://([^/]+)/?(.*)$`,
				`Value '3601' at 'invocationTimeoutSeconds' failed to satisfy constraint: Member must have value less than or equal to 3600`,
				`Value '59' at 'requestTTLSeconds' failed to satisfy constraint: Member must have value greater than or equal to 60`,
			),
		},
	} {
		err := CheckRuntime(test.operation, test.endpoint, headerFunc(test.headers))
		assertError(t, err, "ValidationError", test.message)
	}
}

func headerFunc(headers map[string]string) func(string) string {
	h := http.Header{}
	for name, value := range headers {
		h.Set(name, value)
	}
	return h.Get
}

func TestCheckRuntimeRefusesTextWhereAnIntegerMustBe(t *testing.T) {
	for _, text := range []string{"soon", "{}", `"60"`, "99999999999"} {
		err := CheckRuntime("InvokeEndpointAsync", "e", headerFunc(map[string]string{"X-Amzn-SageMaker-RequestTTLSeconds": text}))
		want := "STRING_VALUE can not be converted to an Integer"
		if text == "99999999999" {
			want = "NUMBER_VALUE can not be converted to an Integer"
		}
		assertError(t, err, "SerializationException", want)
	}
}

func TestCheckRuntimeTakesEveryKindOfHeader(t *testing.T) {
	for operation, headers := range map[string]map[string]string{
		"InvokeEndpoint": {
			"Content-Type": "application/json", "Accept": "*/*", "X-Amzn-SageMaker-Custom-Attributes": "a=b", "X-Amzn-SageMaker-Target-Model": "m/1.tar.gz",
			"X-Amzn-SageMaker-Target-Variant": "v-1", "X-Amzn-SageMaker-Session-Id": "NEW_SESSION", "X-Amzn-SageMaker-Inference-Component": "ic",
			"X-Amzn-SageMaker-Inference-Id": "id 1", "X-Amzn-SageMaker-Enable-Explanations": "`true`", "X-Amzn-SageMaker-Prefix-Aware-Id": "p",
		},
		"InvokeEndpointAsync": {
			"X-Amzn-SageMaker-InputLocation": "s3://b/k", "X-Amzn-SageMaker-RequestTTLSeconds": "60", "X-Amzn-SageMaker-Filename": "a.bin",
			"X-Amzn-SageMaker-S3OutputPathExtension": "out/x",
		},
		"InvokeEndpointWithResponseStream": {"X-Amzn-SageMaker-Accept": "text/event-stream", "X-Amzn-SageMaker-Session-Id": "s-1"},
	} {
		if err := CheckRuntime(operation, "endpoint-1", headerFunc(headers)); err != nil {
			t.Errorf("%s: %v", operation, err)
		}
	}
}

func TestCheckRuntimeOfAValidCallDoesNotAllocate(t *testing.T) {
	header := headerFunc(map[string]string{
		"Content-Type": "application/json", "Accept": "*/*", "X-Amzn-SageMaker-Target-Variant": "v", "X-Amzn-SageMaker-Session-Id": "s-1",
		"X-Amzn-SageMaker-Target-Model": "m.tar.gz",
	})
	allocs := testing.AllocsPerRun(100, func() {
		if err := CheckRuntime("InvokeEndpoint", "endpoint-1", header); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkCheckRuntime(b *testing.B) {
	header := headerFunc(map[string]string{"Content-Type": "application/json", "X-Amzn-SageMaker-Target-Variant": "v"})
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckRuntime("InvokeEndpoint", "endpoint-1", header); err != nil {
			b.Fatal(err)
		}
	}
}
