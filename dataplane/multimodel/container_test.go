package multimodel

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// container is a model server whose behaviour a test chooses.
type container struct {
	mu     sync.Mutex
	calls  []string // method, and model's file
	urls   map[string]string
	room   int           // models; 0 for any number
	loads  time.Duration // what a load takes
	infers time.Duration
	// reply answers in the place of the container when it returns true.
	reply func(method, path string, ans *dataplane.Answer) bool

	done chan struct{}
	once sync.Once
}

func newContainer() *container {
	return &container{urls: map[string]string{}, done: make(chan struct{})}
}

func (c *container) Launch(context.Context, dataplane.Spec) (dataplane.Worker, error) { return c, nil }

func (c *container) Invoke(context.Context, *dataplane.Request, *dataplane.Answer) error {
	panic("a multi-model container has no /invocations")
}

func (c *container) Stream(context.Context, *dataplane.Request, dataplane.Sink) error {
	panic("a multi-model container has no /invocations")
}
func (c *container) Done() <-chan struct{} { return c.done }
func (c *container) Err() error            { return nil }
func (c *container) Address() string       { return "test" }
func (c *container) Kind() string          { return "test" }
func (c *container) ReadsModels() bool     { return true }

func (c *container) Stop(context.Context, time.Duration) error {
	c.once.Do(func() { close(c.done) })
	return nil
}

func (c *container) Call(ctx context.Context, method, path string, header map[string]string, req *dataplane.Request, ans *dataplane.Answer) error {
	if path == "/models" && method == http.MethodGet {
		return c.answer(ctx, 0, ans, http.StatusOK, `{"models":[]}`)
	}
	target := header["X-Amzn-SageMaker-Target-Model"]
	c.mu.Lock()
	c.calls = append(c.calls, strings.TrimSpace(method+" "+strings.TrimLeft(path, "/")+" "+target))
	reply := c.reply
	c.mu.Unlock()
	if reply != nil && reply(method, path, ans) {
		return nil
	}
	name, action, _ := strings.Cut(strings.TrimPrefix(path, "/models/"), "/")
	switch {
	case path == "/models":
		return c.load(ctx, req, ans)
	case action == "invoke":
		if url := c.url(name); url != "" {
			return c.answer(ctx, c.infers, ans, http.StatusOK, content(url)+":"+string(req.Body))
		}
	case method == http.MethodGet && c.url(name) != "":
		return c.answer(ctx, 0, ans, http.StatusOK, "{}")
	case method == http.MethodDelete && c.url(name) != "":
		c.drop(name)
		return c.answer(ctx, 0, ans, http.StatusOK, "{}")
	}
	return c.answer(ctx, 0, ans, http.StatusNotFound, "not loaded")
}

func content(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "name"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (c *container) load(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	var in struct {
		Name string `json:"model_name"`
		URL  string `json:"url"`
	}
	if err := json.Unmarshal(req.Body, &in); err != nil {
		return c.answer(ctx, 0, ans, http.StatusBadRequest, err.Error())
	}
	c.mu.Lock()
	_, there := c.urls[in.Name]
	full := c.room > 0 && len(c.urls) >= c.room
	if !there && !full {
		c.urls[in.Name] = in.URL
	}
	c.mu.Unlock()
	switch {
	case there:
		return c.answer(ctx, 0, ans, http.StatusConflict, "already loaded")
	case full:
		return c.answer(ctx, 0, ans, http.StatusInsufficientStorage, "no memory")
	}
	return c.answer(ctx, c.loads, ans, http.StatusOK, "{}")
}

func (c *container) answer(ctx context.Context, after time.Duration, ans *dataplane.Answer, status int, body string) error {
	select {
	case <-time.After(after):
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return dataplane.ErrBroken
	}
	ans.StatusCode, ans.ContentType, ans.Body = status, "text/plain", append(ans.Body[:0], body...)
	return nil
}

func (c *container) url(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.urls[name]
}

func (c *container) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.urls, name)
}

// count is how many calls begin so.
func (c *container) count(prefix string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.calls {
		if strings.HasPrefix(call, prefix) {
			n++
		}
	}
	return n
}

// bucket is a source whose models are directories with their name in a file, and
// another file of a size.
type bucket struct {
	mu        sync.Mutex
	sizes     map[string]int64 // by URL
	downloads int
	takes     time.Duration
}

func (b *bucket) size(url string) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size, ok := b.sizes[url]
	if !ok {
		return 0, fmt.Errorf("%w: %s: %w", dataplane.ErrModelData, url, fs.ErrNotExist)
	}
	return size, nil
}

func (b *bucket) Check(_ context.Context, source dataplane.ModelSource) error {
	_, err := b.size(source.URL)
	return err
}

func (b *bucket) Download(ctx context.Context, source dataplane.ModelSource, dir string) error {
	select {
	case <-time.After(b.takes):
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", dataplane.ErrModelData, ctx.Err())
	}
	size, err := b.size(source.URL)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.downloads++
	b.mu.Unlock()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "name"), []byte(source.URL), 0o600); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "weights"))
	if err == nil {
		err = f.Truncate(size - int64(len(source.URL)))
		_ = f.Close()
	}
	return err
}

// instance is a running multi-model worker.
type instance struct {
	dataplane.Worker
	t         *testing.T
	container *container
	bucket    *bucket
	spec      dataplane.Spec
	mu        sync.Mutex
	events    []dataplane.ModelEvent
}

const mib = 1 << 20

// start launches one over models of a MiB each.
func start(t *testing.T, c *container, edit func(spec *dataplane.Spec), models ...string) *instance {
	t.Helper()
	in := &instance{t: t, container: c, bucket: &bucket{sizes: map[string]int64{}}, spec: launchertest.Spec(t)}
	for _, m := range models {
		in.bucket.sizes["s3://models/mme/"+m] = mib
	}
	in.spec.Container.ModelDataURL, in.spec.Container.MultiModel = "s3://models/mme/", true
	if edit != nil {
		edit(&in.spec)
	}
	w, err := New(c, in.bucket, func(e dataplane.ModelEvent) {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.events = append(in.events, e)
	}).Launch(t.Context(), in.spec)
	if err != nil {
		t.Fatal(err)
	}
	in.Worker = w
	return in
}

func (in *instance) stop() {
	in.t.Helper()
	if err := in.Stop(context.Background(), 0); err != nil {
		in.t.Error(err)
	}
}

func (in *instance) ask(target string) (dataplane.Answer, error) {
	var ans dataplane.Answer
	err := in.Invoke(context.Background(), &dataplane.Request{TargetModel: target, Body: []byte("x"), Timeout: time.Minute}, &ans)
	return ans, err
}

// want fails the test unless a model answers.
func (in *instance) want(targets ...string) {
	in.t.Helper()
	for _, target := range targets {
		ans, err := in.ask(target)
		if want := "s3://models/mme/" + target + ":x"; err != nil || ans.StatusCode != http.StatusOK || string(ans.Body) != want {
			in.t.Fatalf("%s: %d %q, %v", target, ans.StatusCode, ans.Body, err)
		}
	}
}

func (in *instance) status() dataplane.ModelStatus { return in.Worker.(dataplane.ModelHost).Models() }

// event counts the data points of a metric.
func (in *instance) event(metric string) (n int, took time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, e := range in.events {
		if e.Metric == metric {
			n++
			took += e.Took
		}
	}
	return n, took
}
