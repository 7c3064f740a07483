package objects_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/sagelocal/sagelocal/dataplane/objects"
)

func open(t testing.TB, o objects.Options) *objects.S3 {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "s3")
	}
	o.Volatile = true
	store, err := objects.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return store
}

// serve opens the server's port and returns its URL.
func serve(t testing.TB, store *objects.S3) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- store.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(store.Close(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func bucket(t testing.TB, client *s3.Client, name string) {
	t.Helper()
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, client *s3.Client, bucket, key, body string) *s3.PutObjectOutput {
	t.Helper()
	out, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)})
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	return out
}

func get(t testing.TB, client *s3.Client, bucket, key string) string {
	t.Helper()
	out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return string(body)
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

func TestKeysMayBeAnythingThatS3Allows(t *testing.T) {
	client := open(t, objects.Options{}).Client("keys")
	bucket(t, client, "keys")
	keys := []string{
		"a", "a/", "a/b", "a//b", "a/./b", "a/../b", "../x", "/x", "..", ".", "ключ 1+2%20", "CON", "A", "a\\b", "x:y",
		strings.Repeat("k", 1024), "<&>\"'", "index.db", "blobs",
	}
	for _, key := range keys {
		put(t, client, "keys", key, "body of "+key)
	}
	for _, key := range keys {
		if got := get(t, client, "keys", key); got != "body of "+key {
			t.Errorf("%q holds %q", key, got)
		}
	}
	_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("keys"), Key: aws.String(strings.Repeat("k", 1025))})
	wantCode(t, err, "KeyTooLongError")
	out, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("keys")})
	if err != nil || len(out.Contents) != len(keys) {
		t.Errorf("%d keys listed of %d, error %v", len(out.Contents), len(keys), err)
	}
}

func TestErrorsHaveS3Codes(t *testing.T) {
	client := open(t, objects.Options{}).Client("b00")
	bucket(t, client, "b00")
	bucket(t, client, "b00") // us-east-1 answers 200 to the owner
	put(t, client, "b00", "k", "body")
	ctx, b, k, gone := t.Context(), aws.String("b00"), aws.String("k"), aws.String("gone")
	for name, c := range map[string]struct {
		call func() error
		code string
	}{
		"get from no bucket": {func() error { _, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: gone, Key: k}); return err }, "NoSuchBucket"},
		"get no key":         {func() error { _, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: gone}); return err }, "NoSuchKey"},
		"list no bucket":     {func() error { _, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: gone}); return err }, "NoSuchBucket"},
		"put to no bucket":   {func() error { _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: gone, Key: k}); return err }, "NoSuchBucket"},
		"delete from none": {func() error {
			_, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: gone, Key: k})
			return err
		}, "NoSuchBucket"},
		"delete full bucket": {func() error { _, err := client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: b}); return err }, "BucketNotEmpty"},
		"bad name": {func() error {
			_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("Bad_Name")})
			return err
		}, "InvalidBucketName"},
		"range behind the end": {func() error {
			_, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k, Range: aws.String("bytes=9-")})
			return err
		}, "InvalidRange"},
		"exists already": {func() error {
			_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, IfNoneMatch: aws.String("*")})
			return err
		}, "PreconditionFailed"},
		"copy of nothing": {func() error {
			_, err := client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: k, CopySource: aws.String("b00/gone")})
			return err
		}, "NoSuchKey"},
		"tags of nothing": {func() error {
			_, err := client.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: b, Key: gone, Tagging: &types.Tagging{TagSet: []types.Tag{}}})
			return err
		}, "NoSuchKey"},
		"no such upload": {func() error {
			_, err := client.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: k, UploadId: aws.String("1"), PartNumber: aws.Int32(1)})
			return err
		}, "NoSuchUpload"},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, c.call(), c.code) })
	}
	if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: gone}); err != nil {
		t.Errorf("delete of nothing: %v, want success", err)
	}
}

