package eventloop

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestRandomUseLosesNothing lets connections come and go on two loops while their
// strands leave and return, deadlines pass, and either side or a third closes.
func TestRandomUseLosesNothing(t *testing.T) {
	pair(t, start(t)) // what the first ones need for good is there
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	loops := []*Loop{start(t), start(t)}
	opened := descriptors(t) - fds
	end := time.Now().Add(700 * time.Millisecond)
	var users sync.WaitGroup
	var whole, all atomic.Int64
	for i := range 12 {
		users.Go(func() {
			u := user{r: rand.New(rand.NewPCG(7, uint64(i)))}
			for time.Now().Before(end) && !t.Failed() {
				full, err := u.use(loops[u.r.IntN(2)])
				if err != nil {
					t.Error(err)
				}
				if all.Add(1); full {
					whole.Add(1)
				}
			}
		})
	}
	time.AfterFunc(time.Until(end)-50*time.Millisecond, loops[1].Close)
	users.Wait()
	for _, l := range loops {
		l.Close()
	}
	t.Logf("%d connections, %d undisturbed", all.Load(), whole.Load())
	if whole.Load() == 0 {
		t.Error("no connection came to its end")
	}
	until(t, func() bool { return runtime.NumGoroutine() <= goroutines+1 })
	if n := descriptors(t); n > fds {
		t.Errorf("%d descriptors were open, and %d for the loops; now %d are", fds, opened, n)
	}
}

type user struct{ r *rand.Rand }

func (u *user) chance(percent int) bool { return u.r.IntN(100) < percent }

// use sends random bytes to a strand that sends them back. full tells that nobody
// has disturbed it.
func (u *user) use(l *Loop) (full bool, err error) {
	tcp, far, err := connect(u.chance(30))
	if err != nil {
		return false, err
	}
	defer far.Close()
	c, err := l.Adopt(tcp)
	if err != nil {
		tcp.Close()
		return false, unlessClosed(err)
	}
	full = u.chance(60)
	s := server{c: c, r: rand.New(rand.NewPCG(u.r.Uint64(), 0)), hasty: !full}
	done := make(chan error, 1)
	if !l.Go(func(strand *Strand) { done <- s.serve(strand) }) {
		c.Close()
		return false, nil
	}
	total := u.r.IntN(60_000)
	back := make(chan error, 1)
	go func() { back <- compare(far, total, full) }()
	for sent := 0; sent < total; {
		part := pattern(sent, min(total-sent, 1+u.r.IntN(9_000)))
		n, err := far.Write(part)
		if sent += n; err != nil {
			break
		}
		if !full && u.chance(5) {
			u.disturb(c, far)
		}
	}
	far.CloseWrite()
	if !full && u.chance(50) {
		u.disturb(c, far)
	}
	select {
	case err = <-done:
	case <-time.After(patience):
		return false, fmt.Errorf("the strand hangs: %+v", &c.r)
	}
	closed := errors.Is(err, ErrClosed) || errors.Is(err, net.ErrClosed)
	return full && !closed, errors.Join(s.judge(err, full), unlessOver(<-back, l))
}

// disturb does what may happen at any time.
func (u *user) disturb(c *Conn, far *net.TCPConn) {
	switch u.r.IntN(5) {
	case 0:
		c.Close()
	case 1:
		far.Close()
	case 2:
		far.SetLinger(0)
		far.Close()
	case 3:
		c.SetDeadline(time.Unix(1, 0))
	default:
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
	}
}

func pattern(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((from + i) ^ (from+i)>>8)
	}
	return b
}

// compare holds what comes back against what was sent.
func compare(far *net.TCPConn, total int, full bool) error {
	buf := make([]byte, 5000)
	got := 0
	for {
		n, err := far.Read(buf)
		if string(buf[:n]) != string(pattern(got, n)) {
			return fmt.Errorf("byte %d or one of the next %d is another's", got, n)
		}
		got += n
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case full && got != total:
			return fmt.Errorf("of %d bytes %d came (%w)", total, got, err)
		default:
			return nil
		}
	}
}

func unlessClosed(err error) error {
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// unlessOver keeps quiet about what a loop's end may do.
func unlessOver(err error, l *Loop) error {
	if l.shut() {
		return nil
	}
	return err
}

// server is the strand's side.
type server struct {
	c     *Conn
	r     *rand.Rand
	hasty bool
}

func (s *server) serve(strand *Strand) error {
	s.c.Bind(strand)
	defer s.c.Close()
	if err := s.c.Watch(); err != nil {
		return err
	}
	buf := make([]byte, 1+s.r.IntN(8000))
	for {
		s.move(strand)
		if s.r.IntN(3) == 0 {
			s.c.SetReadDeadline(strand.Now().Add(time.Duration(s.r.IntN(2000)-100) * time.Microsecond))
		}
		if s.r.IntN(2) == 0 {
			if err := s.c.AwaitRead(); err != nil && !s.late(err) {
				return err
			}
		}
		n, err := s.c.Read(buf)
		switch {
		case s.late(err):
			continue
		case err != nil:
			return err
		case s.hasty && s.r.IntN(50) == 0:
			return nil
		}
		s.move(strand)
		for rest := buf[:n]; len(rest) > 0; {
			if s.r.IntN(3) == 0 {
				s.c.SetWriteDeadline(strand.Now().Add(time.Duration(s.r.IntN(2000)-100) * time.Microsecond))
			}
			cut := s.r.IntN(len(rest) + 1)
			n, err := s.c.WriteParts(rest[:cut], rest[cut:])
			if rest = rest[n:]; err != nil && !s.late(err) {
				return err
			}
		}
	}
}

func (s *server) move(strand *Strand) {
	switch s.r.IntN(4) {
	case 0:
		strand.Leave()
	case 1:
		strand.Return()
	}
}

func (s *server) late(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	s.c.SetDeadline(time.Time{})
	return true
}

// judge is nil for errors that the use explains.
func (s *server) judge(err error, full bool) error {
	switch {
	case err == io.EOF, errors.Is(err, ErrClosed), errors.Is(err, net.ErrClosed) && (!full || s.c.loop.shut()):
		return nil
	case !full && (err == nil || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		return nil
	}
	return fmt.Errorf("the strand ended with %w", err)
}
