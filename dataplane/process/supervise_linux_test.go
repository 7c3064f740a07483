package process

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

func TestKilledSupervisorTakesTheWorkerWithIt(t *testing.T) {
	s := launchertest.NewModelServer(t)
	w := launchertest.Launch(t, modelServer(s), launchertest.Spec(t))
	worker := s.Alive()
	spawn(t, w)
	if err := syscall.Kill(parentOf(worker[0]), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := wantDone(t, w); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("Err = %v; want the supervisor's signal", err)
	}
	eventually(t, "worker and grandchild are gone", func() bool { return len(s.Alive()) == 0 })
}

func TestKilledSupervisorTakesTheWorkerWithItThoughTheDaemonHangs(t *testing.T) {
	s := launchertest.NewModelServer(t)
	parent := startParent(t, s)
	worker := s.Alive()[0]
	if up := parentOf(worker); slices.Contains(s.Alive(), up) {
		worker = up
	}
	if err := parent.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(parentOf(worker), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker is gone", func() bool { return !launchertest.Alive(worker) })
	if err := parent.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the grandchild is gone", func() bool { return len(s.Alive()) == 0 })
}

func TestStopReachesDescendantsThatLeftTheGroup(t *testing.T) {
	s := launchertest.NewModelServer(t)
	w := launchertest.Launch(t, modelServer(s), launchertest.Spec(t))
	spawn(t, w, "session", "1")
	if err := w.Stop(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
	if left := s.Alive(); len(left) > 0 {
		t.Errorf("processes %v still run", left)
	}
}

func TestStopEndsAWorkerWhoseSupervisorDoesNotReact(t *testing.T) {
	s := launchertest.NewModelServer(t)
	w := launchertest.Launch(t, modelServer(s), launchertest.Spec(t))
	if err := syscall.Kill(parentOf(s.Alive()[0]), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := w.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
	eventually(t, "the worker is gone", func() bool { return len(s.Alive()) == 0 })
}

func TestMemoryOfTheInstanceTypeIsTheLimitOfTheWorkerAlone(t *testing.T) {
	var before, after syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &before); err != nil {
		t.Fatal(err)
	}
	spec := launchertest.Spec(t)
	spec.Shape.MemoryGiB = 2
	_, err := New(Config{Command: []string{"sh", "-c", "ulimit -d; echo $GOMEMLIMIT"}}, ".", nil, 1).Launch(t.Context(), spec)
	if !errors.Is(err, dataplane.ErrPing) {
		t.Fatal(err)
	}
	if log := spec.Log.(*launchertest.Output).String(); log != "2097152\n1932735276\n" { // KiB; 90 %
		t.Errorf("limits %q, want 2097152 KiB and 1932735276 bytes", log)
	}
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &after); err != nil || before != after {
		t.Errorf("the daemon's own limit went from %v to %v, %v", before, after, err)
	}
}
