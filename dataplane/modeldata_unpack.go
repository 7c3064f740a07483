package dataplane

import (
	"archive/tar"
	"bufio"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	// Deeper and longer names than any model has cost quadratic time to walk.
	maxModelDataDepth = 128
	maxModelDataName  = 4096

	// Room for tar headers and padding beside the contents: per entry, and once.
	tarEntryOverhead = 8 << 10
	tarFixedOverhead = 1 << 20
)

// unpacker writes one archive below root. All directories that an entry passes
// through are real ones, and none is ever replaced: so a link's place is known
// from its name alone, and where it leads can be told without following it.
type unpacker struct {
	ctx   context.Context
	root  *os.Root
	dirs  map[string]bool // known to be directories and not links
	bytes int64           // still allowed
	files int             // still allowed
}

func (u *unpacker) unpack(archive io.Reader) error {
	compressed := bufio.NewReaderSize(contextReader{u.ctx, archive}, 64<<10)
	plain, err := gzip.NewReader(compressed)
	if errors.Is(err, gzip.ErrHeader) {
		return errors.New("the object is not in gzip format; a model is a gzip-compressed tar archive")
	}
	if err != nil {
		return archiveError(err)
	}
	// The contents are counted by their headers, before they are written; this
	// bounds everything else that an archive can make the readers go through.
	stream := &io.LimitedReader{R: plain, N: streamLimit(u.bytes, u.files)}
	entries := tar.NewReader(stream)
	for {
		header, err := entries.Next()
		if stream.N == 0 {
			return errors.New("the archive exceeds the limit on its unpacked size")
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return archiveError(err)
		}
		if err := u.entry(header, entries); err != nil {
			return fmt.Errorf("entry %.200q: %w", header.Name, err)
		}
	}
	// What follows the last entry is read for the sake of the checksum behind it.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return archiveError(err)
	}
	if stream.N == 0 {
		return errors.New("the archive exceeds the limit on its unpacked size")
	}
	return nil
}

func streamLimit(bytes int64, files int) int64 {
	overhead := tarFixedOverhead + tarEntryOverhead*int64(min(files, math.MaxInt32))
	return min(bytes, math.MaxInt64-overhead) + overhead
}

// entry unpacks one entry, whose contents are next in the archive.
func (u *unpacker) entry(h *tar.Header, contents io.Reader) error {
	if err := context.Cause(u.ctx); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return u.countFile()
	}
	name, err := entryName(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.directory(name)
	}
	if name == "." {
		return errors.New("has no name")
	}
	if err := u.clear(name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(name, h, contents)
	case tar.TypeSymlink:
		return u.symlink(name, h.Linkname)
	case tar.TypeLink:
		return u.hardLink(name, h.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		return errors.New("is a device")
	case tar.TypeFifo:
		return errors.New("is a named pipe")
	}
	return fmt.Errorf("has the unknown type %q", h.Typeflag)
}

// entryName is an entry's name as a clean local path.
func entryName(name string) (string, error) {
	switch {
	case len(name) > maxModelDataName:
		return "", fmt.Errorf("the name is longer than %d bytes", maxModelDataName)
	case strings.HasPrefix(name, "/"):
		return "", errors.New("the path is absolute")
	case strings.Count(name, "/") > maxModelDataDepth:
		return "", fmt.Errorf("the path is deeper than %d directories", maxModelDataDepth)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", errors.New(`the path contains ".."`)
		}
	}
	local, err := filepath.Localize(path.Clean(name))
	if err != nil {
		return "", errors.New("the path is not valid on this system")
	}
	return local, nil
}

// clear makes the way to name and removes an earlier entry of that name, as tar
// does.
func (u *unpacker) clear(name string) error {
	if err := u.countFile(); err != nil {
		return err
	}
	if err := u.directory(filepath.Dir(name)); err != nil {
		return err
	}
	info, err := u.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return withoutPath(err)
	case info.IsDir():
		return errors.New("is a directory elsewhere in the archive")
	}
	return withoutPath(u.root.Remove(name))
}

