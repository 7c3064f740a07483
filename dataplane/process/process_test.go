//go:build unix

package process

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

func wantDone(t *testing.T, w dataplane.Worker) error {
	t.Helper()
	select {
	case <-w.Done():
		return w.Err()
	case <-time.After(10 * time.Second):
		t.Fatal("the worker is not done")
		return nil
	}
}

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

func TestWorkingDirectoryIsRelativeToTheConfigurations(t *testing.T) {
	s := launchertest.NewModelServer(t)
	configDir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(configDir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	spec := launchertest.Spec(t)
	modelDir, err := filepath.EvalSymlinks(spec.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for workingDir, want := range map[string]string{
		"": configDir, "sub": filepath.Join(configDir, "sub"), "{model_dir}": filepath.Join(modelDir, "model"),
	} {
		l := New(Config{Command: s.Command(), Env: s.Env(), WorkingDir: workingDir}, configDir, nil, 1)
		w := launchertest.Launch(t, l, spec)
		if got := launchertest.Do(t, w, launchertest.Ask("directory")).Body; string(got) != want {
			t.Errorf("working_dir %q is %s, want %s", workingDir, got, want)
		}
	}
}

// bucket is a directory with the object model.tar.gz that holds one file.
func bucket(t *testing.T, file, content string) *dataplane.ModelData {
	t.Helper()
	var archive bytes.Buffer
	zip := gzip.NewWriter(&archive)
	w := tar.NewWriter(zip)
	err := w.WriteHeader(&tar.Header{Name: file, Size: int64(len(content)), Mode: 0o755, Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	dir := t.TempDir()
	if err = errors.Join(err, w.Close(), zip.Close()); err == nil {
		err = os.WriteFile(filepath.Join(dir, "model.tar.gz"), archive.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &dataplane.ModelData{Buckets: map[string]string{"models": dir}}
}

func TestModelDataIsUnpackedBeforeTheStart(t *testing.T) {
	data := bucket(t, "weights.txt", "0.1 0.2")
	l := New(Config{Command: []string{"/bin/sh", "-c", `cat "$SM_MODEL_DIR/weights.txt"; exit 4`}}, ".", data, 1)
	spec := launchertest.Spec(t)
	spec.Container.ModelDataURL = "s3://models/model.tar.gz"
	_, err := l.Launch(t.Context(), spec)
	if !errors.Is(err, dataplane.ErrPing) || !strings.Contains(err.Error(), "0.1 0.2") {
		t.Errorf("Launch: %v; want the model's content in the last output", err)
	}
}

func TestModelDataThatCannotBeReadIsErrModelData(t *testing.T) {
	for _, url := range []string{"s3://models/other.tar.gz", "s3://unknown/model.tar.gz"} {
		for _, data := range []*dataplane.ModelData{nil, bucket(t, "f", "")} {
			spec := launchertest.Spec(t)
			spec.Container.ModelDataURL = url
			w, err := New(Config{Command: []string{"/bin/false"}}, ".", data, 1).Launch(t.Context(), spec)
			if w != nil || !errors.Is(err, dataplane.ErrModelData) {
				t.Errorf("%s: Launch = %v, %v; want ErrModelData", url, w, err)
			}
		}
	}
	spec := launchertest.Spec(t)
	spec.Container.ModelDataURL = "s3://models/model.tar.gz"
	spec.DownloadTimeout = time.Nanosecond
	_, err := New(Config{Command: []string{"/bin/false"}}, ".", bucket(t, "f", ""), 1).Launch(t.Context(), spec)
	if !errors.Is(err, dataplane.ErrModelData) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Launch after DownloadTimeout: %v; want ErrModelData and DeadlineExceeded", err)
	}
}

func TestProgramThatCannotBeExecutedIsErrCannotStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notexecutable"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg    Config
		reason string
	}{
		{Config{Command: []string{"/no/such/program"}}, "no such file"},
		{Config{Command: []string{"no-such-program"}}, "not found"},
		{Config{Command: []string{"./notexecutable"}}, "permission denied"},
		{Config{Command: []string{"/bin/true"}, WorkingDir: "missing"}, "missing"},
	} {
		w, err := New(c.cfg, dir, nil, 1).Launch(t.Context(), launchertest.Spec(t))
		if w != nil || !errors.Is(err, dataplane.ErrCannotStart) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%+v: Launch = %v, %v; want ErrCannotStart with %q", c.cfg, w, err, c.reason)
		}
	}
}

func TestRelativeProgramCountsFromTheWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "serve"), []byte("#!/bin/sh\necho this one; exit 5\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{
		{Command: []string{"./serve"}},
		{Command: []string{"serve"}, Env: map[string]string{"PATH": "{config_dir}:/bin:/usr/bin"}},
	} {
		_, err := New(cfg, dir, nil, 1).Launch(t.Context(), launchertest.Spec(t))
		if !errors.Is(err, dataplane.ErrPing) || !strings.Contains(err.Error(), "this one") {
			t.Errorf("%v: %v; want its output", cfg.Command, err)
		}
	}
}

