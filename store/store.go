// Package store keeps the control plane's records in one bbolt file: typed
// tables with ordered indexes, split by account and region, read and written in
// transactions.
//
// Writers that arrive together share one commit, so a burst of creations costs
// a handful of fsyncs; each still gets its own all-or-nothing transaction, its
// function runs exactly once and on its own goroutine, and Update returns only
// when the data is on disk.
package store

import "errors"

// Scope is the account and region that a record belongs to. Records of
// different scopes never meet in a Get or a List.
type Scope struct {
	Account string
	Region  string
}

var (
	// ErrNotFound says that the scope holds no record with that id.
	ErrNotFound = errors.New("store: no such record")
	// ErrBadToken says that a page token was not made by this List query: it
	// is damaged, or comes from another table, scope, order, bound or filter.
	ErrBadToken = errors.New("store: bad page token")
	// ErrLocked says that another process holds the database file.
	ErrLocked = errors.New("database is in use")
	// ErrNewerSchema says that a later release wrote the database file.
	ErrNewerSchema = errors.New("database has a newer schema version")
	// ErrClosed says that the database was closed.
	ErrClosed = errors.New("store: database is closed")
	// ErrTxClosed says that a Tx was used after its function returned.
	ErrTxClosed = errors.New("store: transaction is over")
	// ErrReadOnly says that a View tried to write.
	ErrReadOnly = errors.New("store: write in a read-only transaction")
)
