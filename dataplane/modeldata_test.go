package dataplane

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// file is an entry of an archive made for a test; a regular file unless the
// header says otherwise.
type file struct {
	tar.Header
	body string
}

func regular(name, body string) file { return file{tar.Header{Name: name, Mode: 0o644}, body} }

func link(typeflag byte, name, target string) file {
	return file{tar.Header{Typeflag: typeflag, Name: name, Linkname: target}, ""}
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		h := f.Header
		h.Size = int64(len(f.body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gzipped(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// bucketOf is a bucket "models" that holds one object.
func bucketOf(t testing.TB, key string, object []byte) *ModelData {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, object, 0o644); err != nil {
		t.Fatal(err)
	}
	return &ModelData{Buckets: map[string]string{"models": dir}}
}

// tree lists what is below dir: links with their target, files with their
// contents, an executable one with a star.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir():
			found[rel+"/"] = ""
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			found[rel] = "-> " + target
			return err
		default:
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Mode()&0o100 != 0 {
				rel += "*"
			}
			body, err := os.ReadFile(name)
			found[rel] = string(body)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestUnpackRestoresFilesLinksAndExecutableBits(t *testing.T) {
	archive := gzipped(t, tarOf(t,
		file{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o555}, ""},
		regular("./model.json", "{}"),
		file{tar.Header{Typeflag: tar.TypeDir, Name: "locked/", Mode: 0o000}, ""},
		file{tar.Header{Name: "locked/secret", Mode: 0o000}, "s"},
		file{tar.Header{Name: "code/run", Mode: 0o4755}, "#!"},
		link(tar.TypeSymlink, "code/latest", "../versions/2/model"),
		link(tar.TypeSymlink, "self", "."),
		link(tar.TypeSymlink, "up/here", ".."),
		link(tar.TypeLink, "copy.json", "./model.json"),
		regular("versions/2/model", "two"),
		regular("versions/2/model", "two again"),
	))
	m := bucketOf(t, "a/b c/model%20.tar.gz", archive)
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	url := "s3://models/a/b c/model%20.tar.gz"
	if !m.Mapped(url) {
		t.Errorf("Mapped(%q) = false", url)
	}
	if err := m.Stat(url); err != nil {
		t.Errorf("Stat: %v", err)
	}
	if err := m.Unpack(t.Context(), url, dir); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"model.json": "{}", "copy.json": "{}", "self": "-> .",
		"locked/": "", "locked/secret": "s",
		"code/": "", "code/run*": "#!", "code/latest": "-> " + filepath.FromSlash("../versions/2/model"),
		"up/": "", "up/here": "-> ..",
		"versions/": "", "versions/2/": "", "versions/2/model": "two again",
	}
	got := tree(t, dir)
	for name, body := range want {
		if g, ok := got[name]; !ok || g != body {
			t.Errorf("%s: %q, want %q", name, g, body)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is there and should not be", name)
	}
	if info, err := os.Stat(filepath.Join(dir, "code", "run")); err != nil || info.Mode()&fs.ModeSetuid != 0 {
		t.Errorf("code/run: mode %v, error %v: the set-user-ID bit stays", info.Mode(), err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Errorf("RemoveAll: %v", err)
	}
}

func TestUnpackRefusesWhatLeadsOutOfTheDirectory(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []file
		want  string
	}{
		{"absolute path", []file{regular("/etc/passwd", "x")}, "the path is absolute"},
		{"path with dots", []file{regular("a/../../x", "x")}, `the path contains ".."`},
		{"path with harmless dots", []file{regular("a/../x", "x")}, `the path contains ".."`},
		{"directory above", []file{{tar.Header{Typeflag: tar.TypeDir, Name: "../"}, ""}}, `the path contains ".."`},
		{"no name", []file{regular("./.", "x")}, "has no name"},
		{"absolute symlink", []file{link(tar.TypeSymlink, "l", "/etc")}, "not a path in the archive"},
		{"symlink above", []file{link(tar.TypeSymlink, "a/l", "../../x")}, "outside of the archive"},
		{"symlink above, slashes doubled", []file{link(tar.TypeSymlink, "a/l", "..//../x")}, "outside of the archive"},
		{"symlink through a symlink", []file{link(tar.TypeSymlink, "a/b", ".."), link(tar.TypeSymlink, "l", "a/b/../x")}, `contains ".."`},
		{"file through a symlink", []file{link(tar.TypeSymlink, "l", "a"), regular("l/x", "x")}, `"l" is not a directory`},
		{"symlink below a symlink", []file{link(tar.TypeSymlink, "a/b/up", "../.."), link(tar.TypeSymlink, "a/b/up/l", "../x")}, `"a/b/up" is not a directory`},
		{"file for a directory", []file{regular("a/b", "x"), regular("a", "x")}, "is a directory elsewhere"},
		{"symlink for a directory", []file{regular("a/b", "x"), link(tar.TypeSymlink, "a", ".")}, "is a directory elsewhere"},
		{"directory for a file", []file{regular("a", "x"), regular("a/b", "x")}, `"a" is not a directory`},
		{"hard link above", []file{link(tar.TypeLink, "l", "../../etc/passwd")}, `contains ".."`},
		{"absolute hard link", []file{link(tar.TypeLink, "l", "/etc/passwd")}, "the path is absolute"},
		{"hard link to nothing", []file{link(tar.TypeLink, "l", "x")}, "not a file in the archive before it"},
		{"hard link to itself", []file{regular("l", "x"), link(tar.TypeLink, "l", "l")}, "not a file in the archive before it"},
		{"hard link to a symlink", []file{link(tar.TypeSymlink, "s", "x"), link(tar.TypeLink, "l", "s")}, "not a file in the archive before it"},
		{"hard link through a symlink", []file{regular("a/x", ""), link(tar.TypeSymlink, "s", "a"), link(tar.TypeLink, "l", "s/x")}, "not in the archive before it"},
		{"device", []file{{tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}, ""}}, "is a device"},
		{"block device", []file{{tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Devmajor: 8}, ""}}, "is a device"},
		{"named pipe", []file{{tar.Header{Typeflag: tar.TypeFifo, Name: "p"}, ""}}, "is a named pipe"},
		{"long name", []file{regular(strings.Repeat("n", maxModelDataName+1), "")}, "longer than 4096 bytes"},
		{"deep name", []file{regular(strings.Repeat("d/", maxModelDataDepth+1)+"f", "")}, "deeper than 128 directories"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := bucketOf(t, "m.tar.gz", gzipped(t, tarOf(t, c.files...)))
			outer := t.TempDir()
			err := m.Unpack(t.Context(), "s3://models/m.tar.gz", filepath.Join(outer, "in", "model"))
			wantModelDataError(t, m, err, c.want)
			for name := range tree(t, outer) {
				if name != "in/" && !strings.HasPrefix(name, "in/model/") {
					t.Errorf("%s was made outside of the directory", name)
				}
			}
		})
	}
}

