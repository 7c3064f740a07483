package dataplane

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// State is where an instance stands in its life.
type State int32

const (
	Pending   State = iota // its worker starts; it takes no requests yet
	InService              // its health check passed; it takes requests
	Draining               // it takes no more requests and answers those it has
	Stopped                // its worker is gone
)

func (s State) String() string {
	switch s {
	case Pending:
		return "Pending"
	case InService:
		return "InService"
	case Draining:
		return "Draining"
	case Stopped:
		return "Stopped"
	}
	return fmt.Sprintf("State(%d)", int32(s))
}

// Instance is one instance of a variant: an identity and its accounting, around
// the worker that runs for it. It keeps both across every snapshot of the fleet.
// It belongs to one pool for its whole life.
type Instance struct {
	ID      string // i-0123456789abcdef0
	Slot    int    // which of the variant's instances it is, from 0
	Type    string // ml.m5.large
	Created time.Time
	// Host and Component are the id of the instance that a copy of an inference
	// component is on, and the component's name; empty for an instance.
	Host, Component string

	pool         *Pool
	affinityName string
	state        atomic.Int32
	invocations  atomic.Int64
	errors       atomic.Int64
	told         atomic.Bool // to stop, while it was in service
	worker       Worker      // set once, before the state becomes InService
	models       ModelHost   // the worker, if it is one
	inline       bool        // the worker waits for nothing but its connections
	started      time.Time

	// Guarded by the pool's lock.
	index   int           // among the pool's members; -1 while it is none
	leaving int           // requests outstanding since it left
	drained chan struct{} // closed when leaving reaches zero

	idleSince time.Time // of an environment of a serverless variant
}

// NewInstance makes a Pending instance for the pool. Slot, not ID, decides which
// affinity keys it is home to, so that a replacement inherits them.
func NewInstance(pool *Pool, id, instanceType string, slot int, now time.Time) *Instance {
	return &Instance{
		ID: id, Slot: slot, Type: instanceType, Created: now,
		pool: pool, affinityName: fmt.Sprint(slot), index: -1, drained: make(chan struct{}),
	}
}

// Serve puts a healthy worker behind the instance and lets it take requests.
func (in *Instance) Serve(w Worker, now time.Time) {
	in.worker, in.started = w, now
	in.models, _ = w.(ModelHost)
	h, ok := w.(*HTTPWorker)
	in.inline = ok && h.cfg.TLS == nil // an event loop has no connections with TLS
	in.state.Store(int32(InService))
	in.pool.join(in)
}

// Allocate puts an instance into service that takes no requests itself: copies of
// inference components do that on it.
func (in *Instance) Allocate() { in.state.Store(int32(InService)) }

// Release marks an allocated instance as one whose copies are leaving it.
func (in *Instance) Release() {
	in.state.CompareAndSwap(int32(InService), int32(Draining))
}

// Drain sends the instance no more requests and waits until it has answered
// those that it has, or ctx ends. A Pending instance has none.
func (in *Instance) Drain(ctx context.Context) {
	if !in.state.CompareAndSwap(int32(InService), int32(Draining)) {
		return
	}
	in.told.Store(true)
	in.pool.leave(in)
	select {
	case <-in.drained:
	case <-ctx.Done():
	}
}

// Retire marks the instance as gone, after its worker has stopped. An instance
// whose worker died on its own leaves its pool here.
func (in *Instance) Retire() {
	if State(in.state.Swap(int32(Stopped))) == InService {
		in.pool.leave(in)
	}
}

// Worker is nil while the instance is Pending.
func (in *Instance) Worker() Worker {
	if in.State() == Pending {
		return nil
	}
	return in.worker
}

// State is where the instance stands now.
func (in *Instance) State() State { return State(in.state.Load()) }

// InstanceStatus is an instance as the admin route shows it.
type InstanceStatus struct {
	InstanceID   string     `json:"instance_id"`
	Slot         int        `json:"slot"`
	InstanceType string     `json:"instance_type"`
	Host         string     `json:"host,omitempty"`
	Component    string     `json:"inference_component,omitempty"`
	Kind         string     `json:"kind,omitempty"`
	Address      string     `json:"address,omitempty"`
	State        string     `json:"state"`
	InFlight     int        `json:"in_flight"`
	Invocations  int64      `json:"invocations"`
	Errors       int64      `json:"errors"`
	Created      time.Time  `json:"created"`
	Started      *time.Time `json:"started,omitempty"`
	// Models is what an instance of a multi-model endpoint holds.
	Models *ModelStatus `json:"models,omitempty"`
}

// Status is a reading of the instance's accounts.
func (in *Instance) Status() InstanceStatus {
	s := InstanceStatus{
		InstanceID: in.ID, Slot: in.Slot, InstanceType: in.Type, Host: in.Host, Component: in.Component,
		State: in.State().String(), InFlight: in.pool.outstanding(in),
		Invocations: in.invocations.Load(), Errors: in.errors.Load(),
		Created: in.Created,
	}
	if w := in.Worker(); w != nil {
		s.Kind, s.Address = w.Kind(), w.Address()
		started := in.started
		s.Started = &started
		if in.models != nil {
			models := in.models.Models()
			s.Models = &models
		}
	}
	return s
}
