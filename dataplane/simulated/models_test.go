package simulated

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

func TestMultiModelAPIIsAWSs(t *testing.T) {
	spec := launchertest.Spec(t)
	spec.Shape.MemoryGiB = 1
	w := launchertest.Launch(t, New(Config{Models: Models{MemoryMiB: 400}}, shapeOf, 1), spec).(dataplane.ModelServer)
	load := func(name string) string {
		return `{"model_name":"` + name + `","url":"/opt/ml/models/` + name + `/model"}`
	}
	for i, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/models", "", 200, `{"models":[]}`},
		{"POST", "/models/a/invoke", "x", 404, `{"error":"no such model"}`},
		{"POST", "/models", load("a"), 200, `{"modelName":"a","modelUrl":"/opt/ml/models/a/model"}`},
		{"POST", "/models", load("a"), 409, `{"error":"model a is loaded, or there is no memory for it"}`},
		{"POST", "/models", load("b"), 200, `{"modelName":"b","modelUrl":"/opt/ml/models/b/model"}`},
		{"POST", "/models", load("c"), 507, `{"error":"model c is loaded, or there is no memory for it"}`},
		{"GET", "/models", "", 200, `{"models":[{"modelName":"a","modelUrl":"/opt/ml/models/a/model"},{"modelName":"b","modelUrl":"/opt/ml/models/b/model"}]}`},
		{"GET", "/models/a", "", 200, `{"modelName":"a","modelUrl":"/opt/ml/models/a/model"}`},
		{"POST", "/models/a/invoke", "x", 200, "x"},
		{"DELETE", "/models/a", "", 200, "{}"},
		{"DELETE", "/models/a", "", 404, `{"error":"no such model"}`},
		{"GET", "/models/a", "", 404, `{"error":"no such model"}`},
		{"POST", "/models", load("c"), 200, `{"modelName":"c","modelUrl":"/opt/ml/models/c/model"}`},
		{"POST", "/models", "?", 400, `{"error":"the body is not a model_name and a url"}`},
		{"POST", "/models/c/train", "", 404, `{"error":"no such model"}`},
		{"POST", "/other", "", 404, `{"error":"no such model"}`},
	} {
		var ans dataplane.Answer
		err := w.Call(t.Context(), tc.method, tc.path, nil, &dataplane.Request{Body: []byte(tc.body)}, &ans)
		if err != nil || ans.StatusCode != tc.status || string(ans.Body) != tc.want {
			t.Errorf("%d: %s %s: %d %s, %v; want %d %s", i, tc.method, tc.path, ans.StatusCode, ans.Body, err, tc.status, tc.want)
		}
	}
}

func TestLoadOfAModelTakesItsTimeAndEndsWithTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := launchertest.Launch(t, New(Config{Models: Models{Load: 4 * time.Second}}, shapeOf, 1), launchertest.Spec(t)).(dataplane.ModelServer)
		call := func(ctx context.Context, name string) (int, error) {
			var ans dataplane.Answer
			err := w.Call(ctx, http.MethodPost, "/models", nil, &dataplane.Request{Body: []byte(`{"model_name":"` + name + `"}`)}, &ans)
			return ans.StatusCode, err
		}
		began := time.Now()
		if status, err := call(t.Context(), "a"); err != nil || status != http.StatusOK || time.Since(began) != 4*time.Second {
			t.Errorf("%d, %v after %v", status, err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := call(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if status, err := call(t.Context(), "b"); err != nil || status != http.StatusOK {
			t.Errorf("a load that was given up holds the model: %d, %v", status, err)
		}
		errs := make(chan error)
		go func() {
			_, err := call(t.Context(), "c")
			errs <- err
		}()
		synctest.Wait()
		if err := w.Stop(t.Context(), 0); err != nil {
			t.Error(err)
		}
		if err := <-errs; !errors.Is(err, dataplane.ErrBroken) {
			t.Errorf("got %v, want ErrBroken", err)
		}
		if _, err := call(t.Context(), "d"); !errors.Is(err, dataplane.ErrBroken) {
			t.Errorf("after Stop: %v, want ErrBroken", err)
		}
	})
}

func TestModelsThatCannotBeAreRefused(t *testing.T) {
	for _, m := range []Models{{MemoryMiB: -1}, {MemoryMiB: maxModelMiB + 1}, {Load: -1}} {
		if err := (&Config{Models: m}).Validate(); err == nil {
			t.Errorf("%+v is accepted", m)
		}
	}
}
