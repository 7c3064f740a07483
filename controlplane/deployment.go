package controlplane

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// deployment is an endpoint configuration together with its models, as they were
// when an endpoint took them over. Deleting either later changes nothing for the
// endpoint, not even when the daemon restarts.
type deployment struct {
	// ID is the endpoint's generation when it took the configuration over. It
	// tells the fleets of an update apart.
	ID         int64
	ConfigName string
	Variants   []variant

	Async     *types.AsyncInferenceConfig
	Capture   *types.DataCaptureConfig
	Explainer *types.ExplainerConfig
	Metrics   *types.MetricsConfig
}

// variant is one production variant's desired state.
type variant struct {
	Config types.ProductionVariant
	// Containers are the model's, in order; Direct is its
	// InferenceExecutionConfig's mode.
	Containers []types.ContainerDefinition
	Direct     bool
	// Overrides are the models of the instance pools that have a
	// ModelNameOverride, by instance type.
	Overrides map[string]poolModel

	Count         int32 // DesiredInstanceCount
	Weight        float32
	CurrentWeight float32 // what traffic follows until the update under way is done

	// What to return to when the update under way fails.
	RollbackCount  int32
	RollbackWeight float32
}

func (v *variant) name() string { return *v.Config.VariantName }

// instanceType of a variant with InstancePools is that of the pool that is tried
// first; a serverless variant has none.
func (v *variant) instanceType() string {
	if v.Config.InstanceType != "" || len(v.Config.InstancePools) == 0 {
		return string(v.Config.InstanceType)
	}
	first := slices.MinFunc(v.Config.InstancePools, func(a, b types.InstancePool) int {
		return cmp.Compare(aws.ToInt32(a.Priority), aws.ToInt32(b.Priority))
	})
	return string(first.InstanceType)
}

func (d *deployment) variant(name string) *variant {
	for i := range d.Variants {
		if d.Variants[i].name() == name {
			return &d.Variants[i]
		}
	}
	return nil
}

// newDeployment resolves a configuration. It refuses, and says so, what
// sagelocal cannot host yet, so that no endpoint is InService with nothing or
// with the wrong thing behind it.
func newDeployment(tx *store.Tx, scope sdkcompat.Scope, config *endpointConfigRecord, generation int64) (deployment, error) {
	d := deployment{
		ID: generation, ConfigName: *config.EndpointConfigName,
		Async: config.AsyncInferenceConfig, Capture: config.DataCaptureConfig,
		Explainer: config.ExplainerConfig, Metrics: config.MetricsConfig,
	}
	if len(config.ShadowProductionVariants) > 0 {
		return d, notBuilt("ShadowProductionVariants")
	}
	for _, pv := range config.ProductionVariants {
		if pv.ModelName == nil {
			d.Variants = append(d.Variants, hostVariant(pv))
			continue
		}
		model, err := getModel(tx, scope, *pv.ModelName)
		if err != nil {
			return d, err
		}
		v := variant{Config: pv, Count: 1}
		v.run(model)
		if err := v.override(tx, scope); err != nil {
			return d, err
		}
		if pv.InitialInstanceCount != nil {
			v.Count = *pv.InitialInstanceCount
		}
		v.Weight = aws.ToFloat32(pv.InitialVariantWeight)
		v.CurrentWeight, v.RollbackCount, v.RollbackWeight = v.Weight, v.Count, v.Weight
		d.Variants = append(d.Variants, v)
	}
	return d, nil
}

// onlyContainer is the container of a model that an inference component runs.
func onlyContainer(model *modelRecord) (*types.ContainerDefinition, error) {
	all := containersOf(model.PrimaryContainer, model.Containers)
	if len(all) > 1 {
		return nil, notBuilt(fmt.Sprintf("models of several containers in an inference component (model %q)", *model.ModelName))
	}
	if all[0].Mode == types.ContainerModeMultiModel {
		return nil, notBuilt(fmt.Sprintf("multi-model containers in an inference component (model %q)", *model.ModelName))
	}
	return &all[0], nil
}

func notBuilt(what string) error {
	return sdkcompat.NotHosted.Error(what)
}
