//go:build unix

package process

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

func cutPath(pair string) (string, bool) { return strings.CutPrefix(pair, "PATH=") }

// supervisorAttributes puts a supervisor beyond the reach of a terminal's
// Ctrl-C and of a kill of the daemon's process group.
func supervisorAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// group is a worker with its descendants.
type group struct {
	pid   int // of the worker, and of the process group that it leads
	ended chan outcome
}

// startGroup starts the worker as the leader of a process group.
func startGroup(cmd *exec.Cmd, memoryBytes uint64) (*group, error) {
	adoptOrphans()
	cmd.SysProcAttr = workerAttributes()
	restore, err := limitMemory(memoryBytes)
	if err != nil {
		return nil, fmt.Errorf("memory limit of %d bytes: %w", memoryBytes, err)
	}
	err = cmd.Start()
	restore()
	if err != nil {
		return nil, err
	}
	g := &group{pid: cmd.Process.Pid, ended: make(chan outcome, 1)}
	go g.reap()
	return g, nil
}

func (g *group) terminate() { _ = syscall.Kill(-g.pid, syscall.SIGTERM) }

func (g *group) kill() { _ = syscall.Kill(-g.pid, syscall.SIGKILL) }

// reap waits for the worker's end, kills what it leaves behind, and waits for
// the end of that. It waits for any child, because orphans become ours.
func (g *group) reap() {
	var end outcome
	gone := false
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil: // ECHILD: none is left
			awaitGroup(g.pid)
			g.ended <- end
			return
		case pid == g.pid:
			end, gone = outcomeOf(status), true
			g.kill()
		}
		if gone {
			killChildren()
		}
	}
}

func outcomeOf(status syscall.WaitStatus) outcome {
	if status.Signaled() {
		return outcome{fmt.Sprintf("signal: %v", status.Signal()), 128 + int(status.Signal())}
	}
	return outcome{fmt.Sprintf("exit status %d", status.ExitStatus()), status.ExitStatus()}
}

// killOrphans ends the group of a worker whose supervisor died.
func killOrphans(pid int) {
	if pid > 1 { // 0 is the caller's own group, -1 is everybody
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}
