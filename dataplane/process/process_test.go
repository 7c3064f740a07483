//go:build unix

package process

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
	"github.com/sagelocal/sagelocal/dataplane/objects"
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
	store, err := objects.Open(t.Context(), objects.Options{Buckets: map[string]string{"models": dir}, Dir: filepath.Join(t.TempDir(), "s3"), Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &dataplane.ModelData{S3: store.Client}
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

func TestAdditionalModelDataIsBesideTheModel(t *testing.T) {
	data := bucket(t, "weights.txt", "0.1 0.2")
	l := New(Config{Command: []string{"/bin/sh", "-c", `cd "$SAGELOCAL_ADDITIONAL_MODEL_DATA_DIR"; cat a.b-c/weights.txt; ls ../additional-model-data-sources/raw "$SM_MODEL_DIR"; exit 4`}}, ".", data, 1)
	spec := launchertest.Spec(t)
	spec.Container.AdditionalModelDataSources = []dataplane.ModelChannel{
		{Name: "a.b-c", ModelSource: dataplane.ModelSource{URL: "s3://models/model.tar.gz", Gzip: true}},
		{Name: "raw", ModelSource: dataplane.ModelSource{URL: "s3://models/model.tar.gz"}},
	}
	_, err := l.Launch(t.Context(), spec)
	if !errors.Is(err, dataplane.ErrPing) || !strings.Contains(err.Error(), "0.1 0.2") || !strings.Contains(err.Error(), "model.tar.gz") {
		t.Errorf("Launch: %v; want both channels' content in the last output", err)
	}
	for _, name := range []string{"..", ".", ""} {
		spec.Container.AdditionalModelDataSources[0].Name = name
		if _, err := l.Launch(t.Context(), spec); !errors.Is(err, dataplane.ErrModelData) {
			t.Errorf("Launch with channel %q: %v; want ErrModelData", name, err)
		}
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
