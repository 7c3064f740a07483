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

// ParseARN splits a SageMaker ARN. The partition may be any of AWS's.
func ParseARN(arn string) (scope Scope, resource, name string, ok bool) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "sagemaker" {
		return Scope{}, "", "", false
	}
	resource, name, ok = strings.Cut(parts[5], "/")
	if !ok || name == "" {
		return Scope{}, "", "", false
	}
	return Scope{Account: parts[4], Region: parts[3]}, resource, name, true
}
