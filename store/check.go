package store

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// maxFindings bounds what Check reports of a badly damaged database.
const maxFindings = 20

// Check examines the whole database: bbolt's pages, and every index against its
// table's records. It keeps writers out meanwhile and is meant for tests and
// diagnosis.
func (db *DB) Check() error {
	return db.commits.exclusive(func() error {
		return db.View(func(tx *Tx) error {
			var found []error
			for err := range tx.bolt.Check() {
				if len(found) < maxFindings {
					found = append(found, fmt.Errorf("page check: %w", err))
				}
			}
			if len(found) > 0 {
				return errors.Join(found...)
			}
			for _, t := range db.tables {
				found = append(found, t.check(tx))
			}
			return errors.Join(found...)
		})
	})
}

func (t *Table[T]) check(tx *Tx) error {
	want := make([]map[string]string, len(t.Indexes))
	for i := range want {
		want[i] = map[string]string{}
	}
	err := t.Each(tx, func(scope Scope, id string, record *T) error {
		for i := range t.Indexes {
			if entry := t.Indexes[i].entry(scope, id, record); entry != nil {
				want[i][string(entry)] = id
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var found []error
	for i := range t.Indexes {
		name := indexBucket(t.Name, t.Indexes[i].Name)
		b, err := tx.bucket(name)
		if err != nil {
			return err
		}
		found = append(found, compareIndex(name, b, want[i])...)
	}
	return errors.Join(found[:min(len(found), maxFindings)]...)
}

func compareIndex(name string, b *bbolt.Bucket, want map[string]string) (found []error) {
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if id, ok := want[string(k)]; !ok || id != string(v) {
			found = append(found, fmt.Errorf("%s: stale entry %q for %q", name, k, v))
		}
		delete(want, string(k))
	}
	for entry, id := range want {
		found = append(found, fmt.Errorf("%s: entry %q for %q is missing", name, entry, id))
	}
	return found
}
