package dataplane

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// stateful begins sessions named after itself and counts what comes.
type stateful struct {
	*blocking
	name     string
	lasts    string // what it announces behind the id
	requests int
}

func (w *stateful) Invoke(_ context.Context, req *Request, ans *Answer) error {
	w.requests++
	ans.StatusCode, ans.Body = 200, append(ans.Body[:0], w.name...)
	switch {
	case req.SessionID == NewSession:
		ans.NewSession = w.name + "-session" + w.lasts
	case string(req.Body) == "close":
		ans.ClosedSession = req.SessionID
	}
	return nil
}

// statefulFleet has three stateful instances in service.
func statefulFleet(t *testing.T, lasts string) (*Fleet, Key, []*Instance) {
	f, key, pool := NewFleet(), Key{"123456789012", "us-east-1", "e"}, testPool(t, Routing{}, 0)
	var all []*Instance
	for i := range 3 {
		name := fmt.Sprint("w", i)
		in := NewInstance(pool, "i-"+name, "ml.m5.large", i, time.Now())
		in.Serve(&stateful{newBlocking(), name, lasts, 0}, time.Now())
		all = append(all, in)
	}
	f.Publish(key, &Snapshot{Serving: true, Variants: []Variant{{Name: "a", Weight: 1, Pool: pool, Instances: all}}}, 1)
	return f, key, all
}

// ask sends one request of a session and tells which instance answered.
func ask(t *testing.T, f *Fleet, key Key, session, body string) (string, error) {
	t.Helper()
	route, err := f.Invoke(t.Context(), key, &Request{SessionID: session, Body: []byte(body)}, new(Answer))
	return route.Instance, err
}

func TestRequestsOfASessionGoToTheInstanceThatBeganIt(t *testing.T) {
	f, key, _ := statefulFleet(t, "; Expires=2199-01-01T00:00:00Z")
	begun := map[string]bool{}
	for range 40 {
		home, err := ask(t, f, key, NewSession, "")
		if err != nil {
			t.Fatal(err)
		}
		begun[home] = true
	}
	if len(begun) != 3 {
		t.Errorf("sessions began on %v, want all three instances", begun)
	}
	for range 20 {
		for i := range 3 {
			if in, err := ask(t, f, key, fmt.Sprintf("w%d-session", i), ""); err != nil || in != fmt.Sprint("i-w", i) {
				t.Fatalf("session of w%d went to %s, %v", i, in, err)
			}
		}
	}
	if n := inFlight(f.Lookup(key).Snapshot().Variants[0].Pool); n != 0 {
		t.Errorf("%d requests still counted", n)
	}
}

func TestSessionEndsWhenItsContainerClosesIt(t *testing.T) {
	f, key, _ := statefulFleet(t, "")
	home, err := ask(t, f, key, NewSession, "")
	if err != nil {
		t.Fatal(err)
	}
	session := home[len("i-"):] + "-session"
	if _, err := ask(t, f, key, session, "close"); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, f, key, session, ""); !errors.Is(err, ErrNoSession) {
		t.Errorf("after its close: %v", err)
	}
}

