package multimodel

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// host is a worker with the models that it holds.
type host struct {
	dataplane.ModelServer
	source   Source
	observer dataplane.ModelObserver
	spec     dataplane.Spec
	prefix   string // of the URLs of models
	dir      string // models/<id>/model

	ctx    context.Context // of loads; they outlive the requests that ask for them
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu           sync.Mutex
	stopped      bool
	models       map[string]*model // by what follows the prefix
	loaded       list.List         // of *model, least recently used first
	memory, disk budget
	changed      chan struct{} // closed when a model becomes idle or goes
	hits, misses int64
	evictions    int64
	removals     int
}

// model is one that was asked for. It is forgotten when it is neither on disk nor
// wanted.
type model struct {
	target string
	id     string // the container's name for it, opaque
	url    string
	dir    string

	// Guarded by the host's lock.
	state   state
	place   *list.Element // in loaded; nil elsewhere
	users   int           // requests that wait for it or that it answers; it stays for them
	size    int64         // of its files
	onDisk  bool
	used    time.Time
	starved bool // its load has been refused memory
	asking  bool // its load has asked the container, which may have memory by now
	// step is what the model goes through; nil when it is absent or present.
	step *step
}

type state int

const (
	absent state = iota // perhaps on disk
	loading
	present
	unloading
)

// step is one load or one unload, for those who wait for it.
type step struct {
	done chan struct{}
	err  error // why a load failed; set before done is closed
}

// refusal is what the container says instead of loading a model. The caller gets
// it as the model's answer.
type refusal struct{ answer dataplane.Answer }

func (r *refusal) Error() string {
	return fmt.Sprintf("the container answered %d: %.200q", r.answer.StatusCode, r.answer.Body)
}

// Invoke waits until the model is loaded, and passes the request on. The caller's
// time counts once for each: a load takes the platform's time, an inference the
// container's.
func (h *host) Invoke(ctx context.Context, req *dataplane.Request, ans *dataplane.Answer) error {
	if err := check(req.TargetModel); err != nil {
		return err
	}
	m := h.want(req.TargetModel)
	defer h.release(m)
	err := h.await(ctx, m, req.Timeout)
	if err == nil {
		err = h.infer(ctx, m, req, ans)
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		ans.StatusCode, ans.ContentType, ans.CustomAttributes = r.answer.StatusCode, r.answer.ContentType, ""
		ans.Body = append(ans.Body[:0], r.answer.Body...)
		return nil
	}
	return err
}

// Stream passes a whole answer on: InvokeEndpointWithResponseStream cannot name a
// model.
func (h *host) Stream(ctx context.Context, req *dataplane.Request, to dataplane.Sink) error {
	var ans dataplane.Answer
	if err := h.Invoke(ctx, req, &ans); err != nil {
		return err
	}
	return ans.PassOn(to)
}

// check refuses what would lead out of the prefix where a bucket is a directory.
func check(target string) error {
	switch {
	case target == "":
		return dataplane.ErrNoTargetModel
	case strings.ContainsAny(target, "\x00\\"), strings.Trim(target, "/") == "":
		return dataplane.ErrTargetModel
	}
	for part := range strings.SplitSeq(target, "/") {
		if part == ".." || part == "." {
			return dataplane.ErrTargetModel
		}
	}
	return nil
}

// belowPrefix is the one name of a model that can be asked for with a slash in
// front and without: the prefix ends with one.
func belowPrefix(target string) string { return strings.TrimPrefix(target, "/") }

// want finds the model, or makes it known, for one request more.
func (h *host) want(target string) *model {
	target = belowPrefix(target)
	h.mu.Lock()
	m := h.models[target]
	if m == nil {
		target = strings.Clone(target) // it is a view of the connection's buffer
		m = &model{target: target, url: strings.TrimSuffix(h.prefix, "/") + "/" + target}
		sum := sha256.Sum256([]byte(m.url))
		m.id = hex.EncodeToString(sum[:16])
		m.dir = filepath.Join(h.dir, m.id, "model")
		h.models[target] = m
	}
	m.users++
	hit := m.state == present
	if hit {
		h.hits++
	} else {
		h.misses++
	}
	h.mu.Unlock()
	h.observe(m, dataplane.ModelEvent{Metric: dataplane.ModelCacheHit, Hit: hit})
	return m
}

