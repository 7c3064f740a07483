package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// HTTP2Options is what an HTTP2 works with beside Options.
type HTTP2Options struct {
	Options
	// Certificate is asked for by the first connection over TLS, and Authority by
	// GET /_sagelocal/certificate: in PEM, what a client has to trust.
	Certificate func() (*tls.Certificate, error)
	Authority   func() ([]byte, error)
}

// HTTP2 answers InvokeEndpointWithBidirectionalStream, for which AWS has a port of
// its own too. HTTP/2 with and without TLS and HTTP/1.1, which is told to go, are
// told apart by a connection's first byte.
type HTTP2 struct {
	http    *http.Server
	options HTTP2Options
	fleet   *dataplane.Fleet
	scopes  *scopes
	guard   *guard
	log     *slog.Logger
	streams chan struct{} // holds one for each
	cancel  context.CancelFunc
}

// Limits of the connections; those of package http2 hold beside them.
const (
	maxHTTP2Connections = 1024
	streamsOfConnection = 100
	handshakeTimeout    = 10 * time.Second
	// A connection whose caller is silent for so long is asked whether it lives.
	callerPing, callerPong = time.Minute, 15 * time.Second
)

// NewHTTP2 makes a server; Serve sets it to work.
func NewHTTP2(o HTTP2Options) *HTTP2 {
	ctx, cancel := context.WithCancel(context.Background())
	s := &HTTP2{
		options: o, fleet: o.Fleet, scopes: &scopes{fallback: o.Scope}, guard: &guard{hosts: o.Hosts}, log: o.Logger,
		streams: make(chan struct{}, maxDuplexStreams), cancel: cancel,
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler: s, Protocols: protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: streamsOfConnection,
			SendPingTimeout:      callerPing, PingTimeout: callerPong,
		},
		// A stream lasts as long as both sides want.
		ReadHeaderTimeout: handshakeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // connection errors are the callers' own
	}
	return s
}

// Serve answers on ln until Shutdown.
func (s *HTTP2) Serve(ln net.Listener) error {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.options.Certificate() },
	}
	if err := s.http.Serve(newEitherListener(ln, config)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// Shutdown takes no more streams and waits for those under way; when ctx ends they
// are canceled.
func (s *HTTP2) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	s.cancel()
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // for the callers to be told
	defer cancel()
	if s.http.Shutdown(last) != nil {
		return s.http.Close()
	}
	return nil
}

// ServeHTTP is http.Handler's.
func (s *HTTP2) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newRequestID().String()
	w.Header().Set(requestIDHeader, id)
	if e := s.guard.refusesRequest(r); e != nil {
		s.fail(w, r, e, id)
		return
	}
	name, ok := strings.CutSuffix(r.URL.Path, dataplane.BidirectionalPath)
	name, under := strings.CutPrefix(name, string(endpointsPath))
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/_sagelocal/certificate":
		authority, err := s.options.Authority()
		if err != nil {
			s.fail(w, r, err, id)
			return
		}
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write(authority) // the caller may have gone
	case r.Method != http.MethodPost || !ok || !under || strings.Contains(name, "/"):
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<UnknownOperationException/>\n"))
	case r.ProtoMajor < 2:
		s.fail(w, r, sdkcompat.DuplexNeedsHTTP2.Error(), id)
	default:
		if err := s.duplex(w, r, name, id); err != nil {
			s.fail(w, r, err, id)
		}
	}
}

// http2Codes are what SageMaker Runtime HTTP2 calls the runtime's errors.
var http2Codes = map[string]string{
	"ValidationError":    "InputValidationError",
	"InternalFailure":    "InternalServerError",
	"ServiceUnavailable": "ServiceUnavailableError",
}

func (s *HTTP2) fail(w http.ResponseWriter, r *http.Request, err error, id string) {
	e := *shown(s.log, err, id, "runtime "+printable(r.URL.Path))
	if code := http2Codes[e.Code]; code != "" {
		e.Code = code
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(errorTypeHeader, e.Code)
	w.WriteHeader(e.Status)
	_, _ = w.Write(e.AppendRuntime(nil)) // the caller may have gone
}
