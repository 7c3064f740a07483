package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Stream passes on the answer of the last container as it comes, or that of the
// container which the request names. The containers before the last answer as a
// whole: each needs the answer of the one before.
func (w *worker) Stream(ctx context.Context, req *dataplane.Request, to dataplane.Sink) error {
	if w.direct {
		s, err := w.named(req.TargetContainer)
		if err != nil {
			return err
		}
		return s.worker.Stream(ctx, req, to)
	}
	began := time.Now()
	last := len(w.stages) - 1
	step := *req
	if last > 0 {
		step.Accept = ""
		ahead := worker{stages: w.stages[:last]}
		var ans dataplane.Answer
		if err := ahead.sequence(ctx, &step, &ans); err != nil {
			return &dataplane.ContainerError{Container: ans.Container, Err: err}
		}
		if ans.StatusCode/100 != 2 {
			return ans.PassOn(to)
		}
		step.Accept, step.ContentType, step.Body = req.Accept, ans.ContentType, ans.Body
	}
	s := &w.stages[last]
	if req.Timeout > 0 {
		if step.Timeout = req.Timeout - time.Since(began); step.Timeout <= 0 {
			return &dataplane.ContainerError{Container: s.name, Err: dataplane.ErrTimeout}
		}
	}
	if err := s.worker.Stream(ctx, &step, signed{to, s.name}); err != nil {
		return &dataplane.ContainerError{Container: s.name, Err: err}
	}
	return nil
}

// named is the container that a request asks for.
func (w *worker) named(name string) (*stage, error) {
	for i := range w.stages {
		if w.stages[i].name == name {
			return &w.stages[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %q", dataplane.ErrUnknownContainer, name)
}

// signed says which container an error answer is from.
type signed struct {
	dataplane.Sink
	name string
}

func (s signed) Begin(head *dataplane.Answer) error {
	if head.StatusCode/100 != 2 {
		head.Container = s.name
	}
	return s.Sink.Begin(head)
}
