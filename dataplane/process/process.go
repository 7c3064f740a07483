// Package process is the kind of worker that runs a program of the operator's
// on this machine, one process for each instance, under SageMaker's container
// contract (docs: your-algorithms-inference-code): model data is fetched before
// the start, the port and the model's directory stand in the environment, GET
// /ping tells health, POST /invocations is an inference, SIGTERM and later
// SIGKILL end it.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Kind is the name in the configuration file.
const Kind = "process"

// connectTimeout is longer than the container contract's 250 ms. The kernel
// accepts connections for a local process, so what can be late is this program,
// when all workers compute on the same few processors.
const connectTimeout = 2 * time.Second

type launcher struct {
	cfg       Config
	configDir string
	data      *dataplane.ModelData
	timeScale float64
	reserve   func() (*ports, error)
}

// New makes the launcher of a validated configuration. configDir is the
// directory of the configuration file. The interval of health checks is divided
// by timeScale.
//
// The program that calls it must call Supervise first thing in main.
func New(cfg Config, configDir string, data *dataplane.ModelData, timeScale float64) dataplane.Launcher {
	if data == nil {
		data = new(dataplane.ModelData) // there is no S3
	}
	return &launcher{cfg: cfg, configDir: configDir, data: data, timeScale: timeScale, reserve: reservePorts}
}

// errPortTaken: the process ended early and somebody else has its port.
var errPortTaken = errors.New("another program took its port")

// Launch starts a process; see dataplane.Launcher. A port that another program
// takes before the worker binds it costs one more attempt.
func (l *launcher) Launch(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	if spec.Log == nil {
		spec.Log = io.Discard
	}
	modelDir, err := l.download(ctx, &spec)
	if err != nil {
		return nil, err
	}
	w, err := l.attempt(ctx, &spec, modelDir)
	if errors.Is(err, errPortTaken) {
		fmt.Fprintf(spec.Log, "sagelocal: %v; trying another port\n", errPortTaken)
		w, err = l.attempt(ctx, &spec, modelDir)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// channelsDir is where AdditionalModelDataSources are, beside the model's own
// directory.
const channelsDir = "additional-model-data-sources"

// download puts the model data where SM_MODEL_DIR will point, and additional ones
// beside it. Without model data the directory is empty, as /opt/ml/model is.
func (l *launcher) download(ctx context.Context, spec *dataplane.Spec) (string, error) {
	base, err := filepath.Abs(spec.Dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w", dataplane.ErrModelData, err)
	}
	dir := filepath.Join(base, "model")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("%w: %w", dataplane.ErrModelData, err)
	}
	if spec.DownloadTimeout > 0 {
		limited, cancel := context.WithTimeout(ctx, spec.DownloadTimeout)
		defer cancel()
		ctx = limited
	}
	if source, ok := spec.Container.ModelData(); ok {
		if err := l.data.Download(ctx, source, dir); err != nil {
			return "", err
		}
	}
	for _, channel := range spec.Container.AdditionalModelDataSources {
		// The constraint check lets dots through, and no slashes.
		if channel.Name == "." || channel.Name == ".." || !filepath.IsLocal(channel.Name) {
			return "", fmt.Errorf("%w: channel name %q is not one of a directory", dataplane.ErrModelData, channel.Name)
		}
		if err := l.data.Download(ctx, channel.ModelSource, filepath.Join(base, channelsDir, channel.Name)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (l *launcher) attempt(ctx context.Context, spec *dataplane.Spec, modelDir string) (*dataplane.HTTPWorker, error) {
	ports, err := l.reserve()
	if err != nil {
		return nil, err
	}
	c, err := start(ctx, l.order(spec, ports, modelDir), spec.Log, ports.release)
	if err != nil {
		return nil, err
	}
	w, err := dataplane.StartHTTP(ctx, dataplane.HTTPConfig{
		Kind: Kind, Address: ports.address(),
		PingPath: l.cfg.PingPath, InvocationsPath: l.cfg.InvocationsPath,
		ConnectTimeout: connectTimeout, StartupTimeout: spec.StartupTimeout, TimeScale: l.timeScale, Backing: c,
	})
	switch {
	case err == nil:
		return w, nil
	case !errors.Is(err, dataplane.ErrPing):
		return nil, err
	case c.Err() == nil: // it lived until it was stopped
		return nil, fmt.Errorf("%w: %w%s", err, context.DeadlineExceeded, c.lastOutput())
	case ports.inUse():
		return nil, fmt.Errorf("%w: %w", err, errPortTaken)
	}
	return nil, err
}
