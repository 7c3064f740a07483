package controlplane

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// Quotas are the limits of each account in each region. One that is absent does
// not limit; 0 allows nothing, as many of AWS's do in a new account.
//
// https://docs.aws.amazon.com/general/latest/gr/sagemaker.html#limits_sagemaker
type Quotas struct {
	// Instances is by instance type; "default" is for every type that is not
	// named.
	Instances map[string]int `yaml:"instances"`
	// AllInstances counts across types and endpoints, EndpointInstances within
	// one endpoint.
	AllInstances      *int `yaml:"all_instances"`
	EndpointInstances *int `yaml:"endpoint_instances"`

	Endpoints           *int `yaml:"endpoints"`
	ServerlessEndpoints *int `yaml:"serverless_endpoints"`
	// ServerlessConcurrency is the sum of MaxConcurrency over all endpoints.
	ServerlessConcurrency *int `yaml:"serverless_concurrency"`
	// ServerlessMemory is the largest MemorySizeInMB that an endpoint may have.
	ServerlessMemory *int `yaml:"serverless_memory_in_mb"`
}

// anyType is the key of Quotas.Instances for types that are not named.
const anyType = "default"

// Validate refuses limits that cannot be meant.
func (q *Quotas) Validate() error {
	for _, name := range slices.Sorted(maps.Keys(q.Instances)) {
		if _, known := sdkcompat.Shape(name); !known && name != anyType {
			return fmt.Errorf("instances: %q is no instance type", name)
		}
		if q.Instances[name] < 0 {
			return fmt.Errorf("instances: %s is negative", name)
		}
	}
	for _, limit := range q.totals() {
		if limit.most != nil && *limit.most < 0 {
			return fmt.Errorf("%s is negative", limit.key)
		}
	}
	return nil
}

// What one endpoint and one inference component may have whatever the quotas say:
// AWS's model bounds neither number, and two thousand million instances would be
// the end of the daemon.
const (
	maxInstances = 100_000
	maxCopies    = 10_000

	instancesQuota = "Maximum number of instances per endpoint" // AWS's name
	copiesQuota    = "Maximum number of copies per inference component"
)

// total is a quota that is not by instance type.
type total struct {
	key  string // in the configuration file
	name string // AWS's
	unit string
	most *int
	used func(*demand) int
	each bool // it limits each endpoint, not their sum
}

// totals are in the order in which they are checked. The names are those of
// AWS's list of quotas, but for that of endpoints, which is not on it any more.
func (q *Quotas) totals() []total {
	return []total{
		{"endpoints", "Number of active endpoints", "Endpoints", q.Endpoints, func(d *demand) int { return d.Endpoints }, false},
		{"endpoint_instances", instancesQuota, "Instances", q.EndpointInstances, func(d *demand) int { return d.Instances.sum() }, true},
		{"all_instances", "Number of instances across active endpoints", "Instances", q.AllInstances, func(d *demand) int { return d.Instances.sum() }, false},
		{"serverless_endpoints", "Maximum number of serverless endpoints", "Endpoints", q.ServerlessEndpoints, func(d *demand) int { return d.Serverless }, false},
		{"serverless_concurrency", "Maximum total concurrency that can be allocated across all serverless endpoints", "Invocations", q.ServerlessConcurrency, func(d *demand) int { return d.Concurrency }, false},
		{"serverless_memory_in_mb", "Memory size in MB per serverless endpoint", "MBs", q.ServerlessMemory, func(d *demand) int { return d.memory }, true},
	}
}

// instances is the limit of a type; none if ok is false.
func (q *Quotas) instances(instanceType string) (most int, ok bool) {
	if most, ok = q.Instances[instanceType]; ok {
		return most, true
	}
	most, ok = q.Instances[anyType]
	return most, ok
}

// configured tells whether anything is limited.
func (q *Quotas) configured() bool {
	return len(q.Instances) > 0 || slices.ContainsFunc(q.totals(), func(t total) bool { return t.most != nil })
}

