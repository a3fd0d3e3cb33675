package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Seed is what a run is a function of. Everything that is drawn comes from a stream of
// its own, named by what it is for, so that a draw more in one place changes nothing in
// another.
type Seed uint64

// stream returns the stream of that name. It is for one goroutine at a time.
func (s Seed) stream(name ...any) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprintln(h, name...)
	return rand.New(rand.NewPCG(uint64(s), h.Sum64()))
}

// chance reports true n times in a thousand.
func chance(r *rand.Rand, n int) bool { return r.IntN(1000) < n }

// between draws a duration; equal ones are unlikely, so that what happens at different
// places happens one after the other in virtual time.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)+1))
}

// pick draws one of several.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }
