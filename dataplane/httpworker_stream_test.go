package dataplane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// kept is a sink that keeps what comes; "|" stands for a flush.
type kept struct {
	head  Answer
	begun int
	got   []string
	fail  error // of Write
}

func (k *kept) Begin(head *Answer) error {
	k.head = *head
	k.begun++
	return nil
}

func (k *kept) Write(p []byte) (int, error) {
	k.got = append(k.got, string(p))
	return len(p), k.fail
}

func (k *kept) Flush() error {
	k.got = append(k.got, "|")
	return nil
}

const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

func TestStreamPassesPiecesOnAndFlushesBeforeItWaits(t *testing.T) {
	for name, tc := range map[string]struct {
		parts []string // of the answer, each sent when the one before was passed on
		want  []string
		err   error
	}{
		"chunks that come one by one": {[]string{
			streamHead + "Transfer-Encoding: chunked\r\n\r\n", "3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n",
		}, []string{"|", "one", "|", "two", "|"}, nil},
		"chunks that come together": {[]string{
			streamHead + "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3;x=y\r\ntwo\r\n0\r\nTrailer: x\r\n\r\n",
		}, []string{"one", "two"}, nil},
		"a chunk in two parts": {[]string{
			streamHead + "Transfer-Encoding: chunked\r\n\r\n6\r\none", "two\r\n0\r\n\r\n",
		}, []string{"|", "onetwo"}, nil},
		"a size in two parts": {[]string{
			streamHead + "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r", "\ntwo\r\n0\r\n\r\n",
		}, []string{"one", "|", "two"}, nil},
		"a length": {[]string{
			streamHead + "Content-Length: 6\r\n\r\none", "two",
		}, []string{"one", "|", "two"}, nil},
		"until the end": {[]string{
			streamHead + "Connection: close\r\n\r\none", "two", "",
		}, []string{"one", "|", "two", "|"}, nil},
		"nothing":                {[]string{"HTTP/1.1 204 No Content\r\n\r\n"}, nil, nil},
		"no byte of a body":      {[]string{streamHead + "Content-Length: 0\r\n\r\n"}, nil, nil},
		"after an interim":       {[]string{"HTTP/1.1 103 Early Hints\r\n\r\n" + streamHead + "Content-Length: 1\r\n\r\nx"}, []string{"x"}, nil},
		"cut off in a chunk":     {[]string{streamHead + "Transfer-Encoding: chunked\r\n\r\n6\r\none", ""}, []string{"|", "one"}, ErrBroken},
		"cut off before a chunk": {[]string{streamHead + "Transfer-Encoding: chunked\r\n\r\n6\r\n", ""}, []string{"|"}, ErrBroken},
		"cut off in a size":      {[]string{streamHead + "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3", ""}, []string{"one", "|"}, ErrBroken},
		"cut off at the end":     {[]string{streamHead + "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n", ""}, []string{"one", "|"}, ErrBroken},
		"cut off in a length": {[]string{
			streamHead + "Content-Length: 6\r\n\r\none", "",
		}, []string{"one", "|"}, ErrBroken},
		"a chunk too long":   {[]string{streamHead + "Transfer-Encoding: chunked\r\n\r\n3\r\nonetwo\r\n"}, []string{"one"}, ErrBroken},
		"no size":            {[]string{streamHead + "Transfer-Encoding: chunked\r\n\r\none\r\n"}, nil, ErrBroken},
		"no end of trailers": {[]string{streamHead + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("x: y\r\n", maxHeadBytes)}, nil, ErrBroken},
	} {
		t.Run(name, func(t *testing.T) {
			ln := listen(t)
			conns := acceptOne(t, ln)
			w := unstarted(t, ln.Addr().String())
			var k kept
			next := make(chan struct{}, 100)
			to := &notifying{Sink: &k, passed: next}
			ended := make(chan error, 1)
			go func() { ended <- w.Stream(t.Context(), &Request{Body: []byte("x"), Timeout: time.Minute}, to) }()
			conn := <-conns
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				t.Fatal(err)
			}
			for i, part := range tc.parts {
				if i > 0 {
					<-next // it waits
				}
				if part == "" {
					conn.Close()
					break
				}
				if _, err := io.WriteString(conn, part); err != nil {
					t.Error(err)
				}
			}
			if err := <-ended; !errors.Is(err, tc.err) || err != nil && tc.err == nil {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if !slices.Equal(k.got, tc.want) || k.begun != 1 {
				t.Errorf("got %q, want %q", k.got, tc.want)
			}
		})
	}
}

