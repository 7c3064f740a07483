//go:build unix && !linux

package process

import (
	"os"
	"syscall"
	"time"
)

func program() (string, error) { return os.Executable() }

func workerAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// Without adoption, descendants that leave the group are out of reach.
func adoptOrphans() {}
func killChildren() {}

// limitMemory has no effect: macOS does not hold programs to RLIMIT_DATA.
func limitMemory(uint64) (restore func(), err error) { return func() {}, nil }

// awaitGroup waits until the killed orphans, who are not ours to wait for, are
// gone; less long if one of them cannot die.
func awaitGroup(pid int) {
	for deadline := time.Now().Add(killTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if syscall.Kill(-pid, 0) == syscall.ESRCH {
			return
		}
	}
}
