package controlplane

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/store"
)

// UpdateEndpoint begins to put another configuration into force. The new fleet
// starts beside the old one, traffic moves as the DeploymentConfig says, and the
// old one stops when its requests are answered. AWS page: API_UpdateEndpoint.
func (p *Plane) UpdateEndpoint(ctx context.Context, in *sagemaker.UpdateEndpointInput) (*sagemaker.UpdateEndpointOutput, error) {
	scope, name := scopeOf(ctx), *in.EndpointName
	out := new(sagemaker.UpdateEndpointOutput)
	err := p.DB.Update(func(tx *store.Tx) error {
		rec, err := getEndpoint(tx, scope, name)
		if err != nil {
			return err
		}
		if rec.EndpointStatus != statusUpdateRollbackFailed && rec.busy() {
			return inProgress(rec)
		}
		// The configuration in force must still exist, although nothing is read
		// from it (terraform-provider-aws#40048, #48997).
		if _, err := getEndpointConfig(tx, scope, rec.Deployment.ConfigName); err != nil {
			return err
		}
		config, err := getEndpointConfig(tx, scope, *in.EndpointConfigName)
		if err != nil {
			return err
		}
		rec.Generation++
		target, err := newDeployment(tx, scope, config, rec.Generation)
		if err != nil {
			return err
		}
		policy := in.DeploymentConfig
		if policy == nil && aws.ToBool(in.RetainDeploymentConfig) {
			policy = rec.LastDeploymentConfig
		}
		if aws.ToBool(in.RetainAllVariantProperties) {
			retain(&target, &rec.Deployment, in.ExcludeRetainedVariantProperties)
		}
		if err := checkUpdate(&rec.Deployment, &target, policy); err != nil {
			return err
		}
		if err := keepsComponents(tx, scope, rec, &target); err != nil {
			return err
		}
		rec.begin(target, policy, tx)
		if err := p.chargeQuota(tx, scope, rec); err != nil {
			return err
		}
		out.EndpointArn = rec.EndpointArn
		tx.OnCommit(func() { p.wake(endpointKey(scope, name)) })
		return endpoints.Put(tx, store.Scope(scope), id(name), rec)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// begin stores the update as under way; the reconciler does the rest.
func (r *endpointRecord) begin(target deployment, policy *types.DeploymentConfig, tx *store.Tx) {
	r.LastDeploymentConfig = policy
	if r.Leftover != nil && policy != nil && policy.RollingUpdatePolicy != nil {
		// Two old fleets are there: a repair replaces both at once.
		policy = &types.DeploymentConfig{AutoRollbackConfiguration: policy.AutoRollbackConfiguration}
	}
	r.Update = &rollout{Target: target, Policy: policy, Started: tx.Now, Step: 1}
	r.Update.enter(provisioning, tx.Now)
	r.FailureReason = nil
	r.enter(statusUpdating, tx.Now)
}

// retain keeps the live counts and weights of variants that keep their names,
// except for the properties that are excluded (API_UpdateEndpoint).
func retain(target, present *deployment, excluded []types.VariantProperty) {
	overridden := func(t types.VariantPropertyType) bool {
		return slices.ContainsFunc(excluded, func(p types.VariantProperty) bool { return p.VariantPropertyType == t })
	}
	for i := range target.Variants {
		v := &target.Variants[i]
		live := present.variant(v.name())
		if live == nil || live.Shadow != v.Shadow {
			continue
		}
		instances := v.Config.ServerlessConfig == nil && live.Config.ServerlessConfig == nil
		if !overridden(types.VariantPropertyTypeDesiredInstanceCount) && instances && (live.Count > 0 || v.scalesFromZero(target.Async != nil)) {
			v.Count, v.RollbackCount = live.Count, live.Count
		}
		if !overridden(types.VariantPropertyTypeDesiredWeight) {
			v.Weight, v.CurrentWeight, v.RollbackWeight = live.Weight, live.Weight, live.Weight
		}
	}
}
