package controlplane

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

func TestCreateModelRefusesWhatAWSRefuses(t *testing.T) {
	image := func(edit func(c *types.ContainerDefinition)) types.ContainerDefinition {
		c := types.ContainerDefinition{Image: aws.String("image")}
		if edit != nil {
			edit(&c)
		}
		return c
	}
	primary := func(edit func(c *types.ContainerDefinition)) *sagemaker.CreateModelInput {
		c := image(edit)
		return &sagemaker.CreateModelInput{PrimaryContainer: &c}
	}
	host := func(name string) types.ContainerDefinition {
		return image(func(c *types.ContainerDefinition) { c.ContainerHostname = &name })
	}
	containers := func(mode types.InferenceExecutionMode, list ...types.ContainerDefinition) *sagemaker.CreateModelInput {
		in := &sagemaker.CreateModelInput{Containers: list}
		if mode != "" {
			in.InferenceExecutionConfig = &types.InferenceExecutionConfig{Mode: mode}
		}
		return in
	}
	multi := func(url string) types.ContainerDefinition {
		return image(func(c *types.ContainerDefinition) {
			c.Mode = types.ContainerModeMultiModel
			if url != "" {
				c.ModelDataUrl = &url
			}
		})
	}
	source := func(uri string, kind types.S3ModelDataType, compression types.ModelCompressionType) *types.S3ModelDataSource {
		return &types.S3ModelDataSource{S3Uri: &uri, S3DataType: kind, CompressionType: compression}
	}
	environment := func(bytes int) map[string]string {
		m := map[string]string{}
		for i := 0; bytes > 0; i++ {
			n := min(bytes, 1000)
			m[fmt.Sprintf("%04d", i)] = strings.Repeat("x", n-4)
			bytes -= n
		}
		return m
	}
	none := image(nil)
	for _, tc := range []struct {
		name string
		in   *sagemaker.CreateModelInput
		want error
	}{
		{"one container", primary(nil), nil},
		{"a list of one", containers("", none), nil},
		{"neither", &sagemaker.CreateModelInput{}, sdkcompat.ContainersMissing.Error()},
		{"both", &sagemaker.CreateModelInput{PrimaryContainer: &none, Containers: []types.ContainerDefinition{none}}, sdkcompat.ContainersTwice.Error()},
		{"a mode for one primary container", &sagemaker.CreateModelInput{PrimaryContainer: &none, InferenceExecutionConfig: &types.InferenceExecutionConfig{}}, sdkcompat.ExecutionNeedsContainers.Error()},
		{"a mode for a list of one", containers(types.InferenceExecutionModeSerial, none), sdkcompat.ExecutionNeedsContainers.Error()},
		{"no image", primary(func(c *types.ContainerDefinition) { c.Image = nil }), sdkcompat.ImageOrPackage.Error()},
		{"a package", primary(func(c *types.ContainerDefinition) { c.Image, c.ModelPackageName = nil, aws.String("p") }), nil},
		{"an image and a package", primary(func(c *types.ContainerDefinition) { c.ModelPackageName = aws.String("p") }), sdkcompat.ImageOrPackage.Error()},

		{"a pipeline", containers("", none, none), nil},
		{"a pipeline of names", containers(types.InferenceExecutionModeSerial, host("a"), host("b")), nil},
		{"a pipeline of some names", containers("", host("a"), none), sdkcompat.HostnamesOfSome.Error()},
		{"a name twice", containers("", host("a"), host("a")), sdkcompat.HostnameNotUnique.Error("a")},
		{"direct", containers(types.InferenceExecutionModeDirect, host("a"), host("b")), nil},
		{"direct without names", containers(types.InferenceExecutionModeDirect, none, none), sdkcompat.DirectNeedsHostnames.Error()},
		{"direct with some names", containers(types.InferenceExecutionModeDirect, host("a"), none), sdkcompat.DirectNeedsHostnames.Error()},

		{"many models", containers("", multi("s3://models/prefix/")), nil},
		{"many models without a prefix", containers("", multi("")), sdkcompat.MultiModelNeedsPrefix.Error()},
		{"many models in one archive", containers("", multi("s3://models/m.tar.gz")), sdkcompat.MultiModelPrefixIsModel.Error("s3://models/m.tar.gz")},
		{"many models in a pipeline", containers("", none, multi("s3://models/prefix")), nil},
		{"many models twice in a pipeline", containers("", multi("s3://models/a"), multi("s3://models/b")), sdkcompat.MultiModelTwice.Error()},
		{"many models of a source", primary(func(c *types.ContainerDefinition) {
			c.Mode, c.ModelDataSource = types.ContainerModeMultiModel, &types.ModelDataSource{}
		}), sdkcompat.MultiModelExcludesModelDataSource.Error()},

		{"a source and a URL", primary(func(c *types.ContainerDefinition) {
			c.ModelDataUrl, c.ModelDataSource = aws.String("s3://models/m.tar.gz"), &types.ModelDataSource{}
		}), sdkcompat.ModelDataTwice.Error()},
		{"a prefix", primary(func(c *types.ContainerDefinition) {
			c.ModelDataSource = &types.ModelDataSource{S3DataSource: source("s3://models/m/", types.S3ModelDataTypeS3Prefix, types.ModelCompressionTypeNone)}
		}), nil},
		{"a prefix without a slash", primary(func(c *types.ContainerDefinition) {
			c.ModelDataSource = &types.ModelDataSource{S3DataSource: source("s3://models/m", types.S3ModelDataTypeS3Prefix, types.ModelCompressionTypeNone)}
		}), sdkcompat.PrefixWithoutSlash.Error("ModelDataSource", "s3://models/m")},
		{"a compressed prefix", primary(func(c *types.ContainerDefinition) {
			c.AdditionalModelDataSources = []types.AdditionalModelDataSource{{ChannelName: aws.String("a"), S3DataSource: source("s3://models/m/", types.S3ModelDataTypeS3Prefix, types.ModelCompressionTypeGzip)}}
		}), sdkcompat.GzipNeedsObject.Error("AdditionalModelDataSources")},
		{"a channel twice", primary(func(c *types.ContainerDefinition) {
			one := types.AdditionalModelDataSource{ChannelName: aws.String("a"), S3DataSource: source("s3://models/m", types.S3ModelDataTypeS3Object, types.ModelCompressionTypeGzip)}
			c.AdditionalModelDataSources = []types.AdditionalModelDataSource{one, one}
		}), sdkcompat.ChannelNotUnique.Error()},

		{"32 KB of environment", containers("", image(func(c *types.ContainerDefinition) { c.Environment = environment(16 << 10) }), image(func(c *types.ContainerDefinition) { c.Environment = environment(16 << 10) })), nil},
		{"more of it in two containers", containers("", image(func(c *types.ContainerDefinition) { c.Environment = environment(16 << 10) }), image(func(c *types.ContainerDefinition) { c.Environment = environment(16<<10 + 1) })), sdkcompat.EnvironmentTooLarge.Error(32769, 32768)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			switch err := checkModel(tc.in); {
			case tc.want == nil && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != nil && (err == nil || err.Error() != tc.want.Error()):
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}
