// Package launchertest holds what every kind of worker has to pass, and a model
// server that can be told to misbehave.
package launchertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// promptly is how soon a thing that happens at once must have happened, on a
// busy machine and under the race detector.
const promptly = 10 * time.Second

// Fixture is a kind of worker under test. Its workers echo the body and the
// content type of a request.
type Fixture struct {
	Launcher dataplane.Launcher
	// Slow's workers take far longer than promptly for every answer.
	Slow dataplane.Launcher
	// Unhealthy's workers never become so.
	Unhealthy dataplane.Launcher
	// Failing's workers answer every invocation with FailureStatus.
	Failing       dataplane.Launcher
	FailureStatus int

	// ModelServer: behind the workers stands this package's model server. It
	// echoes custom attributes too, and can be told to die.
	ModelServer bool
	// Chained: a request goes through several model servers, and all of them do
	// what it asks. Then a stream cannot be told to misbehave.
	Chained bool
	// Prints: what a worker prints is in Spec.Log. A worker that does not serve
	// by a model server prints something of its own.
	Prints bool
	// Leftovers gives the processes that were started for workers and still run;
	// nil if there are none in this kind.
	Leftovers func() []int
}

// Run holds a kind of worker to the contract of dataplane.Launcher and Worker.
// The fixture is made anew for each part.
func Run(t *testing.T, fixture func(t *testing.T) Fixture) {
	for _, part := range []struct {
		name string
		test func(*testing.T, Fixture)
	}{
		{"LaunchAnswersOnlyWhenHealthy", launchAnswersOnlyWhenHealthy},
		{"LaunchGivesUpOnAnUnhealthyWorker", launchGivesUp},
		{"CancelledLaunchLeavesNothing", cancelledLaunch},
		{"InvokeEchoes", invokeEchoes},
		{"InvokeReturnsErrorStatusAsAnswer", errorStatusIsAnswer},
		{"InvokeTimesOut", invokeTimesOut},
		{"InvokeReturnsPromptlyWhenCancelled", invokeCancelled},
		{"InvokeIsSafeForConcurrentUse", concurrentInvocations},
		{"StopWhileBusyBreaksInvocations", stopWhileBusy},
		{"StopTwiceAndInvokeAfterwards", stopTwice},
		{"DoneWhenTheWorkerDies", doneOnDeath},
		{"LogHasWhatTheWorkerPrints", logHasOutput},
		{"StreamEchoes", streamEchoes},
		{"StreamPassesPiecesOnAsTheyCome", streamPieces},
		{"StreamPassesErrorStatusOn", streamErrorStatus},
		{"StreamTimesOut", streamTimesOut},
		{"StreamReturnsPromptlyWhenCancelled", streamCancelled},
		{"StreamBreaksWithTheWorker", streamBreaks},
		{"StreamEndsWithItsSink", streamSinkFails},
		{"DuplexEchoesFrameForFrame", duplexEchoes},
		{"DuplexEndsWithClose", duplexCloses},
		{"DuplexBreaksWithTheWorker", duplexBreaks},
		{"DuplexTellsOfTheContainer", duplexTellsOfTheContainer},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, fixture(t)) })
	}
}