func TestMetadataTagsAndCopies(t *testing.T) {
	client := open(t, objects.Options{}).Client("m00")
	bucket(t, client, "m00")
	ctx, b := t.Context(), aws.String("m00")
	if _, err := client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: b, Key: aws.String("k"), Body: strings.NewReader("x"), Tagging: aws.String("a=b"),
		ContentType: aws.String("text/x"), Metadata: map[string]string{"who": "me"},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: aws.String("copy"), CopySource: aws.String("m00/k")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: aws.String("k")}); err != nil {
		t.Fatal(err)
	}
	head, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: aws.String("copy")})
	if err != nil {
		t.Fatal(err)
	}
	if *head.ContentType != "text/x" || head.Metadata["who"] != "me" || *head.ContentLength != 1 {
		t.Errorf("copy is %+v", head)
	}
	if want := fmt.Sprintf(`"%x"`, md5.Sum([]byte("x"))); *head.ETag != want {
		t.Errorf("ETag %s, want %s", *head.ETag, want)
	}
	for _, set := range [][]types.Tag{{{Key: aws.String("c"), Value: aws.String("d")}}, {}} {
		in := &s3.PutObjectTaggingInput{Bucket: b, Key: aws.String("copy"), Tagging: &types.Tagging{TagSet: set}}
		if _, err := client.PutObjectTagging(ctx, in); err != nil {
			t.Fatal(err)
		}
		out, err := client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: b, Key: aws.String("copy")})
		if err != nil || len(out.TagSet) != len(set) {
			t.Errorf("tags %v, error %v; want %d", out.TagSet, err, len(set))
		}
	}
	if get(t, client, "m00", "copy") != "x" {
		t.Error("the copy lost its content with the tags' change or the original's end")
	}
}

// multipart is an upload in parts under way.
type multipart struct {
	client      *s3.Client
	bucket, key string
	id          *string
	parts       []types.CompletedPart // uploaded
}

func begin(t *testing.T, client *s3.Client, bucket, key string) *multipart {
	t.Helper()
	out, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key, Metadata: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	return &multipart{client: client, bucket: bucket, key: key, id: out.UploadId}
}

func (m *multipart) upload(t *testing.T, number int32, body []byte) types.CompletedPart {
	t.Helper()
	out, err := m.client.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: &m.bucket, Key: &m.key, UploadId: m.id, PartNumber: &number, Body: bytes.NewReader(body)})
	if err != nil {
		t.Fatal(err)
	}
	part := types.CompletedPart{ETag: out.ETag, PartNumber: &number}
	m.parts = append(m.parts, part)
	return part
}

func (m *multipart) complete(t *testing.T, parts ...types.CompletedPart) (*s3.CompleteMultipartUploadOutput, error) {
	t.Helper()
	return m.client.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: &m.bucket, Key: &m.key, UploadId: m.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
}

func TestUploadInParts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s3")
	client := open(t, objects.Options{Dir: dir}).Client("p00")
	bucket(t, client, "p00")
	ctx, b, k := t.Context(), aws.String("p00"), aws.String("big")
	first, second := bytes.Repeat([]byte("1"), 5<<20), []byte("22")
	up := begin(t, client, *b, *k)
	up.upload(t, 1, []byte("is replaced"))
	one, two, small := up.upload(t, 1, first), up.upload(t, 2, second), up.upload(t, 3, []byte("3"))
	_, err := up.complete(t, one, one)
	wantCode(t, err, "InvalidPartOrder")
	_, err = up.complete(t, two, small)
	wantCode(t, err, "EntityTooSmall")
	_, err = up.complete(t, types.CompletedPart{ETag: two.ETag, PartNumber: aws.Int32(1)})
	wantCode(t, err, "InvalidPart")
	out, err := up.complete(t, one, two)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := up.complete(t, one, two); err != nil || *again.ETag != *out.ETag {
		t.Errorf("a second completion: %v, want the first's answer", err)
	}
	a, z := md5.Sum(first), md5.Sum(second)
	want := fmt.Sprintf(`"%x-2"`, md5.Sum(append(a[:], z[:]...)))
	head, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: k, IfMatch: &want})
	if err != nil || *head.ETag != want || head.Metadata["a"] != "b" || *head.ContentLength != int64(len(first)+2) {
		t.Errorf("head: %+v, error %v; want ETag %s", head, err, want)
	}
	if _, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k, IfMatch: aws.String(want[:33] + `-3"`)}); err == nil {
		t.Error("If-Match with another number of parts succeeded")
	}
	ranged, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k, Range: aws.String(fmt.Sprintf("bytes=%d-%d", len(first)-2, len(first)))})
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(ranged.Body); string(body) != "112" {
		t.Errorf("a range over two parts is %q", body)
	}
	if body := get(t, client, "p00", "big"); body != string(first)+"22" {
		t.Errorf("the object has %d bytes", len(body))
	}

	up = begin(t, client, *b, *k)
	part := up.upload(t, 1, second)
	for range 2 {
		if _, err := client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: b, Key: k, UploadId: up.id}); err != nil {
			wantCode(t, err, "NoSuchUpload")
		}
	}
	_, err = up.complete(t, part)
	wantCode(t, err, "NoSuchUpload")
	if n := files(t, dir); n != 2 {
		t.Errorf("%d files of contents, want the object's 2 parts", n)
	}
}

