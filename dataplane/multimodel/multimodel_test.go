package multimodel

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
)

func TestModelsAreLoadedOnDemandAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContainer()
		c.loads = 3 * time.Second
		in := start(t, c, nil, "a", "b")
		defer in.stop()
		in.bucket.takes = 2 * time.Second
		if s := in.status(); len(s.Loaded) != 0 {
			t.Errorf("loaded at the start: %v", s.Loaded)
		}
		began := time.Now()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { in.want("a") })
		}
		synctest.Wait()
		if h := in.Worker.(dataplane.ModelHost); !h.HasModel("a") || h.HasModel("b") {
			t.Error("a is being loaded, and b is not")
		}
		all.Wait()
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v", took)
		}
		in.want("a")
		if n := c.count("POST models a"); n != 1 || in.bucket.downloads != 1 {
			t.Errorf("%d loads, %d downloads; want one", n, in.bucket.downloads)
		}
		s := in.status()
		if !slices.Equal(s.Loaded, []string{"a"}) || s.Misses != 20 || s.Hits != 1 || s.OnDisk != 1 || s.DiskBytes != mib {
			t.Errorf("status %+v", s)
		}
		for metric, want := range map[string]struct {
			n    int
			took time.Duration
		}{
			dataplane.ModelDownloadingTime: {1, 2 * time.Second},
			dataplane.ModelLoadingTime:     {1, 3 * time.Second},
			dataplane.ModelLoadingWaitTime: {20, 100 * time.Second},
			dataplane.ModelCacheHit:        {21, 0},
		} {
			if n, took := in.event(metric); n != want.n || took != want.took {
				t.Errorf("%s: %d times, %v; want %v", metric, n, took, want)
			}
		}
	})
}

// 507 makes the platform unload what was not used for the longest time.
func TestMemoryShortageUnloadsTheLeastRecentlyUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContainer()
		c.room = 2
		in := start(t, c, nil, "a", "b", "c")
		defer in.stop()
		for _, target := range []string{"a", "b", "a", "c"} {
			in.want(target)
			time.Sleep(time.Second)
		}
		s := in.status()
		if !slices.Equal(s.Loaded, []string{"a", "c"}) || s.Evictions != 1 || s.OnDisk != 3 {
			t.Errorf("status %+v; b was to go, and to stay on disk", s)
		}
		in.want("b")
		if in.bucket.downloads != 3 {
			t.Errorf("%d downloads: b was on disk", in.bucket.downloads)
		}
		if n, _ := in.event(dataplane.ModelUnloadingTime); n != 2 {
			t.Errorf("%d unloads, want 2", n)
		}
	})
}

// Memory that was given back after the container had said 507 counts.
func TestMemoryThatIsFreedBehindA507IsTried(t *testing.T) {
	c := newContainer()
	in := start(t, c, nil, "a", "b")
	defer in.stop()
	in.want("a")
	tries := 0
	c.reply = func(method, path string, ans *dataplane.Answer) bool {
		if method != http.MethodPost || path != "/models" {
			return false
		}
		if tries++; tries > 1 {
			return false
		}
		in.Worker.(*host).evict(t.Context())
		ans.StatusCode = http.StatusInsufficientStorage
		return true
	}
	in.want("b")
}

func TestLoadWaitsWhileTheOtherModelsAreInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContainer()
		c.room, c.infers = 1, 10*time.Second
		in := start(t, c, nil, "a", "b")
		defer in.stop()
		began := time.Now()
		var all sync.WaitGroup
		all.Go(func() { in.want("a") })
		synctest.Wait()
		all.Go(func() { in.want("b") })
		all.Wait()
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("took %v: b's load has to wait for a", took)
		}
	})
}

// A load that was refused memory once, and has it now, is one to wait for.
func TestLoadsTakeTurnsWhereOneModelHasRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContainer()
		c.room, c.loads = 1, time.Second
		in := start(t, c, nil, "a", "b", "c", "d")
		defer in.stop()
		began := time.Now()
		var all sync.WaitGroup
		for _, target := range []string{"a", "b", "c", "d"} {
			all.Go(func() { in.want(target) })
		}
		all.Wait()
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("took %v, want one load after the other", took)
		}
	})
}

