package controlplane

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// variantCase is a configuration of one valid variant v, and what makes it
// invalid.
type variantCase struct {
	name string
	edit func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant)
	want *sdkcompat.Message // nil: it is valid
}

// config is one variant with instances of a model.
func config() *sagemaker.CreateEndpointConfigInput {
	v := variantOf("v", 1)
	v.ModelName = aws.String("m")
	return &sagemaker.CreateEndpointConfigInput{EndpointConfigName: aws.String("c"), ProductionVariants: []types.ProductionVariant{v}}
}

// makeServerless turns a variant with instances into a valid serverless one.
func makeServerless(v *types.ProductionVariant) {
	v.InstanceType, v.InitialInstanceCount = "", nil
	v.ServerlessConfig = &types.ProductionVariantServerlessConfig{MemorySizeInMB: aws.Int32(2048), MaxConcurrency: aws.Int32(5)}
}

// makeComponents turns a configuration into a valid one for inference components.
func makeComponents(in *sagemaker.CreateEndpointConfigInput) {
	in.ProductionVariants[0].ModelName = nil
	in.ExecutionRoleArn = aws.String("arn:aws:iam::123456789012:role/r")
}

func addShadow(in *sagemaker.CreateEndpointConfigInput) *types.ProductionVariant {
	v := variantOf("shadow", 1)
	v.ModelName = aws.String("m")
	in.ShadowProductionVariants = []types.ProductionVariant{v}
	return &in.ShadowProductionVariants[0]
}

func pool(instanceType types.ProductionVariantInstanceType, priority int32) types.InstancePool {
	return types.InstancePool{InstanceType: instanceType, Priority: &priority}
}

func scaling(least, most int32) *types.ProductionVariantManagedInstanceScaling {
	return &types.ProductionVariantManagedInstanceScaling{
		Status: types.ManagedInstanceScalingStatusEnabled, MinInstanceCount: &least, MaxInstanceCount: &most,
	}
}

func runVariantCases(t *testing.T, cases []variantCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			in := config()
			tc.edit(in, &in.ProductionVariants[0])
			err := checkEndpointConfig(in)
			switch {
			case tc.want == nil && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != nil:
				wantMessage(t, err, "ValidationException", tc.want.Sentence("v"))
			}
		})
	}
}

func TestCreateEndpointConfigRefusesWhatInstancesCannotHave(t *testing.T) {
	layouts := func(n int) []types.AcceleratorPartitionLayout {
		return make([]types.AcceleratorPartitionLayout, n)
	}
	runVariantCases(t, []variantCase{
		{"one variant with instances", func(*sagemaker.CreateEndpointConfigInput, *types.ProductionVariant) {}, nil},
		{"neither type nor pools", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InstanceType = ""
		}, sdkcompat.InstancesMissing},
		{"no count", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InitialInstanceCount = nil
		}, sdkcompat.InstanceCountMissing},
		{"pools", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InstanceType, v.InstancePools = "", []types.InstancePool{pool("ml.g5.xlarge", 1), pool("ml.m5.large", 2)}
		}, nil},
		{"pools beside a type", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InstancePools = []types.InstancePool{pool("ml.g5.xlarge", 1)}
		}, sdkcompat.PoolsExcludeInstanceType},
		{"a priority twice", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InstanceType, v.InstancePools = "", []types.InstancePool{pool("ml.g5.xlarge", 2), pool("ml.m5.large", 2)}
		}, sdkcompat.PoolPriorityNotUnique},
		{"a type twice", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InstanceType, v.InstancePools = "", []types.InstancePool{pool("ml.g5.xlarge", 1), pool("ml.g5.xlarge", 2)}
		}, sdkcompat.PoolTypeNotUnique},
		{"a key with local storage", func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			in.KmsKeyId, v.InstanceType = aws.String("alias/k"), "ml.g5.xlarge"
		}, sdkcompat.KeyOfLocalStorage},
		{"a key with local storage in the second pool", func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			in.KmsKeyId = aws.String("alias/k")
			v.InstanceType, v.InstancePools = "", []types.InstancePool{pool("ml.m5.large", 1), pool("ml.m5d.large", 2)}
		}, sdkcompat.KeyOfLocalStorage},
		{"a key and a volume without local storage", func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			in.KmsKeyId, v.VolumeSizeInGB = aws.String("alias/k"), aws.Int32(30)
		}, nil},
		{"a volume with local storage", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InstanceType, v.VolumeSizeInGB = "ml.trn1.2xlarge", aws.Int32(30)
		}, sdkcompat.VolumeOfLocalStorage},
		{"two layouts", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InstanceType, v.AcceleratorPartitionLayouts = "ml.p5.48xlarge", layouts(2)
		}, sdkcompat.LayoutNotSingle},
		{"a layout of no accelerators", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.AcceleratorPartitionLayouts = layouts(1)
		}, sdkcompat.LayoutNeedsAccelerators},
		{"a layout", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InstanceType, v.AcceleratorPartitionLayouts = "ml.p5.48xlarge", layouts(1)
		}, nil},
	})
}