// TestStreamPassesAChunkOnAsOnePiece: what the worker flushes is one event, also
// where the connection or a buffer has cut it.
func TestStreamPassesAChunkOnAsOnePiece(t *testing.T) {
	sizes := []int{1, readBuffer - 1, readBuffer, readBuffer + 1, 100_000, maxPiece, 7}
	for range 2000 {
		sizes = append(sizes, 100) // some of them lie across the end of the buffer
	}
	address := serveHTTP(t, func(rw http.ResponseWriter, _ *http.Request) {
		for i, size := range sizes {
			_, _ = rw.Write(bytes.Repeat([]byte{byte(i)}, size))
			_ = http.NewResponseController(rw).Flush()
		}
		_, _ = rw.Write(make([]byte, 2*maxPiece+1))
	})
	var k kept
	if err := unstarted(t, address).Stream(t.Context(), &Request{Timeout: time.Minute}, &k); err != nil {
		t.Fatal(err)
	}
	pieces := slices.DeleteFunc(k.got, func(p string) bool { return p == "|" })
	if want := len(sizes) + 3; len(pieces) != want {
		t.Fatalf("%d pieces, want %d", len(pieces), want)
	}
	for i, size := range sizes {
		if len(pieces[i]) != size || strings.Trim(pieces[i], string([]byte{byte(i)})) != "" {
			t.Fatalf("piece %d has %d bytes, want %d", i, len(pieces[i]), size)
		}
	}
}

// notifying tells of each flush.
type notifying struct {
	Sink
	passed chan struct{}
}

func (n *notifying) Flush() error {
	defer func() { n.passed <- struct{}{} }()
	return n.Sink.Flush()
}

func TestStreamGoesToThePathAndLeavesTheConnectionForTheNextRequest(t *testing.T) {
	var paths, connections []string
	address := serveHTTP(t, func(rw http.ResponseWriter, r *http.Request) {
		paths, connections = append(paths, r.URL.Path), append(connections, r.RemoteAddr)
		fmt.Fprint(rw, "a")
		_ = http.NewResponseController(rw).Flush()
		fmt.Fprint(rw, "b")
	})
	w := unstarted(t, address)
	for _, path := range []string{"", ChatCompletionsPath, ""} {
		var k kept
		if err := w.Stream(t.Context(), &Request{Path: path, Timeout: time.Minute}, &k); err != nil || k.head.StatusCode != 200 {
			t.Fatal(k.head, err)
		}
	}
	if want := []string{"/invocations", ChatCompletionsPath, "/invocations"}; !slices.Equal(paths, want) {
		t.Errorf("paths %q", paths)
	}
	if connections[0] != connections[2] {
		t.Errorf("connections %q, want one", connections)
	}
	if err := w.Stream(t.Context(), &Request{Path: "/a b"}, new(kept)); err == nil {
		t.Error("a path with a blank was sent")
	}
	if err := w.Stream(t.Context(), &Request{Accept: "x\r\nY: z"}, new(kept)); !errors.Is(err, ErrInvalidHeader) {
		t.Errorf("a header that injects: %v", err)
	}
}

// TestStreamIsLargerThanAnAnswerMayBe: nothing of it is kept, so the payload limit
// of whole answers does not hold.
func TestStreamIsLargerThanAnAnswerMayBe(t *testing.T) {
	const pieces = MaxAnswer/(64<<10) + 16
	address := serveHTTP(t, func(rw http.ResponseWriter, _ *http.Request) {
		piece := make([]byte, 64<<10)
		for range pieces {
			_, _ = rw.Write(piece)
		}
	})
	var size counting
	if err := unstarted(t, address).Stream(t.Context(), &Request{Timeout: time.Minute}, &size); err != nil || size != pieces<<16 {
		t.Errorf("%d bytes, error %v", size, err)
	}
}

type counting int