// The key is the prefix and TargetModel, with one slash between.
func TestTargetModelWithASlashInFrontIsTheSameModel(t *testing.T) {
	c := newContainer()
	in := start(t, c, nil, "a")
	defer in.stop()
	in.want("a")
	ans, err := in.ask("/a")
	if err != nil || ans.StatusCode != http.StatusOK || !in.Worker.(dataplane.ModelHost).HasModel("/a") {
		t.Fatalf("%d %q, %v", ans.StatusCode, ans.Body, err)
	}
	if s := in.status(); !slices.Equal(s.Loaded, []string{"a"}) || s.Hits != 1 || s.MemoryBytes != mib || in.bucket.downloads != 1 || c.count("POST models a") != 1 {
		t.Errorf("status %+v, calls %v; want one model, loaded once and invoked twice", s, c.calls)
	}
}

func TestModelThatNoMemorySufficesForIsTheContainers507(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContainer()
		in := start(t, c, nil, "a", "b")
		defer in.stop()
		c.reply = func(method, path string, ans *dataplane.Answer) bool {
			ans.StatusCode, ans.Body = http.StatusInsufficientStorage, append(ans.Body[:0], "no memory"...)
			return method == http.MethodPost && path == "/models"
		}
		// Both at once: neither may wait for the other for ever.
		var all sync.WaitGroup
		for _, target := range []string{"a", "b"} {
			all.Go(func() {
				ans, err := in.ask(target)
				if err != nil || ans.StatusCode != http.StatusInsufficientStorage || string(ans.Body) != "no memory" {
					t.Errorf("%s: %d %q, %v", target, ans.StatusCode, ans.Body, err)
				}
			})
		}
		all.Wait()
		if s := in.status(); s.MemoryBytes != 0 || s.OnDisk != 0 || len(s.Loading) != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// What a model's files suggest is unloaded before the container has to say 507.
func TestMemoryOfTheInstanceTypeBoundsWhatIsLoaded(t *testing.T) {
	for _, shape := range []dataplane.Shape{
		{MemoryGiB: 2.0 / 1024 * 16 / 15},
		{MemoryGiB: 64, Accelerators: 2, AcceleratorGiB: 1.0 / 1024},
	} {
		in := start(t, newContainer(), func(spec *dataplane.Spec) { spec.Shape = shape }, "a", "b", "c")
		in.want("a", "b", "c")
		if s := in.status(); !slices.Equal(s.Loaded, []string{"b", "c"}) || s.MemoryBytes != 2*mib {
			t.Errorf("%+v: status %+v, want two loaded", shape, s)
		}
		in.stop()
	}
}

func TestFilesOnDiskAreBounded(t *testing.T) {
	in := start(t, newContainer(), nil, "a", "b", "c", "d")
	defer in.stop()
	h := in.Worker.(*host)
	h.disk.limit = 3 * mib
	h.memory.limit = mib // one is loaded
	in.want("a", "b", "c", "a", "d")
	s := in.status()
	if s.OnDisk != 3 || s.DiskBytes != 3*mib || !slices.Equal(s.Loaded, []string{"d"}) {
		t.Errorf("status %+v", s)
	}
	if _, err := os.Stat(h.models["a"].dir); err != nil || h.models["b"] != nil {
		t.Errorf("b was unused for the longest time: %v, %v", err, h.models["b"])
	}
	in.want("b")
	if in.bucket.downloads != 5 {
		t.Errorf("%d downloads, want 5", in.bucket.downloads)
	}
	// With all of them loaded, an idle one is unloaded first.
	h.memory.limit = 0
	in.want("c", "d", "b", "a")
	if s := in.status(); s.OnDisk != 3 || len(s.Loaded) != 3 {
		t.Errorf("status %+v", s)
	}
	in.bucket.sizes["s3://models/mme/huge"] = 4 * mib
	if _, err := in.ask("huge"); !errors.Is(err, dataplane.ErrModelData) || !strings.Contains(err.Error(), "volume") {
		t.Errorf("got %v, want ErrModelData", err)
	}
	if s := in.status(); s.DiskBytes > 3*mib {
		t.Errorf("status %+v", s)
	}
}

func TestModelThatTakesTooLongIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContainer()
		c.loads = 90 * time.Second
		in := start(t, c, nil, "a")
		defer in.stop()
		if _, err := in.ask("a"); !errors.Is(err, dataplane.ErrModelNotReady) {
			t.Errorf("got %v, want ErrModelNotReady", err)
		}
		in.want("a") // the load has gone on
		if n := c.count("POST models a"); n != 1 {
			t.Errorf("%d loads, want one", n)
		}
	})
}

