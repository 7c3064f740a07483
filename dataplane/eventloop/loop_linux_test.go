package eventloop

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestCloseOfALoopEndsWhatWaits(t *testing.T) {
	l := start(t)
	var done []<-chan error
	for range 3 {
		modes(t, func(t *testing.T, enter func(*Strand)) {
			reader, _ := pair(t, l)
			done = append(done, serve(t, reader, func(s *Strand) error {
				enter(s)
				return reader.AwaitRead()
			}))
			tcp, _ := sockets(t, true)
			writer := adopt(t, l, tcp)
			done = append(done, serve(t, writer, func(s *Strand) error {
				enter(s)
				_, err := writer.Write(make([]byte, 16<<20))
				return err
			}))
			waiting(t, &reader.r)
			waiting(t, &writer.w)
		})
	}
	l.Close()
	for _, d := range done {
		want(t, d, net.ErrClosed)
	}
	l.Close() // once more does no harm
}

func TestStrandThatIsAwayOutlivesItsLoop(t *testing.T) {
	l := start(t)
	c, far := pair(t, l)
	away, back := make(chan struct{}), make(chan struct{})
	done := serve(t, c, func(s *Strand) error {
		s.Leave()
		close(away)
		<-back
		for range 3 {
			s.Return()
			if s.Inline() {
				return errors.New("it is on a loop that has ended")
			}
			s.Leave()
		}
		_, err := c.Read(make([]byte, 1))
		return err
	})
	receive(t, away)
	l.Close()
	expectEOF(t, far)
	close(back)
	want(t, done, net.ErrClosed)
}

func TestCloseOfALoopAwaitsWhatWasPosted(t *testing.T) {
	for range 15 {
		l := start(t)
		var accepted, ran atomic.Int64
		var posters sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range 4 {
			posters.Go(func() {
				begun <- struct{}{}
				for l.Go(func(s *Strand) {
					if s.Leave(); s.Now().IsZero() {
						return
					}
					s.Return()
					ran.Add(1)
				}) {
					if accepted.Add(1)%100 == 0 {
						runtime.Gosched()
					}
				}
			})
		}
		for range 4 {
			<-begun
		}
		l.Close()
		posters.Wait()
		until(t, func() bool { return ran.Load() == accepted.Load() })
	}
}

func TestClosedLoopTakesNothingMore(t *testing.T) {
	l := start(t)
	l.Close()
	if l.Go(func(*Strand) { t.Error("it ran") }) {
		t.Error("a strand was accepted")
	}
	tcp, far := sockets(t, false)
	if _, err := l.Adopt(tcp); !errors.Is(err, ErrClosed) {
		t.Errorf("Adopt gave %v", err)
	}
	send(t, tcp, "untouched")
	expect(t, far, "untouched")
}

func TestConnectionOfAClosedLoopCanOnlyBeClosed(t *testing.T) {
	l := start(t)
	early, _ := pair(t, l)
	late, farOfLate := pair(t, l)
	unused, farOfUnused := pair(t, l)
	watched := make(chan error, 1)
	done := serve(t, early, func(*Strand) error {
		err := early.AwaitRead()
		late.Bind(early.strand)
		watched <- late.Watch() // nobody would close it
		late.Close()
		return err
	})
	waiting(t, &early.r)
	l.Close()
	want(t, done, net.ErrClosed)
	want(t, watched, ErrClosed)
	unused.Close()
	expectEOF(t, farOfLate)
	expectEOF(t, farOfUnused)
}

func TestConnectionThatIsClosedCannotBeAdopted(t *testing.T) {
	tcp, _ := sockets(t, false)
	tcp.Close()
	if c, err := start(t).Adopt(tcp); err == nil {
		t.Errorf("it became %v", c)
	}
}

