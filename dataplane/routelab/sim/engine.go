package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Run is one simulation: a workload at one size under one strategy.
type Run struct {
	Workload *Workload // valid
	Size     Size
	Strategy string
	// Seed fixes everything. Runs that differ in the strategy alone see the same
	// requests in the same order, so that their results can be compared in pairs.
	Seed uint64
	// Requests are measured, in order of arrival, after WarmUp others. The load
	// goes on until the last of them is answered, so that long ones count too.
	Requests, WarmUp int

	observe func(record Record) // told every answer to a measured request, if set
}

const (
	// errorPause is how long a user waits after an error. A user that retried at
	// once would retry for ever in no time.
	errorPause = 1.0
	// openFactor bounds an open loop that is beyond capacity: arrivals end after
	// so many times the requests that were asked for.
	openFactor = 2

	maxLatency = int64(7 * 24 * 3600 * 1e6) // µs that a histogram covers
	precision  = 3                          // significant digits of a percentile
)

// The independent random streams of a seed.
const (
	streamRouting = iota + 1
	streamDemand
	streamArrivals
	streamFailures
)

// engine is a run under way.
type engine struct {
	workload *Workload
	strategy string
	size     int // instances that the workload has
	now      float64
	events   *events
	things   things

	instances  []instance
	waiting    []ring   // by instance
	caches     []*cache // by instance; nil without prefixes
	load       *dataplane.Outstanding
	instanceOf []int32 // by member of load
	changes    int     // how often load's members changed
	route      dataplane.Router
	homes      *dataplane.Affinity // nil unless prefix-aware
	homesAt    int                 // changes when homes was built; -1: never

	routing, demand, arrivals, failures *rand.Rand

	kinds      []Request
	mix        discrete
	popularity discrete
	think      Distribution

	issued, warmUp, requests int
	left                     int // measured requests that are not answered yet

	measure measure
	observe func(Record)
}

// things numbers what events are about.
type things struct {
	users    int32 // the first; instances come before
	source   int32
	failures int32 // of instance 0
	total    int32
}

// Simulate does the run.
func (r Run) Simulate() (*Result, error) { return r.simulate(context.Background()) }

// simulate gives up when ctx ends.
func (r Run) simulate(ctx context.Context) (*Result, error) {
	e, err := r.engine()
	if err != nil {
		return nil, err
	}
	return e.result(e.run(ctx))
}

func (r Run) engine() (*engine, error) {
	w := r.Workload
	if err := CheckStrategy(r.Strategy); err != nil {
		return nil, err
	}
	if n := len(w.Load.arrivals); n > 0 {
		r.WarmUp = min(r.WarmUp, n/2)
		r.Requests = min(r.Requests, n-r.WarmUp)
	}
	if r.Requests < 1 || r.WarmUp < 0 {
		return nil, fmt.Errorf("%d requests after %d to warm up are not a measurement", r.Requests, r.WarmUp)
	}
	e := &engine{
		workload: w, strategy: r.Strategy, size: r.Size.Instances, homesAt: -1,
		routing: r.stream(streamRouting), demand: r.stream(streamDemand),
		arrivals: r.stream(streamArrivals), failures: r.stream(streamFailures),
		kinds: w.Requests, think: w.Load.Think,
		warmUp: r.WarmUp, requests: r.Requests, left: r.Requests, observe: r.observe,
	}
	weights := make([]float64, len(w.Requests))
	for i := range weights {
		weights[i] = w.Requests[i].weight()
	}
	e.mix = newDiscrete(weights)
	if w.Prefixes != nil {
		e.popularity = newDiscrete(zipf(w.Prefixes.Distinct, w.Prefixes.Zipf))
	}
	e.measure.latency = hdrhistogram.New(1, maxLatency, precision)
	if w.Streams() {
		e.measure.firstToken = hdrhistogram.New(1, maxLatency, precision)
	}
	if err := e.build(r.Size); err != nil {
		return nil, err
	}
	e.begin(r.Size)
	return e, nil
}

func (r Run) stream(n uint64) *rand.Rand { return rand.New(rand.NewPCG(r.Seed, n)) }

// build makes the instances and their counts.
func (e *engine) build(size Size) error {
	shapes, err := e.workload.fleet(size.Instances)
	if err != nil {
		return err
	}
	w := e.workload.Worker
	room := int32(w.Queue)
	if room == 0 {
		room = defaultQueue
	}
	capacity := 0
	if e.workload.Prefixes != nil {
		capacity = min(e.workload.Prefixes.Cache, e.workload.Prefixes.Distinct)
	}
	if e.strategy == CentralQueue {
		whole := &model{curve: fleetCurve(shapes, w.Contention), slots: wholeSlots(shapes), room: -1}
		if room >= 0 {
			whole.room = int32(min(int64(room)*int64(len(shapes)), math.MaxInt32))
		}
		if capacity > 0 {
			capacity = min(capacity*len(shapes), e.workload.Prefixes.Distinct)
		}
		e.instances = []instance{{model: whole}}
	} else {
		e.instances = make([]instance, len(shapes))
		models := map[shape]*model{}
		for i, s := range shapes {
			if models[s] == nil {
				models[s] = &model{speed: s.speed, contention: w.Contention, slots: s.slots, room: room}
			}
			e.instances[i].model = models[s]
		}
	}
	e.waiting = make([]ring, len(e.instances))
	e.load = new(dataplane.Outstanding)
	e.instanceOf = make([]int32, 0, len(e.instances))
	for i := range e.instances {
		if capacity > 0 {
			e.caches = append(e.caches, newCache(capacity))
		}
		e.join(int32(i))
	}
	e.route = e.router(e.strategy)
	return nil
}

// begin plans the first events.
func (e *engine) begin(size Size) {
	n := int32(len(e.instances))
	t := things{users: n, source: n + int32(size.Users)}
	t.failures = t.source + 1
	t.total = t.failures
	failing := e.workload.Failures != nil && e.strategy != CentralQueue
	if failing {
		t.total += n
	}
	e.things, e.events = t, newEvents(int(t.total))
	if failing {
		for i := range n {
			e.events.set(t.failures+i, float64(e.workload.Failures.Between)*e.failures.ExpFloat64())
		}
	}
	if e.workload.Load.Open() {
		e.nextArrival()
		return
	}
	// Users who all began at once would go on in step for a while.
	spread := e.workload.MeanWork() + e.think.Average()
	for u := t.users; u < t.source; u++ {
		e.events.set(u, spread*e.arrivals.Float64())
	}
}

// run goes from event to event until every measured request was answered.
func (e *engine) run(ctx context.Context) error {
	const stretch = 1 << 14 // events between two looks at ctx, a few milliseconds
	for e.left > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		for n := 0; n < stretch && e.left > 0; n++ {
			if !e.step() {
				return errors.New("the simulation came to a halt")
			}
		}
	}
	return nil
}

// step does the next event; false without one.
func (e *engine) step() bool {
	t, at, ok := e.events.next()
	if !ok {
		return false
	}
	e.now = at
	switch {
	case t < e.things.users:
		e.stageEnds(t)
	case t < e.things.source:
		e.events.clear(t)
		e.request(t-e.things.users, -1)
	case t == e.things.source:
		e.arrive()
	default:
		e.fail(t - e.things.failures)
	}
	return true
}
