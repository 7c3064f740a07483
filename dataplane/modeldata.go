package dataplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Limits of one archive, unless ModelData says otherwise.
const (
	DefaultModelDataMaxBytes = 64 << 30
	DefaultModelDataMaxFiles = 100_000
)

// ModelData reads the archives that ModelDataUrl names from local directories
// that stand for S3 buckets. Its methods are safe for concurrent use. AWS page:
// API_ContainerDefinition, your-algorithms-inference-code.
//
// All errors wrap ErrModelData and name the URL as the caller gave it, never a
// local path: they end up in FailureReason.
type ModelData struct {
	// Buckets maps bucket names to absolute local directories. An object's key
	// is a path below its directory, which no key and no symbolic link leaves.
	Buckets map[string]string
	// MaxBytes bounds what the files of an archive hold unpacked, in bytes; zero
	// means DefaultModelDataMaxBytes.
	MaxBytes int64
	// MaxFiles bounds how many files, directories and links an archive makes;
	// zero means DefaultModelDataMaxFiles.
	MaxFiles int
}

// Mapped tells whether url is an s3:// URL whose bucket is a local directory.
func (m *ModelData) Mapped(url string) bool {
	bucket, _, ok := splitS3(url)
	return ok && m.Buckets[bucket] != ""
}

// Stat returns an error unless url names an object that can be read. It does
// not look inside.
func (m *ModelData) Stat(url string) error {
	object, err := m.open(url)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrModelData, url, err)
	}
	return object.Close()
}

// Unpack unpacks the tar.gz at url into dir, which is made if it is missing.
// Nothing outside of dir is touched: names and links that lead out of it,
// devices, and archives beyond MaxBytes or MaxFiles are errors. Files are
// readable by all and writable by their owner, and executable if they are so in
// the archive. After an error dir holds what was unpacked until then. When ctx
// ends, so does Unpack, with an error that wraps the context's cause.
func (m *ModelData) Unpack(ctx context.Context, url, dir string) error {
	if err := m.unpack(ctx, url, dir); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrModelData, url, err)
	}
	return nil
}

func (m *ModelData) unpack(ctx context.Context, url, dir string) error {
	object, err := m.open(url)
	if err != nil {
		return err
	}
	defer object.Close()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("the instance's model directory cannot be made: %w", withoutPath(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("the instance's model directory cannot be opened: %w", withoutPath(err))
	}
	defer root.Close()
	u := unpacker{
		ctx:   ctx,
		root:  root,
		dirs:  map[string]bool{".": true},
		bytes: cmp.Or(m.MaxBytes, DefaultModelDataMaxBytes),
		files: cmp.Or(m.MaxFiles, DefaultModelDataMaxFiles),
	}
	return u.unpack(object)
}

// open opens the object that url names.
func (m *ModelData) open(url string) (*os.File, error) {
	bucket, key, ok := splitS3(url)
	if !ok {
		return nil, errors.New("is not of the form s3://bucket/key")
	}
	dir := m.Buckets[bucket]
	if dir == "" {
		return nil, fmt.Errorf("bucket %q is not mapped to a local directory; "+
			"add it to the configuration file, as in buckets: {%s: path/to/directory}", bucket, bucket)
	}
	name, err := filepath.Localize(key)
	if err != nil || name == "." {
		return nil, errors.New("the key does not name one object; ModelDataUrl is the URL of a single tar.gz")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("the local directory of bucket %q cannot be opened: %w", bucket, withoutPath(err))
	}
	defer root.Close()
	return openObject(root, name)
}

func openObject(root *os.Root, name string) (*os.File, error) {
	// Before the open, which would wait for a writer if it were a named pipe.
	info, err := root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no such object in the bucket: %w", fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("the object cannot be read: %w", withoutPath(err))
	case info.IsDir():
		return nil, errors.New("the key is a prefix and not an object; ModelDataUrl is the URL of a single tar.gz")
	case !info.Mode().IsRegular():
		return nil, errors.New("the object is not a regular file")
	}
	object, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the object cannot be read: %w", withoutPath(err))
	}
	return object, nil
}

// splitS3 takes an s3:// URL apart. A key is not percent-encoded.
func splitS3(url string) (bucket, key string, ok bool) {
	rest, ok := strings.CutPrefix(url, "s3://")
	if !ok {
		return "", "", false
	}
	bucket, key, _ = strings.Cut(rest, "/")
	return bucket, key, bucket != ""
}

// withoutPath is the reason of a failed system call alone.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}
