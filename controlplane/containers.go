package controlplane

import (
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/pipeline"
)

// host takes a model's containers over.
func (v *variant) host(model *modelRecord) error {
	v.Containers = containersOf(model.PrimaryContainer, model.Containers)
	for i := range v.Containers {
		if v.Containers[i].Mode == types.ContainerModeMultiModel {
			return notBuilt(fmt.Sprintf("multi-model endpoints (model %q)", *model.ModelName))
		}
	}
	v.Direct = model.InferenceExecutionConfig != nil && model.InferenceExecutionConfig.Mode == types.InferenceExecutionModeDirect
	return nil
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
	if len(all) == 1 {
		spec.Container = all[0]
	} else {
		spec.Containers, spec.Direct = all, v.Direct
	}
}

// show tells the data plane how the variant's containers are invoked.
func (v *variant) show(shown *dataplane.Variant) {
	for i := range v.Containers {
		if i == 0 {
			shown.Container = v.containerName(i)
		}
		if !v.Direct {
			return
		}
		shown.Targets = append(shown.Targets, v.containerName(i))
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
	return p.Launcher(c.Image)
}
