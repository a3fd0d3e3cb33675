package insight

import (
	"slices"
	"time"
)

// Who sends statements. Strings are kept.
type Who struct {
	Database          string // as statements have it
	User, Application string
	Route             string        // of the application's request, as a comment in the text tells
	Tenant            func() string // hashed; asked now and then. nil: there are none
}

// Event is one statement that has ended.
type Event struct {
	Statement *Statement
	Route     *Route // that it serves; nil: as the one before
	Target    Target
	Reason    string // why there, of a constant set
	Place     Place
	// Transaction is the number of the transaction block, other for each of a session; 0 is
	// none. Ends: it ended with this statement.
	Transaction uint64
	Ends        bool
	// Batch is a number that statements have in common which were sent before any of them
	// was answered. Nobody waited between them.
	Batch  uint64
	Params uint64 // hash of its literals and parameters
	Offset int64  // rows skipped; 0 if nobody knows
	Rows   uint64
	Bytes  uint64    // of rows, with their frames
	Began  time.Time // zero if nobody knows
	// Duration is from then to its end, Waited what passed before, for a connection.
	Duration, Waited   time.Duration
	Failed             bool
	Untimed, Uncounted bool // Duration and Waited, or rows and bytes, are not known
}

// Session is what one client did lately. One goroutine uses it at a time.
type Session struct {
	Who Who

	book   *Book
	exempt bool
	route  *Route
	unit   unit
}

// NewSession makes the Session of a client.
func (b *Book) NewSession(w Who) *Session {
	name, version := splitVersion(w.Application)
	b.sawVersion(name, version)
	return &Session{
		Who: w, book: b, exempt: slices.Contains(b.options.Exempt, w.Application),
		route: b.Route(w.Database, name, []byte(w.Route), func(text []byte) string { return string(text) }),
	}
}

// Route is the one of that name of the session's application, which allocates nothing if it
// was asked for before: see Book.Route.
func (s *Session) Route(name []byte, shown func([]byte) string) *Route {
	return s.book.Route(s.Who.Database, s.route.Application, name, shown)
}

// pause is how long a client without a transaction may do nothing within one unit.
const pause = 50 * time.Millisecond

// maxUses bounds the statements of a unit that are told apart, and maxSeen the executions.
const (
	maxUses = 100
	maxSeen = 2000
	keepSet = 200 // executions whose set is worth keeping
)

// unit is what belongs together: a transaction, or what a client without one did without
// a pause.
type unit struct {
	transaction uint64
	statements  int
	took        time.Duration
	ended       time.Time // the last statement
	uses        []use
	seen        map[execution]struct{} // of statements that came twice
	idle        time.Duration          // waited for the client, in a transaction
	after       int                    // the use behind which it waited longest
	longest     time.Duration
}

// execution is a statement with its parameters.
type execution struct {
	use    int
	params uint64
}

// use is what a unit did with one statement.
type use struct {
	statement *Statement
	calls     int // that somebody waited for: one for each batch
	distinct  int // by parameters
	batch     uint64
	first     uint64 // the first one's parameters
	rows      uint64 // the most that one returned
	uncounted bool
	took      time.Duration
	place     Place
}

// Ran takes in a statement that has ended. It allocates nothing once the session has
// seen as many different statements in a unit.
func (s *Session) Ran(e *Event) {
	u := &s.unit
	if e.Route != nil && e.Route != s.route {
		if u.transaction == 0 || e.Transaction != u.transaction {
			s.End()
		}
		s.route, s.Who.Route = e.Route, e.Route.Name
	}
	e.Statement.ran(e, &s.Who)
	gap := time.Duration(0)
	if !e.Began.IsZero() && !u.ended.IsZero() {
		gap = e.Began.Sub(u.ended)
	}
	switch {
	case e.Transaction != u.transaction, e.Transaction == 0 && gap > pause:
		s.End()
		u.transaction = e.Transaction
	case e.Transaction != 0:
		u.waited(gap)
	}
	u.add(e)
	if !e.Began.IsZero() {
		u.ended = e.Began.Add(e.Duration)
	}
	if e.Ends {
		s.End()
	}
}

// waited notes that the transaction did nothing.
func (u *unit) waited(d time.Duration) {
	if d <= 0 || len(u.uses) == 0 {
		return
	}
	if u.idle += d; d > u.longest {
		u.longest, u.after = d, len(u.uses)-1
	}
}

func (u *unit) add(e *Event) {
	u.statements++
	u.took += e.Duration
	i := u.find(e.Statement)
	if i < 0 {
		if len(u.uses) < maxUses {
			u.uses = append(u.uses, use{
				statement: e.Statement, calls: 1, distinct: 1, batch: e.Batch, first: e.Params,
				rows: e.Rows, uncounted: e.Uncounted, took: e.Duration, place: e.Place,
			})
		}
		return
	}
	x := &u.uses[i]
	x.took += e.Duration
	x.rows = max(x.rows, e.Rows)
	if e.Batch == x.batch {
		return
	}
	x.batch = e.Batch
	if x.calls++; x.calls == 2 {
		u.isNew(execution{i, x.first})
	}
	if u.isNew(execution{i, e.Params}) {
		x.distinct++
	}
}

// find looks among the last first: patterns repeat what is near.
func (u *unit) find(s *Statement) int {
	for i := len(u.uses) - 1; i >= 0; i-- {
		if u.uses[i].statement == s {
			return i
		}
	}
	return -1
}

// isNew notes an execution and reports whether it was none before.
func (u *unit) isNew(x execution) bool {
	if _, ok := u.seen[x]; ok {
		return false
	}
	if len(u.seen) < maxSeen {
		if u.seen == nil {
			u.seen = make(map[execution]struct{})
		}
		u.seen[x] = struct{}{}
	}
	return true
}

// End says that what the client did belongs together, and is over: it is looked at.
func (s *Session) End() {
	u := &s.unit
	if len(u.uses) > 0 {
		s.route.served(u)
		if !s.exempt {
			s.detect()
		}
	}
	seen := u.seen
	if len(seen) > keepSet {
		seen = nil
	}
	clear(seen)
	clear(u.uses)
	*u = unit{uses: u.uses[:0], seen: seen}
}
