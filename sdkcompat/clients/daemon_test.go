package clients_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	runtimetypes "github.com/aws/aws-sdk-go-v2/service/sagemakerruntime/types"
)

func TestKilledDaemonBringsItsEndpointsBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startDaemon(t, daemonOptions{dir: dir})
	c := newGoClient(first)
	c.serve(t, "up", workerContainer, 2)
	c.serve(t, "down", workerContainer, 1)
	old := c.pids(t, "up", 2)
	for pid := range c.pids(t, "down", 1) {
		old[pid] = true
	}
	admin[scriptView](t, first, "PUT", "/endpoints/up/responses?account="+c.account, `{"rules": [{"body_contains": "magic", "body": "scripted"}]}`)
	// One endpoint is killed while it is being created, one while it is deleted.
	ready := filepath.Join(dir, "ready")
	c.createModel(t, "coming", types.ContainerDefinition{Image: aws.String(testImage), Environment: map[string]string{"READY_FILE": ready}})
	c.createEndpoint(t, "coming", variant("AllTraffic", "coming", 1, 1))
	_, ended := c.waiting(t.Context(), t, "down", 1) // so that it stays Deleting
	c.delete(t, "down")
	before := c.describe(t, "up")

	if found := processesOf(first.dir); runtime.GOOS == "linux" && len(found) < 4 { // the daemon, three workers in service
		t.Errorf("found only %q", found)
	}
	if err := first.kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("an invocation was answered by a killed daemon")
	}
	c = goClientOf(startDaemon(t, daemonOptions{dir: dir}), c.account)
	after := c.awaitInService(t, "up")
	if !after.CreationTime.Equal(*before.CreationTime) || *after.ProductionVariants[0].CurrentInstanceCount != 2 {
		t.Errorf("got %+v", after)
	}
	for pid := range c.pids(t, "up", 2) {
		if old[pid] {
			t.Errorf("worker %d is not a new one", pid)
		}
	}
	if got := c.mustInvoke(t, "up", "magic"); got != "scripted" {
		t.Errorf("got %q: the script was lost", got)
	}
	for pid := range old {
		eventually(t, stopLimit, func() error {
			if alive(pid) {
				return fmt.Errorf("worker %d outlives its daemon", pid)
			}
			return nil
		})
	}
	c.awaitDeleted(t, "down")
	if got := c.describe(t, "coming").EndpointStatus; got != types.EndpointStatusCreating {
		t.Errorf("got %s", got)
	}
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.awaitInService(t, "coming")
}

func TestSIGTERMAnswersWhatIsUnderWayAndEndsStubbornWorkers(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a worker's 20 s of grace")
	}
	t.Parallel()
	d := startDaemon(t, daemonOptions{})
	c := newGoClient(d)
	c.serve(t, "stubborn", types.ContainerDefinition{Image: aws.String(testImage), Environment: map[string]string{"IGNORE_SIGTERM": "1"}}, 2)
	pids := c.pids(t, "stubborn", 2)
	path, ended := c.waiting(t.Context(), t, "stubborn", 1)
	begun := time.Now()
	if err := d.terminate(); err != nil {
		t.Fatal(err)
	}
	eventually(t, stopLimit, func() error { // until it takes no more requests
		if strings.Contains(d.stderr.String(), "stopping") {
			return nil
		}
		return errStillRunning
	})
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("a request under way at SIGTERM: %v", err)
	}
	if err := d.awaitStop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > stopLimit {
		t.Errorf("the stop took %v", took)
	}
	for pid := range pids {
		if alive(pid) {
			t.Errorf("worker %d is left", pid)
		}
	}
}

func TestStateOutlivesAnOrderlyStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startDaemon(t, daemonOptions{dir: dir})
	c := newGoClient(d)
	c.serve(t, "kept", workerContainer, 1)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "data", "instances"))
	if len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("instance directories are left: %v, %v", left, err)
	}
	c = goClientOf(startDaemon(t, daemonOptions{dir: dir}), c.account)
	c.awaitInService(t, "kept")
	if got := c.mustInvoke(t, "kept", "echo back"); got != "back" {
		t.Errorf("got %q", got)
	}
}

func TestEnvironmentStandsInForFlags(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, daemonOptions{bare: true, env: []string{
		"SAGELOCAL_LISTEN=127.0.0.1:0", "SAGELOCAL_IN_MEMORY=true", "SAGELOCAL_ACCOUNT=210987654321",
		"SAGELOCAL_REGION=eu-west-3", "SAGELOCAL_LOG_FORMAT=xml", "SAGELOCAL_ALLOW_HOST=sagemaker.test,other.test",
	}, args: []string{"--log-format=json"}}) // a flag has precedence
	in := rawRequest{method: "POST", path: "/", header: target("SageMaker.DescribeModel"), body: `{"ModelName": "m"}`, host: "sagemaker.test:1234"}
	if res, body := in.send(t, d); res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "arn:aws:sagemaker:eu-west-3:210987654321:model/m") {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if strings.HasSuffix(d.URL, ":0") || !strings.HasPrefix(d.URL, "http://127.0.0.1:") || !strings.Contains(d.stdout.String(), "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME="+d.URL) {
		t.Errorf("it printed %s", d.stdout.String())
	}
}