// docs: invoke-multi-model-endpoint.
func TestLoadIsGivenUpAfter360Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, slow := range []string{"load", "download"} {
			c := newContainer()
			in := start(t, c, func(spec *dataplane.Spec) { spec.DownloadTimeout = time.Hour }, "a")
			if slow == "load" {
				c.loads = 400 * time.Second
			} else {
				in.bucket.takes = 400 * time.Second
			}
			began := time.Now()
			for range 6 {
				if _, err := in.ask("a"); !errors.Is(err, dataplane.ErrModelNotReady) {
					t.Errorf("%s: got %v, want ErrModelNotReady", slow, err)
				}
			}
			synctest.Wait()
			if took := time.Since(began); took != 360*time.Second || len(in.status().Loading) != 0 {
				t.Errorf("%s: after %v: %+v", slow, took, in.status())
			}
			in.stop()
		}
	})
}

func TestMissingArchiveIsTriedAnew(t *testing.T) {
	in := start(t, newContainer(), nil)
	defer in.stop()
	_, err := in.ask("a")
	if e, ok := errors.AsType[*dataplane.ModelFetchError](err); !ok || e.URL != "s3://models/mme/a" || !errors.Is(err, dataplane.ErrModelData) {
		t.Errorf("got %v, want ErrModelData", err)
	}
	if h := in.Worker.(*host); len(h.models) != 0 {
		t.Errorf("%d models are kept in mind", len(h.models))
	}
	in.bucket.sizes["s3://models/mme/a"] = mib
	in.want("a")
}

func TestContainersErrorOnLoadIsTheModelsAnswer(t *testing.T) {
	c := newContainer()
	in := start(t, c, nil, "a")
	defer in.stop()
	c.reply = func(_, path string, ans *dataplane.Answer) bool {
		ans.StatusCode, ans.ContentType, ans.Body = 500, "text/why", append(ans.Body[:0], "corrupt"...)
		return path == "/models"
	}
	ans, err := in.ask("a")
	if err != nil || ans.StatusCode != 500 || string(ans.Body) != "corrupt" || ans.ContentType != "text/why" {
		t.Errorf("%+v, %v", ans, err)
	}
	c.reply = nil
	in.want("a")
	if in.bucket.downloads != 2 {
		t.Errorf("%d downloads: a model that cannot be loaded is fetched anew", in.bucket.downloads)
	}
}

func TestModelCacheSettingDisabledUnloadsAfterUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContainer()
		in := start(t, c, func(spec *dataplane.Spec) { spec.Container.ForgetModels = true }, "a")
		defer in.stop()
		for range 2 {
			in.want("a")
			synctest.Wait()
			if s := in.status(); len(s.Loaded) != 0 || s.OnDisk != 1 {
				t.Errorf("status %+v", s)
			}
		}
		if c.count("POST models a") != 2 || c.count("DELETE") != 2 || in.bucket.downloads != 1 {
			t.Errorf("calls %q, %d downloads", c.calls, in.bucket.downloads)
		}
	})
}

func TestContainerThatLostAModelLoadsItAgain(t *testing.T) {
	c := newContainer()
	in := start(t, c, nil, "a")
	defer in.stop()
	in.want("a")
	c.urls = map[string]string{}
	in.want("a")
	if n := c.count("POST models a"); n != 2 {
		t.Errorf("%d loads, want 2", n)
	}
	// 404 of a model that is loaded is the model's own.
	c.reply = func(_, path string, ans *dataplane.Answer) bool {
		ans.StatusCode, ans.Body = http.StatusNotFound, append(ans.Body[:0], "no such row"...)
		return strings.HasSuffix(path, "/invoke")
	}
	if ans, err := in.ask("a"); err != nil || ans.StatusCode != http.StatusNotFound || string(ans.Body) != "no such row" {
		t.Errorf("%+v, %v", ans, err)
	}
	if s := in.status(); !slices.Equal(s.Loaded, []string{"a"}) {
		t.Errorf("status %+v", s)
	}
}

