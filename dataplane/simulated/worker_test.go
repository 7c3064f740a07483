package simulated

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sagelocal/sagelocal/dataplane"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var shapes = map[string]dataplane.Shape{
	"ml.m5.large":     {VCPU: 2, MemoryGiB: 8},
	"ml.m5.xlarge":    {VCPU: 4, MemoryGiB: 16},
	"ml.t2.medium":    {VCPU: 2, MemoryGiB: 4},
	"ml.m7i.medium":   {VCPU: 1, MemoryGiB: 4},
	"ml.g5.xlarge":    {VCPU: 4, MemoryGiB: 16, Accelerators: 1, AcceleratorKind: "NVIDIA A10G", AcceleratorGiB: 22},
	"ml.g5.12xlarge":  {VCPU: 48, MemoryGiB: 192, Accelerators: 4, AcceleratorKind: "NVIDIA A10G", AcceleratorGiB: 22},
	"ml.g4dn.xlarge":  {VCPU: 4, MemoryGiB: 16, Accelerators: 1, AcceleratorKind: "NVIDIA T4", AcceleratorGiB: 16},
	"ml.p4d.24xlarge": {VCPU: 96, MemoryGiB: 1152, Accelerators: 8, AcceleratorKind: "NVIDIA A100", AcceleratorGiB: 40},
	"ml.g9.xlarge":    {VCPU: 4, MemoryGiB: 16, Accelerators: 1, AcceleratorKind: "NVIDIA", AcceleratorGiB: 24},
}

func shapeOf(name string) (dataplane.Shape, bool) {
	s, ok := shapes[name]
	s.InstanceType = name
	return s, ok
}

func spec(instanceType string) dataplane.Spec {
	shape, _ := shapeOf(instanceType)
	return dataplane.Spec{
		Key:     dataplane.Key{Account: "123456789012", Region: "us-east-1", Name: "spam-filter"},
		Variant: "blue", InstanceID: "i-0123456789abcdef0", Shape: shape, Seed: 7,
	}
}

func launch(t testing.TB, cfg Config, s dataplane.Spec) dataplane.Worker {
	t.Helper()
	w, err := New(cfg, shapeOf, 1).Launch(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Stop(context.Background(), 0) })
	return w
}

func constant(mean time.Duration) Latency { return Latency{Distribution: Constant, Mean: mean} }

// outcome is what one request of a script came to and when, seen from the start.
type outcome struct {
	at     time.Duration
	status int
	err    error
}

// arrival is one request of a script.
type arrival struct {
	at      time.Duration
	timeout time.Duration // of the request
	cancel  time.Duration // when the caller goes away; 0 never
}

// play sends requests at their times, in order, and returns what came of each.
// It needs a synctest bubble.
func play(w dataplane.Worker, arrivals ...arrival) []outcome {
	outcomes := make([]outcome, len(arrivals))
	epoch := time.Now()
	var wg sync.WaitGroup
	for i, a := range arrivals {
		time.Sleep(a.at - time.Since(epoch))
		wg.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if a.cancel > 0 {
				defer time.AfterFunc(a.cancel-a.at, cancel).Stop()
			}
			var ans dataplane.Answer
			err := w.Invoke(ctx, &dataplane.Request{Timeout: a.timeout}, &ans)
			outcomes[i] = outcome{time.Since(epoch), ans.StatusCode, err}
		})
		synctest.Wait() // so that requests of the same moment arrive in order
	}
	wg.Wait()
	return outcomes
}

func at(times ...time.Duration) []arrival {
	list := make([]arrival, len(times))
	for i, d := range times {
		list[i].at = d
	}
	return list
}

const (
	ms  = time.Millisecond
	sec = time.Second
)

