package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// leastCreates is the aim for CreateEndpoint beside bare bbolt, and mostGrowth how
// much dearer an operation may be among 10,000 endpoints than among 100.
const (
	leastCreates = 0.8
	mostGrowth   = 1.5
)

// plane compares the control plane's operations with bbolt's own, and with
// themselves among more endpoints.
func (b *bench) plane(ctx context.Context) ([]row, error) {
	results, err := goBench(ctx, "./api", "^BenchmarkCreateEndpoint$", "500ms")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, callers := range []string{"1", "16", "256"} {
		f, err := find(results, "BenchmarkCreateEndpoint/sagelocal/callers="+callers, "BenchmarkCreateEndpoint/bare-bbolt/callers="+callers)
		if err != nil {
			return rows, err
		}
		rate := f[1]["ns/op"] / f[0]["ns/op"]
		rows = append(rows, row{
			what: "CreateEndpoint, durable, " + callers + " callers", ours: perSecond(1e9 / f[0]["ns/op"]),
			beside: "bare bbolt, one put a commit", theirs: perSecond(1e9 / f[1]["ns/op"]), ratio: times(rate),
			aim: "≥ 0.8 ×", reached: reached(rate >= leastCreates),
		})
	}
	for _, operation := range []string{"DescribeEndpoint", "ListEndpoints"} {
		results, err := goBench(ctx, "./api", "^Benchmark"+operation+"$", "200ms")
		if err != nil {
			return rows, err
		}
		f, err := find(results, "Benchmark"+operation+"/endpoints=100", "Benchmark"+operation+"/endpoints=10000")
		if err != nil {
			return rows, err
		}
		growth := f[1]["ns/op"] / f[0]["ns/op"]
		rows = append(rows, row{
			what: operation + " among 10,000", ours: nanoseconds(f[1]["ns/op"]),
			beside: "among 100", theirs: nanoseconds(f[0]["ns/op"]), ratio: times(growth),
			aim: "≤ 1.5 ×", reached: reached(growth <= mostGrowth),
		})
	}
	return rows, nil
}

// Of scaleCreate.
const (
	createdEndpoints = 1000
	creators         = 32
)

// scaleCreate creates 1,000 endpoints of one simulated instance at once.
func (b *bench) scaleCreate(ctx context.Context) ([]row, error) {
	daemon, err := b.startSagelocal(ctx, "")
	if err != nil {
		return nil, err
	}
	defer daemon.stop()
	if err := daemon.createEndpoint(ctx, "simulated", 1); err != nil {
		return nil, err
	}
	before, err := memoryOf(daemon.pid())
	if err != nil {
		return nil, err
	}
	names := make(chan string)
	failed := make(chan error, creators)
	began := time.Now()
	var callers sync.WaitGroup
	for range creators {
		callers.Go(func() {
			for name := range names {
				if err := daemon.call(ctx, "CreateEndpoint", fmt.Sprintf(`{"EndpointName":%q,"EndpointConfigName":%q}`, name, endpointName), nil); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	name := func(i int) string { return fmt.Sprintf("%s-%d", endpointName, i) }
	for i := range createdEndpoints {
		select {
		case names <- name(i):
		case err := <-failed:
			return nil, err
		}
	}
	close(names)
	callers.Wait()
	accepted := time.Since(began)
	for i := range createdEndpoints {
		if err := daemon.awaitInService(ctx, name(i)); err != nil {
			return nil, err
		}
	}
	served := time.Since(began)
	after, err := memoryOf(daemon.pid())
	if err != nil {
		return nil, err
	}
	return []row{
		{what: "1,000 endpoints created by 32 callers", ours: perSecond(createdEndpoints / accepted.Seconds())},
		{what: "until all are seen InService, one by one", ours: milliseconds(1000 * served.Seconds())},
		{what: "memory an endpoint", ours: fmt.Sprintf("%.0f KB", (after.rss-before.rss)*1024/createdEndpoints)},
	}, nil
}
