package store

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

func TestGetReturnsWhatWasPutInItsScopeOnly(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	want := &thing{ID: "a", Created: time.UnixMilli(1).UTC(), Status: "Creating"}
	put(t, db, scopeA, want)
	mustView(t, db, func(tx *Tx) error {
		got, err := things.Get(tx, scopeA, "a")
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Get = %+v, %v; want %+v", got, err, want)
		}
		if _, err := things.Get(tx, scopeB, "a"); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get in the other scope: %v, want ErrNotFound", err)
		}
		return nil
	})
}

func TestDeleteOfMissingRecordIsErrNotFound(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	err := db.Update(func(tx *Tx) error { return things.Delete(tx, scopeA, "a") })
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("Delete = %v, want ErrNotFound", err)
	}
}

func TestWritesInViewAreRefused(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	put(t, db, scopeA, &thing{ID: "a"})
	mustView(t, db, func(tx *Tx) error {
		for name, err := range map[string]error{
			"Put":         things.Put(tx, scopeA, "b", &thing{ID: "b"}),
			"Delete":      things.Delete(tx, scopeA, "a"),
			"DeleteScope": tx.DeleteScope(scopeA),
		} {
			if !errors.Is(err, ErrReadOnly) {
				t.Errorf("%s in a View = %v, want ErrReadOnly", name, err)
			}
		}
		return nil
	})
}

