package insight

import (
	"cmp"
	"slices"
	"time"
)

// Snapshot is what was counted in a period, exactly: Snapshots add up in a Book, over time and
// over instances, and can be compared. It holds no literal, as nothing here does.
type Snapshot struct {
	// ID is other for each period and instance; what was added up has none.
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
	Why  string `json:"why,omitempty"` // it was taken
	// Begin and End are the period's; zero if nobody knows.
	Begin time.Time `json:"begin,omitzero"`
	End   time.Time `json:"end,omitzero"`
	Lag   Lag       `json:"lag,omitzero"`
	Left  int       `json:"left,omitempty"` // statements that had no room

	Statements []Counted     `json:"-"`
	Routes     []RouteCounts `json:"-"`
	Patterns   []Pattern     `json:"-"`
}

// Lag is how old what replicas showed was, by samples of the one that was furthest behind.
type Lag struct {
	Samples uint64        `json:"samples"`
	Sum     time.Duration `json:"sum"`
	Max     time.Duration `json:"max"`
}

// Sample takes in a sample.
func (l *Lag) Sample(d time.Duration) { l.Add(Lag{1, d, d}) }

// Add takes in the samples of another period.
func (l *Lag) Add(o Lag) {
	l.Samples, l.Sum, l.Max = l.Samples+o.Samples, l.Sum+o.Sum, max(l.Max, o.Max)
}

// Mean is the mean of the samples.
func (l *Lag) Mean() time.Duration { return l.Sum / time.Duration(max(l.Samples, 1)) }

// Counted is what was counted of one statement.
type Counted struct {
	Database    string          `json:"database,omitempty"`
	Fingerprint string          `json:"fingerprint,omitempty"` // none: statements that had no room
	Text        string          `json:"text"`
	Shape       Shape           `json:"shape"`
	On          [targets]Counts `json:"on"` // the primary and replicas
	First       int64           `json:"first,omitempty"`
	Last        int64           `json:"last,omitempty"`
	Deep        uint32          `json:"deep,omitempty"` // calls that skipped many rows
	DeepTook    time.Duration   `json:"deep_took,omitempty"`
	Skipped     int64           `json:"skipped,omitempty"`
	// Names by how often they came, about: since the beginning and not of the period alone.
	Apps    Names `json:"applications,omitempty"`
	Users   Names `json:"users,omitempty"`
	Routes  Names `json:"routes,omitempty"`
	Tenants Names `json:"tenants,omitempty"`
	Reasons Names `json:"reasons,omitempty"`
	// Plan is how a server last meant to execute it; nil if none was asked. Add leaves it out.
	Plan *Plan `json:"plan,omitempty"`
}

// Names are names with how often they came.
type Names map[string]uint32

func (c *Counted) key() statementKey { return statementKey{c.Database, c.Fingerprint} }

// All are the counts on all servers.
func (c *Counted) All() Counts {
	all := c.On[Primary]
	all.Add(&c.On[Replica])
	return all
}

// Pattern is what was found of one kind of pattern with one statement.
type Pattern struct {
	Kind        string        `json:"kind"`
	Database    string        `json:"database,omitempty"`
	Fingerprint string        `json:"fingerprint"`
	With        []string      `json:"with,omitempty"` // fingerprints of other statements
	Times       uint64        `json:"times"`
	Calls       uint64        `json:"calls"`
	Parents     uint64        `json:"parents,omitempty"`
	Worst       int           `json:"worst"`
	Wasted      time.Duration `json:"wasted,omitempty"`
	Routes      Names         `json:"routes,omitempty"`
	Apps        Names         `json:"applications,omitempty"`
}

type patternKey struct{ kind, database, fingerprint string }

func (p *Pattern) key() patternKey { return patternKey{p.Kind, p.Database, p.Fingerprint} }

