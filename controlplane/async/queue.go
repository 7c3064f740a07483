package async

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// Config is the operator's part of the queue.
type Config struct {
	// MaxRequestsPerEndpoint and MaxRequests bound how many requests may be queued
	// or running, of an endpoint and in all; 0 means 120,000 (docs: async-inference)
	// and twice as many.
	MaxRequestsPerEndpoint int `yaml:"max_requests_per_endpoint"`
	MaxRequests            int `yaml:"max_requests"`
	// MaxInlineBytes bounds what their bodies take in the database; 0 means 1 GiB.
	MaxInlineBytes int64 `yaml:"max_inline_bytes"`
	// IdleTimeout is how long an instance that a backlog has started on a variant
	// scaled to zero stays without a request; 0 means 5 minutes. The time scale
	// divides it.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
}

// Validate refuses negative bounds.
func (c *Config) Validate() error {
	if c.MaxRequestsPerEndpoint < 0 || c.MaxRequests < 0 || c.MaxInlineBytes < 0 || c.IdleTimeout < 0 {
		return errors.New("a bound is negative")
	}
	return nil
}

// Options is what a Queue works with.
type Options struct {
	Config
	DB    *store.DB
	Fleet *dataplane.Fleet
	// S3 is the client for a bucket; nil when there is no S3.
	S3 func(bucket string) *s3.Client
	// Subscriptions are where notifications go; nil for nowhere.
	Subscriptions *Subscriptions
	// Dir takes large payloads while they are processed; empty means the system's
	// directory for temporary files.
	Dir       string
	TimeScale float64
	// Starved is called when requests wait for an endpoint that no instance serves.
	Starved func(dataplane.Key)
	Logger  *slog.Logger
}

const (
	defaultPerEndpoint = 120_000
	defaultInlineBytes = 1 << 30
	defaultIdleTimeout = 5 * time.Minute
	// keptDone is how many finished requests stay in the database.
	keptDone = 1000
	// maxFinishing bounds the requests of an endpoint that have left their instance
	// and are being written. What runs is bounded by the instances alone.
	maxFinishing = 256
	// maxSettling bounds the requests that end without a run at once.
	maxSettling = 16
)

// Queue is the queues of all endpoints. Its methods are safe for concurrent use.
type Queue struct {
	Options

	dispatch context.Context // ends when no further request may begin
	halt     context.CancelFunc
	working  context.Context // ends when requests under way must end
	abort    context.CancelFunc
	work     sync.WaitGroup
	settling chan struct{}
	notifier *notifier

	mu       sync.Mutex
	lanes    map[string]*lane // by the endpoint's UID
	total    int              // requests queued or running
	inline   int64            // bytes of their bodies
	sequence int64
	finished []place // whose records are kept, oldest first, all notified
}

// place is a record's key.
type place struct {
	scope store.Scope
	id    string
}

