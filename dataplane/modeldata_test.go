package dataplane

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sagelocal/sagelocal/dataplane/objects"
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

// modelsOf is model data in a bucket "models" with these objects.
func modelsOf(t testing.TB, all map[string][]byte) *ModelData {
	t.Helper()
	store, err := objects.Open(context.Background(), objects.Options{Dir: filepath.Join(t.TempDir(), "s3"), Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	client, bucket := store.Client("models"), aws.String("models")
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	for key, body := range all {
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	return &ModelData{S3: store.Client}
}

func bucketOf(t testing.TB, key string, object []byte) *ModelData {
	t.Helper()
	return modelsOf(t, map[string][]byte{key: object})
}

// answering is an S3 that answers each GetObject so, with the content's length.
func answering(answer func(*http.Request) (io.Reader, int64)) func(string) *s3.Client {
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String("http://localhost"), Region: "us-east-1", UsePathStyle: true, Credentials: aws.AnonymousCredentials{},
		HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			body, length := answer(r)
			return &http.Response{StatusCode: 200, Header: http.Header{"Etag": {`"e"`}, "Content-Length": {fmt.Sprint(length)}}, Body: io.NopCloser(body), ContentLength: length, Request: r}, nil
		})},
	})
	return func(string) *s3.Client { return client }
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// archive is the source of a tar.gz.
func archive(url string) ModelSource { return ModelSource{URL: url, Gzip: true} }

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
	packed := gzipped(t, tarOf(t,
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
	m := bucketOf(t, "a/b c/model%20.tar.gz", packed)
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	url := "s3://models/a/b c/model%20.tar.gz"
	if err := m.Check(t.Context(), archive(url)); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := m.Download(t.Context(), archive(url), dir); err != nil {
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
			err := m.Download(t.Context(), archive("s3://models/m.tar.gz"), filepath.Join(outer, "in", "model"))
			wantModelDataError(t, err, c.want)
			for name := range tree(t, outer) {
				if name != "in/" && !strings.HasPrefix(name, "in/model/") {
					t.Errorf("%s was made outside of the directory", name)
				}
			}
		})
	}
}

// wantModelDataError checks an error's text, and that it is one for the caller.
func wantModelDataError(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.Is(err, ErrModelData) {
		t.Fatalf("error %v, want ErrModelData", err)
	}
	if !strings.Contains(err.Error(), "s3://models/") || !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want the URL and %q", err, want)
	}
	if strings.Contains(err.Error(), os.TempDir()) {
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
			err := m.Download(t.Context(), archive("s3://models/m.tar.gz"), t.TempDir())
			wantModelDataError(t, err, c.want)
		})
	}
}

