package dataplane

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// The faults that a FaultRule can inject.
const (
	FaultLatency       = "Latency"                // the worker takes longer
	FaultModelError    = "ModelError"             // the worker answers with an error status
	FaultStreamBroken  = "StreamBroken"           // the worker's answer breaks off
	FaultInstanceCrash = "InstanceCrash"          // the worker dies with the request in hand
	FaultThrottling    = "ThrottlingException"    // AWS's own answers, before any worker is asked
	FaultInternal      = "InternalFailure"        //
	FaultUnavailable   = "ServiceUnavailable"     //
	FaultNotReady      = "ModelNotReadyException" //
)

// FaultError is an injected answer of AWS's own.
type FaultError struct {
	Code string // one of the last four faults
}

func (e *FaultError) Error() string { return "injected " + e.Code }

// FaultRule is one fault and the requests that it strikes.
type FaultRule struct {
	Fault string `json:"fault" yaml:"fault"`
	// Operation limits the rule to one of faultOperations; empty means all.
	Operation string `json:"operation,omitempty" yaml:"operation,omitempty"`
	// Rate is the share of requests that are struck, above 0 to 1; 0 means all.
	Rate float64 `json:"rate,omitempty" yaml:"rate,omitempty"`
	// Times is how often the rule strikes before it is spent; 0 means for ever.
	Times int64 `json:"times,omitempty" yaml:"times,omitempty"`

	Latency Duration `json:"latency,omitempty" yaml:"latency,omitempty"` // of Latency: "150ms"
	Status  int      `json:"status,omitempty" yaml:"status,omitempty"`   // of ModelError, 400 to 599; 0 means 500
	Body    string   `json:"body,omitempty" yaml:"body,omitempty"`       // of ModelError
	Pieces  int      `json:"pieces,omitempty" yaml:"pieces,omitempty"`   // of StreamBroken: how many are let through
}

// faultOperations are the values of Request.Operation.
var faultOperations = []string{
	"", "InvokeEndpoint", "InvokeEndpointAsync", "InvokeEndpointWithBidirectionalStream",
	"InvokeEndpointWithResponseStream", "ChatCompletions",
}

// FaultScript is an endpoint's faults. With the same seed the same requests in
// the same order are struck.
type FaultScript struct {
	Seed  uint64      `json:"seed,omitempty" yaml:"seed,omitempty"`
	Rules []FaultRule `json:"rules" yaml:"rules"`
}

// Faults is a FaultScript at work. Of the rules that strike a request, every
// Latency and the first other fault act.
type Faults struct {
	mu    sync.Mutex
	src   *rand.Rand
	rules []faultRule
}

type faultRule struct {
	FaultRule
	struck int64
}

// fault is what strikes one request on its instance.
type fault struct {
	latency time.Duration
	kind    string
	rule    *FaultRule
}

// Limits of a script.
const (
	maxFaultRules   = 100
	maxFaultLatency = Duration(time.Hour)
	maxFaultBody    = 1 << 20
)

// NewFaults checks a script.
func NewFaults(script FaultScript) (*Faults, error) {
	if len(script.Rules) > maxFaultRules {
		return nil, fmt.Errorf("%d rules, at most %d are allowed", len(script.Rules), maxFaultRules)
	}
	f := &Faults{src: rand.New(rand.NewPCG(script.Seed, mix(script.Seed)))}
	for i, rule := range script.Rules {
		if err := rule.check(); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		f.rules = append(f.rules, faultRule{FaultRule: rule})
	}
	return f, nil
}

func (r *FaultRule) check() error {
	switch r.Fault {
	case FaultLatency:
		if r.Latency <= 0 || r.Latency > maxFaultLatency {
			return fmt.Errorf("latency %v is not above 0 and at most %v", time.Duration(r.Latency), time.Duration(maxFaultLatency))
		}
	case FaultModelError, FaultStreamBroken, FaultInstanceCrash, FaultThrottling, FaultInternal, FaultUnavailable, FaultNotReady:
		if r.Latency != 0 {
			return fmt.Errorf("latency belongs to fault %s", FaultLatency)
		}
	default:
		return fmt.Errorf("fault %q is not known", r.Fault)
	}
	switch {
	case !slices.Contains(faultOperations, r.Operation):
		return fmt.Errorf("operation %q is not known", r.Operation)
	case !(r.Rate >= 0 && r.Rate <= 1): // also NaN
		return fmt.Errorf("rate %v is not within 0 to 1", r.Rate)
	case r.Times < 0 || r.Pieces < 0:
		return errors.New("times and pieces must not be negative")
	case r.Status != 0 && (r.Status < 400 || r.Status > 599):
		return fmt.Errorf("status %d is not within 400 to 599", r.Status)
	case len(r.Body) > maxFaultBody:
		return fmt.Errorf("body is longer than %d bytes", maxFaultBody)
	}
	return nil
}

