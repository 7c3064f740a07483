package dataplane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func faulty(t *testing.T, seed uint64, rules ...FaultRule) (*Fleet, Key) {
	t.Helper()
	f, key := testFleet(t, true, 1)
	faults, err := NewFaults(FaultScript{Seed: seed, Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	f.Lookup(key).SetFaults(faults)
	return f, key
}

func invokeOnce(f *Fleet, key Key) (*Answer, error) {
	ans := new(Answer)
	_, err := f.Invoke(context.Background(), key, &Request{Operation: "InvokeEndpoint", Timeout: time.Minute}, ans)
	return ans, err
}

func TestFaultsOfAWSsOwnComeBeforeAnyWorker(t *testing.T) {
	for _, code := range []string{FaultThrottling, FaultInternal, FaultUnavailable, FaultNotReady} {
		f, key := faulty(t, 1, FaultRule{Fault: code, Times: 2})
		for i := range 3 {
			_, err := invokeOnce(f, key)
			var injected *FaultError
			if struck := errors.As(err, &injected) && injected.Code == code; struck != (i < 2) {
				t.Errorf("%s, request %d: %v", code, i, err)
			}
		}
		if n := f.Lookup(key).Faults().Status()[0].Struck; n != 2 {
			t.Errorf("%s struck %d times, want 2", code, n)
		}
	}
}

func TestFaultStrikesItsShareAndTheSameRequestsAgain(t *testing.T) {
	run := func(seed uint64) string {
		f, key := faulty(t, seed, FaultRule{Fault: FaultModelError, Rate: 0.3, Status: 503, Body: "busy"})
		var struck strings.Builder
		for range 2000 {
			ans, err := invokeOnce(f, key)
			switch {
			case err != nil:
				t.Fatal(err)
			case ans.StatusCode == 503 && string(ans.Body) == "busy":
				struck.WriteByte('x')
			default:
				struck.WriteByte('.')
			}
		}
		return struck.String()
	}
	first := run(7)
	if share := float64(strings.Count(first, "x")) / 2000; share < 0.26 || share > 0.34 {
		t.Errorf("struck %v of the requests, want 0.3", share)
	}
	if run(7) != first || run(8) == first {
		t.Error("the seed does not decide which requests are struck")
	}
}

func TestInjectedLatencyAddsUpToTheOperationsLimit(t *testing.T) {
	for _, tc := range []struct {
		latency time.Duration
		took    time.Duration
		err     error
	}{
		{20 * time.Second, 40 * time.Second, nil}, // there are two such rules
		{30 * time.Second, time.Minute, ErrTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			slow := FaultRule{Fault: FaultLatency, Latency: Duration(tc.latency)}
			f, key := faulty(t, 1, slow, slow)
			began := time.Now()
			_, err := invokeOnce(f, key)
			if !errors.Is(err, tc.err) || time.Since(began) != tc.took {
				t.Errorf("2 x %v: %v after %v, want %v after %v", tc.latency, err, time.Since(began), tc.err, tc.took)
			}
			if n := inFlight(f.Lookup(key).Snapshot().Variants[0].Pool); n != 0 {
				t.Errorf("%d requests still counted", n)
			}
		})
	}
}

func TestInjectedLatencyEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, key := faulty(t, 1, FaultRule{Fault: FaultLatency, Latency: Duration(time.Hour)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Invoke(ctx, key, new(Request), new(Answer)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// talker streams that many.
type talker struct {
	*blocking
	n int
}

func (w talker) Stream(_ context.Context, _ *Request, to Sink) error {
	if err := to.Begin(&Answer{StatusCode: 200}); err != nil {
		return err
	}
	for i := range w.n {
		if _, err := fmt.Fprint(to, i); err != nil {
			return err
		}
	}
	return nil
}

// heard is a sink that keeps what it was given.
type heard struct {
	status int
	text   strings.Builder
}

func (h *heard) Begin(head *Answer) error    { h.status = head.StatusCode; return nil }
func (h *heard) Write(p []byte) (int, error) { return h.text.Write(p) }
func (h *heard) Flush() error                { return nil }

func TestInjectedBreakLetsSomePiecesThrough(t *testing.T) {
	for _, tc := range []struct {
		sent, let int
		want      string
	}{{5, 2, "01"}, {5, 0, ""}, {2, 7, "01"}} {
		f, key := NewFleet(), Key{"123456789012", "us-east-1", "e"}
		pool := testPool(t, Routing{}, 0)
		NewInstance(pool, "i-a", "ml.m5.large", 0, time.Now()).Serve(talker{newBlocking(), tc.sent}, time.Now())
		faults, err := NewFaults(FaultScript{Rules: []FaultRule{{Fault: FaultStreamBroken, Pieces: tc.let}}})
		if err != nil {
			t.Fatal(err)
		}
		f.Publish(key, &Snapshot{Serving: true, Variants: []Variant{{Name: "a", Weight: 1, Pool: pool}}}, 1).SetFaults(faults)
		var sink heard
		var route Route
		err = f.InvokeStream(t.Context(), key, new(Request), &route, &sink)
		if !errors.Is(err, ErrBroken) || sink.text.String() != tc.want || sink.status != 200 {
			t.Errorf("%d pieces, %d let through: %q, %v", tc.sent, tc.let, sink.text.String(), err)
		}
		if n := inFlight(pool); n != 0 {
			t.Errorf("%d requests still counted", n)
		}
	}
}

func TestFaultScriptsAreChecked(t *testing.T) {
	for _, rule := range []FaultRule{
		{Fault: "Fire"},
		{Fault: FaultLatency},
		{Fault: FaultLatency, Latency: Duration(2 * time.Hour)},
		{Fault: FaultModelError, Latency: Duration(time.Second)},
		{Fault: FaultModelError, Rate: 1.5},
		{Fault: FaultModelError, Operation: "invokeEndpoint"}, // it would strike nothing
		{Fault: FaultModelError, Status: 200},
		{Fault: FaultModelError, Times: -1},
		{Fault: FaultModelError, Body: strings.Repeat("x", maxFaultBody+1)},
	} {
		if _, err := NewFaults(FaultScript{Rules: []FaultRule{rule}}); err == nil {
			t.Errorf("%+v was accepted", rule)
		}
	}
	if _, err := NewFaults(FaultScript{Rules: make([]FaultRule, maxFaultRules+1)}); err == nil {
		t.Error("too many rules were accepted")
	}
}
