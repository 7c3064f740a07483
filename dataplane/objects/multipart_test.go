package objects_test

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/sagelocal/sagelocal/dataplane/objects"
)

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
