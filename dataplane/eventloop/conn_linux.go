package eventloop

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxTransfer is how much one call may copy, so that it stays short: a
// microsecond or ten.
const maxTransfer = 64 << 10

// Conn is a TCP connection that a loop watches. Reading, or writing, waits only
// in the strand that it is bound to.
type Conn struct {
	loop          *Loop
	number        int32 // tells connections of one descriptor apart
	local, remote net.Addr
	strand        *Strand
	r, w          half
	out           posted
	ended         atomic.Bool // the other side has closed, or the connection broke

	closed atomic.Bool
	mu     sync.Mutex // held while a strand that is away uses fd, and to close it
	fd     int        // -1 when it is closed
}

// half is one direction of a connection.
type half struct {
	ready    atomic.Bool  // a system call is worth while
	waits    atomic.Bool  // the strand waits for ready
	deadline atomic.Int64 // 0: none
}

func (h *half) late(now int64) bool {
	at := h.deadline.Load()
	return at != 0 && at <= now
}

var numbers atomic.Int32

// Adopt takes a connection from Go's poller to the loop's; conn is closed
// afterwards if there is no error, and untouched if there is one.
func (l *Loop) Adopt(conn *net.TCPConn) (*Conn, error) {
	if l.shut() {
		return nil, fmt.Errorf("adopt: %w", ErrClosed)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	fd := -1
	var dup error
	if err := raw.Control(func(old uintptr) {
		fd, dup = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil || dup != nil {
		return nil, fmt.Errorf("adopt: %w", errors.Join(err, dup))
	}
	c := &Conn{loop: l, number: numbers.Add(1), local: conn.LocalAddr(), remote: conn.RemoteAddr(), fd: fd}
	c.w.ready.Store(true) // what there is to be read has an event
	_ = conn.Close()      // the socket stays open as fd
	return c, nil
}

// Bind says which strand uses the connection, on its own loop.
func (c *Conn) Bind(s *Strand) { c.strand = s }

// Loop is what watches the connection.
func (c *Conn) Loop() *Loop { return c.loop }

// Watch lets the loop tell of events. It must be called on the loop, before the
// first Read or Write.
func (c *Conn) Watch() error {
	if c.fd < 0 {
		return fmt.Errorf("watch: %w", net.ErrClosed)
	}
	if c.loop.shut() {
		return fmt.Errorf("watch: %w", ErrClosed)
	}
	err := unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&math.MaxUint32, Fd: int32(c.fd), Pad: c.number,
	})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	c.loop.enter(c)
	return nil
}

// happened takes note of an event; on the loop.
func (c *Conn) happened(events uint32) {
	const end = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	if events&end != 0 {
		c.ended.Store(true)
	}
	if events&(unix.EPOLLIN|end) != 0 {
		c.r.ready.Store(true)
	}
	if events&(unix.EPOLLOUT|end) != 0 {
		c.w.ready.Store(true)
	}
	if c.r.waits.Load() && c.r.ready.Load() || c.w.waits.Load() && c.w.ready.Load() {
		c.strand.wake()
	}
}

// await returns when a system call is worth while.
func (c *Conn) await(h *half) error {
	c.strand.share()
	for {
		writes := h == &c.r && c.out.left()
		if writes {
			c.push()
			writes = c.out.left()
		}
		if err := c.usable(h); err != nil || h.ready.Load() {
			return err
		}
		h.waits.Store(true)
		if writes {
			c.w.waits.Store(true)
		}
		// An event may have come before the loop could see waits.
		if !h.ready.Load() && (!writes || !c.w.ready.Load()) && c.usable(h) == nil {
			c.strand.wait()
		}
		h.waits.Store(false)
		if writes {
			c.w.waits.Store(false)
		}
	}
}

func (c *Conn) usable(h *half) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	if h.deadline.Load() != 0 && h.late(c.now()) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// now is the time by the deadlines' clock. A loop that sleeps does not look at it.
func (c *Conn) now() int64 {
	if c.strand.Inline() {
		return c.loop.tick
	}
	return clock(time.Now())
}

// AwaitRead returns when Read has something to give, or an error, without a
// buffer being held meanwhile.
func (c *Conn) AwaitRead() error {
	for {
		event := !c.r.ready.Load() && c.strand.Inline()
		if err := c.await(&c.r); err != nil {
			return c.failed("read", err)
		}
		if event { // and not a Read that has left nothing
			return nil
		}
		c.r.ready.Store(false)
		if c.pending() {
			c.r.ready.Store(true)
			return nil
		}
	}
}

// pending tells that Read would not have to wait. It leaves an error for Read.
func (c *Conn) pending() bool {
	n, err := c.try(func(fd int) (int, error) {
		return unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return n > 0 || err != nil
}

// Read is net.Conn's.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	p = p[:min(len(p), maxTransfer)]
	for {
		if err := c.await(&c.r); err != nil {
			return 0, c.failed("read", err)
		}
		c.r.ready.Store(false)
		n, err := c.try(func(fd int) (int, error) { return read(fd, p) })
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		// What is left, or comes later, has an event of its own, unless the buffer
		// was too small or the end of the stream was part of an earlier event.
		if err != nil || n == len(p) || c.ended.Load() {
			c.r.ready.Store(true)
		}
		switch {
		case err != nil:
			return 0, c.failed("read", err)
		case n == 0:
			return 0, io.EOF
		}
		c.strand.copied(n)
		return n, nil
	}
}

// Write is net.Conn's.
func (c *Conn) Write(p []byte) (int, error) { return c.WriteParts(p, nil) }

// WriteParts writes two parts as one.
func (c *Conn) WriteParts(head, body []byte) (written int, err error) {
	for len(head)+len(body) > 0 {
		if err := c.await(&c.w); err != nil {
			return written, c.failed("write", err)
		}
		n, err := c.writeSome(head, body)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return written, c.failed("write", err)
		}
		written += n
		taken := min(n, len(head))
		head, body = head[taken:], body[n-taken:]
	}
	return written, nil
}

// try makes a system call, again when a signal interrupted it. A strand that is
// on the loop cannot meet release there.
func (c *Conn) try(call func(fd int) (int, error)) (n int, err error) {
	if !c.strand.Inline() {
		c.mu.Lock()
		defer c.mu.Unlock()
	}
	if c.fd < 0 {
		return 0, net.ErrClosed
	}
	for {
		if n, err = call(c.fd); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Close is net.Conn's. What waits for the connection is told. The loop closes the
// socket a little later, when no system call can be using it.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return c.failed("close", net.ErrClosed)
	}
	if !c.loop.post(c.release) {
		c.release()
	}
	return nil
}

// release closes the socket; on the loop, or after its end.
func (c *Conn) release() {
	c.loop.leave(c)
	c.mu.Lock()
	_ = unix.Close(c.fd) // nothing is buffered that could fail to leave
	c.fd = -1
	c.mu.Unlock()
	c.look()
}

// look lets the strand see what has changed, if it waits for the connection; on
// the loop.
func (c *Conn) look() {
	if c.r.waits.Load() || c.w.waits.Load() {
		c.strand.wake()
	}
}

// CloseWrite ends what this side sends.
func (c *Conn) CloseWrite() error {
	_, err := c.try(func(fd int) (int, error) { return 0, unix.Shutdown(fd, unix.SHUT_WR) })
	if err != nil {
		return c.failed("shutdown", err)
	}
	return nil
}

// Ended tells that the other side has closed its end, or that the connection
// broke.
func (c *Conn) Ended() bool { return c.ended.Load() || c.closed.Load() }

// Quiet tells that, as far as the loop has heard, the other side has sent nothing
// that was not read, not even the end of the stream.
func (c *Conn) Quiet() bool {
	return !c.Ended() && (!c.r.ready.Load() || !c.pending())
}

// SetDeadline is net.Conn's.
func (c *Conn) SetDeadline(at time.Time) error {
	_ = c.SetReadDeadline(at)
	return c.SetWriteDeadline(at)
}

// SetReadDeadline is net.Conn's.
func (c *Conn) SetReadDeadline(at time.Time) error { return c.setDeadline(&c.r, at) }

// SetWriteDeadline is net.Conn's.
func (c *Conn) SetWriteDeadline(at time.Time) error { return c.setDeadline(&c.w, at) }

func (c *Conn) setDeadline(h *half, at time.Time) error {
	if c.closed.Load() {
		return c.failed("set", net.ErrClosed)
	}
	if at.IsZero() {
		h.deadline.Store(0)
		return nil
	}
	tick := clock(at)
	h.deadline.Store(tick)
	c.loop.bound(tick)
	return nil
}

// LocalAddr is net.Conn's.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is net.Conn's.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

func (c *Conn) failed(op string, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}
