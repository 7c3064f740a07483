package dataplane

import (
	"context"
	"errors"
	"time"
)

// The ways in which a request for a model among several fails, beside
// ErrModelData.
var (
	// ErrNotMultiModel: TargetModel is given, and no container holds several models.
	ErrNotMultiModel = errors.New("the endpoint does not hold several models")
	// ErrNoTargetModel: the container holds several models, and the request names
	// none.
	ErrNoTargetModel = errors.New("the request names no model")
	// ErrTargetModel: TargetModel cannot be the rest of an object's key.
	ErrTargetModel = errors.New("target model is not a path below the prefix")
	// ErrModelNotReady: the model is still being downloaded or loaded.
	ErrModelNotReady = errors.New("model is not ready")
)

// ModelFetchError says which archive could not be fetched when a request asked
// for its model. It wraps ErrModelData.
type ModelFetchError struct {
	URL string
	Err error
}

func (e *ModelFetchError) Error() string { return e.Err.Error() }

func (e *ModelFetchError) Unwrap() error { return e.Err }

// ModelServer is a worker whose container loads and unloads models when it is
// told to (docs: mms-container-apis).
type ModelServer interface {
	Worker
	// Call is Invoke for another method and path, and with further headers.
	Call(ctx context.Context, method, path string, header map[string]string, req *Request, ans *Answer) error
	// ReadsModels is false of a container that has no use for a model's files.
	ReadsModels() bool
}

// ModelHost is a worker that holds several models, loaded when they are asked
// for. Its methods are safe for concurrent use and return at once.
type ModelHost interface {
	// HasModel tells whether a model is loaded or being loaded.
	HasModel(target string) bool
	Models() ModelStatus
}

// ModelStatus is what an instance holds, as the admin route shows it.
type ModelStatus struct {
	Loaded  []string `json:"loaded"` // least recently used first
	Loading []string `json:"loading,omitempty"`
	// OnDisk counts the models whose files are there, loaded or not.
	OnDisk      int   `json:"on_disk"`
	DiskBytes   int64 `json:"disk_bytes"`
	MemoryBytes int64 `json:"memory_bytes"` // estimated by the files of what is loaded
	// Hits and Misses count the requests that found their model loaded, or not.
	Hits      int64 `json:"hits"`
	Misses    int64 `json:"misses"`
	Evictions int64 `json:"evictions"`
}

// The metrics that ModelEvents are data points of (docs: monitoring-cloudwatch,
// "Multi-model endpoint model loading metrics").
const (
	ModelLoadingWaitTime = "ModelLoadingWaitTime"
	ModelUnloadingTime   = "ModelUnloadingTime"
	ModelDownloadingTime = "ModelDownloadingTime"
	ModelLoadingTime     = "ModelLoadingTime"
	ModelCacheHit        = "ModelCacheHit"
	// ModelSetupTime is of a serverless endpoint: how long an environment took to
	// come into service.
	ModelSetupTime = "ModelSetupTime"
)

// ModelEvent is one data point of a multi-model or a serverless endpoint.
type ModelEvent struct {
	Metric      string
	Key         Key
	Variant     string
	InstanceID  string
	TargetModel string
	Took        time.Duration // of all metrics but ModelCacheHit
	Hit         bool          // of ModelCacheHit
}

// ModelObserver takes in what happens to models. It must be quick and safe for
// concurrent use; nil observes nothing.
type ModelObserver func(ModelEvent)

// Observe is a call that nil allows.
func (o ModelObserver) Observe(e ModelEvent) {
	if o != nil {
		o(e)
	}
}
