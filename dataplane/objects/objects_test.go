package objects_test

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
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
