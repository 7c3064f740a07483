package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/sagelocal/sagelocal/api"
)

// off in the place of an address keeps a server without a port.
const off = "off"

// serveHTTP2 opens the port of bidirectional streams. Nobody has asked for the one
// three behind the daemon's own, so the daemon does without if it is taken.
func (d *Daemon) serveHTTP2(o Options, edge api.Options) error {
	certificates := &certificates{
		dir: d.dataDir, hosts: o.Hosts, certificate: o.HTTP2Certificate, key: o.HTTP2Key,
	}
	if err := certificates.check(); err != nil {
		return fmt.Errorf("http2: %w", err)
	}
	address, asked := o.HTTP2Listen, o.HTTP2Listen != ""
	if address == off {
		return nil
	}
	if !asked {
		address = behind(d.listener.Addr(), o.Listen, 3)
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		if asked {
			return fmt.Errorf("http2: %w", err)
		}
		o.Logger.Warn("bidirectional streams have no port; choose an address with --http2-listen", "error", err)
		return nil
	}
	d.http2Address = listener.Addr().String()
	d.http2 = api.NewHTTP2(api.HTTP2Options{Options: edge, Certificate: certificates.get, Authority: certificates.authority})
	go func() {
		if err := d.http2.Serve(listener); err != nil {
			o.Logger.Error("the server of bidirectional streams ended", "error", err)
		}
	}()
	return nil
}

// shutdown ends the requests of both servers, at the same time.
func (d *Daemon) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	streams := make(chan error, 1)
	go func() {
		if d.http2 == nil {
			streams <- nil
		} else {
			streams <- d.http2.Shutdown(ctx)
		}
	}()
	return errors.Join(d.server.Shutdown(ctx), <-streams)
}

// HTTP2URL is where clients reach bidirectional streams; empty if they cannot.
func (d *Daemon) HTTP2URL() string {
	if d.http2Address == "" {
		return ""
	}
	return "https://" + d.http2Address
}
