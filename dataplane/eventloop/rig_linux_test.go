package eventloop

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 10 * time.Second // after which a test is taken to hang

// start begins a loop that ends with the test.
func start(t testing.TB) *Loop {
	t.Helper()
	l, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// sockets are the two ends of a connection. small ones have little room for what
// is on its way.
func sockets(t testing.TB, small bool) (near, far *net.TCPConn) {
	t.Helper()
	near, far, err := connect(small)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

func connect(small bool) (near, far *net.TCPConn, err error) {
	control := func(_, _ string, c syscall.RawConn) (err error) {
		if !small {
			return nil
		}
		return errors.Join(c.Control(func(fd uintptr) { // set later, they slow the connection down
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<10))
		}), err)
	}
	ctx := context.Background()
	ln, err := (&net.ListenConfig{Control: control}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	conn, err := (&net.Dialer{Control: control}).DialContext(ctx, "tcp4", ln.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	far = conn.(*net.TCPConn)
	accepted, err := ln.Accept()
	if err != nil {
		return nil, nil, errors.Join(err, far.Close())
	}
	return accepted.(*net.TCPConn), far, far.SetDeadline(time.Now().Add(patience))
}

// pair is a connection whose near end the loop has.
func pair(t testing.TB, l *Loop) (near *Conn, far *net.TCPConn) {
	t.Helper()
	tcp, far := sockets(t, false)
	return adopt(t, l, tcp), far
}

func adopt(t testing.TB, l *Loop, tcp *net.TCPConn) *Conn {
	t.Helper()
	c, err := l.Adopt(tcp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// serve runs f as the connection's strand. The channel has its error, after the
// connection was closed.
func serve(t testing.TB, c *Conn, f func(s *Strand) error) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	if !c.loop.Go(func(s *Strand) {
		c.Bind(s)
		err := c.Watch()
		if err == nil {
			err = f(s)
		}
		c.Close()
		done <- err
	}) {
		t.Fatal("the loop has ended")
	}
	return done
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func want(t testing.TB, ch <-chan error, target error) {
	t.Helper()
	if err := receive(t, ch); !errors.Is(err, target) {
		t.Fatalf("got %v, want %v", err, target)
	}
}

// until returns when the condition holds.
func until(t testing.TB, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("it never happened")
		}
	}
}

// waiting returns when the strand waits.
func waiting(t testing.TB, h *half) {
	t.Helper()
	until(t, h.waits.Load)
}

// modes runs a test for strands on the loop and away.
func modes(t *testing.T, test func(t *testing.T, enter func(*Strand))) {
	t.Run("inline", func(t *testing.T) { test(t, func(*Strand) {}) })
	t.Run("away", func(t *testing.T) { test(t, (*Strand).Leave) })
}

// echo sends back what comes until the other side ends.
func echo(c *Conn, size int, between func()) error {
	buf := make([]byte, size)
	for {
		n, err := c.Read(buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		between()
		if _, err := c.Write(buf[:n]); err != nil {
			return err
		}
		between()
	}
}

func send(t testing.TB, to io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(to, text); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, from io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(from, got); err != nil || string(got) != text {
		t.Fatalf("got %q (%v), want %q", got, err, text)
	}
}

func expectEOF(t testing.TB, from io.Reader) {
	t.Helper()
	if n, err := from.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("got %d bytes and %v, want EOF", n, err)
	}
}

// descriptors is how many are open, the one that it reads them with aside.
func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries) - 1
}
