package async

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// Limits of a request's payload.
const (
	// MaxInline is that of a body in the request itself
	// (API_runtime_InvokeEndpointAsync).
	MaxInline = 128_000
	// maxPayload is that of an object, 1 GB (docs: async-inference).
	maxPayload = 1 << 30
	// inMemory is what is read into memory. What is larger goes to a file that is
	// mapped into it, so that the system may drop its pages.
	inMemory = 1 << 20
	// transferTimeout is how long S3 may take for one object. A request that is
	// being read has its place on an instance, which must not be lost to an S3 that
	// has fallen silent.
	transferTimeout = 15 * time.Minute
)

// requestMetadata is the user metadata of an object that names the request.
const requestMetadata = "sagelocal-request"

var (
	errSilent    = errors.New("no answer in time")
	errNoS3      = errors.New("there is no S3")
	errURI       = errors.New("is not a location in S3")
	errTooLarge  = fmt.Errorf("is larger than %d bytes", maxPayload)
	errNoContent = errors.New("S3 does not tell its size")
)

// payload is a request's body or an answer's. close lets go of it.
type payload struct {
	bytes []byte
	close func() error
}

func inline(bytes []byte) *payload { return &payload{bytes, func() error { return nil }} }

// spoolPattern names the files that payloads are in.
const spoolPattern = "async-*"

func (q *Queue) client(location string) (client *s3.Client, bucket, key string, err error) {
	bucket, key, ok := splitURI(location)
	switch {
	case !ok:
		return nil, "", "", errURI
	case q.S3 == nil:
		return nil, "", "", errNoS3
	}
	return q.S3(bucket), bucket, key, nil
}

// get reads an object.
func (q *Queue) get(ctx context.Context, location string) (*payload, error) {
	client, bucket, key, err := q.client(location)
	if err != nil {
		return nil, err
	}
	ctx, cancel := transfer(ctx)
	defer cancel()
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, explain(ctx, err)
	}
	defer out.Body.Close()
	size := aws.ToInt64(out.ContentLength)
	switch {
	case out.ContentLength == nil:
		return nil, errNoContent
	case size > maxPayload:
		return nil, errTooLarge
	case size > inMemory:
		return q.spool(out.Body, size)
	}
	p := inline(make([]byte, size))
	if _, err := io.ReadFull(out.Body, p.bytes); err != nil {
		return nil, fmt.Errorf("the download broke off: %w", err)
	}
	return p, nil
}

// spool reads an object into a file without a name and maps it.
func (q *Queue) spool(from io.Reader, size int64) (_ *payload, err error) {
	f, err := os.CreateTemp(q.Dir, spoolPattern)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer func() {
		// A mapping outlives its file, and a file that cannot be removed now is
		// removed when the daemon starts.
		err = errors.Join(err, f.Close())
		_ = os.Remove(f.Name())
	}()
	if n, err := io.CopyN(f, from, size); err != nil {
		return nil, fmt.Errorf("the download broke off after %d of %d bytes: %w", n, size, err)
	}
	return mapFile(f, int(size))
}

// put writes an object that names the request.
func (q *Queue) put(ctx context.Context, r *record, location, contentType string, content []byte) error {
	client, bucket, key, err := q.client(location)
	if err != nil {
		return err
	}
	in := &s3.PutObjectInput{
		Bucket: &bucket, Key: &key, Body: bytes.NewReader(content),
		Metadata: map[string]string{requestMetadata: r.Request},
	}
	if contentType != "" {
		in.ContentType = &contentType
	}
	ctx, cancel := transfer(ctx)
	defer cancel()
	if _, err := client.PutObject(ctx, in); err != nil {
		return explain(ctx, err)
	}
	return nil
}

// written reads what an earlier run of the request has left at a location; nil
// when that is nothing. Of what is too large for a notification only the head.
func (q *Queue) written(ctx context.Context, r *record, location string) (*outcome, error) {
	if location == "" {
		return nil, nil
	}
	client, bucket, key, err := q.client(location)
	if err != nil {
		return nil, err
	}
	ctx, cancel := transfer(ctx)
	defer cancel()
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		if e, ok := errors.AsType[smithy.APIError](err); ok && (e.ErrorCode() == "NoSuchKey" || e.ErrorCode() == "NoSuchBucket") {
			return nil, nil
		}
		return nil, explain(ctx, err)
	}
	defer out.Body.Close()
	if out.Metadata[requestMetadata] != r.Request {
		return nil, nil
	}
	said, err := io.ReadAll(io.LimitReader(out.Body, maxIncluded+1))
	if err != nil {
		return nil, fmt.Errorf("the download broke off: %w", err)
	}
	return &outcome{contentType: aws.ToString(out.ContentType), said: said}, nil
}

func transfer(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, transferTimeout, errSilent)
}

// explain says in a caller's words what S3 has answered.
func explain(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		return fmt.Errorf("its S3 gives %w", errSilent)
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		if e.ErrorMessage() == "" {
			return fmt.Errorf("its S3 answers %.100s", e.ErrorCode())
		}
		return fmt.Errorf("its S3 answers %.100s: %.200s", e.ErrorCode(), e.ErrorMessage())
	}
	return fmt.Errorf("its S3 cannot be reached: %w", err)
}