func TestUploadsInPartsAreLimited(t *testing.T) {
	store := open(t, objects.Options{})
	bucket(t, store.Client(""), "p00")
	h := serve(t, store)
	for i := range 1001 {
		res, err := http.Post(h+"/p00/k?uploads", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if want := map[bool]int{true: 200, false: 503}[i < 1000]; res.StatusCode != want {
			t.Fatalf("upload %d: %s, want %d", i+1, res.Status, want)
		}
	}
}

// files counts what the store keeps contents in.
func files(t testing.TB, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestObjectsSurviveARestartAndUploadsDoNot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s3")
	store := open(t, objects.Options{Dir: dir})
	client := store.Client("")
	bucket(t, client, "b00")
	put(t, client, "b00", "k", "kept")
	put(t, client, "b00", "k", "kept again")
	up, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String("b00"), Key: aws.String("u")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.UploadPart(t.Context(), &s3.UploadPartInput{
		Bucket: aws.String("b00"), Key: aws.String("u"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("part"),
	}); err != nil {
		t.Fatal(err)
	}
	if n := files(t, dir); n != 2 {
		t.Errorf("%d files of contents, want one object's and one part's", n)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	client = open(t, objects.Options{Dir: dir}).Client("")
	if got := get(t, client, "b00", "k"); got != "kept again" {
		t.Errorf("after a restart the object holds %q", got)
	}
	if n := files(t, dir); n != 1 {
		t.Errorf("%d files of contents after a restart, want 1", n)
	}
}

func TestNothingIsOpenedBeforeTheFirstRequest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s3")
	store := open(t, objects.Options{Dir: dir})
	serve(t, store)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is there before the first request: %v", err)
	}
}

func TestAStoreThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s3")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	url := serve(t, open(t, objects.Options{Dir: dir}))
	status := func() int {
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := status(); got != 500 {
		t.Errorf("status %d with a file for a directory, want 500", got)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != 200 {
		t.Errorf("status %d without it, want 200", got)
	}
}

// An overwritten object is there for who has begun to read it, the parts that he
// has not come to included, and no file of it is left when he has done.
func TestReadersKeepWhatTheyRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s3")
	client := open(t, objects.Options{Dir: dir}).Client("")
	bucket(t, client, "b00")
	up := begin(t, client, "b00", "k")
	up.upload(t, 1, bytes.Repeat([]byte("1"), 5<<20))
	up.upload(t, 2, bytes.Repeat([]byte("2"), 5<<20))
	if _, err := up.complete(t, up.parts...); err != nil {
		t.Fatal(err)
	}
	reading, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b00"), Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	put(t, client, "b00", "k", "new")
	if n := files(t, dir); n != 3 {
		t.Errorf("%d files of contents, want the reader's 2 and the new one", n)
	}
	body, err := io.ReadAll(reading.Body)
	reading.Body.Close()
	if err != nil || len(body) != 10<<20 || body[len(body)-1] != '2' {
		t.Errorf("%d bytes read, error %v; want the old object's", len(body), err)
	}
	if get(t, client, "b00", "k") != "new" {
		t.Error("the new object is not there")
	}
	put(t, client, "b00", "k", "newer")
	if n := files(t, dir); n != 1 {
		t.Errorf("%d files of contents, want 1", n)
	}
}

func TestOneOfManyWritersCreates(t *testing.T) {
	client := open(t, objects.Options{}).Client("")
	bucket(t, client, "b00")
	var wins, losses int
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String("b00"), Key: aws.String("k"), IfNoneMatch: aws.String("*"), Body: strings.NewReader(fmt.Sprint(i)),
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				wins++
				return
			}
			losses++
			wantCode(t, err, "PreconditionFailed")
		})
	}
	group.Wait()
	if wins != 1 || losses != 19 {
		t.Errorf("%d writers created the object, %d were told that it exists", wins, losses)
	}
}

