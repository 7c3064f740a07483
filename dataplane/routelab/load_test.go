package routelab

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// server is an in-process model server: one queue in front of servers that each
// take as long as service says.
type server struct {
	free    chan string // names of idle servers
	service func(arrived time.Time) time.Duration
}

func newServer(service func(time.Time) time.Duration, names ...string) *server {
	s := &server{free: make(chan string, len(names)), service: service}
	for _, name := range names {
		s.free <- name
	}
	return s
}

func always(d time.Duration) func(time.Time) time.Duration {
	return func(time.Time) time.Duration { return d }
}

func (s *server) invoke(ctx context.Context, _ Request) (Response, error) {
	arrived := time.Now()
	select {
	case <-ctx.Done():
		return Response{}, ctx.Err()
	case name := <-s.free:
		defer func() { s.free <- name }()
		dataplane.Sleep(ctx, s.service(arrived))
		return Response{Status: 200, Instance: name}, ctx.Err()
	}
}

var anyBody = OneOf(Request{Body: []byte("x")})

// measure runs a load once in virtual time.
func measure(t *testing.T, load Load, target Target, check func(*Run, []Sample)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var samples []Sample
		e := Experiment{Load: load, Subjects: []Subject{{Strategy: "it", Target: target}}, Repetitions: 1, Observe: func(s Sample) { samples = append(samples, s) }}
		runs, err := e.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		check(runs[0], samples)
	})
}

// within says whether got is want up to the histogram's three digits.
func within(got, want float64) bool { return got >= want*0.998 && got <= want*1.002 }

func metric(t *testing.T, name string) Metric {
	t.Helper()
	i := slices.IndexFunc(Metrics, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("no metric %s", name)
	}
	return Metrics[i]
}

func TestClosedLoopOfFourUsersGetsAllOfOneServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(always(100*time.Millisecond), "only")
		e := Experiment{
			Load:     Load{Users: 4, Bodies: anyBody, WarmUp: time.Second, Duration: 10 * time.Second},
			Subjects: []Subject{{Strategy: "it", Target: s.invoke, Instances: 1}}, Repetitions: 1,
		}
		runs, err := e.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		run := runs[0]
		if got := metric(t, throughput).Of(run); got != 10 {
			t.Errorf("throughput %v/s, want exactly 10", got)
		}
		if got := metric(t, "throughput_per_instance_per_minute").Of(run); got != 600 {
			t.Errorf("throughput %v per instance and minute, want exactly 600", got)
		}
		// Three others are always ahead.
		for _, name := range []string{"p50_seconds", p99} {
			if got := metric(t, name).Of(run); !within(got, 0.4) {
				t.Errorf("%s is %v, want 0.4", name, got)
			}
		}
		if got := run.levels(0).of["only"]; len(got) == 0 || slices.ContainsFunc(got, func(v float64) bool { return !within(v, 4) }) {
			t.Errorf("in flight %v, want 4 throughout", got)
		}
	})
}

func TestThinkTimeLowersTheRate(t *testing.T) {
	s := newServer(always(100*time.Millisecond), "a", "b")
	load := Load{Users: 2, Think: ThinkConstant(300 * time.Millisecond), Bodies: anyBody, Duration: 8 * time.Second}
	measureWith(t, load, s, func(run *Run) {
		if got := metric(t, throughput).Of(run); got != 5 {
			t.Errorf("throughput %v/s, want exactly 5", got)
		}
		if got := metric(t, p99).Of(run); !within(got, 0.1) {
			t.Errorf("P99 %v, want 0.1", got)
		}
	})
}

// measureWith builds the server inside of the bubble, as its channels must be.
func measureWith(t *testing.T, load Load, like *server, check func(*Run)) {
	t.Helper()
	names := make([]string, 0, cap(like.free))
	for range cap(like.free) {
		names = append(names, <-like.free)
	}
	var once sync.Once
	var s *server
	target := func(ctx context.Context, r Request) (Response, error) {
		once.Do(func() { s = newServer(like.service, names...) })
		return s.invoke(ctx, r)
	}
	measure(t, load, target, func(run *Run, _ []Sample) { check(run) })
}