// wantModelDataError checks an error's text, and that it is one for the caller.
func wantModelDataError(t *testing.T, m *ModelData, err error, want string) {
	t.Helper()
	if !errors.Is(err, ErrModelData) {
		t.Fatalf("error %v, want ErrModelData", err)
	}
	if !strings.Contains(err.Error(), "s3://models/") || !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want the URL and %q", err, want)
	}
	if strings.Contains(err.Error(), m.Buckets["models"]) || strings.Contains(err.Error(), os.TempDir()) {
		t.Errorf("error %q tells a local path", err)
	}
}

func TestUnpackSaysWhatIsWrongWithTheObject(t *testing.T) {
	plain := tarOf(t, regular("model.json", strings.Repeat("weights ", 10_000)))
	good := gzipped(t, plain)
	damaged := bytes.Clone(good)
	damaged[len(damaged)-6] ^= 1 // in the checksum behind the archive
	for _, c := range []struct {
		name   string
		object []byte
		want   string
	}{
		{"empty", nil, "truncated"},
		{"half", good[:len(good)/2], "truncated"},
		{"without its checksum", good[:len(good)-8], "truncated"},
		{"wrong checksum", damaged, "damaged"},
		{"truncated before compression", gzipped(t, plain[:2000]), "truncated"},
		{"plain tar", plain, "not in gzip format"},
		{"zip", []byte("PK\x03\x04 and more of a zip file"), "not in gzip format"},
		{"gzip of something else", gzipped(t, bytes.Repeat([]byte("weights "), 1000)), "not a tar archive"},
		{"garbage behind", append(bytes.Clone(good), "garbage...."...), "what follows the gzip data"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := bucketOf(t, "m.tar.gz", c.object)
			err := m.Unpack(t.Context(), "s3://models/m.tar.gz", t.TempDir())
			wantModelDataError(t, m, err, c.want)
		})
	}
}

