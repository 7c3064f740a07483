package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

// duplexWorker gives out one conversation.
type duplexWorker struct {
	streamWorker
	open func(ctx context.Context, req *dataplane.Request) (dataplane.Duplex, error)
}

func (w *duplexWorker) OpenDuplex(ctx context.Context, req *dataplane.Request) (dataplane.Duplex, error) {
	return w.open(ctx, req)
}

// echo is a container that says back what it hears, and what the test makes it say.
type echo struct {
	heard chan dataplane.Frame // as it came, or the end
	says  chan any             // a string, or an error of Receive
	over  chan struct{}
	got   []dataplane.Frame
	shut  sync.Once
}

func newEcho() *echo {
	return &echo{heard: make(chan dataplane.Frame), says: make(chan any, 8), over: make(chan struct{})}
}

func (e *echo) Send(f dataplane.Frame) error {
	f.Payload = bytes.Clone(f.Payload)
	select {
	case e.heard <- f:
		return nil
	case <-e.over:
		return dataplane.ErrBroken
	}
}

func (e *echo) CloseSend() error {
	close(e.heard)
	return nil
}

func (e *echo) Receive() (dataplane.Frame, error) {
	select {
	case f, more := <-e.heard:
		if !more {
			return f, io.EOF
		}
		e.got = append(e.got, f)
		return f, nil
	case said := <-e.says:
		if err, failed := said.(error); failed {
			return dataplane.Frame{}, err
		}
		return dataplane.Frame{Payload: []byte(said.(string))}, nil
	case <-e.over:
		return dataplane.Frame{}, fmt.Errorf("%w: %w", dataplane.ErrBroken, dataplane.ErrDuplexClosed)
	}
}

func (e *echo) Close() { e.shut.Do(func() { close(e.over) }) }

// duplexRig is an HTTP2 with one worker behind endpoint "e".
type duplexRig struct {
	*testing.T
	in      *dataplane.Instance
	server  *HTTP2
	address string
	client  *http.Client
	opened  dataplane.Request // what the worker was asked for
}

// serveDuplex runs a server whose worker gives out d, or refuses with err.
func serveDuplex(t *testing.T, d dataplane.Duplex, err error) *duplexRig {
	t.Helper()
	rig := &duplexRig{T: t}
	worker := &duplexWorker{open: func(_ context.Context, req *dataplane.Request) (dataplane.Duplex, error) {
		rig.opened = *req
		return d, err
	}}
	rig.serve(t, worker, func(*dataplane.Snapshot) {})
	return rig
}

