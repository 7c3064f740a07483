package dataplane_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// held answers when it is let go.
type held struct {
	dataplane.Worker
	let     chan struct{}
	arrived chan struct{}
}

func (h *held) Invoke(_ context.Context, _ *dataplane.Request, ans *dataplane.Answer) error {
	h.arrived <- struct{}{}
	<-h.let
	ans.StatusCode = 200
	return nil
}

func TestAsyncRequestsFillInstancesUpToTheLimitAndThenOtherVariants(t *testing.T) {
	now := time.Now()
	for _, strategy := range []string{dataplane.StrategyRandom, dataplane.StrategyLeastOutstanding, dataplane.StrategyPrefixAware} {
		h := &held{let: make(chan struct{}), arrived: make(chan struct{})}
		pool := func(instances int) *dataplane.Pool {
			p, err := dataplane.NewPool(dataplane.Routing{Strategy: strategy, PrefixLength: 4, ConcurrencyThreshold: 100}, 1)
			if err != nil {
				t.Fatal(err)
			}
			for i := range instances {
				in := dataplane.NewInstance(p, "i", "ml.m5.large", i, now)
				in.Serve(h, now)
			}
			return p
		}
		s := &dataplane.Snapshot{
			Serving: true, Async: &dataplane.Async{PerInstance: 2},
			Variants: []dataplane.Variant{
				{Name: "a", Weight: 1000, Pool: pool(2)},
				{Name: "b", Weight: 1, Pool: pool(1)},
				{Name: "c", Weight: 1, Pool: pool(0)},
				{Name: "d", Weight: 0, Pool: pool(1)},
			},
		}
		if got := s.Capacity(); got != 6 {
			t.Errorf("%s: room for %d requests", strategy, got)
		}
		f, key := dataplane.NewFleet(), dataplane.Key{Name: "e"}
		f.Publish(key, s, 1)
		req := dataplane.Request{Body: []byte("same prefix"), PerInstance: 2}
		answered := make(chan error)
		for range 6 {
			go func() {
				_, err := f.Invoke(t.Context(), key, &req, new(dataplane.Answer))
				answered <- err
			}()
			<-h.arrived
		}
		if _, err := f.Invoke(t.Context(), key, &req, new(dataplane.Answer)); !errors.Is(err, dataplane.ErrBusy) {
			t.Errorf("%s: the seventh request: %v", strategy, err)
		}
		close(h.let)
		for range 6 {
			if err := <-answered; err != nil {
				t.Errorf("%s: %v", strategy, err)
			}
		}
	}
}

func TestAnEndpointTakesAsynchronousRequestsOrOthers(t *testing.T) {
	f := dataplane.NewFleet()
	f.Publish(dataplane.Key{Name: "async"}, &dataplane.Snapshot{Serving: true, Async: &dataplane.Async{PerInstance: 1}}, 1)
	f.Publish(dataplane.Key{Name: "sync"}, &dataplane.Snapshot{Serving: true}, 1)
	f.Publish(dataplane.Key{Name: "hosts"}, &dataplane.Snapshot{Serving: true, HostsComponents: true, Async: &dataplane.Async{PerInstance: 1}}, 1)
	for _, tc := range []struct {
		endpoint string
		limit    int
		want     error
	}{
		{"async", 0, dataplane.ErrAsyncOnly},
		{"async", 1, dataplane.ErrNoWeight},
		{"sync", 1, dataplane.ErrNotAsync},
		{"sync", 0, dataplane.ErrNoWeight},
		{"hosts", 1, dataplane.ErrComponentRequired},
		{"none", 1, dataplane.ErrNoEndpoint},
	} {
		_, err := f.Invoke(t.Context(), dataplane.Key{Name: tc.endpoint}, &dataplane.Request{PerInstance: tc.limit}, new(dataplane.Answer))
		if !errors.Is(err, tc.want) {
			t.Errorf("%s with %d: %v, want %v", tc.endpoint, tc.limit, err, tc.want)
		}
	}
}