func TestModelDataSaysWhichURLsItCannotRead(t *testing.T) {
	m := bucketOf(t, "dir/m.tar.gz", nil)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" { // where it takes a privilege
		if err := os.Symlink(outside, filepath.Join(m.Buckets["models"], "out")); err != nil {
			t.Fatal(err)
		}
	}
	m.Buckets["gone"] = filepath.Join(m.Buckets["models"], "gone")
	for _, c := range []struct {
		url    string
		mapped bool
		want   string
	}{
		{"s3://models/dir/missing.tar.gz", true, "no such object in the bucket"},
		{"s3://models/dir", true, "is a prefix and not an object"},
		{"s3://models/dir/", true, "does not name one object"},
		{"s3://models/", true, "does not name one object"},
		{"s3://models", true, "does not name one object"},
		{"s3://models/.", true, "does not name one object"},
		{"s3://models/../secret", true, "does not name one object"},
		{"s3://models//etc/passwd", true, "does not name one object"},
		{"s3://models/nul\x00", true, "does not name one object"},
		{"s3://models/out", true, "the object cannot be read"},
		{"s3://models/dir/m.tar.gz/x", true, "the object cannot be read"},
		{"s3://gone/m.tar.gz", true, `the local directory of bucket "gone" cannot be opened`},
		{"s3://other/m.tar.gz", false, `bucket "other" is not mapped to a local directory; add it to the configuration file, as in buckets: {other: path/to/directory}`},
		{"https://models.s3.amazonaws.com/m.tar.gz", false, "not of the form s3://bucket/key"},
		{"s3:///m.tar.gz", false, "not of the form s3://bucket/key"},
		{"", false, "not of the form s3://bucket/key"},
	} {
		if runtime.GOOS == "windows" && strings.HasSuffix(c.url, "/out") {
			continue
		}
		if got := m.Mapped(c.url); got != c.mapped {
			t.Errorf("Mapped(%q) = %v", c.url, got)
		}
		for name, err := range map[string]error{"Stat": m.Stat(c.url), "Unpack": m.Unpack(t.Context(), c.url, t.TempDir())} {
			switch {
			case !errors.Is(err, ErrModelData):
				t.Errorf("%s(%q): error %v, want ErrModelData", name, c.url, err)
			case !strings.Contains(err.Error(), c.url) || !strings.Contains(err.Error(), c.want):
				t.Errorf("%s(%q): error %q, want the URL and %q", name, c.url, err, c.want)
			case strings.Contains(err.Error(), os.TempDir()):
				t.Errorf("%s(%q): error %q tells a local path", name, c.url, err)
			}
		}
	}
}

func TestUnpackStopsAtItsLimits(t *testing.T) {
	sparse := make([]file, 20)
	for i := range sparse {
		sparse[i] = regular(fmt.Sprint("f", i), strings.Repeat("0", 1000))
	}
	comments := tar.Header{Name: "f", Format: tar.FormatPAX, PAXRecords: map[string]string{"comment": strings.Repeat("c", 900<<10)}}
	for _, c := range []struct {
		name     string
		archive  []byte
		bytes    int64
		files    int
		want     string
		unpacked int // at most, in bytes
	}{
		{"contents", tarOf(t, sparse...), 10_000, 0, "limit on its unpacked size", 10_000},
		{"contents, just enough", tarOf(t, sparse...), 20_000, 20, "", 20_000},
		{"one file", tarOf(t, regular("zeros", strings.Repeat("\x00", 1<<20))), 1<<20 - 1, 0, "limit on its unpacked size", 0},
		{"entries", tarOf(t, sparse...), 0, 19, "limit on the number of its entries", 20_000},
		{"directories", tarOf(t, regular("a/b/c/d/e/f", "")), 0, 5, "limit on the number of its entries", 0},
		{"directories, just enough", tarOf(t, regular("a/b/c/d/e/f", "")), 0, 6, "", 0},
		{"headers", tarOf(t, file{comments, ""}, file{comments, ""}, file{comments, ""}), 1000, 10, "limit on its unpacked size", 0},
		{"behind the end", append(tarOf(t), make([]byte, 4<<20)...), 1000, 10, "limit on its unpacked size", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := bucketOf(t, "m.tar.gz", gzipped(t, c.archive))
			m.MaxBytes, m.MaxFiles = c.bytes, c.files
			dir := t.TempDir()
			err := m.Unpack(t.Context(), "s3://models/m.tar.gz", dir)
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				wantModelDataError(t, m, err, c.want)
			}
			size := 0
			for _, body := range tree(t, dir) {
				size += len(body)
			}
			if size > c.unpacked {
				t.Errorf("%d bytes were unpacked, more than %d", size, c.unpacked)
			}
		})
	}
}

