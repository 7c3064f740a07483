package simulated

import (
	"context"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Stream answers one request; see dataplane.Worker.
func (w *worker) Stream(ctx context.Context, req *dataplane.Request, to dataplane.Sink) error {
	var ans dataplane.Answer
	if err := w.Invoke(ctx, req, &ans); err != nil {
		return err
	}
	return ans.PassOn(to)
}