// Pages agree with a sorted slice, in a bucket of the store and in a directory.
func TestListingsAgreeWithASortedSlice(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	client := open(t, objects.Options{Buckets: map[string]string{"mapped": dir}}).Client("")
	bucket(t, client, "stored")
	names, used := []string{"a", "a-", "a.b", "b", "b1", "b2", "é", "z z"}, map[string]bool{}
	for range 120 {
		var parts []string
		for range 1 + random.IntN(3) {
			parts = append(parts, names[random.IntN(len(names))])
		}
		key := strings.Join(parts, "/") + []string{"", "b8", "b9"}[random.IntN(3)]
		name := filepath.Join(dir, filepath.FromSlash(key))
		if os.MkdirAll(filepath.Dir(name), 0o755) != nil || os.WriteFile(name, nil, 0o644) != nil {
			continue // a file is where a directory would be, or the other way round
		}
		put(t, client, "stored", key, "")
		used[key] = true
	}
	keys := make([]string, 0, len(used))
	for key := range used {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if len(keys) < 20 {
		t.Fatalf("%d keys only", len(keys))
	}
	for range 150 {
		in := s3.ListObjectsV2Input{Prefix: aws.String([]string{"", "a", "a/", "a/b", "z z/", "no"}[random.IntN(6)])}
		in.Delimiter = aws.String([]string{"", "/", "b"}[random.IntN(3)])
		if start := random.IntN(2 * len(keys)); start < len(keys) {
			in.StartAfter = &keys[start]
		}
		in.MaxKeys = aws.Int32(1 + random.Int32N(9))
		want := listed(keys, &in)
		for _, b := range []string{"stored", "mapped"} {
			in.Bucket = &b
			if got := pages(t, client, in); !slices.Equal(got, want) {
				t.Fatalf("%s, prefix %q, delimiter %q, after %q, %d a page:\ngot  %q\nwant %q",
					b, *in.Prefix, *in.Delimiter, aws.ToString(in.StartAfter), *in.MaxKeys, got, want)
			}
		}
	}
}

func listed(keys []string, in *s3.ListObjectsV2Input) (list []string) {
	for _, key := range keys {
		rest, ok := strings.CutPrefix(key, *in.Prefix)
		if !ok || key <= aws.ToString(in.StartAfter) {
			continue
		}
		if *in.Delimiter != "" {
			if before, _, ok := strings.Cut(rest, *in.Delimiter); ok {
				key = *in.Prefix + before + *in.Delimiter
			}
		}
		if !slices.Contains(list, key) {
			list = append(list, key)
		}
	}
	return list
}

func pages(t *testing.T, client *s3.Client, in s3.ListObjectsV2Input) (list []string) {
	t.Helper()
	for paginator := s3.NewListObjectsV2Paginator(client, &in); paginator.HasMorePages(); {
		out, err := paginator.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var page []string
		for _, o := range out.Contents {
			page = append(page, *o.Key)
		}
		for _, p := range out.CommonPrefixes {
			page = append(page, *p.Prefix)
		}
		if len(page) > int(*in.MaxKeys) {
			t.Errorf("a page has %d entries, more than %d", len(page), *in.MaxKeys)
		}
		slices.Sort(page)
		list = append(list, page...)
	}
	return list
}

func TestMappedDirectoryIsABucketToRead(t *testing.T) {
	dir, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	for name, body := range map[string]string{
		filepath.Join(dir, "model.bin"): "weights", filepath.Join(dir, "sub", "x"): "below", secret: "secret",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(body), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if runtime.GOOS != "windows" { // where it takes a privilege
		if err := os.Symlink(secret, filepath.Join(dir, "out")); err != nil {
			t.Fatal(err)
		}
	}
	client := open(t, objects.Options{Buckets: map[string]string{"models": dir}}).Client("models")
	ctx, b := t.Context(), aws.String("models")
	bucket(t, client, "models") // it is there already
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: aws.String("model.bin"), Range: aws.String("bytes=2-4")})
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(out.Body); string(body) != "igh" {
		t.Errorf("range is %q", body)
	}
	if !strings.Contains(*out.ETag, "-") {
		t.Errorf("ETag %s looks like an MD5 of the content", *out.ETag)
	}
	for _, key := range []string{"out", "sub", "../" + filepath.Base(filepath.Dir(secret)) + "/secret", "sub/../model.bin", secret} {
		_, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: &key})
		wantCode(t, err, "NoSuchKey")
	}
	if got := pages(t, client, s3.ListObjectsV2Input{Bucket: b, MaxKeys: aws.Int32(10)}); !slices.Equal(got, []string{"model.bin", "sub/x"}) {
		t.Errorf("listed %q", got)
	}
	list, err := client.ListBuckets(ctx, &s3.ListBucketsInput{})
	if err != nil || len(list.Buckets) != 1 || *list.Buckets[0].Name != "models" {
		t.Errorf("buckets %v, error %v", list, err)
	}
	_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: aws.String("new")})
	wantCode(t, err, "AccessDenied")
	_, err = client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: aws.String("model.bin")})
	wantCode(t, err, "AccessDenied")
	_, err = client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String("model.bin")}}}})
	wantCode(t, err, "AccessDenied")
	_, err = client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: b})
	wantCode(t, err, "AccessDenied")

	bucket(t, client, "copies")
	if _, err := client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("copies"), Key: aws.String("c"), CopySource: aws.String("models/sub/x")}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, client, "copies", "c"); got != "below" {
		t.Errorf("copy holds %q", got)
	}
}

