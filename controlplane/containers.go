package controlplane

import (
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/multimodel"
	"github.com/sagelocal/sagelocal/dataplane/pipeline"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// run takes a model's containers over.
func (v *variant) run(model *modelRecord) {
	v.Containers = containersOf(model.PrimaryContainer, model.Containers)
	v.Direct = model.InferenceExecutionConfig != nil && model.InferenceExecutionConfig.Mode == types.InferenceExecutionModeDirect
}

// containerName is a container's in AWS's sentences, and its log stream's: a
// lone one is primary whatever its ContainerHostname, and several without names
// are numbered (docs: inference-pipelines).
func (v *variant) containerName(i int) string {
	switch host := aws.ToString(v.Containers[i].ContainerHostname); {
	case len(v.Containers) == 1:
		return "primary"
	case host != "":
		return host
	}
	return fmt.Sprintf("container-%d", i+1)
}

// contain tells an instance's specification what it runs.
func (v *variant) contain(spec *dataplane.Spec) {
	all := make([]dataplane.Container, len(v.Containers))
	for i := range v.Containers {
		all[i] = containerOf(&v.Containers[i])
		all[i].Hostname = v.containerName(i)
	}
	spec.VolumeGiB = v.volumeGiB(spec.Shape.InstanceType)
	if len(all) == 1 {
		spec.Container = all[0]
	} else {
		spec.Containers, spec.Direct = all, v.Direct
	}
}

// defaultVolumeGiB is the volume of an instance type without local storage. AWS
// publishes no figure; 30 GB is what its answers to VolumeSizeInGB suggest.
const defaultVolumeGiB = 30

// volumeGiB is the room that an instance has for models' files.
func (v *variant) volumeGiB(instanceType string) int {
	if size := v.Config.VolumeSizeInGB; size != nil {
		return int(*size)
	}
	if s, known := sdkcompat.Shape(instanceType); known && s.NVMeGB > 0 {
		return s.NVMeGB
	}
	return defaultVolumeGiB
}

// show tells the data plane how the variant's containers are invoked.
func (v *variant) show(shown *dataplane.Variant) {
	for i := range v.Containers {
		name := v.containerName(i)
		if i == 0 {
			shown.Container = name
		}
		if v.Containers[i].Mode == types.ContainerModeMultiModel {
			shown.MultiModel = name
		}
		if v.Direct {
			shown.Targets = append(shown.Targets, name)
		}
	}
}

// launcher gives what starts an instance.
func (p *Plane) launcher(spec *dataplane.Spec) dataplane.Launcher {
	if len(spec.Containers) == 0 {
		return p.containerLauncher(spec.Container)
	}
	return pipeline.New(pipeline.Config{
		Launcher: p.containerLauncher,
		OpenLog: func(spec *dataplane.Spec, container string) (io.WriteCloser, error) {
			return p.Logs.OpenContainer(spec.Key, spec.Variant, spec.InstanceID, container)
		},
	})
}

// containerLauncher is the kind of worker that the operator's rules choose.
func (p *Plane) containerLauncher(c dataplane.Container) dataplane.Launcher {
	kind := p.Launcher(c.Image)
	if c.MultiModel {
		return multimodel.New(kind, p.ModelData, p.ModelEvents)
	}
	return kind
}
