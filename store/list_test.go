package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// ids lists all pages and gives the ids, checking the shape of every page.
func ids(t testing.TB, tx *Tx, scope Scope, q Query[thing]) []string {
	t.Helper()
	var all []string
	for {
		items, next, err := things.List(tx, scope, q)
		if err != nil {
			t.Fatalf("List(%+v): %v", q, err)
		}
		for _, r := range items {
			all = append(all, r.ID)
		}
		if next == "" {
			return all
		}
		if len(items) != q.Limit {
			t.Fatalf("a page with a token holds %d records, want the limit %d", len(items), q.Limit)
		}
		q.After = next
	}
}

func numbered(n int) (all []*thing) {
	for i := range n {
		all = append(all, &thing{ID: fmt.Sprintf("t%05d", i), Created: time.UnixMilli(int64(i / 3)), Status: []string{"InService", "Failed"}[i%2]})
	}
	return all
}

func TestFullLastPageHasNoToken(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	put(t, db, scopeA, numbered(20)...)
	mustView(t, db, func(tx *Tx) error {
		q := Query[thing]{Index: "created", Descending: true, Limit: 10}
		_, q.After, _ = things.List(tx, scopeA, q)
		if q.After == "" {
			t.Fatal("the first of two pages has no token")
		}
		items, next, err := things.List(tx, scopeA, q)
		if err != nil || len(items) != 10 || next != "" {
			t.Errorf("second page: %d records, token %q, %v", len(items), next, err)
		}
		return nil
	})
}

func TestPageTokenEndsWithTheLastMatchNotTheLastRecord(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	put(t, db, scopeA, numbered(20)...)
	mustView(t, db, func(tx *Tx) error {
		items, next, err := things.List(tx, scopeA, Query[thing]{
			Keep:  func(r *thing) bool { return r.ID < "t00005" },
			Limit: 5,
		})
		if err != nil || len(items) != 5 || next != "" {
			t.Errorf("%d records, token %q, %v", len(items), next, err)
		}
		return nil
	})
}

func TestPagingSurvivesDeletionOfTheTokensRecord(t *testing.T) {
	for _, descending := range []bool{false, true} {
		db := openTest(t, Options{InMemory: true})
		put(t, db, scopeA, numbered(9)...)
		q := Query[thing]{Index: "created", Descending: descending, Limit: 4}
		var page []*thing
		mustView(t, db, func(tx *Tx) (err error) {
			page, q.After, err = things.List(tx, scopeA, q)
			return err
		})
		mustUpdate(t, db, func(tx *Tx) error { return things.Delete(tx, scopeA, page[3].ID) })
		want := []string{"t00004", "t00005", "t00006", "t00007", "t00008"}
		if descending {
			want = []string{"t00004", "t00003", "t00002", "t00001", "t00000"}
		}
		mustView(t, db, func(tx *Tx) error {
			if got := ids(t, tx, scopeA, q); !slices.Equal(got, want) {
				t.Errorf("descending %v: after the deletion %q, want %q", descending, got, want)
			}
			return nil
		})
	}
}

func TestTokenSurvivesRestart(t *testing.T) {
	path := tempPath(t)
	db := openTest(t, Options{Path: path})
	put(t, db, scopeA, numbered(5)...)
	q := Query[thing]{Index: "status", Limit: 2}
	mustView(t, db, func(tx *Tx) (err error) {
		_, q.After, err = things.List(tx, scopeA, q)
		return err
	})
	closeChecked(t, db)
	db = openTest(t, Options{Path: path})
	mustView(t, db, func(tx *Tx) error {
		if got, want := ids(t, tx, scopeA, q), []string{"t00000", "t00002", "t00004"}; !slices.Equal(got, want) {
			t.Errorf("after the restart %q, want %q", got, want)
		}
		return nil
	})
}

