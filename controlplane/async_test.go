package controlplane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
	"github.com/aws/smithy-go"

	"github.com/sagelocal/sagelocal/controlplane/async"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/objects"
	"github.com/sagelocal/sagelocal/store"
)

// asyncRig is a rig with an S3 that has the bucket b.
type asyncRig struct {
	*rig
	s3 *objects.S3
}

func newAsyncRig(t *testing.T, launcher dataplane.Launcher, change ...func(*Options)) *asyncRig {
	t.Helper()
	db, err := store.Open(store.Options{InMemory: true, Tables: Tables()})
	if err != nil {
		t.Fatal(err)
	}
	return asyncRigOver(t, db, t.TempDir(), launcher, change...)
}

func asyncRigOver(t *testing.T, db *store.DB, dir string, launcher dataplane.Launcher, change ...func(*Options)) *asyncRig {
	t.Helper()
	s, err := objects.Open(context.Background(), objects.Options{Dir: filepath.Join(dir, "s3"), Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		DB: db, Fleet: dataplane.NewFleet(), Dir: dir, Seed: 1, Logger: slog.New(slog.DiscardHandler),
		Launcher:  func(string) dataplane.Launcher { return launcher },
		ModelData: &dataplane.ModelData{}, Logs: &dataplane.Logs{Dir: filepath.Join(dir, "logs")}, S3: s.Client,
	}
	for _, c := range change {
		c(&o)
	}
	r := &asyncRig{&rig{t: t, db: db, ctx: WithScope(context.Background(), home), Plane: New(o)}, s}
	if _, err := s.Client("b").CreateBucket(r.ctx, &s3.CreateBucketInput{Bucket: aws.String("bkt")}); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *asyncRig) stop() {
	r.t.Helper()
	r.rig.stop()
	if err := r.s3.Close(context.Background()); err != nil {
		r.t.Error(err)
	}
}

// deployAsync makes an endpoint with AsyncInferenceConfig.
func (r *asyncRig) deployAsync(name string, change func(*types.AsyncInferenceConfig), variants ...types.ProductionVariant) {
	r.t.Helper()
	_, err := r.CreateModel(r.ctx, &sagemaker.CreateModelInput{
		ModelName: &name, PrimaryContainer: &types.ContainerDefinition{Image: aws.String("image")},
	})
	r.must(err)
	for i := range variants {
		variants[i].ModelName = &name
	}
	config := &types.AsyncInferenceConfig{OutputConfig: &types.AsyncInferenceOutputConfig{
		S3OutputPath: aws.String("s3://bkt/out/"), S3FailurePath: aws.String("s3://bkt/failed"),
	}}
	if change != nil {
		change(config)
	}
	_, err = r.CreateEndpointConfig(r.ctx, &sagemaker.CreateEndpointConfigInput{EndpointConfigName: &name, ProductionVariants: variants, AsyncInferenceConfig: config})
	r.must(err)
	_, err = r.CreateEndpoint(r.ctx, &sagemaker.CreateEndpointInput{EndpointName: &name, EndpointConfigName: &name})
	r.must(err)
	r.settle(name, statusInService)
}

func perInstance(n int32) func(*types.AsyncInferenceConfig) {
	return func(c *types.AsyncInferenceConfig) {
		c.ClientConfig = &types.AsyncInferenceClientConfig{MaxConcurrentInvocationsPerInstance: &n}
	}
}

func (r *asyncRig) scale(name, variant string, count int32) {
	r.t.Helper()
	_, err := r.UpdateEndpointWeightsAndCapacities(r.ctx, &sagemaker.UpdateEndpointWeightsAndCapacitiesInput{
		EndpointName: &name, DesiredWeightsAndCapacities: []types.DesiredWeightAndCapacity{{VariantName: &variant, DesiredInstanceCount: &count}},
	})
	r.must(err)
	r.settle(name, statusInService)
}

func (r *asyncRig) send(name, body string, change ...func(*sagemakerruntime.InvokeEndpointAsyncInput)) *sagemakerruntime.InvokeEndpointAsyncOutput {
	r.t.Helper()
	in := &sagemakerruntime.InvokeEndpointAsyncInput{EndpointName: &name, Body: []byte(body)}
	for _, c := range change {
		c(in)
	}
	out, err := r.InvokeEndpointAsync(r.ctx, in)
	r.must(err)
	return out
}

// object is what S3 has; false when there is no such object.
func (r *asyncRig) object(location *string) (string, bool) {
	r.t.Helper()
	key := strings.TrimPrefix(*location, "s3://bkt/")
	out, err := r.s3.Client("bkt").GetObject(r.ctx, &s3.GetObjectInput{Bucket: aws.String("bkt"), Key: &key})
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "NoSuchKey" {
		return "", false
	}
	r.must(err)
	defer out.Body.Close()
	text, err := io.ReadAll(out.Body)
	r.must(err)
	return string(text), true
}

func (r *asyncRig) want(location *string, content string) {
	r.t.Helper()
	if got, ok := r.object(location); !ok || got != content {
		r.t.Errorf("%s: %q, %v; want %q", *location, got, ok, content)
	}
}

func (r *asyncRig) wantNone(location *string) {
	r.t.Helper()
	if got, ok := r.object(location); ok {
		r.t.Errorf("%s holds %q", *location, got)
	}
}

func (r *asyncRig) upload(key string, content []byte) string {
	r.t.Helper()
	_, err := r.s3.Client("bkt").PutObject(r.ctx, &s3.PutObjectInput{Bucket: aws.String("bkt"), Key: &key, Body: bytes.NewReader(content)})
	r.must(err)
	return "s3://bkt/" + key
}

func (r *asyncRig) status(name string) async.Status {
	r.t.Helper()
	for _, s := range r.AsyncStatus("") {
		if s.Endpoint == name {
			return s
		}
	}
	return async.Status{}
}

// after lets the bubble's time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// asked is a kind of worker that keeps what it is asked, in order, and how many
// requests an instance had at once.
type asked struct {
	latency time.Duration
	answer  func(body string) (status int, answer string)

	mu     sync.Mutex
	bodies []string
	most   int
}

func (a *asked) Launch(_ context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	return &askedWorker{all: a, spec: spec, done: make(chan struct{})}, nil
}

type askedWorker struct {
	all  *asked
	spec dataplane.Spec
	once sync.Once
	done chan struct{}
	now  int // guarded by all.mu
}

func (w *askedWorker) Invoke(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	a, body := w.all, string(req.Body)
	a.mu.Lock()
	a.bodies = append(a.bodies, body)
	w.now++
	a.most = max(a.most, w.now)
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		w.now--
		a.mu.Unlock()
	}()
	timeout := time.NewTimer(req.Timeout)
	defer timeout.Stop()
	select {
	case <-time.After(a.latency):
	case <-timeout.C:
		return dataplane.ErrTimeout
	case <-w.done:
		return dataplane.ErrBroken
	case <-ctx.Done():
		return ctx.Err()
	}
	ans.StatusCode, ans.ContentType, ans.Body = 200, "text/plain", append(ans.Body[:0], strings.ToUpper(body)...)
	if a.answer != nil {
		var text string
		ans.StatusCode, text = a.answer(body)
		ans.Body = append(ans.Body[:0], text...)
	}
	return nil
}

