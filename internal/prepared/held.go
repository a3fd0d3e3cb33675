package prepared

import (
	"slices"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Held are the prepared statements that one server connection holds: shared ones, a
// bounded number of which the least recently used goes first, and the unnamed one. It
// belongs to the goroutine that has the connection.
type Held struct {
	shared  *simplelru.LRU[*Statement, struct{}]
	evicted []*Statement
	owed    []*Statement
	passing []*Statement
	// Unnamed tells whose unnamed statement is held: a tag its user chose; 0 is nobody's.
	Unnamed uint64
}

// NewHeld makes the Held of a new connection that shall hold up to size shared statements.
func NewHeld(size int) *Held {
	h := &Held{}
	// An EXECUTE that is itself prepared needs two at a time.
	shared, err := simplelru.NewLRU(max(size, 2), func(st *Statement, _ struct{}) {
		h.evicted = append(h.evicted, st)
	})
	if err != nil {
		panic(err) // only for a size below 1
	}
	h.shared = shared
	return h
}

// Holds reports whether s is held, and counts as a use of it.
func (h *Held) Holds(s *Statement) bool {
	_, ok := h.shared.Get(s)
	return ok
}

// Keeps reports whether s is held, and not only for the batch that it was prepared for.
func (h *Held) Keeps(s *Statement) bool { return h.Holds(s) && !slices.Contains(h.passing, s) }

// HoldsName reports whether the server has a statement of that name. It looks at all of them.
func (h *Held) HoldsName(name string) bool {
	named := func(s *Statement) bool { return s.Name == name }
	return slices.ContainsFunc(h.shared.Keys(), named) || slices.ContainsFunc(h.owed, named)
}

// Hold notes that s is held. evicted are statements to be closed on the server to make
// room; the slice is valid until the next call.
func (h *Held) Hold(s *Statement) (evicted []*Statement) {
	h.evicted = h.evicted[:0]
	h.shared.Add(s, struct{}{})
	return h.evicted
}

// Drop notes that s is not held any more, or may not be.
func (h *Held) Drop(s *Statement) {
	h.shared.Remove(s)
	h.evicted = h.evicted[:0]
}

// Owe notes that s, which is not to be held any more, was not closed on the server.
func (h *Held) Owe(s *Statement) { h.owed = append(h.owed, s) }

// Pass notes that s, which is held, is to be closed behind the batch that it was prepared for.
func (h *Held) Pass(s *Statement) { h.passing = append(h.passing, s) }

// TakeOwed returns what is still to be closed, which the caller does.
func (h *Held) TakeOwed() []*Statement {
	owed := h.owed
	for _, s := range h.passing {
		h.Drop(s)
		owed = append(owed, s)
	}
	h.owed, h.passing = nil, nil
	return owed
}

// Clear notes that nothing is held (DEALLOCATE ALL, DISCARD ALL).
func (h *Held) Clear() {
	h.owed, h.passing = nil, nil
	h.shared.Purge()
	h.evicted = h.evicted[:0]
	h.Unnamed = 0
}
