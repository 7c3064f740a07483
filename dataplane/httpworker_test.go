package dataplane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// worker starts an HTTPWorker for a server at the address.
func startWorker(t testing.TB, address string, change ...func(*HTTPConfig)) *HTTPWorker {
	t.Helper()
	cfg := HTTPConfig{Kind: "upstream", Address: address, StartupTimeout: 5 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	w, err := StartHTTP(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Stop(context.Background(), 0); err != nil {
			t.Error(err)
		}
	})
	return w
}

// serveHTTP runs a model server; the handler gets everything but /ping.
func serveHTTP(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ping" {
			handler(rw, r)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// rawServer answers the n-th connection's requests, from 0, with the bytes that
// script returns for it, and closes the connection after a nil.
func rawServer(t testing.TB, script func(conn, request int) []byte) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for n := 0; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for i := 0; ; i++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					answer := script(n, i)
					if answer == nil {
						return
					}
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			})
		}
	})
	return ln.Addr().String()
}

// unstarted is a worker that sends no pings.
// It is patient: a busy machine may take longer than the contract's 250 ms.
func unstarted(t testing.TB, address string) *HTTPWorker {
	t.Helper()
	w, err := newHTTPWorker(HTTPConfig{Kind: "upstream", Address: address, ConnectTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.pool.close)
	return w
}

func TestInvokeForwardsSageMakersHeadersAndNoOthers(t *testing.T) {
	var got http.Header
	var path, body string
	address := serveHTTP(t, func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, path, body = r.Header, r.Method+" "+r.URL.Path, string(b)
		rw.Header().Set("Content-Type", "application/json")
		rw.Header().Set("X-Amzn-SageMaker-Custom-Attributes", "c=d")
		rw.Header().Set("X-Other", "not passed on")
		rw.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(rw, `{"n":1}`)
	})
	w := startWorker(t, address, func(c *HTTPConfig) { c.Header = map[string]string{"Authorization": "Bearer x"} })
	req := &Request{
		ContentType: "text/csv", Accept: "application/json", CustomAttributes: "a=b", InferenceID: "id-1",
		PrefixAwareID: "p", TargetVariant: "v", Body: []byte("1,2"), Timeout: time.Minute,
	}
	var ans Answer
	if err := w.Invoke(t.Context(), req, &ans); err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Content-Type": {"text/csv"}, "Accept": {"application/json"}, "Content-Length": {"3"},
		"X-Amzn-Sagemaker-Custom-Attributes": {"a=b"}, "X-Amzn-Sagemaker-Inference-Id": {"id-1"},
		"Authorization": {"Bearer x"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || path != "POST /invocations" || body != "1,2" {
		t.Errorf("server got %s %v %q, want %v", path, got, body, want)
	}
	if ans.StatusCode != 202 || ans.ContentType != "application/json" || ans.CustomAttributes != "c=d" || string(ans.Body) != `{"n":1}` {
		t.Errorf("answer %+v", ans)
	}
}

func TestAnswers(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, tc := range []struct {
		name, raw string
		want      Answer
		keep      bool
		err       error
	}{
		{name: "content length", raw: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", want: Answer{StatusCode: 200, Body: []byte("hi")}, keep: true},
		{name: "no reason", raw: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", want: Answer{StatusCode: 200}, keep: true},
		{name: "long", raw: "HTTP/1.1 200 OK\r\ncontent-length:100000\r\n\r\n" + long, want: Answer{StatusCode: 200, Body: []byte(long)}, keep: true},
		{name: "chunked", raw: "HTTP/1.1 500 Oops\r\nTransfer-Encoding: Chunked\r\nContent-Type: a/b\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: r\r\n\r\n", want: Answer{StatusCode: 500, ContentType: "a/b", Body: []byte("abc0123456789")}, keep: true},
		{name: "close", raw: "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\na", want: Answer{StatusCode: 200, Body: []byte("a")}},
		{name: "HTTP/1.0 until EOF", raw: "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\n\r\n" + long, want: Answer{StatusCode: 200, Body: []byte(long)}},
		{name: "HTTP/1.0 keep-alive", raw: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", want: Answer{StatusCode: 200, Body: []byte("a")}, keep: true},
		{name: "interim", raw: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Type: no/no\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", want: Answer{StatusCode: 204}, keep: true},
		{name: "bare newlines", raw: "HTTP/1.1 200 OK\nContent-Length: 1\n\na", want: Answer{StatusCode: 200, Body: []byte("a")}, keep: true},
		{name: "twice the same length", raw: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", want: Answer{StatusCode: 200, Body: []byte("a")}, keep: true},
		{name: "chunked and length", raw: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", want: Answer{StatusCode: 200, Body: []byte("a")}},

		{name: "nothing", raw: "", err: io.ErrUnexpectedEOF},
		{name: "half a head", raw: "HTTP/1.1 200 OK\r\nContent-", err: io.ErrUnexpectedEOF},
		{name: "half a body", raw: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", err: io.ErrUnexpectedEOF},
		{name: "half a chunk", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", err: io.ErrUnexpectedEOF},
		{name: "no last chunk", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", err: io.ErrUnexpectedEOF},
		{name: "garbage", raw: "SSH-2.0-OpenSSH_9.7\r\n", err: errNoHTTP},
		{name: "HTTP/2", raw: "HTTP/2.0 200 OK\r\n\r\n", err: errNoHTTP},
		{name: "status of two digits", raw: "HTTP/1.1 20 OK\r\n\r\n", err: errNoHTTP},
		{name: "switching protocols", raw: "HTTP/1.1 101 Switching\r\n\r\n", err: errNoHTTP},
		{name: "no colon", raw: "HTTP/1.1 200 OK\r\nContent-Length 1\r\n\r\na", err: errHeader},
		{name: "folded header", raw: "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", err: errHeader},
		{name: "blank before colon", raw: "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\na", err: errHeader},
		{name: "return inside a value", raw: "HTTP/1.1 200 OK\r\nContent-Type: a\rb\r\nContent-Length: 0\r\n\r\n", err: errHeader},
		{name: "two lengths", raw: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", err: errFraming},
		{name: "negative length", raw: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", err: errFraming},
		{name: "gzip, chunked", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", err: errFraming},
		{name: "chunk size", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", err: errChunk},
		{name: "chunk longer than said", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n", err: errChunk},
		{name: "endless line", raw: "HTTP/1.1 200 OK\r\nA: " + long, err: errHeadTooLarge},
		{name: "endless head", raw: "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: bcdefgh\r\n", 10_000), err: errHeadTooLarge},
		{name: "endless interim answers", raw: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100), err: errHeader},
		{name: "length over the limit", raw: "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n", err: ErrTooLarge},
		{name: "chunks over the limit", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n186a0\r\n", err: ErrTooLarge},
		{name: "until EOF over the limit", raw: "HTTP/1.0 200 OK\r\n\r\n" + long + "x", err: ErrTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &httpConn{r: bufio.NewReader(strings.NewReader(tc.raw))}
			ans := Answer{ContentType: "old", CustomAttributes: "old", Body: []byte("old")}
			keep, err := c.receive(&ans, 100_000)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				return
			}
			if keep != tc.keep || ans.StatusCode != tc.want.StatusCode || ans.ContentType != tc.want.ContentType ||
				ans.CustomAttributes != tc.want.CustomAttributes || string(ans.Body) != string(tc.want.Body) {
				t.Errorf("keep %v, answer %.100v; want %v, %.100v", keep, ans, tc.keep, tc.want)
			}
		})
	}
}

func TestConnectionIsReusedUntilTheServerClosesIt(t *testing.T) {
	var conns atomic.Int32
	address := rawServer(t, func(conn, request int) []byte {
		conns.Store(int32(conn + 1))
		if request == 2 {
			return []byte("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na")
		}
		return []byte("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
	})
	w := unstarted(t, address)
	for i := range 6 {
		var ans Answer
		if err := w.Invoke(t.Context(), &Request{}, &ans); err != nil {
			t.Fatal(err)
		}
		if got, want := conns.Load(), int32(i/3+1); got != want {
			t.Fatalf("request %d: %d connections, want %d", i, got, want)
		}
	}
}

func TestRequestOnAStaleConnectionIsSentAgain(t *testing.T) {
	var requests atomic.Int32
	address := rawServer(t, func(conn, request int) []byte {
		requests.Add(1)
		if request == 1 {
			return nil // reads the request and closes without a word
		}
		return []byte("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
	})
	w := unstarted(t, address)
	for range 2 {
		var ans Answer
		if err := w.Invoke(t.Context(), &Request{Body: []byte("b")}, &ans); err != nil {
			t.Fatal(err)
		}
	}
	if n := requests.Load(); n != 3 {
		t.Errorf("server saw %d requests, want 3", n)
	}
}

func TestRequestOnAFreshConnectionIsSentOnce(t *testing.T) {
	var requests atomic.Int32
	address := rawServer(t, func(int, int) []byte {
		requests.Add(1)
		return nil
	})
	w := unstarted(t, address)
	if err := w.Invoke(t.Context(), &Request{}, &Answer{}); !errors.Is(err, ErrBroken) {
		t.Errorf("error %v, want ErrBroken", err)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("server saw %d requests, want 1", n)
	}
}

func TestIdleConnectionClosedByTheServerIsNotUsed(t *testing.T) {
	closed := make(chan net.Conn, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			closed <- conn
		}
	}()
	w := unstarted(t, ln.Addr().String())
	c, err := w.pool.dial(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if !c.alive() {
		t.Error("open connection looks dead")
	}
	server := <-closed
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF { // the close has arrived
		t.Fatal(err)
	}
	if c.alive() {
		t.Error("connection that the server closed looks alive")
	}
	w.pool.put(c, time.Now())
	if w.pool.idle(time.Now(), nil) != nil {
		t.Error("closed connection was handed out")
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	gone := make(chan struct{}, 8)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			gone <- struct{}{}
		}
	}
	srv.Start()
	defer srv.Close()
	w := unstarted(t, srv.Listener.Addr().String())
	if err := w.Invoke(t.Context(), &Request{}, &Answer{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("connection is still open 5 s later")
	}
}

func TestTimeoutIsErrTimeoutAndNotSentAgain(t *testing.T) {
	var requests atomic.Int32
	release := make(chan struct{})
	address := serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if requests.Add(1) > 1 {
			<-release
		}
	})
	defer close(release)
	w := unstarted(t, address)
	if err := w.Invoke(t.Context(), &Request{}, &Answer{}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err := w.Invoke(t.Context(), &Request{Timeout: 50 * time.Millisecond}, &Answer{})
	if !errors.Is(err, ErrTimeout) || errors.Is(err, ErrBroken) {
		t.Errorf("error %v, want ErrTimeout", err)
	}
	if took := time.Since(start); took < 50*time.Millisecond || took > 2*time.Second {
		t.Errorf("took %v, want 50ms", took)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("server saw %d requests, want 2", n)
	}
}

func TestCancelReturnsAtOnceAndLeavesTheOtherConnections(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	address := serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "wait" {
			_, _ = io.Copy(io.Discard, r.Body)
			arrived <- struct{}{}
			<-release
		}
	})
	defer close(release)
	w := unstarted(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Invoke(ctx, &Request{Accept: "wait", Timeout: time.Minute}, &Answer{}) }()
	<-arrived
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrBroken) {
			t.Errorf("error %v, want Canceled", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Invoke did not return")
	}
	if err := w.Invoke(t.Context(), &Request{}, &Answer{}); err != nil {
		t.Error(err)
	}
	if err := w.Invoke(ctx, &Request{}, &Answer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v with a context that has ended", err)
	}
}

// A connection that carries a cancelled exchange must never carry another one:
// its late answer would go to somebody else.
func TestCancelledRequestsDoNotLeaveTheirAnswersToOthers(t *testing.T) {
	address := serveHTTP(t, func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = rw.Write(b)
	})
	w := unstarted(t, address)
	var callers sync.WaitGroup
	var answered, cancelled atomic.Int32
	for caller := range 16 {
		callers.Go(func() {
			var ans Answer
			for i := range 100 {
				body := strings.Repeat(fmt.Sprintf("%d/%d ", caller, i), 1+i%2*(bufferedBody/4))
				ctx, cancel := context.WithCancel(t.Context())
				if i%3 == 0 {
					time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
				}
				err := w.Invoke(ctx, &Request{Body: []byte(body), Timeout: time.Minute}, &ans)
				cancel()
				switch {
				case err == nil && string(ans.Body) == body:
					answered.Add(1)
				case err != nil && i%3 == 0 && errors.Is(err, context.Canceled):
					cancelled.Add(1)
				default:
					t.Errorf("request %d/%d: error %v, answer %.20q", caller, i, err, ans.Body)
				}
			}
		})
	}
	callers.Wait()
	if answered.Load() == 0 || cancelled.Load() == 0 {
		t.Errorf("%d answered, %d cancelled", answered.Load(), cancelled.Load())
	}
}

func TestEarlyRefusalOfALargeBodyIsTheAnswer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 100))
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	}()
	w := unstarted(t, ln.Addr().String())
	var ans Answer
	if err := w.Invoke(t.Context(), &Request{Body: make([]byte, 20<<20)}, &ans); err != nil {
		t.Fatal(err)
	}
	if ans.StatusCode != 413 || string(ans.Body) != "big" {
		t.Errorf("answer %+v", ans)
	}
}

func TestLargeBodiesPassBothWays(t *testing.T) {
	address := serveHTTP(t, func(rw http.ResponseWriter, r *http.Request) {
		// Full duplex: the answer begins before the request has ended.
		if err := http.NewResponseController(rw).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		_, _ = io.Copy(rw, r.Body)
	})
	w := unstarted(t, address)
	for _, n := range []int{0, 1, inlineBody, inlineBody + 1, bufferedBody, bufferedBody + 1, 1 << 20, MaxAnswer} {
		body := make([]byte, n)
		for i := range body {
			body[i] = byte(i * 31)
		}
		var ans Answer
		if err := w.Invoke(t.Context(), &Request{Body: body}, &ans); err != nil {
			t.Fatal(err)
		}
		if string(ans.Body) != string(body) {
			t.Errorf("%d bytes came back as %d or changed", n, len(ans.Body))
		}
	}
}

func TestHeaderThatCouldInjectIsRefused(t *testing.T) {
	w := unstarted(t, "127.0.0.1:1")
	for _, bad := range []string{"a\r\nX: y", "a\nb", "a\rb", "\x00", "a\x7f"} {
		for _, req := range []Request{{ContentType: bad}, {Accept: bad}, {CustomAttributes: bad}, {InferenceID: bad}} {
			if err := w.Invoke(t.Context(), &req, &Answer{}); !errors.Is(err, ErrInvalidHeader) {
				t.Errorf("%+v: error %v", req, err)
			}
		}
	}
}

func TestNobodyListeningIsErrBroken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	w := unstarted(t, ln.Addr().String())
	if err := w.Invoke(t.Context(), &Request{Timeout: time.Second}, &Answer{}); !errors.Is(err, ErrBroken) {
		t.Errorf("error %v", err)
	}
}

func TestStartWaitsForThePing(t *testing.T) {
	var pings atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ping" && pings.Add(1) < 3 {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	startWorker(t, srv.Listener.Addr().String())
	if n := pings.Load(); n != 3 {
		t.Errorf("started after %d pings, want 3", n)
	}
}

func TestStartFailsWithErrPingWhenTheAnswerIsNever200(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	_, err := StartHTTP(t.Context(), HTTPConfig{Address: srv.Listener.Addr().String(), StartupTimeout: 250 * time.Millisecond})
	if !errors.Is(err, ErrPing) || !strings.Contains(err.Error(), "404") {
		t.Errorf("error %v", err)
	}
}

func TestThreeFailedPingsEndTheWorker(t *testing.T) {
	var status atomic.Int32
	status.Store(200)
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(int(status.Load()))
	}))
	defer srv.Close()
	w := startWorker(t, srv.Listener.Addr().String(), func(c *HTTPConfig) { c.TimeScale = 100 })
	if w.Err() != nil {
		t.Error(w.Err())
	}
	status.Store(500)
	select {
	case <-w.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the worker is still in service")
	}
	if err := w.Err(); err == nil || !strings.Contains(err.Error(), "3 pings") {
		t.Errorf("Err is %v", err)
	}
}

func TestStopLetsRequestsFinishWithinGraceAndThenBreaksThem(t *testing.T) {
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	address := serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-release
	})
	for _, finishes := range []bool{false, true} {
		w := startWorker(t, address)
		done := make(chan error, 1)
		go func() { done <- w.Invoke(context.Background(), &Request{}, &Answer{}) }()
		<-arrived
		grace := 20 * time.Millisecond
		if finishes {
			grace = time.Minute
			close(release)
		}
		if err := w.Stop(t.Context(), grace); err != nil {
			t.Fatal(err)
		}
		if err := <-done; finishes && err != nil || !finishes && !errors.Is(err, ErrBroken) {
			t.Errorf("finishes %v: error %v", finishes, err)
		}
		if err := w.Invoke(t.Context(), &Request{}, &Answer{}); !errors.Is(err, ErrBroken) {
			t.Errorf("after Stop: error %v", err)
		}
	}
}

