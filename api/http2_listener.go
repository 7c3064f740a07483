package api

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// tlsRecord is the first byte of a connection over TLS: a handshake record.
const tlsRecord = 0x16

// eitherListener takes connections with and without TLS. It waits for each one's
// first byte beside the others.
type eitherListener struct {
	net.Listener
	config *tls.Config
	ready  chan net.Conn
	slots  chan struct{} // one for each connection
	failed chan struct{} // closed when Listener fails
	err    error         // of Listener
	begin  sync.Once
}

func newEitherListener(ln net.Listener, config *tls.Config) *eitherListener {
	return &eitherListener{
		Listener: ln, config: config, ready: make(chan net.Conn),
		slots: make(chan struct{}, maxHTTP2Connections), failed: make(chan struct{}),
	}
}

// Accept is net.Listener's.
func (l *eitherListener) Accept() (net.Conn, error) {
	l.begin.Do(func() { go l.run() })
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.failed:
		return nil, l.err
	}
}

func (l *eitherListener) run() {
	defer close(l.failed)
	for {
		l.slots <- struct{}{}
		c, err := l.Listener.Accept()
		if err != nil {
			l.err = err
			return
		}
		go l.tell(&slotConn{Conn: c, slots: l.slots})
	}
}

// tell finds out what a connection is.
func (l *eitherListener) tell(c *slotConn) {
	c.r = bufio.NewReaderSize(c.Conn, 1<<10)
	_ = c.SetReadDeadline(time.Now().Add(handshakeTimeout)) // an error is Peek's too
	first, err := c.r.Peek(1)
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = c.Close() // nobody has sent anything
		return
	}
	var conn net.Conn = c
	if first[0] == tlsRecord {
		conn = tls.Server(c, l.config)
	}
	select {
	case l.ready <- conn:
	case <-l.failed:
		_ = c.Close() // the server is going
	}
}

// slotConn is a connection of which the first bytes have been read, and which
// gives its slot back.
type slotConn struct {
	net.Conn
	r     *bufio.Reader // nil once it is empty; of the goroutine that reads
	slots chan struct{}
	once  sync.Once
}

// Read is net.Conn's.
func (c *slotConn) Read(p []byte) (int, error) {
	if c.r == nil {
		return c.Conn.Read(p)
	}
	if c.r.Buffered() == 0 {
		c.r = nil
		return c.Conn.Read(p)
	}
	return c.r.Read(p)
}

// Close is net.Conn's.
func (c *slotConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}
