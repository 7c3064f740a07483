package process

import (
	"encoding/gob"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

// superviseArgument makes this program a supervisor.
const superviseArgument = "__supervise-worker"

// order is the first thing that the daemon writes to a supervisor's standard
// input. It never closes that pipe unless the worker is to die at once; the
// kernel closes it when the daemon is gone, however it ended. Gob, unlike JSON,
// keeps paths that are not UTF-8.
type order struct {
	Command     []string // not empty
	Env         []string // NAME=value
	Dir         string
	MemoryBytes uint64 // of each process; 0: no limit
}

// report is what a supervisor writes to its standard output: one with PID or
// Error when it has tried to start the worker, one with Ended when nothing is
// left of it.
type report struct {
	PID   int
	Error string
	Ended string // "exit status 3", "signal: killed"
}

// outcome is how the worker ended.
type outcome struct {
	text string
	code int // as a shell gives it: 128 + signal
}

func supervising() bool { return len(os.Args) == 2 && os.Args[1] == superviseArgument }

func init() {
	// Linux sends the parent-death signal when the thread that forked ends. The
	// main thread ends with the process.
	if supervising() {
		runtime.LockOSThread()
	}
}

// Supervise returns at once unless this process was started by a launcher of
// this package, from the same binary, to stand between the daemon and one
// worker; then it does not return. Call it first thing in main and in TestMain
// of every program that launches processes.
//
// A supervisor lives for the sake of one promise: no worker outlives the daemon,
// even one that is killed. A process that is killed can clean up nothing, and
// Linux's parent-death signal is lost on the worker's own children.
func Supervise() {
	if supervising() {
		os.Exit(supervise(os.Stdin, os.Stdout, os.Stderr))
	}
}

// supervise runs one worker, whose output goes to the file.
func supervise(control io.Reader, reports io.Writer, output *os.File) int {
	// Caught rather than ignored: a worker would inherit that. SIGPIPE comes when
	// the daemon has died, and must not end the supervisor before the worker.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)

	decoder, encoder := gob.NewDecoder(control), gob.NewEncoder(reports)
	var o order
	if err := decoder.Decode(&o); err != nil || len(o.Command) == 0 {
		_ = encoder.Encode(report{Error: "supervisor: no order came"})
		return 2
	}
	g, err := startOrdered(&o, output)
	if err != nil {
		_ = encoder.Encode(report{Error: err.Error()})
		return 1
	}
	_ = encoder.Encode(report{PID: g.pid})

	daemonGone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, control)
		close(daemonGone)
	}()
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGPIPE {
				g.terminate()
			}
		case <-daemonGone:
			g.kill()
			daemonGone = nil
		case end := <-g.ended:
			_ = encoder.Encode(report{Ended: end.text})
			return end.code
		}
	}
}

// startOrdered starts the worker. Its program is looked up in the operator's
// PATH, as it stands in the order, from the worker's directory.
func startOrdered(o *order, output *os.File) (*group, error) {
	if err := os.Chdir(o.Dir); err != nil {
		return nil, err
	}
	for _, pair := range o.Env {
		if path, ok := cutPath(pair); ok {
			if err := os.Setenv("PATH", path); err != nil {
				return nil, err
			}
		}
	}
	cmd := exec.Command(o.Command[0], o.Command[1:]...)
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	cmd.Env, cmd.Stdout, cmd.Stderr = o.Env, output, output
	return startGroup(cmd, o.MemoryBytes)
}
