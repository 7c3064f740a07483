package dataplane

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// ErrNoInstance: the variant has no instance in service at this moment.
var ErrNoInstance = errors.New("no instance is in service")

// Routing is a variant's RoutingConfig, resolved.
type Routing struct {
	// Strategy is AWS's name; empty means RANDOM.
	Strategy string
	// PrefixLength (bytes) and ConcurrencyThreshold (requests per instance) are
	// for PREFIX_AWARE only.
	PrefixLength         int
	ConcurrencyThreshold int
}

// Effective is AWS's name of the strategy that acts.
func (r Routing) Effective() string {
	if r.Strategy == "" {
		return StrategyRandom
	}
	return r.Strategy
}

// AWS's names of the strategies.
const (
	StrategyRandom           = "RANDOM"
	StrategyLeastOutstanding = "LEAST_OUTSTANDING_REQUESTS"
	StrategyPrefixAware      = "PREFIX_AWARE"
)

// Pool is the instances of one variant that take requests, and the router that
// chooses among them. To pick and to count are one step under its lock, so two
// requests never see the same idle instance; the lock is never held while a
// request is under way.
type Pool struct {
	routing    Routing
	serverless *Serverless         // nil for a variant with instances
	tap        atomic.Pointer[Tap] // nil when nothing is copied

	mu      sync.Mutex
	src     *rand.Rand
	route   Router
	load    Outstanding
	members []*Instance // by index in load
	homes   Affinity    // of members; for PREFIX_AWARE
	stale   bool        // members changed since homes was built

	models modelHolders // of members; for requests with TargetModel
}

// NewPool makes an empty pool. The seed makes its random choices repeatable.
func NewPool(routing Routing, seed uint64) (*Pool, error) {
	p := &Pool{routing: routing, src: rand.New(rand.NewPCG(seed, mix(seed)))}
	switch routing.Effective() {
	case StrategyRandom:
		p.route = Random
	case StrategyLeastOutstanding:
		p.route = LeastOutstanding
	case StrategyPrefixAware:
		p.route = PrefixAware(&p.homes, routing.ConcurrencyThreshold)
	default:
		return nil, fmt.Errorf("routing strategy %q is not known", routing.Strategy)
	}
	return p, nil
}

// Routing is what the pool was made with.
func (p *Pool) Routing() Routing { return p.routing }

// Len is the number of instances that take requests.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.members)
}

// Invoke picks an instance, counts the request as outstanding, passes it on, and
// takes it off the count again however the invocation ends.
func (p *Pool) Invoke(ctx context.Context, req *Request, ans *Answer) (*Instance, error) {
	if p.serverless != nil {
		req.Strand.Leave()
		return p.serverless.invoke(ctx, req, ans)
	}
	if req.TargetModel != "" {
		req.Strand.Leave()
		return p.invokeModel(ctx, req, ans)
	}
	in, err := p.acquire(p.affinity(req), req.PerInstance)
	if err != nil {
		return nil, err
	}
	defer p.release(in)
	return in, in.invoke(ctx, req, ans)
}

func (in *Instance) invoke(ctx context.Context, req *Request, ans *Answer) error {
	in.invocations.Add(1)
	ans.instance = in
	err := in.answer(ctx, req, ans)
	if err != nil || ans.StatusCode/100 != 2 {
		in.errors.Add(1)
	}
	return err
}

func (p *Pool) affinity(req *Request) uint64 {
	if p.routing.Strategy != StrategyPrefixAware {
		return 0
	}
	return AffinityKey(req.Body, p.routing.PrefixLength, req.PrefixAwareID)
}

// acquire counts a request on the instance that it goes to. limit, unless it is 0,
// is how many an instance may have: what the strategy would send to a full one
// goes to the least busy.
func (p *Pool) acquire(key uint64, limit int) (*Instance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.members) == 0 {
		return nil, ErrNoInstance
	}
	if p.stale && key != 0 {
		p.rebuildHomes()
	}
	i := p.route(p.src, &p.load, key)
	if limit > 0 && p.load.Count(i) >= limit {
		if i = LeastOutstanding(p.src, &p.load, 0); p.load.Count(i) >= limit {
			return nil, ErrBusy
		}
	}
	p.load.Add(i)
	return p.members[i], nil
}

func (p *Pool) rebuildHomes() {
	names := make([]string, len(p.members))
	for i, in := range p.members {
		names[i] = in.affinityName
	}
	p.homes = *NewAffinity(names)
	p.stale = false
}

func (p *Pool) release(in *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in.index >= 0 {
		p.load.Done(in.index)
		return
	}
	if in.leaving--; in.leaving == 0 {
		close(in.drained)
	}
}

// join lets an instance take requests.
func (p *Pool) join(in *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in.index = p.load.Join(0)
	p.members = append(p.members, in)
	p.stale = true
	if p.serverless != nil {
		p.serverless.joined(in)
	}
}

// leave sends the instance no further requests. Its drained channel is closed
// when the last of those that it has was answered.
func (p *Pool) leave(in *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in.index < 0 {
		return
	}
	in.leaving = p.load.Count(in.index)
	last := len(p.members) - 1
	p.load.Leave(in.index)
	p.members[in.index] = p.members[last]
	p.members[in.index].index = in.index
	p.members[last] = nil
	p.members = p.members[:last]
	in.index = -1
	p.stale = true
	if in.leaving == 0 {
		close(in.drained)
	}
}

func (p *Pool) outstanding(in *Instance) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in.index >= 0 {
		return p.load.Count(in.index)
	}
	return in.leaving
}
