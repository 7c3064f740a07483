package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The matrix has many short rounds rather than a few long ones: the comparison
// with recorded ratios needs six samples to be sure of anything. They are long
// enough for the P99 to be that of connections in use: each round opens new ones,
// and of 256 the first requests are more than a hundredth of a second's.
const (
	shortRounds = 6
	shortRound  = 4 * time.Second
)

var (
	matrixConnections = []int{1, 32, 256}
	matrixBodies      = []struct {
		name  string
		bytes int
	}{{"50 B", 50}, {"10 KB", 10_000}, {"1 MB", 1_000_000}}
)

// matrix compares InvokeEndpoint with HAProxy by number of connections and size
// of bodies. A cell that fails is a row that says so.
func (b *bench) matrix(ctx context.Context) ([]row, error) {
	daemon, workers, err := b.startProcesses(ctx)
	if err != nil {
		return nil, err
	}
	defer daemon.stop()
	process, rival, err := b.startHAProxy(ctx, workers)
	if err != nil {
		return nil, err
	}
	defer process.stop()

	var rows []row
	for _, body := range matrixBodies {
		for _, connections := range matrixConnections {
			text := csvBody(body.bytes)
			ours := &target{name: "sagelocal", address: daemon.address, path: invokePath, header: signed, body: text}
			theirs := &target{name: rival.name, address: rival.address, path: "/invocations", header: plain, body: text}
			what := fmt.Sprintf("%s, %s", body.name, count(connections, "connection"))
			if err := b.load(ctx, connections, shortRounds, shortRound, theirs, ours); err != nil {
				rows = append(rows, row{what: what, ours: "not measured: " + oneLine(err.Error())})
				continue
			}
			ratio := b.record(fmt.Sprintf("invoke/haproxy/conns=%d/body=%d", connections, body.bytes), ours, theirs)
			rows = append(rows, row{
				what: what, ours: perSecond(ours.rate()), beside: theirs.name, theirs: perSecond(theirs.rate()),
				ratio: times(ratio.rate), aim: "≥ 1 ×", reached: reached(ratio.rate >= 1),
			}, row{
				what: "its P99", ours: milliseconds(ours.p99()), beside: theirs.name, theirs: milliseconds(theirs.p99()),
				ratio: times(ratio.p99), aim: "≤ 1 ×", reached: reached(ratio.p99 <= 1),
			})
		}
	}
	return rows, nil
}

// startProcesses starts the daemon with an endpoint of echoing processes, and
// tells their addresses.
func (b *bench) startProcesses(ctx context.Context) (*server, []string, error) {
	return b.startModel(ctx, b.echo)
}

// startModel does so with any model server.
func (b *bench) startModel(ctx context.Context, program string) (*server, []string, error) {
	daemon, err := b.startSagelocal(ctx, fmt.Sprintf("images:\n  - image: \"*\"\n    process: {command: [%q]}\n", program))
	if err != nil {
		return nil, nil, err
	}
	if err = daemon.createEndpoint(ctx, "echogo", proxyWorkers); err == nil {
		var workers []string
		if workers, err = daemon.workers(ctx); err == nil && len(workers) == proxyWorkers {
			return daemon, workers, nil
		}
		err = errors.Join(err, fmt.Errorf("%d of %d workers", len(workers), proxyWorkers))
	}
	daemon.stop()
	return nil, nil, err
}
