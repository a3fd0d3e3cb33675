package insight

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Summary is what a Book holds at one moment.
type Summary struct {
	Since      time.Time `json:"since,omitzero"`
	Statements []Row     `json:"statements"`
	// Left is how many statements had no room and are counted together, as the last row.
	Left     int       `json:"left"`
	Findings []Finding `json:"findings"`
	// Plans are those of statements that a server was asked for.
	Plans []PlanRow `json:"plans,omitempty"`
	// Overflow is how often a finding had no room.
	Overflow int `json:"overflow,omitempty"`
}

// Row is what was counted of one statement on one kind of server. Times are in
// milliseconds; quantiles are the bounds of powers of two.
type Row struct {
	Database    string    `json:"database,omitempty"`
	Fingerprint string    `json:"fingerprint"`
	Statement   string    `json:"statement"`
	Target      string    `json:"target,omitempty"`
	Calls       uint64    `json:"calls"`
	Errors      uint64    `json:"errors,omitempty"`
	Rows        uint64    `json:"rows"`
	Bytes       uint64    `json:"bytes"`
	Total       float64   `json:"total_ms"`
	P50         float64   `json:"p50_ms"`
	P95         float64   `json:"p95_ms"`
	Waited      float64   `json:"waited_ms"`
	First       time.Time `json:"first,omitzero"`
	Last        time.Time `json:"last,omitzero"`
	Apps        []string  `json:"applications,omitempty"`
	Users       []string  `json:"users,omitempty"`
	Routes      []string  `json:"routes,omitempty"`
	Tenants     []string  `json:"tenants,omitempty"` // hashed
	Reasons     []string  `json:"reasons,omitempty"` // why on the primary, the most frequent first
	Slow        *Slow     `json:"slow,omitempty"`    // where the slowest call of all ran
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Summary is what is known now: statements by the time they took, or else by their calls,
// and findings by what they waste. Counting goes on meanwhile.
func (b *Book) Summary() Summary {
	sum := b.summary(nil)
	if sum.Left > 0 {
		sum.add(&b.other, &b.options)
	}
	return sum
}

// SummaryOf is the Summary of one statement alone.
func (b *Book) SummaryOf(s *Statement) Summary { return b.summary(s) }

// summary is the Summary of one statement, or of all if only is nil.
func (b *Book) summary(only *Statement) Summary {
	b.mu.Lock()
	sum := Summary{Since: b.since, Left: b.left, Overflow: b.overflow, Statements: []Row{}, Findings: []Finding{}}
	statements := []*Statement{only}
	if only == nil {
		statements = slices.Clone(b.order)
	}
	for key, t := range b.found {
		if only == nil || key.statement == only {
			sum.Findings = append(sum.Findings, *t.finding(key))
		}
	}
	b.mu.Unlock()
	for _, s := range statements {
		s.mu.Lock()
		sum.add(s, &b.options)
		s.mu.Unlock()
	}
	slices.SortFunc(sum.Statements, func(x, y Row) int {
		return cmp.Or(-cmp.Compare(x.Total, y.Total), -cmp.Compare(x.Calls, y.Calls), cmp.Compare(x.Statement, y.Statement), cmp.Compare(x.Target, y.Target))
	})
	for i := range sum.Findings {
		sum.Findings[i].Wasted = ms(sum.Findings[i].wasted)
	}
	slices.SortFunc(sum.Findings, func(x, y Finding) int {
		return cmp.Or(-cmp.Compare(x.Severity, y.Severity), -cmp.Compare(x.wasted, y.wasted), cmp.Compare(x.kind, y.kind),
			-cmp.Compare(x.Calls, y.Calls), cmp.Compare(x.Statement, y.Statement), cmp.Compare(x.Database, y.Database))
	})
	return sum
}

// add adds a statement that was called, and what is to be said of it alone. s.mu is held.
func (sum *Summary) add(s *Statement, o *Options) {
	var all totals
	for target := range targets {
		c := s.counts[target].read()
		if c.calls == 0 {
			continue
		}
		all.join(&c)
		r := Row{
			Database: s.Database, Fingerprint: s.Fingerprint, Statement: s.Text, Target: target.String(),
			Calls: c.calls, Errors: c.errors, Rows: c.rows, Bytes: c.bytes,
			Total: ms(c.took), P50: ms(quantile(c.times[:], 0.5, timeBound)), P95: ms(quantile(c.times[:], 0.95, timeBound)), Waited: ms(c.waited),
			Apps: s.apps.list(), Users: s.users.list(), Routes: s.routes.list(), Tenants: s.tenants.list(),
		}
		if target == Primary {
			r.Reasons = s.reasons.list()
		}
		if slow := s.slow.Load(); slow != nil && slow.target == target {
			r.Slow = slow.told()
		}
		if last := s.last.Load(); last > 0 {
			r.First, r.Last = unix(s.first.Load()), unix(last)
		}
		sum.Statements = append(sum.Statements, r)
	}
	if all.calls == 0 {
		return
	}
	sum.addPlan(s, &all)
	for _, f := range append(s.planFindings(&all), s.unbounded(&all, o), s.offset(&all), s.onPrimary(), s.unfiltered(&all)) {
		if f != nil {
			f.Routes, f.Apps = s.routes.list(), s.apps.list()
			f.Place = s.place
			sum.Findings = append(sum.Findings, *f)
		}
	}
}

// totals are counts, read.
type totals struct {
	calls, errors, rows, bytes uint64
	untimed, uncounted         uint64
	took, waited               time.Duration
	times                      [timeBuckets]uint64
	sizes                      [sizeBuckets]uint64
}

func (c *counts) read() (t totals) {
	t.calls, t.errors, t.rows, t.bytes = uint64(c.calls.Load()), uint64(c.errors.Load()), c.rows.Load(), c.bytes.Load()
	t.untimed, t.uncounted = uint64(c.untimed.Load()), uint64(c.uncounted.Load())
	t.took, t.waited = time.Duration(c.times.nanos.Load()), time.Duration(c.waited.Load())
	for i := range t.times {
		t.times[i] = uint64(c.times.buckets[i].Load())
	}
	for i := range t.sizes {
		t.sizes[i] = uint64(c.sizes[i].Load())
	}
	return t
}

func (t *totals) join(c *totals) {
	t.calls, t.rows, t.bytes, t.uncounted, t.took = t.calls+c.calls, t.rows+c.rows, t.bytes+c.bytes, t.uncounted+c.uncounted, t.took+c.took
	for i := range t.sizes {
		t.sizes[i] += c.sizes[i]
	}
}

// single begins a finding of one statement.
func (s *Statement) single(k Kind, t *totals) *Finding {
	f := s.finding(k)
	f.Times, f.Calls = t.calls, t.calls
	return f
}

// unbounded: what nothing bounds and what returns much, or of which nobody knows.
func (s *Statement) unbounded(t *totals, o *Options) *Finding {
	if !s.Shape().Reads || !s.Shape().several() || s.Shape().Table == "" {
		return nil
	}
	known := t.calls - t.uncounted
	if known == 0 {
		if s.Shape().Groups || s.Shape().Bound == BoundForeign {
			return nil // they may be few
		}
		f := s.single(Unbounded, t)
		f.Severity, f.Sure = Info, "possible"
		f.Detail, f.Cost = "neither LIMIT, aggregate nor a unique key bounds the rows", "grows with "+s.Shape().Table
		return f
	}
	p95 := quantile(t.sizes[:], 0.95, sizeBound)
	if p95 < o.Rows && t.bytes/known < o.Bytes {
		return nil
	}
	f := s.single(Unbounded, t)
	f.Detail = fmt.Sprintf("returns %d rows on average, and nothing bounds it", t.rows/known)
	f.Cost = fmt.Sprintf("%d KiB a call", t.bytes/known>>10)
	return f
}

func (s *Statement) offset(t *totals) *Finding {
	if !s.Shape().Offset {
		return nil
	}
	f := s.single(Offset, t)
	deep := uint64(s.skipped.deep.Load())
	f.Detail = fmt.Sprintf("pages by OFFSET; %d of %d calls skipped %d rows or more", deep, t.calls, deepOffset)
	if most := s.skipped.most.Load(); most > deepOffset {
		f.Detail += fmt.Sprintf(", one of them over %d", most)
	}
	f.Cost = "every skipped row is read"
	if deep == 0 {
		f.Severity, f.Sure = Info, "possible"
		return f
	}
	took := time.Duration(s.skipped.nanos.Load())
	f.wasted = took
	if took > 0 {
		f.Cost += fmt.Sprintf("; deep calls take %s", rounded(took/time.Duration(deep)))
	}
	if took > 0 && t.calls > deep {
		f.Cost += fmt.Sprintf(", the others %s", rounded((t.took-took)/time.Duration(t.calls-deep)))
	}
	return f
}

// freed says what would let a read run on replicas, by the reason it did not.
var freed = map[string]string{
	"freshness":   "a weaker consistency level, or replicas that lag less",
	"transaction": "a transaction of its own, or BEGIN READ ONLY",
	"isolation":   "READ COMMITTED, or BEGIN READ ONLY",
	"pinned":      "whatever ties the session to its connection (docs/routing.md, Pins)",
	"no_replica":  "replicas that can serve",
	"route":       "pgweir.route = auto",
	"cursor":      "BEGIN READ ONLY",
}

func (s *Statement) onPrimary() *Finding {
	c := s.counts[Primary].read()
	if !s.Shape().Reads || s.Shape().Table == "" || c.calls == 0 {
		return nil
	}
	for _, reason := range s.reasons.list() {
		if by, ok := freed[reason]; ok {
			f := s.single(PrimaryRead, &c)
			f.Severity = Info
			f.Detail = fmt.Sprintf("%d of %d calls ran on the primary, most because of %s", c.calls, c.calls+uint64(s.counts[Replica].calls.Load()), reason)
			f.Cost = fmt.Sprintf("%s of the primary's time; freed by: %s", rounded(c.took), by)
			return f
		}
	}
	return nil
}

func (s *Statement) unfiltered(t *totals) *Finding {
	if !s.Shape().Unfiltered {
		return nil
	}
	f := s.single(Unfiltered, t)
	f.Detail = "no filter by tenant on " + s.Shape().Table
	if s.audited.Load() == covered {
		f.Severity = Info
		f.Detail += "; row-level security covers it, or it is exempt"
	}
	f.Cost = fmt.Sprintf("%s in all", rounded(t.took))
	return f
}