// Snapshot is what was counted since b was made. Counting goes on meanwhile.
func (b *Book) Snapshot() *Snapshot {
	b.mu.Lock()
	snap := &Snapshot{Begin: b.since, End: time.Now(), Left: b.left}
	statements := append(slices.Clone(b.order), &b.other)
	for key, t := range b.found {
		snap.Patterns = append(snap.Patterns, t.exported(key))
	}
	b.mu.Unlock()
	for _, s := range statements {
		if c := s.exported(); c.On[Primary].Calls+c.On[Replica].Calls > 0 {
			snap.Statements = append(snap.Statements, c)
		}
	}
	snap.Routes = b.Routes()
	return snap
}

// Routes are the counts of all routes that served something, those that took most first.
func (b *Book) Routes() (all []RouteCounts) {
	done := map[*Route]bool{}
	add := func(r *Route) {
		if n := r.exported(); !done[r] && n.Transactions > 0 {
			all = append(all, n)
		}
		done[r] = true
	}
	for _, r := range *b.routes.Load() {
		add(r)
	}
	add(&b.otherRoute)
	slices.SortFunc(all, func(x, y RouteCounts) int {
		return cmp.Or(-cmp.Compare(x.Took, y.Took), -cmp.Compare(x.Transactions, y.Transactions), cmp.Compare(x.Database, y.Database),
			cmp.Compare(x.Application, y.Application), cmp.Compare(x.Route, y.Route))
	})
	return all
}

func (s *Statement) exported() Counted {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Counted{
		Database: s.Database, Fingerprint: s.Fingerprint, Text: s.Text, Shape: *s.Shape(), First: s.first.Load(), Last: s.last.Load(),
		Deep: s.skipped.deep.Load(), DeepTook: time.Duration(s.skipped.nanos.Load()), Skipped: s.skipped.most.Load(),
		Apps: s.apps.exported(), Users: s.users.exported(), Routes: s.routes.exported(), Tenants: s.tenants.exported(), Reasons: s.reasons.exported(),
	}
	for target := range targets {
		c.On[target] = s.counts[target].exported()
	}
	if p := s.planned.Load(); p != nil {
		c.Plan = p.Plan
	}
	return c
}

func (t *tally) exported(key findingKey) Pattern {
	p := Pattern{
		Kind: key.kind.String(), Database: key.statement.Database, Fingerprint: key.statement.Fingerprint,
		Times: t.units, Calls: t.calls, Parents: t.parents, Worst: t.worst, Wasted: t.wasted, Routes: t.routes.exported(), Apps: t.apps.exported(),
	}
	for _, x := range t.others {
		if x != nil {
			p.With = append(p.With, x.Fingerprint)
		}
	}
	return p
}

func (t *top) exported() Names {
	var names Names
	for i, name := range t.names {
		if name != "" {
			if names == nil {
				names = Names{}
			}
			names[name] = t.counts[i]
		}
	}
	return names
}

func (t *top) join(names Names) {
	for name, n := range names {
		if t.add(name); n > 1 {
			if i := slices.Index(t.names[:], name); i >= 0 {
				t.counts[i] += n - 1
			}
		}
	}
}

// Since is what came to s after an earlier snapshot of the same Book.
func (s *Snapshot) Since(before *Snapshot) *Snapshot {
	d := &Snapshot{Begin: before.End, End: s.End, Left: max(s.Left-before.Left, 0)}
	d.Statements = changed(s.Statements, before.Statements, (*Counted).key, func(c, was *Counted) bool {
		for target := range targets {
			c.On[target].subtract(&was.On[target])
		}
		c.Deep, c.DeepTook = uint32(less(uint64(c.Deep), uint64(was.Deep))), time.Duration(less(uint64(c.DeepTook), uint64(was.DeepTook)))
		return c.On[Primary].Calls+c.On[Replica].Calls > 0
	})
	d.Routes = changed(s.Routes, before.Routes, (*RouteCounts).key, func(n, was *RouteCounts) bool {
		n.subtract(was)
		return n.Transactions > 0
	})
	d.Patterns = changed(s.Patterns, before.Patterns, (*Pattern).key, func(p, was *Pattern) bool {
		p.Times, p.Calls, p.Parents = less(p.Times, was.Times), less(p.Calls, was.Calls), less(p.Parents, was.Parents)
		p.Wasted = time.Duration(less(uint64(p.Wasted), uint64(was.Wasted)))
		return p.Times > 0
	})
	return d
}