func TestSessionEndsWithItsInstance(t *testing.T) {
	f, key, all := statefulFleet(t, "")
	home, err := ask(t, f, key, NewSession, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range all {
		if in.ID == home {
			in.Drain(t.Context())
		}
	}
	if in, err := ask(t, f, key, home[len("i-"):]+"-session", ""); !errors.Is(err, ErrNoSession) {
		t.Errorf("the session of an instance that is gone was answered by %q, %v", in, err)
	}
}

func TestSessionExpiresWhenItsContainerSaid(t *testing.T) {
	for lasts, want := range map[string]time.Duration{
		"; Expires=2000-01-01T00:10:00Z": 10 * time.Minute, // the bubble's clock begins with 2000
		"; Expires=nonsense":             defaultSession,
		"":                               defaultSession,
	} {
		synctest.Test(t, func(t *testing.T) {
			f, key, _ := statefulFleet(t, lasts)
			home, err := ask(t, f, key, NewSession, "")
			if err != nil {
				t.Fatal(err)
			}
			session := home[len("i-"):] + "-session"
			time.Sleep(want - time.Second)
			if _, err := ask(t, f, key, session, ""); err != nil {
				t.Errorf("%q: a second before its end: %v", lasts, err)
			}
			time.Sleep(2 * time.Second)
			if _, err := ask(t, f, key, session, ""); !errors.Is(err, ErrNoSession) {
				t.Errorf("%q: a second after its end: %v", lasts, err)
			}
		})
	}
}

func TestUnknownSessionIsRefused(t *testing.T) {
	f, key, all := statefulFleet(t, "")
	if _, err := ask(t, f, key, "never-begun", ""); !errors.Is(err, ErrNoSession) {
		t.Error(err)
	}
	for _, in := range all {
		if n := in.worker.(*stateful).requests; n != 0 {
			t.Errorf("a request of an unknown session reached %s", in.ID)
		}
	}
	var route Route
	if err := f.InvokeStream(t.Context(), key, &Request{SessionID: NewSession}, &route, nil); !errors.Is(err, ErrSessionOfStream) {
		t.Errorf("a stream that begins a session: %v", err)
	}
}

func TestSessionsOfAnEndpointAreBounded(t *testing.T) {
	_, _, all := statefulFleet(t, "")
	var s sessions
	now := time.Now()
	for i := range maxSessions + 5 {
		s.begin(fmt.Sprintf("s%d; Expires=%s", i, now.Add(time.Hour+time.Duration(i)*time.Minute).Format(time.RFC3339)), session{instance: all[0]}, now)
	}
	if len(s.byID) != maxSessions {
		t.Errorf("%d sessions, want %d", len(s.byID), maxSessions)
	}
	if _, ok := s.find("s0", now); ok {
		t.Error("the session that expires first was not the one to go")
	}
	if _, ok := s.find(fmt.Sprint("s", maxSessions+4), now); !ok {
		t.Error("the newest session is gone")
	}
}

// A session says where a request goes, and excuses no member that the endpoint
// does not take (docs: multi-container-direct; amazon-sagemaker-examples#1216).
func TestSessionDoesNotExcuseTargetsTheEndpointDoesNotTake(t *testing.T) {
	f, key, all := statefulFleet(t, "")
	home, err := ask(t, f, key, NewSession, "")
	if err != nil {
		t.Fatal(err)
	}
	session := home[len("i-"):] + "-session"
	for name, tc := range map[string]struct {
		req  Request
		want error
	}{
		"its own variant":         {Request{TargetVariant: "a"}, nil},
		"unknown variant":         {Request{TargetVariant: "z"}, ErrNoVariant},
		"another variant":         {Request{TargetVariant: "b"}, ErrNoSession},
		"model":                   {Request{TargetModel: "m.tar.gz"}, ErrNotMultiModel},
		"container":               {Request{TargetContainer: "c"}, ErrNotDirect},
		"component":               {Request{InferenceComponentName: "ic"}, ErrComponentNotAllowed},
		"component, no session":   {Request{InferenceComponentName: "ic", SessionID: "none"}, ErrComponentNotAllowed},
		"variant of no instances": {Request{TargetVariant: "b", SessionID: "none"}, ErrNoSession},
	} {
		if tc.req.SessionID == "" {
			tc.req.SessionID = session
		}
		s := *f.Lookup(key).Snapshot()
		s.Variants = []Variant{s.Variants[0], {Name: "b", Weight: 1, Pool: testPool(t, Routing{}, 0)}}
		f.Publish(key, &s, 1)
		if route, err := f.Invoke(t.Context(), key, &tc.req, new(Answer)); !errors.Is(err, tc.want) || err == nil && route.Instance != home {
			t.Errorf("%s: %+v, %v; want %v", name, route, err, tc.want)
		}
	}
	if n := inFlight(all[0].pool); n != 0 {
		t.Errorf("%d requests still counted", n)
	}
}

// An endpoint that has come to host components, or to take asynchronous requests
// only, says so to the callers of its old sessions.
func TestSessionOfAnEndpointThatHasChangedItsKind(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Snapshot)
		req    Request
		want   error
	}{
		"no component named": {func(s *Snapshot) { s.HostsComponents = true }, Request{}, ErrComponentRequired},
		"component named": {func(s *Snapshot) {
			s.HostsComponents = true
			s.Components = map[string]*Component{"ic": {Name: "ic", Variant: "a", Serving: true}}
		}, Request{InferenceComponentName: "ic"}, ErrNoSession},
		"asynchronous": {func(s *Snapshot) { s.Async = &Async{} }, Request{}, ErrAsyncOnly},
		"other fleet":  {func(s *Snapshot) { s.Variants = []Variant{{Name: "a", Weight: 1, Pool: testPool(t, Routing{}, 0)}} }, Request{}, ErrNoSession},
	} {
		f, key, _ := statefulFleet(t, "")
		home, err := ask(t, f, key, NewSession, "")
		if err != nil {
			t.Fatal(err)
		}
		s := *f.Lookup(key).Snapshot()
		tc.change(&s)
		f.Publish(key, &s, 1)
		tc.req.SessionID = home[len("i-"):] + "-session"
		if _, err := f.Invoke(t.Context(), key, &tc.req, new(Answer)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestScriptedAnswersAreForRequestsOfSessionsToo(t *testing.T) {
	f, key, _ := statefulFleet(t, "")
	home, err := ask(t, f, key, NewSession, "")
	if err != nil {
		t.Fatal(err)
	}
	script, err := NewResponses([]ResponseRule{{BodyContains: "fail", Status: 503, Times: 1}})
	if err != nil {
		t.Fatal(err)
	}
	f.Lookup(key).SetResponses(script)
	for _, want := range []string{ScriptedInstance, home} {
		if got, err := ask(t, f, key, home[len("i-"):]+"-session", "fail"); err != nil || got != want {
			t.Errorf("answered by %s, %v; want %s", got, err, want)
		}
	}
}
