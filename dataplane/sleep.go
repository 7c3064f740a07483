package dataplane

import (
	"context"
	"time"
)

// Sleep is false when ctx ends before d has passed.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Within is how long to wait for what takes d when somebody waits for less than
// limit, 0 for ever, and whether it comes too late for them.
func Within(d, limit time.Duration) (wait time.Duration, late bool) {
	if limit > 0 && d >= limit {
		return limit, true
	}
	return d, false
}
