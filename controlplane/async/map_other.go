//go:build !unix

package async

import (
	"fmt"
	"io"
	"os"
)

// mapFile reads a file into memory.
func mapFile(f *os.File, size int) (*payload, error) {
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read payload: %w", err)
	}
	return inline(b), nil
}
