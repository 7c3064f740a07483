package objects

import (
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rclone/gofakes3"
)

// maxDepth is how deep in a directory objects are listed.
const maxDepth = 128

// directory is a local directory that stands for a bucket. A key is a path below
// it, which no key and no symbolic link leaves.
type directory struct{ dir string }

func (d *directory) modified() time.Time {
	info, err := os.Stat(d.dir)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func (d *directory) root() (*os.Root, error) {
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		return nil, fmt.Errorf("mapped bucket: %w", err)
	}
	return root, nil
}

func (d *directory) get(key string, wanted *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	f, out, err := d.openFile(key)
	if err != nil {
		return nil, err
	}
	if out.Range, err = wanted.Range(out.Size); err != nil {
		f.Close()
		return nil, err
	}
	start, length := int64(0), out.Size
	if out.Range != nil {
		start, length = out.Range.Start, out.Range.Length
	}
	out.Contents = struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, start, length), f}
	return out, nil
}

func (d *directory) head(key string) (*gofakes3.Object, error) {
	f, out, err := d.openFile(key)
	if err != nil {
		return nil, err
	}
	return out, f.Close()
}

// copy gives o the contents of a file.
func (d *directory) copy(key string, b *blobs, o *object) error {
	f, out, err := d.openFile(key)
	if err != nil {
		return err
	}
	defer f.Close()
	p, sum, err := b.write(f, out.Size)
	o.Parts, o.Hash = []part{p}, sum
	return err
}

// openFile opens the file that a key names, and describes it.
func (d *directory) openFile(key string) (*os.File, *gofakes3.Object, error) {
	name, err := filepath.Localize(key)
	if err != nil || name == "." {
		return nil, nil, gofakes3.KeyNotFound(key)
	}
	root, err := d.root()
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	// Before the open, which would wait for a writer if it were a named pipe.
	info, err := root.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil, gofakes3.KeyNotFound(key)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, nil, &accessDenied{gofakes3.ErrorResponse{Code: "AccessDenied", Message: "Access Denied"}}
	}
	return f, &gofakes3.Object{
		Name: key, Size: info.Size(), Hash: fileHash(key, info), Contents: http.NoBody,
		Metadata: map[string]string{
			"Content-Type":  "binary/octet-stream",
			"Last-Modified": info.ModTime().UTC().Format(http.TimeFormat),
		},
	}, nil
}

// accessDenied is an error that the library has no code for. It has none with
// status 403 but one that means something else.
type accessDenied struct{ gofakes3.ErrorResponse }

// ErrorCode gives the status.
func (e *accessDenied) ErrorCode() gofakes3.ErrorCode { return gofakes3.ErrRequestTimeTooSkewed }

// fileHash changes when a file does. Its contents are not read for it, so it looks
// like the ETag of an upload in parts, which nobody compares with an MD5.
func fileHash(key string, info fs.FileInfo) []byte {
	hash := md5.New()
	_ = binary.Write(hash, binary.LittleEndian, []int64{info.Size(), info.ModTime().UnixNano()}) // a hash takes all
	io.WriteString(hash, key)                                                                    //nolint:errcheck // a hash takes all
	return dashed(hash.Sum(nil), 1)
}

// page lists the files in the order of their keys.
func (d *directory) page(l *listing) error {
	root, err := d.root()
	if err != nil {
		return err
	}
	defer root.Close()
	return walk(root, "", l, 0)
}

// walk offers the files below dir, a key that is empty or ends with a slash.
func walk(root *os.Root, dir string, l *listing, depth int) error {
	if depth > maxDepth {
		return nil
	}
	entries, err := fs.ReadDir(root.FS(), path.Join(".", dir))
	if err != nil {
		if dir != "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
			return nil
		}
		return fmt.Errorf("mapped bucket: %w", err)
	}
	keys := make([]string, 0, len(entries))
	for _, entry := range entries {
		if key := dir + entry.Name(); entry.IsDir() {
			keys = append(keys, key+"/")
		} else {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if l.listed(key) {
			continue
		}
		if err := visit(root, key, l, depth); err != nil || l.full() {
			return err
		}
	}
	return nil
}

func visit(root *os.Root, key string, l *listing, depth int) error {
	below := strings.HasSuffix(key, "/")
	switch {
	case below && strings.HasPrefix(l.prefix, key):
		return walk(root, key, l, depth+1)
	case !strings.HasPrefix(key, l.prefix) || below && after(key) <= l.from():
		return nil
	case below:
		return walk(root, key, l, depth+1)
	}
	name, err := filepath.Localize(key)
	if err != nil {
		return nil //nolint:nilerr // no request could name it
	}
	info, err := root.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil //nolint:nilerr // a link that leads out of the directory, or to nothing
	}
	_, err = l.add(key, func() (*gofakes3.Content, error) {
		return &gofakes3.Content{
			Key: key, Size: info.Size(), ETag: etagOf(fileHash(key, info)),
			LastModified: gofakes3.NewContentTime(info.ModTime()),
		}, nil
	})
	return err
}