// A server that stalls for a second delays every arrival of that second. A client
// that waits for the stall and then forgets what was due would see one slow
// request of 1,000.
func TestOpenLoopShowsAStallInItsPercentiles(t *testing.T) {
	for _, bound := range []int{1000, 1} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			stall := func(arrived time.Time) time.Duration {
				if at := arrived.Sub(start); at >= 5*time.Second && at < 6*time.Second {
					return 6*time.Second - at
				}
				return time.Millisecond
			}
			s := newServer(stall, slices.Repeat([]string{"it"}, 1000)...)
			e := Experiment{
				Load:     Load{Arrivals: Constant(100), MaxInFlight: bound, Bodies: anyBody, Duration: 10 * time.Second},
				Subjects: []Subject{{Strategy: "it", Target: s.invoke}}, Repetitions: 1,
			}
			runs, err := e.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			run := runs[0]
			// A tenth of the arrivals waited, evenly between 0 and 1 s.
			if got := metric(t, p99).Of(run); got < 0.88 || got > 1 {
				t.Errorf("at most %d in flight: P99 %v, want about 0.9", bound, got)
			}
			if got := metric(t, "p50_seconds").Of(run); got > 0.002 {
				t.Errorf("at most %d in flight: P50 %v, want 1 ms", bound, got)
			}
			if run.Requests+run.NotSent != 999 || run.NotSent > 1 {
				t.Errorf("at most %d in flight: %d answered and %d not sent of 999 arrivals", bound, run.Requests, run.NotSent)
			}
		})
	}
}

func TestOpenLoopTellsWhatItDidNotSend(t *testing.T) {
	s := newServer(always(100*time.Millisecond), "it")
	load := Load{Arrivals: Constant(20), MaxInFlight: 2, Bodies: anyBody, Duration: 10 * time.Second}
	measureWith(t, load, s, func(run *Run) {
		if run.Requests+run.NotSent != 199 {
			t.Errorf("%d answered and %d not sent, want 199 arrivals", run.Requests, run.NotSent)
		}
		if run.NotSent < 90 || run.NotSent > 100 {
			t.Errorf("%d arrivals not sent, want about half", run.NotSent)
		}
		if run.LongestUnsentSeconds < 4.5 || run.LongestUnsentSeconds > 5.5 {
			t.Errorf("the longest unsent arrival waited %v s, want about 5", run.LongestUnsentSeconds)
		}
		if got := metric(t, throughput).Of(run); got < 9.9 || got > 10 {
			t.Errorf("throughput %v/s, want 10", got)
		}
		report := NewReport(Setup{Repetitions: 1, Open: true}, []string{"it"}, []*Run{run})
		if len(report.Notes) == 0 {
			t.Error("no note says that arrivals were not sent")
		}
	})
}

func TestPoissonArrivalsHaveTheirRateAndVariance(t *testing.T) {
	const n = 20_000
	var gaps []float64
	last := time.Duration(0)
	for a := range Poisson(50)(rand.New(rand.NewPCG(1, 2)), anyBody) {
		gaps = append(gaps, (a.At - last).Seconds())
		if last = a.At; len(gaps) == n {
			break
		}
	}
	cv, _ := Imbalance(gaps)
	if mean := last.Seconds() / n; mean < 0.0195 || mean > 0.0205 || cv < 0.97 || cv > 1.03 {
		t.Errorf("mean gap %v s, coefficient of variation %v; want 0.02 and 1", mean, cv)
	}
}

func TestEqualSeedsGiveEqualArrivals(t *testing.T) {
	arrivals := func(seed uint64) (at []time.Duration) {
		for a := range Poisson(50)(rand.New(rand.NewPCG(seed, 0)), anyBody) {
			if at = append(at, a.At); len(at) == 50 {
				return at
			}
		}
		return nil
	}
	if !slices.Equal(arrivals(7), arrivals(7)) {
		t.Error("the same seed gave other arrivals")
	}
	if slices.Equal(arrivals(7), arrivals(8)) {
		t.Error("another seed gave the same arrivals")
	}
}

