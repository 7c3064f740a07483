package simulated

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// modelTable is the models of a multi-model container, by the platform's name.
type modelTable struct {
	mu     sync.Mutex
	models map[string]heldModel
}

type heldModel struct {
	url    string
	loaded bool // false while it is being loaded, and has its memory already
}

// listedModel is a model as GET /models has it (docs: mms-container-apis).
type listedModel struct {
	Name string `json:"modelName"`
	URL  string `json:"modelUrl"`
}

// ReadsModels is false: nothing reads a simulated model's files.
func (w *worker) ReadsModels() bool { return false }

// Call is the container's multi-model API (docs: mms-container-apis).
func (w *worker) Call(ctx context.Context, method, path string, _ map[string]string, req *dataplane.Request, ans *dataplane.Answer) error {
	if err := ctx.Err(); err != nil {
		return w.errorf(err)
	}
	if w.ended() {
		return w.errorf(dataplane.ErrBroken)
	}
	rest, ok := strings.CutPrefix(path, "/models")
	name, action, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	switch {
	case !ok || action != "" && action != "invoke":
	case method == http.MethodGet && rest == "":
		respond(ans, map[string]any{"models": w.models.list("")})
		return nil
	case method == http.MethodPost && rest == "":
		return w.loadModel(ctx, req, ans)
	case method == http.MethodPost && action == "invoke":
		if len(w.models.list(name)) > 0 {
			return w.Invoke(ctx, req, ans)
		}
	case method == http.MethodGet:
		if found := w.models.list(name); len(found) > 0 {
			respond(ans, found[0])
			return nil
		}
	case method == http.MethodDelete:
		if w.models.unload(name) {
			respond(ans, map[string]any{})
			return nil
		}
	}
	explain(ans, http.StatusNotFound, "no such model")
	return nil
}

func respond(ans *dataplane.Answer, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		explain(ans, http.StatusInternalServerError, err.Error())
		return
	}
	ans.StatusCode, ans.ContentType, ans.CustomAttributes = http.StatusOK, "application/json", ""
	ans.Body = append(ans.Body[:0], text...)
}

// loadModel takes its time, or has no memory.
func (w *worker) loadModel(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	var in struct {
		Name string `json:"model_name"`
		URL  string `json:"url"`
	}
	if err := json.Unmarshal(req.Body, &in); err != nil || in.Name == "" {
		explain(ans, http.StatusBadRequest, "the body is not a model_name and a url")
		return nil
	}
	if status := w.models.reserve(in.Name, in.URL, w.modelRoom()); status != http.StatusOK {
		explain(ans, status, fmt.Sprintf("model %s is loaded, or there is no memory for it", in.Name))
		return nil
	}
	timer := time.NewTimer(w.cfg.Models.Load)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		w.models.unload(in.Name)
		return w.errorf(ctx.Err())
	case <-w.done:
		return w.errorf(dataplane.ErrBroken)
	}
	w.models.finish(in.Name)
	w.logf("loaded model %s", in.Name)
	respond(ans, listedModel{in.Name, in.URL})
	return nil
}

// modelRoom is how many models the instance has memory for; 0 for any number.
func (w *worker) modelRoom() int {
	if w.cfg.Models.MemoryMiB == 0 || w.spec.Shape.MemoryGiB <= 0 {
		return 0
	}
	return max(1, int(w.spec.Shape.MemoryGiB*1024)/w.cfg.Models.MemoryMiB)
}

func (t *modelTable) reserve(name, url string, room int) (status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, there := t.models[name]
	switch {
	case there:
		return http.StatusConflict
	case room > 0 && len(t.models) >= room:
		return http.StatusInsufficientStorage
	case t.models == nil:
		t.models = map[string]heldModel{}
	}
	t.models[name] = heldModel{url: url}
	return http.StatusOK
}

func (t *modelTable) finish(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.models[name]; ok {
		m.loaded = true
		t.models[name] = m
	}
}

func (t *modelTable) unload(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, there := t.models[name]
	delete(t.models, name)
	return there
}

// list is the loaded models, or the one of a name.
func (t *modelTable) list(name string) []listedModel {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := []listedModel{}
	if name != "" {
		if m := t.models[name]; m.loaded {
			found = append(found, listedModel{name, m.url})
		}
		return found
	}
	for _, name := range slices.Sorted(maps.Keys(t.models)) {
		if m := t.models[name]; m.loaded {
			found = append(found, listedModel{name, m.url})
		}
	}
	return found
}
