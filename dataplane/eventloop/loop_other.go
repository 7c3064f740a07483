//go:build !linux

package eventloop

import (
	"errors"
	"net"
	"time"
)

// Loop cannot be had here.
type Loop struct{}

// Processors is how many loops can be busy at once.
func Processors() int { return 1 }

// Start says so.
func Start() (*Loop, error) { return nil, errors.ErrUnsupported }

// Scratch is memory for the strand that runs on the loop, until it waits.
func (*Loop) Scratch() []byte { return nil }

// ID is the loop's own.
func (*Loop) ID() int { return 0 }

// Go runs f as a strand of the loop; false when the loop has been closed.
func (*Loop) Go(func(*Strand)) bool { return false }

func (*Loop) post(func()) bool { return false }

func (*Loop) spawn(func()) {}

// Now is the time of the last batch of events.
func (*Loop) Now() time.Time { return time.Now() }

// Adopt takes a connection from Go's poller to the loop's.
func (*Loop) Adopt(*net.TCPConn) (*Conn, error) { return nil, errors.ErrUnsupported }

// Close ends the loop.
func (*Loop) Close() {}

// Conn is a TCP connection that a loop watches; there is none here.
type Conn struct{ net.Conn }

// Bind says which strand uses the connection.
func (*Conn) Bind(*Strand) {}

// Loop is what watches the connection.
func (*Conn) Loop() *Loop { return nil }

// Watch lets the loop tell of events.
func (*Conn) Watch() error { return errors.ErrUnsupported }

// AwaitRead returns when Read has something to give.
func (*Conn) AwaitRead() error { return errors.ErrUnsupported }

// WriteParts writes two parts as one.
func (*Conn) WriteParts(_, _ []byte) (int, error) { return 0, errors.ErrUnsupported }

// Post writes two parts as one while Reads wait.
func (*Conn) Post(_, _ []byte) {}

// Settle ends what Post has begun.
func (*Conn) Settle() (sent bool, err error) { return false, errors.ErrUnsupported }

// CloseWrite ends what this side sends.
func (*Conn) CloseWrite() error { return errors.ErrUnsupported }

// Ended tells that the other side has closed its end.
func (*Conn) Ended() bool { return true }

// Quiet tells that nothing has happened on the connection since its last answer.
func (*Conn) Quiet() bool { return false }
