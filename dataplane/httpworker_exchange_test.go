package dataplane

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// acceptOne gives the other end of the worker's next connection.
func acceptOne(t *testing.T, ln net.Listener) <-chan net.Conn {
	t.Helper()
	conns := make(chan net.Conn, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			t.Error(err)
			close(conns)
			return
		}
		t.Cleanup(func() { conn.Close() })
		conns <- conn
	}()
	return conns
}

// answerOne reads a request and echoes its body.
func answerOne(conn net.Conn) error {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	return err
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// A server may stop to write on an idle connection and still read from it, as
// nginx does before it closes one. Go's poller tells of the end of a stream once,
// and here it has done so before there is a request whose reader could learn of it.
func TestRequestIsSentAgainWhenTheServerOnlyReads(t *testing.T) {
	ln := listen(t)
	w := unstarted(t, ln.Addr().String())
	accepted := acceptOne(t, ln)
	c, err := w.pool.dial(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	server := <-accepted
	go func() { _, _ = io.Copy(io.Discard, server) }()
	// Wait for the end of the stream without taking it.
	closed := false
	if err := c.raw.Read(func(uintptr) (done bool) {
		if closed {
			return true
		}
		closed = true
		if err := server.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	w.pool.put(c, time.Now())

	second := acceptOne(t, ln)
	answered := make(chan error, 1)
	go func() { answered <- answerOne(<-second) }()
	var ans Answer
	if err := w.Invoke(t.Context(), &Request{Body: []byte("body"), Timeout: time.Minute}, &ans); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil || string(ans.Body) != "body" {
		t.Errorf("body %q, server's error %v", ans.Body, err)
	}
}

func TestRequestsLargerThanTheSocketTakesArriveWhole(t *testing.T) {
	ln := listen(t)
	w := unstarted(t, ln.Addr().String())
	accepted := acceptOne(t, ln)
	c, err := w.pool.dial(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	server := <-accepted
	if conn, ok := c.Conn.(interface{ SetWriteBuffer(bytes int) error }); !ok || conn.SetWriteBuffer(4<<10) != nil {
		t.Fatal("no small buffer")
	}
	if err := server.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- answerOne(server) }()
	body := bytes.Repeat([]byte("0123456789abcdef"), bufferedBody/16)
	if err := c.send(&w.request, &Request{Body: body}); err != nil {
		t.Fatal(err)
	}
	var ans Answer
	c.borrowReader()
	if _, err := c.receive(&ans, MaxAnswer); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil || !bytes.Equal(ans.Body, body) {
		t.Errorf("%d bytes came back of %d, server's error %v", len(ans.Body), len(body), err)
	}
}

// Frameworks send a body behind 204 in a write of its own, and it may come when
// the connection is idle. The next caller must not get it, nor anything else that a
// server sends unasked.
func TestWhatComesBehindAnAnswerIsNotTheNextCallers(t *testing.T) {
	for name, tc := range map[string]struct{ answer, behind string }{
		"body of a 204":         {"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", "{}"},
		"chunked body of a 204": {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\n{}\r\n0\r\n\r\n"},
		"second answer":         {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, streamed %v", name, stream), func(t *testing.T) {
				ln := listen(t)
				w := unstarted(t, ln.Addr().String())
				first := acceptOne(t, ln)
				served := make(chan error, 1)
				var server net.Conn
				go func() {
					server = <-first
					_, err := http.ReadRequest(bufio.NewReader(server))
					if err == nil {
						_, err = io.WriteString(server, tc.answer)
					}
					served <- err
				}()
				var err error
				if req := (&Request{Timeout: time.Minute}); stream {
					err = w.Stream(t.Context(), req, discard{})
				} else {
					err = w.Invoke(t.Context(), req, new(Answer))
				}
				if err = errors.Join(err, <-served); err != nil {
					t.Fatal(err)
				}
				if c := w.pool.take(time.Now(), 0); c != nil {
					arrive(t, c, server, tc.behind)
					w.pool.put(c, time.Now())
				}
				go func() {
					if conn, err := ln.Accept(); err == nil {
						_ = answerOne(conn) // the worker meets the error
						conn.Close()
					}
				}()
				var ans Answer
				if err := w.Invoke(t.Context(), &Request{Body: []byte("mine"), Timeout: 2 * time.Second}, &ans); err != nil || string(ans.Body) != "mine" {
					t.Errorf("%d %q, %v; want the echo over a new connection", ans.StatusCode, ans.Body, err)
				}
			})
		}
	}
}

// arrive sends something to a connection and returns when it is there, unread.
func arrive(t *testing.T, c *httpConn, server net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(server, text); err != nil {
		t.Fatal(err)
	}
	if err := c.raw.Read(func(uintptr) (done bool) { return !c.alive() }); err != nil {
		t.Fatal(err)
	}
}