// On accelerators an inference too can lack memory.
func TestInferenceWithoutMemoryUnloadsAnIdleModel(t *testing.T) {
	c := newContainer()
	in := start(t, c, nil, "a", "b")
	defer in.stop()
	in.want("a", "b")
	c.reply = func(_, path string, ans *dataplane.Answer) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		ans.StatusCode, ans.Body = http.StatusInsufficientStorage, append(ans.Body[:0], "no memory"...)
		return strings.HasSuffix(path, "/invoke") && len(c.urls) > 1
	}
	in.want("b")
	if s := in.status(); !slices.Equal(s.Loaded, []string{"b"}) {
		t.Errorf("status %+v", s)
	}
}

// A model that the container does not unload is found loaded by the next load.
func TestUnloadThatFailsIsOvercomeBy409(t *testing.T) {
	c := newContainer()
	in := start(t, c, func(spec *dataplane.Spec) { spec.Shape = dataplane.Shape{MemoryGiB: 1.0 / 1024 * 16 / 15} }, "a", "b")
	defer in.stop()
	c.reply = func(method, _ string, ans *dataplane.Answer) bool {
		ans.StatusCode = 500
		return method == http.MethodDelete
	}
	in.want("a", "b", "a")
	if log := in.spec.Log.(*launchertest.Output).String(); !strings.Contains(log, "was not unloaded: the container answered 500") {
		t.Errorf("log:\n%s", log)
	}
}

func TestStopEndsLoadsAndThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, slow := range []string{"download", "load"} {
			c := newContainer()
			in := start(t, c, nil, "a")
			if slow == "load" {
				c.loads = time.Hour
			} else {
				in.bucket.takes = time.Hour
			}
			errs := make(chan error)
			go func() {
				_, err := in.ask("a")
				errs <- err
			}()
			synctest.Wait()
			in.stop()
			if err := <-errs; !errors.Is(err, dataplane.ErrBroken) {
				t.Errorf("%s: got %v, want ErrBroken", slow, err)
			}
			if _, err := in.ask("a"); !errors.Is(err, dataplane.ErrBroken) {
				t.Errorf("%s: after Stop: %v, want ErrBroken", slow, err)
			}
		}
	})
}

func TestCallerThatLeavesDoesNotEndTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContainer()
		c.loads = 10 * time.Second
		in := start(t, c, nil, "a")
		defer in.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := in.Invoke(ctx, &dataplane.Request{TargetModel: "a", Timeout: time.Minute}, new(dataplane.Answer))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		in.want("a")
		if n := c.count("POST models a"); n != 1 {
			t.Errorf("%d loads, want one", n)
		}
	})
}

func TestKindWithoutTheMultiModelAPIIsRefused(t *testing.T) {
	kind := launcherFunc(func(context.Context, dataplane.Spec) (dataplane.Worker, error) {
		return struct{ dataplane.Worker }{newContainer()}, nil
	})
	w, err := New(kind, new(bucket), nil).Launch(t.Context(), launchertest.Spec(t))
	if w != nil || !errors.Is(err, dataplane.ErrCannotStart) || !strings.Contains(err.Error(), "kind test") {
		t.Errorf("Launch = %v, %v; want ErrCannotStart", w, err)
	}
}

type launcherFunc func(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error)

func (f launcherFunc) Launch(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	return f(ctx, spec)
}

// pytorch/serve#397: GET /models belongs to the health check.
func TestContainerThatDoesNotListModelsFailsItsPing(t *testing.T) {
	kind := launcherFunc(func(context.Context, dataplane.Spec) (dataplane.Worker, error) {
		return listless{newContainer()}, nil
	})
	w, err := New(kind, new(bucket), nil).Launch(t.Context(), launchertest.Spec(t))
	if w != nil || !errors.Is(err, dataplane.ErrPing) || !strings.Contains(err.Error(), "GET /models answered 404") {
		t.Errorf("Launch = %v, %v; want ErrPing", w, err)
	}
}

