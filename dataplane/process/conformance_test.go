package process

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

func TestMain(m *testing.M) {
	Supervise()
	launchertest.ServeModel()
	beParent()
	if code := m.Run(); code != 0 {
		os.Exit(code)
	}
	if err := goleak.Find(); err != nil {
		panic(err)
	}
}

// modelServer is a launcher of model servers.
func modelServer(s *launchertest.ModelServer, env ...string) dataplane.Launcher {
	return New(Config{Command: s.Command(), Env: s.Env(env...)}, ".", nil, 100)
}

func TestProcessConforms(t *testing.T) {
	launchertest.Run(t, func(t *testing.T) launchertest.Fixture {
		s := launchertest.NewModelServer(t)
		return launchertest.Fixture{
			Launcher:    modelServer(s),
			Slow:        modelServer(s, launchertest.DelayVariable, "1m"),
			Unhealthy:   modelServer(s, launchertest.PingsVariable, "-1"),
			ModelServer: true,
			Prints:      true,
			Leftovers:   s.Alive,
		}
	})
}
