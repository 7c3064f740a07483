package simulated

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"text/template"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

type launcher struct {
	cfg      Config
	template *template.Template
	measured dataplane.Shape
	startup  time.Duration // scaled
	err      error         // why nothing can be launched
}

// New makes the launcher of simulated workers. shapeOf resolves the
// configuration's measured_on, and startup times are divided by timeScale, which
// counts as 1 unless positive. An invalid configuration, or a measured_on that
// shapeOf does not know, makes every Launch fail with ErrCannotStart.
func New(cfg Config, shapeOf func(string) (dataplane.Shape, bool), timeScale float64) dataplane.Launcher {
	l := &launcher{cfg: cfg, startup: cfg.Startup}
	if timeScale > 0 {
		l.startup = time.Duration(float64(cfg.Startup) / timeScale)
	}
	if l.cfg.MeasuredOn == "" {
		l.cfg.MeasuredOn = defaultMeasuredOn
	}
	if l.cfg.Queue == 0 {
		l.cfg.Queue = defaultQueue
	}
	if l.err = cfg.Validate(); l.err != nil {
		return l
	}
	if l.template, l.err = cfg.Answer.compile(); l.err != nil {
		return l
	}
	var known bool
	if l.measured, known = shapeOf(l.cfg.MeasuredOn); !known {
		l.err = fmt.Errorf("measured_on: unknown instance type %q", l.cfg.MeasuredOn)
	}
	return l
}

// Launch starts a worker after the configured startup time. A startup longer
// than spec.StartupTimeout fails with ErrPing when that has passed.
func (l *launcher) Launch(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	if l.err != nil {
		return nil, fmt.Errorf("simulated %s: %w: %w", spec.InstanceID, dataplane.ErrCannotStart, l.err)
	}
	if err := l.start(ctx, spec.StartupTimeout); err != nil {
		return nil, fmt.Errorf("simulated %s: %w", spec.InstanceID, err)
	}
	if spec.Log == nil {
		spec.Log = io.Discard
	}
	return l.worker(spec), nil
}

// description is the configuration after scaling, for the log.
func (w *worker) description() string {
	machine, limit := w.spec.Shape.InstanceType, "unlimited"
	if machine == "" { // a serverless variant's
		machine = fmt.Sprintf("%d vCPU", w.spec.Shape.VCPU)
	}
	if w.station.slots > 0 {
		limit = strconv.Itoa(w.station.slots)
	}
	return fmt.Sprintf("%s: concurrency %s, latency %v at speed %.3g, contention %.3g, failure rate %v",
		machine, limit, w.cfg.Latency, w.speed, w.station.contention, w.cfg.FailureRate)
}

// start waits for the simulated health check.
func (l *launcher) start(ctx context.Context, timeout time.Duration) error {
	if err := ctx.Err(); err != nil || l.startup <= 0 {
		return err
	}
	wait, late := dataplane.Within(l.startup, timeout)
	if !dataplane.Sleep(ctx, wait) {
		return ctx.Err()
	}
	if late {
		return fmt.Errorf("%w within %v", dataplane.ErrPing, timeout)
	}
	return nil
}

func (l *launcher) worker(spec dataplane.Spec) *worker {
	scale := scaleOf(spec.Shape, l.measured)
	return &worker{
		cfg: l.cfg, template: l.template, spec: spec, speed: scale.speed,
		instant: l.cfg.Latency.Mean == 0 && (l.cfg.Answer.Tokens == nil || l.cfg.Answer.Tokens.PerSecond == 0),
		epoch:   time.Now(),
		done:    make(chan struct{}),
		station: station{
			slots:      scale.concurrency(l.cfg.Concurrency),
			room:       l.cfg.Queue,
			contention: scale.contention(l.cfg.Contention),
		},
		// Two sources, so that the latencies stay the same whatever the failure rate.
		latencies: rand.New(rand.NewPCG(spec.Seed, 1)),
		failures:  rand.New(rand.NewPCG(spec.Seed, 2)),
	}
}
