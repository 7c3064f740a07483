package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

// container is a worker whose answers a test writes.
type container struct {
	name    string
	journal *journal
	answer  func(req *dataplane.Request, ans *dataplane.Answer) error
	stops   time.Duration // how long it takes to stop
	done    chan struct{}
	once    sync.Once
	err     error
}

// journal notes what happens to containers, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (c *container) Invoke(_ context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	c.journal.note("%s gets %q %q accept %q attributes %q id %q", c.name, req.ContentType, req.Body, req.Accept, req.CustomAttributes, req.InferenceID)
	return c.answer(req, ans)
}

func (c *container) Stream(ctx context.Context, req *dataplane.Request, to dataplane.Sink) error {
	var ans dataplane.Answer
	if err := c.Invoke(ctx, req, &ans); err != nil {
		return err
	}
	return ans.PassOn(to)
}
func (c *container) Done() <-chan struct{} { return c.done }
func (c *container) Err() error            { return c.err }

func (c *container) Stop(_ context.Context, grace time.Duration) error {
	c.journal.note("%s is stopped within %v", c.name, grace)
	time.Sleep(min(c.stops, grace))
	c.journal.note("%s is gone", c.name)
	c.once.Do(func() { close(c.done) })
	return nil
}
func (c *container) Address() string { return "at " + c.name }
func (c *container) Kind() string    { return "test" }

// chain is a running pipeline of such containers.
type chain struct {
	dataplane.Worker
	journal    *journal
	containers map[string]*container
	logs       map[string]*bytes.Buffer
	dirs       map[string]string
	seeds      map[string]uint64
}

// launch starts containers that append their name to what they get.
func launch(t *testing.T, direct bool, names ...string) *chain {
	t.Helper()
	c := &chain{
		journal: new(journal), containers: map[string]*container{},
		logs: map[string]*bytes.Buffer{}, dirs: map[string]string{}, seeds: map[string]uint64{},
	}
	var mu sync.Mutex
	spec := launchertest.Spec(t)
	spec.Direct = direct
	for _, name := range names {
		spec.Containers = append(spec.Containers, dataplane.Container{Hostname: name, Image: name})
	}
	worker, err := New(Config{
		Launcher: func(d dataplane.Container) dataplane.Launcher {
			return launcherFunc(func(_ context.Context, s dataplane.Spec) (dataplane.Worker, error) {
				mu.Lock()
				defer mu.Unlock()
				one := &container{name: d.Image, journal: c.journal, done: make(chan struct{})}
				one.answer = func(req *dataplane.Request, ans *dataplane.Answer) error {
					ans.StatusCode, ans.ContentType = http.StatusOK, "text/"+one.name
					ans.Body = append(append(ans.Body[:0], req.Body...), "+"+one.name...)
					return nil
				}
				c.containers[d.Image], c.dirs[d.Image], c.seeds[d.Image] = one, s.Dir, s.Seed
				fmt.Fprint(s.Log, "log of "+d.Image)
				return one, nil
			})
		},
		OpenLog: func(_ *dataplane.Spec, name string) (io.WriteCloser, error) {
			mu.Lock()
			defer mu.Unlock()
			c.logs[name] = new(bytes.Buffer)
			return kept{c.logs[name]}, nil
		},
	}).Launch(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	c.Worker = worker
	return c
}

type launcherFunc func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error)

func (f launcherFunc) Launch(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	return f(ctx, spec)
}

