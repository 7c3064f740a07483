package dataplane

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/sagelocal/sagelocal/dataplane/eventloop"
)

// Launcher is a kind of worker. Launch starts one instance as spec says and
// returns when it has answered its health check; a nil error means that the
// worker can be invoked now. When ctx ends first, everything that was started is
// stopped and the error wraps the context's.
//
// A failure wraps one of ErrPing, ErrCannotStart, ErrModelData or ErrCapacity,
// so that the control plane can give AWS's FailureReason.
type Launcher interface {
	Launch(ctx context.Context, spec Spec) (Worker, error)
}

// Worker is one running instance: it knows how to be invoked and how to stop.
type Worker interface {
	// Invoke answers one request. A worker's own error status is not an error:
	// it stands in Answer.StatusCode. The error wraps ErrTimeout when the worker
	// did not answer within req.Timeout, context.Canceled when the caller went
	// away, ErrBroken when the connection failed or the answer was unusable.
	// It returns promptly once ctx ends. Safe for concurrent use.
	Invoke(ctx context.Context, req *Request, ans *Answer) error
	// Stream is Invoke for an answer that is passed on as it comes. A worker's
	// own error status is passed on too. Errors are Invoke's, also once the answer
	// has begun, and the sink's own.
	Stream(ctx context.Context, req *Request, to Sink) error
	// Done is closed when the worker can no longer serve: its process ended or
	// its health check fails. Err then tells why; nil after Stop.
	Done() <-chan struct{}
	Err() error
	// Stop ends the worker: SIGTERM at once, SIGKILL when grace has passed
	// (SageMaker's is 30 s) or ctx ends. It returns when nothing is left of it.
	// Further calls wait for the first.
	Stop(ctx context.Context, grace time.Duration) error
	// Address says where the worker is, for people: "127.0.0.1:40123",
	// "in-process". Kind is its name in the configuration file.
	Address() string
	Kind() string
}

// The reasons why a worker did not start.
var (
	// ErrPing: the container started but GET /ping did not answer 200 in time,
	// or it exited before it did.
	ErrPing = errors.New("did not pass the ping health check")
	// ErrCannotStart: the program could not be executed at all.
	ErrCannotStart = errors.New("cannot start container")
	// ErrModelData: ModelDataUrl could not be read or unpacked.
	ErrModelData = errors.New("failed to download model data")
	// ErrCapacity: the machine has no room for the instance.
	ErrCapacity = errors.New("insufficient instance capacity")
)

// The ways in which an invocation fails that are not the worker's own answer.
var (
	ErrTimeout = errors.New("invocation timed out")
	ErrBroken  = errors.New("worker connection failed")
	// ErrTooLarge: the worker's answer exceeds the payload limit.
	ErrTooLarge = errors.New("worker answer exceeds the payload limit")
)

// ContainerError says which of an instance's several containers failed.
type ContainerError struct {
	Container string // its name in AWS's sentences
	Err       error
}

func (e *ContainerError) Error() string { return "container " + e.Container + ": " + e.Err.Error() }

func (e *ContainerError) Unwrap() error { return e.Err }

// Spec is everything a kind of worker is told about the instance to start.
type Spec struct {
	Key        Key    // account, region and endpoint name
	Variant    string // ProductionVariant.VariantName
	InstanceID string // i-0123456789abcdef0, unique
	Container  Container
	// Containers are those of a model of several, in order; package pipeline gives
	// each of them to its own kind of worker as Container. Direct means that a
	// request is for one of them and does not go through all.
	Containers []Container
	Direct     bool
	Shape      Shape // what the instance type offers; every kind honours it
	VolumeGiB  int   // room for models on disk; 0 means no limit

	// InferenceComponent is the component that the worker is a copy of, and Host
	// the id of the instance that it is on; both are empty for an instance of a
	// model. A copy has an InstanceID of its own, and its Shape is what it
	// reserves on the host.
	InferenceComponent string
	Host               string

	// StartupTimeout is ContainerStartupHealthCheckTimeoutInSeconds (default 8
	// minutes), DownloadTimeout ModelDataDownloadTimeoutInSeconds; both already
	// divided by the time scale.
	StartupTimeout  time.Duration
	DownloadTimeout time.Duration

	Dir  string    // the instance's own; the worker makes it if it needs one, the caller removes it after Stop
	Log  io.Writer // what the worker prints; safe for concurrent use
	Seed uint64    // for workers that draw random numbers; differs per instance
}