func TestSampleConfigurationServes(t *testing.T) {
	t.Parallel()
	c := newGoClient(startDaemon(t, daemonOptions{args: []string{"--config=" + filepath.Join(repository(), "testdata/sagelocal.yaml")}}))
	c.serve(t, "scripted-demo", types.ContainerDefinition{Image: aws.String("my-llm:1")}, 2)
	if got := c.mustInvoke(t, "scripted-demo", "hello"); !strings.HasPrefix(got, `{"generated_text": "hello", "instance": "i-`) {
		t.Errorf("got %q", got)
	}
	_, err := c.invoke(t.Context(), "scripted-demo", "a flaky one")
	if e := asError[*runtimetypes.ModelError](t, err); aws.ToInt32(e.OriginalStatusCode) != http.StatusServiceUnavailable || *e.OriginalMessage != "loading" {
		t.Errorf("got %+v", e)
	}
}

func TestDaemonRefusesToStart(t *testing.T) {
	t.Parallel()
	busy := sharedDaemon(t)
	kept := t.TempDir()
	startDaemon(t, daemonOptions{dir: kept})
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "bad.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "--config=" + path
	}
	for _, test := range []struct {
		what string
		o    daemonOptions
		want []string
	}{
		{"unknown key", daemonOptions{args: []string{file("images:\n  - image: x\n    simulated:\n      latancy: {mean: 1s}\n")}}, []string{"bad.yaml", "4 |", "latancy"}},
		{"unknown kind", daemonOptions{args: []string{file("images:\n  - image: x\n    dockr: {}\n")}}, []string{"3 |", "dockr"}},
		{"no kind", daemonOptions{args: []string{file("images:\n  - image: x\n")}}, []string{"rule 1", "exactly one of"}},
		{"bucket without directory", daemonOptions{args: []string{file("buckets: {b: no-such-dir}\n")}}, []string{"no-such-dir is not a directory"}},
		{"bad script", daemonOptions{args: []string{file("responses: {e: [{status: 42}]}\n")}}, []string{"responses: e: rule 1", "42"}},
		{"no such file", daemonOptions{args: []string{"--config=no-such.yaml"}}, []string{"no-such.yaml"}},
		{"account", daemonOptions{args: []string{"--account=12345"}}, []string{"12345", "twelve digits"}},
		{"time scale", daemonOptions{args: []string{"--time-scale=0"}}, []string{"--time-scale"}},
		{"environment", daemonOptions{bare: true, env: []string{"SAGELOCAL_TIME_SCALE=fast"}}, []string{"SAGELOCAL_TIME_SCALE", "fast"}},
		{"unknown flag", daemonOptions{args: []string{"--liston=x"}}, []string{"liston"}},
		{"argument", daemonOptions{args: []string{"now"}}, []string{"now"}},
		{"address in use", daemonOptions{args: []string{"--listen=" + strings.TrimPrefix(busy.URL, "http://")}}, []string{"address already in use"}},
		{"data directory in use", daemonOptions{dir: kept}, []string{filepath.Join(kept, "data"), "in use"}},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			cmd, err := test.o.command()
			if err != nil {
				t.Fatal(err)
			}
			stop := time.AfterFunc(startLimit, func() { _ = cmd.Process.Kill() })
			defer stop.Stop()
			out, err := cmd.CombinedOutput()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.ExitCode() != 1 {
				t.Fatalf("got %v:\n%s", err, out)
			}
			for _, want := range test.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("got %s\nwant %q in it", out, want)
				}
			}
			if strings.Contains(string(out), "goroutine ") {
				t.Errorf("it panicked: %s", out)
			}
		})
	}
}

func TestSecondDaemonDoesNotHarmTheFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newGoClient(startDaemon(t, daemonOptions{dir: dir}))
	c.serve(t, "first", workerContainer, 1)
	if _, err := launchDaemon(daemonOptions{dir: dir}); err == nil {
		t.Fatal("two daemons share a data directory")
	}
	if got := c.mustInvoke(t, "first", "echo fine"); got != "fine" {
		t.Errorf("got %q", got)
	}
	c.createModel(t, "second", echoContainer)
	if out, err := c.sm.ListModels(t.Context(), &sagemaker.ListModelsInput{}); err != nil || len(out.Models) != 2 {
		t.Errorf("got %+v, %v", out, err)
	}
}