func TestCreateEndpointConfigRefusesIncompletePrefixAwareRouting(t *testing.T) {
	routing := func(strategy types.RoutingStrategy, prefix *types.PrefixAwareRoutingConfig) func(*sagemaker.CreateEndpointConfigInput, *types.ProductionVariant) {
		return func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.RoutingConfig = &types.ProductionVariantRoutingConfig{RoutingStrategy: strategy, PrefixAwareRoutingConfig: prefix}
		}
	}
	full := &types.PrefixAwareRoutingConfig{PrefixLength: aws.Int32(1024), ConcurrencyThreshold: aws.Int32(8)}
	runVariantCases(t, []variantCase{
		{"complete", routing(types.RoutingStrategyPrefixAware, full), nil},
		{"no PrefixAwareRoutingConfig", routing(types.RoutingStrategyPrefixAware, nil), sdkcompat.PrefixAwareIncomplete},
		{"no threshold", routing(types.RoutingStrategyPrefixAware, &types.PrefixAwareRoutingConfig{PrefixLength: aws.Int32(1024)}), sdkcompat.PrefixAwareIncomplete},
		{"no length", routing(types.RoutingStrategyPrefixAware, &types.PrefixAwareRoutingConfig{ConcurrencyThreshold: aws.Int32(8)}), sdkcompat.PrefixAwareIncomplete},
		{"another strategy", routing(types.RoutingStrategyRandom, full), sdkcompat.PrefixAwareUnasked},
		{"RANDOM", routing(types.RoutingStrategyRandom, nil), nil},
	})
}

func TestCreateEndpointConfigRefusesWhatServerlessExcludes(t *testing.T) {
	with := func(edit func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant)) func(*sagemaker.CreateEndpointConfigInput, *types.ProductionVariant) {
		return func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			makeServerless(v)
			edit(in, v)
		}
	}
	member := func(edit func(v *types.ProductionVariant)) func(*sagemaker.CreateEndpointConfigInput, *types.ProductionVariant) {
		return with(func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) { edit(v) })
	}
	runVariantCases(t, []variantCase{
		{"plain", member(func(*types.ProductionVariant) {}), nil},
		// The example of docs: serverless-endpoints-create has a key.
		{"a key", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			in.KmsKeyId = aws.String("alias/k")
		}), nil},
		{"InstanceType", member(func(v *types.ProductionVariant) { v.InstanceType = "ml.m5.large" }), sdkcompat.ServerlessExcludesInstances},
		{"InitialInstanceCount", member(func(v *types.ProductionVariant) { v.InitialInstanceCount = aws.Int32(1) }), sdkcompat.ServerlessExcludesInstances},
		{"InstancePools", member(func(v *types.ProductionVariant) { v.InstancePools = []types.InstancePool{pool("ml.m5.large", 1)} }), sdkcompat.ServerlessExcludesInstances},
		{"VolumeSizeInGB", member(func(v *types.ProductionVariant) { v.VolumeSizeInGB = aws.Int32(1) }), sdkcompat.ServerlessExcludesInstanceSettings},
		{"RoutingConfig", member(func(v *types.ProductionVariant) {
			v.RoutingConfig = &types.ProductionVariantRoutingConfig{RoutingStrategy: types.RoutingStrategyRandom}
		}), sdkcompat.ServerlessExcludesInstanceSettings},
		{"a timeout of containers", member(func(v *types.ProductionVariant) { v.ContainerStartupHealthCheckTimeoutInSeconds = aws.Int32(60) }), nil},
		{"odd memory", member(func(v *types.ProductionVariant) { v.ServerlessConfig.MemorySizeInMB = aws.Int32(1500) }), sdkcompat.MemorySizeStep},
		{"all concurrency provisioned", member(func(v *types.ProductionVariant) { v.ServerlessConfig.ProvisionedConcurrency = aws.Int32(5) }), nil},
		{"more concurrency provisioned than allowed", member(func(v *types.ProductionVariant) { v.ServerlessConfig.ProvisionedConcurrency = aws.Int32(6) }), sdkcompat.ProvisionedAboveMax},
		{"several variants", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			other := variantOf("w", 1)
			other.ModelName = aws.String("m")
			in.ProductionVariants = append(in.ProductionVariants, other)
		}), sdkcompat.ServerlessExcludesVariants},
		{"a shadow", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) { addShadow(in) }), sdkcompat.ServerlessExcludesShadow},
		{"async", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			in.AsyncInferenceConfig = &types.AsyncInferenceConfig{}
		}), sdkcompat.ServerlessExcludesAsync},
		{"data capture", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			in.DataCaptureConfig = &types.DataCaptureConfig{}
		}), sdkcompat.ServerlessExcludesCapture},
		{"data capture that is off", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			in.DataCaptureConfig = &types.DataCaptureConfig{EnableCapture: aws.Bool(false)}
		}), nil},
		{"a VPC", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			in.VpcConfig = &types.VpcConfig{}
		}), sdkcompat.ServerlessExcludesVPC},
		{"network isolation", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			in.EnableNetworkIsolation = aws.Bool(true)
		}), sdkcompat.ServerlessExcludesIsolation},
		{"no model", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) { makeComponents(in) }), sdkcompat.ServerlessNeedsModel},
	})
}

