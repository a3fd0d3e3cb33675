package backend

import (
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pgweir/pgweir/internal/prepared"
)

// statements are those one backend holds, bounded; the least recently used goes first.
type statements struct {
	held    *simplelru.LRU[*prepared.Statement, struct{}]
	evicted []*prepared.Statement
}

func newStatements(size int) *statements {
	s := &statements{}
	// An EXECUTE that is itself prepared needs two at a time.
	held, err := simplelru.NewLRU(max(size, 2), func(st *prepared.Statement, _ struct{}) {
		s.evicted = append(s.evicted, st)
	})
	if err != nil {
		panic(err) // only for a size below 1
	}
	s.held = held
	return s
}

func (s *statements) clear() {
	s.held.Purge()
	s.evicted = s.evicted[:0]
}

// Holds reports whether s is prepared on b, and counts as a use of it.
func (b *Backend) Holds(s *prepared.Statement) bool {
	_, ok := b.held.held.Get(s)
	return ok
}

// Hold notes that s is prepared on b. evicted are statements to be closed there
// to make room; the slice is valid until the next call.
func (b *Backend) Hold(s *prepared.Statement) (evicted []*prepared.Statement) {
	b.held.evicted = b.held.evicted[:0]
	b.held.held.Add(s, struct{}{})
	return b.held.evicted
}

// Drop notes that s is not prepared on b any more, or may not be.
func (b *Backend) Drop(s *prepared.Statement) {
	b.held.held.Remove(s)
	b.held.evicted = b.held.evicted[:0]
}

// DropAll notes that b holds no statements (DEALLOCATE ALL, DISCARD ALL).
func (b *Backend) DropAll() {
	b.held.clear()
	b.Unnamed = 0
}
