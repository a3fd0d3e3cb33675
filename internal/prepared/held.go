package prepared

import (
	"math"
	"slices"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Held are the prepared statements that one server connection holds: shared ones, and the unnamed
// one. Between batches it holds a bounded number of shared ones, of which the least recently used goes
// first; within one what it holds stays, as what is parsed anew may be something else. It belongs to
// the goroutine that has the connection.
type Held struct {
	shared  *simplelru.LRU[*Statement, struct{}]
	size    int
	owed    []*Statement
	passing []*Statement
	// Unnamed tells whose unnamed statement is held: a tag its user chose; 0 is nobody's.
	Unnamed uint64
}

// NewHeld makes the Held of a new connection that shall keep up to size shared statements.
func NewHeld(size int) *Held {
	shared, err := simplelru.NewLRU[*Statement, struct{}](math.MaxInt, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Held{shared: shared, size: size}
}

// Holds reports whether s is held, and counts as a use of it.
func (h *Held) Holds(s *Statement) bool {
	_, ok := h.shared.Get(s)
	return ok
}

// HoldsName reports whether the server has a statement of that name. It looks at all of them.
func (h *Held) HoldsName(name string) bool {
	named := func(s *Statement) bool { return s.Name == name }
	return slices.ContainsFunc(h.shared.Keys(), named) || slices.ContainsFunc(h.owed, named)
}

// Hold notes that s is held.
func (h *Held) Hold(s *Statement) { h.shared.Add(s, struct{}{}) }

// Drop notes that s is not held any more, or may not be.
func (h *Held) Drop(s *Statement) { h.shared.Remove(s) }

// Owe notes that s, which is not to be held any more, was not closed on the server.
func (h *Held) Owe(s *Statement) { h.owed = append(h.owed, s) }

// Pass notes that s, which is held, is not to be beyond the batch that it was prepared for.
func (h *Held) Pass(s *Statement) { h.passing = append(h.passing, s) }

// EndBatch says that a batch is over: what is not to be held any more is to be closed.
func (h *Held) EndBatch() {
	for _, s := range h.passing {
		if h.shared.Remove(s) {
			h.owed = append(h.owed, s)
		}
	}
	for h.passing = nil; h.shared.Len() > h.size; {
		s, _, _ := h.shared.RemoveOldest()
		h.owed = append(h.owed, s)
	}
}

// TakeOwed returns what is still to be closed, which the caller does.
func (h *Held) TakeOwed() []*Statement {
	owed := h.owed
	h.owed = nil
	return owed
}

// Clear notes that nothing is held (DEALLOCATE ALL, DISCARD ALL).
func (h *Held) Clear() {
	h.owed, h.passing = nil, nil
	h.shared.Purge()
	h.Unnamed = 0
}