func TestExitBeforePingTellsStatusAndLastOutput(t *testing.T) {
	for _, c := range []struct{ script, status string }{
		{"echo out; echo err >&2; exit 3", "exit status 3"},
		{"echo out; echo err >&2; exit 0", "exit status 0"},
		{"echo out; echo err >&2; kill -SEGV $$", "signal: segmentation fault"},
	} {
		spec := launchertest.Spec(t)
		_, err := New(Config{Command: []string{"sh", "-c", c.script}}, ".", nil, 1).Launch(t.Context(), spec)
		if !errors.Is(err, dataplane.ErrPing) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v; want ErrPing without DeadlineExceeded", c.script, err)
			continue
		}
		for _, want := range []string{c.status, "out\nerr"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q in it", c.script, err, want)
			}
		}
		if log := spec.Log.(*launchertest.Output).String(); log != "out\nerr\n" {
			t.Errorf("%s: log %q", c.script, log)
		}
	}
}

func TestUnhealthyUntilStartupTimeoutIsDeadlineExceeded(t *testing.T) {
	s := launchertest.NewModelServer(t)
	spec := launchertest.Spec(t)
	spec.StartupTimeout = 500 * time.Millisecond
	_, err := modelServer(s, launchertest.PingsVariable, "-1").Launch(t.Context(), spec)
	if !errors.Is(err, dataplane.ErrPing) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Launch: %v; want ErrPing and DeadlineExceeded", err)
	}
	if left := s.Alive(); len(left) > 0 {
		t.Errorf("processes %v still run", left)
	}
}

func TestCrashInServiceTellsExitStatus(t *testing.T) {
	s := launchertest.NewModelServer(t)
	// At full scale, so that failing pings do not come first.
	l := New(Config{Command: s.Command(), Env: s.Env()}, ".", nil, 1)
	w := launchertest.Launch(t, l, launchertest.Spec(t))
	_ = w.Invoke(t.Context(), launchertest.Ask("crash", "code", "17"), new(dataplane.Answer))
	err := wantDone(t, w)
	if err == nil || !strings.Contains(err.Error(), "exit status 17") || !strings.Contains(err.Error(), "about to crash") {
		t.Errorf("Err = %v; want the exit status and the last output", err)
	}
}

func TestStopKillsAfterGraceWhatIgnoresSIGTERM(t *testing.T) {
	s := launchertest.NewModelServer(t)
	w := launchertest.Launch(t, modelServer(s, launchertest.IgnoreTermVariable, "1"), launchertest.Spec(t))
	const grace = 200 * time.Millisecond
	begin := time.Now()
	if err := w.Stop(t.Context(), grace); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < grace {
		t.Errorf("killed after %v, want at least %v", took, grace)
	}
	if left := s.Alive(); len(left) > 0 {
		t.Errorf("processes %v still run", left)
	}
}

func TestStopEndsAtOnceWhatObeysSIGTERM(t *testing.T) {
	s := launchertest.NewModelServer(t)
	w := launchertest.Launch(t, modelServer(s), launchertest.Spec(t))
	begin := time.Now()
	if err := w.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("Stop took %v", took)
	}
}

