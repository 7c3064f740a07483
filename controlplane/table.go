package controlplane

import (
	"errors"

	"github.com/sagelocal/sagelocal/controlplane/async"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// The indexes that the lists walk, named by their SortBy value. By Name needs
// none: the records lie in that order.
const (
	byCreation = "CreationTime"
	byStatus   = "Status"
)

// newTable stores records in the wire's own codec: a record is what Describe
// returns plus a few private fields.
func newTable[T any](name string, indexes ...store.Index[T]) *store.Table[T] {
	return &store.Table[T]{
		Name:      name,
		Marshal:   func(r *T) ([]byte, error) { return sdkcompat.Marshal(r) },
		Unmarshal: func(data []byte, r *T) error { return sdkcompat.Unmarshal(data, r) },
		Indexes:   indexes,
	}
}

func index[T any](name string, key func(*T) []byte) store.Index[T] {
	return store.Index[T]{Name: name, Key: key}
}

// vacant refuses to create what exists.
func vacant[T any](t *store.Table[T], tx *store.Tx, scope sdkcompat.Scope, name, what, arn string) error {
	_, err := t.Get(tx, store.Scope(scope), id(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return sdkcompat.AlreadyExists.Error(what, arn)
}

// Tables are all tables that a Plane works with, for store.Open.
func Tables() []store.TableDefinition {
	return append(async.Tables(), models, endpointConfigs, endpoints, inferenceComponents, alarms, tags, usage)
}
