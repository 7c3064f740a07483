package dataplane

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"
)

// The figures of SageMaker's container contract (docs:
// your-algorithms-inference-code). They are about the worker's own code, so the
// time scale leaves them alone.
const (
	// ConnectTimeout: a container must accept a connection within 250 ms.
	ConnectTimeout = 250 * time.Millisecond
	// PingTimeout: a container must answer GET /ping within 2 s.
	PingTimeout = 2 * time.Second
	// MaxAnswer is the payload limit of a real-time answer, 25 MB.
	MaxAnswer = 25 << 20
)

// Backing is what stands behind the address of an HTTP worker and can be
// stopped: a process, a container, a pod. Its methods mean what those of Worker
// mean.
type Backing interface {
	Done() <-chan struct{}
	Err() error
	Stop(ctx context.Context, grace time.Duration) error
}

// HTTPConfig says how an HTTP worker is reached.
type HTTPConfig struct {
	Kind    string
	Address string // host:port

	TLS  *tls.Config // nil means plain HTTP
	Host string      // Host header; empty means Address

	// InvocationsPath and PingPath are request targets; empty means /invocations
	// and /ping. With PingConnect, accepting a TCP connection is the health check.
	InvocationsPath string
	PingPath        string
	PingConnect     bool
	Header          map[string]string // added to every request

	ConnectTimeout time.Duration // zero means ConnectTimeout
	MaxAnswer      int           // bytes; zero means MaxAnswer

	// StartupTimeout is how long the first ping may take to succeed; zero means
	// no limit but the context's. The interval of the pings after that is 5 s
	// divided by TimeScale; zero means 1.
	StartupTimeout time.Duration
	TimeScale      float64

	Backing Backing // nil: a server that is not ours to stop
}

// HTTPWorker is a worker that speaks SageMaker's container contract over HTTP:
// GET /ping and POST /invocations. Every kind but the in-process one embeds it
// or returns it.
type HTTPWorker struct {
	cfg     HTTPConfig
	pool    httpPool
	request requestHead // of POST /invocations
	ping    requestHead

	done    chan struct{}
	once    sync.Once // closes done
	err     error     // set before done is closed
	quit    context.CancelFunc
	polling chan struct{} // closed when the poll has ended

	stopOnce sync.Once
	stopErr  error
}

// ErrInvalidHeader: a header value of the caller's cannot be sent to a worker
// because it contains a control character.
var ErrInvalidHeader = errors.New("header value contains a control character")

// StartHTTP waits until the worker answers its ping with 200 and then polls it.
// On failure cfg.Backing has been stopped, and the error wraps ErrPing or the
// context's error.
func StartHTTP(ctx context.Context, cfg HTTPConfig) (*HTTPWorker, error) {
	w, err := newHTTPWorker(cfg)
	if err == nil {
		err = w.awaitPing(ctx)
	}
	if err != nil {
		if w != nil {
			w.pool.close()
		}
		if cfg.Backing != nil {
			err = errors.Join(err, cfg.Backing.Stop(context.WithoutCancel(ctx), 0))
		}
		return nil, err
	}
	poll, quit := context.WithCancel(context.WithoutCancel(ctx))
	w.quit = quit
	go w.pollHealth(poll)
	return w, nil
}

func newHTTPWorker(cfg HTTPConfig) (*HTTPWorker, error) {
	cfg.Host = cmp.Or(cfg.Host, cfg.Address)
	cfg.InvocationsPath = cmp.Or(cfg.InvocationsPath, "/invocations")
	cfg.PingPath = cmp.Or(cfg.PingPath, "/ping")
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, ConnectTimeout)
	cfg.MaxAnswer = cmp.Or(cfg.MaxAnswer, MaxAnswer)
	cfg.TimeScale = cmp.Or(cfg.TimeScale, 1)
	w := &HTTPWorker{cfg: cfg, done: make(chan struct{}), polling: make(chan struct{})}
	w.pool.address, w.pool.tls, w.pool.connectTimeout = cfg.Address, cfg.TLS, cfg.ConnectTimeout
	var err error
	if w.request, err = newRequestHead("POST", cfg.InvocationsPath, cfg.Host, cfg.Header); err == nil {
		w.ping, err = newRequestHead("GET", cfg.PingPath, cfg.Host, cfg.Header)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCannotStart, err)
	}
	return w, nil
}

