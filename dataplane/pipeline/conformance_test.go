package pipeline

import (
	"context"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
	"github.com/sagelocal/sagelocal/dataplane/process"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
)

func TestMain(m *testing.M) {
	process.Supervise()
	launchertest.ServeModel()
	if code := m.Run(); code != 0 {
		os.Exit(code)
	}
	if err := goleak.Find(); err != nil {
		panic(err)
	}
}

// threefold launches three containers for each that is asked for, with one log.
type threefold struct{ kind dataplane.Launcher }

func (l threefold) Launch(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	for _, name := range []string{"first", "second", "third"} {
		c := spec.Container
		c.Hostname = name
		spec.Containers = append(spec.Containers, c)
	}
	return New(Config{
		Launcher: func(dataplane.Container) dataplane.Launcher { return l.kind },
		OpenLog:  func(spec *dataplane.Spec, _ string) (io.WriteCloser, error) { return kept{spec.Log}, nil },
	}).Launch(ctx, spec)
}

// kept is a log that outlives its container.
type kept struct{ io.Writer }

func (kept) Close() error { return nil }

func shapeOf(string) (dataplane.Shape, bool) {
	return dataplane.Shape{InstanceType: "ml.m5.large", VCPU: 2}, true
}

func simulation(cfg simulated.Config) dataplane.Launcher { return simulated.New(cfg, shapeOf, 1) }

func modelServer(s *launchertest.ModelServer, env ...string) dataplane.Launcher {
	return process.New(process.Config{Command: s.Command(), Env: s.Env(env...)}, ".", nil, 100)
}

func TestPipelineOfSimulatedConforms(t *testing.T) {
	launchertest.Run(t, func(*testing.T) launchertest.Fixture {
		return launchertest.Fixture{
			Launcher:      threefold{simulation(simulated.Config{})},
			Slow:          threefold{simulation(simulated.Config{Latency: simulated.Latency{Distribution: "constant", Mean: time.Minute}})},
			Unhealthy:     threefold{simulation(simulated.Config{Startup: time.Hour})},
			Failing:       threefold{simulation(simulated.Config{FailureRate: 1})},
			FailureStatus: http.StatusInternalServerError,
			Prints:        true,
		}
	})
}

func TestPipelineOfProcessesConforms(t *testing.T) {
	launchertest.Run(t, func(t *testing.T) launchertest.Fixture {
		s := launchertest.NewModelServer(t)
		return launchertest.Fixture{
			Launcher:    threefold{modelServer(s)},
			Slow:        threefold{modelServer(s, launchertest.DelayVariable, "1m")},
			Unhealthy:   threefold{modelServer(s, launchertest.PingsVariable, "-1")},
			ModelServer: true,
			Chained:     true,
			Prints:      true,
			// No Leftovers: when one container has died the others are there until
			// Stop. TestDeathOfOneContainerEndsTheInstance looks for them.
		}
	})
}
