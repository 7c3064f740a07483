package store

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// Tx is one transaction, valid until the function that received it returns and
// on that goroutine only.
type Tx struct {
	// Now is the time of the transaction: UTC, whole milliseconds, never
	// earlier than a preceding transaction's.
	Now time.Time

	bolt     *bbolt.Tx
	undo     []change
	onCommit []func()
	// broken is the first failed write. A table operation is several writes;
	// committing after a failed one would part records from their indexes.
	broken error
}

// change is what one write replaced. Its slices need no copy: bbolt keeps what
// it returned and what it was given valid until the transaction ends.
type change struct {
	bucket *bbolt.Bucket
	key    []byte
	old    []byte // nil when the key was absent
}

// OnCommit calls fn after the transaction is durable and before Update returns,
// in the order of registration, with no lock held: fn may start transactions.
// It is not called when the transaction fails, and never in a View.
func (tx *Tx) OnCommit(fn func()) { tx.onCommit = append(tx.onCommit, fn) }

// DeleteScope removes every record of the scope from every table.
func (tx *Tx) DeleteScope(scope Scope) error { return tx.clear(scopePrefix(scope)) }

// DeleteAccount removes every record of the account, in every region, from every
// table.
func (tx *Tx) DeleteAccount(account string) error { return tx.clear(appendPart(nil, account)) }

// DeleteAll removes every record of every scope from every table.
func (tx *Tx) DeleteAll() error { return tx.clear(nil) }

// clear deletes key by key and not bucket by bucket, because only single keys
// can be put back when the transaction fails inside a shared commit.
func (tx *Tx) clear(prefix []byte) error {
	if tx.bolt == nil {
		return ErrTxClosed
	}
	return tx.bolt.ForEach(func(name []byte, b *bbolt.Bucket) error {
		if !isTableBucket(string(name)) {
			return nil
		}
		// bbolt's cursors lose their place when keys are removed under them.
		var keys [][]byte
		c := b.Cursor()
		for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			keys = append(keys, bytes.Clone(k))
		}
		for _, k := range keys {
			if err := tx.delete(b, k); err != nil {
				return err
			}
		}
		return nil
	})
}

const (
	metaBucket   = "meta"
	recordPrefix = "record/"
	indexPrefix  = "index/"
)

func recordBucket(table string) string       { return recordPrefix + table }
func indexBucket(table, index string) string { return indexPrefix + table + "/" + index }

func isTableBucket(name string) bool {
	return strings.HasPrefix(name, recordPrefix) || strings.HasPrefix(name, indexPrefix)
}

func (tx *Tx) bucket(name string) (*bbolt.Bucket, error) {
	if tx.bolt == nil {
		return nil, ErrTxClosed
	}
	b := tx.bolt.Bucket([]byte(name))
	if b == nil {
		return nil, fmt.Errorf("store: %s was not registered with Open", name)
	}
	return b, nil
}

func (tx *Tx) put(b *bbolt.Bucket, key, value []byte) error {
	if value == nil {
		value = []byte{} // within the transaction bbolt gives back the nil, which reads as absent
	}
	return tx.write(b, key, func() error { return b.Put(key, value) })
}

func (tx *Tx) delete(b *bbolt.Bucket, key []byte) error {
	return tx.write(b, key, func() error { return b.Delete(key) })
}

func (tx *Tx) write(b *bbolt.Bucket, key []byte, do func() error) error {
	if !b.Writable() {
		return ErrReadOnly
	}
	c := change{bucket: b, key: key, old: b.Get(key)}
	if err := do(); err != nil {
		err = fmt.Errorf("store: %w", err)
		if tx.broken == nil {
			tx.broken = err
		}
		return err
	}
	tx.undo = append(tx.undo, c)
	return nil
}

// revert puts back what the transaction changed, newest first, and leaves the
// writes of the other transactions of the same commit alone.
func (tx *Tx) revert() error {
	for i := len(tx.undo) - 1; i >= 0; i-- {
		c := tx.undo[i]
		var err error
		if c.old != nil {
			err = c.bucket.Put(c.key, c.old)
		} else {
			err = c.bucket.Delete(c.key)
		}
		if err != nil {
			return fmt.Errorf("store: revert: %w", err)
		}
	}
	return nil
}
