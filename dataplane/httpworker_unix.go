//go:build unix

package dataplane

import (
	"errors"
	"syscall"
)

// livenessCheck looks at an idle connection without waiting or taking anything
// from it. The function is made once for each connection.
type livenessCheck struct {
	look func(fd uintptr)
	buf  [1]byte
	err  error
}

// alive tells that the server has neither closed the connection nor sent
// anything on it. Over TLS it cannot tell: there, session tickets arrive unasked.
func (c *httpConn) alive() bool {
	if c.loop != nil {
		return c.loop.Quiet()
	}
	if c.raw == nil {
		return true
	}
	p := &c.peek
	if p.look == nil {
		p.look = func(fd uintptr) {
			_, _, p.err = syscall.Recvfrom(int(fd), p.buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		}
	}
	// Control, not Read: Read would fail on the last exchange's deadline.
	if err := c.raw.Control(p.look); err != nil {
		return false
	}
	return errors.Is(p.err, syscall.EAGAIN)
}
