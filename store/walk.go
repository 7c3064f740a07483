package store

import (
	"bytes"
	"iter"

	"go.etcd.io/bbolt"
)

// span is the keys from (inclusive) to to (exclusive).
type span struct{ from, to []byte }

// walk yields the bucket's keys and values within the span. They are valid until
// the next write of the transaction.
func walk(b *bbolt.Bucket, s span, descending bool) iter.Seq2[[]byte, []byte] {
	if descending {
		return func(yield func(k, v []byte) bool) { walkDown(b, s, yield) }
	}
	return func(yield func(k, v []byte) bool) {
		c := b.Cursor()
		for k, v := c.Seek(s.from); k != nil && bytes.Compare(k, s.to) < 0; k, v = c.Next() {
			if !yield(k, v) {
				return
			}
		}
	}
}

func walkDown(b *bbolt.Bucket, s span, yield func(k, v []byte) bool) {
	first, _ := b.Cursor().First()
	if first == nil {
		return
	}
	c := b.Cursor()
	previous := func(from []byte) (k, v []byte) {
		// Prev also stops, early, at a page that this transaction emptied:
		// bbolt removes such pages only when it commits. Going on is right as
		// long as there is a smaller key.
		for bytes.Compare(first, from) < 0 {
			if k, v = c.Prev(); k != nil {
				return k, v
			}
		}
		return nil, nil
	}
	var k, v []byte
	if beyond, _ := c.Seek(s.to); beyond != nil {
		k, v = previous(s.to)
	} else {
		k, v = c.Last()
	}
	for ; k != nil && bytes.Compare(k, s.from) >= 0; k, v = previous(k) {
		if !yield(k, v) {
			return
		}
	}
}