// New makes a queue; Start sets it to work.
func New(o Options) *Queue {
	if o.MaxRequestsPerEndpoint == 0 {
		o.MaxRequestsPerEndpoint = defaultPerEndpoint
	}
	if o.MaxRequests == 0 {
		o.MaxRequests = 2 * o.MaxRequestsPerEndpoint
	}
	if o.MaxInlineBytes == 0 {
		o.MaxInlineBytes = defaultInlineBytes
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = defaultIdleTimeout
	}
	if o.TimeScale <= 0 {
		o.TimeScale = 1
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Starved == nil {
		o.Starved = func(dataplane.Key) {}
	}
	q := &Queue{Options: o, settling: make(chan struct{}, maxSettling), lanes: map[string]*lane{}}
	q.dispatch, q.halt = context.WithCancel(context.Background())
	q.working, q.abort = context.WithCancel(context.Background())
	q.notifier = newNotifier(q)
	return q
}

// Start takes up what the last run has left. alive gives the UID of an endpoint,
// and "" when there is none of the name: its requests fail.
func (q *Queue) Start(alive func(dataplane.Key) string) error {
	q.sweep()
	var undelivered []place
	err := q.DB.View(func(tx *store.Tx) error {
		return records.Each(tx, func(scope store.Scope, id string, r *record) error {
			at := place{scope, id}
			switch {
			case r.State == done && r.Notification != nil:
				undelivered = append(undelivered, at)
				return nil
			case r.State == done:
				q.finished = append(q.finished, at)
				return nil
			}
			l := q.lane(keyOf(scope, r.Endpoint), r.UID, r.Endpoint)
			l.closed = l.closed || alive(l.key) != r.UID
			l.waiting.push(q.ticket(at, r))
			q.total++
			q.inline += int64(r.Inline)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read asynchronous requests: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sequence = time.Now().UnixNano()
	for _, l := range q.lanes {
		q.work.Go(l.run)
	}
	q.notifier.resume(undelivered)
	return nil
}

// sweep removes payloads that the last run was working at.
func (q *Queue) sweep() {
	if q.Dir == "" {
		return
	}
	left, _ := filepath.Glob(filepath.Join(q.Dir, spoolPattern)) // the pattern is good
	for _, path := range left {
		_ = os.Remove(path) // else the next start does it
	}
}

// Halt begins no further request.
func (q *Queue) Halt() {
	q.mu.Lock() // admit begins nothing after this
	defer q.mu.Unlock()
	q.halt()
}

// Stop ends what is under way, after Halt and when no instance serves any more.
// Requests that have not ended stay in the database for the next run.
func (q *Queue) Stop() {
	q.Halt()
	q.abort()
	q.work.Wait()
}

// lane finds or makes an endpoint's. The caller holds q.mu or is alone.
func (q *Queue) lane(key dataplane.Key, uid, endpoint string) *lane {
	l := q.lanes[uid]
	if l == nil {
		l = newLane(q, key, uid, endpoint)
		q.lanes[uid] = l
	}
	return l
}

func (q *Queue) existing(uid string) *lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lanes[uid]
}

// Call is an InvokeEndpointAsync that has been checked.
type Call struct {
	Key      dataplane.Key
	Endpoint string // as its creator wrote it
	To       *dataplane.Async

	InferenceID, ContentType, Accept, CustomAttributes string
	Input                                              string // empty with a Body
	Body                                               []byte
	Extension, Filename                                string
	TTL, Timeout                                       time.Duration
}

// Ticket is what a caller gets for a Call.
type Ticket struct {
	InferenceID, Output, Failure string
}

// Enqueue returns when the request is on disk. Body is the caller's again then.
// Errors: AsyncQueueFull, and EndpointUnknown when the endpoint is being deleted.
func (q *Queue) Enqueue(c *Call) (Ticket, error) {
	r := &record{
		Request: uuid.NewString(), Endpoint: c.Endpoint, UID: c.To.UID, State: queued,
		InferenceID: c.InferenceID, ContentType: c.ContentType, Accept: c.Accept, CustomAttributes: c.CustomAttributes,
		Input: c.Input, Inline: len(c.Body), TTL: c.TTL, Timeout: c.Timeout, Received: time.Now().UTC(),
		SuccessTopic: c.To.SuccessTopic, ErrorTopic: c.To.ErrorTopic,
		IncludeInSuccess: c.To.IncludeInSuccess, IncludeInError: c.To.IncludeInError,
	}
	if r.InferenceID == "" {
		r.InferenceID = r.Request
	}
	r.Output, r.Failure = target{c.To.OutputPath, c.To.FailurePath, c.Extension, c.Filename, r.Request}.locations()
	l, at, err := q.admit(c, r)
	if err != nil {
		return Ticket{}, err
	}
	err = q.DB.Update(func(tx *store.Tx) error {
		if c.Input == "" {
			if err := bodies.Put(tx, at.scope, at.id, &body{c.Body}); err != nil {
				return err
			}
		}
		return records.Put(tx, at.scope, at.id, r)
	})
	if err != nil {
		l.admitted(nil)
		q.leave(r.Inline)
		return Ticket{}, fmt.Errorf("store request: %w", err)
	}
	l.admitted(q.ticket(at, r))
	return Ticket{r.InferenceID, r.Output, r.Failure}, nil
}

// admit finds the request's lane and counts it.
func (q *Queue) admit(c *Call, r *record) (*lane, place, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dispatch.Err() != nil {
		return nil, place{}, sdkcompat.RequestCanceled.Error()
	}
	if q.total >= q.MaxRequests || q.inline+int64(r.Inline) > q.MaxInlineBytes {
		return nil, place{}, sdkcompat.AsyncQueueFull.Error(c.Endpoint)
	}
	fresh := q.lanes[c.To.UID] == nil
	l := q.lane(c.Key, c.To.UID, c.Endpoint)
	if err := l.admit(q.MaxRequestsPerEndpoint); err != nil {
		return nil, place{}, err
	}
	if fresh {
		q.work.Go(l.run)
	}
	q.total++
	q.inline += int64(r.Inline)
	q.sequence++
	return l, place{scopeOf(c.Key), fmt.Sprintf("%016x", q.sequence)}, nil
}

// leave takes a request off the count.
func (q *Queue) leave(inline int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	q.inline -= int64(inline)
}

// Wake tells the queue that an endpoint's instances may have changed.
func (q *Queue) Wake(uid string) {
	if l := q.existing(uid); l != nil {
		l.wake()
	}
}

// Abandon fails all requests of an endpoint that is being deleted, and refuses
// further ones.
func (q *Queue) Abandon(uid string) {
	if l := q.existing(uid); l != nil {
		l.close(false)
	}
}

// Forget drops the requests of an account, or of all when it is empty, whose
// records have been deleted.
func (q *Queue) Forget(account string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lanes {
		if account == "" || l.key.Account == account {
			l.close(true)
		}
	}
	q.notifier.forget(account)
}

// Backlog is how many requests of an endpoint are queued or running, and since
// when there has been none.
func (q *Queue) Backlog(uid string) (n int, idleSince time.Time) {
	l := q.existing(uid)
	if l == nil {
		return 0, time.Time{}
	}
	return l.backlog()
}

func (q *Queue) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / q.TimeScale)
}
