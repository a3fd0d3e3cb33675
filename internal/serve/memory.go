package serve

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/pgweir/pgweir/internal/grammar"
)

// Memory that is not used any more goes back to the system when there is little to do. By
// itself the runtime collects garbage when as much again was allocated, or two minutes have
// passed, and the C library gives nothing back at all: after many clients or statements
// their memory would stay.
const (
	quietInterval = 10 * time.Second // how often it is looked for
	quietLeast    = 16 << 20         // what is worth it, in bytes
)

// GiveBackMemory looks for memory to give back until ctx ends. It is for the process, however
// many proxies it runs.
func GiveBackMemory(ctx context.Context) {
	ticker := time.NewTicker(quietInterval)
	defer ticker.Stop()
	var m memory
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			m.look()
		}
	}
}

// memory is what is known of the process's memory since the last look. It belongs to one
// goroutine.
type memory struct {
	cycles uint64 // of the collector
	kept   uint64 // bytes that were held when all was given back, fading: it is looked again after a while
}

// look gives back what is not used, if much more is held than the last time and memory is not
// being collected all the time anyway.
func (m *memory) look() {
	cycles, held := memoryHeld()
	busy := cycles > m.cycles+1
	m.kept = min(m.kept-m.kept/16, held)
	if m.cycles = cycles; busy || held < m.kept+max(m.kept/2, quietLeast) {
		return
	}
	runtime.GC() // the stacks of goroutines that have ended are free for the next one
	debug.FreeOSMemory()
	grammar.GiveBack()
	m.cycles, m.kept = memoryHeld()
}

// memoryHeld returns how often the collector has run, and how many bytes the runtime holds.
func memoryHeld() (cycles, held uint64) {
	s := [...]metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s[:])
	return s[0].Value.Uint64(), s[1].Value.Uint64() - s[2].Value.Uint64()
}
