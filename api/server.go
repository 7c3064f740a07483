// Package api is the HTTP edge: one port on which the control plane, the runtime
// and sagelocal's own admin routes are told apart as the clients send them.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/mux"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// Options is what a Server works with.
type Options struct {
	Plane *controlplane.Plane
	Fleet *dataplane.Fleet
	Logs  *dataplane.Logs
	// Scope is where requests without SigV4 credentials work.
	Scope sdkcompat.Scope
	// Hosts are the names that a request's Host may have, besides addresses and
	// localhost.
	Hosts   []string
	Version string
	Logger  *slog.Logger
}

// Limits of one connection and one request.
const (
	// maxControlBytes bounds a control-plane or admin request; the largest that
	// the service model allows is far smaller.
	maxControlBytes = 4 << 20
	maxHeaderBytes  = 32 << 10
	writeBuffer     = 16 << 10         // a smaller answer leaves in one system call
	readTimeout     = 60 * time.Second // for a whole request, so that a slow sender cannot stay
	writeTimeout    = 60 * time.Second
	idleTimeout     = 5 * time.Minute
	maxConnections  = 32 << 10
)

// Server answers everything on one listener.
type Server struct {
	http    *fasthttp.Server
	express *express
	ctx     context.Context // of the invocations under way
	cancel  context.CancelFunc
}

// New makes a server; Serve sets it to work.
func New(o Options) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	known := &scopes{fallback: o.Scope}
	hot := &runtime{fleet: o.Fleet, plane: o.Plane, scopes: known, log: o.Logger, ctx: ctx}
	router := routes(o, known)
	control, rest := buffered(router), parsable(fasthttpadaptor.NewFastHTTPHandler(router))
	guard := &guard{hosts: o.Hosts}
	s := &Server{ctx: ctx, cancel: cancel, express: &express{hot: hot, guard: guard}}
	s.express.rest = func(c net.Conn) { _ = s.http.ServeConn(c) } // it has answered what it could
	s.http = &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			if e := guard.refuses(&ctx.Request.Header); e != nil {
				refuse(ctx, e)
				return
			}
			defer handled(ctx, false)
			if s.express.closing.Load() { // fasthttp may have stopped waiting
				ctx.SetConnectionClose()
			}
			path := ctx.Path()
			if isRuntimePath(path) {
				hot.serve(ctx)
				return
			}
			strandOf(ctx).Leave()
			switch {
			case string(path) == "/":
				control(ctx)
			default:
				rest(ctx)
			}
		},
		HeaderReceived: func(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
			limit := maxControlBytes
			if isRuntimePath(h.RequestURI()) {
				limit = maxInvokeBytes
			}
			return fasthttp.RequestConfig{MaxRequestBodySize: limit}
		},
		ErrorHandler:          badRequest,
		ReadBufferSize:        maxHeaderBytes,
		WriteBufferSize:       writeBuffer,
		MaxRequestBodySize:    maxInvokeBytes,
		ReadTimeout:           readTimeout,
		WriteTimeout:          writeTimeout,
		IdleTimeout:           idleTimeout,
		Concurrency:           maxConnections,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		CloseOnShutdown:       true,
		LazyRequestTime:       true, // nobody asks for it
		// A body is the worker's business, byte for byte.
		DisablePreParseMultipartForm: true,
		Logger:                       discardLogger{}, // connection errors are the callers' own
	}
	return s
}

// parsable keeps from the adaptor what net/url cannot take apart, such as /%zz:
// it would answer 500 in plain text.
func parsable(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if _, err := url.ParseRequestURI(text(ctx.RequestURI())); err != nil {
			refuse(ctx, sdkcompat.NotHTTP.Error())
			return
		}
		next(ctx)
	}
}

// discardLogger takes fasthttp's reports of broken connections.
type discardLogger struct{}

func (discardLogger) Printf(string, ...any) {}

// routes is everything but the runtime.
func routes(o Options, known *scopes) http.Handler {
	router := mux.NewRouter().SkipClean(true) // AWS redirects nobody
	admin := &admin{plane: o.Plane, fleet: o.Fleet, logs: o.Logs, scopes: known, version: o.Version, log: o.Logger, started: time.Now()}
	admin.register(router.PathPrefix("/_sagelocal/").Subrouter())
	router.Methods(http.MethodPost).Path("/").Handler(&control{plane: o.Plane, scopes: known, log: o.Logger})
	unknown := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(requestIDHeader, newRequestID().String())
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<UnknownOperationException/>\n"))
	})
	router.NotFoundHandler, router.MethodNotAllowedHandler = unknown, unknown
	return router
}

// Serve answers on ln until Shutdown.
func (s *Server) Serve(ln net.Listener) error {
	clients := newClientListener(ln, s.ctx)
	clients.express = s.express
	if err := s.http.Serve(clients); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// Shutdown takes no more requests and waits for those under way; when ctx ends
// they are canceled.
func (s *Server) Shutdown(ctx context.Context) error {
	s.express.close()
	defer s.express.end()
	defer s.cancel()
	err := s.http.ShutdownWithContext(ctx)
	if err == nil {
		err = s.express.drain(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// badRequest answers what fasthttp itself refuses.
func badRequest(ctx *fasthttp.RequestCtx, err error) {
	e := sdkcompat.NotHTTP.Error()
	// fasthttp sets none here, and that of the last answer may have passed.
	_ = ctx.Conn().SetWriteDeadline(time.Now().Add(writeTimeout)) // fails only when the connection is closed
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		if c, ok := ctx.Conn().(*clientConn); ok {
			c.unread.Store(true)
		}
		e = sdkcompat.BodyTooLarge.Error()
	case errors.As(err, &small):
		e = sdkcompat.HeadersTooLarge.Error(maxHeaderBytes)
	case errors.As(err, &timeout) && timeout.Timeout():
		e = sdkcompat.RequestTimedOut.Error()
	}
	refuse(ctx, e)
}

// refuse answers before it is known which protocol the caller speaks: the body
// and the header suit them all.
func refuse(ctx *fasthttp.RequestCtx, e *sdkcompat.Error) {
	id := newRequestID()
	setRequestID(&ctx.Response.Header, id[:])
	ctx.SetStatusCode(e.Status)
	ctx.SetContentType(contentTypeJSON11)
	ctx.Response.Header.Set(errorTypeHeader, e.Code)
	ctx.SetBody(e.AppendJSON11(nil))
	ctx.SetConnectionClose()
}
