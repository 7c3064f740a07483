// Package pipeline makes one worker of a model of several containers: an
// inference pipeline, whose containers a request goes through in order, or
// containers that are invoked directly, each by its name (docs:
// inference-pipelines, multi-container-endpoints).
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Config is what a pipeline's containers are started with.
type Config struct {
	// Launcher gives the kind of worker that runs a container.
	Launcher func(dataplane.Container) dataplane.Launcher
	// OpenLog begins the log of one of the instance's containers.
	OpenLog func(spec *dataplane.Spec, container string) (io.WriteCloser, error)
}

type launcher struct{ cfg Config }

// New makes the launcher of the containers in Spec.Containers.
func New(cfg Config) dataplane.Launcher { return &launcher{cfg} }

// Launch starts all containers at once, each in a directory and with a log of
// its own, and returns when all are healthy. The first that fails stops the
// others; the error is a *dataplane.ContainerError with its name.
func (l *launcher) Launch(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	w := &worker{direct: spec.Direct, stages: make([]stage, len(spec.Containers)), done: make(chan struct{})}
	starting, abort := context.WithCancel(ctx)
	defer abort()
	var first error // of those that failed; the others' are its consequences
	var once sync.Once
	var started sync.WaitGroup
	for i := range spec.Containers {
		started.Go(func() {
			if err := l.start(starting, &spec, i, &w.stages[i]); err != nil {
				once.Do(func() { first = &dataplane.ContainerError{Container: spec.Containers[i].Hostname, Err: err} })
				abort()
			}
		})
	}
	started.Wait()
	if first != nil {
		return nil, errors.Join(first, w.stopStages(context.WithoutCancel(ctx), 0))
	}
	for i := range w.stages {
		go w.watch(&w.stages[i])
	}
	for i := range w.stages {
		if models, ok := w.stages[i].worker.(dataplane.ModelHost); ok && w.stages[i].multiModel {
			return &modelWorker{w, models}, nil
		}
	}
	return w, nil
}

// start launches one container into its stage.
func (l *launcher) start(ctx context.Context, spec *dataplane.Spec, i int, s *stage) error {
	own := *spec
	own.Container, own.Containers = spec.Containers[i], nil
	own.Dir = filepath.Join(spec.Dir, fmt.Sprintf("container-%d", i+1))
	own.Seed = spec.Seed + uint64(i)
	log, err := l.cfg.OpenLog(spec, own.Container.Hostname)
	if err != nil {
		return fmt.Errorf("container log: %w", err)
	}
	s.name, s.multiModel, s.log, own.Log = own.Container.Hostname, own.Container.MultiModel, log, log
	worker, err := l.cfg.Launcher(own.Container).Launch(ctx, own)
	if err != nil {
		return err // a nil pointer must not become a worker
	}
	s.worker = worker
	return nil
}

// stopStages stops the containers from the last to the first. One that takes its
// time holds the others up for no more than its share of the grace, and none has
// more than the grace in all.
func (w *worker) stopStages(ctx context.Context, grace time.Duration) error {
	began := time.Now()
	errs := make([]error, len(w.stages))
	var stopped sync.WaitGroup
	for i := len(w.stages) - 1; i >= 0; i-- {
		s := &w.stages[i]
		gone := make(chan struct{})
		stopped.Go(func() {
			defer close(gone)
			errs[i] = s.stop(ctx, grace-time.Since(began))
		})
		await(ctx, gone, grace/time.Duration(len(w.stages)))
	}
	stopped.Wait()
	return errors.Join(errs...)
}

// await returns when the channel is closed, the time has passed or ctx ends.
func await(ctx context.Context, ch <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
	case <-ctx.Done():
	}
}