func TestOtherBucketsAreAtTheEndpoint(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "from")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the environment")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "k"), []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/far/k" || !strings.Contains(r.Header.Get("Authorization"), "Credential=from/") || !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/") {
			t.Errorf("request for %s signed as %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		fmt.Fprint(w, "there")
	}))
	defer elsewhere.Close()
	store := open(t, objects.Options{
		Endpoint: elsewhere.URL, Region: "eu-west-1", PathStyle: true, Buckets: map[string]string{"near": dir},
	})
	for b, want := range map[string]string{"near": "here", "far": "there"} {
		if got := get(t, store.Client(b), b, "k"); got != want {
			t.Errorf("%s holds %q, want %q", b, got, want)
		}
	}
}

func TestAnyCredentialsDo(t *testing.T) {
	url := serve(t, open(t, objects.Options{}))
	for _, pathStyle := range []bool{true, false} {
		client := s3.New(s3.Options{
			BaseEndpoint: aws.String(strings.Replace(url, "127.0.0.1", "localhost", 1)), UsePathStyle: pathStyle, Region: "eu-west-1",
			Credentials: credentials.NewStaticCredentialsProvider("123456789012", "any", ""),
			HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(url, "http://"))
			}}},
		})
		bucket(t, client, "b00")
		put(t, client, "b00", "a key", "body")
		if get(t, client, "b00", "a key") != "body" {
			t.Errorf("path style %v: another body", pathStyle)
		}
		signed, err := s3.NewPresignClient(client).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b00"), Key: aws.String("a key")})
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequest(http.MethodGet, strings.NewReplacer("b00.localhost", "127.0.0.1", "localhost", "127.0.0.1").Replace(signed.URL), nil)
		req.Host = signed.SignedHeader.Get("Host")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(res.Body); string(body) != "body" {
			t.Errorf("path style %v: presigned URL answers %s %q", pathStyle, res.Status, body)
		}
		res.Body.Close()
	}
}

