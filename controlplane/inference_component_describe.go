package controlplane

import (
	"context"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// DescribeInferenceComponent returns the record and, from the fleet, how many
// copies serve now and on what. AWS page: API_DescribeInferenceComponent.
func (p *Plane) DescribeInferenceComponent(ctx context.Context, in *sagemaker.DescribeInferenceComponentInput) (*sagemaker.DescribeInferenceComponentOutput, error) {
	scope := scopeOf(ctx)
	var rec, base *inferenceComponentRecord
	err := p.DB.View(func(tx *store.Tx) (err error) {
		if rec, err = getComponent(tx, scope, *in.InferenceComponentName); err != nil {
			return err
		}
		base = rec
		if rec.adapter() {
			base, err = getComponent(tx, scope, rec.Base)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	out := rec.DescribeInferenceComponentOutput
	out.RuntimeConfig = p.runtimeConfig(scope, base)
	summaries := rec.summaries()
	if rec.Active.Listed {
		out.Specifications = summaries
	} else {
		out.Specification = &summaries[0]
	}
	return &out, nil
}

// runtimeConfig of an adapter is that of its base, whose copies it runs in.
func (p *Plane) runtimeConfig(scope sdkcompat.Scope, base *inferenceComponentRecord) *types.InferenceComponentRuntimeConfigSummary {
	byType := map[string]int32{}
	current := int32(0)
	if e := p.Fleet.Lookup(endpointKey(scope, *base.EndpointName)); e != nil {
		if c := e.Snapshot().Components[base.id()]; c != nil {
			for _, in := range c.Copies {
				if in.State() == dataplane.InService {
					current++
					byType[in.Type]++
				}
			}
		}
	}
	s := &types.InferenceComponentRuntimeConfigSummary{DesiredCopyCount: aws.Int32(base.CopyCount), CurrentCopyCount: &current}
	for _, t := range slices.Sorted(maps.Keys(byType)) {
		s.PlacementStatus = append(s.PlacementStatus, types.InferenceComponentPlacementStatus{
			InstanceType: types.ProductionVariantInstanceType(t), CurrentCopyCount: aws.Int32(byType[t]),
		})
	}
	return s
}

// summaries are the specifications in force as Describe shows them: with the
// image that was deployed in place of the one that was asked for.
func (r *inferenceComponentRecord) summaries() []types.InferenceComponentSpecificationSummary {
	var all []types.InferenceComponentSpecificationSummary
	for i := range r.Active.Specs {
		s := &r.Active.Specs[i].Specification
		summary := types.InferenceComponentSpecificationSummary{
			BaseInferenceComponentName: s.BaseInferenceComponentName, ComputeResourceRequirements: s.ComputeResourceRequirements,
			InstanceType: s.InstanceType, ModelName: s.ModelName, SchedulingConfig: s.SchedulingConfig, StartupParameters: s.StartupParameters,
		}
		if c := s.DataCacheConfig; c != nil {
			summary.DataCacheConfig = &types.InferenceComponentDataCacheConfigSummary{EnableCaching: c.EnableCaching}
		}
		if c := s.Container; c != nil {
			summary.Container = &types.InferenceComponentContainerSpecificationSummary{
				ArtifactUrl: c.ArtifactUrl, ContainerMetricsConfig: c.ContainerMetricsConfig, Environment: c.Environment,
			}
			if c.Image != nil {
				summary.Container.DeployedImage = deployedImage(*c.Image, r.Active.Resolved, r.CreationTime)
			}
		}
		all = append(all, summary)
	}
	return all
}
