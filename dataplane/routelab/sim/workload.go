// Package sim compares routing strategies in virtual time: discrete events over
// the very Router functions and counts that serve invocations, a model of the
// worker, and closed or open loops of requests. A seed fixes every result.
package sim

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/goccy/go-yaml"
)

// Workload is who asks, what the instances are, and what a request costs them.
type Workload struct {
	Name        string `yaml:"name"`
	Description string `yaml:"description,omitempty"`
	// Sizes are simulated one after the other, each with every strategy.
	Sizes  []Size `yaml:"sizes"`
	Load   Load   `yaml:"load,omitempty"`
	Worker Worker `yaml:"worker"`
	// Requests is the mix; each request is of one kind, drawn by weight.
	Requests []Request `yaml:"requests"`
	// Prefixes gives requests a prefix and instances a cache of them.
	Prefixes *Prefixes `yaml:"prefixes,omitempty"`
	// Instances makes some differ from Worker; the rest is as Worker says.
	Instances []Kind    `yaml:"instances,omitempty"`
	Failures  *Failures `yaml:"failures,omitempty"`
	Routing   Routing   `yaml:"routing,omitempty"`
}

// Size is a number of instances, 1 to 1,000,000, and of users.
type Size struct {
	Instances int `yaml:"instances"`
	Users     int `yaml:"users,omitempty"` // of a closed loop
}

// Load is how requests arrive: a closed loop unless one of Poisson, Constant and
// Trace is set.
type Load struct {
	// Think is a user's pause between an answer and the next request.
	Think Distribution `yaml:"think,omitempty"`
	// Poisson and Constant are open loops: arrivals per second and instance.
	Poisson  float64 `yaml:"poisson,omitempty"`
	Constant float64 `yaml:"constant,omitempty"`
	// Trace is a file of recorded arrivals, see ReadRecords; a relative path is
	// taken from the working directory.
	Trace string `yaml:"trace,omitempty"`

	arrivals []arrival
	pins     []int32 // instances that a closed loop's requests must go to, in turn
}

// arrival is one of a trace.
type arrival struct {
	at       float64
	instance int32 // that must take it; -1: as the router says
}

// Worker is the model of an instance, in the terms of the simulated worker
// (package simulated).
type Worker struct {
	// Concurrency is how many requests run at once, 0 for all of them. Queue is
	// how many more may wait; 0 means 100, as for the simulated worker, -1 any
	// number. One that finds the queue full is refused.
	Concurrency int `yaml:"concurrency"`
	Queue       int `yaml:"queue,omitempty"`
	// Contention α: n running requests each run at speed 1/(1+α(n−1)). 0 to 1000.
	Contention float64 `yaml:"contention"`
}

// Request is a kind of request. Its work is how long it takes on an instance of
// speed 1 that runs nothing else: Latency, or, for one that streams, the time to
// the first token and then the tokens at their pace.
type Request struct {
	Weight  float64      `yaml:"weight,omitempty"` // relative; 0 means 1
	Latency Distribution `yaml:"latency,omitempty"`
	Stream  *Stream      `yaml:"stream,omitempty"`
}

// Stream is an answer of tokens.
type Stream struct {
	FirstToken      Distribution `yaml:"first_token"`       // seconds
	Tokens          Distribution `yaml:"tokens"`            // number after the first
	TokensPerSecond float64      `yaml:"tokens_per_second"` // of one request alone
}

// Prefixes is what requests begin with, and the instances' caches of it. A hit
// takes Saving off the time to the first token, or off the whole work of a
// request that does not stream.
type Prefixes struct {
	Distinct int     `yaml:"distinct"` // 1 to 10,000,000
	Zipf     float64 `yaml:"zipf"`     // exponent of popularity; 0: all equal
	Cache    int     `yaml:"cache"`    // prefixes that an instance holds, least recently used out first
	Saving   float64 `yaml:"saving"`   // 0 to 1
}

// Kind is instances that are not as Worker says: Count of them, or a Share of
// all (rounded).
type Kind struct {
	Count       int     `yaml:"count,omitempty"`
	Share       float64 `yaml:"share,omitempty"`
	Speed       float64 `yaml:"speed,omitempty"`       // relative; 0 means 1
	Concurrency int     `yaml:"concurrency,omitempty"` // 0: as Worker
}

// Failures is instances that die with all they have and come back, each on its
// own: exponential times to failure and constant repairs, in seconds.
type Failures struct {
	Between Quantity `yaml:"between"` // mean
	Lasting Quantity `yaml:"lasting"`
}

