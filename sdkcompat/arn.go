package sdkcompat

import "strings"

// The resource part of the hosting ARNs.
const (
	ModelResource              = "model"
	EndpointConfigResource     = "endpoint-config"
	EndpointResource           = "endpoint"
	InferenceComponentResource = "inference-component"
)

// ARN builds arn:aws:sagemaker:<region>:<account>:<resource>/<name>. The name
// part is lower-cased, as real answers show (amazon-sagemaker-examples#293);
// the name keeps its case in every other field.
func ARN(scope Scope, resource, name string) string {
	return "arn:aws:sagemaker:" + scope.Region + ":" + scope.Account + ":" + resource + "/" + strings.ToLower(name)
}

// ParseARN splits a SageMaker ARN. The partition may be any of AWS's; ok is
// false unless account and region have their form and resource and name are not
// empty, so all four may become parts of a store key. The name is in the ARN's
// own case, which for ARNs of [ARN] is the lower one.
func ParseARN(arn string) (scope Scope, resource, name string, ok bool) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || !isPartition(parts[1]) || parts[2] != "sagemaker" {
		return Scope{}, "", "", false
	}
	scope = Scope{Account: parts[4], Region: parts[3]}
	resource, name, _ = strings.Cut(parts[5], "/")
	if !IsAccount(scope.Account) || !IsRegion(scope.Region) || resource == "" || name == "" {
		return Scope{}, "", "", false
	}
	return scope, resource, name, true
}

// isPartition accepts aws, aws-cn, aws-us-gov and their like.
func isPartition(s string) bool {
	return s == "aws" || strings.HasPrefix(s, "aws-")
}