func TestModelDataSaysWhichURLsItCannotRead(t *testing.T) {
	m := bucketOf(t, "dir/m.tar.gz", nil)
	for _, c := range []struct {
		source   ModelSource
		want     string
		noBucket bool
	}{
		{archive("s3://models/dir/missing.tar.gz"), "no such object in the bucket", false},
		{archive("s3://models/dir"), "is a prefix and not an object", false},
		{archive("s3://models/dir/"), "does not name one object", false},
		{archive("s3://models/"), "does not name one object", false},
		{archive("s3://models"), "does not name one object", false},
		{archive("s3://models/."), "no such object in the bucket", false},
		{archive("s3://models/../secret"), "no such object in the bucket", false},
		{archive("s3://models//etc/passwd"), "no such object in the bucket", false},
		{archive("s3://models/dir/m.tar.gz/x"), "no such object in the bucket", false},
		{ModelSource{URL: "s3://models/dir/m.tar.gz", ETag: `"other"`}, `the object's ETag is not "other"`, false},
		{ModelSource{URL: "s3://models/d", Prefix: true, Gzip: true}, "below a prefix cannot be compressed", false},
		{ModelSource{URL: "s3://models/other/", Prefix: true}, "no object has a key with this prefix", false},
		{ModelSource{URL: "s3://other/dir/", Prefix: true}, `no such bucket "other"`, true},
		{archive("s3://other/m.tar.gz"), `no such bucket "other": create it with an S3 client, or map it to a local directory in the configuration file, as in buckets: {other: path/to/directory}`, true},
		{archive("https://models.s3.amazonaws.com/m.tar.gz"), "not of the form s3://bucket/key", false},
		{archive("s3:///m.tar.gz"), "not of the form s3://bucket/key", false},
		{archive(""), "not of the form s3://bucket/key", false},
	} {
		for name, err := range map[string]error{
			"Check": m.Check(t.Context(), c.source), "Download": m.Download(t.Context(), c.source, t.TempDir()),
		} {
			switch {
			case !errors.Is(err, ErrModelData) || errors.Is(err, ErrNoBucket) != c.noBucket:
				t.Errorf("%s(%+v): error %v, want ErrModelData", name, c.source, err)
			case !strings.Contains(err.Error(), c.source.URL) || !strings.Contains(err.Error(), c.want):
				t.Errorf("%s(%+v): error %q, want the URL and %q", name, c.source, err, c.want)
			case strings.Contains(err.Error(), os.TempDir()):
				t.Errorf("%s(%+v): error %q tells a local path", name, c.source, err)
			}
		}
	}
	for name, m := range map[string]*ModelData{"no S3": {}, "another S3": m} {
		if err := m.Check(t.Context(), archive("s3://nowhere/m")); !errors.Is(err, ErrNoBucket) {
			t.Errorf("%s: error %v, want ErrNoBucket", name, err)
		}
	}
	for _, good := range []ModelSource{archive("s3://models/dir/m.tar.gz"), {URL: "s3://models/dir/", Prefix: true}} {
		if err := m.Check(t.Context(), good); err != nil {
			t.Errorf("Check(%+v): %v", good, err)
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
		plain    []byte
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
			m := bucketOf(t, "m.tar.gz", gzipped(t, c.plain))
			m.MaxBytes, m.MaxFiles = c.bytes, c.files
			dir := t.TempDir()
			err := m.Download(t.Context(), archive("s3://models/m.tar.gz"), dir)
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				wantModelDataError(t, err, c.want)
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
	err := m.Download(ctx, archive("s3://models/m.tar.gz"), dir)
	if !errors.Is(err, cause) || !errors.Is(err, ErrModelData) {
		t.Errorf("error %v, want the cause and ErrModelData", err)
	}
	if got := tree(t, dir); len(got) != 0 {
		t.Errorf("unpacked %v", got)
	}
}

func TestDownloadOfAPrefixCopiesWhatIsBelow(t *testing.T) {
	m := modelsOf(t, map[string][]byte{
		"llm/config.json": []byte("{}"), "llm/shards/1.bin": []byte("one"), "llm/shards/2 of 2.bin": []byte("two"),
		"llm": []byte("no"), "llm2/x": []byte("no"), "other": []byte("no"),
	})
	dir := t.TempDir()
	if err := m.Download(t.Context(), ModelSource{URL: "s3://models/llm/", Prefix: true}, dir); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"config.json": "{}", "shards/": "", "shards/1.bin": "one", "shards/2 of 2.bin": "two"}
	if got := tree(t, dir); !maps.Equal(got, want) {
		t.Errorf("copied %v, want %v", got, want)
	}
}

func TestDownloadOfAnObjectTakesItsKeysLastPart(t *testing.T) {
	m := modelsOf(t, map[string][]byte{"llm/model.gguf": []byte("weights")})
	dir := t.TempDir()
	if err := m.Download(t.Context(), ModelSource{URL: "s3://models/llm/model.gguf"}, dir); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, dir), map[string]string{"model.gguf": "weights"}; !maps.Equal(got, want) {
		t.Errorf("copied %v, want %v", got, want)
	}
}

