package dataplane

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// AdapterHost is a worker that is told of the adapters of its inference
// component. A worker that is none finds the adapter's name in Request.Adapter
// and needs nothing else.
type AdapterHost interface {
	// LoadAdapter makes an adapter known to the worker; dir is where its unpacked
	// artifact is. A container without an API for adapters is no error: it may
	// act on the name alone.
	LoadAdapter(ctx context.Context, name, dir string) error
	// UnloadAdapter lets the worker forget it.
	UnloadAdapter(ctx context.Context, name string) error
}

// LoadAdapter is POST /adapters (docs: DJL Serving's adapters API, and
// aws/model-hosting-container-standards). It gives up when ctx ends.
func (w *HTTPWorker) LoadAdapter(ctx context.Context, name, dir string) error {
	body, err := json.Marshal(map[string]string{"name": name, "src": dir})
	if err != nil {
		return fmt.Errorf("encode adapter: %w", err)
	}
	return w.call(ctx, http.MethodPost, "/adapters", &Request{ContentType: "application/json", Body: body})
}

// UnloadAdapter is DELETE /adapters/{name}.
func (w *HTTPWorker) UnloadAdapter(ctx context.Context, name string) error {
	return w.call(ctx, http.MethodDelete, "/adapters/"+url.PathEscape(name), &Request{})
}

// call is an exchange beside the invocations. A path that the container does not
// have is not an error.
func (w *HTTPWorker) call(ctx context.Context, method, path string, req *Request) error {
	var ans Answer
	if err := w.Call(ctx, method, path, nil, req, &ans); err != nil {
		return err
	}
	switch {
	case ans.StatusCode/100 == 2, ans.StatusCode == http.StatusNotFound, ans.StatusCode == http.StatusMethodNotAllowed, ans.StatusCode == http.StatusNotImplemented:
		return nil
	}
	return fmt.Errorf("%s %s answered %d: %.200q", method, path, ans.StatusCode, ans.Body)
}
