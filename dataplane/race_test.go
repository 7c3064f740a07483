//go:build race

package dataplane

// raceEnabled: counts of allocations differ, as the race detector makes its own
// and sync.Pool drops some of what is put into it.
const raceEnabled = true
