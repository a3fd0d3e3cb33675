package proxy

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pgweir/pgweir/router/tenant"
)

// ledger is what the tenant audit has seen: the statements with a finding, as many as
// its bound lets it keep, and counts by table. It is safe for concurrent use.
type ledger struct {
	max      int // entries kept, and logged in an interval
	interval time.Duration
	log      func(sighting, uint64) // writes an entry, with how often it was seen since the last; it may wait

	mu       sync.Mutex // protects the fields below
	seen     *simplelru.LRU[sightingKey, *sighting]
	counts   map[tableCount]*uint64
	tables   map[string]bool // that have counts of their own
	rejected uint64
	exempted uint64
	evicted  uint64
	window   time.Time // when the interval began in which entries were logged
	logged   int       // so many, but for those flush logs
}

// sightingKey tells sightings apart: one statement may be of several severities, as its
// sessions say.
type sightingKey struct {
	database, fingerprint string
	kind                  string
	severity              tenant.Severity
	exempt                bool
}

// sighting is one statement with a finding and how often it was seen.
type sighting struct {
	sightingKey
	statement string // without literals
	tables    []string
	pattern   bool // an exempt pattern is found in it
	counts    []*uint64

	run           // the last time it was seen
	count, logged uint64
	first, logAt  time.Time
}

// run is one time a statement was seen.
type run struct {
	at                time.Time
	mode              tenant.Mode
	user, application string
	tenant            string // as it is; empty if the session has none
	reason            string // why it is exempt
}

// tableCount is what the metrics count by.
type tableCount struct {
	table, kind string
	severity    tenant.Severity
}

// maxAuditTables bounds the tables with counts of their own; the others are counted as otherTables.
const (
	maxAuditTables = 500
	otherTables    = "other"
)

// maxStatementBytes bounds the text kept of one statement.
const maxStatementBytes = 4 << 10

func newLedger(max int, interval time.Duration, log func(sighting, uint64)) *ledger {
	l := &ledger{max: max, interval: interval, log: log, counts: map[tableCount]*uint64{}, tables: map[string]bool{}}
	l.seen, _ = simplelru.NewLRU(max, func(sightingKey, *sighting) { l.evicted++ }) // fails for a size below 1 only
	return l
}

// find is what is kept of k, or nil. What is fixed of it may be read without the lock.
func (l *ledger) find(k sightingKey) *sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, _ := l.seen.Get(k)
	return s
}

// keep keeps s, unless somebody else has kept its like meanwhile; what is kept is returned.
func (l *ledger) keep(s *sighting) *sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	if kept, ok := l.seen.Get(s.sightingKey); ok {
		return kept
	}
	l.seen.Add(s.sightingKey, s)
	return s
}

// note counts a sighting, and logs it if it is the first or its interval is over.
func (l *ledger) note(s *sighting, now run) {
	l.mu.Lock()
	if s.count == 0 {
		s.first = now.at
	}
	s.run = now
	s.count++
	for _, n := range s.counts {
		*n++
	}
	switch {
	case s.exempt || s.pattern:
		l.exempted++
	case now.mode == tenant.ModeReject:
		l.rejected++
	}
	due, n := l.takeDueLocked(s, now.at)
	entry := *s
	l.mu.Unlock()
	if due {
		l.log(entry, n)
	}
}

// takeDueLocked is takeDue, as long as not too much was logged in the interval: new
// statements may come without end. What is left out, flush finds if it is still kept.
func (l *ledger) takeDueLocked(s *sighting, at time.Time) (due bool, n uint64) {
	if at.Sub(l.window) >= l.interval {
		l.window, l.logged = at, 0
	}
	if l.logged >= l.max {
		return false, 0
	}
	if due, n = s.takeDue(at, l.interval); due {
		l.logged++
	}
	return due, n
}

// takeDue reports whether an entry is to be logged now, and how often it was seen
// since the last. It is then taken as logged.
func (s *sighting) takeDue(at time.Time, interval time.Duration) (due bool, n uint64) {
	n = s.count - s.logged
	if n == 0 || !s.logAt.IsZero() && at.Sub(s.logAt) < interval {
		return false, 0
	}
	s.logged, s.logAt = s.count, at
	return true, n
}

// flush logs what was seen since it was last logged, if its interval is over or all is asked for.
func (l *ledger) flush(at time.Time, all bool) {
	type due struct {
		entry sighting
		n     uint64
	}
	var list []due
	interval := l.interval
	if all {
		interval = 0
	}
	l.mu.Lock()
	for _, s := range l.seen.Values() {
		if ok, n := s.takeDue(at, interval); ok {
			list = append(list, due{*s, n})
		}
	}
	l.mu.Unlock()
	for _, d := range list {
		l.log(d.entry, d.n)
	}
}

// counters are the counts of a finding's tables, made if need be.
func (l *ledger) counters(c *tenant.Case) (list []*uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range c.Tables {
		t := &c.Tables[i]
		k := tableCount{table: t.Qualified(), kind: t.Kind.String(), severity: c.Severity}
		if c.Mismatch {
			k.kind = tenant.Mismatch
		}
		if !l.tables[k.table] {
			if len(l.tables) >= maxAuditTables {
				k.table = otherTables
			} else {
				l.tables[k.table] = true
			}
		}
		n := l.counts[k]
		if n == nil {
			n = new(uint64)
			l.counts[k] = n
		}
		if !slices.Contains(list, n) { // a table may occur twice
			list = append(list, n)
		}
	}
	return list
}

// list returns the sightings of a database, the gravest and most frequent first.
func (l *ledger) list(database string) []sighting {
	l.mu.Lock()
	var out []sighting
	for _, s := range l.seen.Values() {
		if s.database == database {
			out = append(out, *s)
		}
	}
	l.mu.Unlock()
	slices.SortFunc(out, func(a, b sighting) int {
		return cmp.Or(-cmp.Compare(a.severity, b.severity), -cmp.Compare(a.count, b.count),
			strings.Compare(a.fingerprint, b.fingerprint), strings.Compare(a.kind, b.kind))
	})
	return out
}

// ledgerStats are the ledger's counts at one moment.
type ledgerStats struct {
	tables                      map[tableCount]uint64
	statements                  int
	rejected, exempted, evicted uint64
}

func (l *ledger) stats() ledgerStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := ledgerStats{
		tables: map[tableCount]uint64{}, statements: l.seen.Len(),
		rejected: l.rejected, exempted: l.exempted, evicted: l.evicted,
	}
	for k, n := range l.counts {
		st.tables[k] = *n
	}
	return st
}