func TestRequestsBoundEndsTheRun(t *testing.T) {
	for name, load := range map[string]Load{
		"closed":   {Users: 3, Bodies: anyBody, Requests: 100, WarmUp: time.Second},
		"open":     {Arrivals: Poisson(40), MaxInFlight: 10, Bodies: anyBody, Requests: 100, WarmUp: time.Second},
		"duration": {Users: 3, Bodies: anyBody, Requests: 100, WarmUp: time.Second, Duration: time.Hour},
	} {
		measureWith(t, load, newServer(always(10*time.Millisecond), "a", "b", "c"), func(run *Run) {
			if run.Requests != 100 {
				t.Errorf("%s: %d requests measured, want 100", name, run.Requests)
			}
			if run.Seconds <= 0 || run.Seconds > 10 {
				t.Errorf("%s: measured for %v s", name, run.Seconds)
			}
		})
	}
}

func TestEndOfContextKeepsWhatWasMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(always(100*time.Millisecond), "a", "b")
		ctx, cancel := context.WithCancel(t.Context())
		e := Experiment{
			Load:     Load{Users: 2, Bodies: anyBody, Duration: time.Hour},
			Subjects: []Subject{{Strategy: "it", Target: s.invoke}}, Repetitions: 3,
		}
		time.AfterFunc(1050*time.Millisecond, cancel)
		runs, err := e.Run(ctx)
		if err != nil || len(runs) != 1 {
			t.Fatalf("%d runs, %v; want 1", len(runs), err)
		}
		run := runs[0]
		if run.Requests != 20 || run.CutOff != 2 || !run.Interrupted || run.Failed() != 0 {
			t.Errorf("%d requests, %d cut off, %d failed, interrupted %t; want 20, 2, 0, true", run.Requests, run.CutOff, run.Failed(), run.Interrupted)
		}
		if !within(run.Seconds, 1.05) {
			t.Errorf("measured for %v s, want 1.05", run.Seconds)
		}
	})
}

func TestErrorsAreCountedByKindAndNotAmongTheLatencies(t *testing.T) {
	n := 0
	target := func(ctx context.Context, _ Request) (Response, error) {
		n++
		switch n % 4 {
		case 0:
			dataplane.Sleep(ctx, time.Hour)
			return Response{}, ctx.Err()
		case 1:
			return Response{Status: 424, Instance: "i"}, &Failure{Kind: "ModelError", Err: errors.New("424")}
		}
		dataplane.Sleep(ctx, 10*time.Millisecond)
		return Response{Status: 200, Instance: "i"}, nil
	}
	measure(t, Load{Users: 1, Bodies: anyBody, Requests: 40, Timeout: time.Second}, target, func(run *Run, samples []Sample) {
		if run.Errors["timeout"] != 10 || run.Errors["ModelError"] != 10 || run.Requests != 20 {
			t.Errorf("errors %v and %d successes, want 10 timeouts, 10 ModelErrors, 20", run.Errors, run.Requests)
		}
		if got := metric(t, "max_seconds").Of(run); !within(got, 0.01) {
			t.Errorf("longest latency %v, want 10 ms", got)
		}
		if len(samples) != 40 || samples[3].Status != 0 || samples[3].Error != "timeout" || samples[3].LatencySeconds != 1 {
			t.Errorf("%d samples; the fourth is %+v", len(samples), samples[3])
		}
		if run.PerInstance["i"] != 30 {
			t.Errorf("instance answered %d, want 30", run.PerInstance["i"])
		}
	})
}

func TestValidateRefusesLoadsThatCannotRun(t *testing.T) {
	for _, load := range []Load{
		{Users: 1, Duration: 1},
		{Bodies: anyBody, Duration: 1},
		{Bodies: anyBody, Users: 1},
		{Bodies: anyBody, Arrivals: Constant(1)},
		{Bodies: anyBody, Users: 1, Duration: 1, WarmUp: -1},
	} {
		if load.Validate() == nil {
			t.Errorf("%+v was accepted", load)
		}
	}
}

func TestUsersDoNotHammerAServerThatIsGone(t *testing.T) {
	gone := func(context.Context, Request) (Response, error) { return Response{}, syscall.ECONNREFUSED }
	measure(t, Load{Users: 2, Bodies: anyBody, Duration: 10 * time.Second}, gone, func(run *Run, _ []Sample) {
		// At the very end of the run a user's pause ends too; either may be first.
		if n := run.Errors["connection refused"]; n < 200 || n > 202 {
			t.Errorf("errors %v, want 10 a second of each user", run.Errors)
		}
	})
}