func TestCreateEndpointConfigOfComponents(t *testing.T) {
	with := func(edit func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant)) func(*sagemaker.CreateEndpointConfigInput, *types.ProductionVariant) {
		return func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			makeComponents(in)
			edit(in, v)
		}
	}
	managed := func(least, most int32) func(*sagemaker.CreateEndpointConfigInput, *types.ProductionVariant) {
		return with(func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InitialInstanceCount, v.ManagedInstanceScaling = aws.Int32(2), scaling(least, most)
		})
	}
	runVariantCases(t, []variantCase{
		{"plain", with(func(*sagemaker.CreateEndpointConfigInput, *types.ProductionVariant) {}), nil},
		{"no count", with(func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) { v.InitialInstanceCount = nil }), nil},
		{"no role", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) { in.ExecutionRoleArn = nil }), sdkcompat.ComponentsNeedRole},
		{"network isolation", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			in.EnableNetworkIsolation = aws.Bool(true)
		}), nil},
		{"network isolation of a model", func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			in.EnableNetworkIsolation = aws.Bool(true)
		}, sdkcompat.IsolationNeedsComponents},
		{"no network isolation of a model", func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			in.EnableNetworkIsolation = aws.Bool(false)
		}, nil},
		{"managed scaling", managed(1, 4), nil},
		{"managed scaling to zero", managed(0, 4), nil},
		{"managed scaling from more than its maximum", managed(0, 1), sdkcompat.ManagedScalingRange},
		{"managed scaling from less than its minimum", managed(3, 4), sdkcompat.ManagedScalingRange},
		{"a minimum above the maximum", with(func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.InitialInstanceCount, v.ManagedInstanceScaling = nil, scaling(3, 2)
		}), sdkcompat.ManagedScalingRange},
		{"managed scaling of a model", func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.ManagedInstanceScaling = scaling(1, 4)
		}, sdkcompat.ManagedScalingNeedsComponents},
		{"managed scaling beside a shadow", with(func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			v.ManagedInstanceScaling = scaling(1, 4)
			addShadow(in).ModelName = nil
		}), sdkcompat.ManagedScalingElsewhere},
		{"another model for a pool", with(func(_ *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			p := pool("ml.m5.large", 1)
			p.ModelNameOverride = aws.String("m2")
			v.InstanceType, v.InstancePools = "", []types.InstancePool{p}
		}), sdkcompat.OverrideNeedsModel},
		{"a variant with a model beside one without", with(func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			other := variantOf("w", 1)
			other.ModelName = aws.String("m")
			in.ProductionVariants = append(in.ProductionVariants, other)
		}), sdkcompat.VariantsMixed},
	})
}

