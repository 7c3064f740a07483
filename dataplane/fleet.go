package dataplane

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
)

// Fleet is every endpoint that can be invoked. The control plane publishes; an
// invocation only loads.
type Fleet struct {
	mu        sync.RWMutex
	endpoints map[Key]*Endpoint
}

// NewFleet is an empty fleet.
func NewFleet() *Fleet { return &Fleet{endpoints: map[Key]*Endpoint{}} }

// Endpoint is one endpoint's place in the fleet.
type Endpoint struct {
	Key Key

	snapshot  atomic.Pointer[Snapshot]
	responses atomic.Pointer[Responses]
	sessions  sessions
	faults    atomic.Pointer[Faults]

	mu  sync.Mutex // guards src
	src *rand.Rand // for the choice of a variant

	publishing sync.Mutex // guards retired, and changes of snapshot
	retired    bool
}

// Snapshot is what an endpoint routes to. It is never changed once published.
type Snapshot struct {
	Variants []Variant
	// Shadows are the shadow variants. No request is routed to them: they get
	// copies from the Tap of their production variant's pool.
	Shadows []Variant
	// Captures are the endpoint's data captures, one for each deployment.
	Captures []*Capture
	// Status is the endpoint's status when the snapshot was made.
	Status string
	// Serving is false until the endpoint was InService for the first time: the
	// runtime does not know an endpoint that is being created.
	Serving bool
	// HostsComponents is true of an endpoint whose variants have no model: its
	// variants' instances host copies of Components, which take the requests.
	HostsComponents bool
	Components      map[string]*Component // by ComponentKey
	// Async is nil of an endpoint that takes no asynchronous requests; one that
	// takes them takes no others.
	Async *Async
}

// Variant is a production variant in a snapshot, or the part of one that one
// deployment has: while an endpoint is updated, two of a snapshot's variants may
// have the same name and share its traffic by their weights.
type Variant struct {
	Name       string
	Deployment int64 // tells variants of one name apart
	Weight     float64
	Pool       *Pool
	Container  string // its first container's name in error sentences
	// MultiModel is the name of the container that holds several models; empty when
	// none does.
	MultiModel string
	// Targets are the names of containers that are invoked directly; none when a
	// request goes through all.
	Targets   []string
	Instances []*Instance
	Shadow    *Shadow // of a shadow variant
	// Message says what keeps the variant from its desired state; empty when
	// nothing does.
	Message string
}

// Publish makes a snapshot what the endpoint routes to from now on. The seed
// matters only for the first snapshot of a key.
func (f *Fleet) Publish(key Key, s *Snapshot, seed uint64) *Endpoint {
	e := f.Lookup(key)
	if e == nil {
		f.mu.Lock()
		if e = f.endpoints[key]; e == nil {
			e = &Endpoint{Key: key, src: rand.New(rand.NewPCG(seed, mix(seed)))}
			e.snapshot.Store(s)
			f.endpoints[key] = e
		}
		f.mu.Unlock()
	}
	e.publishing.Lock()
	defer e.publishing.Unlock()
	e.show(s)
	return e
}

// Retire lets an endpoint take no request from now on, whatever is still published
// of it until it is withdrawn. Requests under way go on.
func (f *Fleet) Retire(key Key) {
	e := f.Lookup(key)
	if e == nil {
		return
	}
	e.publishing.Lock()
	defer e.publishing.Unlock()
	e.retired = true
	e.show(e.snapshot.Load())
}

// show makes s the snapshot. The caller holds e.publishing.
func (e *Endpoint) show(s *Snapshot) {
	if e.retired {
		closed := *s
		closed.Serving = false
		s = &closed
	}
	e.snapshot.Store(s)
}

// Withdraw takes an endpoint out of the fleet. Requests under way go on.
func (f *Fleet) Withdraw(key Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.endpoints, key)
}

// Lookup is nil for an endpoint that was never published.
func (f *Fleet) Lookup(key Key) *Endpoint {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.endpoints[key]
}

// Endpoints lists the fleet by key.
func (f *Fleet) Endpoints() []*Endpoint {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.SortedFunc(maps.Values(f.endpoints), func(a, b *Endpoint) int {
		return cmp.Or(cmp.Compare(a.Key.Account, b.Key.Account),
			cmp.Compare(a.Key.Region, b.Key.Region), cmp.Compare(a.Key.Name, b.Key.Name))
	})
}

// Snapshot is what the endpoint routes to now.
func (e *Endpoint) Snapshot() *Snapshot { return e.snapshot.Load() }

// variant chooses by weight, among those of a name unless it is empty: the share
// of a variant is its weight over the sum of all, for each request anew. It is
// nil when there is no weight to go by.
func (e *Endpoint) variant(s *Snapshot, name string) *Variant {
	if len(s.Variants) == 1 && s.Variants[0].Weight > 0 && (name == "" || name == s.Variants[0].Name) {
		return &s.Variants[0]
	}
	var total float64
	for i := range s.Variants {
		total += s.Variants[i].weight(name)
	}
	if total <= 0 {
		return nil
	}
	e.mu.Lock()
	at := e.src.Float64() * total
	e.mu.Unlock()
	last := -1
	for i := range s.Variants {
		weight := s.Variants[i].weight(name)
		if weight <= 0 {
			continue
		}
		last = i
		if at -= weight; at < 0 {
			break
		}
	}
	return &s.Variants[last]
}

// weight counts when the variant has the name or none is asked for.
func (v *Variant) weight(name string) float64 {
	if name != "" && name != v.Name {
		return 0
	}
	return v.Weight
}

// named is the first variant of a name; nil when there is none.
func (s *Snapshot) named(name string) *Variant {
	for i := range s.Variants {
		if s.Variants[i].Name == name {
			return &s.Variants[i]
		}
	}
	return nil
}