func (rig *duplexRig) serve(t *testing.T, worker dataplane.Worker, change func(*dataplane.Snapshot)) {
	t.Helper()
	pool, err := dataplane.NewPool(dataplane.Routing{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	rig.in = dataplane.NewInstance(pool, "i-0", "ml.m5.large", 0, time.Now())
	rig.in.Serve(worker, time.Now())
	fleet := dataplane.NewFleet()
	snapshot := &dataplane.Snapshot{Serving: true, Variants: []dataplane.Variant{{Name: "v", Weight: 1, Pool: pool, Container: "primary"}}}
	change(snapshot)
	fleet.Publish(dataplane.Key{Account: benchScope.Account, Region: benchScope.Region, Name: "e"}, snapshot, 1)
	rig.server = NewHTTP2(HTTP2Options{
		Options:   Options{Fleet: fleet, Scope: benchScope, Logger: slog.New(slog.DiscardHandler)},
		Authority: func() ([]byte, error) { return nil, errors.New("no certificate") },
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rig.address = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- rig.server.Serve(ln) }()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	rig.client = &http.Client{Transport: &http.Transport{Protocols: protocols}}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = rig.server.Shutdown(ended)
		if err := <-served; err != nil {
			t.Error(err)
		}
		rig.client.CloseIdleConnections()
	})
}

// call is a caller's side of a stream.
type call struct {
	*testing.T
	resp *http.Response
	body *io.PipeWriter
}

// begin opens a stream.
func (rig *duplexRig) begin(headers ...string) *call {
	rig.Helper()
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(rig.Context(), http.MethodPost, "http://"+rig.address+"/endpoints/e/invocations-bidirectional-stream", r)
	if err != nil {
		rig.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := rig.client.Do(req)
	if err != nil {
		rig.Fatal(err)
	}
	rig.Cleanup(func() {
		_ = w.Close()
		_ = resp.Body.Close()
	})
	return &call{rig.T, resp, w}
}

// textHeader is a header of a string.
func textHeader(name, value string) eventstream.Header {
	return eventstream.Header{Name: name, Value: eventstream.StringValue(value)}
}

// requestPart is a PayloadPart with further headers.
func requestPart(payload string, headers ...eventstream.Header) eventstream.Message {
	return eventstream.Message{Payload: []byte(payload), Headers: append(eventstream.Headers{
		textHeader(":message-type", "event"), textHeader(":event-type", "PayloadPart"), textHeader(":content-type", "application/octet-stream"),
	}, headers...)}
}

// signed wraps a message as SigV4 does; nil is the last one.
func signed(t testing.TB, inner *eventstream.Message) eventstream.Message {
	m := eventstream.Message{Headers: eventstream.Headers{
		{Name: eventstreamapi.DateHeader, Value: eventstream.TimestampValue(time.UnixMilli(1700000000000))},
		{Name: eventstreamapi.ChunkSignatureHeader, Value: eventstream.BytesValue("32 bytes that nobody will verify")},
	}}
	if inner != nil {
		m.Payload = encoded(t, *inner)
	}
	return m
}

func encoded(t testing.TB, m eventstream.Message) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := eventstream.NewEncoder().Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (c *call) send(messages ...eventstream.Message) {
	c.Helper()
	for _, m := range messages {
		if _, err := c.body.Write(encoded(c.T, m)); err != nil {
			c.Error(err)
		}
	}
}

// next shows an event as "type DataType CompletionState payload", or the
// exception's; "end" at the end.
func (c *call) next() string {
	c.Helper()
	m, err := eventstream.NewDecoder().Decode(c.resp.Body, nil)
	if err == io.EOF {
		return "end"
	}
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, name := range []string{":event-type", ":exception-type", "DataType", "CompletionState"} {
		if v := m.Headers.Get(name); v != nil {
			parts = append(parts, v.String())
		}
	}
	return strings.Join(append(parts, string(m.Payload)), " ")
}

func (c *call) expect(events ...string) {
	c.Helper()
	for _, want := range events {
		if got := c.next(); got != want {
			c.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestPayloadPartsGoBothWaysWhileBothSidesTalk(t *testing.T) {
	e := newEcho()
	rig := serveDuplex(t, e, nil)
	c := rig.begin("X-Amzn-Sagemaker-Target-Variant", "v", "X-Amzn-Sagemaker-Model-Invocation-Path", "v1/listen", "X-Amzn-Sagemaker-Model-Query-String", "model=nova-3&lang=e%6E")
	if h := c.resp.Header; c.resp.StatusCode != 200 || c.resp.ProtoMajor != 2 || h.Get("Content-Type") != "application/vnd.amazon.eventstream" ||
		h.Get("X-Amzn-Invoked-Production-Variant") != "v" || h.Get("X-Sagelocal-Instance") != "i-0" || len(h.Get("X-Amzn-Requestid")) != 36 {
		t.Errorf("got %s %d %v", c.resp.Proto, c.resp.StatusCode, h)
	}
	if rig.opened.Path != "/v1/listen?model=nova-3&lang=e%6E" || rig.opened.Operation != duplexOperation || rig.opened.TargetVariant != "v" {
		t.Errorf("the worker is asked for %+v", rig.opened)
	}
	e.says <- "unasked"
	c.expect("PayloadPart BINARY COMPLETE unasked")
	for _, test := range []struct {
		sent eventstream.Message
		want string
	}{
		{requestPart("plain"), "PayloadPart BINARY COMPLETE plain"},
		{requestPart("b", textHeader("DataType", "BINARY"), textHeader("CompletionState", "COMPLETE")), "PayloadPart BINARY COMPLETE b"},
		{requestPart("t", textHeader("DataType", "UTF8"), textHeader("P", "abcdefgh")), "PayloadPart UTF8 COMPLETE t"},
		{requestPart("p", textHeader("DataType", "UTF8"), textHeader("CompletionState", "PARTIAL")), "PayloadPart UTF8 PARTIAL p"},
		{requestPart(""), "PayloadPart BINARY COMPLETE "},
		{requestPart(strings.Repeat("x", 2<<20)), "PayloadPart BINARY COMPLETE " + strings.Repeat("x", 2<<20)},
	} {
		c.send(test.sent)
		c.expect(test.want)
		inner := test.sent
		c.send(signed(t, &inner))
		c.expect(test.want)
	}
	if got := rig.in.Status().InFlight; got != 1 {
		t.Errorf("%d in flight", got)
	}
	c.send(signed(t, nil))
	c.expect("end")
	eventuallyIdle(t, rig.in)
	if s := rig.in.Status(); s.Invocations != 1 || s.Errors != 0 || len(e.got) != 12 {
		t.Errorf("got %+v, %d frames", s, len(e.got))
	}
}

// eventuallyIdle waits until the instance has nothing in flight.
func eventuallyIdle(t *testing.T, in *dataplane.Instance) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	in.Drain(ctx)
	if n := in.Status().InFlight; n != 0 {
		t.Errorf("%d in flight", n)
	}
}

func TestEndOfTheRequestWithoutALastMessageEndsTheStreamToo(t *testing.T) {
	rig := serveDuplex(t, newEcho(), nil)
	c := rig.begin()
	c.send(requestPart("a"))
	c.expect("PayloadPart BINARY COMPLETE a")
	if err := c.body.Close(); err != nil {
		t.Error(err)
	}
	c.expect("end")
}

func TestExceptionsOfBidirectionalStreams(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"a Close frame with its code", &dataplane.CloseError{Code: 1011, Reason: "out of memory"}, `ModelStreamError {"Message":"Container primary closed the WebSocket with code 1011 and reason \"out of memory\".","ErrorCode":"1011"}`},
		{"a container that ends without one", dataplane.ErrBroken, `ModelStreamError {"Message":"The connection to container primary failed before its response was complete.","ErrorCode":"StreamBroken"}`},
		{"no pongs", fmt.Errorf("%w: %w", dataplane.ErrBroken, dataplane.ErrNoPong), `ModelStreamError {"Message":"Container primary left 5 pings in a row unanswered.","ErrorCode":"StreamBroken"}`},
		{"a frame that is too large", fmt.Errorf("%w: %w", dataplane.ErrBroken, dataplane.ErrTooLarge), `ModelStreamError {"Message":"Container primary sent a frame of more than 16777216 bytes.","ErrorCode":"StreamBroken"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEcho()
			rig := serveDuplex(t, e, nil)
			c := rig.begin()
			e.says <- "first"
			e.says <- test.err
			c.expect("PayloadPart BINARY COMPLETE first", test.want, "end")
			eventuallyIdle(t, rig.in)
		})
	}
}

func TestRequestEventsThatAreNone(t *testing.T) {
	for _, test := range []struct {
		name string
		sent []byte
		want string // of the cause
	}{
		{"another event", encoded(t, eventstream.Message{Headers: eventstream.Headers{textHeader(":message-type", "event"), textHeader(":event-type", "Other")}}), "event Other is not an event PayloadPart"},
		{"an exception", encoded(t, eventstream.Message{Headers: eventstream.Headers{textHeader(":message-type", "exception")}}), "is not an event PayloadPart"},
		{"nothing", encoded(t, eventstream.Message{}), "is not an event PayloadPart"},
		{"an unknown DataType", encoded(t, requestPart("a", textHeader("DataType", "UTF16"))), "DataType is \\\"UTF16\\\", not UTF8 or BINARY"},
		{"an unknown CompletionState", encoded(t, requestPart("a", textHeader("CompletionState", "DONE"))), "CompletionState is \\\"DONE\\\", not PARTIAL or COMPLETE"},
		{"a header of another type", encoded(t, requestPart("a", eventstream.Header{Name: "DataType", Value: eventstream.Int32Value(8)})), "DataType is"},
		{"two events in one envelope", encoded(t, eventstream.Message{
			Headers: signed(t, nil).Headers, Payload: append(encoded(t, requestPart("a")), encoded(t, requestPart("b"))...),
		}), "more than one event"},
		{"an envelope with half an event", encoded(t, eventstream.Message{Headers: signed(t, nil).Headers, Payload: encoded(t, requestPart("abc"))[:40]}), "unexpected EOF"},
		{"a wrong checksum", append(encoded(t, requestPart("a"))[:len(encoded(t, requestPart("a")))-1], 0), "invalid event"},
		{"no event stream", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "invalid event"},
	} {
		t.Run(test.name, func(t *testing.T) {
			rig := serveDuplex(t, newEcho(), nil)
			c := rig.begin()
			if _, err := c.body.Write(test.sent); err != nil {
				t.Error(err)
			}
			got := c.next()
			if !strings.HasPrefix(got, `InternalStreamFailure {"Message":"The request stream could not be read: `) || !strings.Contains(got, test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
			c.expect("end")
			eventuallyIdle(t, rig.in)
		})
	}
	t.Run("an end within an event", func(t *testing.T) {
		c := serveDuplex(t, newEcho(), nil).begin()
		if _, err := c.body.Write(encoded(t, requestPart("abc"))[:20]); err != nil {
			t.Error(err)
		}
		_ = c.body.Close()
		if got := c.next(); !strings.Contains(got, "unexpected EOF") {
			t.Errorf("got %s", got)
		}
	})
}

// refusal is an answer that is no stream.
type refusal struct {
	status  int
	code    string
	message string
}

func (c *call) refusal() refusal {
	c.Helper()
	var body struct{ Message, ErrorCode string }
	if err := json.NewDecoder(c.resp.Body).Decode(&body); err != nil || body.ErrorCode == "" && c.resp.StatusCode != http.StatusForbidden {
		c.Errorf("%+v, %v", body, err)
	}
	return refusal{c.resp.StatusCode, c.resp.Header.Get("X-Amzn-Errortype"), body.Message}
}

func TestErrorsBeforeTheStream(t *testing.T) {
	const name = "1 validation error detected: Value '-' at 'targetVariant' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9])*"
	none := func(*dataplane.Snapshot) {}
	for _, test := range []struct {
		name    string
		change  func(*dataplane.Snapshot)
		open    error
		headers []string
		want    refusal
	}{
		{"a header that breaks a constraint", none, nil, []string{"X-Amzn-Sagemaker-Target-Variant", "-"}, refusal{400, "InputValidationError", name}},
		{"an unknown variant", none, nil, []string{"X-Amzn-Sagemaker-Target-Variant", "w"}, refusal{400, "InputValidationError", "TargetVariant names no production variant of endpoint e."}},
		{"an endpoint of another account", none, nil, []string{"Authorization", "AWS4-HMAC-SHA256 Credential=210987654321/20260101/us-east-1/sagemaker/aws4_request, SignedHeaders=host, Signature=0"}, refusal{400, "InputValidationError", "Endpoint e of account 210987654321 not found."}},
		{"a container that takes no socket", none, dataplane.ErrDuplexRefused, nil, refusal{424, "ModelError", `Received server error (424) from primary with message "Failed to establish WebSocket connection". See https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#logEventViewer:group=/aws/sagemaker/Endpoints/e in account 123456789012 for more information.`}},
		{"a worker that takes no streams", none, dataplane.ErrNoDuplex, nil, refusal{400, "InputValidationError", "Endpoint e does not support bidirectional streaming: its models have several containers."}},
		{"an endpoint of asynchronous requests", func(s *dataplane.Snapshot) { s.Async = &dataplane.Async{} }, nil, nil, refusal{400, "InputValidationError", "Endpoint e does not support bidirectional streaming: it takes asynchronous requests only."}},
		{"a multi-model endpoint", func(s *dataplane.Snapshot) { s.Variants[0].MultiModel = "primary" }, nil, nil, refusal{400, "InputValidationError", "Endpoint e does not support bidirectional streaming: it is a multi-model endpoint."}},
		{"containers that are invoked directly", func(s *dataplane.Snapshot) { s.Variants[0].Targets = []string{"a", "b"} }, nil, nil, refusal{400, "InputValidationError", "Endpoint e does not support bidirectional streaming: its containers are invoked directly."}},
		{"inference components", func(s *dataplane.Snapshot) { s.HostsComponents = true }, nil, nil, refusal{400, "InputValidationError", "Endpoint e does not support bidirectional streaming: it hosts inference components."}},
		{"an error of ours", none, errors.New("a disk has failed"), nil, refusal{500, "InternalServerError", "The request failed inside sagelocal; its log says why under request id "}},
		{"another site's page", none, nil, []string{"Origin", "https://evil.example"}, refusal{403, "AccessDeniedException", ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			rig := &duplexRig{T: t}
			rig.serve(t, &duplexWorker{open: func(context.Context, *dataplane.Request) (dataplane.Duplex, error) { return nil, test.open }}, test.change)
			got := rig.begin(test.headers...).refusal()
			if test.want.status == 500 {
				got.message = got.message[:min(len(test.want.message), len(got.message))]
			}
			if test.want.status == http.StatusForbidden {
				got.message = "" // of the framework, and so in lower case
			}
			if got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			eventuallyIdle(t, rig.in)
		})
	}
	t.Run("no instance", func(t *testing.T) {
		rig := serveDuplex(t, newEcho(), nil)
		rig.in.Retire()
		want := refusal{503, "ServiceUnavailableError", "No instance of production variant v of endpoint e is in service at the moment. Please try again."}
		if got := rig.begin().refusal(); got != want {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("more streams than are allowed", func(t *testing.T) {
		rig := serveDuplex(t, newEcho(), nil)
		rig.server.streams = make(chan struct{})
		if got := rig.begin().refusal(); got.status != 503 || got.code != "ServiceUnavailableError" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestScriptedAnswerOfABidirectionalStream(t *testing.T) {
	for status, want := range map[int]string{0: "PayloadPart BINARY COMPLETE pong", 503: "424"} {
		e := newEcho()
		rig := serveDuplex(t, e, nil)
		responses, err := dataplane.NewResponses([]dataplane.ResponseRule{{Body: "pong", Status: status}})
		if err != nil {
			t.Fatal(err)
		}
		rig.server.fleet.Endpoints()[0].SetResponses(responses)
		c := rig.begin()
		if status == 0 {
			c.expect(want, "end")
		} else if got := c.refusal(); fmt.Sprint(got.status) != want || got.code != "ModelError" {
			t.Errorf("got %+v", got)
		}
	}
}

func TestCallerOfABidirectionalStreamWhoGoesAwayEndsIt(t *testing.T) {
	e := newEcho()
	rig := serveDuplex(t, e, nil)
	c := rig.begin()
	c.send(requestPart("a"))
	c.expect("PayloadPart BINARY COMPLETE a")
	_ = c.resp.Body.Close() // resets the stream
	<-e.over
	eventuallyIdle(t, rig.in)
}

// A caller who does not read keeps the container waiting: it could send what the
// buffers of a connection hold, and no more.
func TestCallerWhoDoesNotReadKeepsTheContainerWaiting(t *testing.T) {
	e := newEcho()
	rig := serveDuplex(t, e, nil)
	c := rig.begin()
	piece := strings.Repeat("x", 1<<20)
	sent := 0
	for waiting := false; !waiting && sent < 64; {
		select {
		case e.says <- piece:
			sent++
		case <-time.After(2 * time.Second):
			waiting = true
		}
	}
	if sent == 64 {
		t.Error("64 MB were taken from the container")
	}
	for range sent {
		c.expect("PayloadPart BINARY COMPLETE " + piece)
	}
	e.says <- &dataplane.CloseError{Code: 1000}
	if got := c.next(); !strings.Contains(got, `"ErrorCode":"1000"`) {
		t.Errorf("got %.100s", got)
	}
}

func TestShutdownTellsTheCallersOfStreams(t *testing.T) {
	rig := serveDuplex(t, newEcho(), nil)
	c := rig.begin()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithDeadline(ended, time.Now())
		defer cancel()
		stopped <- rig.server.Shutdown(ctx)
	}()
	c.expect(`InternalStreamFailure {"Message":"The request was canceled."}`, "end")
	if err := <-stopped; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventuallyIdle(t, rig.in)
}

func TestPortOfBidirectionalStreamsToldByItsFirstByte(t *testing.T) {
	rig := serveDuplex(t, newEcho(), nil)
	example := httptest.NewTLSServer(nil) // for its certificate
	defer example.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: example.Certificate().Raw})
	certificate := &example.TLS.Certificates[0]
	rig.server.options.Certificate = func() (*tls.Certificate, error) { return certificate, nil }
	rig.server.options.Authority = func() ([]byte, error) { return authority, nil }
	get := func(client *http.Client, url string) (*http.Response, string) {
		t.Helper()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	plain := &http.Client{Transport: &http.Transport{}}
	defer plain.CloseIdleConnections()
	resp, body := get(plain, "http://"+rig.address+"/_sagelocal/certificate")
	if resp.ProtoMajor != 1 || body != string(authority) {
		t.Errorf("over HTTP/1.1: %s %s", resp.Proto, body)
	}
	if resp, body := get(plain, "http://"+rig.address+"/endpoints/e/invocations"); resp.StatusCode != 404 || body != "<UnknownOperationException/>\n" {
		t.Errorf("another operation: %d %s", resp.StatusCode, body)
	}
	post, err := plain.Post("http://"+rig.address+"/endpoints/e/invocations-bidirectional-stream", "", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if got := (&call{T: t, resp: post}).refusal(); got != (refusal{400, "InputValidationError", sdkcompat.DuplexNeedsHTTP2.Sentence()}) {
		t.Errorf("over HTTP/1.1: %+v", got)
	}
	post.Body.Close()

	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(authority)
	secure := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: trust}}}
	defer secure.CloseIdleConnections()
	if resp, body := get(secure, "https://"+rig.address+"/_sagelocal/certificate"); resp.ProtoMajor != 2 || body != string(authority) {
		t.Errorf("over TLS: %s", resp.Proto)
	}
	if resp, body := get(rig.client, "http://"+rig.address+"/_sagelocal/certificate"); resp.ProtoMajor != 2 || body != string(authority) {
		t.Errorf("over HTTP/2: %s", resp.Proto)
	}
}

// FuzzRequestEvents: whatever a caller sends, an event or an error comes of it,
// and all that came before the error stays what it was.
func FuzzRequestEvents(f *testing.F) {
	part := requestPart("payload", textHeader("DataType", "UTF8"), textHeader("CompletionState", "PARTIAL"), textHeader("P", "aaaa"))
	wrapped, last := signed(f, &part), signed(f, nil)
	for _, seed := range [][]byte{
		nil, []byte("GET / HTTP/1.1\r\n\r\n"), encoded(f, part), encoded(f, wrapped), encoded(f, last), encoded(f, requestPart("")),
		append(encoded(f, wrapped), encoded(f, last)...), encoded(f, signed(f, &wrapped)),
		{0, 0, 0, 16, 0, 0, 0, 0, 5, 194, 72, 235, 125, 152, 200, 255},
		{255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		f.Add(seed)
	}
	headers, err := responseHeaders()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		events := newRequestEvents(bytes.NewReader(sent))
		for n := 0; ; n++ {
			frame, err := events.next()
			if err != nil {
				if err != io.EOF && !errors.Is(err, errEvent) {
					t.Errorf("%v", err)
				}
				return
			}
			if len(frame.Payload) > len(sent) || n > len(sent)/16 {
				t.Fatalf("event %d has %d bytes, of %d", n, len(frame.Payload), len(sent))
			}
			// What is passed on reads as the same event.
			out := httptest.NewRecorder()
			c := &conversation{w: out, control: http.NewResponseController(out), headers: headers, patience: time.NewTimer(time.Hour)}
			if err := c.Send(frame); err != nil {
				t.Fatal(err)
			}
			again, err := newRequestEvents(out.Body).next()
			if err != nil || again.Text != frame.Text || again.Partial != frame.Partial || !bytes.Equal(again.Payload, frame.Payload) {
				t.Errorf("%+v became %+v, %v", frame, again, err)
			}
		}
	})
}
