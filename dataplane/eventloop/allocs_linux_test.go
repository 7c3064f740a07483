//go:build !race

package eventloop

import (
	"testing"
	"time"
)

func TestRoundOnTheLoopAllocatesNothing(t *testing.T) {
	c, far := pair(t, start(t))
	done := serve(t, c, func(s *Strand) error {
		for {
			c.SetReadDeadline(s.Now().Add(time.Minute))
			if err := c.AwaitRead(); err != nil {
				return err
			}
			n, err := c.Read(s.Loop().Scratch())
			if err != nil || n == 0 {
				return err
			}
			head, body := [4]byte{}, [8]byte{}
			c.SetWriteDeadline(s.Now().Add(time.Minute))
			if _, err := c.WriteParts(head[:], body[:]); err != nil {
				return err
			}
		}
	})
	request, answer := make([]byte, 100), make([]byte, 12)
	round := func() {
		if _, err := far.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(answer); err != nil {
			t.Fatal(err)
		}
	}
	round()
	if n := testing.AllocsPerRun(1000, round); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
	far.Close()
	<-done
}
