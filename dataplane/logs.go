package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Logs is the directory of the workers' logs, laid out like CloudWatch's log
// group /aws/sagemaker/Endpoints/<endpoint> with its streams
// <variant>/<instance id>, or <variant>/<instance id>/<container> for several
// containers (docs: logging-cloudwatch), for each account and region.
type Logs struct {
	Dir string
}

// keptLogs is how many instances' logs are kept of a variant, so that a crash
// loop does not fill the disk.
const keptLogs = 100

// Open begins the log of an instance and forgets the oldest of its variant.
func (l *Logs) Open(key Key, variant, instance string) (*Log, error) {
	dir := filepath.Join(l.group(key), variant)
	if err := prune(dir, keptLogs-1); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return OpenLog(filepath.Join(dir, instance+".log")), nil
}

// OpenContainer begins the log of one of several containers of an instance, in
// the stream <variant>/<instance id>/<container>.
func (l *Logs) OpenContainer(key Key, variant, instance, container string) (*Log, error) {
	dir := filepath.Join(l.group(key), variant)
	if _, err := os.Stat(filepath.Join(dir, instance)); err != nil { // its first container
		if err := prune(dir, keptLogs-1); err != nil {
			return nil, fmt.Errorf("log: %w", err)
		}
	}
	return OpenLog(filepath.Join(dir, instance, container+".log")), nil
}

// prune removes the oldest logs of a directory until at most keep are left.
func prune(dir string, keep int) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || len(entries) <= keep {
		return nil
	}
	if err != nil {
		return err
	}
	var logs []fs.FileInfo
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && (info.IsDir() || strings.HasSuffix(info.Name(), ".log")) {
			logs = append(logs, info)
		}
	}
	slices.SortFunc(logs, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, old := range logs[:max(0, len(logs)-keep)] {
		path := filepath.Join(dir, old.Name())
		_ = os.Remove(path + ".1") // most have none
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

func (l *Logs) group(key Key) string {
	return filepath.Join(l.Dir, key.Account, key.Region, key.Name)
}

// LogStream is one instance's log.
type LogStream struct {
	Stream   string    `json:"stream"` // <variant>/<instance id>[/<container>]
	Modified time.Time `json:"modified"`
	Lines    []string  `json:"lines"`
}

// maxTailBytes is how far back a log is read for its last lines.
const maxTailBytes = 1 << 20

// Tail reads the last n lines of every instance that the endpoint has had, the
// latest writer first. A directory that does not exist is an endpoint whose
// containers never started.
func (l *Logs) Tail(key Key, n int) ([]LogStream, error) {
	streams := []LogStream{}
	root, err := os.OpenRoot(l.group(key))
	if errors.Is(err, fs.ErrNotExist) {
		return streams, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".log") {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		lines, err := tailFile(root, path, info.Size(), n)
		streams = append(streams, LogStream{strings.TrimSuffix(path, ".log"), info.ModTime().UTC(), lines})
		return err
	})
	slices.SortStableFunc(streams, func(a, b LogStream) int { return b.Modified.Compare(a.Modified) })
	return streams, err
}

func tailFile(root *os.Root, path string, size int64, n int) ([]string, error) {
	file, err := root.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	from := max(0, size-maxTailBytes)
	buf := make([]byte, size-from)
	read, err := file.ReadAt(buf, from)
	if err != nil && read == 0 && size > 0 {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(buf[:read]), "\n"), "\n")
	return lines[max(0, len(lines)-n):], nil
}

// Remove deletes the logs of an account's endpoints, or of everyone's when
// account is empty.
func (l *Logs) Remove(account string) error {
	return os.RemoveAll(filepath.Join(l.Dir, account))
}