func TestRefusedStrandsLeaveNoGoroutines(t *testing.T) {
	l := start(t)
	l.Close()
	before := runtime.NumGoroutine()
	for range 1000 {
		l.Go(func(*Strand) {})
	}
	if n := runtime.NumGoroutine() - before; n > 500 {
		t.Errorf("%d goroutines were left", n)
	}
}

func TestPostsWithoutEndLetConnectionsBeServed(t *testing.T) {
	l := start(t)
	var stop atomic.Bool
	var again func()
	again = func() {
		if !stop.Load() {
			l.post(again)
		}
	}
	defer stop.Store(true)
	l.post(again)
	c, far := pair(t, l)
	done := serve(t, c, func(*Strand) error {
		if err := echo(c, 100, func() {}); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		return echo(c, 100, func() {})
	})
	send(t, far, "x")
	expect(t, far, "x")
	far.CloseWrite()
	want(t, done, nil)
	afterDeadline(t, l, 5*time.Millisecond)
}

func TestLoopsHaveNumbersOfTheirOwn(t *testing.T) {
	a, b := start(t), start(t)
	if a.ID() < 1 || b.ID() <= a.ID() {
		t.Errorf("%d and %d", a.ID(), b.ID())
	}
	if len(a.Scratch()) < maxTransfer {
		t.Error("no room for a transfer")
	}
}

func TestNoDescriptorIsLeft(t *testing.T) {
	start(t).Close() // what the first one needs for good is there
	pair(t, start(t))
	before := descriptors(t)
	for i := range 20 {
		l, err := Start()
		if err != nil {
			t.Fatal(err)
		}
		var done []<-chan error
		var fars []io.Closer
		for range 6 {
			near, far, err := connect(false)
			if err != nil {
				t.Fatal(err)
			}
			c, err := l.Adopt(near)
			if err != nil {
				t.Fatal(err)
			}
			fars = append(fars, far)
			switch len(fars) {
			case 1: // closed by the strand
				done = append(done, serve(t, c, func(*Strand) error { return nil }))
			case 2: // by the other side
				done = append(done, serve(t, c, func(*Strand) error { return c.AwaitRead() }))
				far.Close()
			case 3: // from elsewhere
				done = append(done, serve(t, c, func(s *Strand) error {
					s.Leave()
					c.AwaitRead()
					return nil
				}))
				waiting(t, &c.r)
				c.Close()
			case 4: // never watched
				c.Close()
			case 5: // after the loop's end
				defer c.Close()
				if i > 0 {
					c.Close()
				}
			default: // by the loop
				serve(t, c, func(*Strand) error { return c.AwaitRead() })
				waiting(t, &c.r)
			}
		}
		for _, d := range done {
			want(t, d, nil)
		}
		l.Close()
		for _, far := range fars {
			far.Close()
		}
	}
	if after := descriptors(t); after > before+1 {
		t.Errorf("%d descriptors were open, now %d are", before, after)
	}
}

// Close of a connection marks it first, and then has the loop close its socket.
func TestLoopDoesNotEndBeforeAConnectionThatIsBeingClosed(t *testing.T) {
	l := start(t)
	c, _ := pair(t, l)
	done := serve(t, c, func(*Strand) error { return c.AwaitRead() })
	waiting(t, &c.r)
	c.closed.Store(true) // as far as another goroutine has come with it
	go l.Close()
	until(t, l.shut)
	for range 100 {
		turn := make(chan struct{})
		if !l.post(func() { close(turn) }) {
			t.Fatal("the loop has ended, and the strand waits")
		}
		receive(t, turn)
		runtime.Gosched()
	}
	l.post(c.release)
	want(t, done, net.ErrClosed)
}

// Without a processor of their own, connections with Go's poller would wait for
// busy loops.
func TestGoHasAProcessorBesideThoseOfTheLoops(t *testing.T) {
	if n := Processors(); n < 1 || runtime.GOMAXPROCS(0) <= n || Processors() != n {
		t.Errorf("Go has %d processors, of which the loops keep %d and then %d", runtime.GOMAXPROCS(0), n, Processors())
	}
}
