package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// figures are a Go benchmark's by unit: ns/op, B/op, allocs/op.
type figures map[string]float64

// benchRuns is how often a Go benchmark runs; the table shows medians.
const benchRuns = 3

// goBench runs benchmarks of one package.
func goBench(ctx context.Context, pkg, pattern, benchtime string) (map[string]figures, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", pkg, "-run", "^$", "-bench", pattern, "-benchmem",
		"-benchtime", benchtime, "-count", strconv.Itoa(benchRuns))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test %s -bench %s: %w: %s", pkg, pattern, err, out)
	}
	runs := map[string]map[string][]float64{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if at := strings.LastIndexByte(name, '-'); at > 0 { // GOMAXPROCS
			if _, err := strconv.Atoi(name[at+1:]); err == nil {
				name = name[:at]
			}
		}
		if runs[name] == nil {
			runs[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				runs[name][fields[i+1]] = append(runs[name][fields[i+1]], v)
			}
		}
	}
	results := map[string]figures{}
	for name, units := range runs {
		results[name] = figures{}
		for unit, values := range units {
			results[name][unit] = median(values)
		}
	}
	return results, nil
}

// find takes the figures of benchmarks, all of which must have run.
func find(results map[string]figures, names ...string) ([]figures, error) {
	found := make([]figures, len(names))
	for i, name := range names {
		var ok bool
		if found[i], ok = results[name]; !ok {
			return nil, fmt.Errorf("benchmark %s did not run", name)
		}
	}
	return found, nil
}

// pickGrowth is how much dearer a pick among 10,000 may be than among 10: the
// work is the same, the processor's caches are not.
const pickGrowth = 2

// picks is the cost of a pick and its count, with the pool's lock.
func (b *bench) picks(ctx context.Context) ([]row, error) {
	results, err := goBench(ctx, "./dataplane", "^BenchmarkPick$/^LEAST", "200ms")
	if err != nil {
		return nil, err
	}
	const name = "BenchmarkPick/LEAST_OUTSTANDING_REQUESTS/instances="
	f, err := find(results, name+"10", name+"1000", name+"10000")
	if err != nil {
		return nil, err
	}
	var rows []row
	for i, n := range []string{"10", "1,000", "10,000"} {
		r := row{what: "pick, count and release among " + n, ours: fmt.Sprintf("%s, %.0f allocs", nanoseconds(f[i]["ns/op"]), f[i]["allocs/op"])}
		if i > 0 {
			growth := f[i]["ns/op"] / f[0]["ns/op"]
			r.beside, r.theirs, r.ratio = "among 10", nanoseconds(f[0]["ns/op"]), times(growth)
			r.aim, r.reached = "≤ 2 ×, 0 allocs", reached(growth <= pickGrowth && f[i]["allocs/op"] == 0)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// allocations is what one invocation leaves to the garbage collector.
func (b *bench) allocations(ctx context.Context) ([]row, error) {
	results, err := goBench(ctx, "./api", "^BenchmarkInvokeEndpoint$", "1s")
	if err != nil {
		return nil, err
	}
	f, err := find(results, "BenchmarkInvokeEndpoint/simulated", "BenchmarkInvokeEndpoint/http")
	if err != nil {
		return nil, err
	}
	var rows []row
	for i, kind := range []string{"a simulated", "an HTTP"} {
		rows = append(rows, row{
			what: "one invocation of " + kind + " worker, in process",
			ours: fmt.Sprintf("%s, %.0f allocs, %.0f B", nanoseconds(f[i]["ns/op"]), f[i]["allocs/op"], f[i]["B/op"]),
		})
	}
	return rows, nil
}

// stores compares durable writes with bbolt's own.
func (b *bench) stores(ctx context.Context) ([]row, error) {
	results, err := goBench(ctx, "./store", "^BenchmarkCreate$/.*/writers=(1|16|256)$", "200ms")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, writers := range []string{"1", "16", "256"} {
		f, err := find(results, "BenchmarkCreate/store/writers="+writers, "BenchmarkCreate/bare-bbolt/writers="+writers)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row{
			what: "durable record, 3 indexes, " + writers + " writers", ours: nanoseconds(f[0]["ns/op"]),
			beside: "bare bbolt, no index", theirs: nanoseconds(f[1]["ns/op"]), ratio: times(f[0]["ns/op"] / f[1]["ns/op"]),
		})
	}
	return rows, nil
}
