package store

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// boltCommits counts bbolt's commits: its transaction id grows by one with each.
func boltCommits(t testing.TB, db *DB) (n int) {
	t.Helper()
	err := db.bolt.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// queued holds the writer's turn until the functions wait for it, one behind the
// other, and returns what their Updates did; a panic becomes an error.
func queued(t *testing.T, db *DB, fns ...func(*Tx) error) []error {
	t.Helper()
	errs := make([]error, len(fns))
	db.commits.turn.Lock()
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = fmt.Errorf("panic: %v", p)
				}
			}()
			errs[i] = db.Update(fn)
		})
		deadline := time.Now().Add(10 * time.Second)
		for db.commits.waiting.Load() != int64(i+1) {
			if time.Now().After(deadline) {
				db.commits.turn.Unlock()
				t.Fatal("a writer did not queue up")
			}
			runtime.Gosched()
		}
	}
	db.commits.turn.Unlock()
	wg.Wait()
	return errs
}

func TestThousandConcurrentCreatesShareFourCommits(t *testing.T) {
	db := openTest(t, Options{Path: tempPath(t)})
	before := boltCommits(t, db)
	var runs [1000]int
	var fns []func(*Tx) error
	for i := range runs {
		fns = append(fns, func(tx *Tx) error {
			runs[i]++
			id := fmt.Sprint(i)
			return things.Put(tx, scopeA, id, &thing{ID: id, Created: tx.Now})
		})
	}
	for i, err := range queued(t, db, fns...) {
		if err != nil || runs[i] != 1 || !exists(t, db, scopeA, fmt.Sprint(i)) {
			t.Errorf("create %d: %v, ran %d times", i, err, runs[i])
		}
	}
	if n := boltCommits(t, db) - before; n > 4 {
		t.Errorf("1000 concurrent creates took %d commits", n)
	}
}

func TestUpdateReturnsWhenItsWriteIsVisible(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 50 {
				id := fmt.Sprintf("%d-%d", w, i)
				err := db.Update(func(tx *Tx) error { return things.Put(tx, scopeA, id, &thing{ID: id}) })
				if err != nil || !exists(t, db, scopeA, id) {
					t.Errorf("record %s is not there after its Update: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
}

// together runs the functions in one shared commit.
func together(t *testing.T, db *DB, fns ...func(*Tx) error) []error {
	t.Helper()
	before := boltCommits(t, db)
	errs := queued(t, db, fns...)
	if n := boltCommits(t, db) - before; n > 1 {
		t.Fatalf("%d functions took %d commits, want one", len(fns), n)
	}
	return errs
}

func TestFailureInsideSharedCommitRevertsOnlyItself(t *testing.T) {
	create := func(id string) func(*Tx) error {
		return func(tx *Tx) error { return things.Put(tx, scopeA, id, &thing{ID: id, Status: "New"}) }
	}
	refused := errors.New("refused")
	vandalize := func(tx *Tx) error {
		if err := tx.DeleteAll(); err != nil {
			return err
		}
		for range 3 {
			if err := things.Put(tx, scopeA, "kept", &thing{ID: "kept", Status: "Spoilt", Parent: "p"}); err != nil {
				return err
			}
		}
		if err := things.Put(tx, scopeB, "added", &thing{ID: "added"}); err != nil {
			return err
		}
		return things.Delete(tx, scopeA, "kept")
	}
	failures := map[string]func(*Tx) error{
		"error":   func(tx *Tx) error { return errors.Join(vandalize(tx), refused) },
		"panic":   func(tx *Tx) error { panic(errors.Join(vandalize(tx), refused)) },
		"goexit":  func(tx *Tx) error { _ = vandalize(tx); runtime.Goexit(); return nil },
		"no sign": func(tx *Tx) error { return refused },
	}
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			db := openTest(t, Options{InMemory: true})
			put(t, db, scopeA, &thing{ID: "kept", Status: "Old"})
			errs := together(t, db, create("first"), fail, create("last"))
			if errs[0] != nil || errs[2] != nil {
				t.Errorf("the neighbours of a failure got %v and %v", errs[0], errs[2])
			}
			if name != "goexit" && errs[1] == nil {
				t.Error("the failure was not reported")
			}
			mustView(t, db, func(tx *Tx) error {
				got := ids(t, tx, scopeA, Query[thing]{})
				if want := []string{"first", "kept", "last"}; !slices.Equal(got, want) {
					t.Errorf("records %q, want %q", got, want)
				}
				kept, err := things.Get(tx, scopeA, "kept")
				if err != nil || kept.Status != "Old" {
					t.Errorf("kept = %+v, %v", kept, err)
				}
				if got := ids(t, tx, scopeB, Query[thing]{}); len(got) > 0 {
					t.Errorf("the failed transaction left %q", got)
				}
				return nil
			})
		})
	}
}

func TestPanicRollsBackAndTheDatabaseGoesOn(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	func() {
		defer func() {
			if p := recover(); p != "boom" {
				t.Errorf("recovered %v, want the function's own panic", p)
			}
		}()
		_ = db.Update(func(tx *Tx) error {
			if err := things.Put(tx, scopeA, "a", &thing{ID: "a"}); err != nil {
				t.Error(err)
			}
			panic("boom")
		})
	}()
	if exists(t, db, scopeA, "a") {
		t.Error("the panicking transaction was kept")
	}
	put(t, db, scopeA, &thing{ID: "b"})
}

func TestUpdateWithoutWritesCostsNoCommit(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	before := boltCommits(t, db)
	called := false
	mustUpdate(t, db, func(tx *Tx) error { tx.OnCommit(func() { called = true }); return nil })
	if n := boltCommits(t, db) - before; n != 0 || !called {
		t.Errorf("%d commits (want none), OnCommit called: %v", n, called)
	}
}