type listless struct{ *container }

func (listless) Call(_ context.Context, _, _ string, _ map[string]string, _ *dataplane.Request, ans *dataplane.Answer) error {
	ans.StatusCode = http.StatusNotFound
	return nil
}

func TestTargetModelCannotLeaveThePrefix(t *testing.T) {
	in := start(t, newContainer(), nil, "a", "b/c.tar.gz")
	defer in.stop()
	for _, target := range []string{"..", "../a", "a/../../b", "b/./a", "/", "//", `..\a`, "a\x00b", "b/.."} {
		if _, err := in.ask(target); !errors.Is(err, dataplane.ErrTargetModel) {
			t.Errorf("%q: %v, want ErrTargetModel", target, err)
		}
	}
	if _, err := in.ask(""); !errors.Is(err, dataplane.ErrNoTargetModel) {
		t.Errorf("none: %v, want ErrNoTargetModel", err)
	}
	in.want("a", "b/c.tar.gz")
	if ans, err := in.ask("/b/c.tar.gz"); err != nil || ans.StatusCode != http.StatusOK {
		t.Errorf("with a slash in front: %v", err) // as in AWS's examples
	}
	if len(in.Worker.(*host).models) != 2 {
		t.Error("refused targets are kept in mind")
	}
}

func FuzzTargetModelStaysBelowThePrefix(f *testing.F) {
	for _, seed := range []string{"a", "../a", "a/../../b", "/a", "a/..b", "...", ". ./a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if check(target) != nil {
			return
		}
		if key := path.Join("mme", target); !strings.HasPrefix(key, "mme/") {
			t.Errorf("%q is %q", target, key)
		}
	})
}

// The simulated kind has the multi-model API, and looks into buckets that exist.
func TestSimulatedWorkersHoldModels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := launchertest.Spec(t)
		spec.Shape.MemoryGiB = 2
		spec.Container.ModelDataURL = "s3://models/mme"
		kind := simulated.New(simulated.Config{
			Models: simulated.Models{MemoryMiB: 1024, Load: 3 * time.Second},
			Answer: simulated.Answer{Template: &simulated.Template{Text: "{{.TargetModel}}"}},
		}, func(string) (dataplane.Shape, bool) { return dataplane.Shape{VCPU: 2}, true }, 1)
		source := &bucket{sizes: map[string]int64{"s3://models/mme/a": 1, "s3://models/mme/b": 1, "s3://models/mme/c": 1}}
		w := launchertest.Launch(t, New(kind, source, nil), spec)
		defer w.Stop(t.Context(), 0)
		began := time.Now()
		for _, target := range []string{"a", "b", "c", "c"} {
			if ans := launchertest.Do(t, w, &dataplane.Request{TargetModel: target}); string(ans.Body) != target {
				t.Errorf("%s: %+v", target, ans)
			}
		}
		if took := time.Since(began); took != 9*time.Second {
			t.Errorf("took %v, want three loads", took)
		}
		if s := w.(dataplane.ModelHost).Models(); !slices.Equal(s.Loaded, []string{"b", "c"}) || s.OnDisk != 0 {
			t.Errorf("status %+v", s)
		}
		err := w.Invoke(t.Context(), &dataplane.Request{TargetModel: "d"}, new(dataplane.Answer))
		if !errors.Is(err, dataplane.ErrModelData) {
			t.Errorf("missing: %v, want ErrModelData", err)
		}
	})
}

func TestConcurrentUseOfMoreModelsThanThereIsRoomFor(t *testing.T) {
	c := newContainer()
	c.room = 2
	names := []string{"a", "b", "c", "d", "e"}
	in := start(t, c, nil, names...)
	defer in.stop()
	in.Worker.(*host).disk.limit = 4 * mib
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for j := range 30 {
				in.want(names[(i*7+j*j)%len(names)])
			}
		})
	}
	all.Wait()
	s := in.status()
	if len(s.Loaded) > 2 || s.DiskBytes > 4*mib || s.Hits+s.Misses != 16*30 || s.MemoryBytes != int64(len(s.Loaded))*mib {
		t.Errorf("status %+v", s)
	}
}
