package objects

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/rclone/gofakes3"
)

const (
	// maxUploads bounds the multipart uploads under way.
	maxUploads = 1000
	// minPart is the least that a part other than the last may hold (AWS page:
	// qfacts).
	minPart = 5 << 20
)

// uploads are the multipart uploads under way. They end with the daemon, and the
// next one removes their parts.
type uploads struct {
	mu   sync.Mutex
	byID map[gofakes3.UploadID]*upload
}

// upload is a multipart upload. Its object is a list of its parts, so that to
// complete it copies nothing.
type upload struct {
	mu    sync.Mutex
	meta  map[string]string
	parts map[int]uploadedPart
	etag  string // once it is complete
	done  bool
}

type uploadedPart struct {
	part
	sum []byte
}

func (u *uploads) begin(meta map[string]string) (gofakes3.UploadID, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.byID) >= maxUploads {
		return "", gofakes3.ErrorMessage(gofakes3.ErrSlowDown, "Too many multipart uploads are under way; complete or abort some.")
	}
	id := gofakes3.UploadID(rand.Text())
	u.byID[id] = &upload{meta: meta, parts: map[int]uploadedPart{}}
	return id, nil
}

func (u *uploads) get(id gofakes3.UploadID) (*upload, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if upload := u.byID[id]; upload != nil {
		return upload, nil
	}
	return nil, gofakes3.ErrNoSuchUpload
}

func (u *uploads) end(id gofakes3.UploadID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.byID, id)
}

// add makes p a part of the upload and returns what it replaces.
func (u *upload) add(number int, p uploadedPart) (replaced []part, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		return nil, gofakes3.ErrNoSuchUpload
	}
	if old, ok := u.parts[number]; ok {
		replaced = []part{old.part}
	}
	u.parts[number] = p
	return replaced, nil
}

// choose makes an object of the parts that the caller lists. AWS page:
// API_CompleteMultipartUpload. The caller holds u.mu.
func (u *upload) choose(list []gofakes3.CompletedPart) (*object, error) {
	if len(list) == 0 {
		return nil, gofakes3.ErrorMessage(gofakes3.ErrMalformedXML, gofakes3.ErrMalformedXML.Message())
	}
	o := &object{Meta: u.meta, Time: time.Now().UTC()}
	hash, last := md5.New(), 0
	for i, listed := range list {
		if listed.PartNumber <= last {
			return nil, gofakes3.ErrInvalidPartOrder
		}
		last = listed.PartNumber
		p, ok := u.parts[last]
		if !ok || strings.Trim(listed.ETag, `"`) != hex.EncodeToString(p.sum) {
			return nil, gofakes3.ErrInvalidPart
		}
		if p.Size < minPart && i < len(list)-1 {
			return nil, entityTooSmall()
		}
		hash.Write(p.sum)
		o.Parts = append(o.Parts, p.part)
	}
	o.Hash = dashed(hash.Sum(nil), len(list))
	return o, nil
}

// rest are the parts that o leaves out, or all without o. The caller holds u.mu.
func (u *upload) rest(o *object) (rest []part) {
	used := map[string]bool{}
	if o != nil {
		for _, p := range o.Parts {
			used[p.Blob] = true
		}
	}
	for _, p := range u.parts {
		if !used[p.Blob] {
			rest = append(rest, p.part)
		}
	}
	return rest
}

// tooSmall is an error that the library has no code for.
type tooSmall struct{ gofakes3.ErrorResponse }

// ErrorCode gives the status.
func (e *tooSmall) ErrorCode() gofakes3.ErrorCode { return gofakes3.ErrInvalidRequest }

func entityTooSmall() error {
	return &tooSmall{gofakes3.ErrorResponse{
		Code: "EntityTooSmall", Message: "Your proposed upload is smaller than the minimum allowed size",
	}}
}

// CreateMultipartUpload implements gofakes3.MultipartBackend, as do the next three.
func (b *backend) CreateMultipartUpload(_ context.Context, _, _ string, meta map[string]string) (gofakes3.UploadID, error) {
	return b.uploads.begin(meta)
}

func (b *backend) UploadPart(_ context.Context, _, _ string, id gofakes3.UploadID, number int, size int64, body io.Reader) (string, error) {
	s, err := b.open()
	if err != nil {
		return "", err
	}
	u, err := b.uploads.get(id)
	if err != nil {
		return "", err
	}
	p, sum, err := s.write(body, size)
	if err != nil {
		return "", err
	}
	replaced, err := u.add(number, uploadedPart{p, sum})
	if err != nil {
		replaced = []part{p}
	}
	s.discard(replaced)
	return etagOf(sum), err
}

func (b *backend) CompleteMultipartUpload(ctx context.Context, bucket, key string, id gofakes3.UploadID, in *gofakes3.CompleteMultipartUploadRequest) (gofakes3.VersionID, string, error) {
	s, err := b.open()
	if err != nil {
		return "", "", err
	}
	u, err := b.uploads.get(id)
	if err != nil {
		return "", "", err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		if u.etag == "" {
			return "", "", gofakes3.ErrNoSuchUpload
		}
		return "", u.etag, nil
	}
	o, err := u.choose(in.Parts)
	if err != nil {
		return "", "", err
	}
	// The parts have to outlive a failure, because the caller may try again.
	if err := s.keep(ctx, bucket, key, o); err != nil {
		return "", "", err
	}
	s.discard(u.rest(o))
	u.done, u.etag = true, etagOf(o.Hash)
	b.uploads.end(id)
	return "", u.etag, nil
}

func (b *backend) AbortMultipartUpload(_ context.Context, _, _ string, id gofakes3.UploadID) error {
	s, err := b.open()
	if err != nil {
		return err
	}
	u, err := b.uploads.get(id)
	if err != nil {
		return nil // what is gone needs no abort
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.done {
		u.done = true
		s.discard(u.rest(nil))
	}
	b.uploads.end(id)
	return nil
}
