package dataplane

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
)

// Tap is what the requests of a pool are copied to beside the instance that
// answers them. The caller waits for the copy in memory and for nothing else.
type Tap struct {
	Variant string // that the requests are for
	// Shadow takes ShadowRate of the requests, from 0 to 1; nil without one.
	Shadow     *Shadow
	ShadowRate float64
	Capture    *Capture // nil without data capture
}

// SetTap lets the pool's requests be copied from now on; nil ends that.
func (p *Pool) SetTap(t *Tap) { p.tap.Store(t) }

// Tap is what SetTap has set.
func (p *Pool) Tap() *Tap { return p.tap.Load() }

// answer is the instance's answer with the copies that are due.
func (t *Tap) answer(ctx context.Context, in *Instance, req *Request, ans *Answer) error {
	leaveToCopy(req, req.Body)
	if t.Shadow != nil {
		t.Shadow.offer(req, t.ShadowRate, ans.stream != nil)
	}
	if t.Capture == nil || !t.Capture.samples() {
		return in.pass(ctx, req, ans)
	}
	return t.Capture.observe(ctx, in, t.Variant, req, ans)
}

// inlineCopy is the largest body that is copied on an event loop, whose other
// connections wait meanwhile: some 100 µs.
const inlineCopy = 256 << 10

// leaveToCopy takes the request off its loop if the body is a large one.
func leaveToCopy(req *Request, body []byte) {
	if len(body) > inlineCopy {
		req.Strand.Leave()
	}
}

// sampler draws which requests are copied.
type sampler struct {
	mu  sync.Mutex
	src *rand.Rand
}

func newSampler(seed uint64) sampler {
	return sampler{src: rand.New(rand.NewPCG(seed, mix(seed)))}
}

// take is true of a part of its calls; all and none need no draw.
func (s *sampler) take(rate float64) bool {
	if rate <= 0 || rate >= 1 {
		return rate >= 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.src.Float64() < rate
}

// clone is a request that shares no memory with the connection's.
func (r *Request) clone() Request {
	c := *r
	for _, text := range []*string{
		&c.Path, &c.ContentType, &c.Accept, &c.CustomAttributes, &c.InferenceID, &c.PrefixAwareID,
		&c.TargetVariant, &c.TargetContainer, &c.TargetModel, &c.InferenceComponentName, &c.Adapter,
	} {
		*text = strings.Clone(*text)
	}
	c.fault = nil
	c.Strand = nil   // it is another goroutine that will invoke
	c.SessionID = "" // the session is with the instance that has it
	c.Body = append([]byte(nil), r.Body...)
	return c
}