func TestOnCommitSeesTheDataAndMayWrite(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	mustUpdate(t, db, func(tx *Tx) error {
		tx.OnCommit(func() {
			if !exists(t, db, scopeA, "a") {
				t.Error("OnCommit ran before the commit")
			}
			put(t, db, scopeA, &thing{ID: "b"})
		})
		return things.Put(tx, scopeA, "a", &thing{ID: "a"})
	})
	if !exists(t, db, scopeA, "b") {
		t.Error("OnCommit was not called, or its write was lost")
	}
	err := db.Update(func(tx *Tx) error {
		tx.OnCommit(func() { t.Error("OnCommit ran for a failed transaction") })
		return errors.New("refused")
	})
	if err == nil {
		t.Error("the function's error was lost")
	}
}

func TestFailedCommitFailsEveryWriterOfTheGroup(t *testing.T) {
	db := openTest(t, Options{Path: tempPath(t)})
	db.bolt.MaxSize = 1 // the file cannot grow
	defer func() { db.bolt.MaxSize = 0 }()
	big := func(id string) func(*Tx) error {
		return func(tx *Tx) error {
			return things.Put(tx, scopeA, id, &thing{ID: id, Payload: make([]byte, 1<<20)})
		}
	}
	for i, err := range together(t, db, big("a"), func(*Tx) error { return errors.New("refused") }, big("b")) {
		if err == nil || err.Error() == "refused" {
			t.Errorf("writer %d got %v, want the commit's error", i, err)
		}
	}
	db.bolt.MaxSize = 0
	if exists(t, db, scopeA, "a") {
		t.Error("a record of the failed commit was kept")
	}
	put(t, db, scopeA, &thing{ID: "c"})
}

func TestNowNeverGoesBackwardsAndIsWholeMilliseconds(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	db.clock.last.Store(time.Now().Add(time.Hour).UnixMilli()) // as if the host's clock was set back an hour
	var last time.Time
	for range 3 {
		mustUpdate(t, db, func(tx *Tx) error {
			if tx.Now.Before(last) || tx.Now.Before(time.Now()) {
				t.Errorf("Now = %v went backwards", tx.Now)
			}
			if tx.Now.Nanosecond()%1e6 != 0 || tx.Now.Location() != time.UTC {
				t.Errorf("Now = %v is not UTC in whole milliseconds", tx.Now)
			}
			last = tx.Now
			return nil
		})
	}
}

func TestCreationOrderIsCommitOrder(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	var order []time.Time // written by one transaction at a time
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 20 {
				if err := db.Update(func(tx *Tx) error { order = append(order, tx.Now); return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if !slices.IsSortedFunc(order, time.Time.Compare) {
		t.Error("a later transaction has an earlier Now")
	}
}

func TestCheckWhileWritersRun(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				id := fmt.Sprintf("%d-%d", w, i%7)
				err := db.Update(func(tx *Tx) error {
					return things.Put(tx, scopeA, id, &thing{ID: id, Created: tx.Now, Parent: id, Revision: i})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		if err := db.Check(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

func TestUpdateSoonSharesTheCommitOfAnotherWriter(t *testing.T) {
	db := openTest(t, Options{Path: tempPath(t), CarryDelay: time.Hour})
	carried := make(chan error, 3)
	for i := range 3 {
		go func() {
			carried <- db.UpdateSoon(func(tx *Tx) error {
				return things.Put(tx, scopeA, fmt.Sprint("carried", i), &thing{ID: fmt.Sprint("carried", i)})
			})
		}()
	}
	for waiting := 0; waiting < 3; runtime.Gosched() {
		db.commits.mu.Lock()
		waiting = len(db.commits.carried)
		db.commits.mu.Unlock()
	}
	before := boltCommits(t, db)
	mustUpdate(t, db, func(tx *Tx) error { return things.Put(tx, scopeA, "x", &thing{ID: "x"}) })
	for range 3 {
		if err := <-carried; err != nil {
			t.Error(err)
		}
	}
	if n := boltCommits(t, db) - before; n != 1 {
		t.Errorf("%d commits for four writers, want 1", n)
	}
}

func TestUpdateSoonCommitsAloneWhenNobodyComes(t *testing.T) {
	db := openTest(t, Options{Path: tempPath(t), CarryDelay: time.Millisecond})
	if err := db.UpdateSoon(func(tx *Tx) error { return things.Put(tx, scopeA, "x", &thing{ID: "x"}) }); err != nil {
		t.Fatal(err)
	}
	mustView(t, db, func(tx *Tx) error {
		_, err := things.Get(tx, scopeA, "x")
		return err
	})
	if n := db.commits.waiting.Load(); n != 0 || len(db.commits.carried) != 0 {
		t.Errorf("%d writers still counted, %d still waiting", n, len(db.commits.carried))
	}
}

func TestWritersOfBothKindsMeetAtAnyMoment(t *testing.T) {
	db := openTest(t, Options{Path: tempPath(t), CarryDelay: 50 * time.Microsecond})
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			update := db.Update
			if i%2 == 0 {
				update = db.UpdateSoon
			}
			for n := range 50 {
				id := fmt.Sprint(i, "-", n)
				if err := update(func(tx *Tx) error { return things.Put(tx, scopeA, id, &thing{ID: id}) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if n := db.commits.waiting.Load(); n != 0 {
		t.Errorf("%d writers still counted as waiting", n)
	}
	count := 0
	mustView(t, db, func(tx *Tx) error {
		return things.Each(tx, func(Scope, string, *thing) error { count++; return nil })
	})
	if count != 400 {
		t.Errorf("%d records, want 400", count)
	}
}
