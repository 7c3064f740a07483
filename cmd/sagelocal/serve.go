package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sagelocal/sagelocal/cmd/internal/daemon"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// stopTimeout is how long a stop may take, workers included.
const stopTimeout = 28 * time.Second

type serveFlags struct {
	daemon.Options
	logLevel  string
	logFormat string
}

func serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the SageMaker and SageMaker Runtime APIs",
		Long: "Serve the SageMaker and SageMaker Runtime APIs until SIGTERM or Ctrl-C.\n\n" +
			"Every flag can also be given in the environment: --data-dir as SAGELOCAL_DATA_DIR.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("seed") {
				f.Seed = rand.Uint64()
			}
			return serve(cmd.Context(), &f, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Listen, "listen", "127.0.0.1:7240", "address to answer on; port 0 chooses a free one")
	flags.StringVar(&f.S3Listen, "s3-listen", "", "address of the embedded S3 server, or off (default 127.0.0.1 and the port behind --listen's)")
	flags.StringVar(&f.HTTP2Listen, "http2-listen", "", "address of bidirectional streams, over HTTP/2, or off (default 127.0.0.1 and the third port behind --listen's)")
	flags.StringVar(&f.HTTP2Certificate, "http2-certificate", "", "PEM file of the certificate and its chain for --http2-listen (default one made when it is first needed)")
	flags.StringVar(&f.HTTP2Key, "http2-key", "", "PEM file of the certificate's key")
	flags.StringVar(&f.DataDir, "data-dir", defaultDataDir(), "directory of the state, the logs and the workers' files")
	flags.StringVar(&f.Config, "config", "", "configuration file (YAML): image rules, buckets, S3, scripted responses")
	flags.BoolVar(&f.InMemory, "in-memory", false, "keep nothing; --data-dir is not used")
	flags.Uint64Var(&f.Seed, "seed", 0, "seed of every random choice, for repeatable runs (default random)")
	flags.Float64Var(&f.TimeScale, "time-scale", 1, "divide every wait of the control loops by this")
	flags.StringVar(&f.Account, "account", "123456789012", "account of requests whose access key is not twelve digits")
	flags.StringVar(&f.Region, "region", "us-east-1", "region of requests without SigV4 credentials")
	flags.StringSliceVar(&f.Hosts, "allow-host", nil, "name that requests may use as Host, besides addresses and localhost")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	return cmd
}

// defaultDataDir follows the XDG base directory specification.
func defaultDataDir() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sagelocal")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "sagelocal")
	}
	return filepath.Join(home, ".local", "share", "sagelocal")
}

func (f *serveFlags) check() error {
	switch {
	case !sdkcompat.IsAccount(f.Account):
		return fmt.Errorf("--account %q is not twelve digits", f.Account)
	case f.TimeScale <= 0 || math.IsInf(f.TimeScale, 0) || math.IsNaN(f.TimeScale):
		return fmt.Errorf("--time-scale must be a number above zero")
	}
	return nil
}

func (f *serveFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q is neither text nor json", f.logFormat)
}

func serve(ctx context.Context, f *serveFlags, out io.Writer) error {
	if err := f.check(); err != nil {
		return err
	}
	logger, err := f.logger(os.Stderr)
	if err != nil {
		return err
	}
	f.Logger, f.Version = logger, version
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()

	d, err := daemon.New(f.Options)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- d.Serve() }()
	announce(out, f, d)

	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	stop() // a second Ctrl-C ends the process at once
	logger.Info("stopping")
	deadline, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return errors.Join(err, d.Stop(deadline))
}

// announce prints what somebody needs to point an SDK here.
func announce(out io.Writer, f *serveFlags, d *daemon.Daemon) {
	state := d.DataDir()
	if f.InMemory {
		state = "in memory"
	}
	others := ""
	if url := d.HTTP2URL(); url != "" {
		others = "  export AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME_HTTP2=" + url + "\n"
	}
	if url := d.S3URL(); url != "" {
		others += "  export AWS_ENDPOINT_URL_S3=" + url + "\n"
	}
	fmt.Fprintf(out, `sagelocal %s answers on %s
  state    %s
  account  %s, region %s, seed %d (%s)
  export AWS_ENDPOINT_URL_SAGEMAKER=%s
  export AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=%s
%s`, version, d.URL(), state, f.Account, f.Region, f.Seed, runtime.Version(), d.URL(), d.URL(), others)
}
