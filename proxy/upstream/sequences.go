package upstream

import (
	"sync"
	"sync/atomic"

	"github.com/pgweir/pgweir/router"
)

// A session may ask what a sequence gave it (lastval, currval), most often right behind the
// INSERT that drew from it, and only the server process that drew can tell. A connection is
// held for that question as long as it is likely to come; most applications say RETURNING and
// never ask. So it is learned, by table.

// Sequences are what was learned of a user's sessions in a database. Safe for concurrent use. The zero
// value has learned nothing.
type Sequences struct {
	expectations sync.Map // of *Expectation, by the name of a table or function
	n            atomic.Int64
	made         sync.Once
	code         Expectation // for what draws, if at all, by code that the text does not name
	others       Expectation // for what is beyond maxExpectations
}

// maxExpectations bounds the names remembered.
const maxExpectations = 10000

// Expectation is how likely a session asks after a statement of a kind.
type Expectation struct{ misses atomic.Int64 }

// What is held for in vain patience times in a row is not held for any more; who asks earns
// credit for many more times.
const (
	patience = 3
	credit   = 100
)

// Likely reports whether it is worth while to hold the connection for the question.
func (e *Expectation) Likely() bool { return e.misses.Load() < patience }

// Asked says that the question came.
func (e *Expectation) Asked() { e.misses.Store(-credit) }

// Missed says that something else came, or nothing.
func (e *Expectation) Missed() {
	if e.Likely() {
		e.misses.Add(1)
	}
}

// Expect returns what was learned of statements with such a plan.
func (s *Sequences) Expect(p *router.Plan) *Expectation {
	name := ""
	switch {
	case p.Flags.Has(router.FlagSequence):
		name = "currval" // having asked, it may ask again
	case p.Flags.Has(router.FlagDraws) && len(p.Relations) > 0:
		name = p.Relations[0]
	case len(p.Functions) > 0:
		name = p.Functions[0] + "()"
	}
	if name == "" {
		s.made.Do(func() { s.code.misses.Store(patience) })
		return &s.code
	}
	if e, ok := s.expectations.Load(name); ok {
		return e.(*Expectation)
	}
	if s.n.Load() >= maxExpectations {
		return &s.others
	}
	fresh := &Expectation{}
	if p.Flags&(router.FlagDraws|router.FlagSequence) == 0 {
		fresh.misses.Store(patience) // its code may draw, if somebody asks for it
	}
	e, known := s.expectations.LoadOrStore(name, fresh)
	if !known {
		s.n.Add(1)
	}
	return e.(*Expectation)
}
