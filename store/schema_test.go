package store

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

func openVersion(path string, steps ...migration) (*DB, error) {
	return open(Options{Path: path, Tables: []TableDefinition{&things}}, steps)
}

func TestOlderDatabaseIsMigratedStepByStepOnce(t *testing.T) {
	path := tempPath(t)
	db := openTest(t, Options{Path: path})
	put(t, db, scopeA, &thing{ID: "a"})
	closeChecked(t, db)

	var ran []int
	step := func(n int) migration {
		return func(b *bbolt.Tx) error {
			if b.Bucket([]byte("record/things")) == nil {
				t.Error("a migration does not see the old data")
			}
			ran = append(ran, n)
			return nil
		}
	}
	for range 2 {
		db, err := openVersion(path, step(1), step(2))
		if err != nil {
			t.Fatal(err)
		}
		if !exists(t, db, scopeA, "a") {
			t.Error("the record is gone after the migration")
		}
		closeChecked(t, db)
	}
	if !slices.Equal(ran, []int{1, 2}) {
		t.Errorf("migrations ran: %v, want 1 and 2 once", ran)
	}
}

func TestFailedMigrationChangesNothing(t *testing.T) {
	path := tempPath(t)
	closeChecked(t, openTest(t, Options{Path: path}))
	refused := errors.New("refused")
	_, err := openVersion(path,
		func(b *bbolt.Tx) error { return b.DeleteBucket([]byte("record/things")) },
		func(*bbolt.Tx) error { return refused })
	if !errors.Is(err, refused) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open = %v, want the migration's error and the file's name", err)
	}
	put(t, openTest(t, Options{Path: path}), scopeA, &thing{ID: "a"})
}

func TestNewerDatabaseIsRefusedAndLeftAlone(t *testing.T) {
	path := tempPath(t)
	nothing := func(*bbolt.Tx) error { return nil }
	db, err := openVersion(path, nothing, nothing)
	if err != nil {
		t.Fatal(err)
	}
	closeChecked(t, db)
	if _, err := Open(Options{Path: path}); !errors.Is(err, ErrNewerSchema) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open of a newer database = %v", err)
	}
	db, err = openVersion(path, nothing, nothing)
	if err != nil {
		t.Fatalf("the newer release cannot open its own database any more: %v", err)
	}
	closeChecked(t, db)
}

func TestDatabaseOfAnotherProgramIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.db")
	other, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = other.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
	if err := errors.Join(err, other.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: path}); err == nil {
		t.Error("another program's database was taken over")
	}
}

func TestIndexesFollowTheirDeclaration(t *testing.T) {
	path := tempPath(t)
	bare := things
	bare.Indexes = things.Indexes[:1]
	reopen := func(table *Table[thing], use func(*DB)) {
		db, err := Open(Options{Path: path, Tables: []TableDefinition{table}})
		if err != nil {
			t.Fatal(err)
		}
		use(db)
		closeChecked(t, db)
	}
	byStatus := func(want int) func(*DB) {
		return func(db *DB) {
			mustView(t, db, func(tx *Tx) error {
				if got := ids(t, tx, scopeA, Query[thing]{Index: "status"}); len(got) != want {
					t.Errorf("the index gives %d records, want %d", len(got), want)
				}
				return nil
			})
		}
	}
	reopen(&bare, func(db *DB) {
		mustUpdate(t, db, func(tx *Tx) error {
			for _, r := range numbered(50) {
				if err := bare.Put(tx, scopeA, r.ID, r); err != nil {
					return err
				}
			}
			return nil
		})
	})
	reopen(&things, byStatus(50)) // built from the records
	reopen(&bare, func(db *DB) {  // dropped, so that it cannot go stale
		mustUpdate(t, db, func(tx *Tx) error { return bare.Delete(tx, scopeA, "t00000") })
	})
	reopen(&things, byStatus(49))
}

func TestBadDefinitionsAreRefused(t *testing.T) {
	with := func(change func(*Table[thing])) []TableDefinition {
		table := things
		change(&table)
		return []TableDefinition{&table}
	}
	for name, tables := range map[string][]TableDefinition{
		"twice":         {&things, &things},
		"no name":       with(func(t *Table[thing]) { t.Name = "" }),
		"slash":         with(func(t *Table[thing]) { t.Name = "a/b" }),
		"no codec":      with(func(t *Table[thing]) { t.Marshal = nil }),
		"index no name": with(func(t *Table[thing]) { t.Indexes = []Index[thing]{{Key: things.Indexes[0].Key}} }),
		"index no key":  with(func(t *Table[thing]) { t.Indexes = []Index[thing]{{Name: "x"}} }),
		"index twice":   with(func(t *Table[thing]) { t.Indexes = append(t.Indexes[:1:1], t.Indexes[0]) }),
	} {
		if db, err := Open(Options{InMemory: true, Tables: tables}); err == nil {
			t.Errorf("%s: accepted; close: %v", name, db.Close())
		}
	}
}
