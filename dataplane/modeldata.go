package dataplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// Limits of one source of model data, unless ModelData says otherwise.
const (
	DefaultModelDataMaxBytes = 64 << 30
	DefaultModelDataMaxFiles = 100_000
)

// ErrNoBucket: model data is in a bucket that does not exist. It comes together
// with ErrModelData.
var ErrNoBucket = errors.New("no such bucket")

// ModelData fetches what ModelDataUrl, ModelDataSource and
// AdditionalModelDataSources name from S3. Its methods are safe for concurrent
// use. AWS pages: API_ContainerDefinition, API_S3ModelDataSource.
//
// All errors wrap ErrModelData and name the URL as the caller gave it, never a
// local path: they end up in FailureReason.
type ModelData struct {
	// S3 is the client for a bucket; nil when there is no S3, and so no bucket.
	S3 func(bucket string) *s3.Client
	// Strict says that all buckets are known, so that one that does not exist is
	// the caller's mistake as soon as he names it.
	Strict bool
	// MaxBytes bounds what a source holds, unpacked, in bytes; zero means
	// DefaultModelDataMaxBytes.
	MaxBytes int64
	// MaxFiles bounds how many files, directories and links a source makes; zero
	// means DefaultModelDataMaxFiles.
	MaxFiles int
}

// ModelSource names model data. AWS page: API_S3ModelDataSource.
type ModelSource struct {
	URL    string // s3://bucket/key
	Prefix bool   // S3DataType S3Prefix: all objects whose keys begin so; URL ends with a slash
	Gzip   bool   // CompressionType Gzip: a tar.gz to unpack; not with Prefix
	ETag   string // that the object must have; empty for any
}

// ModelChannel is model data beside the model's own. AWS page:
// API_AdditionalModelDataSource.
type ModelChannel struct {
	Name string
	ModelSource
}

// ModelData is the container's own model data, false when it has none.
func (c *Container) ModelData() (ModelSource, bool) {
	if c.ModelDataSource != nil {
		return *c.ModelDataSource, true
	}
	return ModelSource{URL: c.ModelDataURL, Gzip: true}, c.ModelDataURL != ""
}

// Check returns an error unless source can be read. It does not look inside of
// objects. The error wraps ErrNoBucket if the bucket does not exist.
func (m *ModelData) Check(ctx context.Context, source ModelSource) error {
	return describe(source, m.check(ctx, source))
}

func (m *ModelData) check(ctx context.Context, source ModelSource) error {
	o, err := m.locate(source)
	if err != nil {
		return err
	}
	if source.Prefix {
		_, err := o.list(ctx, 1)
		return err
	}
	// HeadObject would not tell a bucket that does not exist from a key. The
	// first byte of an empty object is out of range, whatever its ETag.
	span := "bytes=0-0"
	if source.ETag != "" {
		span = ""
	}
	out, err := o.get(ctx, span)
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "InvalidRange" {
		return nil
	}
	if err != nil {
		return o.explain(ctx, err)
	}
	return out.Body.Close()
}

// Download puts source into dir, which is made if it is missing. Nothing outside
// of dir is touched: names and links that lead out of it, devices, and what is
// beyond MaxBytes or MaxFiles are errors. Files are readable by all and writable
// by their owner, and executable if they are so in the archive. After an error
// dir holds what arrived until then. When ctx ends, so does Download, with an
// error that wraps the context's cause.
func (m *ModelData) Download(ctx context.Context, source ModelSource, dir string) error {
	return describe(source, m.download(ctx, source, dir))
}

func describe(source ModelSource, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrModelData, source.URL, err)
}