// Routing is the strategies' parameters.
type Routing struct {
	// ConcurrencyThreshold is PREFIX_AWARE's; 0 means 8.
	ConcurrencyThreshold int `yaml:"concurrency_threshold,omitempty"`
	// Stale is how often STALE_LEAST_OUTSTANDING learns the counts; 0 means 1 s.
	Stale Quantity `yaml:"stale,omitempty"`
}

const (
	defaultQueue     = 100 // the simulated worker's, and TorchServe's
	defaultThreshold = 8
	defaultStale     = 1.0
	maxInstances     = 1_000_000
	maxUsers         = 10_000_000
	maxPrefixes      = 10_000_000
	maxPlaces        = 1_000_000_000 // slots of an instance, or of its queue
)

//go:embed workloads
var builtin embed.FS

// Names lists the built-in workloads.
func Names() []string {
	files, err := builtin.ReadDir("workloads")
	if err != nil {
		panic(err) // the folder is part of the binary
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = strings.TrimSuffix(f.Name(), ".yaml")
	}
	return names
}

// Builtin is the built-in workload of that name.
func Builtin(name string) (*Workload, error) {
	text, err := builtin.ReadFile(path.Join("workloads", path.Base(name)+".yaml"))
	if err != nil {
		return nil, fmt.Errorf("workload %q is neither a file nor one of %s", name, strings.Join(Names(), ", "))
	}
	return Parse(text)
}

// Parse reads a workload in YAML. An error names the line.
func Parse(text []byte) (*Workload, error) {
	w := new(Workload)
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(w); errors.Is(err, io.EOF) {
		return nil, errors.New("the workload is empty")
	} else if err != nil {
		return nil, err
	}
	if err := w.Validate(); err != nil {
		return nil, err
	}
	return w, nil
}

// Open tells whether requests arrive whether or not earlier ones were answered.
func (l *Load) Open() bool {
	return l.Poisson > 0 || l.Constant > 0 || l.Trace != "" || l.arrivals != nil
}

// Streams tells whether any request answers in tokens.
func (w *Workload) Streams() bool {
	for _, r := range w.Requests {
		if r.Stream != nil {
			return true
		}
	}
	return false
}

// Validate tells the first thing that is wrong.
func (w *Workload) Validate() error {
	if w.Name == "" {
		return errors.New("name is missing")
	}
	if len(w.Sizes) == 0 {
		return errors.New("sizes is empty")
	}
	if err := w.Load.validate(); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	for i, s := range w.Sizes {
		if err := s.validate(w.Load.Open()); err != nil {
			return fmt.Errorf("sizes[%d]: %w", i, err)
		}
		if _, err := w.fleet(s.Instances); err != nil {
			return fmt.Errorf("sizes[%d]: %w", i, err)
		}
	}
	if err := w.Worker.validate(); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	if len(w.Requests) == 0 {
		return errors.New("requests is empty")
	}
	for i := range w.Requests {
		if err := w.Requests[i].validate(); err != nil {
			return fmt.Errorf("requests[%d]: %w", i, err)
		}
	}
	return w.validateExtras()
}

func (w *Workload) validateExtras() error {
	for i, k := range w.Instances {
		switch {
		case k.Count < 0 || k.Share < 0 || k.Share > 1 || (k.Count > 0) == (k.Share > 0):
			return fmt.Errorf("instances[%d]: give either count (above 0) or share (up to 1)", i)
		case !(k.Speed >= 0 && k.Speed <= 1000) || k.Concurrency < 0 || k.Concurrency > maxPlaces:
			return fmt.Errorf("instances[%d]: speed is within 0 to 1000 and concurrency within 0 to %d", i, maxPlaces)
		}
	}
	if p := w.Prefixes; p != nil {
		switch {
		case p.Distinct < 1 || p.Distinct > maxPrefixes:
			return fmt.Errorf("prefixes: distinct %d is not within 1 to %d", p.Distinct, maxPrefixes)
		case !(p.Zipf >= 0 && p.Zipf <= 10):
			return fmt.Errorf("prefixes: zipf %v is not within 0 to 10", p.Zipf)
		case p.Cache < 1 || p.Cache > maxPrefixes:
			return fmt.Errorf("prefixes: cache %d is not within 1 to %d", p.Cache, maxPrefixes)
		case !(p.Saving >= 0 && p.Saving <= 1):
			return fmt.Errorf("prefixes: saving %v is not within 0 to 1", p.Saving)
		}
	}
	if f := w.Failures; f != nil && !(f.Between > 0 && f.Lasting > 0 && f.Between <= maxQuantity && f.Lasting <= maxQuantity) {
		return fmt.Errorf("failures: between and lasting are above 0 and up to %g seconds", float64(maxQuantity))
	}
	if w.Routing.ConcurrencyThreshold < 0 || !(w.Routing.Stale >= 0) {
		return errors.New("routing: concurrency_threshold and stale are not negative")
	}
	return nil
}

