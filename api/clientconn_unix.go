//go:build unix

package api

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sagelocal/sagelocal/dataplane/eventloop"
)

// closedByPeer looks at the socket without taking anything from it.
func closedByPeer(conn net.Conn) bool {
	if c, ok := conn.(*eventloop.Conn); ok {
		return c.Ended()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	var closed bool
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		closed = n == 0 && err == nil ||
			err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	return closed || err != nil
}
