package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
	"github.com/sagelocal/sagelocal/sdkcompat"
)

var benchScope = sdkcompat.Scope{Account: "123456789012", Region: "us-east-1"}

// BenchmarkInvokeEndpoint is the whole way of an invocation through the daemon
// and back, over loopback. The caller allocates nothing, so what is reported is
// the daemon's. (fasthttp's in-memory connections would not do: they allocate
// at every deadline.)
func BenchmarkInvokeEndpoint(b *testing.B) {
	b.Run("simulated", func(b *testing.B) {
		benchmarkInvoke(b, simulatedWorker(b))
	})
	b.Run("http", func(b *testing.B) {
		benchmarkInvoke(b, httpWorker(b))
	})
}

// TestInvocationAllocatesNothing counts what BenchmarkInvokeEndpoint measures,
// from the caller's first byte to the last one back: by fasthttp for a simulated
// worker, on the express lane for one over HTTP, where there are event loops.
func TestInvocationAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops some of what is put into it")
	}
	for name, start := range map[string]func(testing.TB) dataplane.Worker{"simulated": simulatedWorker, "http": httpWorker} {
		for _, body := range []string{benchBody, strings.Repeat(benchBody, 200)} {
			t.Run(fmt.Sprintf("%s/%d", name, len(body)), func(t *testing.T) {
				_, server, address := serveInstance(t, start(t))
				c, err := dialCaller(address, body)
				if err != nil {
					t.Fatal(err)
				}
				defer c.conn.Close()
				if n := testing.AllocsPerRun(500, func() {
					if err := c.invoke(); err != nil {
						t.Fatal(err)
					}
				}); n != 0 {
					t.Errorf("%v allocations an invocation, want 0", n)
				}
				server.express.mu.Lock()
				defer server.express.mu.Unlock()
				if rides := len(server.express.riders) == 1; rides != (name == "http" && goruntime.GOOS == "linux") {
					t.Errorf("served on the express lane: %t", rides)
				}
			})
		}
	}
}

func simulatedWorker(t testing.TB) dataplane.Worker {
	w, err := simulated.New(simulated.Config{}, controlplane.Shape, 1).Launch(t.Context(),
		dataplane.Spec{Shape: dataplane.Shape{InstanceType: "ml.m5.large", VCPU: 2}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func httpWorker(t testing.TB) dataplane.Worker {
	w, err := dataplane.StartHTTP(t.Context(), dataplane.HTTPConfig{Kind: "upstream", Address: echoServer(t)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// echoServer is a worker that allocates nothing.
func echoServer(b testing.TB) string {
	ln := loopback(b)
	server := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.Response.Header.SetContentTypeBytes(ctx.Request.Header.ContentType())
		ctx.SetBody(ctx.PostBody())
	}}
	go func() { _ = server.Serve(ln) }()
	b.Cleanup(func() { _ = server.Shutdown() })
	return ln.Addr().String()
}

func loopback(b testing.TB) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return ln
}

// serveWorker is a daemon with one endpoint, called bench, of one instance.
func serveWorker(b testing.TB, w dataplane.Worker) string {
	_, _, address := serveInstance(b, w)
	return address
}

func serveInstance(b testing.TB, w dataplane.Worker) (*dataplane.Instance, *Server, string) {
	b.Cleanup(func() { _ = w.Stop(context.Background(), time.Second) })
	fleet := dataplane.NewFleet()
	pool, err := dataplane.NewPool(dataplane.Routing{Strategy: dataplane.StrategyLeastOutstanding}, 1)
	if err != nil {
		b.Fatal(err)
	}
	in := dataplane.NewInstance(pool, "i-0123456789abcdef0", "ml.m5.large", 0, time.Now())
	in.Serve(w, time.Now())
	fleet.Publish(dataplane.Key{Account: benchScope.Account, Region: benchScope.Region, Name: "bench"}, &dataplane.Snapshot{
		Serving: true, Variants: []dataplane.Variant{{Name: "AllTraffic", Weight: 1, Pool: pool}},
	}, 1)
	server := New(Options{Fleet: fleet, Scope: benchScope, Logger: slog.New(slog.DiscardHandler)})
	ln := loopback(b)
	go func() { _ = server.Serve(ln) }()
	b.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	return in, server, ln.Addr().String()
}

func benchmarkInvoke(b *testing.B, w dataplane.Worker) {
	address := serveWorker(b, w)
	b.ReportAllocs()
	b.ResetTimer()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		c, err := dialCaller(address, benchBody)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.conn.Close()
		for pb.Next() {
			if err := c.invoke(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// caller sends one request again and again over one connection.
type caller struct {
	conn    net.Conn
	request []byte
	answer  []byte // as long as every answer is
}

// benchBody is 50 bytes.
var benchBody = strings.Repeat("5.1,3.5,1.", 5)

func dialCaller(address, body string) (*caller, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &caller{conn: conn, request: fmt.Appendf(nil, "POST /endpoints/bench/invocations HTTP/1.1\r\nHost: %s\r\n"+
		"Content-Type: text/csv\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/sagemaker/aws4_request, "+
		"SignedHeaders=content-type;host;x-amz-date, Signature=%064d\r\nContent-Length: %d\r\n\r\n%s", address, 0, len(body), body)}
	if _, err := conn.Write(c.request); err != nil {
		return nil, err
	}
	// The answers differ in ids and dates of one length, so the first tells how
	// long all of them are.
	var read bytes.Buffer
	lines := textproto.NewReader(bufio.NewReader(io.TeeReader(conn, &read)))
	status, err := lines.ReadLine()
	if err != nil || !strings.HasPrefix(status, "HTTP/1.1 200") {
		return nil, fmt.Errorf("status line %q: %w", status, err)
	}
	header, err := lines.ReadMIMEHeader()
	if err != nil {
		return nil, err
	}
	if n, err := strconv.Atoi(header.Get("Content-Length")); err != nil || n != len(body) {
		return nil, fmt.Errorf("headers %v", header)
	}
	c.answer = make([]byte, bytes.Index(read.Bytes(), []byte("\r\n\r\n"))+4+len(body))
	_, err = io.ReadFull(conn, c.answer[read.Len():])
	return c, err
}

func (c *caller) invoke() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.conn, c.answer); err != nil {
		return err
	}
	if !bytes.HasPrefix(c.answer, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer %q", c.answer)
	}
	return nil
}
