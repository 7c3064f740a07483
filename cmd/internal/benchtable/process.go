package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// errMissing: a tool is not installed; the text says how to install it.
type errMissing struct{ tool, install string }

func (e errMissing) Error() string { return e.tool + " is not installed: " + e.install }

// tool finds a program.
func tool(name, install string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil && filepath.Base(name) == name {
		path, err = exec.LookPath(filepath.Join("/usr/sbin", name)) // often not in a user's PATH
	}
	if err != nil {
		return "", errMissing{name, install}
	}
	return path, nil
}

// child is a process that this program started and ends.
type child struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it is gone
	output *headWriter
}

// headWriter keeps the beginning of what a process says about its failure.
type headWriter struct{ text []byte }

func (w *headWriter) Write(p []byte) (int, error) {
	const enough = 2 << 10
	w.text = append(w.text, p[:min(len(p), enough-len(w.text))]...)
	return len(p), nil
}

// spawn starts a program. Its output is kept for errors when keep is set, and
// otherwise goes nowhere, so that it costs nothing.
func spawn(ctx context.Context, keep bool, program string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, program, args...), ended: make(chan struct{}), output: new(headWriter)}
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = stopTime
	if keep {
		c.cmd.Stdout, c.cmd.Stderr = c.output, c.output
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	go func() {
		_ = c.cmd.Wait() // why it ended is told by stop's caller or nobody
		close(c.ended)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stopTime is how long a process may take to end after SIGTERM.
const stopTime = 10 * time.Second

// stop ends the process: SIGTERM, and SIGKILL if that does not help.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-c.ended:
	case <-time.After(stopTime):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// failure is why a process is gone; nil while it runs.
func (c *child) failure() error {
	select {
	case <-c.ended:
		return fmt.Errorf("%s ended: %s", filepath.Base(c.cmd.Path), oneLine(string(c.output.text)))
	default:
		return nil
	}
}

// awaitPort returns when somebody accepts connections at the address.
func (c *child) awaitPort(ctx context.Context, address string) error {
	deadline := time.Now().Add(30 * time.Second)
	for dialer := (net.Dialer{Timeout: time.Second}); ; {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		if err := errors.Join(c.failure(), ctx.Err()); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not accept connections: %w", filepath.Base(c.cmd.Path), err)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// freeAddress is a loopback address that nobody listens on at the moment.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// memory is what a process has in RAM, in MB (10⁶ bytes).
type memory struct{ rss, peak, pss float64 }

func (m memory) String() string { return fmt.Sprintf("%.1f MB (PSS %.1f)", m.rss, m.pss) }

// memoryOf adds up processes.
func memoryOf(pids ...int) (memory, error) {
	var sum memory
	for _, pid := range pids {
		proc := filepath.Join("/proc", strconv.Itoa(pid))
		status, err := kilobytes(filepath.Join(proc, "status"))
		if err != nil {
			return memory{}, err
		}
		rollup, err := kilobytes(filepath.Join(proc, "smaps_rollup"))
		if err != nil {
			return memory{}, err
		}
		sum.rss += status["VmRSS"]
		sum.peak += status["VmHWM"]
		sum.pss += rollup["Pss"]
	}
	return sum, nil
}

// kilobytes reads the "Name: 123 kB" lines of a file in /proc, as MB.
func kilobytes(path string) (map[string]float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	defer f.Close()
	values := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if n, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB"); ok {
			if kb, err := strconv.ParseFloat(n, 64); err == nil {
				values[name] = kb * 1024 / 1e6
			}
		}
	}
	return values, lines.Err()
}

// childrenOf lists the processes that a process has started, by whichever of its
// threads.
func childrenOf(pid int) ([]int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids, nil
}
