package controlplane

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// UpdateEndpointWeightsAndCapacities changes what is desired at once; the
// reconciler starts and stops instances, and traffic follows the new weights
// when they are all in service. AWS page: API_UpdateEndpointWeightsAndCapacities.
func (p *Plane) UpdateEndpointWeightsAndCapacities(ctx context.Context, in *sagemaker.UpdateEndpointWeightsAndCapacitiesInput) (*sagemaker.UpdateEndpointWeightsAndCapacitiesOutput, error) {
	scope, name := scopeOf(ctx), *in.EndpointName
	out := new(sagemaker.UpdateEndpointWeightsAndCapacitiesOutput)
	err := p.DB.Update(func(tx *store.Tx) error {
		rec, err := getEndpoint(tx, scope, name)
		if err != nil {
			return err
		}
		if rec.busy() {
			return inProgress(rec)
		}
		for i := range rec.Deployment.Variants {
			v := &rec.Deployment.Variants[i]
			v.RollbackCount, v.RollbackWeight = v.Count, v.Weight
		}
		if err := setCapacities(rec, in.DesiredWeightsAndCapacities); err != nil {
			return err
		}
		if err := p.chargeQuota(tx, scope, rec); err != nil {
			return err
		}
		rec.Generation++
		rec.FailureReason = nil
		rec.enter(statusUpdating, tx.Now)
		out.EndpointArn = rec.EndpointArn
		tx.OnCommit(func() { p.wake(endpointKey(scope, name)) })
		return endpoints.Put(tx, store.Scope(scope), id(name), rec)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func setCapacities(rec *endpointRecord, desired []types.DesiredWeightAndCapacity) error {
	seen := map[string]bool{}
	for _, d := range desired {
		name := *d.VariantName
		if seen[name] {
			return sdkcompat.VariantNotUnique.Error(name)
		}
		seen[name] = true
		v := rec.Deployment.variant(name)
		if v == nil {
			return sdkcompat.VariantNotPresent.Error(name, rec.Deployment.ConfigName)
		}
		if err := setCapacity(v, &d, rec.AsyncInferenceConfig != nil); err != nil {
			return err
		}
	}
	return nil
}

func setCapacity(v *variant, d *types.DesiredWeightAndCapacity, async bool) error {
	serverless := v.Config.ServerlessConfig
	switch {
	case d.DesiredInstanceCount != nil && serverless != nil:
		return sdkcompat.CapacityOfServerless.Error(v.name())
	case d.ServerlessUpdateConfig != nil && serverless == nil:
		return sdkcompat.ConcurrencyOfInstances.Error(v.name())
	case d.DesiredInstanceCount != nil && *d.DesiredInstanceCount == 0 && !v.scalesFromZero(async):
		return sdkcompat.CapacityZero.Error(v.name())
	}
	if d.DesiredInstanceCount != nil {
		v.Count = *d.DesiredInstanceCount
	}
	if d.DesiredWeight != nil {
		v.Weight = *d.DesiredWeight
	}
	if u := d.ServerlessUpdateConfig; u != nil {
		changed := *serverless
		v.CurrentServerless, v.Config.ServerlessConfig, serverless = serverless, &changed, &changed
		if u.MaxConcurrency != nil {
			serverless.MaxConcurrency = u.MaxConcurrency
		}
		if u.ProvisionedConcurrency != nil {
			serverless.ProvisionedConcurrency = u.ProvisionedConcurrency
		}
		if aws.ToInt32(serverless.ProvisionedConcurrency) > aws.ToInt32(serverless.MaxConcurrency) {
			return sdkcompat.ProvisionedAboveMax.Error(v.name())
		}
	}
	return nil
}

// scalesFromZero tells whether the variant may have no instance: only asynchronous
// endpoints and inference components may
// (docs: async-inference-autoscale, endpoint-auto-scaling-zero-instances).
func (v *variant) scalesFromZero(async bool) bool { return async || v.hosts() }