// Spec is a complete one, with no more limits than an instance type has; its Log
// is an *Output.
func Spec(t *testing.T) dataplane.Spec {
	return dataplane.Spec{
		Key:            dataplane.Key{Account: "123456789012", Region: "eu-west-1", Name: "an-endpoint"},
		Variant:        "AllTraffic",
		InstanceID:     "i-0123456789abcdef0",
		Container:      dataplane.Container{Image: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/model:1"},
		Shape:          dataplane.Shape{InstanceType: "ml.m5.large", VCPU: 2},
		StartupTimeout: time.Minute, DownloadTimeout: time.Minute,
		Dir: t.TempDir(), Log: NewOutput(), Seed: 1,
	}
}

// Launch starts a worker that is stopped at the end of the test.
func Launch(t *testing.T, l dataplane.Launcher, spec dataplane.Spec) dataplane.Worker {
	t.Helper()
	w, err := l.Launch(t.Context(), spec)
	if err != nil {
		t.Fatalf("Launch: %v", err)
	}
	t.Cleanup(func() {
		if err := w.Stop(context.Background(), 0); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return w
}

// Do sends one request and fails the test if it is not answered.
func Do(t *testing.T, w dataplane.Worker, req *dataplane.Request) dataplane.Answer {
	t.Helper()
	var ans dataplane.Answer
	if req.Timeout == 0 {
		req.Timeout = time.Minute
	}
	if err := w.Invoke(t.Context(), req, &ans); err != nil {
		t.Fatalf("Invoke: %v", err)
	}
	return ans
}

// wantClosed fails the test unless the channel is closed soon.
func wantClosed(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(promptly):
		t.Fatalf("%s has not happened after %v", what, promptly)
	}
}

func (f Fixture) wantNoLeftovers(t *testing.T) {
	t.Helper()
	if f.Leftovers == nil {
		return
	}
	if pids := f.Leftovers(); len(pids) > 0 {
		t.Errorf("processes %v still run", pids)
	}
}

func launchAnswersOnlyWhenHealthy(t *testing.T, f Fixture) {
	w := Launch(t, f.Launcher, Spec(t))
	select {
	case <-w.Done():
		t.Fatalf("the worker is done: %v", w.Err())
	default:
	}
	if w.Kind() == "" || w.Address() == "" {
		t.Errorf("kind %q, address %q; want both", w.Kind(), w.Address())
	}
	if !f.ModelServer {
		return
	}
	want := fmt.Sprintf("%d refused, 0 left", unhealthyPings)
	if got := Do(t, w, Ask("pings")); string(got.Body) != want {
		t.Errorf("pings before Launch returned: %s; want %s", got.Body, want)
	}
}

func launchGivesUp(t *testing.T, f Fixture) {
	if f.Unhealthy == nil {
		t.Skip("always healthy")
	}
	spec := Spec(t)
	spec.StartupTimeout = 300 * time.Millisecond
	w, err := f.Unhealthy.Launch(t.Context(), spec)
	if w != nil || !errors.Is(err, dataplane.ErrPing) {
		t.Errorf("Launch = %v, %v; want ErrPing", w, err)
	}
	f.wantNoLeftovers(t)
}

func cancelledLaunch(t *testing.T, f Fixture) {
	if f.Unhealthy == nil {
		t.Skip("starts at once")
	}
	spec := Spec(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	var w dataplane.Worker
	var err error
	go func() {
		defer close(ended)
		w, err = f.Unhealthy.Launch(ctx, spec)
	}()
	if f.ModelServer && f.Prints {
		spec.Log.(*Output).Await(t, serverStarted)
	}
	cancel()
	wantClosed(t, ended, "the return of a cancelled Launch")
	if w != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("Launch = %v, %v; want context.Canceled", w, err)
	}
	f.wantNoLeftovers(t)

	if w, err := f.Launcher.Launch(ctx, Spec(t)); w != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("Launch with an ended context = %v, %v; want context.Canceled", w, err)
	}
	f.wantNoLeftovers(t)
}

func invokeEchoes(t *testing.T, f Fixture) {
	w := Launch(t, f.Launcher, Spec(t))
	for _, req := range []*dataplane.Request{
		{ContentType: "text/csv", Body: []byte("1,2,3\n"), CustomAttributes: "trace=7"},
		{ContentType: "application/json", Body: []byte(`{"instances":[1]}`)},
		{ContentType: "application/octet-stream", Body: []byte{0, 255, '\r', '\n', 0}, InferenceID: "id", Accept: "*/*"},
		{ContentType: "text/plain", Body: []byte(strings.Repeat("large ", 1<<20))},
		{ContentType: "text/plain"},
	} {
		ans := Do(t, w, req)
		attributes := ans.CustomAttributes == req.CustomAttributes || !f.ModelServer
		if ans.StatusCode != http.StatusOK || ans.ContentType != req.ContentType || !attributes || string(ans.Body) != string(req.Body) {
			t.Errorf("echo of %d bytes %s, attributes %q: %d, %d bytes %s, attributes %q",
				len(req.Body), req.ContentType, req.CustomAttributes,
				ans.StatusCode, len(ans.Body), ans.ContentType, ans.CustomAttributes)
		}
	}
}

func errorStatusIsAnswer(t *testing.T, f Fixture) {
	if f.Failing != nil {
		w := Launch(t, f.Failing, Spec(t))
		if ans := Do(t, w, &dataplane.Request{Body: []byte("x")}); ans.StatusCode != f.FailureStatus {
			t.Errorf("status %d, want %d", ans.StatusCode, f.FailureStatus)
		}
	}
	if !f.ModelServer {
		return
	}
	w := Launch(t, f.Launcher, Spec(t))
	for _, status := range []int{400, 404, 413, 500, 503, 599} {
		req := Ask("status", "code", fmt.Sprint(status))
		req.Body = []byte("the reason")
		if ans := Do(t, w, req); ans.StatusCode != status || string(ans.Body) != "the reason" {
			t.Errorf("status %d came as %d %q", status, ans.StatusCode, ans.Body)
		}
	}
}

func invokeTimesOut(t *testing.T, f Fixture) {
	w := Launch(t, f.Slow, Spec(t))
	begin := time.Now()
	const timeout = 50 * time.Millisecond
	err := w.Invoke(t.Context(), &dataplane.Request{Timeout: timeout}, new(dataplane.Answer))
	if !errors.Is(err, dataplane.ErrTimeout) {
		t.Errorf("Invoke: %v, want ErrTimeout", err)
	}
	if took := time.Since(begin); took < timeout || took > promptly {
		t.Errorf("a timeout of %v took %v", timeout, took)
	}
}

func invokeCancelled(t *testing.T, f Fixture) {
	w := Launch(t, f.Slow, Spec(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
	begin := time.Now()
	err := w.Invoke(ctx, &dataplane.Request{Timeout: time.Minute}, new(dataplane.Answer))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Invoke: %v, want context.Canceled", err)
	}
	if took := time.Since(begin); took > promptly {
		t.Errorf("a cancelled invocation took %v", took)
	}
	if err := w.Invoke(ctx, &dataplane.Request{}, new(dataplane.Answer)); !errors.Is(err, context.Canceled) {
		t.Errorf("Invoke with an ended context: %v, want context.Canceled", err)
	}
}

func concurrentInvocations(t *testing.T, f Fixture) {
	w := Launch(t, f.Launcher, Spec(t))
	const callers, each = 64, 4
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			var ans dataplane.Answer
			for i := range each {
				body := fmt.Sprintf("caller %d, request %d", caller, i)
				req := &dataplane.Request{ContentType: "text/plain", Body: []byte(body), Timeout: time.Minute}
				if err := w.Invoke(t.Context(), req, &ans); err != nil || string(ans.Body) != body {
					t.Errorf("%s: answer %q, error %v", body, ans.Body, err)
				}
			}
		})
	}
	all.Wait()
}

