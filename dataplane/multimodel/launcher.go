// Package multimodel makes a worker hold several models: each is fetched and
// loaded when a request asks for it, through the container's own API, and
// unloaded when the room is needed for another (docs: multi-model-endpoints,
// mms-container-apis).
package multimodel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Source is where archives of models come from; dataplane.ModelData is one.
type Source interface {
	Check(ctx context.Context, source dataplane.ModelSource) error
	Download(ctx context.Context, source dataplane.ModelSource, dir string) error
}

type launcher struct {
	next    dataplane.Launcher
	source  Source
	observe dataplane.ModelObserver
}

// New makes a launcher of what next launches, with models from source.
func New(next dataplane.Launcher, source Source, observe dataplane.ModelObserver) dataplane.Launcher {
	return &launcher{next, source, observe}
}

// Launch starts a container without any model. Like AWS it lists the models that
// are loaded before it takes the container for healthy (pytorch/serve#397). A
// kind of worker that has no such API wraps ErrCannotStart.
func (l *launcher) Launch(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	prefix := spec.Container.ModelDataURL
	spec.Container.ModelDataURL = "" // it is not an archive
	worker, err := l.next.Launch(ctx, spec)
	if err != nil {
		return nil, err
	}
	server, ok := worker.(dataplane.ModelServer)
	if !ok {
		err = fmt.Errorf("%w: a worker of kind %s cannot hold several models", dataplane.ErrCannotStart, worker.Kind())
		return nil, errors.Join(err, worker.Stop(context.WithoutCancel(ctx), 0))
	}
	var ans dataplane.Answer
	err = server.Call(ctx, http.MethodGet, "/models", nil, &dataplane.Request{Timeout: dataplane.PingTimeout}, &ans)
	if err == nil && ans.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET /models answered %d", ans.StatusCode)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", dataplane.ErrPing, err)
		return nil, errors.Join(err, server.Stop(context.WithoutCancel(ctx), 0))
	}
	return newHost(ctx, server, l, &spec, prefix), nil
}

// memoryReserve is the part of an instance's memory, one in so many, that is not
// for models.
const memoryReserve = 16

func newHost(ctx context.Context, server dataplane.ModelServer, l *launcher, spec *dataplane.Spec, prefix string) *host {
	h := &host{
		ModelServer: server, source: l.source, observer: l.observe, spec: *spec, prefix: prefix,
		dir:    filepath.Join(spec.Dir, "models"),
		memory: budget{limit: memoryBudget(&spec.Shape)}, disk: budget{limit: int64(spec.VolumeGiB) << 30},
		models: map[string]*model{}, changed: make(chan struct{}),
	}
	if dir, err := filepath.Abs(h.dir); err == nil {
		h.dir = dir // the container's working directory is another
	}
	h.ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return h
}

// memoryBudget is for the accelerators' memory where there are any: models are
// held there.
func memoryBudget(s *dataplane.Shape) int64 {
	gib := s.MemoryGiB * (memoryReserve - 1) / memoryReserve
	if s.Accelerators > 0 {
		gib = float64(s.Accelerators) * s.AcceleratorGiB
	}
	return int64(gib * (1 << 30))
}

// budget bounds a sum of bytes; limit 0 means that nothing does.
type budget struct{ used, limit int64 }

func (b *budget) exceeded() bool { return b.limit > 0 && b.used > b.limit }

// Stop ends the loads under way, and then the container.
func (h *host) Stop(ctx context.Context, grace time.Duration) error {
	h.mu.Lock()
	h.stopped = true // no more work
	h.mu.Unlock()
	h.cancel()
	err := h.ModelServer.Stop(ctx, grace)
	h.work.Wait()
	return err
}
