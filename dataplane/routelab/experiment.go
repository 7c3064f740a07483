package routelab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Subject is one of the endpoints that an Experiment compares.
type Subject struct {
	Strategy  string // its name in the results, usually its RoutingStrategy
	Target    Target
	Instances int // behind it; 0 when unknown
	// Fleet reads how many requests each instance has not answered yet; nil when
	// the endpoint's server does not tell.
	Fleet func(ctx context.Context) (map[string]int, error)
}

// Experiment gives the same load to every subject, again and again.
type Experiment struct {
	Load        Load
	Subjects    []Subject
	Repetitions int // at least 1

	Observe func(Sample)                     // every measured request, one at a time; may be nil
	Begun   func(run, of int, rec *Recorder) // before each run; may be nil
	Ended   func(run, of int, result *Run)   // after each run; may be nil
}

// Run measures all repetitions, interleaved: each repetition runs every subject
// once, in an order that turns, so that slow drifts of the machine meet all alike.
// Within a repetition all subjects get the same arrivals and bodies. When ctx ends
// it returns what it has.
func (e *Experiment) Run(ctx context.Context) ([]*Run, error) {
	if err := e.Load.Validate(); err != nil {
		return nil, err
	}
	if len(e.Subjects) == 0 || e.Repetitions < 1 {
		return nil, errors.New("nothing to run")
	}
	names := map[string]bool{}
	for _, s := range e.Subjects {
		if names[s.Strategy] {
			return nil, fmt.Errorf("%s twice", s.Strategy)
		}
		names[s.Strategy] = true
	}
	var runs []*Run
	of := e.Repetitions * len(e.Subjects)
	for repetition := range e.Repetitions {
		for _, i := range turn(len(e.Subjects), repetition) {
			select {
			case <-ctx.Done():
				return runs, nil
			default:
			}
			runs = append(runs, e.one(ctx, e.Subjects[i], repetition, len(runs), of))
		}
	}
	return runs, nil
}

func (e *Experiment) one(ctx context.Context, s Subject, repetition, done, of int) *Run {
	load := e.Load
	load.Seed += uint64(repetition)
	rec := newRecorder(Run{Strategy: s.Strategy, Repetition: repetition + 1, Instances: s.Instances}, e.Observe)
	if e.Begun != nil {
		e.Begun(done+1, of, rec)
	}
	watched := watchFleet(ctx, s, rec)
	load.drive(ctx, s.Target, rec)
	watched()
	result := rec.result()
	if e.Ended != nil {
		e.Ended(done+1, of, result)
	}
	return result
}

// turn is the order of n subjects in a repetition: each is first in turn, and
// every second round goes backwards, so that each also follows each other one.
func turn(n, repetition int) []int {
	order := make([]int, n)
	for i := range order {
		step := i
		if repetition/n%2 == 1 {
			step = n - i
		}
		order[i] = (repetition + step) % n
	}
	return order
}

// Looks at the fleet come this often, and take at most a twentieth of the time:
// with thousands of instances the answer is long.
const (
	lookEvery = 200 * time.Millisecond
	lookShare = 20
)

// watchFleet looks at the fleet until the returned function is called. It gives up
// at the first error: a server that does not tell once never does.
func watchFleet(ctx context.Context, s Subject, rec *Recorder) (stop func()) {
	if s.Fleet == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			began := time.Now()
			inFlight, err := s.Fleet(ctx)
			if err != nil {
				return
			}
			rec.fleet(inFlight)
			dataplane.Sleep(ctx, max(lookEvery, lookShare*time.Since(began)))
		}
	}()
	return func() { cancel(); <-done }
}
