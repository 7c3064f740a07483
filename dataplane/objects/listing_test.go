package objects_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/sagelocal/sagelocal/dataplane/objects"
)

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
