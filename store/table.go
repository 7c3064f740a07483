package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"go.etcd.io/bbolt"
)

// Table keeps records of one type, by scope and id. A Table has no state of its
// own: one package variable serves any number of databases. List it in
// Options.Tables.
type Table[T any] struct {
	// Name is unique in the database; it must not contain a slash.
	Name string
	// Marshal encodes a record. The store keeps the slice until the commit, so
	// it must not be reused.
	Marshal func(*T) ([]byte, error)
	// Unmarshal decodes into a zero T. The slice is valid during the call only.
	Unmarshal func([]byte, *T) error
	Indexes   []Index[T]
	// Follow, when set, is called by Put and Delete with the record that is there, nil
	// for none, and with the one that takes its place: what is derived from all
	// records can be kept beside them in the same transaction. DeleteScope and its
	// like do not call it.
	Follow func(tx *Tx, scope Scope, old, record *T) error
}

// Get returns the record, or ErrNotFound.
func (t *Table[T]) Get(tx *Tx, scope Scope, id string) (*T, error) {
	b, err := tx.bucket(recordBucket(t.Name))
	if err != nil {
		return nil, err
	}
	return t.read(b, recordKey(scope, id))
}

// Put creates or replaces the record. The id must not be empty.
func (t *Table[T]) Put(tx *Tx, scope Scope, id string, record *T) error {
	if id == "" {
		return fmt.Errorf("store: %s: empty id", t.Name)
	}
	b, err := tx.bucket(recordBucket(t.Name))
	if err != nil {
		return err
	}
	value, err := t.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode %s %q: %w", t.Name, id, err)
	}
	key := recordKey(scope, id)
	old, err := t.read(b, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	// Indexing the decoded copy makes the entries those that a later Put or
	// Delete will look for, even when the encoding is not exact (a time's
	// fraction, a byte that is not UTF-8).
	stored, err := t.decode(key, value)
	if err != nil {
		return err
	}
	if err := t.replace(tx, scope, id, old, stored); err != nil {
		return err
	}
	return tx.put(b, key, value)
}

// Delete removes the record. It returns ErrNotFound when there is none.
func (t *Table[T]) Delete(tx *Tx, scope Scope, id string) error {
	b, err := tx.bucket(recordBucket(t.Name))
	if err != nil {
		return err
	}
	key := recordKey(scope, id)
	old, err := t.read(b, key)
	if err != nil {
		return err
	}
	if err := t.replace(tx, scope, id, old, nil); err != nil {
		return err
	}
	return tx.delete(b, key)
}

// replace brings what hangs on a record from the old one to the new one.
func (t *Table[T]) replace(tx *Tx, scope Scope, id string, old, record *T) error {
	if t.Follow != nil {
		if err := t.Follow(tx, scope, old, record); err != nil {
			tx.broken = fmt.Errorf("follow %s %q: %w", t.Name, id, err) // it may have written
			return tx.broken
		}
	}
	return t.reindex(tx, scope, id, old, record)
}

// Each calls fn for every record of every scope, ordered by account, region and
// id, until fn returns an error. fn may write to the table; records that it adds
// behind the current one are visited too.
func (t *Table[T]) Each(tx *Tx, fn func(scope Scope, id string, record *T) error) error {
	b, err := tx.bucket(recordBucket(t.Name))
	if err != nil {
		return err
	}
	c := b.Cursor()
	for key, value := c.First(); key != nil; {
		key = bytes.Clone(key)
		scope, id, err := cutRecordKey(key)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		record, err := t.decode(key, value)
		if err != nil {
			return err
		}
		if err := fn(scope, id, record); err != nil {
			return err
		}
		// A cursor is lost when fn writes, so look the place up again.
		key, value = c.Seek(append(key, 0))
	}
	return nil
}

func (t *Table[T]) read(b *bbolt.Bucket, key []byte) (*T, error) {
	value := b.Get(key)
	if value == nil {
		return nil, ErrNotFound
	}
	return t.decode(key, value)
}

func (t *Table[T]) decode(key, value []byte) (*T, error) {
	record := new(T)
	if err := t.Unmarshal(value, record); err != nil {
		return nil, fmt.Errorf("decode %s %q: %w", t.Name, key, err)
	}
	return record, nil
}

func (t *Table[T]) name() string { return t.Name }

func (t *Table[T]) register(tx *Tx, log *slog.Logger) error {
	if t.Name == "" || strings.Contains(t.Name, "/") {
		return errors.New("bad table name")
	}
	if t.Marshal == nil || t.Unmarshal == nil {
		return errors.New("table without Marshal or Unmarshal")
	}
	if _, err := tx.bolt.CreateBucketIfNotExists([]byte(recordBucket(t.Name))); err != nil {
		return err
	}
	if err := t.dropIndexes(tx, log); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range t.Indexes {
		if seen[t.Indexes[i].Name] {
			return fmt.Errorf("two indexes are named %q", t.Indexes[i].Name)
		}
		seen[t.Indexes[i].Name] = true
		if err := t.addIndex(tx, &t.Indexes[i], log); err != nil {
			return fmt.Errorf("index %q: %w", t.Indexes[i].Name, err)
		}
	}
	return nil
}
