package objects

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rclone/gofakes3"
	"go.etcd.io/bbolt"
)

// store holds buckets and objects: an index in bbolt, and contents in files whose
// names are random. So a key may be anything that S3 allows, also one that is the
// prefix of another, and never becomes a path.
type store struct {
	db *bbolt.DB
	*blobs
}

// object is an entry of the index.
type object struct {
	Parts []part            `json:"parts"` // one, or those of a multipart upload
	Hash  []byte            `json:"hash"`  // MD5; see etag.go
	Meta  map[string]string `json:"meta"`  // headers, Last-Modified among them
	Time  time.Time         `json:"time"`  // of the last change
}

func (o *object) size() (n int64) {
	for _, p := range o.Parts {
		n += p.Size
	}
	return n
}

// Buckets of the index.
var (
	bucketTimes   = []byte("buckets") // creation times by name
	bucketObjects = []byte("objects") // a bucket for each, with its objects by key
)

func openStore(dir string, volatile bool) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	db, err := bbolt.Open(filepath.Join(dir, "index.db"), 0o600, &bbolt.Options{
		Timeout: time.Second, NoSync: volatile, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	})
	if err != nil {
		return nil, fmt.Errorf("s3: index: %w", err)
	}
	s := &store{db: db, blobs: newBlobs(filepath.Join(dir, "blobs"), !volatile)}
	if err := s.init(); err != nil {
		return nil, errors.Join(fmt.Errorf("s3: %w", err), db.Close())
	}
	return s, nil
}

// init makes what a new index lacks and removes contents that nothing refers to:
// those of uploads that the end of the daemon has cut short.
func (s *store) init() error {
	referred := map[string]bool{}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketTimes)
		if err != nil {
			return err
		}
		all, err := tx.CreateBucketIfNotExists(bucketObjects)
		if err != nil {
			return err
		}
		return all.ForEachBucket(func(name []byte) error {
			return all.Bucket(name).ForEach(func(_, value []byte) error {
				o, err := decode(value)
				if err != nil {
					return err
				}
				for _, p := range o.Parts {
					referred[p.Blob] = true
				}
				return nil
			})
		})
	})
	if err != nil {
		return err
	}
	return s.sweep(referred)
}

func decode(value []byte) (*object, error) {
	o := new(object)
	if err := json.Unmarshal(value, o); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return o, nil
}

func (s *store) list() (list []gofakes3.BucketInfo, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketTimes).ForEach(func(name, value []byte) error {
			var created time.Time
			if err := created.UnmarshalText(value); err != nil {
				return fmt.Errorf("index: %w", err)
			}
			list = append(list, gofakes3.BucketInfo{Name: string(name), CreationDate: gofakes3.NewContentTime(created)})
			return nil
		})
	})
	return list, err
}

func (s *store) exists(bucket string) (exists bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		exists = tx.Bucket(bucketTimes).Get([]byte(bucket)) != nil
		return nil
	})
	return exists, err
}

// create makes a bucket. One that exists is its caller's, and S3 in us-east-1
// answers 200 then (AWS page: API_CreateBucket, BucketAlreadyOwnedByYou).
func (s *store) create(bucket string) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		times := tx.Bucket(bucketTimes)
		if times.Get([]byte(bucket)) != nil {
			return nil
		}
		now, err := time.Now().UTC().MarshalText()
		if err != nil {
			return err
		}
		if _, err := tx.Bucket(bucketObjects).CreateBucket([]byte(bucket)); err != nil {
			return err
		}
		return times.Put([]byte(bucket), now)
	})
}

func (s *store) remove(bucket string) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		objects := tx.Bucket(bucketObjects).Bucket([]byte(bucket))
		if objects == nil {
			return gofakes3.BucketNotFound(bucket)
		}
		if key, _ := objects.Cursor().First(); key != nil {
			return gofakes3.ResourceError(gofakes3.ErrBucketNotEmpty, bucket)
		}
		return errors.Join(tx.Bucket(bucketObjects).DeleteBucket([]byte(bucket)), tx.Bucket(bucketTimes).Delete([]byte(bucket)))
	})
}

