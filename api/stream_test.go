package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/sagelocal/sagelocal/dataplane"
)

// streamWorker answers as a test says.
type streamWorker struct {
	dataplane.Worker
	stream func(ctx context.Context, req *dataplane.Request, to dataplane.Sink) error
}

func (w *streamWorker) Stream(ctx context.Context, req *dataplane.Request, to dataplane.Sink) error {
	return w.stream(ctx, req, to)
}

func (*streamWorker) Kind() string    { return "test" }
func (*streamWorker) Address() string { return "in-process" }

// serveStream runs a server with one such worker behind endpoint "e".
func serveStream(t *testing.T, stream func(context.Context, *dataplane.Request, dataplane.Sink) error) (*dataplane.Instance, *Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in, server := serveStreamOn(t, ln, stream)
	return in, server, ln.Addr().String()
}

func serveStreamOn(t *testing.T, ln net.Listener, stream func(context.Context, *dataplane.Request, dataplane.Sink) error) (*dataplane.Instance, *Server) {
	t.Helper()
	pool, err := dataplane.NewPool(dataplane.Routing{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	in := dataplane.NewInstance(pool, "i-0", "ml.m5.large", 0, time.Now())
	in.Serve(&streamWorker{stream: stream}, time.Now())
	fleet := dataplane.NewFleet()
	fleet.Publish(dataplane.Key{Account: benchScope.Account, Region: benchScope.Region, Name: "e"}, &dataplane.Snapshot{
		Serving: true, Variants: []dataplane.Variant{{Name: "v", Weight: 1, Pool: pool, Container: "primary"}},
	}, 1)
	server := New(Options{Fleet: fleet, Scope: benchScope, Logger: slog.New(slog.DiscardHandler)})
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = server.Shutdown(ctx)
		<-served
	})
	return in, server
}

