package api

import (
	"context"
	"sync"
)

// callerContext is the context of a connection's invocations.
type callerContext struct {
	context.Context
	end context.CancelFunc

	mu   sync.Mutex
	f    func() // to call when the context ends; nil for none
	stop func() bool
}

func newCallerContext(base context.Context) *callerContext {
	c := new(callerContext)
	c.Context, c.end = context.WithCancel(base)
	c.stop = c.forget
	context.AfterFunc(c.Context, c.call)
	return c
}

// AfterFunc is context.AfterFunc without its allocations, which would be all
// that an invocation makes, for one function at a time: stop has to be called,
// once, before the next.
func (c *callerContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// When Err is nil, call has not begun and will find f.
	if c.f == nil && c.Err() == nil {
		c.f = f
		return c.stop
	}
	return context.AfterFunc(c.Context, f)
}

// forget is the stop of AfterFunc: false if the function has been called.
func (c *callerContext) forget() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := c.f != nil
	c.f = nil
	return waiting
}

func (c *callerContext) call() {
	c.mu.Lock()
	f := c.f
	c.f = nil
	c.mu.Unlock()
	if f != nil {
		f()
	}
}
