package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	goruntime "runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sagelocal/sagelocal/dataplane"
)

// slowWorker answers when it is told to, and tells when its caller has gone.
type slowWorker struct {
	dataplane.Worker
	entered chan struct{}
	answer  chan struct{}
	fail    chan error // instead of an answer
	gone    chan error
}

func (w *slowWorker) Invoke(ctx context.Context, _ *dataplane.Request, ans *dataplane.Answer) error {
	w.entered <- struct{}{}
	select {
	case <-w.answer:
		ans.StatusCode = 200
		return nil
	case err := <-w.fail:
		return err
	case <-ctx.Done():
		w.gone <- ctx.Err()
		return ctx.Err()
	}
}

// serveSlow runs a server with one slow worker behind endpoint "e".
func serveSlow(t *testing.T) (*slowWorker, *Server, string) {
	t.Helper()
	w := newSlowWorker()
	pool, err := dataplane.NewPool(dataplane.Routing{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	dataplane.NewInstance(pool, "i-0", "ml.m5.large", 0, time.Now()).Serve(w, time.Now())
	fleet := dataplane.NewFleet()
	fleet.Publish(dataplane.Key{Account: benchScope.Account, Region: benchScope.Region, Name: "e"}, &dataplane.Snapshot{
		Serving: true, Variants: []dataplane.Variant{{Name: "v", Weight: 1, Pool: pool}},
	}, 1)
	server := New(Options{Fleet: fleet, Scope: benchScope, Logger: slog.New(slog.DiscardHandler)})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = server.Shutdown(ctx)
		<-served
	})
	return w, server, ln.Addr().String()
}

const slowRequest = "POST /endpoints/e/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"

func post(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, slowRequest); err != nil {
		t.Fatal(err)
	}
	return conn
}

// within fails the test when nothing comes in time.
func within[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing happened for ten seconds")
	}
	return v
}

func answered(t *testing.T, conn net.Conn) {
	t.Helper()
	head := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 200" {
		t.Errorf("answer %q, error %v", head, err)
	}
}

func TestCallerThatGoesAwayCancelsItsInvocationOnly(t *testing.T) {
	if goruntime.GOOS == "windows" {
		t.Skip("a departure cannot be noticed here; see closedByPeer")
	}
	w, _, address := serveSlow(t)
	leaving, staying := post(t, address), post(t, address)
	within(t, w.entered)
	within(t, w.entered)
	leaving.Close()
	if err := within(t, w.gone); !errors.Is(err, context.Canceled) {
		t.Errorf("the worker's context ended with %v", err)
	}
	close(w.answer)
	answered(t, staying)
	if len(w.gone) > 0 {
		t.Error("the other caller's invocation was canceled too")
	}
}

func TestSweepCancelsOnlyWhatItFindsTwiceWithoutACaller(t *testing.T) {
	if goruntime.GOOS == "windows" {
		t.Skip("a departure cannot be noticed here; see closedByPeer")
	}
	conn, caller := acceptedConn(t)
	sweep := func() error {
		conn.listener.mu.Lock()
		defer conn.listener.mu.Unlock()
		conn.look()
		return conn.ctx.Err()
	}
	for range 3 {
		conn.turn.Add(1)
		for range 3 {
			if err := sweep(); err != nil {
				t.Fatalf("an invocation whose caller waits was canceled: %v", err)
			}
		}
		conn.over()
	}
	caller.Close()
	if err := sweep(); err != nil {
		t.Errorf("canceled without an invocation: %v", err)
	}
	conn.turn.Add(1)
	for deadline := time.Now().Add(10 * time.Second); sweep() == nil; { // until the kernel has told
		if time.Now().After(deadline) {
			t.Fatal("never canceled")
		}
	}
}

// acceptedConn is a caller's connection as the server has it, and the caller's
// end.
func acceptedConn(t *testing.T) (conn *clientConn, caller net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := newClientListener(inner, t.Context())
	defer ln.Close()
	if caller, err = net.Dial("tcp", inner.Addr().String()); err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close(); caller.Close() })
	return accepted.(*clientConn), caller
}

func TestShutdownCancelsInvocationsWhenItsContextEnds(t *testing.T) {
	w, server, address := serveSlow(t)
	post(t, address)
	within(t, w.entered)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	within(t, w.gone)
}

func TestCallerContextCallsItsFunctionOnceUnlessStopped(t *testing.T) {
	c := newCallerContext(t.Context())
	var calls atomic.Int32
	ended := make(chan struct{})
	stop := c.AfterFunc(func() { calls.Add(1) })
	if !stop() {
		t.Error("stop before the end says that the function was called")
	}
	stop = c.AfterFunc(func() { calls.Add(10); close(ended) })
	second := make(chan struct{})
	c.AfterFunc(func() { close(second) }) // beside the first
	c.end()
	within(t, ended)
	within(t, second)
	if stop() {
		t.Error("stop after the end says that the function was not called")
	}
	late := make(chan struct{})
	c.AfterFunc(func() { close(late) })
	within(t, late)
	if n := calls.Load(); n != 10 {
		t.Errorf("calls %d, want the second function's only", n)
	}
}

func TestClientConnInterruptsAtItsDeadlineAndGoesOnWithANewOne(t *testing.T) {
	conn, caller := acceptedConn(t)
	buf := make([]byte, 1)
	for range 2 {
		if err := conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read after the deadline: %v", err)
		}
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := caller.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(buf); n != 1 || err != nil {
		t.Errorf("read %d bytes with a new deadline, error %v", n, err)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write after the deadline: %v", err)
	}
}
