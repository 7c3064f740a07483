package controlplane

import (
	"math"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
)

// candidate is a production or shadow variant that asks to be stored, within its
// configuration.
type candidate struct {
	in *sagemaker.CreateEndpointConfigInput
	*types.ProductionVariant
}

// variantRule is a rule between the members of a configuration that the
// constraint table cannot express. AWS refuses what breaks it.
type variantRule struct {
	message *sdkcompat.Message
	broken  func(c candidate) bool
}

// checkEndpointConfig holds a configuration against every rule that needs
// nothing but the request. The error is a ValidationException.
func checkEndpointConfig(in *sagemaker.CreateEndpointConfigInput) error {
	variants := allVariants(in.ProductionVariants, in.ShadowProductionVariants)
	if err := checkVariantList(in, variants); err != nil {
		return err
	}
	for i := range variants {
		c := candidate{in, &variants[i]}
		for _, rules := range [][]variantRule{componentRules, serverlessRules, instanceRules, routingRules} {
			for _, r := range rules {
				if r.broken(c) {
					return r.message.Error(*c.VariantName)
				}
			}
		}
	}
	return nil
}

// checkVariantList holds the rules between variants.
func checkVariantList(in *sagemaker.CreateEndpointConfigInput, variants []types.ProductionVariant) error {
	if len(in.ShadowProductionVariants) > 0 {
		switch {
		case len(in.ProductionVariants) != 1 || len(in.ShadowProductionVariants) != 1:
			// AWS page: API_CreateEndpointConfig.
			return sdkcompat.ShadowNeedsOneOfEach.Error()
		case in.AsyncInferenceConfig != nil:
			// docs: shadow-tests-exclusions.
			return sdkcompat.ShadowExcludesAsync.Error()
		}
	}
	seen := map[string]bool{}
	for _, v := range variants {
		if seen[*v.VariantName] {
			return sdkcompat.VariantNotUnique.Error(*v.VariantName)
		}
		seen[*v.VariantName] = true
		if (v.ModelName == nil) != (variants[0].ModelName == nil) {
			// Whether the runtime wants an InferenceComponentName goes by the
			// endpoint, not by the variant.
			return sdkcompat.VariantsMixed.Error()
		}
	}
	return nil
}

// componentRules are about variants without ModelName, which wait for inference
// components, and about what only those may have.
var componentRules = []variantRule{
	{sdkcompat.ManagedScalingNeedsComponents, func(c candidate) bool { return c.ManagedInstanceScaling != nil && c.ModelName != nil }},
	{sdkcompat.ManagedScalingElsewhere, func(c candidate) bool {
		return c.ManagedInstanceScaling != nil && (c.ServerlessConfig != nil || len(c.in.ShadowProductionVariants) > 0)
	}},
	{sdkcompat.ServerlessNeedsModel, func(c candidate) bool { return c.ModelName == nil && c.ServerlessConfig != nil }},
	{sdkcompat.ComponentsNeedRole, func(c candidate) bool { return c.ModelName == nil && c.in.ExecutionRoleArn == nil }},
	{sdkcompat.OverrideNeedsModel, func(c candidate) bool {
		return c.ModelName == nil && slices.ContainsFunc(c.InstancePools, func(p types.InstancePool) bool { return p.ModelNameOverride != nil })
	}},
	{sdkcompat.ManagedScalingRange, func(c candidate) bool {
		s := c.ManagedInstanceScaling
		if s == nil {
			return false
		}
		least, most := aws.ToInt32(s.MinInstanceCount), int32(math.MaxInt32)
		if s.MaxInstanceCount != nil {
			most = *s.MaxInstanceCount
		}
		n := least // nothing to compare
		if c.InitialInstanceCount != nil {
			n = *c.InitialInstanceCount
		}
		return n < least || n > most
	}},
	// terraform-provider-aws#48738. A model has an EnableNetworkIsolation of
	// its own.
	{sdkcompat.IsolationNeedsComponents, func(c candidate) bool {
		return aws.ToBool(c.in.EnableNetworkIsolation) && c.ModelName != nil && c.ServerlessConfig == nil
	}},
}

