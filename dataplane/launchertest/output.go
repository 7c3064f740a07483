package launchertest

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// Output is a Spec.Log that can be waited for.
type Output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed at the next Write
}

// NewOutput is an empty one.
func NewOutput() *Output { return &Output{changed: make(chan struct{})} }

// Write appends.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.buf.Write(p)
}

// Await waits until the text has been written, and returns all there is. It
// fails the test when that takes too long.
func (o *Output) Await(t *testing.T, text string) string {
	t.Helper()
	deadline := time.After(promptly)
	for {
		o.mu.Lock()
		all, changed := o.buf.String(), o.changed
		o.mu.Unlock()
		if strings.Contains(all, text) {
			return all
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%q was not printed; there is:\n%s", text, all)
		}
	}
}

// String is what has been written.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
