package store

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"go.etcd.io/bbolt"
)

// migration rewrites the database from one schema version to the next, inside
// the transaction that Open commits or rolls back as a whole.
type migration func(*bbolt.Tx) error

// migrations[i] leads from version i+1 to i+2. The version of this release is
// therefore len(migrations)+1.
var migrations []migration

var versionKey = []byte("schema_version")

func migrate(b *bbolt.Tx, steps []migration, log *slog.Logger) error {
	ours := len(steps) + 1
	meta := b.Bucket([]byte(metaBucket))
	if meta == nil {
		if name, _ := b.Cursor().First(); name != nil {
			return errors.New("the file is a bbolt database of another program")
		}
		meta, err := b.CreateBucket([]byte(metaBucket))
		if err != nil {
			return err
		}
		return meta.Put(versionKey, []byte(strconv.Itoa(ours)))
	}
	version, err := strconv.Atoi(string(meta.Get(versionKey)))
	if err != nil || version < 1 {
		return fmt.Errorf("unreadable schema version %q", meta.Get(versionKey))
	}
	if version > ours {
		return fmt.Errorf("%w: %d, and this sagelocal knows up to %d; use the release that wrote it, or another data directory",
			ErrNewerSchema, version, ours)
	}
	for ; version < ours; version++ {
		log.Info("migrating the database", "from", version, "to", version+1)
		if err := steps[version-1](b); err != nil {
			return fmt.Errorf("migrate from schema version %d: %w", version, err)
		}
	}
	return meta.Put(versionKey, []byte(strconv.Itoa(ours)))
}

// TableDefinition is a *Table of any record type, as Options lists them.
type TableDefinition interface {
	name() string
	// register creates the table's buckets, builds indexes that are new and
	// drops those that the table no longer declares.
	register(tx *Tx, log *slog.Logger) error
	// check compares the table's indexes with its records.
	check(tx *Tx) error
}

func register(b *bbolt.Tx, tables []TableDefinition, log *slog.Logger) error {
	tx := &Tx{bolt: b}
	seen := map[string]bool{}
	for _, t := range tables {
		if seen[t.name()] {
			return fmt.Errorf("two tables are named %q", t.name())
		}
		seen[t.name()] = true
		if err := t.register(tx, log); err != nil {
			return fmt.Errorf("table %q: %w", t.name(), err)
		}
	}
	return nil
}