// await returns when the model is loaded, or cannot be. One load serves all that
// wait for it.
func (h *host) await(ctx context.Context, m *model, limit time.Duration) error {
	h.mu.Lock()
	if m.state == present {
		h.mu.Unlock()
		return nil
	}
	began := time.Now()
	var late <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	for m.state != present {
		s := m.step
		if m.state == absent {
			s = h.startLoad(m)
		}
		h.mu.Unlock()
		select {
		case <-s.done:
		case <-ctx.Done():
			return fmt.Errorf("waiting for model %s: %w", m.id, ctx.Err())
		case <-late:
			return fmt.Errorf("%w after %v", dataplane.ErrModelNotReady, limit)
		case <-h.ctx.Done():
			return fmt.Errorf("waiting for model %s: %w", m.id, dataplane.ErrBroken)
		}
		if s.err != nil {
			return s.err
		}
		h.mu.Lock()
	}
	h.mu.Unlock()
	h.observe(m, dataplane.ModelEvent{Metric: dataplane.ModelLoadingWaitTime, Took: time.Since(began)})
	return nil
}

// infer invokes a loaded model. A container that has lost it loads it once more;
// one that has no memory for the inference (507, on accelerators) gets it from
// models that are idle.
func (h *host) infer(ctx context.Context, m *model, req *dataplane.Request, ans *dataplane.Answer) error {
	header := map[string]string{"X-Amzn-SageMaker-Target-Model": req.TargetModel}
	for reloaded := false; ; {
		err := h.Call(ctx, http.MethodPost, "/models/"+m.id+"/invoke", header, req, ans)
		switch {
		case err != nil:
			return err
		case ans.StatusCode == http.StatusNotFound && !reloaded && h.lost(ctx, m):
			reloaded = true
			if err := h.await(ctx, m, req.Timeout); err != nil {
				return err
			}
		case ans.StatusCode == http.StatusInsufficientStorage && h.evict(ctx):
		default:
			return nil
		}
	}
}

// lost asks whether the container still has a model whose invocation it answered
// with 404, which may as well be the model's own answer.
func (h *host) lost(ctx context.Context, m *model) bool {
	var ans dataplane.Answer
	err := h.Call(ctx, http.MethodGet, "/models/"+m.id, nil, &dataplane.Request{Timeout: dataplane.PingTimeout}, &ans)
	if err != nil || ans.StatusCode != http.StatusNotFound {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.state == present {
		h.leave(m, absent)
		h.memory.used -= m.size
	}
	return true
}

// leave takes a model off the loaded ones; the lock is held.
func (h *host) leave(m *model, next state) {
	m.state = next
	h.loaded.Remove(m.place)
	m.place = nil
}

// release ends a request's use of a model.
func (h *host) release(m *model) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m.users--
	m.used = time.Now()
	if m.state == present {
		h.loaded.MoveToBack(m.place)
	}
	if m.users > 0 {
		return
	}
	if m.state == present && h.spec.Container.ForgetModels && !h.stopped {
		h.startUnload(m)
		h.work.Go(func() { h.unload(h.ctx, m) })
	}
	h.forget(m)
	h.notify()
}

// forget drops what is neither on disk nor wanted; the lock is held.
func (h *host) forget(m *model) {
	if m.state == absent && m.users == 0 && !m.onDisk {
		delete(h.models, m.target)
	}
}

// notify wakes those who wait for room; the lock is held.
func (h *host) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// HasModel is for the choice of an instance; see dataplane.ModelHost.
func (h *host) HasModel(target string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.models[belowPrefix(target)]
	return m != nil && (m.state == present || m.state == loading)
}

// Models is a reading of what the instance holds.
func (h *host) Models() dataplane.ModelStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := dataplane.ModelStatus{
		Loaded: []string{}, Hits: h.hits, Misses: h.misses, Evictions: h.evictions,
		DiskBytes: h.disk.used, MemoryBytes: h.memory.used,
	}
	for e := h.loaded.Front(); e != nil; e = e.Next() {
		s.Loaded = append(s.Loaded, e.Value.(*model).target)
	}
	for _, m := range h.models {
		if m.state == loading {
			s.Loading = append(s.Loading, m.target)
		}
		if m.onDisk {
			s.OnDisk++
		}
	}
	slices.Sort(s.Loading)
	return s
}

func (h *host) observe(m *model, e dataplane.ModelEvent) {
	e.Key, e.Variant, e.InstanceID, e.TargetModel = h.spec.Key, h.spec.Variant, h.spec.InstanceID, m.target
	h.observer.Observe(e)
}
