package main

import "context"

// asyncQueue compares the queue of InvokeEndpointAsync with bbolt's own puts: a
// request is three durable transactions, from its caller to the end of its record,
// and with an output an object in the embedded S3 as well.
func (b *bench) asyncQueue(ctx context.Context) ([]row, error) {
	results, err := goBench(ctx, "./controlplane/async", "^BenchmarkAsync$", "300ms")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, callers := range []string{"1", "16", "256"} {
		f, err := find(results, "BenchmarkAsync/records/callers="+callers, "BenchmarkAsync/objects/callers="+callers, "BenchmarkAsync/bare-bbolt/callers="+callers)
		if err != nil {
			return rows, err
		}
		for i, what := range []string{"asynchronous request, 1 KB, ", "the same with its output in S3, "} {
			rows = append(rows, row{
				what: what + callers + " callers", ours: perSecond(1e9 / f[i]["ns/op"]),
				beside: "bare bbolt, one put a commit", theirs: perSecond(1e9 / f[2]["ns/op"]), ratio: times(f[2]["ns/op"] / f[i]["ns/op"]),
			})
		}
	}
	return rows, nil
}
