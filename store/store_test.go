package store

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// thing is the record of the tests.
type thing struct {
	ID       string
	Created  time.Time
	Status   string
	Parent   string // empty: not in the by-parent index
	Revision int
	Payload  []byte
}

// thingWire keeps bytes that are not UTF-8, which JSON strings do not.
type thingWire struct {
	ID, Status, Parent, Payload []byte
	Created                     time.Time
	Revision                    int
}

func marshalThing(v *thing) ([]byte, error) {
	return json.Marshal(thingWire{
		ID: []byte(v.ID), Status: []byte(v.Status), Parent: []byte(v.Parent), Payload: v.Payload,
		Created: v.Created, Revision: v.Revision,
	})
}

func unmarshalThing(b []byte, v *thing) error {
	var w thingWire
	err := json.Unmarshal(b, &w)
	*v = thing{
		ID: string(w.ID), Status: string(w.Status), Parent: string(w.Parent), Payload: w.Payload,
		Created: w.Created, Revision: w.Revision,
	}
	return err
}

var things = Table[thing]{
	Name:      "things",
	Marshal:   marshalThing,
	Unmarshal: unmarshalThing,
	Indexes: []Index[thing]{
		{Name: "created", Key: func(v *thing) []byte { return TimeKey(v.Created) }},
		{Name: "status", Key: func(v *thing) []byte { return slices.Concat(StringKey(v.Status), TimeKey(v.Created)) }},
		{Name: "parent", Key: func(v *thing) []byte {
			if v.Parent == "" {
				return nil
			}
			return []byte(v.Parent)
		}},
	},
}

var (
	scopeA = Scope{Account: "123456789012", Region: "us-east-1"}
	scopeB = Scope{Account: "123456789012", Region: "us-east-2"}
)

// openTest opens a database and checks all of it when the test ends.
func openTest(t testing.TB, o Options) *DB {
	t.Helper()
	if o.Tables == nil {
		o.Tables = []TableDefinition{&things}
	}
	db, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeChecked(t, db) })
	return db
}

func closeChecked(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Check(); err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("check at the end of the test: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func tempPath(t testing.TB) string { return filepath.Join(t.TempDir(), "data", "sagelocal.db") }

func mustUpdate(t testing.TB, db *DB, fn func(*Tx) error) {
	t.Helper()
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
}

func mustView(t testing.TB, db *DB, fn func(*Tx) error) {
	t.Helper()
	if err := db.View(fn); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, db *DB, scope Scope, records ...*thing) {
	t.Helper()
	mustUpdate(t, db, func(tx *Tx) error {
		for _, r := range records {
			if err := things.Put(tx, scope, r.ID, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func exists(t testing.TB, db *DB, scope Scope, id string) bool {
	t.Helper()
	found := false
	mustView(t, db, func(tx *Tx) error {
		_, err := things.Get(tx, scope, id)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		found = err == nil
		return err
	})
	return found
}
