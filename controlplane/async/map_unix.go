//go:build unix

package async

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile shows a file as memory.
func mapFile(f *os.File, size int) (*payload, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map payload: %w", err)
	}
	return &payload{bytes: b, close: func() error { return unix.Munmap(b) }}, nil
}