// Invoke posts one request; see Worker.
func (w *HTTPWorker) Invoke(ctx context.Context, req *Request, ans *Answer) error {
	if !sendable(req) {
		return ErrInvalidHeader
	}
	now := req.Strand.Now()
	var deadline time.Time
	if req.Timeout > 0 {
		deadline = now.Add(req.Timeout)
	}
	return w.exchange(ctx, now, deadline, &w.request, req, ans)
}

// exchange sends one request and reads its answer, over an idle connection if
// there is one. A server may close an idle connection at any moment, so when a
// reused one yields no byte of an answer the request is sent once more, over a
// new one.
func (w *HTTPWorker) exchange(ctx context.Context, now, deadline time.Time, head *requestHead, req *Request, ans *Answer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := w.pool.idle(now, req.Strand)
	reused := c != nil
	for {
		var err error
		if c == nil {
			req.Strand.Leave()
			if c, err = w.pool.dial(ctx, deadline); err != nil {
				return w.explain(ctx, deadline, err)
			}
		}
		keep, err := c.exchange(ctx, deadline, head, req, ans, w.cfg.MaxAnswer)
		if keep {
			w.pool.put(c, req.Strand.Now())
			return nil
		}
		w.pool.discard(c)
		if err == nil {
			return nil
		}
		if reused && !c.answered && ctx.Err() == nil && !errors.Is(err, errDeadline) {
			reused, c = false, nil
			continue
		}
		return w.explain(ctx, deadline, err)
	}
}

// explain says which of Worker.Invoke's errors a failed exchange is.
func (w *HTTPWorker) explain(ctx context.Context, deadline time.Time, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s %s: %w", w.cfg.Kind, w.cfg.Address, ctx.Err())
	case errors.Is(err, ErrTooLarge):
		return fmt.Errorf("%s %s: %w", w.cfg.Kind, w.cfg.Address, err)
	case errors.Is(err, errDeadline) && !deadline.IsZero() && !time.Now().Before(deadline):
		return fmt.Errorf("%s %s: %w", w.cfg.Kind, w.cfg.Address, ErrTimeout)
	}
	return fmt.Errorf("%s %s: %w: %w", w.cfg.Kind, w.cfg.Address, ErrBroken, err)
}

// Done is closed when the backing ended, three pings in a row failed, or Stop
// was called.
func (w *HTTPWorker) Done() <-chan struct{} { return w.done }

// Err tells why Done is closed.
func (w *HTTPWorker) Err() error {
	select {
	case <-w.done:
		return w.err
	default:
		return nil
	}
}

func (w *HTTPWorker) end(err error) {
	w.once.Do(func() {
		w.err = err
		close(w.done)
	})
}

// Stop ends the backing. A server that is not ours goes on running; then Stop
// lets the requests under way finish within grace.
func (w *HTTPWorker) Stop(ctx context.Context, grace time.Duration) error {
	w.stopOnce.Do(func() {
		w.end(nil)
		w.quit()
		<-w.polling
		// Many servers wait at SIGTERM for the clients of idle connections.
		drained := w.pool.shut()
		if w.cfg.Backing != nil {
			w.stopErr = w.cfg.Backing.Stop(ctx, grace)
		} else {
			await(ctx, drained, grace)
		}
		w.pool.close()
	})
	return w.stopErr
}

// await returns when the channel is closed, grace has passed or ctx ends.
func await(ctx context.Context, ch <-chan struct{}, grace time.Duration) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Address is host:port.
func (w *HTTPWorker) Address() string { return w.cfg.Address }

// Kind is the kind's name in the configuration file.
func (w *HTTPWorker) Kind() string { return w.cfg.Kind }
