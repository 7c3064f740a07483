package controlplane

import (
	"cmp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// describe adds to a record what its workers are doing now. The variants of a
// deployment under way, be it the first or an update, stand in
// PendingDeploymentSummary, those in force in ProductionVariants
// (API_DescribeEndpoint).
func (p *Plane) describe(key dataplane.Key, rec *endpointRecord) *sagemaker.DescribeEndpointOutput {
	out := rec.DescribeEndpointOutput
	out.FailureReason = cmp.Or(out.FailureReason, rec.ReasonBefore)
	live := p.observe(key)
	switch u := rec.Update; {
	case rec.EndpointStatus == statusCreating:
		status := &variantStatus{types.VariantStatusCreating, rec.TransitionTime}
		out.PendingDeploymentSummary = pendingDeployment(rec, &rec.Deployment, rec.TransitionTime, status, live)
	case u != nil && rec.EndpointStatus == statusUpdating:
		out.PendingDeploymentSummary = pendingDeployment(rec, &u.Target, u.Started, u.pendingStatus(), live)
	}
	if !rec.Served {
		return &out
	}
	out.DataCaptureConfig = rec.captureStatus()
	status := rec.variantStatus()
	for i := range rec.Deployment.Variants {
		v := &rec.Deployment.Variants[i]
		o := live[group{rec.Deployment.ID, v.name()}]
		if rec.Leftover != nil {
			o.inService += live[group{rec.Leftover.ID, v.name()}].inService
		}
		s := summarize(rec, &rec.Deployment, v, status, o)
		if v.Shadow {
			out.ShadowProductionVariants = append(out.ShadowProductionVariants, s)
		} else {
			out.ProductionVariants = append(out.ProductionVariants, s)
		}
	}
	return &out
}

func pendingDeployment(rec *endpointRecord, d *deployment, started time.Time, status *variantStatus, live map[group]observation) *types.PendingDeploymentSummary {
	pending := &types.PendingDeploymentSummary{EndpointConfigName: &d.ConfigName, StartTime: &started}
	for i := range d.Variants {
		v := &d.Variants[i]
		s := summarize(rec, d, v, status, live[group{d.ID, v.name()}])
		if v.Shadow {
			pending.ShadowProductionVariants = append(pending.ShadowProductionVariants, pendingSummary(v, s))
		} else {
			pending.ProductionVariants = append(pending.ProductionVariants, pendingSummary(v, s))
		}
	}
	return pending
}

// observation is what the fleet knows of one variant.
type observation struct {
	inService int32
	types     map[string]int32 // those in service by instance type
	message   string
}

func (p *Plane) observe(key dataplane.Key) map[group]observation {
	live := map[group]observation{}
	e := p.Fleet.Lookup(key)
	if e == nil {
		return live
	}
	snapshot := e.Snapshot()
	for _, v := range slices.Concat(snapshot.Variants, snapshot.Shadows) {
		o := observation{message: v.Message, types: map[string]int32{}}
		for _, in := range v.Instances {
			if in.State() == dataplane.InService {
				o.inService++
				o.types[in.Type]++
			}
		}
		live[group{v.Deployment, v.Name}] = o
	}
	return live
}

// deployedImage is an image as Describe shows it. A local program has no digest:
// what was asked for is what runs. created stands in for the time of resolution in
// records that have none.
func deployedImage(image string, resolved time.Time, created *time.Time) *types.DeployedImage {
	if resolved.IsZero() {
		resolved = *created
	}
	return &types.DeployedImage{SpecifiedImage: &image, ResolvedImage: &image, ResolutionTime: &resolved}
}

func summarize(rec *endpointRecord, d *deployment, v *variant, status *variantStatus, o observation) types.ProductionVariantSummary {
	s := types.ProductionVariantSummary{
		VariantName:                 v.Config.VariantName,
		AcceleratorPartitionLayouts: v.Config.AcceleratorPartitionLayouts,
		ManagedInstanceScaling:      v.Config.ManagedInstanceScaling,
		RoutingConfig:               v.Config.RoutingConfig,
		CurrentWeight:               aws.Float32(v.CurrentWeight),
		DesiredWeight:               aws.Float32(v.Weight),
	}
	for _, image := range v.images() {
		s.DeployedImages = append(s.DeployedImages, *deployedImage(image, d.Resolved, rec.CreationTime))
	}
	if c := v.Config.ServerlessConfig; c != nil {
		s.CurrentServerlessConfig, s.DesiredServerlessConfig = v.serverless(), c
	} else {
		s.CurrentInstanceCount, s.DesiredInstanceCount = aws.Int32(o.inService), aws.Int32(v.Count)
	}
	if len(v.Config.InstancePools) > 0 {
		for _, pool := range v.Config.InstancePools {
			n := o.types[string(pool.InstanceType)]
			s.InstancePools = append(s.InstancePools, types.InstancePoolSummary{InstanceType: pool.InstanceType, CurrentInstanceCount: &n})
		}
	}
	if status != nil {
		st := types.ProductionVariantStatus{Status: status.status, StartTime: &status.since}
		if o.message != "" {
			st.StatusMessage = aws.String(sdkcompat.Truncate(o.message, 1024))
		}
		s.VariantStatus = []types.ProductionVariantStatus{st}
	}
	return s
}

// variantStatus is what is under way with a variant, and since when.
type variantStatus struct {
	status types.VariantStatus
	since  time.Time
}

// variantStatus of the deployment in force; nil while nothing is under way.
func (r *endpointRecord) variantStatus() *variantStatus {
	switch r.EndpointStatus {
	case statusUpdating:
		if u := r.Update; u != nil && u.Stage == draining {
			return &variantStatus{types.VariantStatusDeleting, u.Since}
		}
		return &variantStatus{types.VariantStatusUpdating, r.TransitionTime}
	case statusRollingBack, statusSystemUpdating:
		return &variantStatus{types.VariantStatusUpdating, r.TransitionTime}
	case statusDeleting:
		return &variantStatus{types.VariantStatusDeleting, r.TransitionTime}
	}
	return nil
}

// pendingStatus of the variants of an update's new deployment; nil once they
// have all the traffic and only the old ones are still there.
func (u *rollout) pendingStatus() *variantStatus {
	switch u.Stage {
	case provisioning:
		return &variantStatus{types.VariantStatusCreating, u.Since}
	case activating:
		return &variantStatus{types.VariantStatusActivatingTraffic, u.Since}
	case baking:
		return &variantStatus{types.VariantStatusBaking, u.Since}
	}
	return nil
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

// captureSummary is the DataCaptureConfig of DescribeEndpoint, of an endpoint
// that captures nothing.
func captureSummary(c *types.DataCaptureConfig) *types.DataCaptureConfigSummary {
	if c == nil {
		return nil
	}
	enabled := captures(c)
	return &types.DataCaptureConfigSummary{
		EnableCapture: &enabled, CaptureStatus: types.CaptureStatusStopped,
		CurrentSamplingPercentage: c.InitialSamplingPercentage, DestinationS3Uri: c.DestinationS3Uri,
		// Required by the model; AWS sends an empty one when there is no key.
		KmsKeyId: aws.String(aws.ToString(c.KmsKeyId)),
	}
}