// chargeQuota refuses the record that is about to be stored if it would take the
// account beyond a quota: with ResourceLimitExceeded, as CreateEndpoint and
// UpdateEndpoint do on AWS. What takes no more than before is never refused,
// however much there is.
func (p *Plane) chargeQuota(tx *store.Tx, scope sdkcompat.Scope, rec *endpointRecord) error {
	after := rec.demand()
	limited := p.Quotas.configured()
	if !limited && after.Instances.sum() <= maxInstances {
		return nil
	}
	stored, err := endpoints.Get(tx, store.Scope(scope), id(*rec.EndpointName))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	used := new(demand)
	if limited {
		if used, err = usedOf(tx, store.Scope(scope)); err != nil {
			return err
		}
	}
	return p.Quotas.check(used, stored.demand(), after)
}

// check compares what an endpoint takes after a change with what it took before,
// beside what all endpoints, it included, took.
func (q *Quotas) check(used, before, after *demand) error {
	if n, have := after.Instances.sum(), before.Instances.sum(); n > max(maxInstances, have) {
		return sdkcompat.QuotaExceeded.Error(instancesQuota, maxInstances, "Instances", have, n-have)
	}
	for _, t := range q.totals() {
		if t.most == nil {
			continue
		}
		have, delta := t.used(used), t.used(after)-t.used(before)
		if t.each {
			have = t.used(before)
		}
		if delta > 0 && have+delta > *t.most {
			return sdkcompat.QuotaExceeded.Error(t.name, *t.most, t.unit, have, delta)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after.Instances)) {
		most, limited := q.instances(name)
		delta := after.Instances[name] - before.Instances[name]
		if limited && delta > 0 && used.Instances[name]+delta > most {
			return sdkcompat.QuotaExceeded.Error(name+" for endpoint usage", most, "Instances", used.Instances[name], delta)
		}
	}
	return nil
}

// demand is what the endpoint takes, at the height of the update under way if
// there is one: a blue/green update has both fleets at once, a rolling one a
// batch more than its fleet. A Failed endpoint has no instances, also while it is
// being deleted; another one has them until it is gone. No endpoint takes nothing.
func (r *endpointRecord) demand() *demand {
	if r == nil {
		return new(demand)
	}
	d := &demand{Endpoints: 1, Instances: instanceCounts{}}
	if r.EndpointStatus == statusFailed || r.EndpointStatus == statusDeleting && !r.Served {
		return d
	}
	for _, f := range r.fleets() {
		concurrency := 0
		for i := range f.Variants {
			if c := f.Variants[i].Config.ServerlessConfig; c != nil {
				d.Serverless = 1
				d.memory = max(d.memory, int(aws.ToInt32(c.MemorySizeInMB)))
				concurrency += int(aws.ToInt32(c.MaxConcurrency))
			}
		}
		// The fleets of an update share the endpoint's concurrency.
		d.Concurrency = max(d.Concurrency, concurrency)
	}
	for _, fleets := range r.stages() {
		for name, n := range countInstances(fleets) {
			d.Instances[name] = max(d.Instances[name], n)
		}
	}
	return d
}

// stages are the endpoint's fleets at each moment at which their size differs.
func (r *endpointRecord) stages() [][]fleet {
	u := r.Update
	if u == nil {
		return [][]fleet{r.fleets()}
	}
	var all [][]fleet
	for step := 1; ; step++ {
		at := *u
		at.Stage, at.Step = provisioning, step
		all = append(all, r.fleetsOf(&at))
		if at.rolling() == nil || at.last() {
			return all
		}
	}
}

// fleetsOf are the fleets as another state of the update has them.
func (r *endpointRecord) fleetsOf(u *rollout) []fleet {
	other := *r
	other.Update = u
	return other.fleets()
}

// countInstances by type. Instance pools count as the type that is tried first:
// that is the only one that is known before the instances start.
func countInstances(fleets []fleet) map[string]int {
	counts := map[string]int{}
	for _, f := range fleets {
		for i := range f.Variants {
			v := &f.Variants[i]
			if v.Config.ServerlessConfig == nil {
				counts[v.instanceType()] += f.count(v)
			}
		}
	}
	return counts
}

// checkCopies refuses more copies than a component can have.
func checkCopies(before, after int32) error {
	if after <= max(maxCopies, before) {
		return nil
	}
	return sdkcompat.QuotaExceeded.Error(copiesQuota, maxCopies, "Copies", before, after-before)
}
