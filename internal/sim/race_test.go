//go:build race

package sim

// raced: the race detector has goroutines run in random order, on purpose.
const raced = true
