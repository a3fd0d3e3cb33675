package insight

import "time"

// repeats is how often a statement must come in one unit to be a pattern, and fanOut how
// many counts of one table.
const (
	repeats = 5
	fanOut  = 3
)

// detect looks for patterns in the unit that is over.
func (s *Session) detect() {
	u := &s.unit
	counting := 0
	for i := range u.uses {
		s.repeated(i)
		if u.uses[i].statement.Shape().Counts {
			counting++
		}
	}
	if counting > 0 {
		s.counted()
		s.paged()
	}
	if u.transaction != 0 && u.longest >= s.book.options.Idle {
		x := &u.uses[u.after]
		s.report(IdleInTransaction, x.statement, &occurrence{calls: 1, wasted: u.idle, place: x.place})
	}
}

// repeated finds a read that came again and again: with other parameters it is N+1, with
// the same it is a duplicate. Outside of a transaction what follows quickly need not belong
// together, so there must be a statement before it that returned about as many rows.
func (s *Session) repeated(i int) {
	x := &s.unit.uses[i]
	if x.calls < repeats || !x.statement.Shape().Reads {
		return
	}
	each := x.took / time.Duration(x.calls)
	parent, counted := s.parent(i)
	block := s.unit.transaction != 0
	if x.distinct >= repeats && (block || parent != nil) {
		o := occurrence{calls: x.distinct, wasted: each * time.Duration(x.distinct-1), place: x.place, parent: counted}
		if parent != nil {
			o.others[0] = parent
		}
		s.report(NPlusOne, x.statement, &o)
	}
	if again := x.calls - x.distinct; again >= repeats-1 && block {
		s.report(Duplicate, x.statement, &occurrence{calls: again + 1, wasted: each * time.Duration(again), place: x.place})
	}
}

// parent is the nearest statement before use i that returned about as many rows as that
// has executions. If rows are not known, it is the one right before, if it may return
// several; counted is whether they are. nil is none.
func (s *Session) parent(i int) (parent *Statement, counted bool) {
	uses := s.unit.uses
	n := uint64(uses[i].distinct)
	for j := i - 1; j >= 0; j-- {
		if p := &uses[j]; !p.uncounted && p.rows >= n && p.rows <= 2*n {
			return p.statement, true
		}
	}
	if i == 0 || !uses[i-1].uncounted || s.unit.ended.IsZero() {
		return nil, false
	}
	if p := uses[i-1].statement; p.Shape().Reads && (p.Shape().several() || p.Shape().Bound == BoundLimit) {
		return p, false
	}
	return nil, false
}

// counted finds several counts of one table that differ in their conditions. Outside of a
// transaction these must be different statements, as one may come from several requests.
func (s *Session) counted() {
	uses := s.unit.uses
	for i := range uses {
		first := uses[i].statement
		if !first.Shape().Counts || s.countedBefore(i) {
			continue
		}
		o := occurrence{place: uses[i].place}
		different := 0
		for j := i; j < len(uses); j++ {
			x := &uses[j]
			if !x.statement.Shape().Counts || x.statement.Shape().Table != first.Shape().Table {
				continue
			}
			if j > i && different <= len(o.others) {
				o.others[different-1] = x.statement
			}
			different++
			o.calls += x.distinct
			o.wasted += x.took
		}
		if o.calls < fanOut || s.unit.transaction == 0 && different < fanOut {
			continue
		}
		o.wasted -= o.wasted / time.Duration(o.calls) // one is needed
		s.report(CountFanOut, first, &o)
	}
}

// countedBefore reports whether use i counts a table that one before it counts.
func (s *Session) countedBefore(i int) bool {
	for j := range i {
		if x := s.unit.uses[j].statement; x.Shape().Counts && x.Shape().Table == s.unit.uses[i].statement.Shape().Table {
			return true
		}
	}
	return false
}

// paged finds a page and the count of what it is a page of.
func (s *Session) paged() {
	uses := s.unit.uses
	for i := range uses {
		page := uses[i].statement
		if page.Shape().Bound != BoundLimit || page.Shape().Counts || page.Shape().Source == "" {
			continue
		}
		for j := range uses {
			if n := uses[j].statement; n.Shape().Counts && n.Shape().Source == page.Shape().Source {
				s.report(PageAndCount, page, &occurrence{calls: 2, wasted: uses[j].took, others: [2]*Statement{n}, place: uses[i].place})
				break
			}
		}
	}
}

func (s *Session) report(kind Kind, x *Statement, o *occurrence) {
	o.route, o.app = s.Who.Route, s.Who.Application
	s.book.report(kind, x, o)
}
