package dataplane

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// componentFleet is an endpoint that hosts component "c" with one copy in each of
// as many deployments as there are weights, and an adapter of it.
func componentFleet(t *testing.T, weights ...float64) (*Fleet, Key, *Snapshot) {
	t.Helper()
	f, key := NewFleet(), Key{"123456789012", "us-east-1", "e"}
	c := &Component{Name: "C", Variant: "v", Container: "primary", Status: "InService", Serving: true, Desired: 1, NoCapacity: new(atomic.Int64)}
	for i, w := range weights {
		pool := testPool(t, Routing{}, 0)
		name := string(rune('a' + i))
		in := NewInstance(pool, "i-"+name, "ml.m5.large", 0, time.Now())
		in.Host, in.Component = "i-host", "C"
		in.Serve(named{newBlocking(), name}, time.Now())
		c.Targets = append(c.Targets, ComponentTarget{int64(i), w, pool})
		c.Copies = append(c.Copies, in)
	}
	adapter := *c
	adapter.Name, adapter.Adapter, adapter.Copies = "French", "French", nil
	s := &Snapshot{Serving: true, HostsComponents: true, Components: map[string]*Component{"c": c, "french": &adapter}}
	f.Publish(key, s, 1)
	return f, key, s
}

func TestRequestsToComponents(t *testing.T) {
	f, key, s := componentFleet(t, 1)
	starting := *s.Components["c"]
	starting.Serving, starting.Status = false, "Creating"
	zero := Component{Name: "zero", Variant: "v", Serving: true, NoCapacity: new(atomic.Int64)}
	dead := Component{Name: "dead", Variant: "v", Serving: true, Desired: 2, NoCapacity: new(atomic.Int64), Targets: []ComponentTarget{{0, 1, testPool(t, Routing{}, 0)}}}
	s.Components["starting"], s.Components["zero"], s.Components["dead"] = &starting, &zero, &dead
	plain, _ := testFleet(t, true, 1)
	for name, tc := range map[string]struct {
		fleet   *Fleet
		req     Request
		err     error
		adapter string
	}{
		"a component":                    {fleet: f, req: Request{InferenceComponentName: "c"}},
		"in other letters":               {fleet: f, req: Request{InferenceComponentName: "C"}},
		"on its variant":                 {fleet: f, req: Request{InferenceComponentName: "c", TargetVariant: "v"}},
		"an adapter":                     {fleet: f, req: Request{InferenceComponentName: "FRENCH"}, adapter: "French"},
		"none named":                     {fleet: f, err: ErrComponentRequired},
		"unknown":                        {fleet: f, req: Request{InferenceComponentName: "x"}, err: ErrNoComponent},
		"not in service":                 {fleet: f, req: Request{InferenceComponentName: "starting"}, err: ErrComponentNotServing},
		"on another variant":             {fleet: f, req: Request{InferenceComponentName: "c", TargetVariant: "w"}, err: ErrComponentElsewhere},
		"scaled to zero":                 {fleet: f, req: Request{InferenceComponentName: "zero"}, err: ErrNoCopies},
		"without a copy now":             {fleet: f, req: Request{InferenceComponentName: "dead"}, err: ErrNoInstance},
		"on an endpoint without any":     {fleet: plain, req: Request{InferenceComponentName: "c"}, err: ErrComponentNotAllowed},
		"none, on such an endpoint":      {fleet: plain},
		"on an endpoint that is no more": {fleet: NewFleet(), req: Request{InferenceComponentName: "c"}, err: ErrNoEndpoint},
	} {
		t.Run(name, func(t *testing.T) {
			route, err := tc.fleet.Invoke(t.Context(), key, &tc.req, new(Answer))
			if !errors.Is(err, tc.err) {
				t.Errorf("%v, want %v", err, tc.err)
			}
			if tc.req.Adapter != tc.adapter {
				t.Errorf("adapter %q, want %q", tc.req.Adapter, tc.adapter)
			}
			if err == nil && tc.fleet == f && (route.Variant != "v" || route.Instance != "i-a" || route.Component == nil) {
				t.Errorf("route %+v", route)
			}
		})
	}
	if zero.NoCapacity.Load() != 1 || dead.NoCapacity.Load() != 1 || s.Components["c"].NoCapacity.Load() != 0 {
		t.Errorf("failures for want of capacity: %d, %d and %d; want 1, 1 and 0", zero.NoCapacity.Load(), dead.NoCapacity.Load(), s.Components["c"].NoCapacity.Load())
	}
}

func TestDeploymentsShareAComponentsRequestsByWeight(t *testing.T) {
	f, key, s := componentFleet(t, 0.25, 0.75, 0)
	got := map[string]int{}
	const n = 20_000
	for range n {
		route, err := f.Invoke(t.Context(), key, &Request{InferenceComponentName: "c"}, new(Answer))
		if err != nil {
			t.Fatal(err)
		}
		got[route.Instance]++
	}
	if share := float64(got["i-a"]) / n; share < 0.23 || share > 0.27 || got["i-c"] != 0 {
		t.Errorf("requests by copy %v, want a quarter, three and none", got)
	}
	for _, c := range s.Components["c"].Copies[:2] {
		c.Retire()
	}
	if route, err := f.Invoke(t.Context(), key, &Request{InferenceComponentName: "c"}, new(Answer)); err != nil || route.Instance != "i-c" {
		t.Errorf("with one copy left, in a deployment of no weight: %+v, %v", route, err)
	}
}

func TestScriptAnswersForComponentsToo(t *testing.T) {
	f, key, _ := componentFleet(t, 1)
	script, err := NewResponses([]ResponseRule{{Status: 418, Body: "teapot"}})
	if err != nil {
		t.Fatal(err)
	}
	f.Lookup(key).SetResponses(script)
	ans := new(Answer)
	route, err := f.Invoke(t.Context(), key, &Request{InferenceComponentName: "c"}, ans)
	if err != nil || ans.StatusCode != 418 || route.Instance != ScriptedInstance || route.Variant != "v" {
		t.Errorf("%+v, %v, status %d", route, err, ans.StatusCode)
	}
}

func TestStatusOfACopyNamesItsHost(t *testing.T) {
	_, _, s := componentFleet(t, 1)
	if st := s.Components["c"].Copies[0].Status(); st.Host != "i-host" || st.Component != "C" {
		t.Errorf("%+v", st)
	}
	host := NewInstance(testPool(t, Routing{}, 0), "i-host", "ml.m5.large", 0, time.Now())
	host.Allocate()
	if st := host.Status(); st.State != "InService" || st.Started != nil || st.InFlight != 0 {
		t.Errorf("host %+v", st)
	}
	host.Release()
	if host.State() != Draining {
		t.Errorf("released host is %v", host.State())
	}
	host.Retire()
	if host.State() != Stopped {
		t.Errorf("retired host is %v", host.State())
	}
}
