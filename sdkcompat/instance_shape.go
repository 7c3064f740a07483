package sdkcompat

import (
	_ "embed"
	"strconv"
	"strings"
	"sync"
)

// InstanceShape is the hardware behind an instance type; ml.X.Y is EC2's X.Y.
//
// https://docs.aws.amazon.com/ec2/latest/instancetypes/
type InstanceShape struct {
	Type      string  `json:"type"`
	VCPU      int     `json:"vcpu"`
	MemoryGiB float64 `json:"memoryGiB"`
	// Accelerators counts whole devices: GPUs, Inferentia, Trainium or Gaudi
	// chips. 0 means none.
	Accelerators int `json:"accelerators"`
	// Accelerator is the device's name, for example "NVIDIA A10G".
	Accelerator string `json:"accelerator"`
	// AcceleratorGiB is the memory of one device, of GPUs as EC2's
	// DescribeInstanceTypes reports it (22 of an A10G's nominal 24).
	AcceleratorGiB float64 `json:"acceleratorGiB"`
	// NVMeGB is the local disk, all devices together; 0 means none.
	NVMeGB int `json:"nvmeGB"`
	// Estimated is set where AWS's figures are not at hand, see [Shape].
	Estimated bool `json:"estimated"`
}

//go:embed shapes.json
var shapesJSON []byte

var instanceShapes = sync.OnceValues(func() (map[string]InstanceShape, error) {
	var shapes map[string]InstanceShape
	err := Unmarshal(shapesJSON, &shapes)
	return shapes, err
})

// Shape returns the hardware of an instance type, for example "ml.g5.xlarge".
// It knows every value of ProductionVariantInstanceType that the SDK has. A
// type that came later is estimated from its name, by EC2's naming rules: the
// size gives the vCPUs (medium 1, large 2, Nxlarge 4·N), the family's first
// letter the memory of each (c 2 GiB, m and t 4 GiB, r 8 GiB, x 16 GiB; g and
// p, whose device cannot be told from the name, 4 and 10 GiB and one accelerator of
// 24 and 80 GiB). False is for what follows no such rule.
func Shape(instanceType string) (InstanceShape, bool) {
	// The embedded table is read by a test; were it broken, estimates remain.
	shapes, _ := instanceShapes()
	if s, ok := shapes[instanceType]; ok {
		s.Type = instanceType
		return s, true
	}
	return estimateShape(instanceType)
}

func estimateShape(instanceType string) (InstanceShape, bool) {
	prefix, rest, _ := strings.Cut(instanceType, ".")
	family, size, _ := strings.Cut(rest, ".")
	vcpu := vcpuOfSize(size)
	if prefix != "ml" || vcpu == 0 || !isFamily(family) {
		return InstanceShape{}, false
	}
	s := InstanceShape{Type: instanceType, VCPU: vcpu, Estimated: true}
	switch family[0] {
	case 'c':
		s.MemoryGiB = 2 * float64(vcpu)
	case 'm', 't':
		s.MemoryGiB = 4 * float64(vcpu)
	case 'r':
		s.MemoryGiB = 8 * float64(vcpu)
	case 'x':
		s.MemoryGiB = 16 * float64(vcpu)
	case 'g':
		s.MemoryGiB, s.Accelerators, s.Accelerator, s.AcceleratorGiB = 4*float64(vcpu), 1, "NVIDIA", 24
	case 'p':
		s.MemoryGiB, s.Accelerators, s.Accelerator, s.AcceleratorGiB = 10*float64(vcpu), 1, "NVIDIA", 80
	}
	return s, true
}

// isFamily tells whether the name is one letter with a rule and a generation
// ("m9", "c9gd", "p7-b400").
func isFamily(name string) bool {
	return len(name) >= 2 && strings.IndexByte("cmtrxgp", name[0]) >= 0 && name[1] >= '0' && name[1] <= '9'
}

// vcpuOfSize is 0 for a size that does not say it.
func vcpuOfSize(size string) int {
	switch size {
	case "medium":
		return 1
	case "large":
		return 2
	case "xlarge":
		return 4
	}
	times, ok := strings.CutSuffix(size, "xlarge")
	n, err := strconv.Atoi(times)
	if !ok || err != nil || n < 1 || n > 1024 {
		return 0
	}
	return 4 * n
}
