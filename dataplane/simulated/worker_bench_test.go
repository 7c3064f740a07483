package simulated

import (
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

func TestInstantAnswersDoNotAllocate(t *testing.T) {
	for name, cfg := range map[string]Config{
		"echo":                  {},
		"fixed":                 {Answer: Answer{Fixed: &Fixed{Body: `{"ok":true}`}}},
		"slots but no latency":  {Concurrency: 4, Contention: 1},
		"failures without time": {FailureRate: 1e-12},
	} {
		w := launch(t, cfg, spec("ml.m5.large"))
		req := &dataplane.Request{ContentType: "text/csv", Body: []byte("1,2,3"), Timeout: time.Minute}
		ans := &dataplane.Answer{Body: make([]byte, 0, 64)}
		ctx := t.Context()
		if n := testing.AllocsPerRun(1000, func() {
			if err := w.Invoke(ctx, req, ans); err != nil || ans.StatusCode != 200 {
				t.Fatal(err, ans.StatusCode)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkInvokeInstant(b *testing.B) {
	w := launch(b, Config{}, spec("ml.m5.large"))
	req := &dataplane.Request{ContentType: "text/csv", Body: []byte(strings.Repeat("1,2,3,", 20)), Timeout: time.Minute}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ans := new(dataplane.Answer)
		for pb.Next() {
			if err := w.Invoke(b.Context(), req, ans); err != nil {
				b.Error(err)
			}
		}
	})
}

// The work is a nanosecond, so that what is measured is the model's own cost.
func BenchmarkInvokeContended(b *testing.B) {
	w := launch(b, Config{Concurrency: 8, Queue: maxQueue, Contention: 0.35, Latency: constant(1)}, spec("ml.m5.large"))
	req := &dataplane.Request{ContentType: "text/csv", Body: []byte("1,2,3"), Timeout: time.Minute}
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		ans := new(dataplane.Answer)
		for pb.Next() {
			if err := w.Invoke(b.Context(), req, ans); err != nil {
				b.Error(err)
			}
		}
	})
}

// The station alone, with a thousand jobs in its slots.
func BenchmarkStation(b *testing.B) {
	s := station{contention: 0.35}
	jobs := make([]job, 1000)
	for i := range jobs {
		jobs[i] = job{work: float64(1e9 + i), done: make(chan struct{}, 1)}
		s.arrive(0, &jobs[i])
	}
	b.ReportAllocs()
	for b.Loop() {
		first := s.running[0]
		now := s.next()
		s.advance(now)
		<-first.done
		s.arrive(now, first)
	}
}
