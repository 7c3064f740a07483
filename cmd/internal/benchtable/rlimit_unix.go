//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// allowDescriptors lets the programs started from now on open n files. Go
// raises its own limit, but gives its children the one it was started with
// unless told otherwise (package os, Go 1.19).
func allowDescriptors(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	if limit.Max < n {
		return fmt.Errorf("RLIMIT_NOFILE: at most %d, %d are needed", limit.Max, n)
	}
	limit.Cur = n
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	return nil
}
