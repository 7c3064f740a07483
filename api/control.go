package api

import (
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// contentTypeJSON11 is the control plane's media type, in both directions.
const contentTypeJSON11 = "application/x-amz-json-1.1"

// control answers AWS JSON 1.1: POST / with the operation in X-Amz-Target.
type control struct {
	plane  *controlplane.Plane
	scopes *scopes
	log    *slog.Logger
}

func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newRequestID().String()
	w.Header().Set(requestIDHeader, id)
	w.Header().Set("Content-Type", contentTypeJSON11)
	body, err := c.serve(r)
	if err == nil {
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(body) // a caller that went away has nothing to be told
		return
	}
	e := shown(c.log, err, id, printable(r.Header.Get("X-Amz-Target")))
	w.Header().Set(errorTypeHeader, e.Code)
	w.WriteHeader(e.Status)
	_, _ = w.Write(e.AppendJSON11(nil))
}

func (c *control) serve(r *http.Request) ([]byte, error) {
	name, do, err := lookUp(r.Header.Get("X-Amz-Target"))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, sdkcompat.BodyUnreadable.Error()
	}
	scope := c.scopes.of([]byte(r.Header.Get("Authorization")))
	return do(c.plane, controlplane.WithScope(r.Context(), scope), name, body)
}

// shown is what the caller sees of an error: an *sdkcompat.Error itself, anything
// else as InternalFailure, with its text in the log under the request's id.
func shown(log *slog.Logger, err error, id, what string) *sdkcompat.Error {
	var e *sdkcompat.Error
	if errors.As(err, &e) {
		return e
	}
	log.Error("request failed", "request_id", id, "request", what, "error", err)
	return sdkcompat.RequestFailed.Error(id)
}

// errorTypeHeader is where Go and JavaScript look for the code first; boto reads
// it on the runtime only.
const errorTypeHeader = "X-Amzn-Errortype"
