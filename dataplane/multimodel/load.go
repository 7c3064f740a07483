package multimodel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// loadTimeout is how long a model may take to be fetched and loaded, whether or
// not somebody waits for it (docs: invoke-multi-model-endpoint).
const loadTimeout = 360 * time.Second

// startLoad begins to load a model that is absent; the lock is held.
func (h *host) startLoad(m *model) *step {
	s := &step{done: make(chan struct{})}
	m.state, m.step, m.starved, m.asking = loading, s, false, false
	if h.stopped { // and waits for the work that there is
		h.endLoad(m, dataplane.ErrBroken)
		return s
	}
	h.work.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, loadTimeout)
		defer cancel()
		err := h.fetch(ctx, m)
		if err == nil {
			err = h.load(ctx, m)
		}
		if err != nil {
			fmt.Fprintf(h.log(), "sagelocal: model %s (%s) was not loaded: %v\n", m.id, m.target, err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.endLoad(m, err)
	})
	return s
}

func (h *host) log() io.Writer {
	if h.spec.Log == nil {
		return io.Discard
	}
	return h.spec.Log
}

// endLoad tells those who wait; the lock is held. The files of a model that
// cannot be loaded are removed, so that the next attempt has those that the
// bucket has then.
func (h *host) endLoad(m *model, err error) {
	s := m.step
	m.step = nil
	if err == nil {
		m.state = present
		m.place = h.loaded.PushBack(m)
	} else {
		m.state, s.err = absent, err
		h.removeFiles(m)
		h.forget(m)
	}
	close(s.done)
	h.notify()
}

// fetch puts a model's files on disk, unless they are there.
func (h *host) fetch(ctx context.Context, m *model) error {
	if m.onDisk { // set by loads only, of which there is one at a time
		return nil
	}
	archive := dataplane.ModelSource{URL: m.url, Gzip: true}
	if !h.ReadsModels() {
		if err := h.source.Check(ctx, archive); err != nil && !errors.Is(err, dataplane.ErrNoBucket) {
			return &dataplane.ModelFetchError{URL: m.url, Err: err}
		}
		return nil // a simulated model needs no bucket
	}
	began := time.Now()
	download := ctx
	if limit := h.spec.DownloadTimeout; limit > 0 {
		var cancel context.CancelFunc
		download, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	err := h.source.Download(download, archive, m.dir)
	if err == nil {
		h.observe(m, dataplane.ModelEvent{Metric: dataplane.ModelDownloadingTime, Took: time.Since(began)})
	}
	size, sizeErr := sizeOf(m.dir)
	h.mu.Lock()
	m.onDisk, m.size = true, size
	h.disk.used += size
	h.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return h.explain(ctx, err)
	case err != nil:
		return &dataplane.ModelFetchError{URL: m.url, Err: err}
	case sizeErr != nil:
		return sizeErr
	}
	return h.clearDisk(ctx, m)
}

// sizeOf a directory that may not exist.
func sizeOf(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return size, err
}

// removeFiles frees a model's place on disk; the lock is held, and so the files
// are only put aside, for a goroutine to remove. It is called by one.
func (h *host) removeFiles(m *model) {
	if !m.onDisk {
		return
	}
	h.disk.used -= m.size
	m.onDisk, m.size = false, 0
	if h.stopped {
		return // the instance's directory is about to go as a whole
	}
	h.removals++
	aside := filepath.Join(h.dir, fmt.Sprintf("removed-%d", h.removals))
	switch err := os.Rename(filepath.Dir(m.dir), aside); {
	case err == nil:
		h.work.Go(func() { _ = os.RemoveAll(aside) })
	case !errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(h.log(), "sagelocal: the files of model %s cannot be removed: %v\n", m.id, err)
	}
}

// clearDisk removes the files of idle models until the disk holds what is on it:
// first of those that are not loaded, then of loaded ones, the longest unused
// ones first.
func (h *host) clearDisk(ctx context.Context, m *model) error {
	for {
		h.mu.Lock()
		if !h.disk.exceeded() {
			h.mu.Unlock()
			return nil
		}
		if m.size > h.disk.limit {
			h.mu.Unlock()
			return &dataplane.ModelFetchError{URL: m.url, Err: fmt.Errorf("%w: its files are larger than the instance's volume of %d bytes", dataplane.ErrModelData, h.disk.limit)}
		}
		if old := h.unusedOnDisk(); old != nil {
			h.removeFiles(old)
			h.forget(old)
			h.mu.Unlock()
			continue
		}
		changed := h.changed
		h.mu.Unlock()
		if h.evict(ctx) {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return h.explain(ctx, ctx.Err())
		}
	}
}

// unusedOnDisk is the longest unused model that is on disk and not loaded; the
// lock is held.
func (h *host) unusedOnDisk() (oldest *model) {
	for _, m := range h.models {
		if m.state == absent && m.users == 0 && m.onDisk && (oldest == nil || m.used.Before(oldest.used)) {
			oldest = m
		}
	}
	return oldest
}

