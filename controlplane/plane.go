// Package controlplane is SageMaker's hosting API below the wire: one file per
// resource, each operation a method of Plane in terms of the SDK's own structs,
// and one reconciler per endpoint that makes the workers match the records.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sagelocal/sagelocal/controlplane/async"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// Options is what a Plane works with.
type Options struct {
	DB    *store.DB
	Fleet *dataplane.Fleet
	// Launcher gives the kind of worker that the operator's rules choose for a
	// container image.
	Launcher func(image string) dataplane.Launcher
	// ModelData answers whether a ModelDataUrl can be read.
	ModelData *dataplane.ModelData
	// ModelEvents takes in what happens to the models of multi-model endpoints, and
	// how long the environments of serverless ones take to start;
	// nil for nobody.
	ModelEvents dataplane.ModelObserver
	// Captures writes what data capture copies; nil is one without S3.
	Captures *dataplane.Captures
	// Logs keeps what the workers print.
	Logs *dataplane.Logs
	// Responses are the scripted answers of the configuration file, by endpoint
	// name in lower case.
	Responses map[string][]dataplane.ResponseRule
	// Faults are those of the configuration file, in the same way.
	Faults map[string]dataplane.FaultScript
	// Alarms answers for the alarms of AutoRollbackConfiguration; nil means those
	// that SetAlarmState has set.
	Alarms AlarmSource
	// S3 is the client for a bucket; nil when there is none.
	S3 func(bucket string) *s3.Client
	// Async bounds the queue of asynchronous requests, Subscriptions are where its
	// notifications go.
	Async         async.Config
	Subscriptions *async.Subscriptions
	// Serverless says how the environments of serverless variants come and go.
	Serverless Serverless
	// Quotas limit what each account may have in each region.
	Quotas Quotas
	// Capacity is how many instances there are to be had; nil is no limit.
	Capacity *Capacity
	// Dir holds the instances' own directories and their logs.
	Dir string
	// TimeScale divides every wait of the control loops; 1 is real time.
	TimeScale float64
	// Seed makes every random choice repeatable.
	Seed   uint64
	Logger *slog.Logger
}

// Plane holds the desired state of every endpoint in the store and runs the
// reconcilers that make it true.
type Plane struct {
	Options

	ctx    context.Context // ends when the plane stops
	cancel context.CancelFunc
	queue  *async.Queue

	mu          sync.Mutex
	reconcilers map[dataplane.Key]*reconciler
	stopping    bool
	running     sync.WaitGroup
}

// New makes a Plane; Start sets it to work.
func New(o Options) *Plane {
	if o.TimeScale <= 0 {
		o.TimeScale = 1
	}
	if o.Alarms == nil {
		o.Alarms = storedAlarms{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.Captures == nil {
		o.Captures = &dataplane.Captures{TimeScale: o.TimeScale, Logger: o.Logger}
	}
	if o.Capacity == nil {
		o.Capacity = &Capacity{used: map[string]int{}}
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Plane{
		Options: o, ctx: ctx, cancel: cancel,
		reconcilers: map[dataplane.Key]*reconciler{},
	}
	p.queue = p.newQueue()
	return p
}

// Start brings back what the store holds: one reconciler for each endpoint.
// Nothing but the records is needed, whatever the last run was doing when it
// ended.
func (p *Plane) Start() error {
	if err := os.RemoveAll(filepath.Join(p.Dir, "instances")); err != nil {
		return fmt.Errorf("remove the last run's instance directories: %w", err)
	}
	uids, err := p.resume()
	if err != nil {
		return fmt.Errorf("resume endpoints: %w", err)
	}
	if err := p.queue.Start(func(key dataplane.Key) string { return uids[key] }); err != nil {
		return err
	}
	for key := range uids {
		p.wake(key)
	}
	return nil
}

// resume marks what was in service when the last run, and its workers with it,
// ended: endpoints as SystemUpdating, AWS's word for work that the platform does on
// its own, and inference components, which have no such status, as Updating, until
// new workers are in service. It is one transaction, for ten thousand would be ten
// thousand waits for the disk. It returns all endpoints with their UIDs.
func (p *Plane) resume() (map[dataplane.Key]string, error) {
	var uids map[dataplane.Key]string
	err := p.DB.Update(func(tx *store.Tx) error {
		uids = map[dataplane.Key]string{}
		used := map[store.Scope]*demand{}
		err := endpoints.Each(tx, func(scope store.Scope, id string, rec *endpointRecord) error {
			uids[endpointKey(sdkcompat.Scope(scope), id)] = rec.UID
			if p.Quotas.configured() {
				if used[scope] == nil {
					used[scope] = new(demand)
				}
				used[scope].replace(new(demand), rec.demand())
			}
			if rec.EndpointStatus != statusInService {
				return nil
			}
			rec.interrupt(tx.Now)
			return endpoints.Put(tx, scope, id, rec)
		})
		if err := errors.Join(err, replaceUsage(tx, used)); err != nil {
			return err
		}
		return inferenceComponents.Each(tx, func(scope store.Scope, id string, c *inferenceComponentRecord) error {
			if !c.interrupt(tx.Now) {
				return nil
			}
			return inferenceComponents.Put(tx, scope, id, c)
		})
	})
	return uids, err
}

// Stop ends every reconciler and every worker and returns when none is left, or
// when ctx ends. The records stay as they are.
func (p *Plane) Stop(ctx context.Context) error {
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	p.queue.Halt()
	p.cancel()
	done := make(chan struct{})
	go func() {
		p.running.Wait()
		p.queue.Stop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("workers are still stopping: %w", context.Cause(ctx))
	}
}

// wake tells an endpoint's reconciler that its record has changed, and starts
// one where there is none.
func (p *Plane) wake(key dataplane.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return
	}
	r := p.reconcilers[key]
	if r == nil {
		r = newReconciler(p, key)
		p.reconcilers[key] = r
		p.running.Go(func() { r.run(p.ctx) })
		return
	}
	r.notify()
}

// forget ends the life of a reconciler whose endpoint is gone, unless the name
// was taken again in the meantime.
func (p *Plane) forget(r *reconciler) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-r.woken:
		r.notify() // run has yet to see it
		return false
	default:
		delete(p.reconcilers, r.key)
		return true
	}
}

// scaled is how long d takes under the time scale.
func (p *Plane) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / p.TimeScale)
}

func (p *Plane) instanceDir(id string) string { return filepath.Join(p.Dir, "instances", id) }

type scopeKey struct{}

// WithScope gives the operations called with ctx their account and region.
func WithScope(ctx context.Context, scope sdkcompat.Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, scope)
}

func scopeOf(ctx context.Context) sdkcompat.Scope {
	scope, ok := ctx.Value(scopeKey{}).(sdkcompat.Scope)
	if !ok {
		panic("controlplane: context without a scope")
	}
	return scope
}

// notFound turns the store's answer for a missing record into AWS's.
func notFound(err error, what, arn string) error {
	if errors.Is(err, store.ErrNotFound) {
		return sdkcompat.NotFound.Error(what, arn)
	}
	return err
}
