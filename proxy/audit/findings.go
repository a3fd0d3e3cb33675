package audit

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pgweir/pgweir/router/tenant"
)

// findings stores what the audit has seen: the statements that lack a tenant filter, as
// many as its bound lets it keep, and counts by table. It is safe for concurrent use.
type findings struct {
	log func(finding, uint64) // writes an entry, with how often it was seen since the last; it may wait

	mu       sync.Mutex // protects the fields below
	max      int        // entries kept, and logged in an interval
	interval time.Duration
	seen     *simplelru.LRU[findingKey, *finding]
	counts   map[tableCount]*uint64
	tables   map[string]bool // that have counts of their own
	rejected uint64
	exempted uint64
	evicted  uint64
	window   time.Time // when the interval began in which entries were logged
	logged   int       // so many, but for those flush logs
}

// findingKey tells findings apart: one statement may be of several severities, as its
// sessions say.
type findingKey struct {
	database, fingerprint string
	kind                  string
	severity              tenant.Severity
	exempt                bool
}

// finding is one statement that lacks a filter and how often it was seen.
type finding struct {
	findingKey
	statement string // without literals
	tables    []string
	pattern   bool   // an exempt pattern is found in it
	under     *terms // whose patterns these are
	counts    []*uint64

	occurrence    // the last time it was seen
	count, logged uint64
	first, logAt  time.Time
}

// occurrence is one time that a statement ran.
type occurrence struct {
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

func newFindings(max int, interval time.Duration, log func(finding, uint64)) *findings {
	fs := &findings{max: max, interval: interval, log: log, counts: map[tableCount]*uint64{}, tables: map[string]bool{}}
	fs.seen, _ = simplelru.NewLRU(max, func(findingKey, *finding) { fs.evicted++ }) // fails for a size below 1 only
	return fs
}

// configure has another number kept, and logged at another interval.
func (fs *findings) configure(most int, interval time.Duration) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.max, fs.interval = most, interval
	fs.seen.Resize(most)
}

// find is what is kept of k, or nil. What is fixed of it may be read without the lock.
func (fs *findings) find(k findingKey) *finding {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f, _ := fs.seen.Get(k)
	return f
}

// keep keeps f, unless somebody else has kept its like meanwhile; what is kept is returned. One
// that was found under other terms goes on as f.
func (fs *findings) keep(f *finding) *finding {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if kept, ok := fs.seen.Get(f.findingKey); ok {
		if kept.under == f.under {
			return kept
		}
		f.occurrence, f.count, f.logged, f.first, f.logAt = kept.occurrence, kept.count, kept.logged, kept.first, kept.logAt
	}
	fs.seen.Add(f.findingKey, f)
	return f
}

// record counts an occurrence, and logs the finding if it is the first or its interval is over.
func (fs *findings) record(f *finding, now occurrence) {
	fs.mu.Lock()
	if f.count == 0 {
		f.first = now.at
	}
	f.occurrence = now
	f.count++
	for _, n := range f.counts {
		*n++
	}
	switch {
	case f.exempt || f.pattern:
		fs.exempted++
	case now.mode == tenant.ModeReject:
		fs.rejected++
	}
	due, n := fs.takeDueLocked(f, now.at)
	if !due {
		fs.mu.Unlock()
		return
	}
	entry := *f
	fs.mu.Unlock()
	fs.log(entry, n)
}

// takeDueLocked is takeDue, as long as not too much was logged in the interval: new
// statements may come without end. What is left out, flush finds if it is still kept.
func (fs *findings) takeDueLocked(f *finding, at time.Time) (due bool, n uint64) {
	if at.Sub(fs.window) >= fs.interval {
		fs.window, fs.logged = at, 0
	}
	if fs.logged >= fs.max {
		return false, 0
	}
	if due, n = f.takeDue(at, fs.interval); due {
		fs.logged++
	}
	return due, n
}

// takeDue reports whether an entry is to be logged now, and how often it was seen
// since the last. It is then taken as logged.
func (f *finding) takeDue(at time.Time, interval time.Duration) (due bool, n uint64) {
	n = f.count - f.logged
	if n == 0 || !f.logAt.IsZero() && at.Sub(f.logAt) < interval {
		return false, 0
	}
	f.logged, f.logAt = f.count, at
	return true, n
}

// flush logs what was seen since it was last logged, if its interval is over or all is asked for.
func (fs *findings) flush(at time.Time, all bool) {
	type due struct {
		entry finding
		n     uint64
	}
	var list []due
	fs.mu.Lock()
	interval := fs.interval
	if all {
		interval = 0
	}
	for _, f := range fs.seen.Values() {
		if ok, n := f.takeDue(at, interval); ok {
			list = append(list, due{*f, n})
		}
	}
	fs.mu.Unlock()
	for _, d := range list {
		fs.log(d.entry, d.n)
	}
}

// counters are the counts of a finding's tables, made if need be.
func (fs *findings) counters(c *tenant.Case) (list []*uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for i := range c.Tables {
		t := &c.Tables[i]
		k := tableCount{table: valid(t.Qualified()), kind: t.Kind.String(), severity: c.Severity}
		if c.Mismatch {
			k.kind = tenant.Mismatch
		}
		if !fs.tables[k.table] {
			if len(fs.tables) >= maxAuditTables {
				k.table = otherTables
			} else {
				fs.tables[k.table] = true
			}
		}
		n := fs.counts[k]
		if n == nil {
			n = new(uint64)
			fs.counts[k] = n
		}
		if !slices.Contains(list, n) { // a table may occur twice
			list = append(list, n)
		}
	}
	return list
}

// list returns the findings of a database, the gravest and most frequent first.
func (fs *findings) list(database string) []finding {
	fs.mu.Lock()
	var out []finding
	for _, f := range fs.seen.Values() {
		if f.database == database {
			out = append(out, *f)
		}
	}
	fs.mu.Unlock()
	slices.SortFunc(out, func(a, b finding) int {
		return cmp.Or(-cmp.Compare(a.severity, b.severity), -cmp.Compare(a.count, b.count),
			strings.Compare(a.fingerprint, b.fingerprint), strings.Compare(a.kind, b.kind))
	})
	return out
}

// stats are the counts at one moment.
type stats struct {
	tables                      map[tableCount]uint64
	statements                  int
	rejected, exempted, evicted uint64
}

func (fs *findings) now() stats {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	st := stats{
		tables: map[tableCount]uint64{}, statements: fs.seen.Len(),
		rejected: fs.rejected, exempted: fs.exempted, evicted: fs.evicted,
	}
	for k, n := range fs.counts {
		st.tables[k] = *n
	}
	return st
}
