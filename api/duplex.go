package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

const duplexOperation = "InvokeEndpointWithBidirectionalStream"

// maxDuplexStreams is how many bidirectional streams there may be at once.
const maxDuplexStreams = 4096

// conversation is the caller of one bidirectional stream, over HTTP/2.
type conversation struct {
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	events  *requestEvents
	headers [2][2][]byte
	route   dataplane.Route
	begun   bool
	frame   []byte

	patience *time.Timer // breaks the stream of a caller who does not read
	mu       sync.Mutex
	over     bool // control must not be used any more
}

// duplex is InvokeEndpointWithBidirectionalStream (SageMaker Runtime HTTP2). The
// error has not been answered; one after the stream has begun is an exception
// event in it.
func (s *HTTP2) duplex(w http.ResponseWriter, r *http.Request, name, id string) error {
	if err := sdkcompat.CheckRuntime(duplexOperation, name, r.Header.Get); err != nil {
		return err
	}
	headers, err := responseHeaders()
	if err != nil {
		return err
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return sdkcompat.DuplexTooMany.Error(cap(s.streams))
	}
	c := &conversation{w: w, r: r, control: http.NewResponseController(w), events: newRequestEvents(r.Body), headers: headers}
	c.patience = time.AfterFunc(writeTimeout, c.giveUp)
	c.patience.Stop()
	defer c.end()

	scope := s.scopes.of([]byte(r.Header.Get("Authorization")))
	key := dataplane.Key{Account: scope.Account, Region: scope.Region, Name: strings.ToLower(name)}
	req := dataplane.Request{
		Operation: duplexOperation, Path: containerPath(r.Header), Timeout: invokeTimeout,
		TargetVariant: r.Header.Get("X-Amzn-Sagemaker-Target-Variant"),
	}
	err = s.fleet.InvokeDuplex(r.Context(), key, &req, &c.route, c)
	switch {
	case err == nil:
		return nil
	case c.begun:
		e := &events{encoder: eventstream.NewEncoder(), failed: func(err error) *sdkcompat.Error {
			return duplexStreamError(s.log, err, id, c.route.Container)
		}}
		var out bytes.Buffer
		if err := e.failure(&out, err); err != nil {
			return err
		}
		_ = c.write(out.Bytes()) // the caller may have gone
		return nil
	}
	setRouteHeaders(w.Header(), &c.route)
	return duplexError(id, &req, err, scope, name, c.route)
}

// containerPath is where on the container the socket is opened; the headers keep
// to the patterns of the service model.
func containerPath(h http.Header) string {
	path := dataplane.BidirectionalPath
	if own := h.Get("X-Amzn-Sagemaker-Model-Invocation-Path"); own != "" {
		path = "/" + own
	}
	if query := h.Get("X-Amzn-Sagemaker-Model-Query-String"); query != "" {
		path += "?" + query
	}
	return path
}

// setRouteHeaders is setRoute for net/http.
func setRouteHeaders(h http.Header, route *dataplane.Route) {
	if route.Variant != "" {
		h.Set(string(variantHeader), route.Variant)
	}
	if route.Instance != "" {
		h.Set(string(instanceHeader), route.Instance)
	}
}

// Begin is dataplane.Peer's.
func (c *conversation) Begin() error {
	c.begun = true
	setRouteHeaders(c.w.Header(), &c.route)
	c.w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
	c.w.WriteHeader(http.StatusOK)
	return c.write()
}

// Receive is dataplane.Peer's.
func (c *conversation) Receive() (dataplane.Frame, error) {
	f, err := c.events.next()
	if err != nil && !errors.Is(err, io.EOF) && c.r.Context().Err() != nil {
		err = errCallerGone
	}
	return f, err
}

