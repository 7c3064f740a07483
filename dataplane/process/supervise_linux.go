package process

import (
	"bytes"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is the binary to start as a supervisor. The link leads to the file
// that runs, even if an upgrade has replaced it.
func program() (string, error) {
	const self = "/proc/self/exe"
	if _, err := os.Stat(self); err == nil {
		return self, nil
	}
	return os.Executable()
}

// workerAttributes let the worker die with its supervisor.
func workerAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// adoptOrphans makes descendants ours when their parent dies, those included
// that have left the group. A kernel before 3.4 refuses; then the group is all.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// limitMemory bounds the private writable memory of the processes started until
// restore is called, each by itself. It is the soft limit that is lowered, so
// that it can be raised again here.
func limitMemory(size uint64) (restore func(), err error) {
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &old); err != nil {
		return nil, err
	}
	if size == 0 || size >= old.Cur {
		return func() {}, nil
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: size, Max: old.Max}); err != nil {
		return nil, err
	}
	return func() { _ = syscall.Setrlimit(syscall.RLIMIT_DATA, &old) }, nil
}

// killChildren kills all children of this process. A child's own children are
// ours once it is dead, so the caller comes back after each wait.
func killChildren() {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && parentOf(pid) == os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// parentOf reads the fourth field of /proc/pid/stat (proc_pid_stat(5)); the
// second is a name in parentheses that may itself contain any byte. 0 if the
// process is gone.
func parentOf(pid int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}

// awaitGroup has nothing to do: all descendants were children, and are reaped.
func awaitGroup(int) {}
