package dataplane

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Logs is the directory of the workers' logs, laid out like CloudWatch's log
// group /aws/sagemaker/Endpoints/<endpoint> with its streams
// <variant>/<instance id> (docs: logging-cloudwatch), for each account and
// region.
type Logs struct {
	Dir string
}

// Open begins the log of an instance.
func (l *Logs) Open(key Key, variant, instance string) (*Log, error) {
	return OpenLog(filepath.Join(l.group(key), variant, instance+".log"))
}

func (l *Logs) group(key Key) string {
	return filepath.Join(l.Dir, key.Account, key.Region, key.Name)
}

// LogStream is one instance's log.
type LogStream struct {
	Stream   string    `json:"stream"` // <variant>/<instance id>
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
