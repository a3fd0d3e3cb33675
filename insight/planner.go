package insight

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"
)

// Planned is what is known of the plans of one statement. It never changes.
type Planned struct {
	*Plan
	// Asked is when a server last said so, and Since when it first did after another Shape,
	// or at all.
	Asked time.Time `json:"asked"`
	Since time.Time `json:"since"`
	// Before is the plan of another shape, if there was one.
	Before *Plan `json:"before,omitempty"`
	// Usual and Earlier are how long calls took by the plan, and by that before it.
	Usual   Pace `json:"usual,omitzero"`
	Earlier Pace `json:"earlier,omitzero"`
}

// Pace is how long some calls of a statement took.
type Pace struct {
	Calls uint64        `json:"calls"`
	P95   time.Duration `json:"p95_ns"` // the bound of a power of two
	Mean  time.Duration `json:"mean_ns"`
}

// slower reports whether calls take twice as long as they did at a pace p, and not just because
// they are close to the bound of a bucket.
func (p Pace) slower(than Pace) bool {
	return p.Calls > 0 && than.Calls > 0 && p.P95 >= 2*than.P95 && p.Mean >= 2*than.Mean
}

// regressed reports whether calls are slower since the shape changed.
func (p *Planned) regressed() bool { return p.Before != nil && p.Usual.slower(p.Earlier) }

// Planner keeps what servers say of the plans of a Book's statements, in as many bytes as the
// statements may take, and knows which of them should be asked for. One goroutine uses it.
type Planner struct {
	book   *Book
	every  time.Duration
	pace   map[*Statement]*paced   // of those with a plan
	failed map[*Statement]struct{} // of which no server said any
	bytes  int
}

// paced are the calls of a statement that were there when its pace was last found.
type paced struct {
	totals
	asked bool // meanwhile a server said that the plan is the same: another pace has another cause
	slow  Pace // because of which it was asked for
	told  bool // that calls are slower by the plan
}

// minCalls is how many calls make a pace.
const minCalls = 20

// soonest is how long a plan is good enough, whatever becomes of the times or the catalog.
func (p *Planner) soonest() time.Duration { return p.every / 60 }

// planCounts are what a Planner did.
type planCounts struct{ asked, failed, left, changed atomic.Uint64 }

// NewPlanner makes the Planner of b, by which each plan is asked for again after some time.
func (b *Book) NewPlanner(every time.Duration) *Planner {
	return &Planner{book: b, every: every, pace: map[*Statement]*paced{}, failed: map[*Statement]struct{}{}}
}

// PlanDue reports whether a server should be asked for the plan of s at a time, in seconds
// since 1970. Never for what stands for other statements.
func (s *Statement) PlanDue(now int64) bool { return s.planAt.Load() <= now && s.Fingerprint != "" }

// Planned is what is known of the plans of s; nil if nothing is.
func (s *Statement) Planned() *Planned { return s.planned.Load() }

// Failed notes that a server was asked at a time and did not say.
func (p *Planner) Failed(s *Statement, now time.Time) {
	s.planAt.Store(now.Add(p.every).Unix())
	p.failed[s] = struct{}{}
	p.book.plans.failed.Add(1)
}

// Note notes what a server said at a time. It returns what became of the plan if it has
// another shape now; nil if not.
func (p *Planner) Note(s *Statement, plan *Plan, now time.Time) (changed *Planned) {
	s.planAt.Store(now.Add(p.every).Unix())
	delete(p.failed, s)
	next := &Planned{Plan: plan, Asked: now, Since: now}
	was := s.planned.Load()
	before := 0
	if was != nil {
		before = was.size()
		if next.Before, next.Earlier = was.Plan, was.Usual; was.Shape == plan.Shape {
			next.Before, next.Since, next.Usual, next.Earlier = was.Before, was.Since, was.Usual, was.Earlier
		}
	}
	size := next.size()
	if p.bytes+size-before > p.book.options.MaxBytes {
		p.book.plans.left.Add(1)
		return nil
	}
	p.bytes += size - before
	defer s.planned.Store(next)
	p.book.plans.asked.Add(1)
	if was != nil && was.Shape == plan.Shape {
		p.pace[s].asked = true
		return nil
	}
	from := p.pace[s]
	p.pace[s] = &paced{totals: s.all()}
	if was == nil {
		return nil
	}
	next.Usual = from.slow
	p.book.plans.changed.Add(1)
	return next
}

