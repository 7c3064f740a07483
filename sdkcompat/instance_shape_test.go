package sdkcompat

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

func TestEveryInstanceTypeOfTheSDKHasAShape(t *testing.T) {
	shapes, err := instanceShapes()
	if err != nil {
		t.Fatal(err)
	}
	accelerated := []string{"ml.g", "ml.p", "ml.inf", "ml.trn", "ml.dl"}
	values := types.ProductionVariantInstanceType("").Values()
	for _, value := range values {
		name := string(value)
		s, ok := Shape(name)
		if !ok || s.Type != name || s.VCPU < 1 || s.MemoryGiB < 1 {
			t.Errorf("%s: got %+v, %v", name, s, ok)
		}
		wantsDevice := false
		for _, prefix := range accelerated {
			wantsDevice = wantsDevice || strings.HasPrefix(name, prefix)
		}
		if wantsDevice != (s.Accelerators > 0) || wantsDevice != (s.Accelerator != "") || wantsDevice != (s.AcceleratorGiB > 0) {
			t.Errorf("%s: got %+v", name, s)
		}
		if s.Estimated != (name == "ml.p6e-gb200.36xlarge") {
			t.Errorf("%s: estimated is %v", name, s.Estimated)
		}
		// The estimate must hold for the CPU families that are known.
		size := name[strings.LastIndexByte(name, '.')+1:]
		if guess, ok := estimateShape(name); ok && s.Accelerators == 0 && s.VCPU != guess.VCPU && name != "ml.t2.medium" && name != "ml.c4.8xlarge" {
			t.Errorf("%s: %d vCPU, by the size %s it would have %d", name, s.VCPU, size, guess.VCPU)
		}
	}
	if len(shapes) < len(values) {
		t.Errorf("shapes.json has %d types, the SDK %d", len(shapes), len(values))
	}
}

func TestShapeFigures(t *testing.T) {
	for _, want := range []InstanceShape{
		{Type: "ml.m5.xlarge", VCPU: 4, MemoryGiB: 16},
		{Type: "ml.c4.large", VCPU: 2, MemoryGiB: 3.75},
		{Type: "ml.g5.12xlarge", VCPU: 48, MemoryGiB: 192, Accelerators: 4, Accelerator: "NVIDIA A10G", AcceleratorGiB: 22, NVMeGB: 3800},
		{Type: "ml.inf2.48xlarge", VCPU: 192, MemoryGiB: 768, Accelerators: 12, Accelerator: "Inferentia2", AcceleratorGiB: 32},
		{Type: "ml.c9gd.2xlarge", VCPU: 8, MemoryGiB: 16, Estimated: true},
		{Type: "ml.r9i.medium", VCPU: 1, MemoryGiB: 8, Estimated: true},
		{Type: "ml.g9.4xlarge", VCPU: 16, MemoryGiB: 64, Accelerators: 1, Accelerator: "NVIDIA", AcceleratorGiB: 24, Estimated: true},
	} {
		if got, ok := Shape(want.Type); !ok || got != want {
			t.Errorf("got %+v, %v", got, ok)
		}
	}
	for _, name := range []string{"", "ml", "ml.m5", "m5.large", "ml.m9.huge", "ml.m9.0xlarge", "ml.m9.9999xlarge", "ml.z9.large", "ml.m.large", "ml.c9.xlarge.x", "local"} {
		if got, ok := Shape(name); ok {
			t.Errorf("%q: got %+v", name, got)
		}
	}
}
