package store

import (
	"bytes"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"
)

// Query says which records List returns, in which order.
type Query[T any] struct {
	// Index names the order; empty means by id.
	Index string
	// Descending reverses the order, also among equal keys.
	Descending bool
	// From (inclusive) and To (exclusive) bound the index key, or the id when
	// Index is empty, in either direction; nil means no bound.
	From, To []byte
	// Keep filters; nil keeps all. It must not write.
	Keep func(*T) bool
	// Fingerprint stands for what Keep tests. A token is refused in a query
	// with another fingerprint.
	Fingerprint string
	// After is the token that the preceding page returned; empty means the
	// first page.
	After string
	// Limit is the most records to return; zero or less means all.
	Limit int
}

// List returns the records of the scope that match the query, and the token of
// the next page, which is empty on the last one. It starts at the place that
// the token names, whether or not that record still exists, and reads no
// further than to the first match behind the page. A token that this query did
// not make gives ErrBadToken.
func (t *Table[T]) List(tx *Tx, scope Scope, q Query[T]) (items []*T, next string, err error) {
	records, err := tx.bucket(recordBucket(t.Name))
	if err != nil {
		return nil, "", err
	}
	walked := records
	if q.Index != "" {
		if walked, err = tx.bucket(indexBucket(t.Name, q.Index)); err != nil {
			return nil, "", err
		}
	}
	prefix, digest := scopePrefix(scope), t.digest(scope, &q)
	s, err := q.span(prefix, digest)
	if err != nil {
		return nil, "", err
	}
	var last []byte
	for key, value := range walk(walked, s, q.Descending) {
		record, err := t.follow(records, prefix, key, value, q.Index)
		if err != nil {
			return nil, "", err
		}
		if q.Keep != nil && !q.Keep(record) {
			continue
		}
		if q.Limit > 0 && len(items) == q.Limit {
			return items, encodeToken(digest, last[len(prefix):]), nil
		}
		items, last = append(items, record), bytes.Clone(key)
	}
	return items, "", nil
}

// follow decodes the record that a walk came upon.
func (t *Table[T]) follow(records *bbolt.Bucket, prefix, key, value []byte, index string) (*T, error) {
	if index != "" {
		id := value
		key = append(bytes.Clone(prefix), id...)
		if value = records.Get(key); value == nil {
			return nil, fmt.Errorf("store: index %s/%s names %q, which does not exist", t.Name, index, id)
		}
	}
	return t.decode(key, value)
}

func (t *Table[T]) digest(scope Scope, q *Query[T]) []byte {
	return digestOf(t.Name, scope.Account, scope.Region, q.Index, strconv.FormatBool(q.Descending),
		strconv.FormatBool(q.From == nil), string(q.From), strconv.FormatBool(q.To == nil), string(q.To), q.Fingerprint)
}

// span gives the keys to walk: the query's bounds, narrowed by its token.
func (q *Query[T]) span(prefix []byte, digest []byte) (span, error) {
	bound := func(key []byte) []byte {
		if q.Index == "" {
			return append(bytes.Clone(prefix), key...)
		}
		return appendPart(bytes.Clone(prefix), key)
	}
	s := span{from: prefix, to: PrefixEnd(prefix)}
	if q.From != nil {
		s.from = bound(q.From)
	}
	if q.To != nil {
		s.to = bound(q.To)
	}
	if q.After == "" {
		return s, nil
	}
	position, err := decodeToken(digest, q.After)
	if err != nil {
		return span{}, err
	}
	place := append(bytes.Clone(prefix), position...)
	if q.Descending {
		s.to = place
	} else {
		place = append(place, 0) // the first key behind it
		s.from = place
	}
	return s, nil
}
