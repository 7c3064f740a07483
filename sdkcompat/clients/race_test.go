//go:build race

package clients_test

// raceEnabled: the daemon under test is built with the race detector too.
const raceEnabled = true