// pipes is a listener of connections without buffers.
type pipes struct {
	callers chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newPipes() *pipes { return &pipes{callers: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.callers:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// dial makes a connection and sends a request for a stream.
func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	caller, accepted := net.Pipe()
	p.callers <- accepted
	if _, err := io.WriteString(caller, streamRequest); err != nil {
		t.Fatal(err)
	}
	return caller
}

const streamRequest = "POST /endpoints/e/invocations-response-stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"

// pieces is a worker's answer of so many, each flushed.
func pieces(to dataplane.Sink, all ...string) error {
	if err := to.Begin(&dataplane.Answer{StatusCode: 200, ContentType: "text/plain"}); err != nil {
		return err
	}
	for _, p := range all {
		if _, err := to.Write([]byte(p)); err != nil {
			return err
		}
		if err := to.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// asking posts to an action of endpoint "e".
func asking(t *testing.T, address, action string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/endpoints/e/"+action, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

const responseStream = "invocations-response-stream"

// frame is a decoded event stream message.
func frame(t *testing.T, r io.Reader) (kind, payload string, err error) {
	t.Helper()
	m, err := eventstream.NewDecoder().Decode(r, nil)
	if err != nil {
		return "", "", err
	}
	var names []string
	for _, h := range m.Headers {
		names = append(names, h.Name+"="+h.Value.String())
	}
	return strings.Join(names, " "), string(m.Payload), nil
}

const (
	partHeaders      = ":message-type=event :event-type=PayloadPart :content-type=application/octet-stream"
	exceptionHeaders = ":message-type=exception :exception-type=%s :content-type=application/json"
)

func TestEachPieceOfTheWorkerIsAPayloadPartAsSoonAsItComes(t *testing.T) {
	next := make(chan struct{})
	_, _, address := serveStream(t, func(_ context.Context, req *dataplane.Request, to dataplane.Sink) error {
		if req.Accept != "text/event-stream" || req.ContentType != "text/csv" || req.CustomAttributes != "trace=1" {
			t.Errorf("the worker got %+v", req)
		}
		if err := to.Begin(&dataplane.Answer{StatusCode: 200, ContentType: "text/plain", CustomAttributes: "a=1"}); err != nil {
			return err
		}
		for _, p := range []string{"one", "two", "three"} {
			if err := to.Flush(); err != nil {
				return err
			}
			<-next
			if _, err := to.Write([]byte(p)); err != nil {
				return err
			}
		}
		return nil
	})
	resp := asking(t, address, responseStream, "Content-Type", "text/csv", "Accept", "not/this",
		"X-Amzn-SageMaker-Accept", "text/event-stream", "X-Amzn-SageMaker-Custom-Attributes", "trace=1")
	for name, want := range map[string]string{
		"Content-Type": "application/vnd.amazon.eventstream", "X-Amzn-Sagemaker-Content-Type": "text/plain",
		"X-Amzn-Sagemaker-Custom-Attributes": "a=1", "X-Amzn-Invoked-Production-Variant": "v", "X-Sagelocal-Instance": "i-0",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	for _, want := range []string{"one", "two", "three"} {
		next <- struct{}{} // the head, and each part, has come before the next is made
		if kind, got, err := frame(t, resp.Body); kind != partHeaders || got != want || err != nil {
			t.Errorf("got %q %q, error %v", kind, got, err)
		}
	}
	if _, _, err := frame(t, resp.Body); !errors.Is(err, io.EOF) {
		t.Errorf("after the last part: %v", err)
	}
}

func TestPiecesThatCameTogetherLeaveTogetherAsAFrameEach(t *testing.T) {
	_, _, address := serveStream(t, func(_ context.Context, _ *dataplane.Request, to dataplane.Sink) error {
		if err := to.Begin(&dataplane.Answer{StatusCode: 200}); err != nil {
			return err
		}
		for i := range 1000 {
			if _, err := fmt.Fprint(to, i); err != nil {
				return err
			}
		}
		_, err := to.Write(bytes.Repeat([]byte("x"), maxFrame+1))
		return err
	})
	resp := asking(t, address, responseStream)
	for i := range 1000 {
		if kind, got, err := frame(t, resp.Body); kind != partHeaders || got != fmt.Sprint(i) || err != nil {
			t.Fatalf("frame %d: %q %q, error %v", i, kind, got, err)
		}
	}
	for _, want := range []int{maxFrame, 1} {
		if _, got, err := frame(t, resp.Body); len(got) != want || err != nil {
			t.Errorf("a frame of %d bytes, want %d, error %v", len(got), want, err)
		}
	}
}

func TestFramesAreThoseOfAWSsLibrary(t *testing.T) {
	ours, theirs := &events{}, eventstream.NewEncoder()
	for _, size := range []int{1, 2, 63, 64, 65, 4096, 65535, 65536, maxFrame} {
		payload := bytes.Repeat([]byte("\x00\xffab"), size/4+1)[:size]
		var got, want bytes.Buffer
		if err := ours.piece(&got, payload); err != nil {
			t.Fatal(err)
		}
		if err := theirs.Encode(&want, eventstream.Message{Headers: payloadPart, Payload: payload}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("a frame of %d bytes is not AWS's", size)
		}
	}
}

func TestStreamThatBreaksEndsInAnException(t *testing.T) {
	for name, tc := range map[string]struct{ err, kind, payload any }{
		"broken":   {fmt.Errorf("it: %w", dataplane.ErrBroken), "ModelStreamError", `{"Message":"The connection to container primary failed before its response was complete.","ErrorCode":"StreamBroken"}`},
		"late":     {fmt.Errorf("it: %w", dataplane.ErrTimeout), "ModelStreamError", `{"Message":"Your invocation timed out while container primary was sending its response.","ErrorCode":"ModelInvocationTimeExceeded"}`},
		"canceled": {context.Canceled, "InternalStreamFailure", `{"Message":"The request was canceled."}`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, address := serveStream(t, func(_ context.Context, _ *dataplane.Request, to dataplane.Sink) error {
				return errors.Join(pieces(to, "one"), tc.err.(error))
			})
			resp := asking(t, address, responseStream)
			if _, got, err := frame(t, resp.Body); got != "one" || err != nil {
				t.Errorf("got %q, error %v", got, err)
			}
			kind, got, err := frame(t, resp.Body)
			if kind != fmt.Sprintf(exceptionHeaders, tc.kind) || got != tc.payload || err != nil {
				t.Errorf("got %q %s, error %v", kind, got, err)
			}
			if _, _, err := frame(t, resp.Body); !errors.Is(err, io.EOF) {
				t.Errorf("after the exception: %v", err)
			}
		})
	}
	t.Run("for a reason of our own", func(t *testing.T) {
		_, _, address := serveStream(t, func(_ context.Context, _ *dataplane.Request, to dataplane.Sink) error {
			return errors.Join(pieces(to, "one"), errors.New("a secret"))
		})
		all, err := io.ReadAll(asking(t, address, responseStream).Body)
		if err != nil || !bytes.Contains(all, []byte("InternalStreamFailure")) || bytes.Contains(all, []byte("secret")) {
			t.Errorf("got %q, error %v", all, err)
		}
	})
}

func TestErrorsBeforeTheFirstByteAreOrdinary(t *testing.T) {
	for name, tc := range map[string]struct {
		stream func(to dataplane.Sink) error
		status int
		says   string
	}{
		"the container refuses": {func(to dataplane.Sink) error {
			return errors.Join(to.Begin(&dataplane.Answer{StatusCode: 400}), write(to, "no "), to.Flush(), write(to, "good"))
		}, 424, `"OriginalMessage":"no good","OriginalStatusCode":400`},
		"the container refuses at length": {func(to dataplane.Sink) error {
			return errors.Join(to.Begin(&dataplane.Answer{StatusCode: 500}), write(to, strings.Repeat("x", dataplane.MaxAnswer+1)))
		}, 424, "larger than 26214400 bytes"},
		"no answer":         {func(dataplane.Sink) error { return dataplane.ErrBroken }, 424, `"OriginalStatusCode":0`},
		"no answer in time": {func(dataplane.Sink) error { return dataplane.ErrTimeout }, 424, "timed out"},
		"a head and nothing more": {func(to dataplane.Sink) error {
			return errors.Join(to.Begin(&dataplane.Answer{StatusCode: 200}), dataplane.ErrBroken)
		}, 424, `"OriginalStatusCode":0`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, address := serveStream(t, func(_ context.Context, _ *dataplane.Request, to dataplane.Sink) error { return tc.stream(to) })
			resp := asking(t, address, responseStream)
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != tc.status || resp.Header.Get("X-Amzn-Errortype") != "ModelError" || !strings.Contains(string(body), tc.says) || err != nil {
				t.Errorf("status %d %v, %.300s, error %v", resp.StatusCode, resp.Header, body, err)
			}
		})
	}
}

// TestStreamMayTakeEightMinutes: docs, your-algorithms-inference-code. The worker
// holds the time (dataplane).
func TestStreamMayTakeEightMinutes(t *testing.T) {
	var timeout time.Duration
	_, _, address := serveStream(t, func(_ context.Context, req *dataplane.Request, to dataplane.Sink) error {
		timeout = req.Timeout
		return pieces(to, "a")
	})
	if body, err := io.ReadAll(asking(t, address, responseStream).Body); err != nil || len(body) == 0 || timeout != 8*time.Minute {
		t.Errorf("%d bytes within %v, error %v", len(body), timeout, err)
	}
}

func write(to io.Writer, text string) error {
	_, err := io.WriteString(to, text)
	return err
}

func TestConnectionServesAnotherRequestAfterAStream(t *testing.T) {
	_, _, address := serveStream(t, func(_ context.Context, _ *dataplane.Request, to dataplane.Sink) error { return pieces(to, "a", "b") })
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, streamRequest+streamRequest); err != nil { // pipelined
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for range 2 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"a", "b"} {
			if _, got, err := frame(t, resp.Body); got != want || err != nil {
				t.Errorf("got %q, error %v", got, err)
			}
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Error(err)
		}
	}
}

func TestStreamIsOutstandingUntilItsLastByte(t *testing.T) {
	last := make(chan struct{})
	in, _, address := serveStream(t, func(_ context.Context, _ *dataplane.Request, to dataplane.Sink) error {
		err := pieces(to, "one")
		<-last
		return err
	})
	resp := asking(t, address, responseStream)
	if _, _, err := frame(t, resp.Body); err != nil {
		t.Fatal(err)
	}
	if s := in.Status(); s.InFlight != 1 || s.Invocations != 1 {
		t.Errorf("in mid-stream %+v", s)
	}
	close(last)
	if _, _, err := frame(t, resp.Body); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if s := in.Status(); s.InFlight != 0 || s.Errors != 0 {
		t.Errorf("after the end %+v", s)
	}
}

func TestCallerThatGoesAwayCancelsItsStream(t *testing.T) {
	if goruntime.GOOS == "windows" {
		t.Skip("a departure cannot be noticed here; see closedByPeer")
	}
	gone := make(chan error, 1)
	in, _, address := serveStream(t, func(ctx context.Context, _ *dataplane.Request, to dataplane.Sink) error {
		err := pieces(to, "one")
		<-ctx.Done()
		gone <- ctx.Err()
		return errors.Join(err, ctx.Err())
	})
	resp := asking(t, address, responseStream)
	if _, _, err := frame(t, resp.Body); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := within(t, gone); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); in.Status().InFlight != 0; {
		if time.Now().After(deadline) {
			t.Fatal("it is still outstanding")
		}
	}
}

// TestCallerThatDoesNotReadKeepsTheWorkerWaiting over connections without
// buffers: what the worker is ahead of the caller is what waits to be sent.
func TestCallerThatDoesNotReadKeepsTheWorkerWaiting(t *testing.T) {
	const size, piece = 8 << 20, 16 << 10
	var written atomic.Int64
	ln := newPipes()
	serveStreamOn(t, ln, func(_ context.Context, _ *dataplane.Request, to dataplane.Sink) error {
		if err := to.Begin(&dataplane.Answer{StatusCode: 200}); err != nil {
			return err
		}
		for written.Load() < size {
			if err := write(to, strings.Repeat("x", piece)); err != nil {
				return err
			}
			written.Add(piece)
		}
		return nil
	})
	caller := ln.dial(t)
	defer caller.Close()
	resp, err := http.ReadResponse(bufio.NewReader(caller), nil)
	if err != nil {
		t.Fatal(err)
	}
	for read := int64(0); read < size; {
		if ahead := written.Load() - read; ahead > maxUnsent+2*piece {
			t.Fatalf("the worker is %d bytes ahead of the caller", ahead)
		}
		_, payload, err := frame(t, resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		read += int64(len(payload))
	}
}

func TestCallerThatDoesNotReadForAMinuteIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		gone := make(chan error, 1)
		_, server := serveStreamOn(t, ln, func(ctx context.Context, _ *dataplane.Request, to dataplane.Sink) error {
			err := to.Begin(&dataplane.Answer{StatusCode: 200})
			for err == nil {
				err = write(to, strings.Repeat("x", maxUnsent))
			}
			gone <- err
			return err
		})
		caller := ln.dial(t)
		defer caller.Close()
		buf := make([]byte, 2*maxUnsent)
		for range 10 { // slow, but it reads
			if _, err := io.ReadFull(caller, buf); err != nil {
				t.Fatal(err)
			}
			time.Sleep(writeTimeout / 2)
		}
		begin := time.Now()
		if err := <-gone; !errors.Is(err, errCallerGone) {
			t.Errorf("the worker's stream ended with %v", err)
		}
		if took := time.Since(begin); took > writeTimeout+time.Second {
			t.Errorf("it took %v", took)
		}
		if err := server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // fasthttp's sweep of its goroutines ends
	})
}

