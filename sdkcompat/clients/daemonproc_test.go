package clients_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemon is a running `sagelocal serve`.
type daemon struct {
	URL    string
	dir    string // everything that the daemon and its workers write is in here
	cmd    *exec.Cmd
	stdout syncBuffer
	stderr syncBuffer
	exited chan struct{}
	result error // of the process, once exited is closed
}

// daemonOptions are the differences from a daemon in memory on a free port.
type daemonOptions struct {
	dir  string   // keeps its state in dir/data; empty means in memory
	args []string // after those of the harness
	env  []string
	bare bool // only args, nothing of the harness
}

// command is `sagelocal serve` with the harness's flags, not started.
func (o *daemonOptions) command() (*exec.Cmd, error) {
	build, err := binaries.get()
	if err != nil {
		return nil, err
	}
	args := []string{"serve"}
	if !o.bare {
		args = append(args, "--listen=127.0.0.1:0", "--config="+filepath.Join(build, "sagelocal.yaml"), "--time-scale="+timeScale)
	}
	switch {
	case o.dir == "":
		if o.dir, err = os.MkdirTemp(build, "daemon-"); err != nil {
			return nil, err
		}
		if !o.bare {
			args = append(args, "--in-memory")
		}
	case !o.bare:
		args = append(args, "--data-dir="+filepath.Join(o.dir, "data"))
	}
	cmd := exec.Command(filepath.Join(build, "sagelocal"), append(args, o.args...)...)
	// TMPDIR marks the daemon and its workers: see processesOf.
	cmd.Env = append(append(baseEnvironment(), "TMPDIR="+o.dir, "XDG_DATA_HOME="+o.dir), o.env...)
	return cmd, nil
}

var answersOn = regexp.MustCompile(`answers on (http://\S+)`)

// launchDaemon starts a daemon and returns when it has printed its address.
func launchDaemon(o daemonOptions) (*daemon, error) {
	cmd, err := o.command()
	if err != nil {
		return nil, err
	}
	d := &daemon{dir: o.dir, cmd: cmd, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &d.stdout, &d.stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		d.result = cmd.Wait()
		close(d.exited)
	}()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(startLimit)
	for {
		if m := answersOn.FindStringSubmatch(d.stdout.String()); m != nil {
			d.URL = m[1]
			return d, nil
		}
		select {
		case <-ticker.C:
		case <-d.exited:
			return nil, fmt.Errorf("daemon ended: %w\n%s", d.result, d.stderr.String())
		case <-timeout:
			return nil, errors.Join(fmt.Errorf("no address after %v", startLimit), d.kill())
		}
	}
}

// startDaemon gives a test its own daemon, which is stopped and checked at the
// test's end.
func startDaemon(t *testing.T, o daemonOptions) *daemon {
	t.Helper()
	d, err := launchDaemon(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("daemon:\n%s", d.stderr.String())
		}
	})
	return d
}

// shared is the daemon of all tests that need nothing special of it.
var shared struct {
	once   sync.Once
	daemon *daemon
	err    error
}

func sharedDaemon(t *testing.T) *daemon {
	t.Helper()
	shared.once.Do(func() { shared.daemon, shared.err = launchDaemon(daemonOptions{}) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.daemon
}

func stopShared() error {
	if shared.daemon == nil {
		return nil
	}
	return shared.daemon.stop()
}

// stop ends the daemon as an operator does and checks that it goes in order:
// in time, with status 0, without a data race or a panic, and with its workers.
func (d *daemon) stop() error {
	select {
	case <-d.exited: // the test has ended it
		return d.workersGone()
	default:
	}
	if err := d.terminate(); err != nil {
		return err
	}
	return d.awaitStop()
}

func (d *daemon) terminate() error { return d.cmd.Process.Signal(syscall.SIGTERM) }

func (d *daemon) awaitStop() error {
	select {
	case <-d.exited:
	case <-time.After(stopLimit):
		return errors.Join(fmt.Errorf("daemon still runs %v after SIGTERM\n%s", stopLimit, d.stderr.String()), d.kill())
	}
	if d.result != nil {
		return fmt.Errorf("daemon ended with %w\n%s", d.result, d.stderr.String())
	}
	for _, bad := range []string{"DATA RACE", "panic", "request failed"} {
		if out := d.stderr.String(); strings.Contains(out, bad) {
			return fmt.Errorf("daemon reported %s:\n%s", bad, out)
		}
	}
	if left := processesOf(d.dir); len(left) > 0 {
		return fmt.Errorf("daemon left %q", left)
	}
	if left, err := filepath.Glob(filepath.Join(d.dir, "sagelocal-*")); err != nil || len(left) > 0 {
		return fmt.Errorf("daemon left its state in memory on disk: %q %w", left, err)
	}
	return nil
}

// kill is kill -9.
func (d *daemon) kill() error {
	if err := d.cmd.Process.Kill(); err != nil {
		return err
	}
	<-d.exited
	return nil
}

// workersGone waits for the supervisors of a killed daemon.
func (d *daemon) workersGone() error {
	deadline := time.Now().Add(stopLimit)
	for {
		left := processesOf(d.dir)
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the killed daemon left %q", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// processesOf lists the processes that belong to the daemon of a directory: it
// stands in their environment. Only Linux shows that; elsewhere tests go by the
// process ids that the test model tells.
func processesOf(dir string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(environ, []byte(dir+"\x00")) && !bytes.Contains(environ, []byte(dir+"/")) {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		found = append(found, filepath.Base(filepath.Dir(file))+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
	}
	return found
}

// runningFrom lists the processes whose program is in a directory: daemons,
// supervisors and workers. Like processesOf it sees them on Linux only.
func runningFrom(dir string) []string {
	var found []string
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if program, err := os.Readlink(link); err == nil && strings.HasPrefix(program, dir+"/") {
			found = append(found, filepath.Base(filepath.Dir(link))+" "+program)
		}
	}
	return found
}

// alive tells whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil {
		_, rest, _ := bytes.Cut(stat, []byte(") "))
		return !bytes.HasPrefix(rest, []byte("Z"))
	}
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}
