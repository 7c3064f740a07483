package eventloop

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// toPost is larger than what two sockets hold.
var toPost = bytes.Repeat([]byte("0123456789abcdef"), 1<<20)

// postBetween runs f on a connection that has posted a head and a body. The channel
// has the error that Settle gave, after f.
func postBetween(t *testing.T, enter func(*Strand), c *Conn, f func() error) (sent <-chan bool, done <-chan error) {
	all := make(chan bool, 1)
	return all, serve(t, c, func(s *Strand) error {
		enter(s)
		c.Post([]byte("head"), toPost)
		failed := f()
		ok, err := c.Settle()
		all <- ok
		return errors.Join(failed, err)
	})
}

func TestWhatIsPostedIsWrittenWhileAnEchoIsRead(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		near, far := sockets(t, true)
		c := adopt(t, start(t), near)
		sent, done := postBetween(t, enter, c, func() error {
			got := make([]byte, len("head")+len(toPost))
			if _, err := io.ReadFull(c, got); err != nil {
				return err
			}
			if string(got[:4]) != "head" || !bytes.Equal(got[4:], toPost) {
				t.Error("other bytes came back")
			}
			return nil
		})
		go func() { _, _ = io.Copy(far, far) }()
		if !receive(t, sent) {
			t.Error("not all is said to be sent")
		}
		want(t, done, nil)
	})
}

func TestAnswerCanBeReadBeforeAllThatIsPostedWasTaken(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		c, far := pair(t, start(t))
		sent, done := postBetween(t, enter, c, func() error {
			if err := c.AwaitRead(); err != nil {
				return err
			}
			answer := make([]byte, 2)
			_, err := io.ReadFull(c, answer)
			if string(answer) != "no" {
				t.Errorf("read %q", answer)
			}
			return err
		})
		expect(t, far, "head")
		send(t, far, "no")
		if receive(t, sent) {
			t.Error("16 MB that nobody read are said to be sent")
		}
		want(t, done, nil)
	})
}

func TestPostOnABrokenConnectionTellsSoWhenItIsSettled(t *testing.T) {
	modes(t, func(t *testing.T, enter func(*Strand)) {
		c, far := pair(t, start(t))
		sent, done := postBetween(t, enter, c, func() error {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("something was read")
			}
			return nil
		})
		expect(t, far, "head")
		if err := errors.Join(far.SetLinger(0), far.Close()); err != nil {
			t.Fatal(err)
		}
		if receive(t, sent) {
			t.Error("all is said to be sent")
		}
		<-done
	})
}

func TestWhatIsPostedAtOnceNeedsNoRead(t *testing.T) {
	c, far := pair(t, start(t))
	done := serve(t, c, func(*Strand) error {
		c.Post([]byte("head"), []byte(" and body"))
		if sent, err := c.Settle(); !sent || err != nil {
			t.Errorf("sent %t, error %v", sent, err)
		}
		return nil
	})
	expect(t, far, "head and body")
	want(t, done, nil)
}
