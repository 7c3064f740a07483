//go:build !race

package eventloop

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// These calls do not tell Go's scheduler that a system call is under way: the
// sockets are non-blocking, so each ends when the bytes are copied, and the
// loop's thread is to stay where it is.

func read(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return result(n, errno)
}

func write(fd int, head, body []byte) (int, error) {
	if len(body) == 0 || len(head) >= maxTransfer {
		head = head[:min(len(head), maxTransfer)]
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(head))), uintptr(len(head)))
		return result(n, errno)
	}
	var parts [2]unix.Iovec
	parts[0].Base, parts[1].Base = unsafe.SliceData(head), unsafe.SliceData(body)
	parts[0].SetLen(len(head))
	parts[1].SetLen(min(len(body), maxTransfer-len(head)))
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&parts)), uintptr(len(parts)))
	return result(n, errno)
}

// poll takes the events that are there.
func poll(epoll int, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func result(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
