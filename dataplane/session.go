package dataplane

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// NewSession is the SessionId that asks for a stateful session (AWS page:
// API_runtime_InvokeEndpoint).
const NewSession = "NEW_SESSION"

var (
	// ErrNoSession: the session was never begun, has expired, was closed, or went
	// with its instance.
	ErrNoSession = errors.New("session not found")
	// ErrSessionOfStream: a stream can only go on with a session (docs:
	// stateful-sessions).
	ErrSessionOfStream = errors.New("a stream cannot begin a session")
)

const (
	// maxSessions bounds an endpoint's sessions; the next to expire makes room.
	maxSessions = 10_000
	// defaultSession is how long a session lasts when the container does not say.
	defaultSession = time.Hour
)

// sessions are an endpoint's stateful sessions: which instance has each, and
// until when. They are as true as the instances' memory, and go with them.
type sessions struct {
	mu   sync.Mutex
	byID map[string]session
}

type session struct {
	instance *Instance
	route    Route
	expires  time.Time
}

// invokeSession sends a request with a SessionId where its session is, or begins
// one on the instance that the routing strategy chooses.
func (e *Endpoint) invokeSession(ctx context.Context, req *Request, ans *Answer) (Route, error) {
	if req.SessionID == NewSession {
		if ans.stream != nil {
			return Route{}, ErrSessionOfStream
		}
		route, err := e.route(ctx, req, ans)
		if err == nil && ans.NewSession != "" && ans.instance != nil {
			e.sessions.begin(ans.NewSession, session{ans.instance, route, time.Time{}}, time.Now())
		}
		return route, err
	}
	s, ok := e.sessions.find(req.SessionID, time.Now())
	now := e.Snapshot() // it has the session's instance, if any has
	if err := now.takesSession(req); err != nil {
		return Route{}, err
	}
	if !ok {
		return Route{}, ErrNoSession
	}
	route, err := now.sessionRoute(req, &s)
	ans.routed(route)
	if err != nil {
		return route, err
	}
	if scripted, err := e.responses.Load().answer(ctx, req, ans); scripted {
		route.Instance = ScriptedInstance
		return route, err
	}
	if !s.instance.pool.acquireMember(s.instance) {
		return Route{}, ErrNoSession
	}
	defer s.instance.pool.release(s.instance)
	err = s.instance.invoke(ctx, req, ans)
	if ans.ClosedSession != "" {
		e.sessions.end(ans.ClosedSession)
	}
	if ans.Container != "" {
		route.Container = ans.Container
	}
	return route, err
}

// takesSession refuses what no session of the endpoint can be asked for.
func (s *Snapshot) takesSession(req *Request) error {
	switch {
	case !s.Serving:
		return ErrNoEndpoint
	case s.Async != nil:
		return ErrAsyncOnly
	case s.HostsComponents:
		return refuseTargets(req)
	case req.InferenceComponentName != "":
		return ErrComponentNotAllowed
	}
	return nil
}

// sessionRoute holds a request against the variant or the component that its
// session is with: its other members count as they do without a session.
func (s *Snapshot) sessionRoute(req *Request, of *session) (Route, error) {
	if s.HostsComponents {
		c, err := s.component(req)
		if err == nil && (of.route.Component == nil || of.route.Component.Name != c.Name) {
			err = ErrNoSession
		}
		if err != nil {
			return Route{Component: c}, err
		}
		req.Adapter = c.Adapter
		route := of.route
		route.Component = c
		return route, nil
	}
	if target := req.TargetVariant; target != "" && target != of.route.Variant {
		if s.named(target) == nil {
			return Route{}, ErrNoVariant
		}
		return Route{}, ErrNoSession
	}
	route := of.route
	for i := range s.Variants {
		v := &s.Variants[i]
		if v.Pool != of.instance.pool {
			continue
		}
		container, err := v.admit(req)
		route.Container = container
		return route, err
	}
	return route, ErrNoSession // its fleet has gone
}

// begin notes a session that a container has announced as "<id>; Expires=<time>".
func (s *sessions) begin(announced string, of session, now time.Time) {
	id, rest, _ := strings.Cut(announced, ";")
	if id = strings.TrimSpace(id); id == "" {
		return
	}
	of.expires = now.Add(defaultSession)
	if _, at, ok := strings.Cut(rest, "Expires="); ok {
		if t, err := time.Parse(time.RFC3339, strings.TrimSpace(at)); err == nil {
			of.expires = t
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[string]session{}
	}
	if len(s.byID) >= maxSessions {
		s.makeRoom(now)
	}
	s.byID[strings.Clone(id)] = of
}

// makeRoom forgets the sessions that are over, or else the next one to be.
func (s *sessions) makeRoom(now time.Time) {
	next := ""
	for id, of := range s.byID {
		switch {
		case of.over(now):
			delete(s.byID, id)
		case next == "" || of.expires.Before(s.byID[next].expires):
			next = id
		}
	}
	if len(s.byID) >= maxSessions {
		delete(s.byID, next)
	}
}

func (of *session) over(now time.Time) bool {
	return !now.Before(of.expires) || of.instance.State() != InService
}

// find is the session of an id, unless it is over.
func (s *sessions) find(id string, now time.Time) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, ok := s.byID[id]
	if ok && of.over(now) {
		delete(s.byID, id)
		return session{}, false
	}
	return of, ok
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, id)
}

// acquireMember counts a request on one instance, whatever the strategy; false
// when it takes none any more.
func (p *Pool) acquireMember(in *Instance) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in.index < 0 {
		return false
	}
	p.load.Add(in.index)
	return true
}
