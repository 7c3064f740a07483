package sim

import (
	"fmt"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Four users an instance and contention, as in AWS's table: an operation is one
// request from its arrival to its answer, in the steady state.
func BenchmarkRequest(b *testing.B) {
	w, err := Builtin("codegen2-7b-g5.24xlarge")
	if err != nil {
		b.Fatal(err)
	}
	for _, instances := range []int{10, 1_000, 10_000, 100_000} {
		for _, strategy := range []string{dataplane.StrategyRandom, dataplane.StrategyLeastOutstanding} {
			b.Run(fmt.Sprintf("%s/%d", strategy, instances), func(b *testing.B) {
				size := Size{Instances: instances, Users: 4 * instances}
				e, err := Run{Workload: w, Size: size, Strategy: strategy, Seed: 1, WarmUp: 1 << 40, Requests: 1}.engine()
				if err != nil {
					b.Fatal(err)
				}
				e.answer(10 * size.Users)
				b.ReportAllocs()
				b.ResetTimer()
				e.answer(b.N)
			})
		}
	}
}

// answer goes on until n more requests were sent.
func (e *engine) answer(n int) {
	for until := e.issued + n; e.issued < until; {
		e.step()
	}
}