func stopWhileBusy(t *testing.T, f Fixture) {
	spec := Spec(t)
	w := Launch(t, f.Slow, spec)
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			err := w.Invoke(t.Context(), &dataplane.Request{Timeout: time.Minute}, new(dataplane.Answer))
			if !errors.Is(err, dataplane.ErrBroken) {
				t.Errorf("Invoke during Stop: %v, want ErrBroken", err)
			}
		})
	}
	if f.ModelServer && f.Prints {
		spec.Log.(*Output).Await(t, slowInvocation)
	}
	begin := time.Now()
	if err := w.Stop(t.Context(), 100*time.Millisecond); err != nil {
		t.Errorf("Stop: %v", err)
	}
	busy.Wait()
	if took := time.Since(begin); took > promptly {
		t.Errorf("Stop and its invocations took %v", took)
	}
	f.wantNoLeftovers(t)
}

func stopTwice(t *testing.T, f Fixture) {
	w := Launch(t, f.Launcher, Spec(t))
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := w.Stop(t.Context(), promptly); err != nil {
				t.Errorf("Stop: %v", err)
			}
			f.wantNoLeftovers(t) // a later call waits for the first
		})
	}
	all.Wait()
	if err := w.Stop(t.Context(), promptly); err != nil {
		t.Errorf("Stop of a stopped worker: %v", err)
	}
	wantClosed(t, w.Done(), "Done after Stop")
	if err := w.Err(); err != nil {
		t.Errorf("Err after Stop = %v, want nil", err)
	}
	err := w.Invoke(t.Context(), &dataplane.Request{Timeout: time.Minute}, new(dataplane.Answer))
	if !errors.Is(err, dataplane.ErrBroken) {
		t.Errorf("Invoke after Stop: %v, want ErrBroken", err)
	}
}

func doneOnDeath(t *testing.T, f Fixture) {
	if !f.ModelServer {
		t.Skip("cannot die")
	}
	w := Launch(t, f.Launcher, Spec(t))
	err := w.Invoke(t.Context(), Ask("crash", "code", "3"), new(dataplane.Answer))
	if !errors.Is(err, dataplane.ErrBroken) {
		t.Errorf("Invoke of a worker that crashes: %v, want ErrBroken", err)
	}
	wantClosed(t, w.Done(), "Done after the worker's death")
	if w.Err() == nil {
		t.Error("Err is nil after the worker's death")
	}
	f.wantNoLeftovers(t)
}

func logHasOutput(t *testing.T, f Fixture) {
	if !f.Prints {
		t.Skip("prints nothing")
	}
	spec := Spec(t)
	w := Launch(t, f.Launcher, spec)
	if !f.ModelServer {
		Do(t, w, Ask("print", "line", "x"))
		spec.Log.(*Output).Await(t, "\n")
		return
	}
	Do(t, w, Ask("print", "line", "a line of the worker's"))
	spec.Log.(*Output).Await(t, "a line of the worker's\n")
}