// serverlessRules hold what a serverless variant excludes
// (docs: serverless-endpoints, "Feature exclusions").
var serverlessRules = onlyServerless(
	variantRule{sdkcompat.ServerlessExcludesInstances, func(c candidate) bool {
		return c.InstanceType != "" || c.InitialInstanceCount != nil || len(c.InstancePools) > 0
	}},
	variantRule{sdkcompat.ServerlessExcludesInstanceSettings, func(c candidate) bool {
		return c.VolumeSizeInGB != nil || c.RoutingConfig != nil || c.AcceleratorType != "" || len(c.AcceleratorPartitionLayouts) > 0 ||
			c.CapacityReservationConfig != nil || c.InferenceAmiVersion != "" || c.VariantInstanceProvisionTimeoutInSeconds != nil
	}},
	// AWS page: API_ProductionVariantServerlessConfig; the ranges are in the model.
	variantRule{sdkcompat.MemorySizeStep, func(c candidate) bool { return aws.ToInt32(c.ServerlessConfig.MemorySizeInMB)%1024 != 0 }},
	variantRule{sdkcompat.ProvisionedAboveMax, func(c candidate) bool {
		return aws.ToInt32(c.ServerlessConfig.ProvisionedConcurrency) > aws.ToInt32(c.ServerlessConfig.MaxConcurrency)
	}},
	variantRule{sdkcompat.ServerlessExcludesVariants, func(c candidate) bool { return len(c.in.ProductionVariants) > 1 }},
	variantRule{sdkcompat.ServerlessExcludesShadow, func(c candidate) bool { return len(c.in.ShadowProductionVariants) > 0 }},
	variantRule{sdkcompat.ServerlessExcludesAsync, func(c candidate) bool { return c.in.AsyncInferenceConfig != nil }},
	variantRule{sdkcompat.ServerlessExcludesCapture, func(c candidate) bool {
		d := c.in.DataCaptureConfig
		return d != nil && (d.EnableCapture == nil || *d.EnableCapture)
	}},
	variantRule{sdkcompat.ServerlessExcludesVPC, func(c candidate) bool { return c.in.VpcConfig != nil }},
	variantRule{sdkcompat.ServerlessExcludesIsolation, func(c candidate) bool { return aws.ToBool(c.in.EnableNetworkIsolation) }},
)

func onlyServerless(rules ...variantRule) []variantRule {
	for i, r := range rules {
		rules[i].broken = func(c candidate) bool { return c.ServerlessConfig != nil && r.broken(c) }
	}
	return rules
}

// instanceRules are about the instances of a variant.
var instanceRules = []variantRule{
	{sdkcompat.InstancesMissing, func(c candidate) bool {
		return c.ServerlessConfig == nil && c.InstanceType == "" && len(c.InstancePools) == 0
	}},
	// docs: realtime-endpoints-heterogeneous, where the pools take the place of
	// InstanceType.
	{sdkcompat.PoolsExcludeInstanceType, func(c candidate) bool { return c.InstanceType != "" && len(c.InstancePools) > 0 }},
	{sdkcompat.InstanceCountMissing, func(c candidate) bool {
		return c.ServerlessConfig == nil && c.ModelName != nil && c.InitialInstanceCount == nil && len(c.InstancePools) == 0
	}},
	{sdkcompat.PoolPriorityNotUnique, func(c candidate) bool {
		return repeats(c.InstancePools, func(p types.InstancePool) int32 { return aws.ToInt32(p.Priority) })
	}},
	// DescribeEndpoint tells pools apart by their instance type.
	{sdkcompat.PoolTypeNotUnique, func(c candidate) bool {
		return repeats(c.InstancePools, func(p types.InstancePool) types.ProductionVariantInstanceType { return p.InstanceType })
	}},
	// So API_CreateEndpointConfig until 2026; its newest text says only that
	// the key does not encrypt local storage.
	{sdkcompat.KeyOfLocalStorage, func(c candidate) bool { return c.in.KmsKeyId != nil && c.anyShape(hasLocalStorage) }},
	// sagemaker-python-sdk#4828: no volume is attached to these.
	{sdkcompat.VolumeOfLocalStorage, func(c candidate) bool { return c.VolumeSizeInGB != nil && c.anyShape(hasLocalStorage) }},
	// AWS page: API_ProductionVariant.
	{sdkcompat.LayoutNotSingle, func(c candidate) bool { return len(c.AcceleratorPartitionLayouts) > 1 }},
	{sdkcompat.LayoutNeedsAccelerators, func(c candidate) bool {
		return len(c.AcceleratorPartitionLayouts) > 0 && c.anyShape(func(s sdkcompat.InstanceShape) bool { return s.Accelerators == 0 })
	}},
	// docs: shadow-tests-exclusions.
	{sdkcompat.ShadowExcludesInf1, func(c candidate) bool {
		return len(c.in.ShadowProductionVariants) > 0 && slices.ContainsFunc(instanceTypes(c.ProductionVariant), func(t string) bool { return strings.HasPrefix(t, "ml.inf1.") })
	}},
}

