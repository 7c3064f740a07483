package process

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

// parentVariable makes this test binary a stand-in for the daemon: it launches
// the command that it names, with the other one's directory, and waits to be
// killed.
const (
	parentVariable    = "PROCESS_TEST_PARENT"
	parentDirVariable = "PROCESS_TEST_PARENT_DIR"
)

// beParent does not return in the stand-in.
func beParent() {
	command := os.Getenv(parentVariable)
	if command == "" {
		return
	}
	time.AfterFunc(2*time.Minute, func() { os.Exit(9) })
	env := map[string]string{}
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "LAUNCHERTEST_") {
			env[name] = value
		}
	}
	l := New(Config{Command: strings.Split(command, "\n"), Env: env}, ".", nil, 1)
	spec := dataplane.Spec{Dir: os.Getenv(parentDirVariable), StartupTimeout: time.Minute}
	w, err := l.Launch(context.Background(), spec)
	if err == nil {
		err = w.Invoke(context.Background(), launchertest.Ask("spawn"), new(dataplane.Answer))
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

// startParent starts a stand-in, whose worker has a child of its own. Both
// ignore SIGTERM.
func startParent(t *testing.T, s *launchertest.ModelServer) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(program)
	parent.Env = append(os.Environ(),
		parentVariable+"="+strings.Join(s.Command(), "\n"), parentDirVariable+"="+t.TempDir())
	for name, value := range s.Env(launchertest.IgnoreTermVariable, "1") {
		parent.Env = append(parent.Env, name+"="+value)
	}
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = parent.Process.Kill()
		_ = parent.Wait() // "signal: killed"
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("the parent said %q, %v", line, err)
	}
	if n := len(s.Alive()); n != 2 {
		t.Fatalf("%d processes run, want worker and grandchild", n)
	}
	return parent
}

func TestNoProcessOutlivesAKilledDaemon(t *testing.T) {
	s := launchertest.NewModelServer(t)
	if err := startParent(t, s).Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "worker and grandchild are gone", func() bool { return len(s.Alive()) == 0 })
}

// eventually fails the test unless the condition comes true soon.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not in time: " + what)
		}
	}
}
