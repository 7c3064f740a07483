// Package routelab finds out which routing strategy a workload wants: it drives
// endpoints with a load, measures them without coordinated omission, compares
// them over repetitions and says how sure the comparison is. It knows no SDK and
// no daemon; what it drives is a Target.
package routelab

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// Request is what a Target sends.
type Request struct {
	Body        []byte
	ContentType string
}

// Response is what came back.
type Response struct {
	Status   int    // of HTTP; 0 when there was no answer
	Instance string // that answered; empty when the endpoint does not say
}

// Target sends a request and waits for the whole answer. A status outside of 200
// to 299 comes with an error, and then the Response may still be filled. It is
// called from many goroutines.
type Target func(ctx context.Context, r Request) (Response, error)

// Failure is an error with the kind that errors are counted by.
type Failure struct {
	Kind string // a word or two, such as ModelError
	Err  error
}

func (f *Failure) Error() string { return f.Kind + ": " + f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// errorKind is what an error is counted as.
func errorKind(err error) string {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Kind
	}
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), ok && timeout.Timeout():
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.EADDRNOTAVAIL):
		return "client out of sockets"
	}
	return "no answer"
}
