package dataplane

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// named answers at once with its own name.
type named struct {
	*blocking
	name string
}

func (w named) Invoke(_ context.Context, _ *Request, ans *Answer) error {
	ans.StatusCode, ans.Body = 200, append(ans.Body[:0], w.name...)
	return nil
}

func (w named) Stream(ctx context.Context, req *Request, to Sink) error {
	var ans Answer
	return errors.Join(w.Invoke(ctx, req, &ans), ans.PassOn(to))
}

func testFleet(t *testing.T, serving bool, weights ...float64) (*Fleet, Key) {
	t.Helper()
	f, key := NewFleet(), Key{"123456789012", "us-east-1", "e"}
	s := &Snapshot{Serving: serving}
	for i, w := range weights {
		pool := testPool(t, Routing{}, 0)
		name := string(rune('a' + i))
		NewInstance(pool, "i-"+name, "ml.m5.large", 0, time.Now()).Serve(named{newBlocking(), name}, time.Now())
		s.Variants = append(s.Variants, Variant{Name: name, Weight: w, Pool: pool, Container: "primary"})
	}
	f.Publish(key, s, 1)
	return f, key
}

func TestVariantsShareTrafficByWeight(t *testing.T) {
	f, key := testFleet(t, true, 2, 0, 1, 1)
	got := map[string]int{}
	const n = 40_000
	for range n {
		route, err := f.Invoke(t.Context(), key, new(Request), new(Answer))
		if err != nil {
			t.Fatal(err)
		}
		got[route.Variant]++
	}
	if got["b"] != 0 {
		t.Errorf("a variant of weight 0 got %d requests", got["b"])
	}
	for name, share := range map[string]float64{"a": 0.5, "c": 0.25, "d": 0.25} {
		if have := float64(got[name]) / n; have < share-0.02 || have > share+0.02 {
			t.Errorf("variant %s got %.3f of the requests, want %.2f", name, have, share)
		}
	}
}

func TestTargetVariantOverridesWeights(t *testing.T) {
	f, key := testFleet(t, true, 1, 0)
	for range 20 {
		route, err := f.Invoke(t.Context(), key, &Request{TargetVariant: "b"}, new(Answer))
		if err != nil || route.Variant != "b" || route.Instance != "i-b" {
			t.Fatalf("route %+v, error %v; want variant b", route, err)
		}
	}
}

func TestInvocationsThatCannotBeRouted(t *testing.T) {
	serving, key := testFleet(t, true, 1)
	creating, _ := testFleet(t, false, 1)
	weightless, _ := testFleet(t, true, 0, 0)
	for name, tc := range map[string]struct {
		fleet *Fleet
		key   Key
		req   Request
		want  error
	}{
		"no such endpoint":    {serving, Key{"123456789012", "eu-west-1", "e"}, Request{}, ErrNoEndpoint},
		"being created":       {creating, key, Request{}, ErrNoEndpoint},
		"no such variant":     {serving, key, Request{TargetVariant: "z"}, ErrNoVariant},
		"all weights are 0":   {weightless, key, Request{}, ErrNoWeight},
		"targeted, weight 0 ": {weightless, key, Request{TargetVariant: "a"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tc.fleet.Invoke(t.Context(), tc.key, &tc.req, new(Answer)); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestScriptedResponsesAnswerBeforeTheWorker(t *testing.T) {
	f, key := testFleet(t, true, 1)
	script, err := NewResponses([]ResponseRule{
		{BodyContains: "boom", Status: 500, Body: "scripted failure", Times: 2},
		{ContentType: "text/*", BodyContains: "hello", Body: "hi", Headers: map[string]string{"content-type": "text/plain"}},
		{BodyPath: "$.inputs[*].id", BodyEquals: 7, Body: "seven"},
		{Method: "InvokeEndpointAsync", Body: "never here"},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Lookup(key).SetResponses(script)
	for _, tc := range []struct {
		contentType, body string
		status            int
		answer            string
	}{
		{"", "boom", 500, "scripted failure"},
		{"", "boom", 500, "scripted failure"},
		{"", "boom", 200, "a"}, // spent: the worker answers
		{"text/csv", "hello", 200, "hi"},
		{"application/json", "hello", 200, "a"},
		{"application/json", `{"inputs":[{"id":1},{"id":7}]}`, 200, "seven"},
		{"application/json", `{"inputs":[{"id":1}]}`, 200, "a"},
		{"application/json", `{"inputs":`, 200, "a"},
	} {
		ans := new(Answer)
		req := &Request{Operation: "InvokeEndpoint", ContentType: tc.contentType, Body: []byte(tc.body)}
		route, err := f.Invoke(t.Context(), key, req, ans)
		if err != nil || ans.StatusCode != tc.status || string(ans.Body) != tc.answer {
			t.Errorf("%s %s: %d %q, %v; want %d %q", tc.contentType, tc.body, ans.StatusCode, ans.Body, err, tc.status, tc.answer)
		}
		if scripted := tc.answer != "a"; scripted != (route.Instance == ScriptedInstance) {
			t.Errorf("%s: instance %q", tc.body, route.Instance)
		}
	}
	if s := script.Status(); s[0].Answers != 2 || s[1].Answers != 1 || s[2].Answers != 1 || s[3].Answers != 0 {
		t.Errorf("answers counted: %+v", s)
	}
}

func TestScriptedDelayEndsWithTheTimeoutOrTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, key := testFleet(t, true, 1)
		script, err := NewResponses([]ResponseRule{{Delay: Duration(90 * time.Second), Body: "late"}})
		if err != nil {
			t.Fatal(err)
		}
		f.Lookup(key).SetResponses(script)
		begun := time.Now()
		if _, err := f.Invoke(t.Context(), key, &Request{Timeout: time.Minute}, new(Answer)); !errors.Is(err, ErrTimeout) || time.Since(begun) != time.Minute {
			t.Errorf("after %v: %v, want ErrTimeout after 1m", time.Since(begun), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Invoke(ctx, key, &Request{Timeout: time.Minute}, new(Answer)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v when the caller left", err)
		}
	})
}

func TestImpossibleScriptsAreRefused(t *testing.T) {
	for name, rule := range map[string]ResponseRule{
		"status":      {Status: 99},
		"delay":       {Delay: -1},
		"path":        {BodyPath: "$.["},
		"equals":      {BodyEquals: 1},
		"glob":        {ContentType: "[a"},
		"header":      {Headers: map[string]string{"Set-Cookie": "x"}},
		"header text": {Headers: map[string]string{"Content-Type": "a\r\nb: c"}},
	} {
		if _, err := NewResponses([]ResponseRule{rule}); err == nil {
			t.Errorf("%s: accepted %+v", name, rule)
		}
	}
}