func TestTxAfterItsFunctionIsRefused(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	var kept *Tx
	for name, run := range map[string]func(func(*Tx) error) error{"Update": db.Update, "View": db.View} {
		if err := run(func(tx *Tx) error { kept = tx; return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := things.Get(kept, scopeA, "a"); !errors.Is(err, ErrTxClosed) {
			t.Errorf("Get after %s = %v, want ErrTxClosed", name, err)
		}
		if err := kept.DeleteAll(); !errors.Is(err, ErrTxClosed) {
			t.Errorf("DeleteAll after %s = %v, want ErrTxClosed", name, err)
		}
	}
}

func TestUnregisteredTableIsRefused(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	other := Table[thing]{Name: "others", Marshal: things.Marshal, Unmarshal: things.Unmarshal}
	err := db.Update(func(tx *Tx) error { return other.Put(tx, scopeA, "a", &thing{}) })
	if err == nil {
		t.Error("a table that Open does not know took a record")
	}
}

func TestEmptyIDIsRefused(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	if err := db.Update(func(tx *Tx) error { return things.Put(tx, scopeA, "", &thing{}) }); err == nil {
		t.Error("an empty id was taken")
	}
}

// TestSwallowedWriteErrorStillFailsTheTransaction: the id fits into a record
// key but not into the longer index key, so Put fails halfway.
func TestSwallowedWriteErrorStillFailsTheTransaction(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	long := make([]byte, 32768-len(scopePrefix(scopeA)))
	for i := range long {
		long[i] = 'x'
	}
	err := db.Update(func(tx *Tx) error {
		if err := things.Put(tx, scopeA, "before", &thing{ID: "before"}); err != nil {
			return err
		}
		if things.Put(tx, scopeA, string(long), &thing{ID: "long"}) == nil {
			t.Error("Put of a key beyond bbolt's limit succeeded")
		}
		return nil
	})
	if err == nil {
		t.Error("Update committed half a Put")
	}
	if exists(t, db, scopeA, "before") {
		t.Error("a record of the failed transaction was kept")
	}
}

func TestRecordWithEmptyEncodingIsFoundWithinTheTransaction(t *testing.T) {
	marks := Table[struct{}]{
		Name:      "marks",
		Marshal:   func(*struct{}) ([]byte, error) { return nil, nil },
		Unmarshal: func([]byte, *struct{}) error { return nil },
	}
	db := openTest(t, Options{InMemory: true, Tables: []TableDefinition{&marks}})
	mustUpdate(t, db, func(tx *Tx) error {
		if err := marks.Put(tx, scopeA, "m", &struct{}{}); err != nil {
			return err
		}
		_, err := marks.Get(tx, scopeA, "m")
		return err
	})
}

func TestIndexesAgreeWhenTheEncodingIsNotExact(t *testing.T) {
	hours := Table[thing]{
		Name: "hours",
		Marshal: func(v *thing) ([]byte, error) {
			return v.Created.Truncate(time.Hour).MarshalText()
		},
		Unmarshal: func(b []byte, v *thing) error { return v.Created.UnmarshalText(b) },
		Indexes:   things.Indexes,
	}
	db := openTest(t, Options{InMemory: true, Tables: []TableDefinition{&hours}})
	for i := range 3 {
		mustUpdate(t, db, func(tx *Tx) error {
			return hours.Put(tx, scopeA, "a", &thing{Created: time.UnixMilli(int64(i) * 12_345_678)})
		})
	}
	mustUpdate(t, db, func(tx *Tx) error { return hours.Delete(tx, scopeA, "a") })
}

func TestFollowKeepsACountThatFailedTransactionsDoNotChange(t *testing.T) {
	counts := Table[thing]{Name: "counts", Marshal: marshalThing, Unmarshal: unmarshalThing}
	counted := things
	counted.Follow = func(tx *Tx, scope Scope, old, record *thing) error {
		n, err := counts.Get(tx, scope, "n")
		if errors.Is(err, ErrNotFound) {
			n, err = &thing{ID: "n"}, nil
		}
		if old != nil {
			n.Revision -= old.Revision
		}
		if record != nil {
			n.Revision += record.Revision
		}
		err = errors.Join(err, counts.Put(tx, scope, "n", n))
		if n.Revision > 100 {
			err = errors.Join(err, errors.New("too many"))
		}
		return err
	}
	db := openTest(t, Options{InMemory: true, Tables: []TableDefinition{&counted, &counts}})
	want := func(n int) {
		t.Helper()
		mustView(t, db, func(tx *Tx) error {
			got, err := counts.Get(tx, scopeA, "n")
			if err == nil && got.Revision != n {
				t.Errorf("the count is %d, want %d", got.Revision, n)
			}
			return err
		})
	}
	add := func(id string, n int) func(*Tx) error {
		return func(tx *Tx) error { return counted.Put(tx, scopeA, id, &thing{ID: id, Revision: n}) }
	}
	mustUpdate(t, db, add("a", 3))
	mustUpdate(t, db, add("b", 4))
	mustUpdate(t, db, add("a", 5))
	want(9)
	for _, err := range together(t, db, add("c", 1), func(tx *Tx) error {
		_ = add("d", 1000)(tx) // swallowed
		return nil
	}, add("e", 1))[1:2] {
		if err == nil {
			t.Error("the transaction whose Follow failed was committed")
		}
	}
	want(11)
	mustUpdate(t, db, func(tx *Tx) error { return counted.Delete(tx, scopeA, "b") })
	want(7)
}

func TestEachVisitsEveryScopeInOrderAndMayWrite(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	var got, want []string
	mustUpdate(t, db, func(tx *Tx) error {
		// In the same transaction, because a cursor over pages that are already
		// in memory for writing sees the writes under it and loses its place.
		for _, scope := range []Scope{scopeA, scopeB} {
			for i := range 300 {
				id := fmt.Sprintf("t%03d", i)
				if err := things.Put(tx, scope, id, &thing{ID: id}); err != nil {
					return err
				}
				want = append(want, scope.Region+id)
			}
		}
		return things.Each(tx, func(scope Scope, id string, r *thing) error {
			got = append(got, scope.Region+id)
			r.Status = "Seen"
			if len(got)%2 == 0 {
				return things.Delete(tx, scope, id)
			}
			return things.Put(tx, scope, id, r)
		})
	})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Each visited %d records, want %d in order", len(got), len(want))
	}
}

func TestDeleteScopeLeavesOtherScopes(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	put(t, db, scopeA, &thing{ID: "a", Parent: "p"})
	put(t, db, scopeB, &thing{ID: "a", Parent: "p"})
	mustUpdate(t, db, func(tx *Tx) error { return tx.DeleteScope(scopeA) })
	if exists(t, db, scopeA, "a") || !exists(t, db, scopeB, "a") {
		t.Error("DeleteScope must remove its scope and nothing else")
	}
	mustUpdate(t, db, func(tx *Tx) error { return tx.DeleteAll() })
	if exists(t, db, scopeB, "a") {
		t.Error("DeleteAll left a record")
	}
}
