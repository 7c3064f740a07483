package eventloop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{})
	r.Read(b)
	return b
}

func TestManyConnectionsOfOneLoopAreEchoed(t *testing.T) {
	l := start(t)
	data := noise(20_000)
	var all sync.WaitGroup
	for i := range 100 {
		c, far := pair(t, l)
		done := serve(t, c, func(s *Strand) error {
			if i%3 == 0 {
				s.Leave()
			}
			return echo(c, 4096, func() {})
		})
		all.Go(func() {
			got := make([]byte, len(data))
			for round := range 20 {
				part := data[:1+(i*round*53)%len(data)]
				go far.Write(part)
				if _, err := io.ReadFull(far, got[:len(part)]); err != nil || !bytes.Equal(got[:len(part)], part) {
					t.Errorf("connection %d, round %d: %v", i, round, err)
				}
			}
			far.CloseWrite()
			want(t, done, nil)
		})
	}
	all.Wait()
}

func TestLargeTransfersGoBothWaysThroughSmallBuffers(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		tcp, far := sockets(t, true)
		c := adopt(t, start(t), tcp)
		done := serve(t, c, func(s *Strand) error {
			enter(s)
			return echo(c, 3*maxTransfer/2, func() {})
		})
		data := noise(16 << 20)
		sent := make(chan error, 1)
		go func() {
			_, err := far.Write(data)
			sent <- errors.Join(err, far.CloseWrite())
		}()
		got := make([]byte, len(data))
		if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("what came back is not what was sent (%v)", err)
		}
		want(t, sent, nil)
		want(t, done, nil)
		expectEOF(t, far)
	})
}

func TestPartsAreWrittenAsOne(t *testing.T) {
	data := noise(1 << 20)
	for _, sizes := range [][2]int{
		{0, 0},
		{0, 10},
		{10, 0},
		{10, 10},
		{0, 1 << 20},
		{1 << 20, 0},
		{maxTransfer, 10},
		{maxTransfer - 1, 10},
		{200, 900_000},
		{300_000, 300_000},
	} {
		modes(t, func(t *testing.T, enter func(*Strand)) {
			tcp, far := sockets(t, true)
			c := adopt(t, start(t), tcp)
			head, body := data[:sizes[0]], data[len(data)-sizes[1]:]
			done := serve(t, c, func(s *Strand) error {
				enter(s)
				n, err := c.WriteParts(head, body)
				if n != len(head)+len(body) {
					return fmt.Errorf("%d written (%w)", n, err)
				}
				return err
			})
			got, err := io.ReadAll(far)
			if err != nil || !bytes.Equal(got, append(bytes.Clone(head), body...)) {
				t.Errorf("%d: %d bytes came (%v)", sizes, len(got), err)
			}
			want(t, done, nil)
		})
	}
}

func TestDeadlineEndsReading(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		c, far := pair(t, start(t))
		late := make(chan error, 1)
		done := serve(t, c, func(s *Strand) error {
			enter(s)
			deadline := s.Now().Add(20 * time.Millisecond)
			c.SetReadDeadline(deadline)
			_, err := c.Read(make([]byte, 1))
			if time.Now().Before(deadline) {
				err = errors.New("it ended before the deadline")
			}
			if !errors.Is(c.AwaitRead(), os.ErrDeadlineExceeded) {
				err = errors.New("the deadline was forgotten")
			}
			late <- err
			c.SetReadDeadline(time.Time{})
			return echo(c, 100, func() {}) // and all is as before
		})
		err := receive(t, late)
		var timeout net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("no timeout but %v", err)
		}
		send(t, far, "late")
		expect(t, far, "late")
		far.CloseWrite()
		want(t, done, nil)
	})
}

func TestDeadlineEndsWritingAndTellsWhatWasWritten(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		tcp, far := sockets(t, true)
		c := adopt(t, start(t), tcp)
		data := noise(16 << 20)
		var written int
		done := serve(t, c, func(s *Strand) error {
			enter(s)
			c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			var err error
			written, err = c.WriteParts(data[:100], data[100:])
			return err
		})
		want(t, done, os.ErrDeadlineExceeded)
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, data[:written]) {
			t.Errorf("%d bytes were written, %d came (%v)", written, len(got), err)
		}
	})
}

