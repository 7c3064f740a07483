// Package upstream is the kind of worker that is an HTTP server which runs
// already and belongs to somebody else: Ollama, vLLM, Triton. Stopping a worker
// lets go of the server and does not end it.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Kind is the name in the configuration file.
const Kind = "upstream"

// connectTimeout is longer than the container contract's 250 ms: the server may
// be on another machine, where a lost SYN alone costs a second.
const connectTimeout = 2 * time.Second

type launcher struct {
	cfg       Config
	timeScale float64
	launches  atomic.Uint64
}

// New makes the launcher of a validated configuration. The interval of health
// checks is divided by timeScale.
func New(cfg Config, timeScale float64) dataplane.Launcher {
	return &launcher{cfg: cfg, timeScale: timeScale}
}

// Launch waits until the next server in turn is healthy; see dataplane.Launcher.
// Model data, Environment and shape are the server's own affair.
func (l *launcher) Launch(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	if spec.Container.MultiModel {
		// Instances share the server, and what one loads another would unload.
		return nil, fmt.Errorf("%w: an upstream server holds the models that it holds; use a container of Mode SingleModel", dataplane.ErrCannotStart)
	}
	urls := l.cfg.all()
	if len(urls) == 0 {
		return nil, fmt.Errorf("%w: no URL is configured", dataplane.ErrCannotStart)
	}
	n := (l.launches.Add(1) - 1) % uint64(len(urls))
	u, err := parse(urls[n])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", dataplane.ErrCannotStart, err)
	}
	cfg := l.reach(u)
	cfg.StartupTimeout = spec.StartupTimeout
	w, err := dataplane.StartHTTP(ctx, cfg)
	switch {
	case err == nil:
		return w, nil
	case errors.Is(err, dataplane.ErrPing): // nothing but time can have ended the pings
		return nil, fmt.Errorf("%w: %w", err, context.DeadlineExceeded)
	}
	return nil, err
}

// reach says how the server at a URL is reached.
func (l *launcher) reach(u *url.URL) dataplane.HTTPConfig {
	base := strings.TrimSuffix(u.EscapedPath(), "/")
	path := func(configured, standard string) string {
		if configured == "" {
			configured = standard
		}
		return base + configured
	}
	cfg := dataplane.HTTPConfig{
		Kind: Kind, Host: u.Host, Header: l.cfg.Headers,
		InvocationsPath: path(l.cfg.InvocationsPath, "/invocations"),
		ConnectTimeout:  connectTimeout, TimeScale: l.timeScale,
	}
	if l.cfg.PingPath == pingConnect {
		cfg.PingConnect = true
	} else {
		cfg.PingPath = path(l.cfg.PingPath, "/ping")
	}
	port := u.Port()
	if u.Scheme == "https" {
		cfg.TLS = &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
		if port == "" {
			port = "443"
		}
	} else if port == "" {
		port = "80"
	}
	cfg.Address = net.JoinHostPort(u.Hostname(), port)
	return cfg
}
