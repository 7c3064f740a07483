package controlplane

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// componentUpdate is an UpdateInferenceComponent under way. It is stored with the
// component, so that it goes on where it was after a restart.
type componentUpdate struct {
	Target revision
	// Policy is the DeploymentConfig of the request; nil replaces copies one for
	// one as fast as there is room.
	Policy  *types.InferenceComponentDeploymentConfig
	Started time.Time
	Stage   stage
	Since   time.Time // of Stage
	// Fresh and Old are how many copies of the new and of the old revision are
	// wanted.
	Fresh, Old int
	// Back is set once the update is rolled back.
	Back bool
}

// UpdateInferenceComponentRuntimeConfig changes the number of copies, also to
// zero. AWS page: API_UpdateInferenceComponentRuntimeConfig.
func (p *Plane) UpdateInferenceComponentRuntimeConfig(ctx context.Context, in *sagemaker.UpdateInferenceComponentRuntimeConfigInput) (*sagemaker.UpdateInferenceComponentRuntimeConfigOutput, error) {
	out := new(sagemaker.UpdateInferenceComponentRuntimeConfigOutput)
	err := p.changeComponent(ctx, *in.InferenceComponentName, func(_ *store.Tx, rec *inferenceComponentRecord, _ time.Time) error {
		out.InferenceComponentArn = rec.InferenceComponentArn
		return rec.resize(in.DesiredRuntimeConfig)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// UpdateInferenceComponent brings in another specification, another number of
// copies, or both. Copies of the new specification start beside the old ones,
// which are drained and stopped when as many new ones serve.
// AWS page: API_UpdateInferenceComponent.
func (p *Plane) UpdateInferenceComponent(ctx context.Context, in *sagemaker.UpdateInferenceComponentInput) (*sagemaker.UpdateInferenceComponentOutput, error) {
	specs, listed, err := p.checkSpecifications(ctx, in.Specification, in.Specifications)
	if err != nil {
		return nil, err
	}
	if specs == nil && in.RuntimeConfig == nil {
		return nil, sdkcompat.UpdateEmpty.Error()
	}
	scope := scopeOf(ctx)
	out := new(sagemaker.UpdateInferenceComponentOutput)
	err = p.changeComponent(ctx, *in.InferenceComponentName, func(tx *store.Tx, rec *inferenceComponentRecord, now time.Time) error {
		out.InferenceComponentArn = rec.InferenceComponentArn
		old := int(rec.CopyCount)
		if in.RuntimeConfig != nil {
			if err := rec.resize(in.RuntimeConfig); err != nil {
				return err
			}
		}
		if err := checkBatchSize(in.DeploymentConfig, int(rec.CopyCount)); err != nil {
			return err
		}
		rec.LastDeploymentConfig = in.DeploymentConfig
		if specs == nil {
			return nil
		}
		if rec.adapter() != (specs[0].BaseInferenceComponentName != nil) || rec.adapter() {
			return sdkcompat.UpdateUnsupported.Error(*rec.InferenceComponentArn, "an adapter is replaced by deleting and creating it")
		}
		endpoint, err := getEndpoint(tx, scope, *rec.EndpointName)
		if err != nil {
			return err
		}
		target, err := newRevision(tx, scope, rec.Active.Number+1, specs, listed, endpoint.Deployment.variant(*rec.VariantName))
		if err != nil {
			return err
		}
		rec.Update = &componentUpdate{Target: target, Policy: in.DeploymentConfig, Started: now, Old: old}
		rec.Update.begin(int(rec.CopyCount), now)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// changeComponent is a change of what is desired of a component that is InService
// on an endpoint that is not being updated itself.
func (p *Plane) changeComponent(ctx context.Context, name string, change func(*store.Tx, *inferenceComponentRecord, time.Time) error) error {
	scope := scopeOf(ctx)
	return p.DB.Update(func(tx *store.Tx) error {
		rec, err := getComponent(tx, scope, name)
		if err != nil {
			return err
		}
		if err := rec.changeable(); err != nil {
			return err
		}
		rec.RollbackCopyCount = rec.CopyCount
		if err := change(tx, rec, tx.Now); err != nil {
			return err
		}
		rec.Generation++
		rec.FailureReason = nil
		rec.enter(componentUpdating, tx.Now)
		return p.putComponent(tx, scope, rec)
	})
}

func (r *inferenceComponentRecord) resize(c *types.InferenceComponentRuntimeConfig) error {
	if r.adapter() {
		return sdkcompat.UpdateUnsupported.Error(*r.InferenceComponentArn, "an adapter runs in the copies of its base")
	}
	if err := checkCopies(r.CopyCount, aws.ToInt32(c.CopyCount)); err != nil {
		return err
	}
	r.CopyCount = aws.ToInt32(c.CopyCount)
	return nil
}

// checkBatchSize holds the documented bounds of MaximumBatchSize: 5 to 50 percent
// of the copies, of which one may always go
// (API_InferenceComponentRollingUpdatePolicy).
func checkBatchSize(c *types.InferenceComponentDeploymentConfig, copies int) error {
	if c == nil || c.RollingUpdatePolicy == nil {
		return nil
	}
	if err := checkAlarms(c.AutoRollbackConfiguration); err != nil {
		return err
	}
	size := c.RollingUpdatePolicy.MaximumBatchSize
	value := int(aws.ToInt32(size.Value))
	if size.Type == types.InferenceComponentCapacitySizeTypeCapacityPercent {
		if value < 5 || value > 50 {
			return sdkcompat.BatchSizeRange.Error()
		}
		return nil
	}
	if value < 1 || value > max(1, copies/2) {
		return sdkcompat.BatchSizeRange.Error()
	}
	return nil
}

// copiesIn is a CapacitySize in copies, at least 1: a percentage is rounded up.
func copiesIn(size *types.InferenceComponentCapacitySize, total int) int {
	if size == nil {
		return max(1, total)
	}
	value := int(aws.ToInt32(size.Value))
	if size.Type == types.InferenceComponentCapacitySizeTypeCapacityPercent {
		value = (total*value + 99) / 100
	}
	return max(1, min(value, total))
}

func (u *componentUpdate) rolling() *types.InferenceComponentRollingUpdatePolicy {
	if u.Policy == nil {
		return nil
	}
	return u.Policy.RollingUpdatePolicy
}

// limit is MaximumExecutionTimeoutInSeconds; 0 is none.
func (u *componentUpdate) limit() time.Duration {
	if p := u.rolling(); p != nil {
		return seconds(p.MaximumExecutionTimeoutInSeconds, 0)
	}
	return 0
}
