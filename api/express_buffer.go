package api

import "sync"

// buffer is memory for requests, from the smallest class that is large enough:
// thousands of callers may wait for their answers at once.
type buffer struct {
	bytes []byte
	class int
}

var (
	bufferClasses = [...]int{1 << 10, 4 << 10, 16 << 10, expressHead, 256 << 10, 1<<20 + expressHead, expressBuffer}
	bufferPools   [len(bufferClasses)]sync.Pool
)

// borrow gives room for n bytes, at most expressBuffer.
func borrow(n int) *buffer {
	class := 0
	for bufferClasses[class] < n {
		class++
	}
	if b, ok := bufferPools[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{bytes: make([]byte, bufferClasses[class]), class: class}
}

func (b *buffer) giveBack() { bufferPools[b.class].Put(b) }
