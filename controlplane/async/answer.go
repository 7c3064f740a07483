package async

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sagelocal/sagelocal/dataplane"
)

// errSpool: this machine has no room for what a container says.
var errSpool = errors.New("cannot be kept until it is written")

// answer is the sink of an invocation. It keeps what the container says: in memory
// up to inMemory, and beyond that in a file, because AWS takes answers of 1 GB
// (docs: async-inference). What an error answer says is kept up to the limit of
// ordinary answers, and in memory.
type answer struct {
	dir    string
	head   dataplane.Answer
	memory []byte
	file   *os.File
	size   int
}

// Begin is dataplane.Sink's. The worker uses the head's strings again.
func (a *answer) Begin(head *dataplane.Answer) error {
	a.head = dataplane.Answer{StatusCode: head.StatusCode, ContentType: strings.Clone(head.ContentType)}
	return nil
}

// Flush is dataplane.Sink's; nobody waits for the pieces.
func (a *answer) Flush() error { return nil }

// Write is dataplane.Sink's.
func (a *answer) Write(p []byte) (int, error) {
	if len(p) > a.limit()-a.size {
		return 0, fmt.Errorf("%w: %w", dataplane.ErrTooLarge, errTooLarge)
	}
	a.size += len(p)
	if a.file == nil && (!a.accepted() || a.size <= inMemory) {
		a.memory = append(a.memory, p...)
		return len(p), nil
	}
	if err := a.spill(); err != nil {
		return 0, err
	}
	n, err := a.file.Write(p)
	return n, spoolError(err)
}

func (a *answer) accepted() bool { return a.head.StatusCode/100 == 2 }

func (a *answer) limit() int {
	if a.accepted() {
		return maxPayload
	}
	return dataplane.MaxAnswer
}

// largest is the limit that err tells of: the sink's, or a worker's own.
func (a *answer) largest(err error) int {
	if errors.Is(err, errTooLarge) {
		return a.limit()
	}
	return dataplane.MaxAnswer
}

// spill goes on in a file.
func (a *answer) spill() (err error) {
	if a.file != nil {
		return nil
	}
	if a.file, err = os.CreateTemp(a.dir, spoolPattern); err == nil {
		_, err = a.file.Write(a.memory)
	}
	a.memory = nil
	return spoolError(err)
}

func spoolError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errSpool, err)
}

// payload is the whole answer; the sink is of no use any more.
func (a *answer) payload() (*payload, error) {
	if a.file == nil {
		return inline(a.memory), nil
	}
	defer a.drop()
	p, err := mapFile(a.file, a.size)
	return p, spoolError(err)
}

// drop lets go of the file. One that cannot be removed now is removed when the
// daemon starts.
func (a *answer) drop() {
	if a.file == nil {
		return
	}
	_ = a.file.Close() // a mapping outlives its file
	_ = os.Remove(a.file.Name())
	a.file = nil
}
