package eventloop

import (
	"errors"

	"golang.org/x/sys/unix"
)

// posted is what the other side has not taken yet.
type posted struct {
	head, body []byte
	err        error
}

func (p *posted) left() bool { return len(p.head)+len(p.body) > 0 }

// Post writes two parts as one as far as the other side takes them at once. The
// Reads that follow write the rest while they wait: who answers before it has read
// everything, or echoes as it reads, must not wait for who writes everything
// before it reads. Settle has to be called before the parts are used again.
func (c *Conn) Post(head, body []byte) {
	c.out = posted{head: head, body: body}
	c.push()
}

// Settle ends what Post has begun: sent tells that all was written.
func (c *Conn) Settle() (sent bool, err error) {
	sent, err = !c.out.left() && c.out.err == nil, c.out.err
	c.out = posted{}
	if err != nil {
		err = c.failed("write", err)
	}
	return sent, err
}

// push writes of what was posted as much as goes without waiting.
func (c *Conn) push() {
	p := &c.out
	for p.left() && c.w.ready.Load() {
		c.strand.share()
		n, err := c.writeSome(p.head, p.body)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil { // the reader learns what the other side has to say of it
			*p = posted{err: err}
			return
		}
		taken := min(n, len(p.head))
		p.head, p.body = p.head[taken:], p.body[n-taken:]
	}
}

// writeSome makes one system call; EAGAIN comes with a later event.
func (c *Conn) writeSome(head, body []byte) (int, error) {
	c.w.ready.Store(false)
	n, err := c.try(func(fd int) (int, error) { return write(fd, head, body) })
	if !errors.Is(err, unix.EAGAIN) {
		c.w.ready.Store(true)
		c.strand.copied(n)
	}
	return n, err
}
