package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// models is a multi-model container (docs: mms-container-apis). A model's files
// say how it behaves:
//
//	refuse  "N TEXT": it is not loaded, and the answer is TEXT with status N
//	wait    a path that must exist before it is loaded
//
// MODELS_ROOM is how many there is memory for; a load that finds none is
// answered with 507.
type models struct {
	mu   sync.Mutex
	dirs map[string]string // by model_name
	room int
}

func serveModels() {
	room, _ := strconv.Atoi(os.Getenv("MODELS_ROOM"))
	m := &models{dirs: map[string]string{}, room: room}
	http.HandleFunc("GET /models", m.list)
	http.HandleFunc("POST /models", m.load)
	http.HandleFunc("GET /models/{name}", m.get)
	http.HandleFunc("DELETE /models/{name}", m.unload)
	http.HandleFunc("POST /models/{name}/invoke", m.invoke)
}

type modelEntry struct {
	Name string `json:"modelName"`
	URL  string `json:"modelUrl"`
}

func (m *models) dir(name string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, ok := m.dirs[name]
	return dir, ok
}

func (m *models) list(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []modelEntry{}
	for _, name := range slices.Sorted(maps.Keys(m.dirs)) {
		all = append(all, modelEntry{name, m.dirs[name]})
	}
	answerJSON(w, map[string]any{"models": all})
}

func (m *models) get(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	dir, ok := m.dir(name)
	if !ok {
		http.NotFound(w, r)
		return
	}
	answerJSON(w, modelEntry{name, dir})
}

func (m *models) load(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name string `json:"model_name"`
		URL  string `json:"url"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if refusal, err := os.ReadFile(filepath.Join(in.URL, "refuse")); err == nil {
		code, text, _ := strings.Cut(string(refusal), " ")
		status, _ := strconv.Atoi(code)
		http.Error(w, text, max(status, http.StatusBadRequest))
		return
	}
	if path, err := os.ReadFile(filepath.Join(in.URL, "wait")); err == nil {
		for !exists(string(path)) && r.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	fmt.Println("loads", r.Header.Get("X-Amzn-SageMaker-Target-Model"), "as", in.Name, "from", in.URL)
	w.WriteHeader(m.keep(in.Name, in.URL))
}

func (m *models) keep(name, dir string) (status int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, there := m.dirs[name]
	switch {
	case there:
		return http.StatusConflict
	case m.room > 0 && len(m.dirs) >= m.room:
		return http.StatusInsufficientStorage
	}
	m.dirs[name] = dir
	return http.StatusOK
}

func (m *models) unload(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.dirs[r.PathValue("name")]; !ok {
		http.NotFound(w, r)
		return
	}
	delete(m.dirs, r.PathValue("name"))
	fmt.Println("unloads", r.PathValue("name"))
}

func (m *models) invoke(w http.ResponseWriter, r *http.Request) {
	dir, ok := m.dir(r.PathValue("name"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	obey(w, r, dir)
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
