package store

import (
	"sync/atomic"
	"time"
)

// clock gives the wall time and never runs backwards, whatever NTP or an
// operator does to the host's clock, so that the order of creation times is the
// order of commits.
type clock struct{ last atomic.Int64 }

// now is UTC in whole milliseconds, the resolution of AWS's timestamps.
func (c *clock) now() time.Time {
	wall := time.Now().UnixMilli()
	for {
		last := c.last.Load()
		if wall <= last {
			return time.UnixMilli(last).UTC()
		}
		if c.last.CompareAndSwap(last, wall) {
			return time.UnixMilli(wall).UTC()
		}
	}
}