// FuzzRequestHead: whatever a caller puts into the headers, a server reads
// either nothing or exactly that one request.
func FuzzRequestHead(f *testing.F) {
	f.Add("text/csv", "a/b", "x=y", "id", []byte("1,2"))
	f.Add("a\r\nContent-Length: 0\r\n\r\nGET /x HTTP/1.1", "\n", " b ", "\x00", []byte{})
	f.Fuzz(func(t *testing.T, contentType, accept, attributes, id string, body []byte) {
		req := &Request{ContentType: contentType, Accept: accept, CustomAttributes: attributes, InferenceID: id, Body: body}
		if !sendable(req) {
			return
		}
		head, err := newRequestHead("POST", "/invocations", "127.0.0.1:1", nil)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(strings.NewReader(string(head.append(nil, req)) + string(body)))
		got, err := http.ReadRequest(r)
		if err != nil {
			t.Fatal(err)
		}
		read, err := io.ReadAll(got.Body)
		if err != nil || string(read) != string(body) {
			t.Errorf("body %q, error %v; want %q", read, err, body)
		}
		n := 1 // Content-Length
		for name, want := range map[string]string{
			"Content-Type": contentType, "Accept": accept,
			"X-Amzn-SageMaker-Custom-Attributes": attributes, "X-Amzn-SageMaker-Inference-Id": id,
		} {
			if want != "" {
				n++
			}
			if h := got.Header.Get(name); h != strings.Trim(want, " \t") {
				t.Errorf("%s is %q, want %q", name, h, want)
			}
		}
		if len(got.Header) != n || len(got.TransferEncoding) > 0 {
			t.Errorf("headers %v", got.Header)
		}
		if _, err := http.ReadRequest(r); err != io.EOF {
			t.Errorf("a second request can be read: %v", err)
		}
	})
}

