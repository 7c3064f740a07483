// Package objects is the S3 of the daemon: a server of its own, whose objects
// lie in the data directory, or another S3 that the operator has named. Model
// data, asynchronous inference and data capture reach either through Client.
package objects

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/valyala/fasthttp/fasthttputil"
)

// Options are the settings of S3.
type Options struct {
	// Dir is where the server keeps its objects. It is made at the first request.
	Dir string
	// Buckets are local directories, by absolute path, that stand for buckets. They can
	// be read and listed, and not be written to.
	Buckets map[string]string
	// Endpoint is the URL of another S3 for all buckets but Buckets; empty for the
	// embedded server. Its credentials come from where AWS's SDKs look for them.
	Endpoint string
	// Region is what requests are signed for.
	Region string
	// PathStyle puts the bucket into the path of Endpoint's URL and not into its host.
	PathStyle bool
	// Hosts are names that requests may use as Host, besides addresses and localhost.
	Hosts []string
	// Volatile leaves out what only a power cut makes necessary.
	Volatile bool
	Logger   *slog.Logger
}

// S3 is where the daemon's objects are. Its methods are safe for concurrent use.
type S3 struct {
	server   *http.Server
	backend  *backend
	inner    *fasthttputil.InmemoryListener
	embedded *s3.Client
	conns    *http.Transport // of embedded
	other    *s3.Client      // nil without Endpoint
	buckets  map[string]string
}

// Open makes an S3. It opens neither file nor port: the first request opens the
// store, and Serve is given its listener.
func Open(ctx context.Context, o Options) (*S3, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Region = cmp.Or(o.Region, "us-east-1")
	s := &S3{backend: newBackend(o), inner: fasthttputil.NewInmemoryListener(), buckets: o.Buckets}
	s.server = &http.Server{
		Handler:           newHandler(s.backend, o),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	s.conns = &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return s.inner.Dial() },
		DisableCompression: true,
		MaxIdleConns:       16, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
	}
	s.embedded = s3.New(s3.Options{
		BaseEndpoint: aws.String("http://localhost"), Region: o.Region, UsePathStyle: true,
		Credentials: aws.AnonymousCredentials{},
		HTTPClient:  &http.Client{Transport: s.conns},
		DisableLogOutputChecksumValidationSkipped: true,
	})
	if o.Endpoint != "" {
		cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(o.Region))
		if err != nil {
			return nil, fmt.Errorf("s3: %w", err)
		}
		s.other = s3.NewFromConfig(cfg, func(c *s3.Options) {
			c.BaseEndpoint, c.UsePathStyle = &o.Endpoint, o.PathStyle
			c.RequestChecksumCalculation = checksums(&cfg)
			c.DisableLogOutputChecksumValidationSkipped = true
		})
	}
	go s.server.Serve(s.inner) //nolint:errcheck // ends with Close
	return s, nil
}

// checksums are what the operator asks for in AWS's own settings, else those that
// are required: by default the SDK adds a CRC32 to all that it writes, which
// servers other than AWS's refuse (aws-sdk-go-v2#3003, aws-sdk-js-v3#6810).
func checksums(cfg *aws.Config) aws.RequestChecksumCalculation {
	for _, source := range cfg.ConfigSources {
		asked := aws.RequestChecksumCalculationUnset
		switch s := source.(type) {
		case config.EnvConfig:
			asked = s.RequestChecksumCalculation
		case config.SharedConfig:
			asked = s.RequestChecksumCalculation
		}
		if asked != aws.RequestChecksumCalculationUnset {
			return asked
		}
	}
	return aws.RequestChecksumCalculationWhenRequired
}

// Client is the S3 client for a bucket.
func (s *S3) Client(bucket string) *s3.Client {
	if s.other != nil && s.buckets[bucket] == "" {
		return s.other
	}
	return s.embedded
}

// Serve lets the embedded server answer on l until Close.
func (s *S3) Serve(l net.Listener) error {
	if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close waits for requests under way until ctx ends, and closes the store.
func (s *S3) Close(ctx context.Context) error {
	s.conns.CloseIdleConnections() // Shutdown waits 5 s for one that never carried a request
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	return errors.Join(err, s.backend.close())
}