// directory makes a directory and all above it.
func (u *unpacker) directory(name string) error {
	if u.dirs[name] {
		return nil
	}
	if err := u.directory(filepath.Dir(name)); err != nil {
		return err
	}
	if err := u.countFile(); err != nil {
		return err
	}
	err := u.root.Mkdir(name, 0o755)
	if errors.Is(err, fs.ErrExist) {
		var info fs.FileInfo
		if info, err = u.root.Lstat(name); err == nil && !info.IsDir() {
			return fmt.Errorf("%.200q is not a directory", filepath.ToSlash(name))
		}
	}
	if err != nil {
		return withoutPath(err)
	}
	u.dirs[name] = true
	return nil
}

func (u *unpacker) file(name string, h *tar.Header, contents io.Reader) error {
	if h.Size > u.bytes {
		return errors.New("the archive exceeds the limit on its unpacked size")
	}
	u.bytes -= h.Size
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644|h.FileInfo().Mode()&0o111)
	if err != nil {
		return withoutPath(err)
	}
	if _, err := io.Copy(f, contextReader{u.ctx, contents}); err != nil {
		f.Close()
		return archiveError(withoutPath(err))
	}
	return withoutPath(f.Close())
}

// object writes a file that no entry of an archive describes. Names that clash are
// errors, as AWS documents.
func (u *unpacker) object(name string, contents io.Reader) error {
	if err := u.countFile(); err != nil {
		return err
	}
	if err := u.directory(filepath.Dir(name)); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("the name is that of another object's file or directory")
	}
	if err != nil {
		return withoutPath(err)
	}
	n, err := io.Copy(f, io.LimitReader(contents, u.bytes+1))
	u.bytes -= n
	if err == nil && u.bytes < 0 {
		err = errors.New("the objects exceed the limit on their size")
	}
	if err != nil {
		f.Close()
		return withoutPath(err)
	}
	return withoutPath(f.Close())
}

// symlink makes a symbolic link that leads to somewhere below root. Once a path
// has gone down, perhaps through another link, ".." is no longer the directory
// above by name; so it is allowed at the beginning only.
func (u *unpacker) symlink(name, target string) error {
	if target == "" || path.IsAbs(target) {
		return fmt.Errorf("links to %.200q, which is not a path in the archive", target)
	}
	place := path.Dir(filepath.ToSlash(name))
	rest := target
	for rest == ".." || strings.HasPrefix(rest, "../") {
		if place == "." {
			return fmt.Errorf("links to %.200q, which is outside of the archive", target)
		}
		place = path.Dir(place)
		rest = strings.TrimLeft(strings.TrimPrefix(rest, ".."), "/")
	}
	if _, err := entryName(rest); err != nil {
		return fmt.Errorf("links to %.200q: %w", target, err)
	}
	return withoutPath(u.root.Symlink(filepath.FromSlash(target), name))
}

// hardLink makes a second name for a file that the archive has already held.
func (u *unpacker) hardLink(name, target string) error {
	local, err := entryName(target)
	if err != nil {
		return fmt.Errorf("links to %.200q: %w", target, err)
	}
	if !u.dirs[filepath.Dir(local)] {
		return fmt.Errorf("links to %.200q, which is not in the archive before it", target)
	}
	if info, err := u.root.Lstat(local); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("links to %.200q, which is not a file in the archive before it", target)
	}
	return withoutPath(u.root.Link(local, name))
}

func (u *unpacker) countFile() error {
	if u.files == 0 {
		return errors.New("the archive exceeds the limit on the number of its entries")
	}
	u.files--
	return nil
}

// archiveError says what is wrong with an archive.
func archiveError(err error) error {
	if _, ok := errors.AsType[flate.CorruptInputError](err); ok {
		return fmt.Errorf("the archive is damaged: %w", err)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the archive is truncated: %w", io.ErrUnexpectedEOF)
	case errors.Is(err, gzip.ErrHeader):
		return errors.New("the archive is damaged: what follows the gzip data is not gzip data")
	case errors.Is(err, gzip.ErrChecksum):
		return fmt.Errorf("the archive is damaged: %w", err)
	case errors.Is(err, tar.ErrHeader):
		return errors.New("the object is not a tar archive below its gzip compression, or is damaged")
	}
	return err
}

// contextReader reads until its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