// The Java SDK and minio-go sign every chunk and put the checksum behind.
func TestSignedChunksWithATrailer(t *testing.T) {
	store := open(t, objects.Options{})
	bucket(t, store.Client(""), "b00")
	body := "5;chunk-signature=0\r\nhello\r\n0;chunk-signature=0\r\nx-amz-checksum-crc32:NhCmhg==\r\nx-amz-trailer-signature:0\r\n\r\n"
	req, _ := http.NewRequest(http.MethodPut, serve(t, store)+"/b00/k", strings.NewReader(body))
	req.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
	req.Header.Set("X-Amz-Decoded-Content-Length", "5")
	req.Header.Set("Content-Encoding", "aws-chunked")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	res, err = http.Get(req.URL.String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, _ := io.ReadAll(res.Body); string(got) != "hello" || res.Header.Get("Content-Encoding") != "" {
		t.Errorf("object is %q with Content-Encoding %q", got, res.Header.Get("Content-Encoding"))
	}
}

func TestWebPagesAreRefused(t *testing.T) {
	url := serve(t, open(t, objects.Options{Hosts: []string{"box.example"}}))
	for _, c := range []struct {
		name, host, header, value string
		want                      int
	}{
		{"a plain request", "", "", "", 200},
		{"a name that is allowed", "box.example:7241", "", "", 200},
		{"a bucket below localhost", "nobucket.localhost", "", "", 404},
		{"a bucket below s3.localhost", "nobucket.s3.localhost:7241", "", "", 404},
		{"localhost as S3's own name", "s3.localhost", "", "", 200},
		{"a name bound to 127.0.0.1", "evil.example", "", "", 403},
		{"an origin elsewhere", "", "Origin", "http://evil.example", 403},
		{"no origin to speak of", "", "Origin", "null", 403},
		{"a page elsewhere", "", "Sec-Fetch-Site", "cross-site", 403},
		{"the address bar", "", "Sec-Fetch-Site", "none", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodOptions, http.MethodPut} {
				req, _ := http.NewRequest(method, url+"/", nil)
				if method == http.MethodPut && c.want != 403 {
					continue
				}
				if c.host != "" {
					req.Host = c.host
				}
				if c.header != "" {
					req.Header.Set(c.header, c.value)
				}
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if (method == http.MethodGet || c.want == 403) && res.StatusCode != c.want {
					t.Errorf("%s: status %d, want %d", method, res.StatusCode, c.want)
				}
				if got := res.Header.Get("Access-Control-Allow-Origin"); got != "" {
					t.Errorf("%s: Access-Control-Allow-Origin is %q", method, got)
				}
			}
		})
	}
}

func TestUploadsThatBreakOffLeaveNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s3")
	store := open(t, objects.Options{Dir: dir})
	client := store.Client("")
	bucket(t, client, "b00")
	put(t, client, "b00", "k", "good")
	address := strings.TrimPrefix(serve(t, store), "http://")
	for _, request := range []string{
		"PUT /b00/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf",
		"PUT /b00/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nX-Amz-Decoded-Content-Length: 100\r\n\r\nhalf",
		"PUT /b00/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6000000000\r\n\r\n",
		"PUT /b00/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nContent-MD5: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nhalf",
		"PUT /b00/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\nhalf",
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).CloseWrite()
		if answer, _ := io.ReadAll(conn); strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("%.60q was answered %.40q", request, answer)
		}
		conn.Close()
	}
	if got := get(t, client, "b00", "k"); got != "good" {
		t.Errorf("the object holds %q", got)
	}
	if n := files(t, dir); n != 1 {
		t.Errorf("%d files of contents, want 1", n)
	}
}
