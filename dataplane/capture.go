package dataplane

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Bounds of what waits to be written.
const (
	maxCaptureBytes   = 64 << 20 // of payloads, for one endpoint
	maxCaptureRecords = 100_000  // for one endpoint
	maxCapturesBytes  = 256 << 20
	maxTeedBytes      = 256 << 20 // of streams under way, for all endpoints
)

// captureInterval is how long a record waits for others to share its file; AWS
// says that captured data arrives within minutes.
const captureInterval = 10 * time.Second

// ObjectPutter writes objects; an *s3.Client does.
type ObjectPutter interface {
	PutObject(ctx context.Context, in *s3.PutObjectInput, options ...func(*s3.Options)) (*s3.PutObjectOutput, error)
}

// Captures is what the captures of all endpoints share.
type Captures struct {
	// S3 is the client for a bucket; nil when there is no S3.
	S3 func(bucket string) ObjectPutter
	// TimeScale divides the waits between files and between tries; 0 is 1.
	TimeScale float64
	// Timings adds to each record when its request reached which instance and how
	// long that took, see CaptureTiming. AWS's records have nothing of the kind.
	Timings bool
	Logger  *slog.Logger // nil for none

	held atomic.Int64 // bytes that wait
	teed atomic.Int64 // bytes of streams under way
}

// CaptureConfig is a DataCaptureConfig, resolved. AWS page: API_DataCaptureConfig.
type CaptureConfig struct {
	Endpoint      string // its name as the caller wrote it
	Percentage    int    // of the requests, 0 to 100
	Input, Output bool
	Destination   string // s3://bucket/prefix
	// CSV and JSON are the media types that are written as text. All others are
	// written in base64.
	CSV, JSON []string
}

// Capture copies an endpoint's requests and answers to S3, in JSON lines (docs:
// model-monitor-data-capture-endpoint). It is safe for concurrent use. What S3
// does not take in time is dropped, the oldest first.
type Capture struct {
	config  CaptureConfig
	shared  *Captures
	sampler sampler
	ctx     context.Context // of the requests to S3
	cancel  context.CancelFunc
	closing chan struct{} // closed by Close
	full    chan struct{} // holds one: there is enough for a file

	mu      sync.Mutex
	closed  bool
	waiting fifo[captured]
	bytes   int           // of waiting
	slab    []byte        // what is left of it holds the next small records
	writer  chan struct{} // closed when the writer ends; nil while there is none
	counts  CaptureStatus
}

// captured is a request and its answer in memory of their own. It has few
// pointers, for the garbage collector follows those of all that wait.
type captured struct {
	variant  string
	at       time.Time
	took     time.Duration
	instance string
	memory   []byte
	ends     [capturedParts]int32 // of the parts in memory
}

// The parts of a record.
const (
	capturedInput = iota
	capturedOutput
	capturedInputType
	capturedOutputType
	capturedInferenceID
	capturedCustomAttributes
	capturedParts
)

// capturedTexts are the parts of a record that were strings, in order.
type capturedTexts [capturedParts - capturedInputType]string

// fill puts the parts behind one another. There is room for all of them.
func (r *captured) fill(input, output []byte, texts *capturedTexts) {
	r.memory = append(r.memory, input...)
	r.ends[capturedInput] = int32(len(r.memory))
	r.memory = append(r.memory, output...)
	r.ends[capturedOutput] = int32(len(r.memory))
	for i, text := range texts {
		r.memory = append(r.memory, text...)
		r.ends[capturedInputType+i] = int32(len(r.memory))
	}
}

func (r *captured) part(i int) []byte {
	from := int32(0)
	if i > 0 {
		from = r.ends[i-1]
	}
	return r.memory[from:r.ends[i]]
}

// Records of up to smallRecord bytes share slabs of memory: an allocation for
// each would cost more than the copy.
const (
	smallRecord = 8 << 10
	slabBytes   = 64 << 10
)

