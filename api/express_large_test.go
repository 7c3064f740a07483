package api

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane"
)

// rideOn is a rider of an event loop whose connection to the endpoint's worker is
// the loop's as well.
func (l *lane) rideOn(t *testing.T, endpoint string) *rider {
	t.Helper()
	r := l.dial(t)
	for !r.invoke(t, endpoint, "settle").express {
	}
	for range 3 { // dialed on a goroutine, and moved by the next
		r.invoke(t, endpoint, "settle")
	}
	return r
}

func TestLargeBodyPassesThroughAWorkerThatEchoesAsItReads(t *testing.T) {
	l := serveLane(t)
	l.publish(t, "echo", webWorker(t, func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		_, _ = io.Copy(w, r.Body)
	}))
	r := l.rideOn(t, "echo")
	for _, n := range []int{70_000, 1_000_000, expressBuffer - 1000} {
		body := strings.Repeat("0123456789", n/10)
		if got := r.invoke(t, "echo", body); got.body != body || !got.express {
			t.Errorf("%d bytes came back as %d, by the express lane: %t", len(body), len(got.body), got.express)
		}
	}
}

// refusing is a worker that echoes small bodies, and refuses a large one when it has
// seen its head, without reading on.
func refusing(t *testing.T) dataplane.Worker {
	t.Helper()
	ln := loopback(t)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go refuseLarge(conn)
		}
	}()
	return workerAt(t, ln.Addr().String())
}

func refuseLarge(conn net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if text := string(buf[:n]); strings.Contains(text, "Content-Length: 4") {
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 2\r\n\r\nok")
	}
}

func TestEarlyRefusalOfALargeBodyIsTheModelsErrorOnAnEventLoop(t *testing.T) {
	l := serveLane(t)
	in := l.publish(t, "small", refusing(t))
	r := l.rideOn(t, "small")
	for range 2 {
		r.send(t, plainText("small", strings.Repeat("x", 4_100_000)))
		got, err := r.answer()
		if err != nil || !strings.HasPrefix(got.status, "HTTP/1.1 424") || !strings.Contains(got.body, `"OriginalStatusCode":413`) {
			t.Fatalf("%v, error %v", got, err)
		}
		if got := r.invoke(t, "small", "x"); got.body != "ok" { // and not on the connection that was left
			t.Errorf("the next invocation: %v", got)
		}
	}
	if n := in.Status().InFlight; n != 0 {
		t.Errorf("%d requests are outstanding", n)
	}
}

func TestWorkerThatBreaksInTheMiddleOfALargeAnswerIsAModelError(t *testing.T) {
	l := serveLane(t)
	l.publish(t, "breaks", webWorker(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) < 100 {
			_, _ = w.Write(body)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		panic(http.ErrAbortHandler)
	}))
	r := l.rideOn(t, "breaks")
	r.send(t, plainText("breaks", strings.Repeat("x", 1_000_000)))
	got, err := r.answer()
	if err != nil || !strings.HasPrefix(got.status, "HTTP/1.1 424") {
		t.Fatalf("%v, error %v", got, err)
	}
	if got := r.invoke(t, "breaks", "y"); got.body != "y" || !got.express {
		t.Errorf("the next invocation: %v", got)
	}
}
