package process

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

const (
	tailBytes = 4 << 10
	tailLines = 10
)

// tail passes a worker's output on and remembers its end. It is safe for
// concurrent use.
type tail struct {
	next io.Writer

	mu  sync.Mutex
	buf []byte
}

// Write never fails: the worker would be killed by SIGPIPE.
func (t *tail) Write(p []byte) (int, error) {
	_, _ = t.next.Write(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailBytes {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailBytes:]...)
	}
	return len(p), nil
}

// String is the last lines, without the end of the last one.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := bytes.TrimSpace(t.buf[max(0, len(t.buf)-tailBytes):])
	lines := bytes.Split(text, []byte("\n"))
	lines = lines[max(0, len(lines)-tailLines):]
	return strings.ToValidUTF8(string(bytes.Join(lines, []byte("\n"))), "\uFFFD")
}
