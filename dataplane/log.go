package dataplane

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
)

// Bounds of what is kept of a worker's output.
const (
	maxLogBytes = 10 << 20 // of a file; one older file is kept beside it
	maxLogLine  = 16 << 10 // bytes; what is longer is cut
	tailLines   = 1000     // kept in memory
)

// Log keeps what one worker prints: in a file, and its last lines in memory. It
// is safe for concurrent use.
type Log struct {
	path string

	mu      sync.Mutex
	opened  bool     // or tried, or closed for good
	file    *os.File // nil when there is none
	size    int64
	partial []byte // a line whose end has not come yet
	cut     bool   // the rest of this line is dropped
	lines   []string
	next    int // where in lines the next one goes, once they are tailLines
}

// OpenLog creates or continues the log at path. Its file is made when the worker
// prints something: most of a thousand simulated ones never do.
func OpenLog(path string) *Log { return &Log{path: path} }

// open makes the file, once. Without one the log goes on in memory.
func (l *Log) open() {
	l.opened = true
	if os.MkdirAll(filepath.Dir(l.path), 0o700) != nil {
		return
	}
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	if info, err := file.Stat(); err == nil {
		l.file, l.size = file, info.Size()
	}
}

// Write takes output as it comes. It never fails: a worker must not notice that
// the disk is full.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.save(p)
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		if room := maxLogLine - len(l.partial); len(line) > room {
			line, l.cut = line[:room], true
		}
		l.partial = append(l.partial, line...)
		if ended {
			l.endLine()
		}
		rest = after
	}
	return len(p), nil
}

func (l *Log) endLine() {
	line := string(bytes.TrimSuffix(l.partial, []byte("\r")))
	if l.cut {
		line += " [cut]"
	}
	l.partial, l.cut = l.partial[:0], false
	if len(l.lines) < tailLines {
		l.lines = append(l.lines, line)
		return
	}
	l.lines[l.next] = line
	l.next = (l.next + 1) % tailLines
}

func (l *Log) save(p []byte) {
	if !l.opened {
		l.open()
	}
	if l.file == nil {
		return
	}
	if l.size+int64(len(p)) > maxLogBytes {
		l.rotate()
	}
	if l.file != nil {
		n, _ := l.file.Write(p)
		l.size += int64(n)
	}
}

// rotate keeps the full file as .1 and begins another.
func (l *Log) rotate() {
	_ = l.file.Close()
	_ = os.Rename(l.path, l.path+".1")
	l.file, l.size = nil, 0
	if file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err == nil {
		l.file = file
	}
}

// Tail gives the last n lines, oldest first, with the unfinished one.
func (l *Log) Tail(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := append(append([]string{}, l.lines[l.next:]...), l.lines[:l.next]...)
	if len(l.partial) > 0 {
		all = append(all, string(l.partial))
	}
	return all[max(0, len(all)-n):]
}

// Close closes the file; Tail goes on to work.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = true
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
