package api

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/eventloop"
)

// blockedInvocation is under way until its caller leaves.
type blockedInvocation struct {
	request string
	entered chan struct{}       // told when a worker has it; nil where none gets it
	in      *dataplane.Instance // that has it; nil for none
}

// blockedInvocations are all ways in which an invocation may have to wait. While
// one does, others of its event loop are served.
var blockedInvocations = map[string]func(*testing.T, *lane) blockedInvocation{
	"HTTP worker": func(t *testing.T, l *lane) blockedInvocation {
		g := newGate()
		return blockedInvocation{plainText("e", "x"), g.entered, l.publish(t, "e", webWorker(t, g.ServeHTTP))}
	},
	"large body": func(t *testing.T, l *lane) blockedInvocation {
		g := newGate()
		return blockedInvocation{plainText("e", strings.Repeat("x", 1<<20)), g.entered, l.publish(t, "e", webWorker(t, g.ServeHTTP))}
	},
	"stream": func(t *testing.T, l *lane) blockedInvocation {
		g := newGate()
		return blockedInvocation{streamRequest, g.entered, l.publish(t, "e", webWorker(t, g.ServeHTTP))}
	},
	"stream that has begun": func(t *testing.T, l *lane) blockedInvocation {
		entered := make(chan struct{}, 1)
		return blockedInvocation{streamRequest, entered, l.publish(t, "e", webWorker(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
			_ = http.NewResponseController(w).Flush()
			entered <- struct{}{}
			<-r.Context().Done()
		}))}
	},
	"worker of another kind": func(t *testing.T, l *lane) blockedInvocation {
		w := newSlowWorker()
		return blockedInvocation{plainText("e", "x"), w.entered, l.publish(t, "e", w)}
	},
	"session": func(t *testing.T, l *lane) blockedInvocation {
		w := newSlowWorker()
		return blockedInvocation{plainText("e", "x", "X-Amzn-SageMaker-Session-Id", dataplane.NewSession), w.entered, l.publish(t, "e", w)}
	},
	"target model": func(t *testing.T, l *lane) blockedInvocation {
		w := newSlowWorker()
		in := l.publish(t, "e", w, func(v *dataplane.Variant) { v.MultiModel = "primary" })
		return blockedInvocation{plainText("e", "x", "X-Amzn-SageMaker-Target-Model", "m"), w.entered, in}
	},
	"scripted answer": func(t *testing.T, l *lane) blockedInvocation {
		in := l.publish(t, "e", newSlowWorker())
		rules, err := dataplane.NewResponses([]dataplane.ResponseRule{{Delay: dataplane.Duration(time.Hour)}})
		if err != nil {
			t.Fatal(err)
		}
		l.fleet.Lookup(laneKey("e")).SetResponses(rules)
		return blockedInvocation{plainText("e", "x"), nil, in}
	},
	"fault": func(t *testing.T, l *lane) blockedInvocation {
		in := l.publish(t, "e", newSlowWorker())
		faults, err := dataplane.NewFaults(dataplane.FaultScript{Rules: []dataplane.FaultRule{{Fault: dataplane.FaultLatency, Latency: dataplane.Duration(time.Hour)}}})
		if err != nil {
			t.Fatal(err)
		}
		l.fleet.Lookup(laneKey("e")).SetFaults(faults)
		return blockedInvocation{plainText("e", "x"), nil, in}
	},
	"serverless": func(t *testing.T, l *lane) blockedInvocation {
		waits := make(chan struct{}, 1)
		pool := dataplane.NewServerlessPool(func() { waits <- struct{}{} })
		pool.Serverless().SetLimit(1)
		l.publishVariant("e", dataplane.Variant{Name: "v", Weight: 1, Pool: pool})
		return blockedInvocation{plainText("e", "x"), waits, nil}
	},
	"shadow": func(t *testing.T, l *lane) blockedInvocation {
		g := newGate()
		in := l.publish(t, "e", webWorker(t, g.ServeHTTP), func(v *dataplane.Variant) {
			shadow := dataplane.NewShadow(v.Pool, 1)
			t.Cleanup(shadow.Close)
			v.Pool.SetTap(&dataplane.Tap{Variant: v.Name, Shadow: shadow})
		})
		return blockedInvocation{plainText("e", "x"), g.entered, in}
	},
}

func newSlowWorker() *slowWorker {
	return &slowWorker{entered: make(chan struct{}, 10), answer: make(chan struct{}), fail: make(chan error), gone: make(chan error, 10)}
}

func (*slowWorker) Stop(context.Context, time.Duration) error { return nil }
func (*slowWorker) Kind() string                              { return "slow" }
func (*slowWorker) Address() string                           { return "in-process" }

// A worker whose answer has to be waited for elsewhere gets it through all the
// same, and the connection returns to its loop.
func TestInvocationThatLeavesItsEventLoopIsAnswered(t *testing.T) {
	l := serveLane(t)
	w := newSlowWorker()
	in := l.publish(t, "e", w)
	a, b := l.pair(t)
	for range 3 {
		a.send(t, plainText("e", "x"))
		within(t, w.entered)
		b.invoke(t, "bench", "x")
		w.answer <- struct{}{}
		if got, err := a.answer(); got.status != "HTTP/1.1 200 OK" || err != nil {
			t.Errorf("%v, error %v", got, err)
		}
		self, onLoop := l.rides(t, a), make(chan bool, 1)
		self.ride.loop.Go(func(*eventloop.Strand) { onLoop <- self.ride.strand.Inline() })
		if !within(t, onLoop) {
			t.Error("the connection waits in a goroutine of its own")
		}
	}
	if s := in.Status(); s.InFlight != 0 || s.Invocations != 3 {
		t.Errorf("%+v", s)
	}
}
