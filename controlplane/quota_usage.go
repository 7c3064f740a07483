package controlplane

import (
	"errors"
	"maps"

	"github.com/sagelocal/sagelocal/store"
)

// demand is what one endpoint takes of the quotas, or what all endpoints of a scope
// take together.
type demand struct {
	Endpoints   int
	Instances   instanceCounts
	Serverless  int // endpoints
	Concurrency int
	memory      int // MB, of an endpoint's largest serverless variant
}

// instanceCounts are by instance type; types without an instance are not in it.
type instanceCounts map[string]int

func (c instanceCounts) sum() (n int) {
	for _, count := range c {
		n += count
	}
	return n
}

// replace puts what an endpoint takes now in the place of what it took.
func (d *demand) replace(old, now *demand) {
	d.Endpoints += now.Endpoints - old.Endpoints
	d.Serverless += now.Serverless - old.Serverless
	d.Concurrency += now.Concurrency - old.Concurrency
	if d.Instances == nil {
		d.Instances = instanceCounts{}
	}
	for name, n := range now.Instances {
		d.Instances[name] += n
	}
	for name, n := range old.Instances {
		d.Instances[name] -= n
	}
	maps.DeleteFunc(d.Instances, func(_ string, n int) bool { return n == 0 })
}

func (d *demand) equal(other *demand) bool {
	return d.Endpoints == other.Endpoints && d.Serverless == other.Serverless &&
		d.Concurrency == other.Concurrency && maps.Equal(d.Instances, other.Instances)
}

// usage holds, for each scope that quotas are looked at in, what its endpoints take,
// so that a quota costs the same among ten endpoints and ten thousand. It is changed
// with the endpoints, in their transactions, and so is right whatever becomes of
// those.
var usage = newTable[demand]("usage")

const usageID = "endpoints"

// usedOf is what the scope's endpoints take. A scope is counted when it is first
// looked at; resume has counted those that had endpoints.
func usedOf(tx *store.Tx, scope store.Scope) (*demand, error) {
	used, err := usage.Get(tx, scope, usageID)
	if !errors.Is(err, store.ErrNotFound) {
		return used, err
	}
	used, err = recount(tx, scope)
	if err != nil {
		return nil, err
	}
	return used, usage.Put(tx, scope, usageID, used)
}

// recount is what usage says, from the records.
func recount(tx *store.Tx, scope store.Scope) (*demand, error) {
	used := new(demand)
	_, _, err := endpoints.List(tx, scope, store.Query[endpointRecord]{Keep: func(r *endpointRecord) bool {
		used.replace(new(demand), r.demand())
		return false
	}})
	return used, err
}

// followUsage keeps the scope's usage, where there is one, when an endpoint's
// record changes.
func followUsage(tx *store.Tx, scope store.Scope, old, rec *endpointRecord) error {
	used, err := usage.Get(tx, scope, usageID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	before, after := old.demand(), rec.demand()
	if before.equal(after) {
		return nil
	}
	used.replace(before, after)
	return usage.Put(tx, scope, usageID, used)
}

// replaceUsage puts the counts of a new start in the place of those that the last run
// has left, which may have counted otherwise, or without quotas not at all.
func replaceUsage(tx *store.Tx, counted map[store.Scope]*demand) error {
	err := usage.Each(tx, func(scope store.Scope, id string, _ *demand) error {
		return usage.Delete(tx, scope, id)
	})
	for scope, used := range counted {
		err = errors.Join(err, usage.Put(tx, scope, usageID, used))
	}
	return err
}
