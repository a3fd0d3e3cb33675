package insight

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Shape is what the text of a statement says of what it returns. It never changes.
type Shape struct {
	Reads  bool   // it is a SELECT that locks nothing, so that it may be rewritten
	Table  string // what it reads first: a table as the text names it
	Bound  Bound
	Counts bool // it counts rows of Table
	Groups bool // it has GROUP BY
	// Source is equal for statements that read the same rows of the same tables, whatever
	// they return of them; empty if nobody needs it.
	Source string
	Keys   []string // columns that must equal one value each
	Order  []string // what it sorts by, if that are columns
	Offset bool     // rows are skipped
	// Unfiltered: the tenant audit misses a filter.
	Unfiltered bool
}

// Bound says what keeps the number of rows small that a statement returns.
type Bound uint8

// Bounds.
const (
	BoundNone      Bound = iota
	BoundLimit           // LIMIT or FETCH FIRST
	BoundAggregate       // one row, whatever is read
	BoundKey             // a unique key
	BoundForeign         // they refer to one row, or to one of a list
	BoundValues          // no table is read
)

// Target is where a statement ran.
type Target uint8

// Targets.
const (
	Primary Target = iota
	Replica
	targets
)

func (t Target) String() string { return [targets]string{"primary", "replica"}[t] }

// several reports whether nothing in the text keeps the number of rows small.
func (s *Shape) several() bool { return s.Bound == BoundNone || s.Bound == BoundForeign }

// Statement is what is counted of one statement of one database. Statements are shared by
// all sessions; what is not said to be fixed is atomic or protected by mu.
type Statement struct {
	Database, Fingerprint string // fixed, like those that follow
	Text                  string // masked, and shortened if it is long

	shape atomic.Pointer[Shape] // as of the catalog its last plan was made from

	counts  [targets]counts
	skipped skipped
	first   atomic.Int64 // seconds since 1970
	last    atomic.Int64

	slow    atomic.Pointer[slowCall] // nil if no call was timed
	planned atomic.Pointer[Planned]  // nil if no server was asked
	planAt  atomic.Int64             // when one should be, in seconds since 1970; a Planner's
	audited atomic.Uint32            // a set of covered and exposed

	mu      sync.Mutex // protects the fields below; never waited for
	sampled uint32
	apps    top
	users   top
	routes  top
	tenants top
	reasons top // of calls on the primary
	place   Place
}

// What the tenant audit has found of calls of a statement that lacks a filter.
const (
	covered uint32 = 1 << iota // something else keeps other tenants' rows from one
	exposed                    // nothing does
)

// Audited says what the tenant audit found of a call, by a statement that lacks a filter:
// whether nothing else keeps it from other tenants' rows. s may be nil.
func (s *Statement) Audited(unprotected bool) {
	found := covered
	if unprotected {
		found = exposed
	}
	if s != nil && s.audited.Load()&found == 0 {
		s.audited.Or(found)
	}
}

// counts are those of one statement on one kind of server.
type counts struct {
	calls, errors      atomic.Uint32
	rows, bytes        atomic.Uint64
	times              durations
	waited             atomic.Uint64 // nanoseconds
	sizes              [sizeBuckets]atomic.Uint32
	untimed, uncounted atomic.Uint32 // calls whose time, or rows, nobody knows
}

// Slow is the slowest call of a statement, or one that took almost as long.
type Slow struct {
	Began       time.Time `json:"began"`
	Took        float64   `json:"took_ms"`
	Rows        uint64    `json:"rows"`
	Application string    `json:"application,omitempty"`
	User        string    `json:"user,omitempty"`
	Route       string    `json:"route,omitempty"`
	Tenant      string    `json:"tenant,omitempty"` // hashed
}

// slowCall is what is kept of it. It never changes.
type slowCall struct {
	began                            int64 // seconds since 1970
	took                             time.Duration
	application, user, route, tenant string
	rows                             uint32
	target                           Target
}

// slowerBy is by which part of the slowest call another must be slower to take its place: so
// that is taken some hundred times at most, and allocates nothing in the steady state.
const slowerBy = 8

// skipped is of rows that calls skipped by OFFSET.
type skipped struct {
	deep  atomic.Uint32 // calls that skipped many, and what they took
	nanos atomic.Uint64
	most  atomic.Int64 // that one call skipped, as a power of ten: the number is a literal
}

// Shape is what its text says.
func (s *Statement) Shape() *Shape { return s.shape.Load() }

// maxText is how many bytes of a text are kept.
const maxText = 320

// shorten leaves out the middle of a long text: who sent it is told by its tables and
// conditions, which come behind the columns.
func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	const head = 80
	tail := maxText - head - len(" … ")
	return strings.ToValidUTF8(text[:head], "") + " … " + strings.ToValidUTF8(text[len(text)-tail:], "")
}