func TestShutdownEndsStreamsWithAnException(t *testing.T) {
	_, server, address := serveStream(t, func(ctx context.Context, _ *dataplane.Request, to dataplane.Sink) error {
		err := pieces(to, "one")
		<-ctx.Done()
		return errors.Join(err, ctx.Err())
	})
	resp := asking(t, address, responseStream)
	if _, _, err := frame(t, resp.Body); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	kind, _, err := frame(t, resp.Body)
	if kind != fmt.Sprintf(exceptionHeaders, "InternalStreamFailure") || err != nil {
		t.Errorf("got %q, error %v", kind, err)
	}
}

func TestEveryPieceGivesTheCallerItsTimeAnew(t *testing.T) {
	conn, caller := acceptedConn(t)
	l := newLive()
	l.conn, l.form, l.ended = conn, &verbatim{}, true
	begin := time.Now()
	go func() { _, _ = io.Copy(io.Discard, caller) }()
	l.out.WriteString("piece")
	if _, err := l.WriteTo(conn); err != nil {
		t.Fatal(err)
	}
	if until := conn.writes.at; until.Before(begin.Add(writeTimeout)) {
		t.Errorf("the caller has until %v", until)
	}
}

func TestStreamHoldsTheConstraintsOfItsOwnOperation(t *testing.T) {
	_, _, address := serveStream(t, func(context.Context, *dataplane.Request, dataplane.Sink) error {
		t.Error("invoked")
		return nil
	})
	resp := asking(t, address, responseStream, "X-Amzn-SageMaker-Accept", strings.Repeat("x", 1025))
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 400 || !strings.Contains(string(body), "at 'accept' failed to satisfy constraint") || err != nil {
		t.Errorf("status %d, %s, error %v", resp.StatusCode, body, err)
	}
}
