package main

import (
	"context"
	"fmt"
	"time"
)

// tapAim is how much dearer an invocation may be for its caller when it is
// captured or copied to a shadow variant.
const tapAim = 1.05

// taps compares invocations that are captured, or copied to a shadow variant of
// the same weight, with invocations that are neither. The figure is the mean
// latency: in a closed loop it is connections over rate.
func (b *bench) taps(ctx context.Context) ([]row, error) {
	storage, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	daemon, err := b.startSagelocal(ctx, fmt.Sprintf("s3: {listen: %q}\nimages:\n"+
		"  - image: process\n    process: {command: [%q]}\n  - image: 5-ms-model\n    simulated: {latency: {mean: 5ms}, concurrency: 64}\n", storage, b.echo),
		// So that what a round captures is written in that round.
		"--time-scale", "20")
	if err != nil {
		return nil, err
	}
	defer daemon.stop()
	objects := client{address: storage}
	if _, err := objects.send(ctx, "PUT", "/bench", "", nil); err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}

	var rows []row
	for _, kind := range []string{"5-ms-model", "simulated", "process"} {
		if err := daemon.createTapped(ctx, kind); err != nil {
			return rows, err
		}
		for _, connections := range []int{1, 32} {
			alone, captured, copied := tapTarget(daemon, kind, "plain"), tapTarget(daemon, kind, "capture"), tapTarget(daemon, kind, "shadow")
			if err := b.load(ctx, connections, b.rounds, min(b.round, 2*time.Second), alone, captured, copied); err != nil {
				return rows, err
			}
			for _, t := range []struct {
				*target
				what string
			}{{captured, "capture of all"}, {copied, "shadow variant, 1:1"}} {
				ratio := alone.rate() / t.rate()
				rows = append(rows, row{
					what: fmt.Sprintf("%s, %s, %s", t.what, kind, count(connections, "connection")), ours: meanLatency(t.target, connections),
					beside: "neither", theirs: meanLatency(alone, connections), ratio: times(ratio),
					aim: "≤ 1.05 ×", reached: reached(ratio <= tapAim),
				})
			}
		}
	}
	return rows, nil
}

func meanLatency(t *target, connections int) string {
	return fmt.Sprintf("%.1f µs", float64(connections)/t.rate()*1e6)
}

func tapTarget(daemon *server, kind, name string) *target {
	return &target{
		name: name, address: daemon.address, path: "/endpoints/" + kind + "-" + name + "/invocations",
		header: signed, body: string(requestBody),
	}
}

// createTapped makes an endpoint that copies nothing, one that captures, and one
// with a shadow variant.
func (c *client) createTapped(ctx context.Context, kind string) error {
	variant := func(name string) string {
		return fmt.Sprintf(`[{"VariantName":%q,"ModelName":%q,"InitialInstanceCount":2,"InstanceType":"ml.m5.large",`+
			`"RoutingConfig":{"RoutingStrategy":"LEAST_OUTSTANDING_REQUESTS"}}]`, name, kind)
	}
	if err := c.call(ctx, "CreateModel", fmt.Sprintf(`{"ModelName":%q,"PrimaryContainer":{"Image":%q}}`, kind, kind), nil); err != nil {
		return err
	}
	for name, more := range map[string]string{
		"plain": "",
		"capture": `,"DataCaptureConfig":{"InitialSamplingPercentage":100,"DestinationS3Uri":"s3://bench/captured",` +
			`"CaptureOptions":[{"CaptureMode":"InputAndOutput"}],"CaptureContentTypeHeader":{"CsvContentTypes":["text/csv"]}}`,
		"shadow": `,"ShadowProductionVariants":` + variant("Shadow"),
	} {
		name = kind + "-" + name
		config := fmt.Sprintf(`{"EndpointConfigName":%q,"ProductionVariants":%s%s}`, name, variant("AllTraffic"), more)
		if err := c.call(ctx, "CreateEndpointConfig", config, nil); err != nil {
			return err
		}
		if err := c.call(ctx, "CreateEndpoint", fmt.Sprintf(`{"EndpointName":%q,"EndpointConfigName":%q}`, name, name), nil); err != nil {
			return err
		}
		if err := c.awaitInService(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