// changed are copies of the elements of now that subtract has something left of, once what
// was counted before is taken off.
func changed[T any, K comparable](now, before []T, key func(*T) K, subtract func(x, was *T) bool) (left []T) {
	earlier := make(map[K]*T, len(before))
	for i := range before {
		earlier[key(&before[i])] = &before[i]
	}
	for _, x := range now {
		was := earlier[key(&x)]
		if was == nil {
			was = new(T)
		}
		if subtract(&x, was) {
			left = append(left, x)
		}
	}
	return left
}

// Add counts what a Snapshot holds, too. Statements that there is no room for are left out.
func (b *Book) Add(snap *Snapshot) {
	b.mu.Lock()
	b.left += snap.Left
	if !snap.Begin.IsZero() && (b.since.IsZero() || snap.Begin.Before(b.since)) {
		b.since = snap.Begin
	}
	b.mu.Unlock()
	of := make(map[statementKey]*Statement, len(snap.Statements))
	for i := range snap.Statements {
		c := &snap.Statements[i]
		s := &b.other
		if c.Fingerprint != "" {
			if s = b.known(c); s == &b.other {
				continue
			}
		}
		s.add(c)
		of[c.key()] = s
	}
	for i := range snap.Routes {
		n := &snap.Routes[i]
		b.addRoute(n.Database, n.Application, n.Route, n.Route).add(n)
	}
	for i := range snap.Patterns {
		b.addPattern(&snap.Patterns[i], of)
	}
}

// known is the statement that was counted as c. What its last plan said is better than what
// c says.
func (b *Book) known(c *Counted) *Statement {
	b.mu.Lock()
	s := b.byKey[c.key()]
	b.mu.Unlock()
	if s != nil {
		return s
	}
	return b.Statement(c.Database, c.Fingerprint, c.Text, c.Shape)
}

func (s *Statement) add(c *Counted) {
	for target := range targets {
		s.counts[target].add(&c.On[target])
	}
	s.skipped.deep.Add(c.Deep)
	s.skipped.nanos.Add(uint64(c.DeepTook))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skipped.most.Store(max(s.skipped.most.Load(), c.Skipped))
	if first := s.first.Load(); first == 0 || c.First < first {
		s.first.Store(c.First)
	}
	s.last.Store(max(s.last.Load(), c.Last))
	for _, x := range []struct {
		top   *top
		names Names
	}{{&s.apps, c.Apps}, {&s.users, c.Users}, {&s.routes, c.Routes}, {&s.tenants, c.Tenants}, {&s.reasons, c.Reasons}} {
		x.top.join(x.names)
	}
}

// addPattern counts a pattern of statements that are known.
func (b *Book) addPattern(p *Pattern, of map[statementKey]*Statement) {
	kind, s := slices.Index(kindNames[:], p.Kind), of[statementKey{p.Database, p.Fingerprint}]
	if kind < 0 || s == nil || p.Times == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tallyLocked(findingKey{Kind(kind), s}, Place{})
	if t == nil {
		return
	}
	t.units, t.calls, t.parents, t.wasted = t.units+p.Times, t.calls+p.Calls, t.parents+p.Parents, t.wasted+p.Wasted
	if p.Worst > t.worst {
		t.worst, t.others = p.Worst, [2]*Statement{}
		for i, fingerprint := range p.With[:min(len(p.With), len(t.others))] {
			t.others[i] = of[statementKey{p.Database, fingerprint}]
		}
	}
	t.routes.join(p.Routes)
	t.apps.join(p.Apps)
}
