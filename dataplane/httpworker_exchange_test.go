package dataplane

import (
	"bufio"
	"bytes"
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