func (s *Statement) size() int {
	n := int(unsafe.Sizeof(*s)+unsafe.Sizeof(Shape{})+unsafe.Sizeof(slowCall{})) + len(s.Fingerprint) + len(s.Text) + len(s.Shape().Table) + len(s.Shape().Source)
	for _, list := range [][]string{s.Shape().Keys, s.Shape().Order} {
		for _, c := range list {
			n += int(unsafe.Sizeof(c)) + len(c)
		}
	}
	return n
}

// deepOffset is how many rows may be skipped before it counts as deep.
const deepOffset = 1000

// sampleEvery is how many calls of a statement are told apart by who made one of them.
const sampleEvery = 16

// ran counts a call.
func (s *Statement) ran(e *Event, who *Who) {
	c := &s.counts[e.Target]
	n := c.calls.Add(1)
	if e.Failed {
		c.errors.Add(1)
	}
	if e.Untimed {
		c.untimed.Add(1)
	} else {
		c.times.add(e.Duration)
		if e.Waited > 0 {
			c.waited.Add(uint64(e.Waited))
		}
		if slow := s.slow.Load(); !e.Began.IsZero() && (slow == nil || e.Duration > slow.took+slow.took/slowerBy) {
			s.slow.CompareAndSwap(slow, slowOf(e, who))
		}
	}
	if e.Uncounted {
		c.uncounted.Add(1)
	} else {
		c.rows.Add(e.Rows)
		c.bytes.Add(e.Bytes)
		c.sizes[sizeBucket(e.Rows)].Add(1)
	}
	if e.Offset > 0 {
		s.ranOffset(e)
	}
	if now := e.Began.Unix(); now > s.last.Load() {
		s.first.CompareAndSwap(0, now)
		s.last.Store(now)
	}
	if n%sampleEvery == 1 && s.mu.TryLock() {
		s.sampleLocked(e, who)
		s.mu.Unlock()
	}
}

func slowOf(e *Event, who *Who) *slowCall {
	slow := &slowCall{
		began: e.Began.Unix(), took: e.Duration, rows: uint32(min(e.Rows, math.MaxUint32)), target: e.Target,
		application: who.Application, user: who.User, route: who.Route,
	}
	if who.Tenant != nil {
		slow.tenant = who.Tenant()
	}
	return slow
}

func (c *slowCall) told() *Slow {
	return &Slow{
		Began: unix(c.began), Took: ms(c.took), Rows: uint64(c.rows), Application: c.application, User: c.user, Route: c.route, Tenant: c.tenant,
	}
}

func (s *Statement) ranOffset(e *Event) {
	if e.Offset >= deepOffset {
		s.skipped.deep.Add(1)
		s.skipped.nanos.Add(uint64(e.Duration))
	}
	depth := int64(1)
	for depth <= e.Offset/10 {
		depth *= 10
	}
	for was := s.skipped.most.Load(); depth > was && !s.skipped.most.CompareAndSwap(was, depth); was = s.skipped.most.Load() {
	}
}

// sampleLocked notes who made a call.
func (s *Statement) sampleLocked(e *Event, who *Who) {
	if s.sampled++; s.sampled == 1 {
		s.place = e.Place
	}
	s.apps.add(who.Application)
	s.users.add(who.User)
	s.routes.add(who.Route)
	if who.Tenant != nil {
		s.tenants.add(who.Tenant())
	}
	if e.Target == Primary {
		s.reasons.add(e.Reason)
	}
}

// top counts the names that come most often among many, about.
type top struct {
	names  [topNames]string
	counts [topNames]uint32
}

const topNames = 3

// add counts a name. One that is not there takes the place of the rarest, with its count.
func (t *top) add(name string) {
	if name == "" {
		return
	}
	least := 0
	for i := range t.names {
		if t.names[i] == name {
			t.counts[i]++
			return
		}
		if t.counts[i] < t.counts[least] {
			least = i
		}
	}
	t.names[least] = name
	t.counts[least]++
}

// list are the names, the most frequent first.
func (t *top) list() []string {
	var names []string
	for _, i := range t.order() {
		if t.names[i] != "" {
			names = append(names, t.names[i])
		}
	}
	return names
}

func (t *top) order() []int {
	order := []int{0, 1, 2}
	for i := range order {
		for j := i + 1; j < len(order); j++ {
			if t.counts[order[j]] > t.counts[order[i]] {
				order[i], order[j] = order[j], order[i]
			}
		}
	}
	return order
}

// Place is a line of a file; the zero value is none.
type Place struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

func unix(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