func TestUnpackEndsWithItsContext(t *testing.T) {
	m := bucketOf(t, "m.tar.gz", gzipped(t, tarOf(t, regular("f", "x"))))
	cause := errors.New("the endpoint is being deleted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	dir := t.TempDir()
	err := m.Unpack(ctx, "s3://models/m.tar.gz", dir)
	if !errors.Is(err, cause) || !errors.Is(err, ErrModelData) {
		t.Errorf("error %v, want the cause and ErrModelData", err)
	}
	if got := tree(t, dir); len(got) != 0 {
		t.Errorf("unpacked %v", got)
	}
}

// FuzzUnpack unpacks any bytes, as they are and as the tar inside of a gzip. It
// may fail as it likes, but leaves everything outside of its directory alone,
// and no link in it leads out.
func FuzzUnpack(f *testing.F) {
	plain := tarOf(f, regular("a/b", "x"), link(tar.TypeSymlink, "a/l", "../a/b"), link(tar.TypeLink, "h", "a/b"))
	f.Add(plain, true)
	f.Add(gzipped(f, plain), false)
	f.Add(tarOf(f, link(tar.TypeSymlink, "l", ".."), regular("l/x", "x")), true)
	f.Add(tarOf(f, link(tar.TypeSymlink, "a/l", "../../x"), regular("../x", "x")), true)
	f.Add(tarOf(f, file{tar.Header{Name: "p", Format: tar.FormatPAX, PAXRecords: map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "q", "GNU.sparse.realsize": "100"}}, "1\n0\n5\nhello"}), true)
	f.Add([]byte{0x1f, 0x8b}, false)
	f.Fuzz(func(t *testing.T, object []byte, compress bool) {
		if compress {
			object = gzipped(t, object)
		}
		m := bucketOf(t, "m.tar.gz", object)
		m.MaxBytes, m.MaxFiles = 1<<20, 100
		outer := t.TempDir()
		if err := os.WriteFile(filepath.Join(outer, "x"), []byte("untouched"), 0o444); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(outer, "in", "model")
		err := m.Unpack(t.Context(), "s3://models/m.tar.gz", dir)
		if err != nil && !errors.Is(err, ErrModelData) {
			t.Errorf("error %v, want ErrModelData", err)
		}
		if err != nil && strings.Contains(err.Error(), outer) {
			t.Errorf("error %q tells a local path", err)
		}
		entries := 0
		for name, body := range tree(t, outer) {
			inside := strings.HasPrefix(name, "in/model/")
			if !inside && name != "in/" && (name != "x" || body != "untouched") {
				t.Errorf("%s: %q, outside of the directory", name, body)
			}
			if inside && name != "in/model/" {
				entries++
				checkLink(t, dir, filepath.Join(outer, filepath.FromSlash(strings.TrimSuffix(name, "*"))))
			}
		}
		if entries > m.MaxFiles {
			t.Errorf("%d entries, more than %d", entries, m.MaxFiles)
		}
	})
}

// checkLink checks with the system's own resolution that a name stays inside.
func checkLink(t *testing.T, dir, name string) {
	t.Helper()
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return // leads to nothing
	}
	base, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if rel, err := filepath.Rel(base, real); err != nil || !filepath.IsLocal(rel) {
		t.Errorf("%s leads to %s", name, real)
	}
}