func TestPastDeadlineKeepsEvenWhatIsThere(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		c, far := pair(t, start(t))
		send(t, far, "there")
		done := serve(t, c, func(s *Strand) error {
			if err := c.AwaitRead(); err != nil {
				return err
			}
			enter(s)
			for _, past := range []time.Time{time.Unix(1, 0), time.Unix(-1<<40, 0), s.Now().Add(-1)} {
				c.SetDeadline(past)
				if n, err := c.Read(make([]byte, 9)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					return fmt.Errorf("read %d: %w", n, err)
				}
				if n, err := c.Write(make([]byte, 9)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					return fmt.Errorf("wrote %d: %w", n, err)
				}
			}
			return nil
		})
		want(t, done, nil)
	})
}

func TestDeadlineInAnotherAgeIsNotPast(t *testing.T) {
	c, far := pair(t, start(t))
	send(t, far, "x")
	done := serve(t, c, func(*Strand) error {
		c.SetDeadline(time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC)) // beyond what nanoseconds count
		_, err := c.Read(make([]byte, 1))
		return err
	})
	want(t, done, nil)
}

func TestReadDeadlineLeavesWritingAlone(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		tcp, far := sockets(t, true)
		l := start(t)
		c := adopt(t, l, tcp)
		done := serve(t, c, func(s *Strand) error {
			enter(s)
			c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
			_, err := c.Write(make([]byte, 1<<20))
			return err
		})
		waiting(t, &c.w)
		afterDeadline(t, l, 10*time.Millisecond)
		if n, err := io.Copy(io.Discard, far); n != 1<<20 || err != nil {
			t.Errorf("%d bytes came (%v)", n, err)
		}
		want(t, done, nil)
	})
}

// afterDeadline returns when the loop has ended the waiting of another connection
// with that deadline.
func afterDeadline(t *testing.T, l *Loop, d time.Duration) {
	t.Helper()
	c, _ := pair(t, l)
	done := serve(t, c, func(s *Strand) error {
		c.SetReadDeadline(time.Now().Add(d))
		return c.AwaitRead()
	})
	want(t, done, os.ErrDeadlineExceeded)
}

func TestLaterDeadlineReplacesEarlierOne(t *testing.T) {
	for _, later := range []time.Time{{}, time.Now().Add(time.Hour)} {
		modes(t, func(t *testing.T, enter func(*Strand)) {
			l := start(t)
			c, far := pair(t, l)
			done := serve(t, c, func(s *Strand) error {
				enter(s)
				c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				c.SetReadDeadline(later)
				_, err := c.Read(make([]byte, 1))
				return err
			})
			waiting(t, &c.r)
			afterDeadline(t, l, 25*time.Millisecond)
			send(t, far, "x")
			want(t, done, nil)
		})
	}
}

func TestDeadlineSetFromElsewhereEndsTheWait(t *testing.T) {
	for _, in := range []time.Duration{-time.Hour, 20 * time.Millisecond} {
		modes(t, func(t *testing.T, enter func(*Strand)) {
			c, _ := pair(t, start(t))
			done := serve(t, c, func(s *Strand) error {
				enter(s)
				c.SetReadDeadline(time.Now().Add(time.Hour))
				return c.AwaitRead()
			})
			waiting(t, &c.r)
			c.SetDeadline(time.Now().Add(in))
			want(t, done, os.ErrDeadlineExceeded)
		})
	}
}

func TestEachOfManyDeadlinesIsKept(t *testing.T) {
	l := start(t)
	var done []<-chan error
	for i := range 60 {
		c, _ := pair(t, l)
		done = append(done, serve(t, c, func(s *Strand) error {
			if i%2 == 0 {
				s.Leave()
			}
			for round := range 3 {
				deadline := time.Now().Add(time.Duration((i*7+round*11)%30) * time.Millisecond)
				c.SetReadDeadline(deadline)
				if err := c.AwaitRead(); !errors.Is(err, os.ErrDeadlineExceeded) {
					return err
				}
				if time.Now().Before(deadline) {
					return errors.New("too early")
				}
			}
			return nil
		}))
	}
	for _, d := range done {
		want(t, d, nil)
	}
}