// size is the memory that the plans take.
func (p *Planned) size() int {
	n := int(unsafe.Sizeof(*p)+unsafe.Sizeof(paced{})) + p.Plan.size()
	if p.Before != nil {
		n += p.Before.size()
	}
	return n
}

// Review finds how long calls take now. Statements whose 95th percentile doubled are due to
// be planned anew. It returns those of which it is new that they are slower by another plan.
func (p *Planner) Review(now time.Time) (slower []*Statement) {
	for s, from := range p.pace {
		all := s.all()
		if pace := all.since(&from.totals); pace.Calls >= minCalls {
			from.totals = all
			p.review(s, from, pace, now)
		}
		if !from.told && s.planned.Load().regressed() {
			from.told = true
			slower = append(slower, s)
		}
	}
	return slower
}

// review takes in the pace of the calls since the last time.
func (p *Planner) review(s *Statement, from *paced, pace Pace, now time.Time) {
	was := s.planned.Load()
	if pace.slower(was.Usual) && !from.asked { // it may have another plan, whose pace this is
		if now.Sub(was.Asked) >= p.soonest() {
			from.slow = pace
			s.planAt.Store(now.Unix())
		}
		return
	}
	next := *was
	next.Usual, from.asked, from.slow = pace, false, Pace{}
	s.planned.Store(&next)
}

// Again says that the plans of a database may have changed, as by CREATE INDEX, or that what a
// replica did not know may be there now.
func (p *Planner) Again(database string, now time.Time) {
	for s := range p.pace {
		if s.Database == database {
			s.planAt.Store(max(now.Unix(), min(s.planAt.Load(), s.planned.Load().Asked.Add(p.soonest()).Unix())))
		}
	}
	for s := range p.failed {
		if s.Database == database {
			s.planAt.Store(now.Unix())
			delete(p.failed, s)
		}
	}
}

// all are the calls on all servers.
func (s *Statement) all() (sum totals) {
	for target := range targets {
		c := s.counts[target].read()
		sum.join(&c)
		for i := range c.times {
			sum.times[i] += c.times[i]
		}
	}
	return sum
}

// since is the pace of the calls that t has more than those before.
func (t *totals) since(before *totals) Pace {
	var times [timeBuckets]uint64
	var calls uint64
	for i := range times {
		times[i] = t.times[i] - before.times[i]
		calls += times[i]
	}
	if calls == 0 {
		return Pace{}
	}
	return Pace{Calls: calls, P95: quantile(times[:], 0.95, timeBound), Mean: (t.took - before.took) / time.Duration(calls)}
}

// Change says what differs between two plans: the ways by which they read relations, or else
// what they do with them.
func (p *Plan) Change(after *Plan) string {
	was, is := without(p.Access(), after.Access()), without(after.Access(), p.Access())
	if len(was) == 0 && len(is) == 0 {
		was, is = p.types(), after.types()
		was, is = without(was, is), without(is, was)
	}
	if len(was) == 0 && len(is) == 0 {
		return "the same steps in another order"
	}
	return orWord(strings.Join(was, ", "), "…") + " → " + orWord(strings.Join(is, ", "), "…")
}

func (p *Plan) types() (all []string) {
	for i := range p.Nodes {
		all = append(all, p.Nodes[i].Type)
	}
	return all
}

// without is what one list has more of than another.
func without(list, other []string) (rest []string) {
	other = slices.Clone(other)
	for _, x := range list {
		if i := slices.Index(other, x); i >= 0 {
			other = slices.Delete(other, i, i+1)
		} else {
			rest = append(rest, x)
		}
	}
	return rest
}
