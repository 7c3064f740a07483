package process

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

// environ asks a model server for its environment.
func environ(t *testing.T, w dataplane.Worker) map[string]string {
	t.Helper()
	env := map[string]string{}
	body := launchertest.Do(t, w, launchertest.Ask("environ")).Body
	for line := range strings.SplitSeq(string(body), "\n") {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	return env
}

func TestEnvironmentIsTheContractsAndNotTheDaemons(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the daemon's")
	t.Setenv("SOME_VARIABLE", "the daemon's")
	s := launchertest.NewModelServer(t)
	configDir := t.TempDir()
	spec := launchertest.Spec(t)
	spec.Shape.VCPU = 1
	spec.Container.Environment = map[string]string{
		"FROM_BOTH": "model", "LITERAL": "{port}", "SAGEMAKER_BIND_TO_PORT": "1",
		"PATH": "/the/model's", "LD_PRELOAD": "/the/model's.so",
	}
	w := launchertest.Launch(t, New(Config{
		Command: s.Command(),
		Env: s.Env("FROM_BOTH", "operator", "FROM_OPERATOR", "p={port} m={model_dir} c={config_dir} {other}",
			"AWS_PROFILE", "operator"),
	}, configDir, nil, 1), spec)

	env := environ(t, w)
	_, port, _ := net.SplitHostPort(w.Address())
	model := filepath.Join(spec.Dir, "model")
	for name, want := range map[string]string{
		"SAGEMAKER_BIND_TO_PORT": port,
		"SM_MODEL_DIR":           model,
		"GOMAXPROCS":             "1",
		"OMP_NUM_THREADS":        "1",
		"AWS_REGION":             "eu-west-1",
		"FROM_BOTH":              "model",
		"FROM_OPERATOR":          "p=" + port + " m=" + model + " c=" + configDir + " {other}",
		"AWS_PROFILE":            "operator",
		"LITERAL":                "{port}",
		"PATH":                   os.Getenv("PATH"),
	} {
		if env[name] != want {
			t.Errorf("%s=%q, want %q", name, env[name], want)
		}
	}
	for _, name := range []string{"AWS_SECRET_ACCESS_KEY", "SOME_VARIABLE", "LD_PRELOAD", "GOMEMLIMIT"} {
		if value, ok := env[name]; ok {
			t.Errorf("%s=%q came through", name, value)
		}
	}
	low, high, ok := strings.Cut(env["SAGEMAKER_SAFE_PORT_RANGE"], "-")
	from, err1 := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	bind, _ := strconv.Atoi(port)
	if !ok || err1 != nil || err2 != nil || from != bind+1 || to <= from {
		t.Errorf("SAGEMAKER_SAFE_PORT_RANGE=%q beside port %s", env["SAGEMAKER_SAFE_PORT_RANGE"], port)
	}
	if log := spec.Log.(*launchertest.Output).String(); !strings.Contains(log, "LD_PRELOAD of the model's Environment has no effect") {
		t.Errorf("the log does not tell of LD_PRELOAD:\n%s", log)
	}
}

func TestShapeSetsThreadsWithinTheHostsCPUs(t *testing.T) {
	for _, c := range []struct {
		shape dataplane.Shape
		want  map[string]string
	}{
		{dataplane.Shape{}, map[string]string{}},
		{dataplane.Shape{VCPU: 1, MemoryGiB: 4}, map[string]string{"GOMAXPROCS": "1", "OMP_NUM_THREADS": "1", "GOMEMLIMIT": "3865470561"}},
		{dataplane.Shape{VCPU: 1 << 20}, map[string]string{"GOMAXPROCS": strconv.Itoa(runtime.NumCPU()), "OMP_NUM_THREADS": strconv.Itoa(runtime.NumCPU())}},
	} {
		got := shapeEnvironment(c.shape)
		if len(got) != len(c.want) {
			t.Errorf("%+v: %v, want %v", c.shape, got, c.want)
		}
		for name, want := range c.want {
			if got[name] != want {
				t.Errorf("%+v: %s=%q, want %q", c.shape, name, got[name], want)
			}
		}
	}
}

func TestEnvironmentOfTheModelSetsThreads(t *testing.T) {
	s := launchertest.NewModelServer(t)
	spec := launchertest.Spec(t)
	spec.Container.Environment = map[string]string{"OMP_NUM_THREADS": "7", "GOMAXPROCS": "3"}
	env := environ(t, launchertest.Launch(t, modelServer(s), spec))
	if env["OMP_NUM_THREADS"] != "7" || env["GOMAXPROCS"] != "3" {
		t.Errorf("OMP_NUM_THREADS=%q, GOMAXPROCS=%q; want 7 and 3", env["OMP_NUM_THREADS"], env["GOMAXPROCS"])
	}
}
