package main

import (
	"context"
	"fmt"
)

const (
	manyInstances   = 1000
	manyEndpoints   = 500
	manyConnections = 4000
	// wrk, HAProxy and their like need a descriptor a connection.
	descriptors = 2*manyConnections + 1000
)

// scale compares sagelocal with itself under more of everything: instances,
// endpoints, connections.
func (b *bench) scale(ctx context.Context) ([]row, error) {
	var rows []row
	for _, part := range []func(context.Context) ([]row, error){b.scaleInstances, b.scaleEndpoints, b.scaleCreate, b.scaleConnections} {
		measured, err := part(ctx)
		rows = append(rows, measured...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// scaleInstances is one endpoint with 4 instances beside one with 1,000.
func (b *bench) scaleInstances(ctx context.Context) ([]row, error) {
	var targets []*target
	var daemons []*server
	for _, instances := range []int{proxyWorkers, manyInstances} {
		daemon, err := b.startSagelocal(ctx, "")
		if err != nil {
			return nil, err
		}
		defer daemon.stop()
		if err := daemon.createEndpoint(ctx, "simulated", instances); err != nil {
			return nil, err
		}
		daemons = append(daemons, daemon)
		targets = append(targets, daemon.target(count(instances, "instance"), true))
	}
	few, many := targets[0], targets[1]
	if err := b.load(ctx, proxyConnections, shortRounds, shortRound, few, many); err != nil {
		return nil, err
	}
	rows := b.scaleRows("scale/instances=1000", "1,000 simulated instances, 32 connections", many, few)
	var used [2]memory
	for i, d := range daemons {
		var err error
		if used[i], err = memoryOf(d.pid()); err != nil {
			return rows, err
		}
	}
	return append(rows, row{
		what: "its memory, after that load", ours: used[1].String(), beside: few.name, theirs: used[0].String(),
		ratio: times(used[1].rss / used[0].rss),
	}), nil
}

// scaleEndpoints is one endpoint beside 500 that are asked in turn.
func (b *bench) scaleEndpoints(ctx context.Context) ([]row, error) {
	daemon, err := b.startSagelocal(ctx, "")
	if err != nil {
		return nil, err
	}
	defer daemon.stop()
	if err := daemon.createEndpoint(ctx, "simulated", proxyWorkers); err != nil {
		return nil, err
	}
	names := make([]string, manyEndpoints)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", endpointName, i)
		if err := daemon.call(ctx, "CreateEndpoint", fmt.Sprintf(`{"EndpointName":%q,"EndpointConfigName":%q}`, names[i], endpointName), nil); err != nil {
			return nil, err
		}
	}
	one, many := daemon.target("one endpoint", true), daemon.target("500 endpoints", true)
	for _, name := range names {
		if err := daemon.awaitInService(ctx, name); err != nil {
			return nil, err
		}
		// Both take a path from a list, as wrk's script costs processor time too.
		one.paths = append(one.paths, invokePath)
		many.paths = append(many.paths, "/endpoints/"+name+"/invocations")
	}
	if err := b.load(ctx, proxyConnections, shortRounds, shortRound, one, many); err != nil {
		return nil, err
	}
	rows := b.scaleRows("scale/endpoints=500", "500 endpoints in turn, 4 simulated instances each", many, one)
	m, err := memoryOf(daemon.pid())
	if err != nil {
		return rows, err
	}
	return append(rows, row{what: "its memory, after that load", ours: m.String()}), nil
}

// scaleConnections is 32 callers beside 4,000, which may not see a single error.
func (b *bench) scaleConnections(ctx context.Context) ([]row, error) {
	if err := allowDescriptors(descriptors); err != nil {
		return nil, err
	}
	simulated, err := b.startSagelocal(ctx, "")
	if err != nil {
		return nil, err
	}
	defer simulated.stop()
	if err := simulated.createEndpoint(ctx, "simulated", proxyWorkers); err != nil {
		return nil, err
	}
	processes, workers, err := b.startProcesses(ctx)
	if err != nil {
		return nil, err
	}
	defer processes.stop()
	haproxy, rival, err := b.startHAProxy(ctx, workers)
	if err == nil {
		defer haproxy.stop()
		rival.path, rival.header, rival.body, rival.connections = "/invocations", plain, string(requestBody), manyConnections
	}

	var rows []row
	for _, part := range []struct {
		kind   string
		daemon *server
		rival  *target
	}{{"simulated instances", simulated, nil}, {"processes", processes, rival}} {
		few, many := part.daemon.target("32 connections", true), part.daemon.target("4,000 connections", true)
		many.connections = manyConnections
		targets := []*target{few, many}
		if part.rival != nil && err == nil {
			targets = append(targets, part.rival)
		}
		what := "4,000 connections, 4 " + part.kind
		if err := b.load(ctx, proxyConnections, shortRounds, shortRound, targets...); err != nil {
			rows = append(rows, row{what: what, ours: "not measured: " + oneLine(err.Error())})
			continue
		}
		name := "scale/conns=4000/" + map[bool]string{true: "processes", false: "simulated"}[part.rival != nil]
		rows = append(rows, b.scaleRows(name, what, many, few)...)
		if len(targets) > 2 {
			rows = append(rows, b.scaleRows("invoke/haproxy/conns=4000/body=50", what, many, part.rival)...)
		}
		m, err := memoryOf(part.daemon.pid())
		if err != nil {
			return rows, err
		}
		rows = append(rows, row{what: "its memory, after that load", ours: m.String()})
	}
	return rows, nil
}

// scaleRows are requests per second and tail latency of two targets.
func (b *bench) scaleRows(name, what string, ours, theirs *target) []row {
	ratio := b.record(name, ours, theirs)
	return []row{
		{what: what, ours: perSecond(ours.rate()), beside: theirs.name, theirs: perSecond(theirs.rate()), ratio: times(ratio.rate)},
		{what: "its P99", ours: milliseconds(ours.p99()), beside: theirs.name, theirs: milliseconds(theirs.p99()), ratio: times(ratio.p99)},
	}
}
