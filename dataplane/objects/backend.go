package objects

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/rclone/gofakes3"
)

// backend gives the S3 library its buckets: those of the store, which the first
// request opens, and the directories that the configuration file maps.
type backend struct {
	directories map[string]*directory
	uploads     uploads
	openStore   func() (*store, error)

	mu     sync.Mutex
	opened *store
	closed bool
}

var (
	_ gofakes3.Backend              = (*backend)(nil)
	_ gofakes3.MultipartBackend     = (*backend)(nil)
	_ gofakes3.ObjectTaggingBackend = (*backend)(nil)
)

func newBackend(o Options) *backend {
	b := &backend{
		directories: map[string]*directory{},
		uploads:     uploads{byID: map[gofakes3.UploadID]*upload{}},
		openStore:   func() (*store, error) { return openStore(o.Dir, o.Volatile) },
	}
	for name, dir := range o.Buckets {
		b.directories[name] = &directory{dir: dir}
	}
	return b
}

// open returns the store. If it cannot be opened, the next request tries again.
func (b *backend) open() (_ *store, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opened == nil && !b.closed {
		if b.opened, err = b.openStore(); err != nil {
			return nil, err
		}
	}
	if b.opened == nil {
		return nil, gofakes3.ErrorMessage(gofakes3.ErrSlowDown, "The server is stopping.")
	}
	return b.opened, nil
}

func (b *backend) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	opened := b.opened
	b.opened, b.closed = nil, true
	if opened == nil {
		return nil
	}
	return opened.close()
}

func (b *backend) directory(bucket string) *directory { return b.directories[bucket] }

func (b *backend) ListBuckets(context.Context) ([]gofakes3.BucketInfo, error) {
	s, err := b.open()
	if err != nil {
		return nil, err
	}
	list, err := s.list()
	for name, d := range b.directories {
		list = append(list, gofakes3.BucketInfo{Name: name, CreationDate: gofakes3.NewContentTime(d.modified())})
	}
	return list, err
}

func (b *backend) BucketExists(_ context.Context, bucket string) (bool, error) {
	if b.directory(bucket) != nil {
		return true, nil
	}
	s, err := b.open()
	if err != nil {
		return false, err
	}
	return s.exists(bucket)
}

func (b *backend) CreateBucket(_ context.Context, bucket string) error {
	if b.directory(bucket) != nil {
		return nil
	}
	s, err := b.open()
	if err != nil {
		return err
	}
	return s.create(bucket)
}

func (b *backend) DeleteBucket(_ context.Context, bucket string) error {
	s, err := b.open()
	if err != nil {
		return err
	}
	return s.remove(bucket)
}

func (b *backend) ListBucket(_ context.Context, bucket string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	l := newListing(prefix, page)
	if d := b.directory(bucket); d != nil {
		return l.out, d.page(l)
	}
	s, err := b.open()
	if err != nil {
		return nil, err
	}
	return l.out, s.page(bucket, l)
}

func (b *backend) GetObject(_ context.Context, bucket, key string, wanted *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	if d := b.directory(bucket); d != nil {
		return d.get(key, wanted)
	}
	s, err := b.open()
	if err != nil {
		return nil, err
	}
	o, release, err := s.get(bucket, key)
	if err != nil {
		return nil, err
	}
	out := describe(key, o)
	if out.Range, err = wanted.Range(out.Size); err != nil {
		release()
		return nil, err
	}
	c := &contents{blobs: s.blobs, parts: o.Parts, left: out.Size, release: release}
	if out.Range != nil {
		c.skip, c.left = out.Range.Start, out.Range.Length
	}
	out.Contents = c
	return out, nil
}

func (b *backend) HeadObject(_ context.Context, bucket, key string) (*gofakes3.Object, error) {
	if d := b.directory(bucket); d != nil {
		return d.head(key)
	}
	s, err := b.open()
	if err != nil {
		return nil, err
	}
	o, release, err := s.get(bucket, key)
	if err != nil {
		return nil, err
	}
	release()
	return describe(key, o), nil
}

// describe is an object as the library wants it, without contents.
func describe(key string, o *object) *gofakes3.Object {
	out := &gofakes3.Object{Name: key, Metadata: o.Meta, Size: o.size(), Hash: o.Hash, Contents: http.NoBody}
	if len(o.Hash) > 16 { // made of parts
		for _, p := range o.Parts {
			out.PartSizes = append(out.PartSizes, p.Size)
		}
	}
	return out
}

func (b *backend) PutObject(ctx context.Context, bucket, key string, meta map[string]string, body io.Reader, size int64) (out gofakes3.PutObjectResult, err error) {
	s, err := b.open()
	if err != nil {
		return out, err
	}
	p, sum, err := s.write(body, size)
	if err != nil {
		return out, err
	}
	o := &object{Parts: []part{p}, Hash: sum, Meta: withType(meta), Time: time.Now().UTC()}
	return out, s.put(ctx, bucket, key, o)
}

// withType adds the Content-Type that S3 gives an object without.
func withType(meta map[string]string) map[string]string {
	if meta["Content-Type"] == "" {
		meta["Content-Type"] = "binary/octet-stream"
	}
	return meta
}

func (b *backend) CopyObject(ctx context.Context, fromBucket, fromKey, bucket, key string, meta map[string]string) (out gofakes3.CopyObjectResult, err error) {
	s, err := b.open()
	if err != nil {
		return out, err
	}
	o := &object{Meta: withType(meta), Time: time.Now().UTC()}
	if d := b.directory(fromBucket); d != nil {
		err = d.copy(fromKey, s.blobs, o)
	} else {
		err = s.duplicate(fromBucket, fromKey, o)
	}
	if err != nil {
		return out, err
	}
	if err := s.put(ctx, bucket, key, o); err != nil {
		return out, err
	}
	return gofakes3.CopyObjectResult{ETag: etagOf(o.Hash), LastModified: gofakes3.NewContentTime(o.Time)}, nil
}

// duplicate gives o the contents of another object.
func (s *store) duplicate(bucket, key string, o *object) error {
	from, release, err := s.get(bucket, key)
	if err != nil {
		return err
	}
	defer release()
	o.Hash = from.Hash
	if o.Parts, err = s.link(from.Parts); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

func (b *backend) DeleteObject(_ context.Context, bucket, key string) (out gofakes3.ObjectDeleteResult, err error) {
	s, err := b.open()
	if err != nil {
		return out, err
	}
	return out, s.delete(bucket, key)
}

func (b *backend) DeleteMulti(ctx context.Context, bucket string, keys ...string) (out gofakes3.MultiDeleteResult, err error) {
	for _, key := range keys {
		if _, err := b.DeleteObject(ctx, bucket, key); err != nil {
			failed := gofakes3.ErrorResultFromError(err)
			failed.Key = key
			out.Error = append(out.Error, failed)
			continue
		}
		out.Deleted = append(out.Deleted, gofakes3.ObjectID{Key: key})
	}
	return out, nil
}

// SetObjectTagging implements gofakes3.ObjectTaggingBackend.
func (b *backend) SetObjectTagging(_ context.Context, bucket, key, tagging string) error {
	s, err := b.open()
	if err != nil {
		return err
	}
	return s.tag(bucket, key, tagging)
}
