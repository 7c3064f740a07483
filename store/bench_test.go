package store

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// share runs op(0..b.N-1) on n goroutines.
func share(b *testing.B, n int, op func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := op(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkCreate compares creating records with three indexes, in a file and
// durably, with what bbolt's Update costs for putting the same bytes under one
// key and nothing else.
func BenchmarkCreate(b *testing.B) {
	for _, n := range []int{1, 16, 256, 1000} {
		b.Run(fmt.Sprintf("bare-bbolt/writers=%d", n), func(b *testing.B) {
			db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			share(b, n, func(i int) error {
				return db.Update(func(tx *bbolt.Tx) error {
					bucket, err := tx.CreateBucketIfNotExists([]byte("records"))
					if err != nil {
						return err
					}
					id := fmt.Sprintf("t%07d", i)
					value, err := marshalThing(&thing{ID: id, Created: time.Now(), Status: "Creating", Parent: "p"})
					if err != nil {
						return err
					}
					return bucket.Put([]byte(id), value)
				})
			})
		})
		b.Run(fmt.Sprintf("store/writers=%d", n), func(b *testing.B) {
			db := openTest(b, Options{Path: tempPath(b)})
			before := boltCommits(b, db)
			b.ResetTimer()
			share(b, n, func(i int) error {
				return db.Update(func(tx *Tx) error {
					id := fmt.Sprintf("t%07d", i)
					return things.Put(tx, scopeA, id, &thing{ID: id, Created: tx.Now, Status: "Creating", Parent: "p"})
				})
			})
			b.StopTimer()
			b.ReportMetric(float64(boltCommits(b, db)-before)/float64(b.N), "commits/op")
		})
	}
}

func benchmarkDB(b *testing.B, records int) *DB {
	db := openTest(b, Options{InMemory: true})
	put(b, db, scopeA, numbered(records)...)
	b.ReportAllocs()
	b.ResetTimer()
	return db
}

func BenchmarkListFirstPage(b *testing.B) {
	for _, records := range []int{100, 10_000} {
		for name, q := range map[string]Query[thing]{
			"created-descending": {Index: "created", Descending: true, Limit: 10},
			"status-equals":      {Index: "status", Limit: 10, From: StringKey("Failed"), To: PrefixEnd(StringKey("Failed"))},
		} {
			b.Run(fmt.Sprintf("%s/records=%d", name, records), func(b *testing.B) {
				db := benchmarkDB(b, records)
				for b.Loop() {
					mustView(b, db, func(tx *Tx) error {
						_, _, err := things.List(tx, scopeA, q)
						return err
					})
				}
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	db := benchmarkDB(b, 10_000)
	for i := 0; b.Loop(); i++ {
		mustView(b, db, func(tx *Tx) error {
			_, err := things.Get(tx, scopeA, fmt.Sprintf("t%05d", i%10_000))
			return err
		})
	}
}

// BenchmarkPut replaces records within one transaction: the store's own cost,
// without commits.
func BenchmarkPut(b *testing.B) {
	db := benchmarkDB(b, 10_000)
	mustUpdate(b, db, func(tx *Tx) error {
		for i := 0; b.Loop(); i++ {
			id := fmt.Sprintf("t%05d", i%10_000)
			if err := things.Put(tx, scopeA, id, &thing{ID: id, Created: tx.Now, Status: "Updating"}); err != nil {
				return err
			}
		}
		return nil
	})
}
