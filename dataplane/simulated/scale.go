package simulated

import "github.com/sagelocal/sagelocal/dataplane"

// scale carries figures measured on one instance type over to another.
type scale struct {
	have, measured float64 // capacity, in the same unit, both positive
	speed          float64 // of one request alone, relative to the measured type
}

// scaleOf compares two instance types.
//
// Among CPU types capacity goes by vCPUs, and a single request is equally fast
// on all: their cores are about alike. Among accelerated types capacity goes by
// accelerator memory, all devices together, because that is what bounds batches
// and replicas, and speed by the kind of accelerator. Between the two classes
// nothing is known of a model but that both kinds of machine have vCPUs, so
// capacity goes by these and the speed stays; to say more, measure on the other
// class and configure measured_on.
func scaleOf(have, measured dataplane.Shape) scale {
	s := scale{have: float64(have.VCPU), measured: float64(measured.VCPU), speed: 1}
	if have.Accelerators > 0 && measured.Accelerators > 0 {
		s.have, s.measured = acceleratorMemory(have), acceleratorMemory(measured)
		a, b := halfPrecision[have.AcceleratorKind], halfPrecision[measured.AcceleratorKind]
		if a > 0 && b > 0 { // a kind that is not in the table yet counts as equal
			s.speed = a / b
		}
	}
	if s.have <= 0 || s.measured <= 0 {
		s.have, s.measured = 1, 1
	}
	return s
}

func acceleratorMemory(s dataplane.Shape) float64 {
	return float64(s.Accelerators) * s.AcceleratorGiB
}

// concurrency scales a number of slots, rounded down but at least 1. 0 is
// unlimited on every type.
func (s scale) concurrency(slots int) int {
	if slots == 0 {
		return 0
	}
	return max(1, int(float64(slots)*s.have/s.measured))
}

// contention scales the contention: on an instance of r times the capacity,
// every further request slows the others down by an r-th as much. A request
// alone is as fast on both, and the most requests per second grow by r.
func (s scale) contention(alpha float64) float64 {
	return alpha * s.measured / s.have
}

// halfPrecision is the dense FP16 or BF16 throughput of one device in TFLOPS,
// roughly, as the vendors' data sheets have it (NVIDIA without sparsity; AWS's
// chips from the Neuron documentation's hardware pages). The K80 has no
// half-precision units; its figure is the single precision of one of its two
// chips, as EC2 counts them.
var halfPrecision = map[string]float64{
	"NVIDIA K80":          4,
	"NVIDIA V100":         125,
	"NVIDIA T4":           65,
	"NVIDIA A10G":         70,
	"NVIDIA A100":         312,
	"NVIDIA L4":           121,
	"NVIDIA L40S":         362,
	"NVIDIA H100":         989,
	"NVIDIA H200":         989,
	"NVIDIA B200":         2250,
	"NVIDIA B300":         2250,
	"NVIDIA RTX PRO 4500": 220,
	"NVIDIA RTX PRO 6000": 500,
	"Habana Gaudi":        115,
	"Inferentia":          64,
	"Inferentia2":         190,
	"Trainium":            190,
	"Trainium2":           667,
}
