package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What was used once goes back to the system when there is little to do, and only then.
func TestMemoryIsGivenBack(t *testing.T) {
	held := func() uint64 { _, n := memoryHeld(); return n }
	m, now := memory{}, time.Now()
	look := func() { now = now.Add(quietInterval); m.tend(now) }
	look()
	look() // nothing happened meanwhile
	var garbage [][]byte
	for range 64 {
		garbage = append(garbage, make([]byte, 1<<20))
	}
	for i := range garbage {
		garbage[i][0] = 1
	}
	before := held()
	clear(garbage)
	m.tend(now.Add(quietInterval / 2))
	require.Greater(t, held()+(8<<20), before, "looked too early")
	look() // what was allocated made it collect
	look()
	require.Less(t, held()+(48<<20), before)
	cycles := m.cycles
	look()
	require.Equal(t, cycles, m.cycles, "there is nothing more to give back")
}
