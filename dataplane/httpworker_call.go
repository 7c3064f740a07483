package dataplane

import (
	"context"
	"fmt"
	"maps"
	"time"
)

// Call is Invoke for another method and path, and with further headers. The path
// must be escaped.
func (w *HTTPWorker) Call(ctx context.Context, method, path string, header map[string]string, req *Request, ans *Answer) error {
	if !sendable(req) {
		return ErrInvalidHeader
	}
	if len(header) > 0 {
		header = maps.Clone(header)
		maps.Copy(header, w.cfg.Header)
	} else {
		header = w.cfg.Header
	}
	head, err := newRequestHead(method, path, w.cfg.Host, header)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidHeader, err)
	}
	now := time.Now()
	var deadline time.Time
	if req.Timeout > 0 {
		deadline = now.Add(req.Timeout)
	}
	return w.exchange(ctx, now, deadline, &head, req, ans)
}

// ReadsModels is always true: a server of its own has models' files to read.
func (w *HTTPWorker) ReadsModels() bool { return true }
