package wire

import "sync"

// Buffer sizes. A client sends little; a server's results move fastest in runs of 64 KiB.
const (
	SmallBuffer = 8 << 10
	LargeBuffer = 64 << 10
)

// A buffer is borrowed from a pool while it holds bytes.
type buffer struct{ b []byte }

var (
	smallBuffers = sync.Pool{New: func() any { return &buffer{make([]byte, SmallBuffer)} }}
	largeBuffers = sync.Pool{New: func() any { return &buffer{make([]byte, LargeBuffer)} }}
)

func takeBuffer(least int) *buffer {
	if least <= SmallBuffer {
		return smallBuffers.Get().(*buffer)
	}
	return largeBuffers.Get().(*buffer)
}

func putBuffer(b *buffer) {
	switch len(b.b) {
	case SmallBuffer:
		smallBuffers.Put(b)
	case LargeBuffer:
		largeBuffers.Put(b)
	}
}

// growBuffer returns a larger buffer with the same bytes. Sizes above LargeBuffer
// are not pooled: a huge message is paid for once.
func growBuffer(b *buffer) *buffer {
	var bigger *buffer
	if len(b.b) < LargeBuffer {
		bigger = takeBuffer(LargeBuffer)
	} else {
		bigger = &buffer{make([]byte, 2*len(b.b))}
	}
	copy(bigger.b, b.b)
	putBuffer(b)
	return bigger
}
