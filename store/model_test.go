package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model is the store as a plain map, the reference for random operations.
type model map[Scope]map[string]*thing

func (m model) clone() model {
	c := model{}
	for s, records := range m {
		c[s] = maps.Clone(records)
	}
	return c
}

func (m model) list(scope Scope, q Query[thing]) (ids []string) {
	key := func(r *thing) []byte { return []byte(r.ID) }
	for _, x := range things.Indexes {
		if x.Name == q.Index {
			key = x.Key
		}
	}
	var kept []*thing
	for _, r := range m[scope] {
		k := key(r)
		if k == nil || q.From != nil && bytes.Compare(k, q.From) < 0 || q.To != nil && bytes.Compare(k, q.To) >= 0 {
			continue
		}
		if q.Keep == nil || q.Keep(r) {
			kept = append(kept, r)
		}
	}
	slices.SortFunc(kept, func(a, b *thing) int {
		c := bytes.Compare(key(a), key(b))
		if c == 0 {
			c = bytes.Compare([]byte(a.ID), []byte(b.ID))
		}
		if q.Descending {
			return -c
		}
		return c
	})
	for _, r := range kept {
		ids = append(ids, r.ID)
	}
	return ids
}

// nasty are strings whose bytes could be taken for the key format's own.
var nasty = []string{"", "a", "a\x00", "a\x00\x00", "a\x00\xff", "a\xff", "ab", "\x00", "\xff\xff", "b"}

var modelScopes = []Scope{scopeA, scopeB, {}, {Account: "a", Region: "\x00"}, {Account: "a\x00"}}

func randomThing(r *rand.Rand) *thing {
	return &thing{
		ID:      fmt.Sprintf("%s%d", nasty[r.IntN(len(nasty))], r.IntN(60)),
		Created: time.UnixMilli(int64(r.IntN(40) - 10)),
		Status:  nasty[r.IntN(len(nasty))],
		Parent:  nasty[r.IntN(len(nasty))],
	}
}

func randomQuery(r *rand.Rand) Query[thing] {
	q := Query[thing]{Descending: r.IntN(2) == 0, Limit: r.IntN(12)}
	bound := func(key []byte) []byte {
		if r.IntN(3) > 0 {
			return nil
		}
		return key
	}
	if i := r.IntN(len(things.Indexes) + 1); i == len(things.Indexes) {
		q.From, q.To = bound([]byte(randomThing(r).ID)), bound([]byte(randomThing(r).ID))
	} else {
		x := things.Indexes[i]
		q.Index, q.From, q.To = x.Name, bound(x.Key(randomThing(r))), bound(PrefixEnd(x.Key(randomThing(r))))
	}
	if r.IntN(2) == 0 {
		status := nasty[r.IntN(len(nasty))]
		q.Keep = func(v *thing) bool { return v.Status >= status }
		q.Fingerprint = status
	}
	return q
}

// step does one random operation on both and compares what they say.
func (m model) step(t *testing.T, r *rand.Rand, tx *Tx) {
	t.Helper()
	scope, v := modelScopes[r.IntN(len(modelScopes))], randomThing(r)
	want, present := m[scope][v.ID]
	switch op := r.IntN(100); {
	case op < 45:
		if err := things.Put(tx, scope, v.ID, v); err != nil {
			t.Fatal(err)
		}
		m[scope][v.ID] = v
	case op < 65:
		if err := things.Delete(tx, scope, v.ID); present != (err == nil) || err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatalf("Delete = %v, present %v", err, present)
		}
		delete(m[scope], v.ID)
	case op < 80:
		got, err := things.Get(tx, scope, v.ID)
		if present != (err == nil) || present && (got.Parent != want.Parent || !got.Created.Equal(want.Created)) {
			t.Fatalf("Get = %+v, %v; want %+v", got, err, want)
		}
	case op < 99:
		m.compareList(t, tx, scope, randomQuery(r))
	default:
		if err := tx.DeleteScope(scope); err != nil {
			t.Fatal(err)
		}
		clear(m[scope])
	}
}

func (m model) compareList(t *testing.T, tx *Tx, scope Scope, q Query[thing]) {
	t.Helper()
	want := m.list(scope, q)
	if got := ids(t, tx, scope, q); !slices.Equal(got, want) {
		t.Fatalf("List(%q, %+v) = %q, want %q", scope, q, got, want)
	}
}

func TestRandomOperationsAgreeWithMap(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			db := openTest(t, Options{InMemory: true})
			m := model{}
			for _, s := range modelScopes {
				m[s] = map[string]*thing{}
			}
			undone := errors.New("undone")
			for range 120 {
				before := m.clone()
				err := db.Update(func(tx *Tx) error {
					for range r.IntN(60) {
						m.step(t, r, tx)
					}
					if r.IntN(4) == 0 {
						return undone
					}
					return nil
				})
				if errors.Is(err, undone) {
					m = before
				} else if err != nil {
					t.Fatal(err)
				}
				mustView(t, db, func(tx *Tx) error {
					for _, scope := range modelScopes {
						m.compareList(t, tx, scope, randomQuery(r))
					}
					return nil
				})
			}
		})
	}
}