func TestDownloadOfAPrefixRefusesNamesThatAWSRefuses(t *testing.T) {
	all := ModelSource{URL: "s3://models/m/", Prefix: true}
	for _, c := range []struct {
		name   string
		source ModelSource
		keys   []string
		bytes  int64
		files  int
		want   string
	}{
		{"a folder of the S3 console", all, []string{"m/"}, 0, 0, "name is empty"},
		{"a folder below", all, []string{"m/sub/"}, 0, 0, "name is empty"},
		{"two slashes", all, []string{"m//x"}, 0, 0, "name is empty"},
		{"a dot", all, []string{"m/./x"}, 0, 0, `"." is not a name`},
		{"two dots", all, []string{"m/../../x"}, 0, 0, `".." is not a name`},
		{"two dots at the end", ModelSource{URL: "s3://models/m/.."}, []string{"m/.."}, 0, 0, `".." is not a name`},
		{"a long name", all, []string{"m/" + strings.Repeat("n", 256)}, 0, 0, "longer than 255 bytes"},
		{"a file that is a directory", all, []string{"m/weights", "m/weights/part1"}, 0, 0, "is not a directory"},
		{"a directory that is a file", all, []string{"m/weights!x/y", "m/weights", "m/weights/x"}, 0, 0, "is not a directory"},
		{"many objects", all, []string{"m/1", "m/2", "m/3"}, 0, 2, "limit on their number"},
		{"many directories", all, []string{"m/1/2/3/4"}, 0, 3, "limit on the number"},
		{"large objects", all, []string{"m/1", "m/2"}, 7, 0, "limit on their size"},
		{"a large object", ModelSource{URL: "s3://models/m/1"}, []string{"m/1"}, 2, 0, "limit on their size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bodies := map[string][]byte{}
			for _, key := range c.keys {
				bodies[key] = []byte("four")
			}
			m := modelsOf(t, bodies)
			m.MaxBytes, m.MaxFiles = c.bytes, c.files
			outer := t.TempDir()
			wantModelDataError(t, m.Download(t.Context(), c.source, filepath.Join(outer, "in")), c.want)
			for name, body := range tree(t, outer) {
				if !strings.HasPrefix(name, "in/") || c.bytes > 0 && len(body) > int(c.bytes)+1 {
					t.Errorf("%s, %d bytes, was made outside of the directory or beyond its limit", name, len(body))
				}
			}
		})
	}
}

// A connection that breaks is taken up again where it broke, three times.
func TestDownloadGoesOnWhereItBrokeOff(t *testing.T) {
	object := gzipped(t, tarOf(t, regular("weights", strings.Repeat("0123456789", 1000))))
	for breaks, want := range map[int]string{3: "", 4: "broke off: connection reset"} {
		var spans []string
		m := &ModelData{S3: answering(func(r *http.Request) (io.Reader, int64) {
			span, from := r.Header.Get("Range"), 0
			if span != "" {
				fmt.Sscanf(span, "bytes=%d-", &from)
				if r.Header.Get("If-Match") != `"e"` {
					t.Errorf("%s is asked for of any object, not of the one begun", span)
				}
			}
			spans = append(spans, span)
			rest := object[from:]
			if len(spans) > breaks {
				return bytes.NewReader(rest), int64(len(rest))
			}
			return io.MultiReader(bytes.NewReader(rest[:10]), iotest.ErrReader(errors.New("connection reset"))), int64(len(rest))
		})}
		dir := t.TempDir()
		err := m.Download(t.Context(), archive("s3://models/m.tar.gz"), dir)
		if want == "" && (err != nil || len(tree(t, dir)["weights"]) != 10_000) {
			t.Errorf("%d breaks: error %v, unpacked %v", breaks, err, tree(t, dir))
		}
		if want != "" {
			wantModelDataError(t, err, want)
		}
		if !slices.Equal(spans[:4], []string{"", "bytes=10-", "bytes=20-", "bytes=30-"}) || len(spans) != 4 {
			t.Errorf("%d breaks: asked for %q", breaks, spans)
		}
	}
}

func TestS3ThatCannotBeReachedIsSaidSo(t *testing.T) {
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String("http://localhost"), Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{},
		HTTPClient: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") })},
	})
	m := &ModelData{S3: func(string) *s3.Client { return client }}
	wantModelDataError(t, m.Check(t.Context(), archive("s3://models/m.tar.gz")), "S3 cannot be reached")
}

func TestS3ThatKnowsNoKeyEvenOfAListIsAskedOnce(t *testing.T) {
	const body = "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String("http://localhost"), Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{},
		HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
		})},
	})
	m := &ModelData{S3: func(string) *s3.Client { return client }}
	wantModelDataError(t, m.Download(t.Context(), archive("s3://models/m.tar.gz"), t.TempDir()), "no such object in the bucket")
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
		m := &ModelData{S3: answering(func(*http.Request) (io.Reader, int64) { return bytes.NewReader(object), int64(len(object)) })}
		m.MaxBytes, m.MaxFiles = 1<<20, 100
		outer := t.TempDir()
		if err := os.WriteFile(filepath.Join(outer, "x"), []byte("untouched"), 0o444); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(outer, "in", "model")
		err := m.Download(t.Context(), archive("s3://models/m.tar.gz"), dir)
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
