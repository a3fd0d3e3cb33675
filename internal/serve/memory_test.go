package serve

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What was used once goes back to the system when there is little to do, and only then.
func TestMemoryIsGivenBack(t *testing.T) {
	held := func() uint64 { _, n := memoryHeld(); return n }
	var m memory
	m.look()
	m.look() // nothing happened meanwhile
	var garbage [][]byte
	for range 64 {
		garbage = append(garbage, make([]byte, 1<<20))
	}
	for i := range garbage {
		garbage[i][0] = 1
	}
	before := held()
	clear(garbage)
	m.look() // what was allocated made it collect
	m.look()
	require.Less(t, held()+(48<<20), before)
	cycles := m.cycles
	m.look()
	require.Equal(t, cycles, m.cycles, "there is nothing more to give back")
}
