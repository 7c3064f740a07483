package dataplane

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gobwas/ws"
)

// OpenDuplex makes a WebSocket to the container; see DuplexWorker.
func (w *HTTPWorker) OpenDuplex(ctx context.Context, req *Request) (Duplex, error) {
	target, err := url.ParseRequestURI(cmp.Or(req.Path, BidirectionalPath))
	if err != nil || !isFieldValue(req.Path) {
		return nil, fmt.Errorf("%w: path %q", ErrDuplexRefused, req.Path)
	}
	var deadline time.Time
	if req.Timeout > 0 {
		deadline = time.Now().Add(req.Timeout)
	}
	c, err := w.pool.dial(ctx, deadline)
	if err != nil {
		return nil, w.refused(ctx, err)
	}
	r, err := w.shake(ctx, c, deadline, target)
	if err != nil {
		w.pool.discard(c)
		return nil, w.refused(ctx, err)
	}
	return newSocket(c.Conn, r, func() { w.pool.discard(c) }), nil
}

// shake is WebSocket's opening handshake. The container's Host is the one that it
// is configured to be known by.
func (w *HTTPWorker) shake(ctx context.Context, c *httpConn, deadline time.Time, target *url.URL) (*bufio.Reader, error) {
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := afterFunc(ctx, c.abort)
	header := http.Header{}
	for name, value := range w.cfg.Header {
		header.Set(name, value)
	}
	target.Scheme, target.Host = "ws", w.cfg.Host
	dialer := ws.Dialer{Host: w.cfg.Host, Header: ws.HandshakeHeaderHTTP(header)}
	r, _, err := dialer.Upgrade(c.Conn, target)
	if !stop() && err == nil {
		err = ErrDuplexClosed
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		if r != nil {
			ws.PutReader(r)
		}
		return nil, err
	}
	if r == nil { // the container has said nothing yet
		r = bufio.NewReader(c.Conn)
	}
	return r, nil
}

// refused says which of OpenDuplex's errors it is.
func (w *HTTPWorker) refused(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", w.cfg.Kind, w.cfg.Address, ctx.Err())
	}
	if errors.Is(err, errDeadline) {
		err = ErrTimeout
	}
	return fmt.Errorf("%s %s: %w: %w", w.cfg.Kind, w.cfg.Address, ErrDuplexRefused, err)
}
