package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	firstPingInterval = 10 * time.Millisecond
	lastPingInterval  = time.Second
	// pingInterval is how often a container in service is pinged. AWS does not
	// publish it; container logs show about 5 s.
	pingInterval = 5 * time.Second
	// minPingInterval bounds what the time scale makes of it: an upstream may be
	// somebody else's server.
	minPingInterval = 50 * time.Millisecond
	// unhealthyAfter is the number of failures in a row.
	unhealthyAfter = 3
)

// awaitPing pings until the answer is 200. The interval grows to a second, for
// models that take minutes to load.
func (w *HTTPWorker) awaitPing(ctx context.Context) error {
	limit := ctx
	if w.cfg.StartupTimeout > 0 {
		var cancel context.CancelFunc
		limit, cancel = context.WithTimeout(ctx, w.cfg.StartupTimeout)
		defer cancel()
	}
	var ans Answer
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last error
	for interval := firstPingInterval; ; interval = min(interval*5/4, lastPingInterval) {
		select {
		case <-timer.C:
		case <-w.backingDone():
			return fmt.Errorf("%w: it ended before it was ready: %w", ErrPing, w.backingErr())
		case <-limit.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("waiting for the ping of %s: %w", w.cfg.Address, ctx.Err())
			}
			return errors.Join(fmt.Errorf("%w within %v", ErrPing, w.cfg.StartupTimeout), last)
		}
		err := w.pingOnce(limit, &ans)
		if err == nil {
			return nil
		}
		if limit.Err() == nil || last == nil {
			last = err
		}
		timer.Reset(interval)
	}
}

// pollHealth pings a worker in service until it ends.
func (w *HTTPWorker) pollHealth(ctx context.Context) {
	defer close(w.polling)
	interval := max(time.Duration(float64(pingInterval)/w.cfg.TimeScale), minPingInterval)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var ans Answer
	for failures := 0; ; {
		select {
		case <-ticker.C:
		case <-w.backingDone():
			w.end(w.backingErr())
			return
		case <-ctx.Done():
			return
		}
		err := w.pingOnce(ctx, &ans)
		switch {
		case err == nil:
			failures = 0
		case ctx.Err() != nil:
			return
		default:
			failures++
		}
		if failures == unhealthyAfter {
			w.end(fmt.Errorf("%d pings in a row failed: %w", failures, err))
			return
		}
	}
}

// pingOnce is nil if the worker is healthy.
func (w *HTTPWorker) pingOnce(ctx context.Context, ans *Answer) error {
	now := time.Now()
	deadline := now.Add(PingTimeout)
	if w.cfg.PingConnect {
		c, err := w.pool.dial(ctx, deadline)
		if err != nil {
			return w.explain(ctx, deadline, err)
		}
		w.pool.discard(c)
		return nil
	}
	if err := w.exchange(ctx, now, deadline, &w.ping, &Request{}, ans); err != nil {
		return err
	}
	if ans.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s answered %d", w.cfg.PingPath, ans.StatusCode)
	}
	return nil
}

func (w *HTTPWorker) backingDone() <-chan struct{} {
	if w.cfg.Backing == nil {
		return nil
	}
	return w.cfg.Backing.Done()
}

func (w *HTTPWorker) backingErr() error {
	if err := w.cfg.Backing.Err(); err != nil {
		return err
	}
	return errors.New("it ended")
}