// routingRules are those of API_ProductionVariantRoutingConfig; the ranges are
// in the model.
var routingRules = []variantRule{
	{sdkcompat.PrefixAwareIncomplete, func(c candidate) bool {
		if c.RoutingConfig == nil || c.RoutingConfig.RoutingStrategy != types.RoutingStrategyPrefixAware {
			return false
		}
		p := c.RoutingConfig.PrefixAwareRoutingConfig
		return p == nil || p.PrefixLength == nil || p.ConcurrencyThreshold == nil
	}},
	{sdkcompat.PrefixAwareUnasked, func(c candidate) bool {
		r := c.RoutingConfig
		return r != nil && r.RoutingStrategy != types.RoutingStrategyPrefixAware && r.PrefixAwareRoutingConfig != nil
	}},
}

// instanceTypes are those that the variant's instances may have, in the order in
// which they are tried; a serverless variant has none.
func instanceTypes(v *types.ProductionVariant) []string {
	if v.InstanceType != "" {
		return []string{string(v.InstanceType)}
	}
	pools := slices.SortedStableFunc(slices.Values(v.InstancePools), func(a, b types.InstancePool) int {
		return int(aws.ToInt32(a.Priority)) - int(aws.ToInt32(b.Priority))
	})
	all := make([]string, len(pools))
	for i, p := range pools {
		all[i] = string(p.InstanceType)
	}
	return all
}

func hasLocalStorage(s sdkcompat.InstanceShape) bool { return s.NVMeGB > 0 }

func (c candidate) anyShape(is func(sdkcompat.InstanceShape) bool) bool {
	return slices.ContainsFunc(instanceTypes(c.ProductionVariant), func(t string) bool {
		s, known := sdkcompat.Shape(t)
		return known && is(s)
	})
}

// repeats tells whether two elements have one key.
func repeats[T any, K comparable](list []T, key func(T) K) bool {
	seen := map[K]bool{}
	return slices.ContainsFunc(list, func(e T) bool {
		k := key(e)
		again := seen[k]
		seen[k] = true
		return again
	})
}

// checkHosting holds a variant against a model that it is to host: what shadow
// and serverless variants exclude may stand in either. AWS does it when the
// configuration is created. docs: shadow-tests-exclusions, serverless-endpoints.
func checkHosting(c candidate, model *modelRecord) error {
	containers := containersOf(model.PrimaryContainer, model.Containers)
	shadow, serverless := len(c.in.ShadowProductionVariants) > 0, c.ServerlessConfig != nil
	has := func(is func(types.ContainerDefinition) bool) bool { return slices.ContainsFunc(containers, is) }
	multiModel := has(func(c types.ContainerDefinition) bool { return c.Mode == types.ContainerModeMultiModel })
	for _, rule := range []struct {
		message *sdkcompat.Message
		broken  bool
	}{
		{sdkcompat.ShadowExcludesContainers, shadow && len(containers) > 1},
		{sdkcompat.ShadowExcludesMultiModel, shadow && multiModel},
		{sdkcompat.ServerlessExcludesContainers, serverless && len(containers) > 1},
		{sdkcompat.ServerlessExcludesMultiModel, serverless && multiModel},
		{sdkcompat.ServerlessExcludesVPC, serverless && model.VpcConfig != nil},
		{sdkcompat.ServerlessExcludesIsolation, serverless && aws.ToBool(model.EnableNetworkIsolation)},
		{sdkcompat.ServerlessExcludesModelDataSource, serverless && has(func(c types.ContainerDefinition) bool { return c.ModelDataSource != nil })},
		{sdkcompat.ServerlessExcludesRegistries, serverless && has(func(c types.ContainerDefinition) bool {
			return c.ImageConfig != nil && c.ImageConfig.RepositoryAccessMode == types.RepositoryAccessModeVpc
		})},
	} {
		if rule.broken {
			return rule.message.Error(*c.VariantName)
		}
	}
	return nil
}