func TestTokenOfAnotherQueryIsRefused(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	put(t, db, scopeA, numbered(30)...)
	put(t, db, scopeB, numbered(30)...)
	base := Query[thing]{Index: "created", Limit: 3, Fingerprint: "NameContains=t", To: TimeKey(time.UnixMilli(100))}
	mustView(t, db, func(tx *Tx) (err error) {
		_, base.After, err = things.List(tx, scopeA, base)
		return err
	})
	with := func(change func(*Query[thing])) Query[thing] { q := base; change(&q); return q }
	type list struct {
		scope Scope
		q     Query[thing]
		want  error
	}
	for name, l := range map[string]list{
		"same":        {scopeA, base, nil},
		"other limit": {scopeA, with(func(q *Query[thing]) { q.Limit = 7 }), nil},
		"other scope": {scopeB, base, ErrBadToken},
		"other index": {scopeA, with(func(q *Query[thing]) { q.Index = "status" }), ErrBadToken},
		"by id":       {scopeA, with(func(q *Query[thing]) { q.Index = "" }), ErrBadToken},
		"descending":  {scopeA, with(func(q *Query[thing]) { q.Descending = true }), ErrBadToken},
		"filter":      {scopeA, with(func(q *Query[thing]) { q.Fingerprint = "" }), ErrBadToken},
		"no bound":    {scopeA, with(func(q *Query[thing]) { q.To = nil }), ErrBadToken},
		"empty bound": {scopeA, with(func(q *Query[thing]) { q.From = []byte{} }), ErrBadToken},
		"garbage":     {scopeA, with(func(q *Query[thing]) { q.After = "!" }), ErrBadToken},
		"truncated":   {scopeA, with(func(q *Query[thing]) { q.After = q.After[:len(q.After)-4] }), ErrBadToken},
		"padded":      {scopeA, with(func(q *Query[thing]) { q.After += "AAAA" }), ErrBadToken},
	} {
		mustView(t, db, func(tx *Tx) error {
			if _, _, err := things.List(tx, l.scope, l.q); !errors.Is(err, l.want) {
				t.Errorf("%s: %v, want %v", name, err, l.want)
			}
			return nil
		})
	}
}

// TestDescendingListCrossesPagesEmptiedInTheSameTransaction: bbolt keeps emptied
// pages until the commit, and its Cursor.Prev stops at them.
func TestDescendingListCrossesPagesEmptiedInTheSameTransaction(t *testing.T) {
	const n = 3000
	for name, gone := range map[string]func(int) bool{
		"middle": func(i int) bool { return i >= 200 && i < 2800 },
		"start":  func(i int) bool { return i < 2500 },
		"end":    func(i int) bool { return i >= 500 },
		"all":    func(int) bool { return true },
		"most":   func(i int) bool { return i%900 != 7 },
	} {
		t.Run(name, func(t *testing.T) {
			db := openTest(t, Options{InMemory: true})
			all := numbered(n)
			put(t, db, scopeA, all...)
			var want []string
			mustUpdate(t, db, func(tx *Tx) error {
				for i, r := range all {
					if !gone(i) {
						want = append(want, r.ID)
					} else if err := things.Delete(tx, scopeA, r.ID); err != nil {
						return err
					}
				}
				for _, limit := range []int{0, 7} {
					for _, index := range []string{"", "created"} {
						got := ids(t, tx, scopeA, Query[thing]{Index: index, Limit: limit})
						if !slices.Equal(got, want) {
							t.Errorf("ascending by %q, pages of %d: %d records, want %d", index, limit, len(got), len(want))
						}
						got = ids(t, tx, scopeA, Query[thing]{Index: index, Limit: limit, Descending: true})
						slices.Reverse(got)
						if !slices.Equal(got, want) {
							t.Errorf("descending by %q, pages of %d: %d records, want %d", index, limit, len(got), len(want))
						}
					}
				}
				return nil
			})
		})
	}
}

func TestListReadsNoFurtherThanBehindThePage(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	put(t, db, scopeA, numbered(5000)...)
	for _, q := range []Query[thing]{
		{Limit: 10},
		{Limit: 10, Descending: true, Index: "created"},
		{Limit: 10, Index: "status", From: StringKey("InService"), To: PrefixEnd(StringKey("InService"))},
	} {
		read := 0
		q.Keep = func(*thing) bool { read++; return true }
		mustView(t, db, func(tx *Tx) (err error) {
			for range 2 {
				read = 0
				if _, q.After, err = things.List(tx, scopeA, q); err != nil {
					return err
				}
				if read != 11 {
					t.Errorf("a page of 10 by %q read %d records, want 11", q.Index, read)
				}
			}
			return nil
		})
	}
}

func TestListByUnknownIndexIsAnError(t *testing.T) {
	db := openTest(t, Options{InMemory: true})
	mustView(t, db, func(tx *Tx) error {
		if _, _, err := things.List(tx, scopeA, Query[thing]{Index: "colour"}); err == nil {
			t.Error("an index that the table does not declare was listed")
		}
		return nil
	})
}