// get returns an object. Its contents stay where they are until release, also
// when somebody deletes it meanwhile.
func (s *store) get(bucket, key string) (o *object, release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.db.View(func(tx *bbolt.Tx) error {
		objects := tx.Bucket(bucketObjects).Bucket([]byte(bucket))
		if objects == nil {
			return gofakes3.BucketNotFound(bucket)
		}
		value := objects.Get([]byte(key))
		if value == nil {
			return gofakes3.KeyNotFound(key)
		}
		o, err = decode(value)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return o, s.pin(o.Parts), nil
}

// put makes o what a key holds. After an error the contents of o are gone.
func (s *store) put(ctx context.Context, bucket, key string, o *object) error {
	err := s.keep(ctx, bucket, key, o)
	if err != nil {
		s.discard(o.Parts)
	}
	return err
}

// keep makes o what a key holds, if the request's conditions allow it.
func (s *store) keep(ctx context.Context, bucket, key string, o *object) error {
	return s.replace(bucket, key, o, func(old *object) error {
		if old == nil {
			return gofakes3.CheckWriteConditions(ctx, false, "")
		}
		return gofakes3.CheckWriteConditions(ctx, true, hex.EncodeToString(old.Hash))
	})
}

// replace puts o, or nothing if it is nil, in the place of what a key holds, if
// check allows it.
func (s *store) replace(bucket, key string, o *object, check func(old *object) error) error {
	var old *object
	err := s.db.Update(func(tx *bbolt.Tx) (err error) {
		objects := tx.Bucket(bucketObjects).Bucket([]byte(bucket))
		if objects == nil {
			return gofakes3.BucketNotFound(bucket)
		}
		if value := objects.Get([]byte(key)); value != nil {
			if old, err = decode(value); err != nil {
				return err
			}
		}
		if err := check(old); err != nil {
			return err
		}
		if o == nil {
			return objects.Delete([]byte(key))
		}
		value, err := json.Marshal(o)
		if err != nil {
			return err
		}
		return objects.Put([]byte(key), value)
	})
	if err == nil && old != nil {
		s.discard(old.Parts)
	}
	return err
}

func (s *store) delete(bucket, key string) error {
	return s.replace(bucket, key, nil, func(*object) error { return nil })
}

// tag changes an object's tags and leaves its contents alone.
func (s *store) tag(bucket, key, tagging string) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		objects := tx.Bucket(bucketObjects).Bucket([]byte(bucket))
		if objects == nil {
			return gofakes3.BucketNotFound(bucket)
		}
		value := objects.Get([]byte(key))
		if value == nil {
			return gofakes3.KeyNotFound(key)
		}
		o, err := decode(value)
		if err != nil {
			return err
		}
		if delete(o.Meta, gofakes3.TaggingMetadataKey); tagging != "" {
			o.Meta[gofakes3.TaggingMetadataKey] = tagging
		}
		if value, err = json.Marshal(o); err != nil {
			return err
		}
		return objects.Put([]byte(key), value)
	})
}

// page lists a bucket's objects in the order of their keys.
func (s *store) page(bucket string, l *listing) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		objects := tx.Bucket(bucketObjects).Bucket([]byte(bucket))
		if objects == nil {
			return gofakes3.BucketNotFound(bucket)
		}
		cursor := objects.Cursor()
		key, value := cursor.Seek([]byte(l.from()))
		for key != nil && bytes.HasPrefix(key, []byte(l.prefix)) {
			next, err := l.add(string(key), func() (*gofakes3.Content, error) {
				o, err := decode(value)
				if err != nil {
					return nil, err
				}
				return &gofakes3.Content{Key: string(key), LastModified: gofakes3.NewContentTime(o.Time), ETag: etagOf(o.Hash), Size: o.size()}, nil
			})
			switch {
			case err != nil || l.full():
				return err
			case next == "":
				key, value = cursor.Next()
			default:
				key, value = cursor.Seek([]byte(next))
			}
		}
		return nil
	})
}

func (s *store) close() error { return s.db.Close() }