func (s Size) validate(open bool) error {
	switch {
	case s.Instances < 1 || s.Instances > maxInstances:
		return fmt.Errorf("instances %d is not within 1 to %d", s.Instances, maxInstances)
	case !open && (s.Users < 1 || s.Users > maxUsers):
		return fmt.Errorf("users %d is not within 1 to %d, which a closed loop needs", s.Users, maxUsers)
	case open && s.Users != 0:
		return errors.New("users belongs to a closed loop, but load gives arrivals")
	}
	return nil
}

func (l *Load) validate() error {
	given := 0
	for _, yes := range []bool{l.Poisson != 0, l.Constant != 0, l.Trace != ""} {
		if yes {
			given++
		}
	}
	switch {
	case given > 1:
		return errors.New("poisson, constant and trace exclude each other")
	case !(l.Poisson >= 0 && l.Poisson <= maxQuantity) || !(l.Constant >= 0 && l.Constant <= maxQuantity):
		return fmt.Errorf("a rate is within 0 to %g per second", float64(maxQuantity))
	}
	if err := l.Think.validate(); err != nil {
		return fmt.Errorf("think: %w", err)
	}
	return nil
}

func (w *Worker) validate() error {
	switch {
	case w.Concurrency < 0 || w.Concurrency > maxPlaces:
		return fmt.Errorf("concurrency %d is not within 0 to %d", w.Concurrency, maxPlaces)
	case w.Queue < -1 || w.Queue > maxPlaces:
		return fmt.Errorf("queue %d is not within -1 to %d", w.Queue, maxPlaces)
	case !(w.Contention >= 0 && w.Contention <= 1000): // also catches NaN
		return fmt.Errorf("contention %v is not within 0 to 1000", w.Contention)
	}
	return nil
}

func (r *Request) validate() error {
	if !(r.Weight >= 0 && r.Weight <= maxQuantity) {
		return fmt.Errorf("weight %v is not within 0 to %g", r.Weight, float64(maxQuantity))
	}
	if r.Stream == nil {
		if err := r.Latency.validate(); err != nil {
			return fmt.Errorf("latency: %w", err)
		}
		if r.Latency.Average() <= 0 {
			return errors.New("latency: the mean is above 0")
		}
		return nil
	}
	if r.Latency.Mean != 0 || r.Latency.Kind != "" {
		return errors.New("latency and stream exclude each other")
	}
	if err := r.Stream.FirstToken.validate(); err != nil {
		return fmt.Errorf("stream: first_token: %w", err)
	}
	if err := r.Stream.Tokens.validate(); err != nil {
		return fmt.Errorf("stream: tokens: %w", err)
	}
	if !(r.Stream.TokensPerSecond > 0) {
		return errors.New("stream: tokens_per_second is above 0")
	}
	if r.work() <= 0 {
		return errors.New("stream: the mean work is above 0")
	}
	return nil
}

// work is the mean, in seconds.
func (r *Request) work() float64 {
	if r.Stream == nil {
		return r.Latency.Average()
	}
	return r.Stream.FirstToken.Average() + r.Stream.Tokens.Average()/r.Stream.TokensPerSecond
}

func (r *Request) weight() float64 {
	if r.Weight == 0 {
		return 1
	}
	return r.Weight
}

// MeanWork is the mean of all requests' work in seconds, without cache hits.
func (w *Workload) MeanWork() float64 {
	sum, weights := 0.0, 0.0
	for i := range w.Requests {
		sum += w.Requests[i].weight() * w.Requests[i].work()
		weights += w.Requests[i].weight()
	}
	return sum / weights
}

// shape is what one instance is.
type shape struct {
	speed float64
	slots int32 // 0: unlimited
}

// fleet is the shapes of n instances: the kinds in their order, the rest as the
// worker.
func (w *Workload) fleet(n int) ([]shape, error) {
	shapes := make([]shape, 0, n)
	for _, k := range w.Instances {
		count := k.Count
		if count == 0 {
			count = int(k.Share*float64(n) + 0.5)
		}
		s := shape{speed: k.Speed, slots: int32(k.Concurrency)}
		if s.speed == 0 {
			s.speed = 1
		}
		if s.slots == 0 {
			s.slots = int32(w.Worker.Concurrency)
		}
		if len(shapes)+count > n {
			return nil, fmt.Errorf("instances describes more than the %d that there are", n)
		}
		for range count {
			shapes = append(shapes, s)
		}
	}
	for len(shapes) < n {
		shapes = append(shapes, shape{speed: 1, slots: int32(w.Worker.Concurrency)})
	}
	return shapes, nil
}
