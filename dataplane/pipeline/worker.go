package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// worker is an instance whose containers are all healthy. When one ends, so does
// the instance.
type worker struct {
	direct bool
	stages []stage

	done chan struct{}
	once sync.Once // closes done
	err  error     // set before done is closed

	stopOnce sync.Once
	stopErr  error
}

// stage is one container. Its worker is nil while it has not started.
type stage struct {
	name       string
	multiModel bool
	log        io.Closer
	worker     dataplane.Worker
}

// modelWorker is a worker one of whose containers, of which AWS allows one, holds
// several models.
type modelWorker struct {
	*worker
	dataplane.ModelHost
}

func (s *stage) stop(ctx context.Context, grace time.Duration) (err error) {
	if s.worker != nil {
		err = s.worker.Stop(ctx, max(grace, 0))
	}
	if s.log != nil {
		err = errors.Join(err, s.log.Close())
	}
	return err
}

// watch ends the instance when a container ends.
func (w *worker) watch(s *stage) {
	select {
	case <-s.worker.Done():
		err := s.worker.Err()
		if err == nil {
			err = errors.New("it was stopped")
		}
		w.end(&dataplane.ContainerError{Container: s.name, Err: err})
	case <-w.done:
	}
}

func (w *worker) end(err error) {
	w.once.Do(func() {
		w.err = err
		close(w.done)
	})
}

// Invoke sends a request through the containers, or to the one that it names.
func (w *worker) Invoke(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	if !w.direct {
		return w.sequence(ctx, req, ans)
	}
	s, err := w.named(req.TargetContainer)
	if err != nil {
		return err
	}
	return s.worker.Invoke(ctx, req, ans)
}

// between holds the answers of all containers but the last. A container reads
// one while the next is written.
type between [2]dataplane.Answer

var betweens = sync.Pool{New: func() any { return new(between) }}

// sequence gives each container the body and the Content-Type of the answer of
// the one before. Custom attributes and the inference id go to all; Accept is
// about the answer, and so for the last. The caller's time is for all of them
// together.
func (w *worker) sequence(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	held := betweens.Get().(*between)
	defer betweens.Put(held)
	began := time.Now()
	step := *req
	for i := range w.stages {
		s, out := &w.stages[i], ans
		if step.Accept = req.Accept; i < len(w.stages)-1 {
			step.Accept, out = "", &held[i%2]
		}
		if step.TargetModel = ""; s.multiModel {
			step.TargetModel = req.TargetModel
		}
		if err := w.step(ctx, s, req.Timeout, began, &step, out); err != nil {
			ans.Container = s.name
			return err
		}
		if out.StatusCode/100 != 2 {
			if out != ans {
				ans.StatusCode, ans.ContentType, ans.CustomAttributes = out.StatusCode, out.ContentType, out.CustomAttributes
				ans.Body = append(ans.Body[:0], out.Body...)
			}
			ans.Container = s.name
			return nil
		}
		step.Body, step.ContentType = out.Body, out.ContentType
	}
	ans.Container = ""
	return nil
}

// step invokes one container with what is left of the time.
func (w *worker) step(ctx context.Context, s *stage, timeout time.Duration, began time.Time, req *dataplane.Request, ans *dataplane.Answer) error {
	if timeout > 0 {
		if req.Timeout = timeout - time.Since(began); req.Timeout <= 0 {
			return fmt.Errorf("container %s: %w", s.name, dataplane.ErrTimeout)
		}
	}
	return s.worker.Invoke(ctx, req, ans)
}

// Done is closed when a container has ended, or Stop was called.
func (w *worker) Done() <-chan struct{} { return w.done }

// Err names the container that ended.
func (w *worker) Err() error {
	select {
	case <-w.done:
		return w.err
	default:
		return nil
	}
}

// Stop ends the containers, the last one first.
func (w *worker) Stop(ctx context.Context, grace time.Duration) error {
	w.stopOnce.Do(func() {
		w.end(nil)
		w.stopErr = w.stopStages(ctx, grace)
	})
	return w.stopErr
}

// Address lists those of the containers, in their order.
func (w *worker) Address() string {
	all := make([]string, len(w.stages))
	for i := range w.stages {
		all[i] = w.stages[i].worker.Address()
	}
	return strings.Join(all, ", ")
}

// Kind lists the kinds of the containers' workers, each once.
func (w *worker) Kind() string {
	var all []string
	for i := range w.stages {
		if kind := w.stages[i].worker.Kind(); !slices.Contains(all, kind) {
			all = append(all, kind)
		}
	}
	return strings.Join(all, ", ")
}