// Container is the part of a ContainerDefinition that a worker acts on.
type Container struct {
	Image                      string
	Environment                map[string]string
	ModelDataURL               string       // a tar.gz
	ModelDataSource            *ModelSource // in the place of ModelDataURL
	AdditionalModelDataSources []ModelChannel
	// MultiModel is Mode MultiModel: ModelDataURL is a prefix, and models below it
	// are loaded when a request asks for them. ForgetModels unloads each after use
	// (ModelCacheSetting Disabled).
	MultiModel   bool
	ForgetModels bool
	// Hostname is ContainerHostname, or container-1, container-2 and so on for
	// several without one (docs: inference-pipelines).
	Hostname string
}

// Shape is what an instance type offers (EC2 DescribeInstanceTypes).
type Shape struct {
	InstanceType    string
	VCPU            int
	MemoryGiB       float64
	Accelerators    int
	AcceleratorKind string  // for example "NVIDIA A10G"; empty without accelerators
	AcceleratorGiB  float64 // memory of each
}

// Request is an invocation as a worker receives it. The worker may keep nothing
// of it after Invoke returns: Body belongs to the connection.
type Request struct {
	Operation        string // InvokeEndpoint, for scripted answers
	Path             string // on the container; empty means its path for invocations
	ContentType      string // empty when the caller sent none
	Accept           string
	CustomAttributes string
	InferenceID      string
	PrefixAwareID    string
	SessionID        string // NewSession or that of a session; see Answer.NewSession
	TargetVariant    string
	// TargetContainer is TargetContainerHostname.
	TargetContainer string
	TargetModel     string
	// InferenceComponentName is the component that the caller asks for, and
	// Adapter, which Fleet.Invoke sets, the name that the copies know it by when
	// it is an adapter.
	InferenceComponentName string
	Adapter                string
	Body                   []byte
	// Timeout is how long the worker may take: 60 s for InvokeEndpoint
	// (docs: your-algorithms-inference-code). Zero means no limit.
	Timeout time.Duration
	// PerInstance, of an asynchronous request, is how many an instance may have at
	// once; 0 for all others.
	PerInstance int

	// Strand is the event loop's code that invokes; nil on an ordinary goroutine.
	Strand *eventloop.Strand

	fault *fault // what strikes it; nil for most
}

// Answer is what a worker said. The caller that passed it to Invoke owns it,
// Body included, and may recycle it.
type Answer struct {
	StatusCode       int
	ContentType      string
	CustomAttributes string
	// Container is which of several containers the answer, or the error beside it,
	// is from, if it is not the last one's success; empty for the only one.
	Container string
	Body      []byte        // reused: a worker appends to Body[:0]
	ColdStart time.Duration // Route.ColdStart; no worker's business
	// NewSession is a stateful session that the worker has begun: its id and
	// "; Expires=" with a time. ClosedSession is the id of one that it has ended
	// (docs: stateful-sessions).
	NewSession, ClosedSession string

	// Lend lets a worker take the body's memory from a pool, for Release to give
	// back: it is still in the processor's cache when it is used again.
	Lend bool
	lent *[]byte

	instance *Instance // that answered
	inline   bool      // an event loop can wait for it

	stream *stream // where the answer goes as it comes; nil: into Body
}

// Inline tells that the answer came from a worker that an event loop can wait for.
func (a *Answer) Inline() bool { return a.inline }

// Memory that was lent goes back to one of two pools, by its size: most answers are
// small, and theirs is to stay small.
const (
	smallLent = 64 << 10
	maxLent   = 4 << 20
)

var bodies, largeBodies = lentPool(), lentPool()

func lentPool() *sync.Pool { return &sync.Pool{New: func() any { return new([]byte) }} }

// body is where the answer's body goes, of which n bytes are to be expected.
func (a *Answer) body(n int64) []byte {
	if a.Lend && a.lent == nil {
		pool := bodies
		if n > smallLent {
			pool = largeBodies
		}
		a.lent = pool.Get().(*[]byte)
		a.Body = *a.lent
	}
	return a.Body[:0]
}

// Release ends the use of a body that was lent.
func (a *Answer) Release() {
	if a.lent == nil {
		return
	}
	pool := bodies
	*a.lent = a.Body[:0]
	switch n := cap(a.Body); {
	case n > maxLent:
		*a.lent = nil
	case n > smallLent:
		pool = largeBodies
	}
	pool.Put(a.lent)
	a.lent, a.Body = nil, nil
}