// FaultStatus is a rule and how often it has struck.
type FaultStatus struct {
	FaultRule
	Struck int64 `json:"struck"`
}

// Status lists the rules.
func (f *Faults) Status() []FaultStatus {
	all := []FaultStatus{}
	if f == nil {
		return all
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.rules {
		all = append(all, FaultStatus{f.rules[i].FaultRule, f.rules[i].struck})
	}
	return all
}

// strike draws what becomes of a request: nothing, an answer of AWS's own, or a
// fault for its instance. Every rule draws for every request of its operation, so
// that one rule's luck does not depend on another's.
func (f *Faults) strike(operation string) (*fault, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var hit fault
	for i := range f.rules {
		r := &f.rules[i]
		if r.Operation != "" && r.Operation != operation {
			continue
		}
		lucky := r.Rate > 0 && r.Rate < 1 && f.src.Float64() >= r.Rate
		if lucky || r.Times > 0 && r.struck >= r.Times || r.Fault != FaultLatency && hit.kind != "" {
			continue
		}
		r.struck++
		if r.Fault == FaultLatency {
			hit.latency += time.Duration(r.Latency)
		} else {
			hit.kind, hit.rule = r.Fault, &r.FaultRule
		}
	}
	switch hit.kind {
	case FaultThrottling, FaultInternal, FaultUnavailable, FaultNotReady:
		return nil, &FaultError{hit.kind}
	case "":
		if hit.latency == 0 {
			return nil, nil
		}
	}
	return &hit, nil
}

// Faults are those in force; nil when there are none.
func (e *Endpoint) Faults() *Faults { return e.faults.Load() }

// SetFaults puts other faults into force; nil ends them.
func (e *Endpoint) SetFaults(f *Faults) { e.faults.Store(f) }

// act answers in the place of the instance, which counts the request as its own.
func (f *fault) act(ctx context.Context, in *Instance, req *Request, ans *Answer) error {
	if err := f.wait(ctx, req.Timeout); err != nil {
		return err
	}
	switch f.kind {
	case FaultModelError:
		return f.modelError(ans)
	case FaultStreamBroken:
		return f.breakOff(ctx, in, req, ans)
	case FaultInstanceCrash:
		// The worker's death is like any other: the reconciler replaces it.
		go func() { _ = in.worker.Stop(context.WithoutCancel(ctx), 0) }()
		<-in.worker.Done()
		return fmt.Errorf("injected %s: %w", FaultInstanceCrash, ErrBroken)
	}
	return in.respond(ctx, req, ans)
}

// wait takes the latency's time, or as much of it as the request has.
func (f *fault) wait(ctx context.Context, limit time.Duration) error {
	wait, late := Within(f.latency, limit)
	if !Sleep(ctx, wait) {
		return ctx.Err()
	}
	if late {
		return fmt.Errorf("injected %s: %w", FaultLatency, ErrTimeout)
	}
	return nil
}

func (f *fault) modelError(ans *Answer) error {
	ans.StatusCode, ans.ContentType, ans.CustomAttributes = 500, "text/plain", ""
	if f.rule.Status != 0 {
		ans.StatusCode = f.rule.Status
	}
	ans.Body = append(ans.Body[:0], f.rule.Body...)
	if ans.stream != nil {
		return ans.PassOn(ans.stream)
	}
	return nil
}

// breakOff lets a stream's first pieces through. Of an answer that is no stream
// nothing can be seen.
func (f *fault) breakOff(ctx context.Context, in *Instance, req *Request, ans *Answer) error {
	if ans.stream == nil {
		return fmt.Errorf("injected %s: %w", FaultStreamBroken, ErrBroken)
	}
	whole := ans.stream.Sink
	ans.stream.Sink = &brokenSink{Sink: whole, left: f.rule.Pieces}
	defer func() { ans.stream.Sink = whole }()
	if err := in.respond(ctx, req, ans); err != nil {
		return err
	}
	// The answer had fewer pieces: it breaks off at its end.
	return fmt.Errorf("injected %s: %w", FaultStreamBroken, ErrBroken)
}

// brokenSink breaks after some pieces.
type brokenSink struct {
	Sink
	left int
}

func (s *brokenSink) Write(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errors.Join(s.Flush(), fmt.Errorf("injected %s: %w", FaultStreamBroken, ErrBroken))
	}
	s.left--
	return s.Sink.Write(p)
}
