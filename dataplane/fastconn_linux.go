//go:build !race

package dataplane

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// fastConn is a TCP connection whose reads and writes do not tell Go's scheduler
// that a system call is under way. They need not: the socket is non-blocking,
// so the call ends when the bytes are copied, and waiting is the poller's
// business as ever, with deadlines and Close as ever. But the kernel often runs
// the process at the other end before it lets a write return, and then the
// scheduler, for which that is a blocked call, hands the goroutines to another
// thread: with one request in flight for each of a few workers that happens
// thousands of times a second, and is a tenth of what an invocation costs.
//
// The race detector takes a write and the read at the other end for an order of
// events, and knows of package syscall's only; so it sees ordinary connections.
type fastConn struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out transfer
}

// FastConn makes reading and writing small messages cheaper, where it can. The
// result is used like conn itself, which may be of any kind; one goroutine may
// read while another writes, but no two may do the same.
func FastConn(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	c := &fastConn{TCPConn: tcp, raw: raw}
	c.in.call, c.out.call = syscall.SYS_READ, syscall.SYS_WRITE
	c.in.try, c.out.try = c.in.do, c.out.doAll
	return c
}

// transfer is one direction of a connection.
type transfer struct {
	call  uintptr
	try   func(fd uintptr) (done bool) // do or doAll, made once
	rest  []byte
	more  []byte           // to be written behind rest
	parts [2]syscall.Iovec // of one writev
	errno syscall.Errno
}

// maxTransfer is how much one call may copy, so that it stays short: a
// microsecond or ten.
const maxTransfer = 64 << 10

// do passes the next part of rest and more to the kernel; false means that the
// socket is not ready.
func (t *transfer) do(fd uintptr) (ready bool) {
	for {
		part := t.rest[:min(len(t.rest), maxTransfer)]
		var n uintptr
		var errno syscall.Errno
		if room := maxTransfer - len(part); len(t.more) > 0 && room > 0 {
			t.parts[0].Base, t.parts[1].Base = unsafe.SliceData(part), unsafe.SliceData(t.more)
			t.parts[0].SetLen(len(part))
			t.parts[1].SetLen(min(len(t.more), room))
			n, _, errno = syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&t.parts)), uintptr(len(t.parts)))
			t.parts = [2]syscall.Iovec{}
		} else {
			n, _, errno = syscall.RawSyscall(t.call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(part))), uintptr(len(part)))
		}
		switch errno {
		case 0:
			t.advance(int(n))
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.errno = errno
			return true
		}
	}
}

// advance takes n bytes off what is left. When more is at its turn it becomes
// rest.
func (t *transfer) advance(n int) {
	if n >= len(t.rest) && len(t.more) > 0 {
		t.rest, t.more = t.more[n-len(t.rest):], nil
		return
	}
	t.rest = t.rest[n:]
}

// doAll goes on until nothing is left.
func (t *transfer) doAll(fd uintptr) bool {
	for len(t.rest) > 0 && t.errno == 0 {
		if !t.do(fd) {
			return false
		}
	}
	return true
}

// Read is io.Reader's.
func (c *fastConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.in.rest, c.in.errno = p, 0
	err := c.raw.Read(c.in.try)
	n := len(p) - len(c.in.rest)
	c.in.rest = nil // p is the caller's
	switch {
	case err != nil:
		return 0, err
	case c.in.errno != 0:
		return 0, c.failed("read", c.in.errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write is io.Writer's.
func (c *fastConn) Write(p []byte) (int, error) {
	return c.WriteParts(p, nil)
}

// WriteParts writes two parts as one.
func (c *fastConn) WriteParts(head, body []byte) (int, error) {
	c.out.rest, c.out.more, c.out.errno = head, body, 0
	c.out.advance(0)
	var err error
	if len(c.out.rest) > 0 {
		err = c.raw.Write(c.out.try)
	}
	left := len(c.out.rest) + len(c.out.more)
	c.out.rest, c.out.more = nil, nil // they are the caller's
	if err == nil && c.out.errno != 0 {
		err = c.failed("write", c.out.errno)
	}
	return len(head) + len(body) - left, err
}

func (c *fastConn) failed(op string, errno syscall.Errno) error {
	return &net.OpError{
		Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(),
		Err: os.NewSyscallError(op, errno),
	}
}