// load has the container load a model whose files are there. Idle models go when
// the memory that the files suggest is used up, and when the container says that
// it has none (507). With nothing left to unload the load waits until something
// is.
func (h *host) load(ctx context.Context, m *model) (err error) {
	h.mu.Lock()
	h.memory.used += m.size
	h.mu.Unlock()
	defer func() {
		if err != nil {
			h.mu.Lock()
			h.memory.used -= m.size
			h.mu.Unlock()
		}
	}()
	for h.crowded() && h.evict(ctx) {
	}
	body, err := json.Marshal(map[string]string{"model_name": m.id, "url": m.dir})
	if err != nil {
		return fmt.Errorf("encode model: %w", err)
	}
	for {
		began := time.Now()
		h.mu.Lock()
		changed := h.changed // a change after the answer counts too
		m.asking = true
		h.mu.Unlock()
		r := new(refusal)
		req := &dataplane.Request{ContentType: "application/json", Body: body}
		header := map[string]string{"X-Amzn-SageMaker-Target-Model": m.target}
		if err := h.Call(ctx, http.MethodPost, "/models", header, req, &r.answer); err != nil {
			return h.explain(ctx, err)
		}
		switch status := r.answer.StatusCode; {
		case status/100 == 2, status == http.StatusConflict: // loaded already
			h.observe(m, dataplane.ModelEvent{Metric: dataplane.ModelLoadingTime, Took: time.Since(began)})
			return nil
		case status != http.StatusInsufficientStorage:
			return r
		}
		if h.evict(ctx) {
			continue
		}
		if h.starve(m, changed) {
			return r
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return h.explain(ctx, ctx.Err())
		}
	}
}

// explain tells a load that took too long, and the end of the worker, from other
// failures.
func (h *host) explain(ctx context.Context, err error) error {
	switch {
	case h.ctx.Err() != nil:
		return fmt.Errorf("load: %w", dataplane.ErrBroken)
	case ctx.Err() != nil:
		return fmt.Errorf("%w after %v", dataplane.ErrModelNotReady, loadTimeout)
	}
	return fmt.Errorf("load: %w", err)
}

// maxLoaded is how many models an instance holds loaded, however small they are.
const maxLoaded = 10_000

func (h *host) crowded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.memory.exceeded() || h.loaded.Len() >= maxLoaded
}

// starve notes that a load waits for memory. It tells whether that is in vain:
// nothing has changed since the container was asked, and no other model has any
// memory, for all others that are being loaded wait as well. One that has asked
// again does not wait: the container may be loading it.
func (h *host) starve(m *model, asked chan struct{}) (inVain bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m.asking = false
	if !m.starved {
		m.starved = true
		h.notify()
	}
	if h.changed != asked {
		return false
	}
	for _, other := range h.models {
		if other != m && other.state != absent && (other.state != loading || !other.starved || other.asking) {
			return false
		}
	}
	return true
}

// evict unloads the least recently used model that nobody uses; false when there
// is none. Its files stay.
func (h *host) evict(ctx context.Context) bool {
	h.mu.Lock()
	for e := h.loaded.Front(); e != nil; e = e.Next() {
		if m := e.Value.(*model); m.users == 0 {
			h.evictions++
			h.startUnload(m)
			h.mu.Unlock()
			h.unload(ctx, m)
			return true
		}
	}
	h.mu.Unlock()
	return false
}

// startUnload takes a model out of service; the lock is held.
func (h *host) startUnload(m *model) {
	h.leave(m, unloading)
	m.step = &step{done: make(chan struct{})}
}

// unload has the container unload a model. What becomes of a model that it does
// not unload is told by its answer to the next load.
func (h *host) unload(ctx context.Context, m *model) {
	began := time.Now()
	var ans dataplane.Answer
	err := h.Call(ctx, http.MethodDelete, "/models/"+m.id, nil, &dataplane.Request{Timeout: h.spec.StartupTimeout}, &ans)
	switch {
	case err != nil:
		fmt.Fprintf(h.log(), "sagelocal: model %s (%s) was not unloaded: %v\n", m.id, m.target, err)
	case ans.StatusCode/100 != 2 && ans.StatusCode != http.StatusNotFound:
		fmt.Fprintf(h.log(), "sagelocal: model %s (%s) was not unloaded: the container answered %d: %.200q\n", m.id, m.target, ans.StatusCode, ans.Body)
	default:
		h.observe(m, dataplane.ModelEvent{Metric: dataplane.ModelUnloadingTime, Took: time.Since(began)})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := m.step
	m.state, m.step = absent, nil
	h.memory.used -= m.size
	h.forget(m)
	close(s.done)
	h.notify()
}