func TestTimeOnTheLoopIsOfTheMonotonicClockToo(t *testing.T) {
	done := make(chan time.Time, 1)
	start(t).Go(func(s *Strand) { done <- s.Now() })
	now := receive(t, done)
	if !strings.Contains(now.String(), " m=") {
		t.Errorf("%v would make deadlines of a clock that is set", now)
	}
}

func TestCloseFromElsewhereEndsTheWait(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		tcp, far := sockets(t, true)
		c := adopt(t, start(t), tcp)
		reads := serve(t, c, func(s *Strand) error {
			enter(s)
			_, err := c.Read(make([]byte, 1))
			return err
		})
		waiting(t, &c.r)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		want(t, reads, net.ErrClosed)
		expectEOF(t, far)
	})
	modes(t, func(t *testing.T, enter func(*Strand)) {
		tcp, _ := sockets(t, true)
		c := adopt(t, start(t), tcp)
		writes := serve(t, c, func(s *Strand) error {
			enter(s)
			_, err := c.Write(make([]byte, 16<<20))
			return err
		})
		waiting(t, &c.w)
		c.Close()
		want(t, writes, net.ErrClosed)
	})
}

func TestNothingIsLeftOfAClosedConnection(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		c, far := pair(t, start(t))
		send(t, far, "unread")
		busy, closed := make(chan struct{}), make(chan struct{})
		done := serve(t, c, func(s *Strand) error {
			enter(s)
			close(busy)
			<-closed // between two calls
			_, read := c.Read(make([]byte, 1))
			_, wrote := c.Write([]byte("x"))
			if c.Quiet() || !c.Ended() {
				return errors.New("it seems open")
			}
			for _, err := range []error{read, wrote, c.AwaitRead(), c.Close(), c.SetDeadline(time.Time{}), c.SetReadDeadline(time.Now())} {
				var op *net.OpError
				if !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) {
					return fmt.Errorf("not closed but %w", err)
				}
			}
			s.Leave()
			until(t, func() bool { return errors.Is(c.CloseWrite(), net.ErrClosed) })
			return nil
		})
		receive(t, busy)
		c.Close()
		close(closed)
		want(t, done, nil)
	})
}

func TestConnectionClosedBeforeItIsWatched(t *testing.T) {
	l := start(t)
	c, far := pair(t, l)
	c.Close()
	expectEOF(t, far)
	want(t, serve(t, c, func(*Strand) error { return errors.New("it is watched") }), net.ErrClosed)
}

// cork makes far's last words and its end one segment.
func cork(t *testing.T, far *net.TCPConn) {
	t.Helper()
	raw, err := far.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
}

func TestEndComesAfterTheLastWords(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		for size := 1; size < 12; size++ {
			for _, waits := range []bool{true, false} {
				c, far := pair(t, start(t))
				cork(t, far)
				last := func() {
					send(t, far, "last words")
					far.CloseWrite()
				}
				if !waits {
					last()
				}
				done := serve(t, c, func(s *Strand) error {
					enter(s)
					var words []byte
					buf := make([]byte, size)
					for {
						n, err := c.Read(buf)
						words = append(words, buf[:n]...)
						if err == io.EOF {
							break
						}
						if err != nil {
							return err
						}
					}
					if string(words) != "last words" {
						return fmt.Errorf("got %q", words)
					}
					if n, err := c.Read(buf); n != 0 || err != io.EOF || c.AwaitRead() != nil || !c.Ended() {
						return fmt.Errorf("%d more, %w", n, err)
					}
					_, err := c.Write([]byte("answer")) // only its half has ended
					return err
				})
				if waits {
					waiting(t, &c.r)
					last()
				}
				expect(t, far, "answer")
				want(t, done, nil)
			}
		}
	})
}

