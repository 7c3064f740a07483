// Package daemon puts the parts of sagelocal together: New binds, Serve answers,
// Stop takes everything down in the reverse order.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sagelocal/sagelocal/api"
	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/objects"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// Options are the settings of `sagelocal serve`.
type Options struct {
	Listen string // host:port; port 0 chooses a free one
	// S3Listen is the embedded S3 server's host:port, or "off". Empty means what
	// the configuration file says, or else the port behind Listen's on 127.0.0.1.
	S3Listen string
	// HTTP2Listen is the host:port of bidirectional streams, or "off". Empty means
	// the third port behind Listen's on 127.0.0.1. HTTP2Certificate and HTTP2Key
	// are PEM files for its TLS; without them one is made.
	HTTP2Listen      string
	HTTP2Certificate string
	HTTP2Key         string

	DataDir   string
	Config    string // path of the configuration file; empty for none
	InMemory  bool
	Seed      uint64
	TimeScale float64
	Account   string
	Region    string
	Hosts     []string
	Version   string
	Logger    *slog.Logger
}

// Daemon is a running sagelocal.
type Daemon struct {
	listener  net.Listener
	server    *api.Server
	plane     *controlplane.Plane
	s3        *objects.S3
	s3Address string
	http2     *api.HTTP2 // nil without a port

	http2Address string
	dataDir      string
	cleanups     []func(context.Context) error // undone last in, first out
}

// statusDelay is how much later an endpoint may become InService for its status
// to share another write's sync of the disk.
const statusDelay = 2 * time.Millisecond

// New opens the data directory, binds the address and starts the reconcilers.
// After an error nothing is left behind.
func New(o Options) (d *Daemon, err error) {
	config, err := ReadConfig(o.Config)
	if err != nil {
		return nil, err
	}
	d = &Daemon{dataDir: o.DataDir}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Stop(context.Background()))
		}
	}()
	if err := d.makeDirs(o.InMemory); err != nil {
		return d, err
	}
	db, err := store.Open(store.Options{
		Path: filepath.Join(d.dataDir, "sagelocal.db"), InMemory: o.InMemory, CarryDelay: statusDelay,
		Tables: controlplane.Tables(), Logger: o.Logger,
	})
	if err != nil {
		return d, err
	}
	d.onStop(func(context.Context) error { return db.Close() })

	if d.listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", o.Listen); err != nil {
		return d, fmt.Errorf("listen: %w", err)
	}
	d.onStop(func(context.Context) error {
		if err := d.listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	if err := d.openS3(o, config); err != nil {
		return d, err
	}
	if err := d.build(o, config, db); err != nil {
		return d, err
	}
	return d, d.plane.Start()
}

// makeDirs takes the place of a data directory that does not exist, and a
// temporary one for --in-memory.
func (d *Daemon) makeDirs(inMemory bool) (err error) {
	if inMemory {
		if d.dataDir, err = os.MkdirTemp("", "sagelocal-"); err != nil {
			return fmt.Errorf("temporary directory: %w", err)
		}
		d.onStop(func(context.Context) error { return os.RemoveAll(d.dataDir) })
	}
	if err := os.MkdirAll(d.dataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

func (d *Daemon) build(o Options, config *Config, db *store.DB) error {
	fleet := dataplane.NewFleet()
	logs := &dataplane.Logs{Dir: filepath.Join(d.dataDir, "logs")}
	data := &dataplane.ModelData{S3: d.s3.Client, Strict: config.S3.Endpoint != ""}
	captures := &dataplane.Captures{
		S3:        func(bucket string) dataplane.ObjectPutter { return d.s3.Client(bucket) },
		TimeScale: o.TimeScale, Timings: config.Capture.Timings, Logger: o.Logger,
	}
	responses := map[string][]dataplane.ResponseRule{}
	faults := map[string]dataplane.FaultScript{}
	for name, script := range config.Faults {
		faults[strings.ToLower(name)] = script
	}
	for name, rules := range config.Responses {
		responses[strings.ToLower(name)] = rules
	}
	d.plane = controlplane.New(controlplane.Options{
		DB: db, Fleet: fleet, Launcher: newLaunchers(config, data, o.TimeScale).For,
		ModelData: data, Captures: captures, Logs: logs, Responses: responses, Faults: faults, Dir: d.dataDir,
		Quotas: config.Quotas, Capacity: config.capacity, Serverless: config.Serverless,
		S3: d.s3.Client, Async: config.Async, Subscriptions: config.subscriptions,
		TimeScale: o.TimeScale, Seed: o.Seed, Logger: o.Logger,
	})
	d.onStop(d.plane.Stop)
	edge := api.Options{
		Plane: d.plane, Fleet: fleet, Logs: logs,
		Scope: sdkcompat.Scope{Account: o.Account, Region: o.Region},
		Hosts: o.Hosts, Version: o.Version, Logger: o.Logger,
	}
	d.server = api.New(edge)
	d.onStop(d.shutdown)
	return d.serveHTTP2(o, edge)
}

// drainTimeout is how long requests under way may take once the daemon stops.
const drainTimeout = 5 * time.Second

func (d *Daemon) onStop(f func(context.Context) error) { d.cleanups = append(d.cleanups, f) }

// URL is where the daemon answers.
func (d *Daemon) URL() string { return "http://" + d.listener.Addr().String() }

// DataDir is where its state is.
func (d *Daemon) DataDir() string { return d.dataDir }

// Serve answers until Stop.
func (d *Daemon) Serve() error { return d.server.Serve(d.listener) }

// Stop ends requests, workers and the store, in this order, and returns when all
// are gone or ctx ends.
func (d *Daemon) Stop(ctx context.Context) error {
	var errs []error
	for i := len(d.cleanups) - 1; i >= 0; i-- {
		errs = append(errs, d.cleanups[i](ctx))
	}
	d.cleanups = nil
	return errors.Join(errs...)
}
