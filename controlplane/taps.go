package controlplane

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
)

// How long captured data may take to be written when its endpoint, or the
// endpoint's deployment, is gone, and when the daemon stops.
const (
	captureFlush  = time.Minute
	shutdownFlush = 3 * time.Second
)

// taps are what an endpoint's requests are copied to beside the instances that
// answer them. They belong to the endpoint's reconciler.
type taps struct {
	shadows  map[group]*dataplane.Shadow
	captures map[int64]*dataplane.Capture // by deployment
}

func newTaps() taps {
	return taps{shadows: map[group]*dataplane.Shadow{}, captures: map[int64]*dataplane.Capture{}}
}

// makeTaps gives every deployment that has instances its shadow variant and its
// data capture, and ends those of deployments that have none any more. Copies of
// requests end when a shadow variant is to go, so that nothing waits for their
// answers.
func (r *reconciler) makeTaps(rec *endpointRecord, want map[group]int) {
	for _, f := range rec.fleets() {
		for i := range f.Variants {
			g := group{f.ID, f.Variants[i].name()}
			if want[g] == 0 {
				continue
			}
			if f.Variants[i].Shadow && r.taps.shadows[g] == nil {
				r.taps.shadows[g] = dataplane.NewShadow(r.pools[g], r.seed("shadow", g.variant))
			}
			if r.taps.captures[f.ID] == nil && captures(f.Capture) {
				r.taps.captures[f.ID] = r.plane.Captures.NewCapture(captureConfig(*rec.EndpointName, f.Capture), r.seed("capture"))
			}
		}
	}
	r.endShadows(func(g group) bool { return want[g] == 0 })
	r.endCaptures(func(deployment int64) bool {
		for g := range r.pools {
			if g.deployment == deployment {
				return false
			}
		}
		return true
	})
}

func (r *reconciler) endShadows(done func(group) bool) {
	for g, s := range r.taps.shadows {
		if done(g) {
			s.Close()
			delete(r.taps.shadows, g)
		}
	}
}

// endCaptures lets captures write what they hold. The reconciler does not wait
// for that; the plane does when it stops.
func (r *reconciler) endCaptures(done func(deployment int64) bool) {
	for id, c := range r.taps.captures {
		if !done(id) {
			continue
		}
		delete(r.taps.captures, id)
		r.plane.running.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), captureFlush)
			defer cancel()
			stop := context.AfterFunc(r.plane.ctx, func() { time.AfterFunc(shutdownFlush, cancel) })
			defer stop()
			c.Close(ctx)
		})
	}
}

// tap lets the pools of the deployments copy what they are to copy.
func (r *reconciler) tap(s *dataplane.Snapshot, now *desired) {
	for _, f := range now.fleets() {
		capture, shadow := r.taps.captures[f.ID], f.shadow()
		if capture != nil {
			s.Captures = append(s.Captures, capture)
		}
		for i := range f.Variants {
			v := &f.Variants[i]
			t := dataplane.Tap{Variant: v.name(), Capture: capture}
			if shadow != nil && !v.Shadow {
				t.Shadow = r.taps.shadows[group{f.ID, shadow.name()}]
				t.ShadowRate = shadowRate(v.CurrentWeight, shadow.CurrentWeight)
			}
			setTap(r.pools[group{f.ID, v.name()}], t)
		}
		for _, c := range now.components {
			setTap(r.components.pools[poolKey{f.ID, c.key()}], dataplane.Tap{Variant: aws.ToString(c.VariantName), Capture: capture})
		}
	}
}

// setTap leaves a pool that copies nothing without a tap.
func setTap(pool *dataplane.Pool, t dataplane.Tap) {
	switch {
	case pool == nil:
	case t.Shadow == nil && t.Capture == nil:
		pool.SetTap(nil)
	default:
		pool.SetTap(&t)
	}
}

// shadowRate is the part of the production variant's requests that is copied: the
// shadow variant's weight relative to its own, at most all of them.
func shadowRate(production, shadow float32) float64 {
	switch {
	case shadow <= 0:
		return 0
	case production <= shadow:
		return 1
	}
	return float64(shadow) / float64(production)
}

// captures tells whether a configuration captures: EnableCapture is true by
// default (API_DataCaptureConfig).
func captures(c *types.DataCaptureConfig) bool {
	return c != nil && (c.EnableCapture == nil || *c.EnableCapture)
}

func captureConfig(endpoint string, c *types.DataCaptureConfig) dataplane.CaptureConfig {
	has := func(modes ...types.CaptureMode) bool {
		return slices.ContainsFunc(c.CaptureOptions, func(o types.CaptureOption) bool { return slices.Contains(modes, o.CaptureMode) })
	}
	config := dataplane.CaptureConfig{
		Endpoint: endpoint, Percentage: int(aws.ToInt32(c.InitialSamplingPercentage)),
		Destination: aws.ToString(c.DestinationS3Uri),
		Input:       has(types.CaptureModeInput, types.CaptureModeInputAndOutput),
		Output:      has(types.CaptureModeOutput, types.CaptureModeInputAndOutput),
	}
	if h := c.CaptureContentTypeHeader; h != nil {
		config.CSV, config.JSON = h.CsvContentTypes, h.JsonContentTypes
	}
	return config
}

// captureStatus is the DataCaptureConfig of DescribeEndpoint: Started while the
// endpoint serves and captures.
func (r *endpointRecord) captureStatus() *types.DataCaptureConfigSummary {
	if r.DataCaptureConfig == nil || !*r.DataCaptureConfig.EnableCapture || r.EndpointStatus == statusDeleting {
		return r.DataCaptureConfig
	}
	started := *r.DataCaptureConfig
	started.CaptureStatus = types.CaptureStatusStarted
	return &started
}
