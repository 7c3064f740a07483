package process

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Ports are given out in blocks. The range lies below the ports that Linux
// (32768 and up), macOS and Windows (49152 and up) give to outgoing connections
// and to programs that ask for any port, so these do not take a port between its
// choice and the worker's bind.
const (
	firstPort = 20000
	lastPort  = 29999
	blockSize = 16
	blocks    = (lastPort + 1 - firstPort) / blockSize
)

// nextBlock goes round, so that a port rests before it is used again. The
// random start keeps several daemons apart.
var nextBlock atomic.Uint32

func init() { nextBlock.Store(rand.Uint32N(blocks)) }

// ports are one instance's: the first is for the worker's server, the last is
// held by the daemon as a lock that all daemons of this machine respect, and
// those in between are for the worker's other needs.
type ports struct {
	port int
	lock net.Listener
}

// reservePorts finds a block that nobody uses. The error wraps ErrCapacity.
func reservePorts() (*ports, error) {
	for range blocks {
		block := int(nextBlock.Add(1) % blocks)
		p := &ports{port: firstPort + block*blockSize}
		lock, err := net.Listen("tcp4", loopback(p.port+blockSize-1))
		if err != nil {
			continue
		}
		p.lock = lock
		if p.free() {
			return p, nil
		}
		p.release()
	}
	return nil, fmt.Errorf("%w: no free block of %d ports from %d to %d", dataplane.ErrCapacity, blockSize, firstPort, lastPort)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (p *ports) free() bool {
	for port := p.port; port < p.port+blockSize-1; port++ {
		if !bindable(port) {
			return false
		}
	}
	return !p.inUse()
}

func bindable(port int) bool {
	ln, err := net.Listen("tcp4", loopback(port))
	if err != nil {
		return false
	}
	_ = ln.Close()
	return true
}

// inUse tells that somebody listens on the worker's port. It connects as well:
// macOS lets a loopback address be bound beside another program's wildcard
// address.
func (p *ports) inUse() bool {
	if !bindable(p.port) {
		return true
	}
	conn, err := net.DialTimeout("tcp4", p.address(), dataplane.ConnectTimeout)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func (p *ports) address() string { return loopback(p.port) }

// safeRange is the inclusive range of SAGEMAKER_SAFE_PORT_RANGE.
func (p *ports) safeRange() string {
	return fmt.Sprintf("%d-%d", p.port+1, p.port+blockSize-2)
}

func (p *ports) release() { _ = p.lock.Close() }
