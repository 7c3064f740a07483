package api

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/eventloop"
)

// lane is a daemon whose callers' connections may ride an event loop. Its endpoint
// "bench" echoes.
type lane struct {
	server  *Server
	fleet   *dataplane.Fleet
	address string
}

func serveLane(t testing.TB) *lane { return serveLaneOf(t, Options{}) }

// serveLaneOf takes what a test needs beside the fleet.
func serveLaneOf(t testing.TB, o Options) *lane {
	t.Helper()
	if goruntime.GOOS != "linux" {
		t.Skip("connections stay with fasthttp here; see package eventloop")
	}
	o.Fleet = cmp.Or(o.Fleet, dataplane.NewFleet())
	o.Scope, o.Logger = benchScope, slog.New(slog.DiscardHandler)
	l := &lane{server: New(o), fleet: o.Fleet}
	ln := loopback(t)
	l.address = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- l.server.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // fasthttp would wait for a tenth of a second
		_ = l.server.Shutdown(ctx)
		<-served
	})
	l.publish(t, "bench", webWorker(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = w.Write(body) // who has gone needs no answer
	}))
	return l
}

// publish adds an endpoint of one instance.
func (l *lane) publish(t testing.TB, name string, w dataplane.Worker, change ...func(*dataplane.Variant)) *dataplane.Instance {
	t.Helper()
	pool, err := dataplane.NewPool(dataplane.Routing{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	in := dataplane.NewInstance(pool, "i-"+name, "ml.m5.large", 0, time.Now())
	in.Serve(w, time.Now())
	v := dataplane.Variant{Name: "AllTraffic", Weight: 1, Pool: pool, Container: "primary"}
	for _, f := range change {
		f(&v)
	}
	l.publishVariant(name, v)
	return in
}

func (l *lane) publishVariant(name string, v ...dataplane.Variant) *dataplane.Endpoint {
	return l.fleet.Publish(laneKey(name), &dataplane.Snapshot{Serving: true, Variants: v}, 1)
}

func laneKey(name string) dataplane.Key {
	return dataplane.Key{Account: benchScope.Account, Region: benchScope.Region, Name: name}
}

// webWorker is an HTTP worker that handles POST /invocations as a test says.
func webWorker(t testing.TB, handle http.HandlerFunc) dataplane.Worker {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /", handle)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	ln := loopback(t)
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	return workerAt(t, ln.Addr().String())
}

func workerAt(t testing.TB, address string) dataplane.Worker {
	t.Helper()
	w, err := dataplane.StartHTTP(t.Context(), dataplane.HTTPConfig{Kind: "test", Address: address, ConnectTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Stop(context.Background(), time.Second) })
	return w
}

// gate is an HTTP worker that tells of each invocation and keeps it until the
// test opens.
type gate struct{ entered, opened chan struct{} }

func newGate() *gate {
	return &gate{entered: make(chan struct{}, 100), opened: make(chan struct{})}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	g.entered <- struct{}{}
	select {
	case <-g.opened:
		_, _ = w.Write(body)
	case <-r.Context().Done():
	}
}

// rider is a caller of its own connection.
type rider struct {
	net.Conn
	in *bufio.Reader
}

func (l *lane) dial(t testing.TB) *rider {
	t.Helper()
	conn, err := net.Dial("tcp", l.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rider{conn, bufio.NewReader(conn)}
}

// ride makes a connection that waits on the express lane.
func (l *lane) ride(t testing.TB) *rider {
	t.Helper()
	r := l.dial(t)
	for range settled {
		r.invoke(t, "bench", "settle")
	}
	l.rides(t, r)
	return r
}

// rides waits until the caller's connection waits on the express lane, and is the
// daemon's end of it.
func (l *lane) rides(t testing.TB, r *rider) (self *clientConn) {
	t.Helper()
	until(t, "the connection waits on the express lane", func() bool {
		self = l.find(r)
		return self != nil && self.ride.waits.Load()
	})
	return self
}

// find is the daemon's end of a caller's connection among the riders; nil if it
// is none.
func (l *lane) find(r *rider) *clientConn {
	x := l.server.express
	x.mu.Lock()
	defer x.mu.Unlock()
	for c := range x.riders {
		c.listener.mu.Lock()
		remote := c.RemoteAddr()
		c.listener.mu.Unlock()
		if remote.String() == r.LocalAddr().String() {
			return c
		}
	}
	return nil
}

// pair is two riders of one loop.
func (l *lane) pair(t testing.TB) (a, b *rider) {
	t.Helper()
	first := map[*eventloop.Loop]*rider{}
	for {
		r := l.ride(t)
		loop := l.find(r).ride.loop
		if other := first[loop]; other != nil {
			return other, r
		}
		first[loop] = r
	}
}

// until polls; what it waits for happens in microseconds.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); goruntime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not within ten seconds: %s", what)
		}
	}
}

