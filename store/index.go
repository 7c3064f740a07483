package store

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
)

// Index is an order over a table's records.
type Index[T any] struct {
	// Name is unique in the table. When Key changes its meaning, change the
	// name: Open then builds the new index and drops the old one.
	Name string
	// Key gives the bytes to order by. Any bytes may be used, and keys need not
	// be unique: records of equal keys are ordered by id. A nil key leaves the
	// record out of the index. Key sees records as Unmarshal gives them.
	Key func(*T) []byte
}

// entry is the record's key in the index, nil when it is left out.
func (x *Index[T]) entry(scope Scope, id string, record *T) []byte {
	if record == nil {
		return nil
	}
	key := x.Key(record)
	if key == nil {
		return nil
	}
	return append(appendPart(scopePrefix(scope), key), id...)
}

// reindex moves the index entries from those of the old record to those of the
// new one; nil means no record.
func (t *Table[T]) reindex(tx *Tx, scope Scope, id string, old, record *T) error {
	for i := range t.Indexes {
		x := &t.Indexes[i]
		before, after := x.entry(scope, id, old), x.entry(scope, id, record)
		if bytes.Equal(before, after) {
			continue
		}
		b, err := tx.bucket(indexBucket(t.Name, x.Name))
		if err != nil {
			return err
		}
		if before != nil {
			if err := tx.delete(b, before); err != nil {
				return err
			}
		}
		if after != nil {
			if err := tx.put(b, after, []byte(id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addIndex creates the index's bucket and fills it when it is new.
func (t *Table[T]) addIndex(tx *Tx, x *Index[T], log *slog.Logger) error {
	if x.Name == "" || x.Key == nil {
		return errors.New("index without a name or Key")
	}
	name := []byte(indexBucket(t.Name, x.Name))
	if tx.bolt.Bucket(name) != nil {
		return nil
	}
	b, err := tx.bolt.CreateBucket(name)
	if err != nil {
		return err
	}
	n := 0
	err = t.Each(tx, func(scope Scope, id string, record *T) error {
		entry := x.entry(scope, id, record)
		if entry == nil {
			return nil
		}
		n++
		return b.Put(entry, []byte(id))
	})
	if err == nil && n > 0 {
		log.Info("built an index", "table", t.Name, "index", x.Name, "records", n)
	}
	return err
}

// dropIndexes removes the indexes that are no longer declared: nobody would
// keep them up to date, and they would be wrong if they were declared again.
func (t *Table[T]) dropIndexes(tx *Tx, log *slog.Logger) error {
	var stale []string
	prefix := []byte(indexBucket(t.Name, ""))
	c := tx.bolt.Cursor()
	for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		name := strings.TrimPrefix(string(k), string(prefix))
		if !slices.ContainsFunc(t.Indexes, func(x Index[T]) bool { return x.Name == name }) {
			stale = append(stale, name)
		}
	}
	for _, name := range stale {
		if err := tx.bolt.DeleteBucket([]byte(indexBucket(t.Name, name))); err != nil {
			return err
		}
		log.Info("dropped an index", "table", t.Name, "index", name)
	}
	return nil
}