// FuzzAnswer: any bytes are an answer or an error. When net/http reads an
// answer as well, the two agree.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: a\r\n\r\nhi"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 404 No\r\nX-Amzn-SageMaker-Custom-Attributes: q\r\n\r\nuntil the end"))
	f.Add([]byte("HTTP/1.0 200 \nTransfer-Encoding: Chunked\n\n00\n\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		const limit = 1 << 16
		c := &httpConn{r: bufio.NewReader(strings.NewReader(string(raw)))}
		var ans Answer
		if _, err := c.receive(&ans, limit); err != nil {
			return
		}
		if bytes.HasPrefix(raw, []byte("HTTP/1.0")) {
			return // net/http takes no chunks from HTTP/1.0; curl does, and so do we
		}
		if len(ans.Body) > limit || ans.StatusCode < 200 || ans.StatusCode > 999 ||
			!isFieldValue(ans.ContentType) || !isFieldValue(ans.CustomAttributes) {
			t.Errorf("answer %+v", ans)
		}
		r := bufio.NewReader(strings.NewReader(string(raw)))
		post, _ := http.NewRequest("POST", "/", nil)
		var want *http.Response
		for want == nil || want.StatusCode/100 == 1 {
			var err error
			if want, err = http.ReadResponse(r, post); err != nil {
				return // net/http refuses more than we do, as in trailers
			}
		}
		body, err := io.ReadAll(want.Body)
		if err != nil {
			return
		}
		if want.StatusCode != ans.StatusCode || string(body) != string(ans.Body) || want.Header.Get("Content-Type") != ans.ContentType {
			t.Errorf("answer %d %q %q, net/http reads %d %q %q", ans.StatusCode, ans.ContentType, ans.Body,
				want.StatusCode, want.Header.Get("Content-Type"), body)
		}
	})
}

