package controlplane

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// checkSpecifications holds the rules within a request's specifications. It
// returns them as a list, which is nil when the request has none.
func (p *Plane) checkSpecifications(ctx context.Context, one *types.InferenceComponentSpecification, several []types.InferenceComponentSpecification) (specs []types.InferenceComponentSpecification, listed bool, err error) {
	switch {
	case one != nil && several != nil:
		return nil, false, sdkcompat.SpecificationTwice.Error()
	case one != nil:
		specs = []types.InferenceComponentSpecification{*one}
	default:
		specs, listed = several, true
	}
	seen := map[types.ProductionVariantInstanceType]bool{}
	for i := range specs {
		s := &specs[i]
		if err := p.checkSpecification(ctx, s); err != nil {
			return nil, false, err
		}
		if listed && s.BaseInferenceComponentName != nil {
			return nil, false, sdkcompat.SpecificationMixed.Error()
		}
		if len(specs) > 1 && (s.InstanceType == "" || seen[s.InstanceType]) {
			return nil, false, sdkcompat.SpecificationTypes.Error()
		}
		seen[s.InstanceType] = true
	}
	return specs, listed, nil
}

func (p *Plane) checkSpecification(ctx context.Context, s *types.InferenceComponentSpecification) error {
	if s.BaseInferenceComponentName != nil {
		return p.checkAdapter(ctx, s)
	}
	if (s.ModelName == nil) == (s.Container == nil) {
		return sdkcompat.SpecificationModel.Error()
	}
	if s.Container != nil {
		if s.Container.Image == nil {
			return sdkcompat.SpecificationImage.Error()
		}
		if err := p.checkModelData(ctx, &types.ContainerDefinition{ModelDataUrl: s.Container.ArtifactUrl}); err != nil {
			return err
		}
	}
	c := s.ComputeResourceRequirements
	if c == nil {
		return sdkcompat.SpecificationSize.Error()
	}
	devices := float64(aws.ToFloat32(c.NumberOfAcceleratorDevicesRequired))
	switch {
	case c.MaxMemoryRequiredInMb != nil && *c.MaxMemoryRequiredInMb < aws.ToInt32(c.MinMemoryRequiredInMb):
		return sdkcompat.SpecificationMaximum.Error()
	case devices != math.Trunc(devices):
		return sdkcompat.SpecificationDevices.Error()
	case c.AcceleratorPartitionType != nil && devices != 1:
		return sdkcompat.PartitionDevices.Error()
	}
	return nil
}

// checkAdapter holds the documented form of an adapter
// (API_InferenceComponentSpecification, BaseInferenceComponentName).
func (p *Plane) checkAdapter(ctx context.Context, s *types.InferenceComponentSpecification) error {
	switch {
	case s.ModelName != nil:
		return sdkcompat.SpecificationModel.Error()
	case s.Container == nil, s.Container.ArtifactUrl == nil, s.Container.Image != nil:
		return sdkcompat.AdapterArtifact.Error()
	case s.ComputeResourceRequirements != nil, s.SchedulingConfig != nil, s.InstanceType != "":
		return sdkcompat.AdapterSize.Error()
	}
	return p.checkModelData(ctx, &types.ContainerDefinition{ModelDataUrl: s.Container.ArtifactUrl})
}

// newRevision resolves specifications for the variant that shall run them.
func newRevision(tx *store.Tx, scope sdkcompat.Scope, number int64, specs []types.InferenceComponentSpecification, listed bool, v *variant) (revision, error) {
	r := revision{Number: number, Listed: listed, Resolved: tx.Now}
	for i := range specs {
		s := specs[i]
		if s.BaseInferenceComponentName == nil {
			if err := fitsVariant(&s, v); err != nil {
				return r, err
			}
		}
		spec := componentSpec{Specification: s}
		if s.Container != nil {
			spec.Container = types.ContainerDefinition{
				Image: s.Container.Image, Environment: s.Container.Environment, ModelDataUrl: s.Container.ArtifactUrl,
				ContainerMetricsConfig: s.Container.ContainerMetricsConfig,
			}
		} else {
			model, err := getModel(tx, scope, *s.ModelName)
			if err != nil {
				return r, err
			}
			container, err := onlyContainer(model)
			if err != nil {
				return r, err
			}
			spec.Container = *container
		}
		r.Specs = append(r.Specs, spec)
	}
	return r, nil
}

