package dataplane

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
)

// serve adds an instance that answers with its name.
func serve(pool *Pool, name string) *Instance {
	in := NewInstance(pool, "i-"+name, "ml.m5.large", 0, time.Now())
	in.Serve(named{newBlocking(), name}, time.Now())
	return in
}

func TestFleetWithoutInstancesLeavesItsShareToTheOther(t *testing.T) {
	f, key := NewFleet(), Key{"123456789012", "us-east-1", "e"}
	old, fresh, other := testPool(t, Routing{}, 0), testPool(t, Routing{}, 0), testPool(t, Routing{}, 0)
	serve(old, "old")
	serve(other, "other")
	f.Publish(key, &Snapshot{Serving: true, Variants: []Variant{
		{Name: "b", Weight: 1, Pool: other},
		{Name: "a", Deployment: 1, Weight: 0, Pool: old},
		{Name: "a", Deployment: 2, Weight: 1, Pool: fresh},
	}}, 1)
	for range 50 {
		ans := new(Answer)
		route, err := f.Invoke(t.Context(), key, &Request{TargetVariant: "a"}, ans)
		if err != nil || string(ans.Body) != "old" || route.Variant != "a" {
			t.Fatalf("%+v, %q, %v; want the old fleet of the same variant", route, ans.Body, err)
		}
	}
}

func TestTargetVariantFollowsTheSharesOfAnUpdate(t *testing.T) {
	f, key := NewFleet(), Key{"123456789012", "us-east-1", "e"}
	s := &Snapshot{Serving: true}
	for i, weight := range []float64{0.75, 0.25, 5} {
		pool := testPool(t, Routing{}, 0)
		serve(pool, string(rune('0'+i)))
		s.Variants = append(s.Variants, Variant{Name: []string{"a", "a", "b"}[i], Deployment: int64(i), Weight: weight, Pool: pool})
	}
	f.Publish(key, s, 1)
	got := map[string]float64{}
	for range 10_000 {
		ans := new(Answer)
		if _, err := f.Invoke(t.Context(), key, &Request{TargetVariant: "a"}, ans); err != nil {
			t.Fatal(err)
		}
		got[string(ans.Body)]++
	}
	if share := got["1"] / 10_000; got["2"] > 0 || share < 0.22 || share > 0.28 {
		t.Errorf("answers by %v, want a quarter by 1 and none by 2", got)
	}
}

// TestNoRequestFallsBetweenTwoSnapshots changes fleets as the reconciler does,
// publish first and drain afterwards, as fast as it can.
func TestNoRequestFallsBetweenTwoSnapshots(t *testing.T) {
	f, key := NewFleet(), Key{"123456789012", "us-east-1", "e"}
	next := func(id int64) *Instance {
		pool := testPool(t, Routing{}, 0)
		in := serve(pool, "x")
		f.Publish(key, &Snapshot{Serving: true, Variants: []Variant{{Name: "a", Deployment: id, Weight: 1, Pool: pool}}}, 1)
		return in
	}
	present := next(0)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 2)
	for range 2 {
		go func() {
			var err error
			for ans := new(Answer); ctx.Err() == nil && err == nil; {
				_, err = f.Invoke(context.Background(), key, new(Request), ans)
			}
			failed <- err
		}()
	}
	for id := range int64(20_000) {
		old := present
		present = next(id + 1)
		old.Drain(t.Context())
		old.Retire()
		if id%100 == 0 {
			runtime.Gosched()
		}
	}
	cancel()
	if err := errors.Join(<-failed, <-failed); err != nil {
		t.Error(err)
	}
}