// fastEcho is a server that allocates nothing once it runs.
func fastEcho(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.Response.Header.SetContentType("text/csv")
		ctx.SetBody(ctx.PostBody())
	}, MaxRequestBodySize: MaxAnswer}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Shutdown() })
	return ln.Addr().String()
}

func TestInvokeAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops some of what is put into it")
	}
	w := unstarted(t, fastEcho(t))
	// A context of package context allocates what AfterFunc registers; package
	// api's, which stands for a caller's connection, does not.
	ctx := context.Background()
	req := &Request{ContentType: "text/csv", Body: make([]byte, 10_000), Timeout: time.Minute}
	var ans Answer
	if n := testing.AllocsPerRun(2000, func() {
		if err := w.Invoke(ctx, req, &ans); err != nil || len(ans.Body) != len(req.Body) {
			t.Fatalf("%d bytes, error %v", len(ans.Body), err)
		}
	}); n != 0 {
		t.Errorf("%v allocations an exchange, want 0", n)
	}
}

// BenchmarkInvoke is the price of one exchange with a fast server on loopback.
func BenchmarkInvoke(b *testing.B) {
	for _, size := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := unstarted(b, fastEcho(b))
			ctx, cancel := context.WithCancel(context.Background())
			b.Cleanup(cancel)
			req := &Request{ContentType: "text/csv", Body: make([]byte, size), Timeout: time.Minute}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				var ans Answer
				for pb.Next() {
					if err := w.Invoke(ctx, req, &ans); err != nil || len(ans.Body) != size {
						b.Errorf("%d bytes, error %v", len(ans.Body), err)
						return
					}
				}
			})
		})
	}
}
