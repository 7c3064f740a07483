// Package clients_test drives the real daemon with real SDKs: it knows sagelocal
// only as a program and a port. Errors that it cannot be brought to answer come
// from a server that has nothing but sdkcompat's encoding.
package clients_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// timeScale makes the control loops' waits short, but leaves a worker's start
// 24 s on a busy machine.
const timeScale = "20"

// Limits of this suite's waits; every wait polls or blocks on an event.
const (
	startLimit = 30 * time.Second // for the daemon to answer
	stopLimit  = 30 * time.Second // promised for SIGTERM
	waitLimit  = 60 * time.Second // for an endpoint to change its status
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	code := m.Run()
	dir, err := binaries.built()
	if dir == "" && err == nil {
		return code // no test needed a daemon
	}
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "shared daemon:", err)
		code = max(code, 1)
	}
	if left := runningFrom(dir); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "these are left: %q\n", left)
		code = max(code, 1)
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// binaries are the programs under test, built once when the first test asks.
var binaries buildDir

type buildDir struct {
	once sync.Once
	dir  string
	err  error
}

// built is the directory if something was built.
func (b *buildDir) built() (string, error) {
	b.once.Do(func() {})
	return b.dir, b.err
}

// get builds sagelocal (with the race detector if this test has it), the sample
// model and the test model, and writes the configuration.
func (b *buildDir) get() (string, error) {
	b.once.Do(func() { b.err = b.build() })
	return b.dir, b.err
}

func (b *buildDir) build() (err error) {
	if err := lookAtSources(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "sagelocal-clients-"); err != nil {
		return err
	}
	// macOS hands out a path through a link; processes show the real one.
	if b.dir, err = filepath.EvalSymlinks(b.dir); err != nil {
		return err
	}
	for program, flags := range map[string][]string{
		"cmd/sagelocal": {fmt.Sprintf("-race=%t", raceEnabled)}, "testdata/models/irisgo": nil, "sdkcompat/clients/testmodel": nil,
	} {
		args := append([]string{"build"}, flags...)
		cmd := exec.Command("go", append(args, "-o", filepath.Join(b.dir, filepath.Base(program)), "./"+program)...)
		cmd.Dir = repository()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", program, err, out)
		}
	}
	return os.WriteFile(filepath.Join(b.dir, "sagelocal.yaml"), []byte(b.config()), 0o600)
}

// lookAtSources opens every directory of the programs' sources. Go takes a test's
// result from its cache as long as what the test has opened is unchanged, and
// would not know of what the test has built.
func lookAtSources() error {
	return filepath.WalkDir(repository(), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		return err
	})
}

// repository is the root of the work tree: tests run in their package's folder.
func repository() string {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		panic(err)
	}
	return root
}

// The images that the tests' configuration has rules for. Any other image gets
// the simulated worker that echoes.
const (
	irisImage       = "123456789012.dkr.ecr.us-east-1.amazonaws.com/iris-go:1"
	irisPythonImage = "123456789012.dkr.ecr.us-east-1.amazonaws.com/iris-python:1"
	testImage       = "testmodel:1"
	echoImage       = "echo:1"
	missingImage    = "missing:1" // its program does not exist
	irisData        = "s3://models/iris.tar.gz"
)

func (b *buildDir) config() string {
	return fmt.Sprintf(`
images:
  - image: "*/iris-go:*"
    process: {command: [%[1]q]}
  - image: "*/iris-python:*"
    process: {command: [python3, %[2]q]}
  - image: "testmodel:*"
    process: {command: [%[3]q]}
  - image: "missing:*"
    process: {command: [%[4]q]}
  - image: "tell-blue:*"
    simulated: {latency: {mean: 2ms}, answer: {template: {text: "blue {{slice .Body 8}}"}}}
  - image: "tell-green:*"
    simulated: {latency: {mean: 2ms}, answer: {template: {text: "green {{slice .Body 8}}"}}}
  - image: "tell-model:*"
    simulated: {answer: {template: {text: "{{.TargetModel}} {{.Body}}"}}}
  - image: "stateful:*"
    simulated: {sessions: 20m, answer: {template: {text: "{{.InstanceID}}"}}}
  - image: "slow:*"
    simulated: {latency: {mean: 1s}}
buckets:
  models: %[5]q
responses:
  scripted-by-file:
    - body_contains: ping
      body: pong
`, filepath.Join(b.dir, "irisgo"), filepath.Join(repository(), "testdata/models/iris/serve.py"),
		filepath.Join(b.dir, "testmodel"), filepath.Join(b.dir, "no-such-program"),
		filepath.Join(repository(), "testdata/buckets/models"))
}

// required tells that a client that is not there is a failure and no reason to
// skip, as in the continuous build.
func required() bool { return os.Getenv("SAGELOCAL_REQUIRE") == "all" }

// needProgram skips the test where a client's program is not installed.
func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		skip(t, "%s is not installed", name)
	}
}

func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if required() {
		t.Fatalf(format+", and SAGELOCAL_REQUIRE=all", args...)
	}
	t.Skipf(format, args...)
}

// accounts makes every test a tenant of its own.
var accounts atomic.Int64

func newAccount() string { return fmt.Sprintf("7%011d", accounts.Add(1)) }

// eventually polls until f gives no error.
func eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("after %v: %v", limit, err)
		}
	}
}

// clientEnvironment points an SDK at the daemon and at nothing else.
func clientEnvironment(d *daemon, account string) []string {
	return append(baseEnvironment(),
		"AWS_ENDPOINT_URL_SAGEMAKER="+d.URL, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME="+d.URL,
		"AWS_ACCESS_KEY_ID="+account, "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_PAGER=", "ACCOUNT="+account, "PYTHONDONTWRITEBYTECODE=1")
}

// baseEnvironment is this process's without anything that steers an SDK or the
// daemon.
func baseEnvironment() []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "AWS_") && !strings.HasPrefix(entry, "SAGELOCAL_") {
			env = append(env, entry)
		}
	}
	return env
}

// runJourney runs a client's script and shows its steps.
func runJourney(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
}

// syncBuffer collects what a process prints while tests read it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

var errStillRunning = errors.New("still running")
