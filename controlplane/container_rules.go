package controlplane

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// maxEnvironmentBytes bounds the keys and values of all containers' environments
// together (AWS page: API_ContainerDefinition).
const maxEnvironmentBytes = 32 << 10

// checkModel holds a model against every rule that needs nothing but the
// request. The error is a ValidationException.
func checkModel(in *sagemaker.CreateModelInput) error {
	switch {
	case in.PrimaryContainer != nil && len(in.Containers) > 0:
		return sdkcompat.ContainersTwice.Error()
	case in.PrimaryContainer == nil && len(in.Containers) == 0:
		return sdkcompat.ContainersMissing.Error()
	case in.InferenceExecutionConfig != nil && len(in.Containers) < 2:
		// docs: multi-container-create. The most, 15, is in the model.
		return sdkcompat.ExecutionNeedsContainers.Error()
	}
	containers := containersOf(in.PrimaryContainer, in.Containers)
	multiModel, environment := 0, 0
	for i := range containers {
		c := &containers[i]
		if err := checkContainer(c); err != nil {
			return err
		}
		if c.Mode == types.ContainerModeMultiModel {
			multiModel++
		}
		for k, v := range c.Environment {
			environment += len(k) + len(v)
		}
	}
	switch {
	case multiModel > 1:
		return sdkcompat.MultiModelTwice.Error()
	case environment > maxEnvironmentBytes:
		return sdkcompat.EnvironmentTooLarge.Error(environment, maxEnvironmentBytes)
	}
	return checkHostnames(in, containers)
}

func checkContainer(c *types.ContainerDefinition) error {
	url := aws.ToString(c.ModelDataUrl)
	multiModel := c.Mode == types.ContainerModeMultiModel
	switch {
	case (c.Image == nil) == (c.ModelPackageName == nil):
		return sdkcompat.ImageOrPackage.Error()
	case c.ModelDataSource != nil && c.ModelDataUrl != nil:
		return sdkcompat.ModelDataTwice.Error()
	case multiModel && c.ModelDataSource != nil:
		// AWS page: API_ContainerDefinition.
		return sdkcompat.MultiModelExcludesModelDataSource.Error()
	case multiModel && url == "" && c.ModelPackageName == nil:
		// docs: create-multi-model-endpoint.
		return sdkcompat.MultiModelNeedsPrefix.Error()
	case multiModel && strings.HasSuffix(url, ".tar.gz"):
		return sdkcompat.MultiModelPrefixIsModel.Error(url)
	}
	if c.ModelDataSource != nil && c.ModelDataSource.S3DataSource != nil {
		if err := checkS3Source("ModelDataSource", c.ModelDataSource.S3DataSource); err != nil {
			return err
		}
	}
	for _, s := range c.AdditionalModelDataSources {
		if err := checkS3Source("AdditionalModelDataSources", s.S3DataSource); err != nil {
			return err
		}
	}
	if repeats(c.AdditionalModelDataSources, func(s types.AdditionalModelDataSource) string { return aws.ToString(s.ChannelName) }) {
		return sdkcompat.ChannelNotUnique.Error()
	}
	return nil
}

// checkS3Source holds the combinations that API_S3ModelDataSource lists.
func checkS3Source(member string, s *types.S3ModelDataSource) error {
	prefix := s.S3DataType == types.S3ModelDataTypeS3Prefix
	switch {
	case prefix && s.CompressionType == types.ModelCompressionTypeGzip:
		return sdkcompat.GzipNeedsObject.Error(member)
	case prefix && !strings.HasSuffix(aws.ToString(s.S3Uri), "/"):
		return sdkcompat.PrefixWithoutSlash.Error(member, aws.ToString(s.S3Uri))
	}
	return nil
}

// checkHostnames: a pipeline's containers have all a name or none, and direct
// invocation needs them all (AWS page: API_ContainerDefinition, docs:
// multi-container-create). A lone container's name is ignored.
func checkHostnames(in *sagemaker.CreateModelInput, containers []types.ContainerDefinition) error {
	if len(containers) < 2 {
		return nil
	}
	hosts := map[string]bool{}
	unnamed := 0
	for _, c := range containers {
		host := aws.ToString(c.ContainerHostname)
		switch {
		case host == "":
			unnamed++
		case hosts[host]:
			return sdkcompat.HostnameNotUnique.Error(host)
		}
		hosts[host] = true
	}
	direct := in.InferenceExecutionConfig != nil && in.InferenceExecutionConfig.Mode == types.InferenceExecutionModeDirect
	switch {
	case direct && unnamed > 0:
		return sdkcompat.DirectNeedsHostnames.Error()
	case unnamed > 0 && unnamed < len(containers):
		return sdkcompat.HostnamesOfSome.Error()
	}
	return nil
}

// containersOf are a model's containers, however it was given them.
func containersOf(primary *types.ContainerDefinition, list []types.ContainerDefinition) []types.ContainerDefinition {
	if primary != nil {
		return []types.ContainerDefinition{*primary}
	}
	return slices.Clone(list)
}