func (c *chain) stop(t *testing.T) {
	t.Helper()
	if err := c.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

func (c *chain) do(t *testing.T, req dataplane.Request) dataplane.Answer {
	t.Helper()
	var ans dataplane.Answer
	if err := c.Invoke(t.Context(), &req, &ans); err != nil {
		t.Fatal(err)
	}
	return ans
}

func TestSerialFeedsBodyAndContentTypeOfOneContainerToTheNext(t *testing.T) {
	c := launch(t, false, "a", "b", "c")
	defer c.stop(t)
	ans := c.do(t, dataplane.Request{
		ContentType: "text/csv", Accept: "text/html", CustomAttributes: "trace=1", InferenceID: "id", Body: []byte("x"), Timeout: time.Minute,
	})
	if string(ans.Body) != "x+a+b+c" || ans.ContentType != "text/c" || ans.Container != "" {
		t.Errorf("answer %q %q of %q", ans.ContentType, ans.Body, ans.Container)
	}
	want := []string{
		`a gets "text/csv" "x" accept "" attributes "trace=1" id "id"`,
		`b gets "text/a" "x+a" accept "" attributes "trace=1" id "id"`,
		`c gets "text/b" "x+a+b" accept "text/html" attributes "trace=1" id "id"`,
	}
	if !slices.Equal(c.journal.lines, want) {
		t.Errorf("got\n%s", strings.Join(c.journal.lines, "\n"))
	}
}

func TestDirectInvokesTheNamedContainerOnly(t *testing.T) {
	c := launch(t, true, "a", "b", "c")
	defer c.stop(t)
	if ans := c.do(t, dataplane.Request{TargetContainer: "b", Body: []byte("x")}); string(ans.Body) != "x+b" || len(c.journal.lines) != 1 {
		t.Errorf("answer %q after %q", ans.Body, c.journal.lines)
	}
	err := c.Invoke(t.Context(), &dataplane.Request{TargetContainer: "d"}, new(dataplane.Answer))
	if !errors.Is(err, dataplane.ErrUnknownContainer) {
		t.Errorf("got %v, want ErrUnknownContainer", err)
	}
}

func TestFailureOfAContainerIsReportedWithItsName(t *testing.T) {
	for _, tc := range []struct {
		fails  string
		status int
		err    error
	}{
		{"a", 400, nil},
		{"b", 503, nil},
		{"c", 500, nil},
		{"b", 0, dataplane.ErrBroken},
		{"c", 0, dataplane.ErrTooLarge},
	} {
		c := launch(t, false, "a", "b", "c")
		c.containers[tc.fails].answer = func(_ *dataplane.Request, ans *dataplane.Answer) error {
			ans.StatusCode, ans.ContentType, ans.CustomAttributes, ans.Body = tc.status, "text/why", "why=1", append(ans.Body[:0], "no"...)
			return tc.err
		}
		var ans dataplane.Answer
		err := c.Invoke(t.Context(), &dataplane.Request{Timeout: time.Minute}, &ans)
		if !errors.Is(err, tc.err) || ans.Container != tc.fails {
			t.Errorf("%+v: %v of %q", tc, err, ans.Container)
		}
		if tc.err == nil && (ans.StatusCode != tc.status || string(ans.Body) != "no" || ans.ContentType != "text/why" || ans.CustomAttributes != "why=1") {
			t.Errorf("%+v: %+v", tc, ans)
		}
		if last := c.journal.lines[len(c.journal.lines)-1]; !strings.HasPrefix(last, tc.fails) {
			t.Errorf("%+v: the last one invoked is %s", tc, last)
		}
		c.stop(t)
	}
}

// The 60 s of an invocation are for all containers together.
func TestContainersShareTheInvocationsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := launch(t, false, "a", "b", "c")
		defer c.stop(t)
		left := map[string]time.Duration{}
		for name, one := range c.containers {
			one.answer = func(req *dataplane.Request, ans *dataplane.Answer) error {
				left[name] = req.Timeout
				time.Sleep(25 * time.Second)
				ans.StatusCode = http.StatusOK
				return nil
			}
		}
		var ans dataplane.Answer
		if err := c.Invoke(t.Context(), &dataplane.Request{Timeout: time.Minute}, &ans); err != nil {
			t.Error(err)
		}
		if left["a"] != time.Minute || left["b"] != 35*time.Second || left["c"] != 10*time.Second {
			t.Errorf("time left: %v", left)
		}
		err := c.Invoke(t.Context(), &dataplane.Request{Timeout: 50 * time.Second}, &ans)
		if !errors.Is(err, dataplane.ErrTimeout) || ans.Container != "c" {
			t.Errorf("got %v of %q, want ErrTimeout of c", err, ans.Container)
		}
	})
}

func TestEachContainerHasADirectoryALogAndASeed(t *testing.T) {
	c := launch(t, false, "a", "A", "b")
	defer c.stop(t)
	dirs, seeds := map[string]bool{}, map[uint64]bool{}
	for name, log := range c.logs {
		if log.String() != "log of "+name {
			t.Errorf("log of %s: %q", name, log)
		}
		dirs[strings.ToLower(filepath.Base(c.dirs[name]))], seeds[c.seeds[name]] = true, true
	}
	if len(dirs) != 3 || len(seeds) != 3 {
		t.Errorf("directories %v, seeds %v", dirs, seeds)
	}
	if c.Address() != "at a, at A, at b" || c.Kind() != "test" {
		t.Errorf("address %q, kind %q", c.Address(), c.Kind())
	}
}

func TestContainersStopInReverseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := launch(t, false, "a", "b", "c")
		c.containers["b"].stops = time.Hour
		begin := time.Now()
		if err := c.Stop(t.Context(), 30*time.Second); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 30*time.Second {
			t.Errorf("Stop took %v", took)
		}
		want := []string{
			"c is stopped within 30s", "c is gone", "b is stopped within 30s",
			"a is stopped within 20s", "a is gone", "b is gone",
		}
		if !slices.Equal(c.journal.lines, want) {
			t.Errorf("got\n%s", strings.Join(c.journal.lines, "\n"))
		}
	})
}

func TestDeathOfOneContainerEndsTheInstance(t *testing.T) {
	s := launchertest.NewModelServer(t)
	w := launchertest.Launch(t, threefold{modelServer(s)}, launchertest.Spec(t)).(*worker)
	if n := len(s.Alive()); n != 3 {
		t.Fatalf("%d processes, want 3", n)
	}
	_ = w.stages[1].worker.Invoke(t.Context(), launchertest.Ask("crash", "code", "3"), new(dataplane.Answer)) // its connection breaks
	select {
	case <-w.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the instance is not done")
	}
	e, ok := errors.AsType[*dataplane.ContainerError](w.Err())
	if !ok || e.Container != "second" || !strings.Contains(e.Error(), "exit status 3") {
		t.Errorf("Err = %v", w.Err())
	}
	if err := w.Stop(t.Context(), 10*time.Second); err != nil {
		t.Error(err)
	}
	if pids := s.Alive(); len(pids) > 0 {
		t.Errorf("processes %v still run", pids)
	}
}

func TestContainerThatDoesNotStartStopsTheOthersAndIsNamed(t *testing.T) {
	s := launchertest.NewModelServer(t)
	good, bad := modelServer(s), modelServer(s, launchertest.PingsVariable, "-1")
	spec := launchertest.Spec(t)
	spec.StartupTimeout = time.Second
	for _, name := range []string{"first", "second", "third"} {
		spec.Containers = append(spec.Containers, dataplane.Container{Hostname: name, Image: name})
	}
	w, err := New(Config{
		Launcher: func(c dataplane.Container) dataplane.Launcher {
			if c.Image == "second" {
				return bad
			}
			return good
		},
		OpenLog: func(spec *dataplane.Spec, _ string) (io.WriteCloser, error) { return kept{spec.Log}, nil },
	}).Launch(t.Context(), spec)
	e, ok := errors.AsType[*dataplane.ContainerError](err)
	if w != nil || !ok || e.Container != "second" || !errors.Is(err, dataplane.ErrPing) {
		t.Errorf("Launch = %v, %v; want ErrPing of second", w, err)
	}
	if pids := s.Alive(); len(pids) > 0 {
		t.Errorf("processes %v still run", pids)
	}
}

func TestFirstFailureEndsTheOtherStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := launchertest.Spec(t)
		spec.Containers = []dataplane.Container{{Hostname: "slow"}, {Hostname: "bad"}}
		began := time.Now()
		_, err := New(Config{
			Launcher: func(c dataplane.Container) dataplane.Launcher {
				return launcherFunc(func(ctx context.Context, _ dataplane.Spec) (dataplane.Worker, error) {
					if c.Hostname == "bad" {
						time.Sleep(time.Second)
						return nil, dataplane.ErrPing
					}
					<-ctx.Done()
					return nil, ctx.Err()
				})
			},
			OpenLog: func(spec *dataplane.Spec, _ string) (io.WriteCloser, error) { return kept{spec.Log}, nil },
		}).Launch(t.Context(), spec)
		e, ok := errors.AsType[*dataplane.ContainerError](err)
		if !ok || e.Container != "bad" || errors.Is(err, context.Canceled) || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestLogThatCannotBeOpenedFailsTheLaunch(t *testing.T) {
	spec := launchertest.Spec(t)
	spec.Containers = []dataplane.Container{{Hostname: "a"}, {Hostname: "b"}}
	full := errors.New("disk full")
	_, err := New(Config{
		Launcher: func(dataplane.Container) dataplane.Launcher { t.Error("launched without a log"); return nil },
		OpenLog:  func(*dataplane.Spec, string) (io.WriteCloser, error) { return nil, full },
	}).Launch(t.Context(), spec)
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}