// fitsVariant checks a specification against the instances of its variant.
func fitsVariant(s *types.InferenceComponentSpecification, v *variant) error {
	if s.InstanceType != "" && !slices.Contains(instanceTypes(&v.Config), string(s.InstanceType)) {
		return sdkcompat.SpecificationElsewise.Error(v.name(), s.InstanceType)
	}
	partition := aws.ToString(s.ComputeResourceRequirements.AcceleratorPartitionType)
	if len(v.Config.AcceleratorPartitionLayouts) == 0 {
		if partition != "" {
			return sdkcompat.PartitionUnknown.Error(v.name(), partition)
		}
		return nil
	}
	if partition == "" {
		return sdkcompat.PartitionMissing.Error(v.name())
	}
	if slices.Contains(v.Config.AcceleratorPartitionLayouts[0].AcceleratorPartitionTypes, partition) {
		return nil
	}
	return sdkcompat.PartitionUnknown.Error(v.name(), partition)
}

// memoryReserve is the part of an instance's memory, one in so many, that the
// platform keeps for itself. AWS keeps some and does not publish how much.
const memoryReserve = 16

// offer is what an empty instance of a type has for copies. With
// AcceleratorPartitionLayouts, of which there is one at most, every accelerator is
// cut up and can be had in partitions only.
func (v *variant) offer(instanceType string) placementHost {
	shape, _ := Shape(instanceType) // the constraint check has let no other type through
	h := placementHost{instanceType: instanceType, capacity: resources{
		milliCPU:     int64(shape.VCPU) * 1000,
		memoryMiB:    int64(shape.MemoryGiB * 1024 * (memoryReserve - 1) / memoryReserve),
		accelerators: int64(shape.Accelerators),
	}}
	if layouts := v.Config.AcceleratorPartitionLayouts; len(layouts) > 0 {
		h.capacity.accelerators, h.partitions = 0, map[string]int64{}
		for _, kind := range layouts[0].AcceleratorPartitionTypes {
			h.partitions[kind] += int64(shape.Accelerators)
		}
	}
	return h
}

// offers are what empty instances of each of the variant's types have, by
// priority.
func (v *variant) offers() []placementHost {
	var all []placementHost
	for _, t := range instanceTypes(&v.Config) {
		all = append(all, v.offer(t))
	}
	return all
}

// needs is what a copy reserves on an instance type.
func (r *revision) needs(instanceType string) (resources, bool) {
	s := r.spec(instanceType)
	if s == nil || s.Specification.ComputeResourceRequirements == nil {
		return resources{}, false
	}
	c := s.Specification.ComputeResourceRequirements
	n := resources{
		milliCPU:     wholeNumber(float64(aws.ToFloat32(c.NumberOfCpuCoresRequired)) * 1000),
		memoryMiB:    int64(aws.ToInt32(c.MinMemoryRequiredInMb)),
		accelerators: wholeNumber(float64(aws.ToFloat32(c.NumberOfAcceleratorDevicesRequired))),
		partition:    aws.ToString(c.AcceleratorPartitionType),
	}
	if n.partition != "" {
		n.accelerators = 0
	}
	return n, true
}

// wholeNumber rounds. AWS's model gives these numbers no upper bound: what exceeds
// an int64 becomes more than any instance has, not less than nothing.
func wholeNumber(x float64) int64 { return int64(min(math.Round(x), 1<<53)) }

// shape is what a copy on an instance type is given: its reservation. A copy
// without NumberOfCpuCoresRequired may use all vCPUs, as a container without a
// limit does; its memory ends at MaxMemoryRequiredInMb, or with the instance's.
func (r *revision) shape(instanceType string) dataplane.Shape {
	s, _ := Shape(instanceType)
	n, _ := r.needs(instanceType)
	if n.milliCPU > 0 {
		s.VCPU = int(max(1, (n.milliCPU+999)/1000))
	}
	if spec := r.spec(instanceType); spec != nil {
		if limit := spec.Specification.ComputeResourceRequirements.MaxMemoryRequiredInMb; limit != nil {
			s.MemoryGiB = min(s.MemoryGiB, float64(*limit)/1024)
		}
	}
	switch {
	case n.partition != "":
		s.Accelerators = 1
		s.AcceleratorGiB = min(s.AcceleratorGiB, partitionGiB(n.partition, s.AcceleratorGiB))
	case n.accelerators > 0:
		s.Accelerators = int(n.accelerators)
	default:
		s.Accelerators, s.AcceleratorKind, s.AcceleratorGiB = 0, "", 0
	}
	return s
}

// partitionGiB is the memory of a Multi-Instance GPU profile, which its name
// tells: mig-3g.40gb. A name that does not is taken for the whole device.
func partitionGiB(profile string, whole float64) float64 {
	var compute, gib int
	if n, err := fmt.Sscanf(profile, "mig-%dg.%dgb", &compute, &gib); n != 2 || err != nil {
		return whole
	}
	return float64(gib)
}
