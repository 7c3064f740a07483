package objects

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/rclone/gofakes3"
)

// maxPut is the most that one request may upload: 5 GiB, also for a part (AWS
// page: qfacts).
const maxPut = 5 << 30

// part is a file of contents.
type part struct {
	Blob string `json:"blob"`
	Size int64  `json:"size"`
}

// blobs are files of contents, which never change once they are written.
type blobs struct {
	dir  string
	sync bool

	mu     sync.Mutex
	pins   map[string]int  // readers by blob
	doomed map[string]bool // pinned blobs to remove with the last reader
}

func newBlobs(dir string, sync bool) *blobs {
	return &blobs{dir: dir, sync: sync, pins: map[string]int{}, doomed: map[string]bool{}}
}

func (b *blobs) path(blob string) string { return filepath.Join(b.dir, blob[:2], blob[2:]) }

// name is the path of a blob that does not exist yet.
func (b *blobs) name() (blob, path string, err error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	blob = hex.EncodeToString(id[:])
	path = b.path(blob)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", "", fmt.Errorf("contents: %w", err)
	}
	return blob, path, nil
}

// write stores what r yields and returns its MD5. A size below zero is unknown.
// Errors are the library's or a reader's own; after one nothing is left.
func (b *blobs) write(r io.Reader, size int64) (p part, sum []byte, err error) {
	if size > maxPut {
		return p, nil, gofakes3.ErrEntityTooLarge
	}
	blob, path, err := b.name()
	if err != nil {
		return p, nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return p, nil, fmt.Errorf("contents: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			b.unlink(blob)
		}
	}()
	hash := md5.New()
	n, err := io.Copy(io.MultiWriter(f, hash), io.LimitReader(r, maxPut+1))
	switch {
	case err != nil:
		return p, nil, err
	case n > maxPut:
		return p, nil, gofakes3.ErrEntityTooLarge
	case size >= 0 && n != size:
		return p, nil, gofakes3.ErrIncompleteBody
	}
	if b.sync {
		if err := f.Sync(); err != nil {
			return p, nil, fmt.Errorf("contents: %w", err)
		}
	}
	if err := f.Close(); err != nil {
		return p, nil, fmt.Errorf("contents: %w", err)
	}
	return part{blob, n}, hash.Sum(nil), nil
}

// link makes another name for the contents of parts.
func (b *blobs) link(parts []part) (linked []part, err error) {
	for _, p := range parts {
		q, err := b.linkOne(p)
		if err != nil {
			b.discard(linked)
			return nil, err
		}
		linked = append(linked, q)
	}
	return linked, nil
}

func (b *blobs) linkOne(p part) (part, error) {
	blob, path, err := b.name()
	if err != nil {
		return part{}, err
	}
	if os.Link(b.path(p.Blob), path) == nil {
		return part{blob, p.Size}, nil
	}
	from, err := os.Open(b.path(p.Blob)) // the file system has no hard links
	if err != nil {
		return part{}, fmt.Errorf("contents: %w", err)
	}
	defer from.Close()
	q, _, err := b.write(from, p.Size)
	return q, err
}

// pin keeps blobs until release. The caller holds b.mu.
func (b *blobs) pin(parts []part) (release func()) {
	for _, p := range parts {
		b.pins[p.Blob]++
	}
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range parts {
			if b.pins[p.Blob]--; b.pins[p.Blob] > 0 {
				continue
			}
			delete(b.pins, p.Blob)
			if b.doomed[p.Blob] {
				delete(b.doomed, p.Blob)
				b.unlink(p.Blob)
			}
		}
	})
}

// discard removes blobs, those that somebody reads when he has done.
func (b *blobs) discard(parts []part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range parts {
		if b.pins[p.Blob] > 0 {
			b.doomed[p.Blob] = true
		} else {
			b.unlink(p.Blob)
		}
	}
}

// unlink removes a file. If that fails, sweep does it when the store is opened
// again.
func (b *blobs) unlink(blob string) { _ = os.Remove(b.path(blob)) }

// sweep removes the blobs that nothing refers to.
func (b *blobs) sweep(referred map[string]bool) error {
	err := filepath.WalkDir(b.dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if blob := filepath.Base(filepath.Dir(name)) + entry.Name(); !referred[blob] {
			return os.Remove(name)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// contents reads a range of an object's parts, one file open at a time.
type contents struct {
	blobs   *blobs
	parts   []part
	skip    int64 // of the parts
	left    int64
	file    *os.File
	release func()
}

func (c *contents) Read(p []byte) (int, error) {
	for {
		if c.left == 0 {
			return 0, io.EOF
		}
		if c.file == nil {
			if err := c.open(); err != nil {
				return 0, err
			}
		}
		n, err := c.file.Read(p[:min(int64(len(p)), c.left)])
		c.left -= int64(n)
		if n > 0 || err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if err != nil {
			c.file.Close()
			c.file = nil
		}
	}
}

// open opens the part that is next.
func (c *contents) open() error {
	for len(c.parts) > 0 && c.skip >= c.parts[0].Size {
		c.skip -= c.parts[0].Size
		c.parts = c.parts[1:]
	}
	if len(c.parts) == 0 {
		return io.ErrUnexpectedEOF
	}
	f, err := os.Open(c.blobs.path(c.parts[0].Blob))
	if err != nil {
		return fmt.Errorf("contents: %w", err)
	}
	if _, err := f.Seek(c.skip, io.SeekStart); err != nil {
		f.Close()
		return fmt.Errorf("contents: %w", err)
	}
	c.file, c.skip, c.parts = f, 0, c.parts[1:]
	return nil
}

func (c *contents) Close() error {
	c.release()
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}