func (w *askedWorker) Stream(context.Context, *dataplane.Request, dataplane.Sink) error {
	return errors.New("not asked for")
}
func (w *askedWorker) Done() <-chan struct{} { return nil }
func (w *askedWorker) Err() error            { return nil }
func (w *askedWorker) Address() string       { return "in-process" }
func (w *askedWorker) Kind() string          { return "asked" }
func (w *askedWorker) Stop(context.Context, time.Duration) error {
	w.once.Do(func() { close(w.done) })
	return nil
}

func (a *asked) seen() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.bodies...)
}

func TestAsyncRequestsAreAnsweredInTheirOrderIntoS3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &asked{latency: time.Second}
		r := newAsyncRig(t, w)
		defer r.stop()
		r.deployAsync("e", perInstance(1), variantOf("a", 1))
		var outs []*sagemakerruntime.InvokeEndpointAsyncOutput
		for _, body := range []string{"a", "b", "c", "d", "e"} {
			outs = append(outs, r.send("e", body))
		}
		after(2500 * time.Millisecond)
		r.want(outs[0].OutputLocation, "A")
		r.want(outs[1].OutputLocation, "B")
		r.wantNone(outs[2].OutputLocation)
		if s := r.status("e"); s.ApproximateBacklogSize != 3 || s.Running != 1 || s.InvocationsProcessed != 2 || s.ApproximateAgeOfOldestRequest != 2.5 {
			t.Errorf("%+v", s)
		}
		after(3 * time.Second)
		r.want(outs[4].OutputLocation, "E")
		if got := strings.Join(w.seen(), ""); got != "abcde" {
			t.Errorf("the instance saw %q", got)
		}
		r.wantNone(outs[0].FailureLocation)
	})
}