func (m *ModelData) download(ctx context.Context, source ModelSource, dir string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	o, err := m.locate(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("the instance's model directory cannot be made: %w", withoutPath(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("the instance's model directory cannot be opened: %w", withoutPath(err))
	}
	defer root.Close()
	u := &unpacker{
		ctx:   ctx,
		root:  root,
		dirs:  map[string]bool{".": true},
		bytes: cmp.Or(m.MaxBytes, DefaultModelDataMaxBytes),
		files: cmp.Or(m.MaxFiles, DefaultModelDataMaxFiles),
	}
	switch {
	case source.Prefix:
		return o.copyAll(ctx, u)
	case source.Gzip:
		body, err := o.open(ctx)
		if err != nil {
			return err
		}
		defer body.Close()
		return u.unpack(body)
	}
	return o.copyTo(ctx, u, path.Base(o.key))
}

// s3Object is an object, or all whose keys begin with key.
type s3Object struct {
	client      *s3.Client
	bucket, key string
	etag        string
}

func (m *ModelData) locate(source ModelSource) (*s3Object, error) {
	bucket, key, ok := splitS3(source.URL)
	switch {
	case !ok:
		return nil, errors.New("is not of the form s3://bucket/key")
	case source.Prefix && source.Gzip:
		return nil, errors.New("objects below a prefix cannot be compressed")
	case !source.Prefix && (key == "" || strings.HasSuffix(key, "/")):
		return nil, errors.New("the key does not name one object but a prefix")
	case m.S3 == nil:
		return nil, fmt.Errorf("%w %q: there is no S3", ErrNoBucket, bucket)
	}
	return &s3Object{m.S3(bucket), bucket, key, source.ETag}, nil
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

func (o *s3Object) get(ctx context.Context, span string) (*s3.GetObjectOutput, error) {
	in := &s3.GetObjectInput{Bucket: &o.bucket, Key: &o.key}
	if span != "" {
		in.Range = &span
	}
	if o.etag != "" {
		in.IfMatch = &o.etag
	}
	return o.client.GetObject(ctx, in)
}

// explain says in a model owner's words what S3 has answered.
func (o *s3Object) explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return fmt.Errorf("S3 cannot be reached: %w", err)
	}
	switch e.ErrorCode() {
	case "NoSuchBucket":
		return fmt.Errorf("%w %q: create it with an S3 client, "+
			"or map it to a local directory in the configuration file, as in buckets: {%s: path/to/directory}", ErrNoBucket, o.bucket, o.bucket)
	case "NoSuchKey":
		// An S3 that says so of a list would be asked for ever.
		if !strings.HasSuffix(o.key, "/") {
			if _, err := o.below(o.key+"/").list(ctx, 1); err == nil {
				return errors.New("the key is a prefix and not an object")
			}
		}
		return errors.New("no such object in the bucket")
	case "AccessDenied":
		return fmt.Errorf("S3 denies access: %.200s", e.ErrorMessage())
	case "PreconditionFailed":
		return fmt.Errorf("the object's ETag is not %.100s", o.etag)
	}
	return fmt.Errorf("S3 answers %.100s: %.200s", e.ErrorCode(), e.ErrorMessage())
}

func (o *s3Object) below(key string) *s3Object {
	return &s3Object{client: o.client, bucket: o.bucket, key: key}
}

// list returns the first limit objects whose keys begin with o's, and an error
// when there is none.
func (o *s3Object) list(ctx context.Context, limit int) ([]types.Object, error) {
	var list []types.Object
	in := &s3.ListObjectsV2Input{Bucket: &o.bucket, Prefix: &o.key, MaxKeys: aws.Int32(int32(min(limit, 1000)))}
	for {
		out, err := o.client.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, o.explain(ctx, err)
		}
		list = append(list, out.Contents...)
		if !aws.ToBool(out.IsTruncated) || len(list) >= limit {
			break
		}
		in.ContinuationToken = out.NextContinuationToken
	}
	if len(list) == 0 {
		return nil, errors.New("no object has a key with this prefix")
	}
	return list, nil
}

// copyAll copies all objects below a prefix; what follows it in a key is the
// file's path.
func (o *s3Object) copyAll(ctx context.Context, u *unpacker) error {
	list, err := o.list(ctx, u.files+1)
	if err != nil {
		return err
	}
	if len(list) > u.files {
		return errors.New("the objects exceed the limit on their number")
	}
	left := u.bytes
	for i := range list {
		if left -= aws.ToInt64(list[i].Size); left < 0 {
			return errors.New("the objects exceed the limit on their size")
		}
	}
	for i := range list {
		key := aws.ToString(list[i].Key)
		if err := o.below(key).copyTo(ctx, u, strings.TrimPrefix(key, o.key)); err != nil {
			return fmt.Errorf("key %.200q: %w", key, err)
		}
	}
	return nil
}

// copyTo copies the object to a file. AWS lists the names that it refuses under
// CompressionType (API_S3ModelDataSource); a folder that the S3 console has made
// is among them.
func (o *s3Object) copyTo(ctx context.Context, u *unpacker, name string) error {
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return errors.New("a file's or directory's name is empty")
		case part == "." || part == "..":
			return fmt.Errorf("%q is not a name of a file or directory", part)
		case len(part) > 255:
			return errors.New("a file's or directory's name is longer than 255 bytes")
		}
	}
	local, err := entryName(name)
	if err != nil {
		return err
	}
	body, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	return u.object(local, body)
}

// open begins to read the object.
func (o *s3Object) open(ctx context.Context) (io.ReadCloser, error) {
	out, err := o.get(ctx, "")
	if err != nil {
		return nil, o.explain(ctx, err)
	}
	o.etag = aws.ToString(out.ETag)
	r := &objectReader{ctx: ctx, object: o, body: out.Body, size: -1}
	if out.ContentLength != nil {
		r.size = *out.ContentLength
	}
	return r, nil
}

// maxResumes is how often the download of one object begins again where it broke
// off.
const maxResumes = 3

// objectReader reads an object over connections that may break.
type objectReader struct {
	ctx        context.Context
	object     *s3Object
	body       io.ReadCloser
	size, read int64 // size is -1 when S3 does not tell it
	resumes    int
}

func (r *objectReader) Read(p []byte) (int, error) {
	for {
		if cause := context.Cause(r.ctx); cause != nil {
			return 0, cause
		}
		n, err := r.body.Read(p)
		r.read += int64(n)
		if err == nil || errors.Is(err, io.EOF) && (r.size < 0 || r.read == r.size) {
			return n, err
		}
		if n > 0 {
			return n, nil // the next call finds the error again
		}
		if cause := context.Cause(r.ctx); cause != nil {
			return 0, cause
		}
		if r.size < 0 || r.read >= r.size || r.resumes == maxResumes {
			return 0, errBrokeOff{err}
		}
		if err := r.resume(); err != nil {
			return 0, err
		}
	}
}

func (r *objectReader) resume() error {
	r.resumes++
	out, err := r.object.get(r.ctx, fmt.Sprintf("bytes=%d-", r.read))
	if err != nil {
		return r.object.explain(r.ctx, err)
	}
	r.body.Close()
	r.body = out.Body
	return nil
}

func (r *objectReader) Close() error { return r.body.Close() }

// errBrokeOff is the end of a download before the end of its object. It hides
// the cause from those who would take an early end for the archive's.
type errBrokeOff struct{ cause error }

func (e errBrokeOff) Error() string { return "the download broke off: " + e.cause.Error() }

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
