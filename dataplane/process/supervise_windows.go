package process

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

func program() (string, error) { return os.Executable() }

// cutPath: names of variables have no case here.
func cutPath(pair string) (string, bool) {
	name, value, _ := strings.Cut(pair, "=")
	return value, strings.EqualFold(name, "PATH")
}

func supervisorAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// group is a worker with its descendants.
type group struct {
	pid   int
	ended chan outcome
	cmd   *exec.Cmd
}

// startGroup makes this process the first of a job, which the worker and its
// descendants join by birth and which ends as a whole with this process.
func startGroup(cmd *exec.Cmd, memoryBytes uint64) (*group, error) {
	if err := enterJob(memoryBytes); err != nil {
		return nil, fmt.Errorf("job object: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g := &group{pid: cmd.Process.Pid, ended: make(chan outcome, 1), cmd: cmd}
	go func() {
		_ = cmd.Wait() // the state says it all
		code := cmd.ProcessState.ExitCode()
		g.ended <- outcome{fmt.Sprintf("exit status %d", code), code}
	}()
	return g, nil
}

// enterJob leaves the job's handle open: its closing at the end of this process
// is what kills the job.
func enterJob(memoryBytes uint64) error {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return err
	}
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{ProcessMemoryLimit: uintptr(memoryBytes)}
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if memoryBytes > 0 {
		info.BasicLimitInformation.LimitFlags |= windows.JOB_OBJECT_LIMIT_PROCESS_MEMORY
	}
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		return err
	}
	return windows.AssignProcessToJobObject(job, windows.CurrentProcess())
}

// terminate: Windows has no SIGTERM to pass on.
func (g *group) terminate() { g.kill() }

func (g *group) kill() { _ = g.cmd.Process.Kill() }

// killOrphans has nothing to do: the job ended with its supervisor.
func killOrphans(int) {}