func TestStopKillsWhenItsContextEnds(t *testing.T) {
	s := launchertest.NewModelServer(t)
	w := launchertest.Launch(t, modelServer(s, launchertest.IgnoreTermVariable, "1"), launchertest.Spec(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Stop(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	if left := s.Alive(); len(left) > 0 {
		t.Errorf("processes %v still run", left)
	}
}

// spawn makes a model server start a child that ignores SIGTERM.
func spawn(t *testing.T, w dataplane.Worker, pairs ...string) int {
	t.Helper()
	ans := launchertest.Do(t, w, launchertest.Ask("spawn", pairs...))
	pid, err := strconv.Atoi(string(ans.Body))
	if err != nil || ans.StatusCode != 200 || !launchertest.Alive(pid) {
		t.Fatalf("spawn: %d %s", ans.StatusCode, ans.Body)
	}
	return pid
}

func TestGrandchildrenDieWithTheWorker(t *testing.T) {
	for name, end := range map[string]func(*testing.T, dataplane.Worker){
		"stopped": func(t *testing.T, w dataplane.Worker) {
			if err := w.Stop(t.Context(), time.Minute); err != nil {
				t.Error(err)
			}
		},
		"crashed": func(t *testing.T, w dataplane.Worker) {
			_ = w.Invoke(t.Context(), launchertest.Ask("crash", "code", "1"), new(dataplane.Answer))
			_ = wantDone(t, w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := launchertest.NewModelServer(t)
			w := launchertest.Launch(t, modelServer(s), launchertest.Spec(t))
			spawn(t, w)
			end(t, w)
			if left := s.Alive(); len(left) > 0 {
				t.Errorf("processes %v still run", left)
			}
		})
	}
}

func TestPortTakenBeforeTheBindCostsOneMoreAttempt(t *testing.T) {
	other, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() { // it is no model server
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	taken := func() *ports {
		lock, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return &ports{port: other.Addr().(*net.TCPAddr).Port, lock: lock}
	}
	for _, c := range []struct{ conflicts, started int }{{1, 2}, {2, 2}} {
		s := launchertest.NewModelServer(t)
		l := modelServer(s).(*launcher)
		left := c.conflicts
		l.reserve = func() (*ports, error) {
			if left > 0 {
				left--
				return taken(), nil
			}
			return reservePorts()
		}
		w, err := l.Launch(t.Context(), launchertest.Spec(t))
		if healthy := err == nil; healthy != (c.conflicts < 2) {
			t.Errorf("after %d conflicts: %v", c.conflicts, err)
		}
		if err == nil {
			if err := w.Stop(t.Context(), 0); err != nil {
				t.Error(err)
			}
		} else if !errors.Is(err, dataplane.ErrPing) {
			t.Errorf("after %d conflicts: %v; want ErrPing", c.conflicts, err)
		}
		if s.Started() != c.started {
			t.Errorf("after %d conflicts: %d processes started, want %d", c.conflicts, s.Started(), c.started)
		}
	}
}

func TestPortsAreNeverGivenOutTwiceAtOnce(t *testing.T) {
	const n = 200
	reserved := make(chan *ports, n)
	for range n {
		go func() {
			p, err := reservePorts()
			if err != nil {
				t.Error(err)
			}
			reserved <- p
		}()
	}
	seen := map[int]bool{}
	for range n {
		p := <-reserved
		if p == nil {
			continue
		}
		defer p.release()
		for port := p.port; port < p.port+blockSize; port++ {
			if seen[port] || port < firstPort || port > lastPort {
				t.Fatalf("port %d given out twice or out of range", port)
			}
			seen[port] = true
		}
	}
}

func TestNoFreePortsIsErrCapacity(t *testing.T) {
	var held []*ports
	defer func() {
		for _, p := range held {
			p.release()
		}
	}()
	for range blocks + 1 {
		p, err := reservePorts()
		if err != nil {
			if !errors.Is(err, dataplane.ErrCapacity) {
				t.Errorf("%v, want ErrCapacity", err)
			}
			return
		}
		held = append(held, p)
	}
	t.Error("more blocks than there are")
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg Config
		ok  bool
	}{
		{Config{Command: []string{"python3", "serve.py"}}, true},
		{Config{Command: []string{"x"}, PingPath: "/health", InvocationsPath: "/v1/chat/completions?x=1", Env: map[string]string{"A": ""}}, true},
		{Config{}, false},
		{Config{Command: []string{""}}, false},
		{Config{Command: []string{"x", "a\x00b"}}, false},
		{Config{Command: []string{"x"}, PingPath: "health"}, false},
		{Config{Command: []string{"x"}, InvocationsPath: "invocations"}, false},
		{Config{Command: []string{"x"}, Env: map[string]string{"": "v"}}, false},
		{Config{Command: []string{"x"}, Env: map[string]string{"A=B": "v"}}, false},
		{Config{Command: []string{"x"}, Env: map[string]string{"A": "\x00"}}, false},
	} {
		if err := c.cfg.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}

func TestTailKeepsTheLastLines(t *testing.T) {
	out := launchertest.NewOutput()
	c := &tail{next: out}
	for i := range 5000 {
		if n, err := c.Write([]byte(strconv.Itoa(i) + "\n")); err != nil || n == 0 {
			t.Fatal(n, err)
		}
	}
	want := []string{"4990", "4991", "4992", "4993", "4994", "4995", "4996", "4997", "4998", "4999"}
	if got := strings.Split(c.String(), "\n"); !slices.Equal(got, want) {
		t.Errorf("tail %v, want %v", got, want)
	}
	if !strings.HasPrefix(out.String(), "0\n1\n") {
		t.Error("the first lines were not passed on")
	}
}