// plainText is an invocation as SDKs send it. The headers are names and values.
func plainText(endpoint, body string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "POST /endpoints/%s/invocations HTTP/1.1\r\nHost: 127.0.0.1:7240\r\nContent-Type: text/csv\r\n", endpoint)
	for i := 0; i+1 < len(headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", headers[i], headers[i+1])
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.String()
}

func (r *rider) send(t testing.TB, text string) {
	t.Helper()
	if _, err := io.WriteString(r, text); err != nil {
		t.Fatal(err)
	}
}

// invoke is one invocation that must succeed.
func (r *rider) invoke(t testing.TB, endpoint, body string, headers ...string) reply {
	t.Helper()
	r.send(t, plainText(endpoint, body, headers...))
	got, err := r.answer()
	if err != nil || got.status != "HTTP/1.1 200 OK" {
		t.Fatalf("%s, %.300s, error %v", got.status, got.body, err)
	}
	return got
}

// reply is an answer, with the interim ones before it.
type reply struct {
	interim []string
	status  string
	header  textproto.MIMEHeader
	body    string
	express bool // by the order of its headers it was the lane that wrote it
}

func (r *rider) answer() (a reply, err error) {
	for {
		status, err := r.in.ReadString('\n')
		if err != nil {
			return a, err
		}
		a.status = strings.TrimRight(status, "\r\n")
		var head strings.Builder
		for line := ""; line != "\r\n"; head.WriteString(line) {
			if line, err = r.in.ReadString('\n'); err != nil {
				return a, err
			}
		}
		a.express = 0 < strings.Index(head.String(), "Content-Length:") && strings.Index(head.String(), "Content-Length:") < strings.Index(head.String(), "Content-Type:")
		if a.header, err = textproto.NewReader(bufio.NewReader(strings.NewReader(head.String()))).ReadMIMEHeader(); err != nil {
			return a, err
		}
		if !strings.HasPrefix(a.status, "HTTP/1.1 1") {
			break
		}
		a.interim = append(a.interim, a.status)
	}
	var body io.Reader
	if a.header.Get("Transfer-Encoding") == "chunked" {
		body = httputil.NewChunkedReader(r.in)
	} else {
		n, err := strconv.ParseInt(a.header.Get("Content-Length"), 10, 64)
		if err != nil {
			return a, err
		}
		body = io.LimitReader(r.in, n)
	}
	b, err := io.ReadAll(body)
	a.body = string(b)
	if a.header.Get("Transfer-Encoding") == "chunked" && err == nil {
		_, err = r.in.Discard(len("\r\n")) // no trailers
	} else if strconv.Itoa(len(b)) != a.header.Get("Content-Length") {
		err = errors.Join(err, io.ErrUnexpectedEOF)
	}
	return a, err
}

// String is the answer without what differs from one to the next. The order of
// headers means nothing.
func (a reply) String() string {
	id := a.header.Get(requestIDHeader)
	var lines []string
	for name, values := range a.header {
		for _, value := range values {
			switch name {
			case "Date":
				if _, err := http.ParseTime(value); err == nil {
					value = "a date"
				}
			case requestIDHeader:
				if len(value) == 36 {
					value = "an id"
				}
			}
			lines = append(lines, name+": "+value)
		}
	}
	slices.Sort(lines)
	return fmt.Sprintf("%q %s\n%s\n\n%s", a.interim, a.status, strings.Join(lines, "\n"), strings.ReplaceAll(a.body, cmp.Or(id, "\x00"), "an id"))
}