func TestCreateEndpointConfigTakesOneShadowOfOneVariant(t *testing.T) {
	runVariantCases(t, []variantCase{
		{"one and one", func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) { addShadow(in) }, nil},
		{"two shadows", func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			addShadow(in)
			in.ShadowProductionVariants = append(in.ShadowProductionVariants, variantOf("w", 1))
		}, sdkcompat.ShadowNeedsOneOfEach},
		{"two variants", func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			addShadow(in)
			in.ProductionVariants = append(in.ProductionVariants, variantOf("w", 1))
		}, sdkcompat.ShadowNeedsOneOfEach},
		{"the same name", func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			addShadow(in).VariantName = v.VariantName
		}, sdkcompat.VariantNotUnique},
		{"async", func(in *sagemaker.CreateEndpointConfigInput, _ *types.ProductionVariant) {
			addShadow(in)
			in.AsyncInferenceConfig = &types.AsyncInferenceConfig{}
		}, sdkcompat.ShadowExcludesAsync},
		{"Inf1", func(in *sagemaker.CreateEndpointConfigInput, v *types.ProductionVariant) {
			addShadow(in)
			v.InstanceType = "ml.inf1.xlarge"
		}, sdkcompat.ShadowExcludesInf1},
	})
}

func TestCreateEndpointConfigLooksAtWhatTheModelsHave(t *testing.T) {
	one := types.ContainerDefinition{Image: aws.String("image")}
	multi := types.ContainerDefinition{Image: aws.String("image"), Mode: types.ContainerModeMultiModel}
	source := types.ContainerDefinition{Image: aws.String("image"), ModelDataSource: &types.ModelDataSource{}}
	private := types.ContainerDefinition{Image: aws.String("image"), ImageConfig: &types.ImageConfig{RepositoryAccessMode: types.RepositoryAccessModeVpc}}
	for _, tc := range []struct {
		name               string
		model              sagemaker.DescribeModelOutput
		serverless, shadow *sdkcompat.Message
	}{
		{"one container", sagemaker.DescribeModelOutput{PrimaryContainer: &one}, nil, nil},
		{"several containers", sagemaker.DescribeModelOutput{Containers: []types.ContainerDefinition{one, one}}, sdkcompat.ServerlessExcludesContainers, sdkcompat.ShadowExcludesContainers},
		{"many models", sagemaker.DescribeModelOutput{PrimaryContainer: &multi}, sdkcompat.ServerlessExcludesMultiModel, sdkcompat.ShadowExcludesMultiModel},
		{"a VPC", sagemaker.DescribeModelOutput{PrimaryContainer: &one, VpcConfig: &types.VpcConfig{}}, sdkcompat.ServerlessExcludesVPC, nil},
		{"network isolation", sagemaker.DescribeModelOutput{PrimaryContainer: &one, EnableNetworkIsolation: aws.Bool(true)}, sdkcompat.ServerlessExcludesIsolation, nil},
		{"a model data source", sagemaker.DescribeModelOutput{PrimaryContainer: &source}, sdkcompat.ServerlessExcludesModelDataSource, nil},
		{"a private registry", sagemaker.DescribeModelOutput{PrimaryContainer: &private}, sdkcompat.ServerlessExcludesRegistries, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plain, serverless, shadow := config(), config(), config()
			makeServerless(&serverless.ProductionVariants[0])
			addShadow(shadow)
			for in, want := range map[*sagemaker.CreateEndpointConfigInput]*sdkcompat.Message{plain: nil, serverless: tc.serverless, shadow: tc.shadow} {
				err := checkHosting(candidate{in, &in.ProductionVariants[0]}, &modelRecord{tc.model})
				switch {
				case want == nil && err != nil:
					t.Errorf("refused: %v", err)
				case want != nil:
					wantMessage(t, err, "ValidationException", want.Sentence("v"))
				}
			}
		})
	}
}

func TestInstanceTypesComeInTheOrderOfPriority(t *testing.T) {
	v := types.ProductionVariant{InstancePools: []types.InstancePool{pool("ml.c5.large", 5), pool("ml.g5.xlarge", 1), pool("ml.m5.large", 3)}}
	if got := instanceTypes(&v); len(got) != 3 || got[0] != "ml.g5.xlarge" || got[1] != "ml.m5.large" || got[2] != "ml.c5.large" {
		t.Errorf("got %v", got)
	}
}

func TestCreateEndpointConfigNeedsTheModelsOfItsPools(t *testing.T) {
	r := newRig(t, echo())
	defer r.stop()
	_, err := r.CreateModel(r.ctx, &sagemaker.CreateModelInput{ModelName: aws.String("m"), PrimaryContainer: &types.ContainerDefinition{Image: aws.String("image")}})
	r.must(err)
	in := config()
	v := &in.ProductionVariants[0]
	p := pool("ml.g5.xlarge", 1)
	p.ModelNameOverride = aws.String("compiled")
	v.InstanceType, v.InstancePools = "", []types.InstancePool{p}
	_, err = r.CreateEndpointConfig(r.ctx, in)
	wantMessage(t, err, "ValidationException", missing("model", "model", "compiled"))
}
