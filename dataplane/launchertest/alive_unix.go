//go:build unix

package launchertest

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// Alive tells that a process runs; one that only waits to be reaped does not.
func Alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		_, err := os.Stat("/proc/self/stat")
		return err != nil // no such file system: the signal has to do
	}
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return len(state) > 0 && state[0] != 'Z' && state[0] != 'X'
}

func newSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