func TestRequestsEndWhenProcessorSharingSays(t *testing.T) {
	contended := Config{Latency: constant(sec), Contention: 0.35}
	slots := func(n int) Config {
		c := contended
		c.Concurrency = n
		return c
	}
	alone := Config{Latency: constant(sec)}
	for _, test := range []struct {
		name     string
		cfg      Config
		arrivals []arrival
		ends     []time.Duration
	}{
		{"one alone", contended, at(0), []time.Duration{sec}},
		{"without contention", alone, at(0, 0, 300*ms), []time.Duration{sec, sec, 1300 * ms}},
		{"two together", contended, at(0, 0), []time.Duration{1350 * ms, 1350 * ms}},
		{"three together", contended, at(0, 0, 0), []time.Duration{1700 * ms, 1700 * ms, 1700 * ms}},
		// The first has done 0.5 s at 0.5 s and needs 0.5·1.35 more beside the
		// second, which then has 0.5 s left alone.
		{"staggered by half", contended, at(0, 500*ms), []time.Duration{1175 * ms, 1675 * ms}},
		// At 0.4 the first has done 0.2 + 0.2/1.35 = 0.348148 and needs 0.651852·1.7
		// more: 1.508148. The second has done 0.8 then and needs 0.2·1.35 beside the
		// third: 1.778148. The third has 0.148148 left then, alone: 1.926296.
		{
			"staggered thrice", contended, at(0, 200*ms, 400*ms),
			[]time.Duration{1508148148, 1778148148, 1926296296},
		},
		{"one slot is a plain queue", slots(1), at(0, 0, 0), []time.Duration{1 * sec, 2 * sec, 3 * sec}},
		{"two slots contend, the third waits", slots(2), at(0, 0, 0), []time.Duration{1350 * ms, 1350 * ms, 2350 * ms}},
		{
			"a slot freed early is contended at once", slots(2), at(0, 500*ms, 600*ms),
			// First: 1.175. The second has 0.5 left then and takes 0.675 beside the
			// third: 1.85. The third has done 0.5 by then and goes on alone: 2.35.
			[]time.Duration{1175 * ms, 1850 * ms, 2350 * ms},
		},
		{
			"a caller that goes away while running speeds up the other", contended,
			[]arrival{{at: 0}, {at: 0, cancel: 675 * ms}},
			[]time.Duration{1175 * ms, 675 * ms},
		},
		{
			"a caller that goes away while running gives its slot on", slots(1),
			[]arrival{{at: 0, cancel: 400 * ms}, {at: 0}},
			[]time.Duration{400 * ms, 1400 * ms},
		},
		{
			"a caller that goes away while queued leaves the queue", slots(1),
			[]arrival{{at: 0}, {at: 0, cancel: 400 * ms}, {at: 0}},
			[]time.Duration{sec, 400 * ms, 2 * sec},
		},
		{
			"a timeout gives the slot on", slots(1),
			[]arrival{{at: 0, timeout: 250 * ms}, {at: 0}},
			[]time.Duration{250 * ms, 1250 * ms},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := launch(t, test.cfg, spec("ml.m5.large"))
				for i, got := range play(w, test.arrivals...) {
					if got.at != test.ends[i] {
						t.Errorf("request %d ended at %v, want %v", i, got.at, test.ends[i])
					}
					a := test.arrivals[i]
					want := error(nil)
					switch {
					case a.cancel > 0:
						want = context.Canceled
					case a.timeout > 0:
						want = dataplane.ErrTimeout
					}
					if !errors.Is(got.err, want) {
						t.Errorf("request %d: %v, want %v", i, got.err, want)
					}
				}
			})
		})
	}
}

func TestAnAnswerAtTheDeadlineCounts(t *testing.T) {
	for range 50 { // select chooses at random
		synctest.Test(t, func(t *testing.T) {
			w := launch(t, Config{Latency: constant(sec)}, spec("ml.m5.large"))
			got := play(w, arrival{timeout: sec, cancel: sec})
			if got[0].err != nil || got[0].at != sec {
				t.Fatal(got[0])
			}
		})
	}
}

func TestADeadlineOfTheContextIsItsOwnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := launch(t, Config{Latency: constant(sec)}, spec("ml.m5.large"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*ms)
		defer cancel()
		err := w.Invoke(ctx, &dataplane.Request{}, new(dataplane.Answer))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := w.Invoke(ctx, &dataplane.Request{}, new(dataplane.Answer)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a context that has ended already: %v", err)
		}
	})
}

func TestQueueIsFirstInFirstOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := launch(t, Config{Concurrency: 1, Latency: constant(sec)}, spec("ml.m5.large"))
		for i, got := range play(w, at(make([]time.Duration, 20)...)...) {
			if want := time.Duration(i+1) * sec; got.at != want {
				t.Errorf("request %d ended at %v, want %v", i, got.at, want)
			}
		}
	})
}

func TestAFullQueueAnswers503(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := launch(t, Config{Concurrency: 1, Queue: 2, Latency: constant(sec)}, spec("ml.m5.large"))
		outcomes := play(w, at(0, 0, 0, 0, 1500*ms)...)
		for i, want := range []outcome{
			{at: sec, status: 200},
			{at: 2 * sec, status: 200},
			{at: 3 * sec, status: 200},
			{at: 0, status: 503},
			{at: 4 * sec, status: 200},
		} {
			if outcomes[i] != want {
				t.Errorf("request %d: %v, want %v", i, outcomes[i], want)
			}
		}
		if len(w.(*worker).free) != 4 {
			t.Errorf("%d jobs at rest, want the four that were there at once", len(w.(*worker).free))
		}
	})
}

func TestSameSeedGivesTheSameLatencies(t *testing.T) {
	run := func(cfg Config, seed uint64) string {
		var text string
		synctest.Test(t, func(t *testing.T) {
			s := spec("ml.m5.large")
			s.Seed = seed
			for _, got := range play(launch(t, cfg, s), at(make([]time.Duration, 50)...)...) {
				text += fmt.Sprintln(got.at)
			}
		})
		return text
	}
	cfg := Config{Latency: Latency{Distribution: Lognormal, Mean: sec, Sigma: 0.5}}
	first := run(cfg, 1)
	if run(cfg, 1) != first {
		t.Error("two runs of one seed differ")
	}
	if run(cfg, 2) == first {
		t.Error("two seeds gave the same")
	}
	cfg.FailureRate = 0.5
	if run(cfg, 1) != first {
		t.Error("failures changed the latencies")
	}
}

func TestFailuresComeAtTheirRateAndAfterTheLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := launch(t, Config{FailureRate: 1, Latency: constant(sec)}, spec("ml.m5.large"))
		if got := play(slow, arrival{})[0]; got != (outcome{at: sec, status: 500}) {
			t.Error(got)
		}
	})
	w := launch(t, Config{FailureRate: 0.2}, spec("ml.m5.large"))
	const n = 20_000
	failures := 0
	var ans dataplane.Answer
	for range n {
		if err := w.Invoke(t.Context(), &dataplane.Request{Body: []byte("x")}, &ans); err != nil {
			t.Fatal(err)
		}
		switch ans.StatusCode {
		case 200:
		case 500:
			failures++
			if string(ans.Body) != `{"error":"simulated failure"}` || ans.ContentType != "application/json" {
				t.Fatalf("%+v %s", ans, ans.Body)
			}
		default:
			t.Fatal(ans.StatusCode)
		}
	}
	if rate := float64(failures) / n; rate < 0.19 || rate > 0.21 { // 3.5 standard deviations
		t.Errorf("failure rate %v", rate)
	}
}

func TestStartupIsDividedByTheTimeScaleAndLatencyIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w, err := New(Config{Startup: time.Minute, Latency: constant(sec)}, shapeOf, 60).Launch(t.Context(), spec("ml.m5.large"))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != sec {
			t.Errorf("started within %v", took)
		}
		if got := play(w, arrival{}); got[0].at != sec {
			t.Errorf("answered within %v", got[0].at)
		}
		_ = w.Stop(t.Context(), 0)
	})
}