// Send is dataplane.Peer's: one frame, one event.
func (c *conversation) Send(f dataplane.Frame) error {
	c.frame = appendFrame(c.frame[:0], c.headers[index(f.Text)][index(f.Partial)], f.Payload)
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.Update(crc32.ChecksumIEEE(c.frame), crc32.IEEETable, f.Payload))
	return c.write(c.frame, f.Payload, sum[:])
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// write sends parts at once. A caller has writeTimeout to take them.
func (c *conversation) write(parts ...[]byte) error {
	c.patience.Reset(writeTimeout)
	defer c.patience.Stop()
	for _, part := range parts {
		if _, err := c.w.Write(part); err != nil {
			return errCallerGone
		}
	}
	if c.control.Flush() != nil {
		return errCallerGone
	}
	return nil
}

// giveUp breaks the stream of a caller who does not read. A deadline of net/http's
// own would also break one that has nothing to read.
func (c *conversation) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		_ = c.control.SetWriteDeadline(aLongTimeAgo) // fails only when the stream is gone
	}
}

// end comes before the handler returns.
func (c *conversation) end() {
	c.patience.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

// StopReceiving is dataplane.Peer's. A body may be closed while it is read.
func (c *conversation) StopReceiving() { _ = c.r.Body.Close() }

// notDuplex says why an endpoint takes no bidirectional streams. The operation has
// no member to name a model, a container or a component with.
var notDuplex = []struct {
	err   error
	cause string
}{
	{dataplane.ErrDuplexServerless, "it is serverless"},
	{dataplane.ErrAsyncOnly, "it takes asynchronous requests only"},
	{dataplane.ErrComponentRequired, "it hosts inference components"},
	{dataplane.ErrNoTargetModel, "it is a multi-model endpoint"},
	{dataplane.ErrNoTargetContainer, "its containers are invoked directly"},
	{dataplane.ErrNoDuplex, "its models have several containers"},
}

// duplexError is the answer to a request that became no stream.
func duplexError(id string, req *dataplane.Request, err error, scope sdkcompat.Scope, endpoint string, route dataplane.Route) error {
	for _, n := range notDuplex {
		if errors.Is(err, n.err) {
			return sdkcompat.DuplexUnsupported.Error(endpoint, n.cause)
		}
	}
	switch {
	case errors.Is(err, errCallerGone):
		return sdkcompat.RequestCanceled.Error()
	case errors.Is(err, dataplane.ErrDuplexRefused):
		// Status 424 and the kind of a server's error: so it was seen.
		return modelErrorOf("server", "INTERNAL_FAILURE_FROM_MODEL", http.StatusFailedDependency,
			sdkcompat.DuplexRefused.Sentence(), scope, endpoint, route.Container)
	}
	return failure(func() string { return id }, req, new(dataplane.Answer), err, scope, endpoint, route)
}

// duplexStreamError is what becomes of a stream that breaks. ErrorCode is the code
// of the container's Close frame, or what ordinary streams have.
func duplexStreamError(log *slog.Logger, err error, id, container string) *sdkcompat.Error {
	broken := func(m *sdkcompat.Message, values ...any) *sdkcompat.Error {
		e := m.Error(values...)
		e.Members = map[string]any{"ErrorCode": "StreamBroken"}
		return e
	}
	var closed *dataplane.CloseError
	switch {
	case errors.As(err, &closed):
		e := broken(sdkcompat.DuplexClosed, container, closed.Code, closed.Reason)
		e.Members["ErrorCode"] = strconv.Itoa(closed.Code)
		return e
	case errors.Is(err, dataplane.ErrNoPong):
		return broken(sdkcompat.DuplexUnanswered, container, dataplane.MaxMissedPongs)
	case errors.Is(err, dataplane.ErrTooLarge):
		return broken(sdkcompat.DuplexTooLarge, container, dataplane.MaxFrame)
	case errors.Is(err, errEvent):
		return sdkcompat.DuplexInvalid.Error(printable(err.Error()))
	case errors.Is(err, context.Canceled):
		return sdkcompat.StreamCanceled.Error()
	}
	return streamError(log, err, id, container)
}