// NewCapture makes an endpoint's capture. The seed makes its samples repeatable.
func (cs *Captures) NewCapture(config CaptureConfig, seed uint64) *Capture {
	c := &Capture{
		config: config, shared: cs, sampler: newSampler(seed),
		closing: make(chan struct{}), full: make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Config is what the capture was made with.
func (c *Capture) Config() CaptureConfig { return c.config }

func (c *Capture) samples() bool { return c.sampler.take(float64(c.config.Percentage) / 100) }

// observe lets the instance answer and captures the request if the answer is a
// success.
func (c *Capture) observe(ctx context.Context, in *Instance, variant string, req *Request, ans *Answer) error {
	r := captured{variant: variant, at: time.Now(), instance: in.ID}
	if ans.stream == nil {
		err := in.pass(ctx, req, ans)
		if err == nil && ans.StatusCode/100 == 2 {
			leaveToCopy(req, ans.Body)
			c.record(r, req, ans.ContentType, ans.Body)
		}
		return err
	}
	t := &tee{Sink: ans.stream.Sink, deaf: !c.config.Output, teed: &c.shared.teed}
	defer t.drop()
	ans.stream.Sink = t
	err := in.pass(ctx, req, ans)
	ans.stream.Sink = t.Sink
	switch {
	case err != nil || ans.StatusCode/100 != 2:
	case t.over:
		c.overflow()
	default:
		c.record(r, req, t.contentType, t.body)
	}
	return err
}

// tee keeps a copy of a streamed answer.
type tee struct {
	Sink
	contentType string
	body        []byte
	deaf        bool // nobody wants the body
	over        bool // there was more than body may hold
	teed        *atomic.Int64
}

func (t *tee) Begin(head *Answer) error {
	t.contentType = strings.Clone(head.ContentType)
	return t.Sink.Begin(head)
}

func (t *tee) Write(p []byte) (int, error) {
	if !t.deaf && !t.over {
		t.keep(p)
	}
	return t.Sink.Write(p)
}

func (t *tee) keep(p []byte) {
	n := int64(len(p))
	if t.teed.Add(n) > maxTeedBytes || len(t.body)+len(p) > MaxAnswer {
		t.teed.Add(-n)
		t.drop()
		t.over = true
		return
	}
	t.body = append(t.body, p...)
}

// drop gives the copy's place back.
func (t *tee) drop() {
	t.teed.Add(-int64(len(t.body)))
	t.body = nil
}

// record puts a copy of a request and its answer, which has just ended, behind those
// that wait to be written. The writer encodes it.
func (c *Capture) record(r captured, req *Request, outputType string, output []byte) {
	r.took = time.Since(r.at)
	var input []byte
	if c.config.Input {
		input = req.Body
	}
	if !c.config.Output {
		output = nil
	}
	texts := capturedTexts{req.ContentType, outputType, req.InferenceID, req.CustomAttributes}
	size := len(input) + len(output)
	for _, text := range texts {
		size += len(text)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.admit(size) {
		return
	}
	if size <= smallRecord {
		if len(c.slab) < size {
			c.slab = make([]byte, slabBytes)
		}
		r.memory, c.slab = c.slab[:0:size], c.slab[size:]
		r.fill(input, output, &texts)
	} else { // not under the lock
		c.mu.Unlock()
		r.memory = make([]byte, 0, size)
		r.fill(input, output, &texts)
		c.mu.Lock()
	}
	c.enqueue(r)
}

// admit makes room for a record, at the expense of the oldest of the endpoint's.
// The caller holds c.mu.
func (c *Capture) admit(size int) bool {
	c.counts.Sampled++
	others := c.shared.held.Load() - int64(c.bytes)
	if c.closed || size > maxCaptureBytes || others+int64(size) > maxCapturesBytes {
		c.counts.Dropped++ // to drop all that wait would not make room for it
		return false
	}
	for !c.waiting.empty() && (c.bytes+size > maxCaptureBytes || c.waiting.len() >= maxCaptureRecords ||
		c.shared.held.Load()+int64(size) > maxCapturesBytes) {
		oldest := c.waiting.pop()
		c.release(len(oldest.memory))
	}
	c.bytes += size
	c.shared.held.Add(int64(size))
	return true
}

// release gives back the place of a record that is dropped. The caller holds
// c.mu.
func (c *Capture) release(size int) {
	c.bytes -= size
	c.shared.held.Add(-int64(size))
	c.counts.Dropped++
}

// enqueue lets the record be written. The caller holds c.mu.
func (c *Capture) enqueue(r captured) {
	if c.closed {
		c.release(len(r.memory))
		return
	}
	c.waiting.push(r)
	if c.writer == nil {
		c.writer = make(chan struct{})
		go c.write(c.writer)
	}
	c.hurry()
}

// hurry wakes the writer when there is enough for a file. The caller holds c.mu.
func (c *Capture) hurry() {
	if c.bytes < captureFileBytes && c.waiting.len() < captureFileRecords {
		return
	}
	select {
	case c.full <- struct{}{}:
	default:
	}
}

// overflow counts a record that no queue can hold.
func (c *Capture) overflow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Sampled++
	c.counts.Dropped++
}

// Close captures nothing more and writes what waits, until ctx ends; the rest is
// dropped.
func (c *Capture) Close(ctx context.Context) {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.closing)
	}
	writer := c.writer
	c.mu.Unlock()
	defer c.cancel()
	if writer == nil {
		return
	}
	select {
	case <-writer:
	case <-ctx.Done():
		c.cancel()
		<-writer
	}
}

// CaptureStatus is a reading of a capture's accounts, in records: what was
// sampled is written, dropped or waits.
type CaptureStatus struct {
	Sampled int64 `json:"sampled"`
	Written int64 `json:"written"`
	Dropped int64 `json:"dropped"` // for want of room, or because S3 did not take them
	Waiting int64 `json:"waiting"`

	Files    int64 `json:"files"`
	Failures int64 `json:"failures"` // tries to write a file

	LastKey   string     `json:"last_key,omitempty"` // with the bucket
	LastWrite *time.Time `json:"last_write,omitempty"`
	LastError string     `json:"last_error,omitempty"` // empty once a file is written
}

// Status is a reading of the accounts.
func (c *Capture) Status() CaptureStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.counts
	now.Waiting = now.Sampled - now.Written - now.Dropped
	return now
}