func TestResetIsNotAnEnd(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		for _, look := range []bool{false, true} {
			c, far := pair(t, start(t))
			done := serve(t, c, func(s *Strand) error {
				enter(s)
				if look && c.AwaitRead() != nil {
					return errors.New("the reset is Read's to tell")
				}
				_, err := c.Read(make([]byte, 1))
				if !c.Ended() || c.Quiet() {
					return errors.New("it seems open")
				}
				if _, err := c.Write([]byte("x")); err == nil {
					return errors.New("it takes more")
				}
				return err
			})
			waiting(t, &c.r)
			far.SetLinger(0)
			far.Close()
			want(t, done, syscall.ECONNRESET)
		}
	})
}

func TestResetEndsAWrite(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		tcp, far := sockets(t, true)
		c := adopt(t, start(t), tcp)
		done := serve(t, c, func(s *Strand) error {
			enter(s)
			_, err := c.Write(make([]byte, 16<<20))
			return err
		})
		waiting(t, &c.w)
		far.SetLinger(0)
		far.Close()
		want(t, done, syscall.ECONNRESET)
	})
}

func TestAwaitReadWaitsForWhatIsUnread(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		c, far := pair(t, start(t))
		var sent atomic.Int32
		read := make(chan struct{}, 3)
		done := serve(t, c, func(s *Strand) error {
			enter(s)
			buf := make([]byte, 4)
			for i := range int32(3) {
				if err := c.AwaitRead(); err != nil {
					return err
				}
				if got := sent.Load(); got != i+1 {
					return fmt.Errorf("it returned after %d of %d messages", got, i+1)
				}
				if c.Quiet() {
					return errors.New("it returned with nothing unread")
				}
				if _, err := c.Read(buf); err != nil { // just as much as there is
					return err
				}
				if !c.Quiet() {
					return errors.New("more than was sent")
				}
				read <- struct{}{}
			}
			if err := c.AwaitRead(); err != nil || !c.Ended() || c.Quiet() {
				return fmt.Errorf("the end was not told (%w)", err)
			}
			return nil
		})
		for range 3 {
			waiting(t, &c.r)
			sent.Add(1)
			send(t, far, "four")
			receive(t, read)
		}
		waiting(t, &c.r)
		far.CloseWrite()
		want(t, done, nil)
	})
}

func TestEmptyReadsAndWritesDoNotWait(t *testing.T) {
	c, _ := pair(t, start(t))
	done := serve(t, c, func(*Strand) error {
		n, err := c.Read(nil)
		m, e := c.WriteParts(nil, nil)
		if n+m != 0 {
			return errors.New("of nothing came something")
		}
		return errors.Join(err, e)
	})
	want(t, done, nil)
}

func TestConnectionKeepsItsAddresses(t *testing.T) {
	c, far := pair(t, start(t))
	if c.LocalAddr().String() != far.RemoteAddr().String() || c.RemoteAddr().String() != far.LocalAddr().String() {
		t.Errorf("%v and %v are not %v and %v", c.LocalAddr(), c.RemoteAddr(), far.RemoteAddr(), far.LocalAddr())
	}
}

// A child process may hold a socket open for a moment that was closed here. Then
// the kernel still tells of it, by its old number.
func TestEventsOfAClosedDescriptorAreNotItsSuccessors(t *testing.T) {
	l := start(t)
	old, oldFar := pair(t, l)
	tcp, far := sockets(t, false)
	done := serve(t, old, func(*Strand) error { return old.AwaitRead() })
	waiting(t, &old.r)
	fd := old.fd
	held, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(held)
	old.Close()
	want(t, done, net.ErrClosed)
	// The lowest number that is free is the next one's.
	for {
		n, err := unix.FcntlInt(uintptr(held), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n >= fd {
			unix.Close(n)
			break
		}
		defer unix.Close(n)
	}
	next := adopt(t, l, tcp)
	if next.fd != fd {
		t.Fatalf("descriptor %d was not used again, but %d", fd, next.fd)
	}
	reads := serve(t, next, func(*Strand) error {
		_, err := next.Read(make([]byte, 1))
		if next.Ended() {
			return errors.New("the old connection's end was taken for the new one's")
		}
		return err
	})
	waiting(t, &next.r)
	oldFar.Close()
	send(t, far, "x")
	want(t, reads, nil)
}
