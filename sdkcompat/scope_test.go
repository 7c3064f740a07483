package sdkcompat

import (
	"strings"
	"testing"
)

var fallbackScope = Scope{Account: "123456789012", Region: "us-east-1"}

func TestScopeFromAuthorization(t *testing.T) {
	const sigV4 = "AWS4-HMAC-SHA256 Credential="
	for header, want := range map[string]Scope{
		sigV4 + "AKID/20260102/eu-west-1/sagemaker/aws4_request, SignedHeaders=host, Signature=ab": {"123456789012", "eu-west-1"},
		sigV4 + "111122223333/20260102/eu-west-1/sagemaker/aws4_request,SignedHeaders=host":        {"111122223333", "eu-west-1"},
		sigV4 + "11112222333/20260102/eu-west-1/sagemaker/aws4_request":                            {"123456789012", "eu-west-1"},
		sigV4 + "111122223333/20260102/EU..WEST/sagemaker/aws4_request":                            {"111122223333", "us-east-1"},
		sigV4 + "a/b/111122223333/20260102/eu-west-1/sagemaker/aws4_request":                       {"111122223333", "eu-west-1"},
		sigV4 + "AKID/20260102/eu-west-1/sagemaker":                                                fallbackScope,
		sigV4:            fallbackScope,
		"Bearer token":   fallbackScope,
		"":               fallbackScope,
		"Credential=///": fallbackScope,
	} {
		if got := ScopeFromAuthorization(header, fallbackScope); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
}

// FuzzScopeFromAuthorization: an account and a region become parts of store
// keys and log paths, so neither may ever hold anything else.
func FuzzScopeFromAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=111122223333/20260102/eu-west-1/sagemaker/aws4_request, SignedHeaders=host, Signature=ab")
	f.Add("Credential=//../..//aws4_request")
	f.Fuzz(func(t *testing.T, header string) {
		got := ScopeFromAuthorization(header, fallbackScope)
		if !IsAccount(got.Account) || !IsRegion(got.Region) {
			t.Fatalf("%q gave %q", header, got)
		}
		if strings.ContainsAny(got.Account+got.Region, "/.\\ \x00") {
			t.Fatalf("%q gave %q", header, got)
		}
	})
}

func TestParseARN(t *testing.T) {
	for _, test := range []struct {
		arn            string
		scope          Scope
		resource, name string
		ok             bool
	}{
		{"arn:aws:sagemaker:us-east-1:123456789012:endpoint/my-endpoint", fallbackScope, EndpointResource, "my-endpoint", true},
		{"arn:aws-cn:sagemaker:us-east-1:123456789012:model/M", fallbackScope, ModelResource, "M", true},
		{arn: "arn:aws:sagemaker:us-east-1:123456789012:endpoint"},
		{arn: "arn:aws:sagemaker:us-east-1:123456789012:endpoint/"},
		{arn: "arn:aws:sagemaker:us-east-1:123456789012:/name"},
		{arn: "arn:aws:sagemaker:us-east-1:12345:endpoint/e"},
		{arn: "arn:aws:sagemaker:US_EAST:123456789012:endpoint/e"},
		{arn: "arn:gcp:sagemaker:us-east-1:123456789012:endpoint/e"},
		{arn: "arn:aws:s3:us-east-1:123456789012:endpoint/e"},
		{arn: ""},
	} {
		scope, resource, name, ok := ParseARN(test.arn)
		if scope != test.scope || resource != test.resource || name != test.name || ok != test.ok {
			t.Errorf("%q: got %v %q %q %v", test.arn, scope, resource, name, ok)
		}
	}
}

func TestARNLowerCasesTheName(t *testing.T) {
	want := "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/my-config"
	if got := ARN(fallbackScope, EndpointConfigResource, "My-Config"); got != want {
		t.Errorf("got %s", got)
	}
}

func FuzzParseARN(f *testing.F) {
	f.Add("arn:aws:sagemaker:us-east-1:123456789012:endpoint/e")
	f.Add("arn:aws-us-gov:sagemaker:::a/b/c:d")
	f.Fuzz(func(t *testing.T, arn string) {
		scope, resource, name, ok := ParseARN(arn)
		if !ok {
			return
		}
		if !IsAccount(scope.Account) || !IsRegion(scope.Region) || resource == "" || name == "" {
			t.Fatalf("%q gave %v %q %q", arn, scope, resource, name)
		}
		again, resourceAgain, nameAgain, ok := ParseARN(ARN(scope, resource, name))
		if !ok || again != scope || resourceAgain != resource || nameAgain != strings.ToLower(name) {
			t.Fatalf("%q came back as %v %q %q", arn, again, resourceAgain, nameAgain)
		}
	})
}
