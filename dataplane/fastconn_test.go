package dataplane

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// fastPair is a FastConn and the other end of its connection.
func fastPair(t *testing.T) (fast, other net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if other, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); other.Close() })
	return FastConn(conn), other
}

func TestFastConnCarriesMoreThanTheSocketHolds(t *testing.T) {
	fast, other := fastPair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MB
	var wg sync.WaitGroup
	wg.Go(func() { // echoes what it gets
		if _, err := io.Copy(other, other); err != nil {
			t.Error(err)
		}
		other.Close()
	})
	wg.Go(func() {
		if n, err := fast.Write(sent); n != len(sent) || err != nil {
			t.Errorf("wrote %d of %d bytes, error %v", n, len(sent), err)
		}
		if err := fast.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(fast)
	wg.Wait()
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d, error %v", len(got), len(sent), err)
	}
}

func TestFastConnWritesVectors(t *testing.T) {
	fast, other := fastPair(t)
	parts := net.Buffers{[]byte("head "), []byte("body")}
	if n, err := parts.WriteTo(fast); n != 9 || err != nil {
		t.Fatalf("wrote %d bytes, error %v", n, err)
	}
	got := make([]byte, 9)
	if _, err := io.ReadFull(other, got); err != nil || string(got) != "head body" {
		t.Errorf("%q arrived, error %v", got, err)
	}
}

func TestFastConnEndsWaitingAtTheDeadlineAndWhenClosed(t *testing.T) {
	fast, _ := fastPair(t)
	if err := fast.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := fast.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, error %v", n, err)
	}
	if _, err := fast.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	if err := fast.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := fast.Read(make([]byte, 1))
		read <- err
	}()
	if err := fast.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
}

func TestFastConnTellsEndOfStreamFromReset(t *testing.T) {
	fast, other := fastPair(t)
	if _, err := other.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	other.Close()
	got, err := io.ReadAll(fast)
	if err != nil || string(got) != "last words" {
		t.Errorf("%q, error %v", got, err)
	}

	fast, other = fastPair(t)
	if err := other.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	other.Close()
	if n, err := fast.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, error %v", n, err)
	}
	var opErr *net.OpError
	if _, err := fast.Write([]byte("x")); !errors.As(err, &opErr) || opErr.Op != "write" {
		t.Errorf("write: %v", err)
	}
}

func TestFastConnReadsAndWritesWithoutAllocating(t *testing.T) {
	fast, other := fastPair(t)
	go func() { _, _ = io.Copy(other, other) }()
	buf := make([]byte, 50)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = fast.Write(buf)
		_, _ = io.ReadFull(fast, buf)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
