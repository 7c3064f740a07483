package process

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// killTimeout is how long killed processes may take to be gone.
const killTimeout = 5 * time.Second

// child is a worker process as the daemon sees it, through its supervisor. It
// is the dataplane.Backing of the HTTP worker.
type child struct {
	cmd     *exec.Cmd // the supervisor
	control io.Closer // its standard input; closing it kills the worker
	pid     int       // the worker's, and its process group's; 0 if none was started
	output  *tail

	stopping atomic.Bool
	done     chan struct{}
	err      error // set before done is closed
}

// start starts a supervisor, and the worker through it. release is called when
// nothing of them is left, also after an error. The error wraps ErrCannotStart
// or the context's.
func start(ctx context.Context, o order, log io.Writer, release func()) (*child, error) {
	c := &child{output: &tail{next: log}, done: make(chan struct{})}
	reports, err := c.supervisor(o)
	if err != nil {
		release()
		return nil, fmt.Errorf("%w: %w", dataplane.ErrCannotStart, err)
	}
	abort := context.AfterFunc(ctx, func() { _ = c.control.Close() })
	var first report
	err = reports.Decode(&first)
	c.pid = first.PID
	go c.await(reports, release)
	if !abort() {
		<-c.done
		return nil, fmt.Errorf("starting %s: %w", o.Command[0], ctx.Err())
	}
	switch {
	case err != nil:
		_ = c.Stop(ctx, 0)
		return nil, fmt.Errorf("%w: its supervisor ended: %w%s", dataplane.ErrCannotStart, err, c.lastOutput())
	case first.Error != "":
		<-c.done
		return nil, fmt.Errorf("%w: %s", dataplane.ErrCannotStart, first.Error)
	}
	return c, nil
}

// supervisor starts this binary as a supervisor and gives it its order.
func (c *child) supervisor(o order) (*gob.Decoder, error) {
	path, err := program()
	if err != nil {
		return nil, err
	}
	c.cmd = exec.Command(path)
	c.cmd.Args = []string{"sagelocal", superviseArgument}
	c.cmd.Env = []string{} // the worker's is in the order, and is none of the supervisor's
	c.cmd.Stderr = c.output
	c.cmd.SysProcAttr = supervisorAttributes()
	// A process that has got away may hold the log open.
	c.cmd.WaitDelay = time.Second
	control, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	c.control = control
	reports, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	// A supervisor that cannot take its order is one that will not report.
	_ = gob.NewEncoder(control).Encode(o)
	return gob.NewDecoder(reports), nil
}

// await waits until nothing is left of the worker.
func (c *child) await(reports *gob.Decoder, release func()) {
	var last report
	if reports.Decode(&last) != nil {
		killOrphans(c.pid) // the supervisor was killed
	}
	err := c.cmd.Wait()
	release()
	switch {
	case c.stopping.Load():
	case last.Ended != "":
		c.err = fmt.Errorf("the process ended: %s%s", last.Ended, c.lastOutput())
	default:
		c.err = fmt.Errorf("its supervisor ended: %w%s", err, c.lastOutput())
	}
	close(c.done)
}

// Done is closed when nothing is left of the worker and its descendants.
func (c *child) Done() <-chan struct{} { return c.done }

// Err tells how the process ended on its own, with its last output.
func (c *child) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Stop sends SIGTERM to the worker's group and SIGKILL when grace has passed or
// ctx ends.
func (c *child) Stop(ctx context.Context, grace time.Duration) error {
	c.stopping.Store(true)
	if c.cmd.Process.Signal(syscall.SIGTERM) == nil && c.ended(ctx, grace) {
		return nil
	}
	_ = c.control.Close()
	if c.ended(context.Background(), killTimeout) {
		return nil
	}
	// The supervisor itself does not react: stopped by a debugger, perhaps.
	killOrphans(c.pid)
	_ = c.cmd.Process.Kill()
	if c.ended(context.Background(), killTimeout) {
		return nil
	}
	return fmt.Errorf("process %d does not end after SIGKILL", c.pid)
}

// ended waits for the end, as long as the timeout and ctx allow.
func (c *child) ended(ctx context.Context, timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// lastOutput is the end of what the worker printed, as the end of a sentence.
func (c *child) lastOutput() string {
	if text := c.output.String(); text != "" {
		return fmt.Sprintf("; its last output was:\n%s", text)
	}
	return ""
}
