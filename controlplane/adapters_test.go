package controlplane

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/dataplane"
)

// lora launches copies that must be told of adapters and answer with the one that
// a request is for.
type lora struct {
	kind dataplane.Launcher

	mu     sync.Mutex
	copies map[string]map[string]string // by copy and adapter: what its file says
	err    error
}

func (l *lora) Launch(ctx context.Context, spec dataplane.Spec) (dataplane.Worker, error) {
	w, err := l.kind.Launch(ctx, spec)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.copies[spec.InstanceID] = map[string]string{}
	return loraCopy{w, l, spec.InstanceID}, err
}

type loraCopy struct {
	dataplane.Worker
	*lora
	id string
}

func (c loraCopy) LoadAdapter(_ context.Context, name, dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if _, loaded := c.copies[c.id][name]; loaded {
		return errors.New("loaded twice")
	}
	text, err := os.ReadFile(filepath.Join(dir, "weights"))
	c.copies[c.id][name] = string(text)
	return err
}

func (c loraCopy) UnloadAdapter(_ context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.copies[c.id], name)
	return nil
}

func (c loraCopy) Invoke(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	err := c.Worker.Invoke(ctx, req, ans)
	c.mu.Lock()
	defer c.mu.Unlock()
	if text, loaded := c.copies[c.id][req.Adapter]; loaded {
		ans.Body = append(ans.Body[:0], text...)
	} else if req.Adapter != "" {
		ans.StatusCode, ans.Body = 404, append(ans.Body[:0], "unknown adapter"...)
	}
	return err
}

// loaded is how many of the copies know an adapter.
func (l *lora) loaded(name string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, adapters := range l.copies {
		if _, ok := adapters[name]; ok {
			n++
		}
	}
	return n
}

// bucket is an S3 that holds the archives of a file "weights" each, by key.
func bucket(t *testing.T, weights map[string]string) func(string) *s3.Client {
	t.Helper()
	archives := map[string][]byte{}
	for key, text := range weights {
		var buf bytes.Buffer
		zip := gzip.NewWriter(&buf)
		w := tar.NewWriter(zip)
		err := w.WriteHeader(&tar.Header{Name: "weights", Mode: 0o600, Size: int64(len(text))})
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err := errors.Join(err, w.Close(), zip.Close()); err != nil {
			t.Fatal(err)
		}
		archives["/b/"+key] = buf.Bytes()
	}
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String("http://localhost"), Region: "us-east-1", UsePathStyle: true, Credentials: aws.AnonymousCredentials{},
		RetryMaxAttempts: 1,
		HTTPClient: roundTrip(func(r *http.Request) *http.Response {
			w := httptest.NewRecorder()
			if data, ok := archives[r.URL.Path]; ok {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			} else {
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, "<Error><Code>NoSuchBucket</Code></Error>")
			}
			return w.Result()
		}),
	})
	return func(string) *s3.Client { return client }
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) Do(r *http.Request) (*http.Response, error) { return f(r), nil }

func (r *rig) adapter(name, base, url string) {
	r.t.Helper()
	_, err := r.CreateInferenceComponent(r.ctx, &sagemaker.CreateInferenceComponentInput{
		InferenceComponentName: &name, EndpointName: aws.String("e"), Specification: &types.InferenceComponentSpecification{
			BaseInferenceComponentName: &base, Container: &types.InferenceComponentContainerSpecification{ArtifactUrl: &url},
		},
	})
	r.must(err)
}

func TestEveryCopyOfTheBaseLoadsItsAdapters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lora{kind: echo(), copies: map[string]map[string]string{}}
		r := newRig(t, l)
		defer r.stop()
		r.ModelData = &dataplane.ModelData{S3: bucket(t, map[string]string{"fr.tar.gz": "bonjour", "de.tar.gz": "guten Tag"})}
		r.deployHosts("e", hostOf("v", 1, nil))
		r.component("base", "e", gpus("one", 1), 2)
		r.settleComponent("base", componentInService)
		r.adapter("French", "base", "s3://b/fr.tar.gz")
		r.settleComponent("french", componentInService)
		if n := l.loaded("French"); n != 2 {
			t.Errorf("%d copies know the adapter, want 2", n)
		}
		r.adapter("German", "base", "s3://b/de.tar.gz")
		r.settleComponent("german", componentInService)
		stop := r.loadComponent("e", "french", 5, 20*time.Millisecond)
		r.resize("base", 4) // copies that start later know them before they serve
		r.settleComponent("base", componentInService)
		r.updateComponent("base", gpus("two", 1), nil)
		time.Sleep(time.Second)
		r.resizeRefused("base")
		time.Sleep(10 * time.Minute) // no room for any copy beside the four
		answers, err := stop()
		if err != nil || len(answers) != 1 || answers["bonjour"] == 0 {
			t.Errorf("answers %v, first error %v", answers, err)
		}
		for component, want := range map[string]string{"french": "bonjour", "GERMAN": "guten Tag", "base": "ping"} {
			if body, err := r.askComponent("e", component); body != want || err != nil {
				t.Errorf("%s answers %q, %v; want %q", component, body, err, want)
			}
		}
		r.removeComponent("french")
		if n := l.loaded("French"); n != 0 {
			t.Errorf("%d copies know the deleted adapter", n)
		}
		if _, err := r.askComponent("e", "french"); !errors.Is(err, dataplane.ErrNoComponent) {
			t.Errorf("the deleted adapter: %v", err)
		}
	})
}

func (r *rig) resizeRefused(name string) {
	r.t.Helper()
	_, err := r.UpdateInferenceComponentRuntimeConfig(r.ctx, &sagemaker.UpdateInferenceComponentRuntimeConfigInput{InferenceComponentName: &name, DesiredRuntimeConfig: copyCount(1)})
	wantMessage(r.t, err, "ValidationException", `Cannot update in-progress inference component "`+componentARNs+name+`".`)
}

func TestAdapterThatCannotBeLoadedFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lora{kind: echo(), copies: map[string]map[string]string{}, err: errors.New("rank too high")}
		r := newRig(t, l)
		defer r.stop()
		r.ModelData = &dataplane.ModelData{S3: bucket(t, map[string]string{"a.tar.gz": "x"})}
		r.deployHosts("e", hostOf("v", 1, nil))
		r.component("base", "e", gpus("one", 1), 1)
		r.settleComponent("base", componentInService)
		r.adapter("a", "base", "s3://b/a.tar.gz")
		out := r.settleComponent("a", componentFailed)
		if want := "The base inference component could not load adapter a: rank too high."; aws.ToString(out.FailureReason) != want {
			t.Errorf("%q, want %q", aws.ToString(out.FailureReason), want)
		}
		r.adapter("unmapped", "base", "s3://elsewhere/a.tar.gz")
		if out := r.settleComponent("unmapped", componentFailed); out.FailureReason == nil {
			t.Error("an artifact that cannot be read has no FailureReason")
		}
		if body, err := r.askComponent("e", "base"); body != "ping" || err != nil {
			t.Errorf("the base answers %q, %v", body, err)
		}
		r.removeComponent("a")
		r.removeComponent("unmapped")
		r.removeComponent("base")
	})
}
