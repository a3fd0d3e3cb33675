//go:build !linux

package grammar

// threadStack is the size in bytes that threads get at least: macOS gives them 512 KiB.
func threadStack() int { return 512 << 10 }

// currentStack is not known.
func currentStack() uint64 { return 0 }