func TestLaunchFailsInTheWordsOfTheContract(t *testing.T) {
	for _, test := range []struct {
		name    string
		giveUp  time.Duration // of the caller
		cfg     Config
		timeout time.Duration
		want    error
		took    time.Duration
	}{
		{"startup is too long", time.Hour, Config{Startup: time.Hour}, time.Minute, dataplane.ErrPing, time.Minute},
		{"the caller gave up", sec, Config{Startup: time.Hour}, time.Minute, context.DeadlineExceeded, sec},
		{"the caller gave up on a quick one", 0, Config{}, time.Minute, context.DeadlineExceeded, 0},
		{"measured on nothing", sec, Config{MeasuredOn: "ml.x.none"}, 0, dataplane.ErrCannotStart, 0},
		{"not valid", sec, Config{FailureRate: 2}, 0, dataplane.ErrCannotStart, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				s := spec("ml.m5.large")
				s.StartupTimeout = test.timeout
				ctx, cancel := context.WithTimeout(t.Context(), test.giveUp)
				defer cancel()
				w, err := New(test.cfg, shapeOf, 1).Launch(ctx, s)
				if w != nil || !errors.Is(err, test.want) {
					t.Errorf("%v, %v", w, err)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestStopBreaksWhatRunsAndQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := spec("ml.m5.large")
		s.Log = &log
		w := launch(t, Config{Concurrency: 1, Latency: constant(sec)}, s)
		if w.Kind() != "simulated" || w.Address() != "in-process" {
			t.Error(w.Kind(), w.Address())
		}
		time.AfterFunc(500*ms, func() { _ = w.Stop(context.Background(), 30*sec) })
		for _, got := range play(w, at(0, 0, 0)...) {
			if got.at != 500*ms || !errors.Is(got.err, dataplane.ErrBroken) {
				t.Error(got)
			}
		}
		select {
		case <-w.Done():
		default:
			t.Error("not done")
		}
		if err := w.Err(); err != nil {
			t.Error(err)
		}
		if err := w.Stop(t.Context(), 0); err != nil {
			t.Error(err)
		}
		if err := w.Invoke(t.Context(), &dataplane.Request{}, new(dataplane.Answer)); !errors.Is(err, dataplane.ErrBroken) {
			t.Error(err)
		}
		want := "simulated worker i-0123456789abcdef0 runs on ml.m5.large: concurrency 1, latency 1s at speed 1, contention 0, failure rate 0\n" +
			"simulated worker i-0123456789abcdef0 stopped after 3 requests\n"
		if log.String() != want {
			t.Errorf("log:\n%s", log.String())
		}
	})
}

// Many callers of all sorts at once, under the race detector; in the end nothing
// is left at the station.
func TestNoSlotLeaksUnderLoad(t *testing.T) {
	w := launch(t, Config{
		Concurrency: 3, Queue: 5, Contention: 0.5, FailureRate: 0.1,
		Latency: Latency{Distribution: Exponential, Mean: 50 * time.Microsecond},
	}, spec("ml.m5.large"))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			var ans dataplane.Answer
			for n := range 300 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*n%7)*30*time.Microsecond+time.Nanosecond)
				err := w.Invoke(ctx, &dataplane.Request{Timeout: time.Duration(n%5) * 40 * time.Microsecond}, &ans)
				if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, dataplane.ErrTimeout) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	s := &w.(*worker).station
	if len(s.running) != 0 || len(s.waiting) != 0 {
		t.Errorf("%d running, %d waiting", len(s.running), len(s.waiting))
	}
	for _, j := range w.(*worker).free {
		if len(j.done) != 0 {
			t.Error("a job at rest holds a token")
		}
	}
}
