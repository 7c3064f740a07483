package controlplane

import (
	"cmp"
	"fmt"
	"slices"
	"time"

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
	// Resolved is when the images were resolved; older records lack it.
	Resolved time.Time
	Variants []variant

	Async     *types.AsyncInferenceConfig
	Capture   *types.DataCaptureConfig
	Explainer *types.ExplainerConfig
	Metrics   *types.MetricsConfig
}

// variant is the desired state of a production variant, or of a shadow variant.
// A deployment has its shadow variants behind the production variants.
type variant struct {
	Shadow bool
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
	// CurrentServerless is what is in force until then, when Config has another.
	CurrentServerless *types.ProductionVariantServerlessConfig

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
		ID: generation, ConfigName: *config.EndpointConfigName, Resolved: tx.Now,
		Async: config.AsyncInferenceConfig, Capture: config.DataCaptureConfig,
		Explainer: config.ExplainerConfig, Metrics: config.MetricsConfig,
	}
	for i, pv := range allVariants(config.ProductionVariants, config.ShadowProductionVariants) {
		v, err := newVariant(tx, scope, pv)
		if err != nil {
			return d, err
		}
		if v.Shadow = i >= len(config.ProductionVariants); v.Shadow && v.hosts() {
			return d, notBuilt("ShadowProductionVariants without ModelName")
		}
		d.Variants = append(d.Variants, v)
	}
	return d, nil
}

// newVariant resolves a variant and its models.
func newVariant(tx *store.Tx, scope sdkcompat.Scope, pv types.ProductionVariant) (variant, error) {
	if pv.ModelName == nil {
		return hostVariant(pv), nil
	}
	v := variant{Config: pv, Count: 1}
	model, err := getModel(tx, scope, *pv.ModelName)
	if err != nil {
		return v, err
	}
	v.run(model)
	if err := v.override(tx, scope); err != nil {
		return v, err
	}
	if pv.InitialInstanceCount != nil {
		v.Count = *pv.InitialInstanceCount
	}
	v.Weight = aws.ToFloat32(pv.InitialVariantWeight)
	v.CurrentWeight, v.RollbackCount, v.RollbackWeight = v.Weight, v.Count, v.Weight
	return v, nil
}

// production are the variants that take requests.
func (d *deployment) production() []variant {
	n := slices.IndexFunc(d.Variants, func(v variant) bool { return v.Shadow })
	if n < 0 {
		n = len(d.Variants)
	}
	return d.Variants[:n]
}

// shadow is the shadow variant; nil when there is none.
func (d *deployment) shadow() *variant {
	if n := len(d.Variants); n > 0 && d.Variants[n-1].Shadow {
		return &d.Variants[n-1] // the only one (API_CreateEndpointConfig)
	}
	return nil
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
