package process

import (
	"errors"
	"net"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

func TestPortTakenBeforeTheBindCostsOneMoreAttempt(t *testing.T) {
	other, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() { // it is no model server
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	taken := func() *ports {
		lock, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return &ports{port: other.Addr().(*net.TCPAddr).Port, lock: lock}
	}
	for _, c := range []struct{ conflicts, started int }{{1, 2}, {2, 2}} {
		s := launchertest.NewModelServer(t)
		l := modelServer(s).(*launcher)
		left := c.conflicts
		l.reserve = func() (*ports, error) {
			if left > 0 {
				left--
				return taken(), nil
			}
			return reservePorts()
		}
		w, err := l.Launch(t.Context(), launchertest.Spec(t))
		if healthy := err == nil; healthy != (c.conflicts < 2) {
			t.Errorf("after %d conflicts: %v", c.conflicts, err)
		}
		if err == nil {
			if err := w.Stop(t.Context(), 0); err != nil {
				t.Error(err)
			}
		} else if !errors.Is(err, dataplane.ErrPing) {
			t.Errorf("after %d conflicts: %v; want ErrPing", c.conflicts, err)
		}
		if s.Started() != c.started {
			t.Errorf("after %d conflicts: %d processes started, want %d", c.conflicts, s.Started(), c.started)
		}
	}
}

func TestPortsAreNeverGivenOutTwiceAtOnce(t *testing.T) {
	const n = 200
	reserved := make(chan *ports, n)
	for range n {
		go func() {
			p, err := reservePorts()
			if err != nil {
				t.Error(err)
			}
			reserved <- p
		}()
	}
	seen := map[int]bool{}
	for range n {
		p := <-reserved
		if p == nil {
			continue
		}
		defer p.release()
		for port := p.port; port < p.port+blockSize; port++ {
			if seen[port] || port < firstPort || port > lastPort {
				t.Fatalf("port %d given out twice or out of range", port)
			}
			seen[port] = true
		}
	}
}

func TestNoFreePortsIsErrCapacity(t *testing.T) {
	var held []*ports
	defer func() {
		for _, p := range held {
			p.release()
		}
	}()
	for range blocks + 1 {
		p, err := reservePorts()
		if err != nil {
			if !errors.Is(err, dataplane.ErrCapacity) {
				t.Errorf("%v, want ErrCapacity", err)
			}
			return
		}
		held = append(held, p)
	}
	t.Error("more blocks than there are")
}