func (c *counting) Begin(*Answer) error { return nil }
func (c *counting) Flush() error        { return nil }
func (c *counting) Write(p []byte) (int, error) {
	*c += counting(len(p))
	return len(p), nil
}

func TestSinkThatFailsIsNotTheWorkersFault(t *testing.T) {
	address := serveHTTP(t, func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "a") })
	full := errors.New("full")
	err := unstarted(t, address).Stream(t.Context(), &Request{Timeout: time.Minute}, &kept{fail: full})
	if !errors.Is(err, full) || errors.Is(err, ErrBroken) {
		t.Errorf("got %v", err)
	}
}

func TestStreamIsCountedUntilItEndsAndKnowsItsRouteBeforeItBegins(t *testing.T) {
	f, key := testFleet(t, true, 1)
	in := f.Lookup(key).Snapshot().Variants[0].Pool.members[0]
	to := &asking{ask: func(route *Route) {
		if want := (Route{Variant: "a", Container: "primary", Instance: "i-a"}); *route != want {
			t.Errorf("at the beginning the route is %+v", *route)
		}
		if s := in.Status(); s.InFlight != 1 {
			t.Errorf("in flight %d", s.InFlight)
		}
	}}
	if err := f.InvokeStream(t.Context(), key, &Request{}, &to.route, to); err != nil || !slices.Equal(to.got, []string{"a"}) {
		t.Errorf("got %q, error %v", to.got, err)
	}
	if s := in.Status(); s.InFlight != 0 || s.Invocations != 1 || s.Errors != 0 {
		t.Errorf("afterwards %+v", s)
	}
	var route Route
	if err := f.InvokeStream(t.Context(), key, &Request{TargetVariant: "none"}, &route, new(kept)); !errors.Is(err, ErrNoVariant) {
		t.Errorf("got %v", err)
	}
}

// asking asks about the route when the answer begins.
type asking struct {
	kept
	route Route
	ask   func(*Route)
}

func (a *asking) Begin(head *Answer) error {
	a.ask(&a.route)
	return a.kept.Begin(head)
}

func TestStreamOfAnErrorStatusCountsAsAnError(t *testing.T) {
	f, key := testFleet(t, true, 1)
	pool := f.Lookup(key).Snapshot().Variants[0].Pool
	pool.members[0].worker = refusing{newBlocking()}
	var route Route
	var k kept
	if err := f.InvokeStream(t.Context(), key, &Request{}, &route, &k); err != nil || k.head.StatusCode != 418 || route.Container != "second" {
		t.Errorf("%+v of %+v, error %v", k.head, route, err)
	}
	if s := pool.members[0].Status(); s.Errors != 1 {
		t.Errorf("accounts %+v", s)
	}
	err := f.InvokeStream(t.Context(), key, &Request{Body: []byte("break")}, &route, &k)
	if !errors.Is(err, ErrBroken) || route.Container != "third" {
		t.Errorf("%v of %+v", err, route)
	}
}

// refusing is one of several containers.
type refusing struct{ *blocking }

func (refusing) Stream(_ context.Context, req *Request, to Sink) error {
	if bytes.Equal(req.Body, []byte("break")) {
		return &ContainerError{Container: "third", Err: ErrBroken}
	}
	return to.Begin(&Answer{StatusCode: 418, Container: "second"})
}

func TestScriptedResponsesAnswerStreamsAsOnePiece(t *testing.T) {
	f, key := testFleet(t, true, 1)
	script, err := NewResponses([]ResponseRule{{Method: "InvokeEndpointWithResponseStream", Status: 201, Body: "scripted", Headers: map[string]string{"Content-Type": "a/b"}}})
	if err != nil {
		t.Fatal(err)
	}
	f.Lookup(key).SetResponses(script)
	var route Route
	var k kept
	err = f.InvokeStream(t.Context(), key, &Request{Operation: "InvokeEndpointWithResponseStream"}, &route, &k)
	if err != nil || k.head.StatusCode != 201 || k.head.ContentType != "a/b" || !slices.Equal(k.got, []string{"scripted"}) || route.Instance != ScriptedInstance {
		t.Errorf("%+v %q by %+v, error %v", k.head, k.got, route, err)
	}
}
