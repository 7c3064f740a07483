package controlplane

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// describe adds to a record what its workers are doing now. While the endpoint
// is being created its variants stand in PendingDeploymentSummary, afterwards in
// ProductionVariants (API_DescribeEndpoint).
func (p *Plane) describe(key dataplane.Key, rec *endpointRecord) *sagemaker.DescribeEndpointOutput {
	out := rec.DescribeEndpointOutput
	live := p.observe(key)
	if rec.EndpointStatus == statusCreating {
		pending := &types.PendingDeploymentSummary{
			EndpointConfigName: &rec.Deployment.ConfigName, StartTime: &rec.TransitionTime,
		}
		for i := range rec.Deployment.Variants {
			v := &rec.Deployment.Variants[i]
			s := summarize(rec, v, live[v.name()])
			pending.ProductionVariants = append(pending.ProductionVariants, pendingSummary(v, s))
		}
		out.PendingDeploymentSummary = pending
		return &out
	}
	if !rec.Served {
		return &out
	}
	for i := range rec.Deployment.Variants {
		v := &rec.Deployment.Variants[i]
		out.ProductionVariants = append(out.ProductionVariants, summarize(rec, v, live[v.name()]))
	}
	return &out
}

// observation is what the fleet knows of one variant.
type observation struct {
	inService int32
	message   string
}

func (p *Plane) observe(key dataplane.Key) map[string]observation {
	live := map[string]observation{}
	e := p.Fleet.Lookup(key)
	if e == nil {
		return live
	}
	for _, v := range e.Snapshot().Variants {
		o := observation{message: v.Message}
		for _, in := range v.Instances {
			if in.State() == dataplane.InService {
				o.inService++
			}
		}
		live[v.Name] = o
	}
	return live
}

func summarize(rec *endpointRecord, v *variant, o observation) types.ProductionVariantSummary {
	s := types.ProductionVariantSummary{
		VariantName:                 v.Config.VariantName,
		AcceleratorPartitionLayouts: v.Config.AcceleratorPartitionLayouts,
		ManagedInstanceScaling:      v.Config.ManagedInstanceScaling,
		RoutingConfig:               v.Config.RoutingConfig,
		CurrentWeight:               aws.Float32(v.CurrentWeight),
		DesiredWeight:               aws.Float32(v.Weight),
	}
	if image := v.Container.Image; image != nil {
		// A local program has no digest: what was asked for is what runs.
		s.DeployedImages = []types.DeployedImage{{SpecifiedImage: image, ResolvedImage: image, ResolutionTime: rec.CreationTime}}
	}
	if c := v.Config.ServerlessConfig; c != nil {
		s.CurrentServerlessConfig, s.DesiredServerlessConfig = c, c
	} else {
		s.CurrentInstanceCount, s.DesiredInstanceCount = aws.Int32(o.inService), aws.Int32(v.Count)
	}
	if len(v.Config.InstancePools) > 0 {
		for _, pool := range v.Config.InstancePools {
			n := int32(0)
			if string(pool.InstanceType) == v.instanceType() {
				n = o.inService
			}
			s.InstancePools = append(s.InstancePools, types.InstancePoolSummary{InstanceType: pool.InstanceType, CurrentInstanceCount: &n})
		}
	}
	if status := variantStatus(rec.EndpointStatus); status != "" {
		st := types.ProductionVariantStatus{Status: status, StartTime: &rec.TransitionTime}
		if o.message != "" {
			st.StatusMessage = aws.String(sdkcompat.Truncate(o.message, 1024))
		}
		s.VariantStatus = []types.ProductionVariantStatus{st}
	}
	return s
}

// variantStatus is empty while nothing is under way.
func variantStatus(s types.EndpointStatus) types.VariantStatus {
	switch s {
	case statusCreating:
		return types.VariantStatusCreating
	case statusUpdating, statusRollingBack, statusSystemUpdating:
		return types.VariantStatusUpdating
	case statusDeleting:
		return types.VariantStatusDeleting
	}
	return ""
}

// pendingSummary has the instance type, which ProductionVariantSummary lacks.
func pendingSummary(v *variant, s types.ProductionVariantSummary) types.PendingProductionVariantSummary {
	return types.PendingProductionVariantSummary{
		VariantName: s.VariantName, InstanceType: v.Config.InstanceType, AcceleratorType: v.Config.AcceleratorType,
		AcceleratorPartitionLayouts: s.AcceleratorPartitionLayouts, ManagedInstanceScaling: s.ManagedInstanceScaling,
		RoutingConfig: s.RoutingConfig, DeployedImages: s.DeployedImages,
		CurrentWeight: s.CurrentWeight, DesiredWeight: s.DesiredWeight,
		CurrentInstanceCount: s.CurrentInstanceCount, DesiredInstanceCount: s.DesiredInstanceCount,
		CurrentServerlessConfig: s.CurrentServerlessConfig, DesiredServerlessConfig: s.DesiredServerlessConfig,
		InstancePools: s.InstancePools, VariantStatus: s.VariantStatus,
	}
}

// captureSummary is the DataCaptureConfig of DescribeEndpoint. Its status is
// Stopped: nothing captures yet.
func captureSummary(c *types.DataCaptureConfig) *types.DataCaptureConfigSummary {
	if c == nil {
		return nil
	}
	enabled := c.EnableCapture == nil || *c.EnableCapture
	return &types.DataCaptureConfigSummary{
		EnableCapture: &enabled, CaptureStatus: types.CaptureStatusStopped,
		CurrentSamplingPercentage: c.InitialSamplingPercentage, DestinationS3Uri: c.DestinationS3Uri,
		// Required by the model; AWS sends an empty one when there is no key.
		KmsKeyId: aws.String(aws.ToString(c.KmsKeyId)),
	}
}
