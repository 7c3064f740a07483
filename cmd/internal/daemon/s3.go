package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"

	"github.com/sagelocal/sagelocal/dataplane/objects"
)

// S3Config says where objects are: in the embedded server, or in another S3.
type S3Config struct {
	// Listen is the embedded server's address; see Options.S3Listen.
	Listen string `yaml:"listen"`
	// Endpoint is the URL of another S3, which takes the embedded server's place.
	// Credentials come from where AWS's SDKs look for them.
	Endpoint string `yaml:"endpoint"`
	// Region is what requests to Endpoint are signed for; the daemon's if empty.
	Region string `yaml:"region"`
	// PathStyle puts the bucket into the path of Endpoint's URLs.
	PathStyle bool `yaml:"path_style"`
}

func (c *S3Config) check() error {
	if c.Endpoint == "" {
		if c.Region != "" || c.PathStyle {
			return errors.New("region and path_style go with endpoint")
		}
		return nil
	}
	if u, err := url.Parse(c.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("endpoint %q is not an http or https URL", c.Endpoint)
	}
	if c.Listen != "" && c.Listen != off {
		return errors.New("there is nothing to listen for beside endpoint")
	}
	return nil
}

// openS3 makes the daemon's S3. The embedded server's port is opened now, and its
// store with the first request.
func (d *Daemon) openS3(o Options, config *Config) error {
	c := config.S3
	region := c.Region
	if region == "" {
		region = o.Region
	}
	s3, err := objects.Open(context.Background(), objects.Options{
		Dir: filepath.Join(d.dataDir, "s3"), Buckets: config.Buckets,
		Endpoint: c.Endpoint, Region: region, PathStyle: c.PathStyle,
		Hosts: o.Hosts, Volatile: o.InMemory, Logger: o.Logger,
	})
	if err != nil {
		return err
	}
	d.s3 = s3
	d.onStop(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, drainTimeout)
		defer cancel()
		return s3.Close(ctx)
	})
	asked := c.Listen
	if o.S3Listen != "" {
		asked = o.S3Listen
	}
	if c.Endpoint != "" {
		if o.S3Listen != "" && o.S3Listen != off {
			return errors.New("--s3-listen and the configuration file's s3.endpoint exclude each other")
		}
		asked = off
	}
	return d.serveS3(o, asked)
}

// serveS3 opens the port of the embedded server. Nobody has asked for the one
// beside the daemon's own, so the daemon does without if it is taken.
func (d *Daemon) serveS3(o Options, address string) error {
	if address == off {
		return nil
	}
	asked := address != ""
	if !asked {
		address = behind(d.listener.Addr(), o.Listen, 1)
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		if asked {
			return fmt.Errorf("s3: %w", err)
		}
		o.Logger.Warn("S3 clients cannot reach the embedded server; choose an address with --s3-listen", "error", err)
		return nil
	}
	d.s3Address = listener.Addr().String()
	go func() {
		if err := d.s3.Serve(listener); err != nil {
			o.Logger.Error("the embedded S3 server ended", "error", err)
		}
	}()
	return nil
}

// behind is a port some way behind the daemon's own on loopback, or any if its own
// was any.
func behind(own net.Addr, asked string, way int) string {
	port := 0
	if _, given, err := net.SplitHostPort(asked); err == nil && given != "0" && given != "" {
		if tcp, ok := own.(*net.TCPAddr); ok && tcp.Port+way < 1<<16 {
			port = tcp.Port + way
		}
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// S3URL is where S3 clients reach the embedded server; empty if they cannot.
func (d *Daemon) S3URL() string {
	if d.s3Address == "" {
		return ""
	}
	return "http://" + d.s3Address
}
