package insight

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the bounds of a Book and of what it takes for a finding. Zero is the default.
type Options struct {
	MaxStatements int // that are told apart; 4,000
	MaxBytes      int // that they take; 4 MiB
	// Exempt are applications whose patterns are no findings: jobs that work row by row
	// on purpose.
	Exempt []string
	// Rows and Bytes are what a statement without a bound may return, nineteen times of twenty
	// and on average: 1,000 and 1 MiB.
	Rows, Bytes uint64
	// Idle is how long a transaction may wait for its application: 1 s.
	Idle time.Duration
}

// Defaults of Options.
const (
	defaultStatements = 4000
	defaultBytes      = 4 << 20
	defaultRows       = 1000
	defaultVolume     = 1 << 20
	defaultIdle       = time.Second
)

// maxFindings bounds the findings that are kept.
const maxFindings = 1000

// Book is what is known of the statements of all sessions. It is safe for concurrent use.
type Book struct {
	options Options
	since   time.Time
	other   Statement // stands for those that have no room
	plans   planCounts

	routes     atomic.Pointer[map[routeKey]*Route] // never changed, but replaced; writers hold mu
	otherRoute Route

	mu       sync.Mutex // protects the fields below
	byKey    map[statementKey]*Statement
	order    []*Statement
	bytes    int
	left     int // statements that had no room
	found    map[findingKey]*tally
	overflow int // findings that had none

	changed      string // what changed, until that is taken
	versions     map[string]map[string]bool
	versionCount int
}

type statementKey struct{ database, fingerprint string }

type findingKey struct {
	kind      Kind
	statement *Statement
}

// New makes an empty Book.
func New(o Options) *Book {
	o.MaxStatements = orDefault(o.MaxStatements, defaultStatements)
	o.MaxBytes = orDefault(o.MaxBytes, defaultBytes)
	o.Rows = orDefault(o.Rows, defaultRows)
	o.Bytes = orDefault(o.Bytes, defaultVolume)
	o.Idle = orDefault(o.Idle, defaultIdle)
	o.Exempt = slices.Clone(o.Exempt)
	b := &Book{options: o, since: time.Now(), byKey: map[statementKey]*Statement{}, found: map[findingKey]*tally{}, versions: map[string]map[string]bool{}}
	b.other.Text = "other statements"
	b.other.shape.Store(new(Shape))
	b.routes.Store(&map[routeKey]*Route{})
	b.otherRoute.Name = "other routes"
	return b
}

func orDefault[T int | uint64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Statement is the one with that fingerprint in a database, which it makes if there is
// none: text is masked, shape what is known of it. Without room for it, it is the one that
// stands for all others.
func (b *Book) Statement(database, fingerprint, text string, shape Shape) *Statement {
	key := statementKey{database, fingerprint}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.byKey[key]; s != nil {
		s.shape.Store(&shape)
		return s
	}
	s := &Statement{Database: database, Fingerprint: fingerprint, Text: shorten(text)}
	s.shape.Store(&shape)
	size := s.size()
	if len(b.order) >= b.options.MaxStatements || b.bytes+size > b.options.MaxBytes {
		b.left++
		return &b.other
	}
	b.byKey[key] = s
	b.order = append(b.order, s)
	b.bytes += size
	return s
}

// Find is the statement with that fingerprint in a database; nil if there is none.
func (b *Book) Find(database, fingerprint string) *Statement {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byKey[statementKey{database, fingerprint}]
}

// report adds to what was found.
func (b *Book) report(kind Kind, s *Statement, o *occurrence) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.tallyLocked(findingKey{kind, s}, o.place); t != nil {
		t.add(o)
	}
}

// tallyLocked is what was found by a key; nil if there is no room for it.
func (b *Book) tallyLocked(key findingKey, first Place) *tally {
	t := b.found[key]
	switch {
	case t != nil:
	case len(b.found) >= maxFindings:
		b.overflow++
	default:
		t = &tally{place: first}
		b.found[key] = t
	}
	return t
}

// Counts is how often each kind of pattern was found, those of single statements left out.
func (b *Book) Counts() (n [Kinds]uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, t := range b.found {
		n[key.kind] += t.units
	}
	return n
}

// Found is of how many statements each kind of pattern was found.
func (b *Book) Found() (n [Kinds]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.found {
		n[key.kind]++
	}
	return n
}

// Unbounded are the calls of reads that nothing bounds, as far as their rows are known, and the rows.
func (b *Book) Unbounded() (calls, rows uint64) {
	b.mu.Lock()
	all := slices.Clone(b.order)
	b.mu.Unlock()
	for _, s := range all {
		if shape := s.Shape(); !shape.Reads || !shape.several() || shape.Table == "" {
			continue
		}
		for target := range targets {
			c := &s.counts[target]
			calls += uint64(c.calls.Load() - c.uncounted.Load())
			rows += c.rows.Load()
		}
	}
	return calls, rows
}

func (b *Book) size() (statements, left int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.order), b.left
}
