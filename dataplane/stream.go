package dataplane

import (
	"context"
	"errors"
	"io"
)

// Sink takes an answer as it comes. Its methods are called by one goroutine at a
// time; when one returns an error the worker gives up and returns that error.
type Sink interface {
	// Begin says what the answer is: all of head but its Body. It is called once
	// and before anything else.
	Begin(head *Answer) error
	// Write takes what the worker sent as one piece, as far as that can be told:
	// one chunk of an HTTP answer. It keeps nothing of p, and blocks while the
	// caller does not read, which in the end makes the worker wait.
	io.Writer
	// Flush is called before the worker waits for more, so that many pieces that
	// came together can leave together.
	Flush() error
}

// ChatCompletionsPath is a container's path for OpenAI's API (docs:
// realtime-endpoints-openai-compatible).
const ChatCompletionsPath = "/v1/chat/completions"

// stream is where Fleet.InvokeStream lets an answer go.
type stream struct {
	Sink
	ans    *Answer
	route  *Route
	caller Peer // of a bidirectional stream, which has no Sink
}

// Begin notes the status for the instance's accounts.
func (s *stream) Begin(head *Answer) error {
	s.ans.StatusCode, s.ans.Container, s.ans.ClosedSession = head.StatusCode, head.Container, head.ClosedSession
	return s.Sink.Begin(head)
}

// routed tells a stream which way its request went, so that the way is known
// before the answer begins.
func (a *Answer) routed(route Route) {
	if a.stream != nil {
		*a.stream.route = route
	}
}

// answer lets the worker answer, and copies what the pool's tap is for.
func (in *Instance) answer(ctx context.Context, req *Request, ans *Answer) error {
	if ans.stream != nil && ans.stream.caller != nil {
		return in.converse(ctx, req, ans)
	}
	if t := in.pool.tap.Load(); t != nil {
		return t.answer(ctx, in, req, ans)
	}
	return in.pass(ctx, req, ans)
}

// pass lets the worker answer, unless a fault does.
func (in *Instance) pass(ctx context.Context, req *Request, ans *Answer) error {
	if req.fault != nil {
		req.Strand.Leave()
		return req.fault.act(ctx, in, req, ans)
	}
	return in.respond(ctx, req, ans)
}

// respond lets the worker answer, as a whole or as it comes.
func (in *Instance) respond(ctx context.Context, req *Request, ans *Answer) error {
	if ans.stream == nil {
		if ans.inline = in.inline; !in.inline {
			req.Strand.Leave()
		}
		return in.worker.Invoke(ctx, req, ans)
	}
	ans.stream.route.Instance = in.ID
	err := in.worker.Stream(ctx, req, ans.stream)
	if of := (*ContainerError)(nil); errors.As(err, &of) {
		ans.Container = of.Container
	}
	return err
}

// InvokeStream is Invoke for an answer that is passed on as it comes. The route
// is as far as the request came, and complete before the answer begins. The
// request is outstanding until InvokeStream returns: AWS counts a stream up to
// its last byte (docs: endpoint-auto-scaling-add-code-define). An error status
// of the container is not an error: it stands in what Begin gets.
func (f *Fleet) InvokeStream(ctx context.Context, key Key, req *Request, route *Route, to Sink) error {
	var ans Answer
	ans.stream = &stream{Sink: to, ans: &ans, route: route}
	way, err := f.Invoke(ctx, key, req, &ans)
	*route = way
	if err != nil || way.Instance != ScriptedInstance {
		return err
	}
	return ans.PassOn(to)
}

// PassOn gives a whole answer to a sink, as one piece.
func (a *Answer) PassOn(to Sink) error {
	if err := to.Begin(a); err != nil || len(a.Body) == 0 {
		return err
	}
	_, err := to.Write(a.Body)
	return err
}
