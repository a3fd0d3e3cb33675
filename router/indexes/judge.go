package indexes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/insight"
)

// Kinds of findings.
const (
	Missing   = "missing"
	Invalid   = "invalid"
	Unused    = "unused"
	Duplicate = "duplicate"
	Prefix    = "prefix"
	Bloated   = "bloated"
)

// Kinds are all of them.
var Kinds = []string{Missing, Invalid, Unused, Duplicate, Prefix, Bloated}

// Finding is an index that should be there, or should not.
type Finding struct {
	Kind   string `json:"kind"`
	Table  string `json:"table"`
	Index  string `json:"index,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"` // that it takes, or that could be freed
	Detail string `json:"detail"`
	SQL    string `json:"sql"`
}

// Report is what all servers have of one database.
type Report struct {
	Database string `json:"database"`
	// Servers are those that were asked, Silent those that did not answer.
	Servers []string `json:"servers"`
	Silent  []string `json:"silent,omitempty"`
	// Since is from when on all servers count; zero if nobody knows.
	Since    time.Time `json:"since,omitzero"`
	Indexes  []Index   `json:"indexes"` // scans of all servers together
	Findings []Finding `json:"findings"`
}

// Judge holds what servers say of a database against each other and against the plans of
// its statements. silent are servers that did not answer: what is not known of all is not
// called unused.
func Judge(database string, servers []*Server, silent []string, plans []insight.PlanRow) *Report {
	r := &Report{Database: database, Servers: []string{}, Silent: silent, Indexes: []Index{}, Findings: []Finding{}}
	r.join(servers)
	for i := range r.Indexes {
		x := &r.Indexes[i]
		switch {
		case !x.Valid:
			r.add(x, Invalid, x.Bytes, "it is not valid, as a CREATE INDEX CONCURRENTLY that failed leaves it: it serves nothing, and writes may pay for it", x.drop())
		case r.covered(x):
		case x.Scans == 0 && len(silent) == 0 && !x.Needed && !x.Unique && x.TableScans > 0:
			r.add(x, Unused, x.Bytes, fmt.Sprintf("no scan on %s; %d writes kept it up to date", r.counting(), x.Writes), x.drop())
		}
		if spare := x.Bytes - x.Least; x.Valid && x.Least > 0 && spare >= bloat && x.Bytes >= 2*x.Least {
			r.add(x, Bloated, spare, fmt.Sprintf("%s, and %s would do by estimate", size(x.Bytes), size(x.Least)), "REINDEX INDEX CONCURRENTLY "+x.Name)
		}
	}
	r.missing(plans)
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(slices.Index(Kinds, a.Kind), slices.Index(Kinds, b.Kind)), -cmp.Compare(a.Bytes, b.Bytes))
	})
	return r
}

// bloat is how many bytes too many are worth a word.
const bloat = 8 << 20

// join takes the indexes of the primary, or of the first server while there is none, with the
// scans of all. What only some servers have is of no use to judge.
func (r *Report) join(servers []*Server) {
	if len(servers) == 0 {
		return
	}
	first := servers[0]
	for _, s := range servers {
		if r.Servers = append(r.Servers, s.Name); s.Primary {
			first = s
		}
		if s.Since.After(r.Since) {
			r.Since = s.Since
		}
	}
	place := map[string]int{}
	for i, x := range first.Indexes {
		place[x.Name] = i
		r.Indexes = append(r.Indexes, x)
	}
	for _, s := range servers {
		if s == first {
			continue
		}
		for _, x := range s.Indexes {
			if i, ok := place[x.Name]; ok {
				r.Indexes[i].Scans += x.Scans
				r.Indexes[i].TableScans += x.TableScans
			}
		}
	}
}

// counting says on which servers is counted, and since when.
func (r *Report) counting() string {
	text := "the server"
	if n := len(r.Servers); n > 1 {
		text = fmt.Sprintf("%d servers", n)
	}
	if r.Since.IsZero() {
		return text + " since their statistics begin"
	}
	return text + " since " + r.Since.Format(time.DateTime)
}

func (r *Report) add(x *Index, kind string, bytes int64, detail, sql string) {
	r.Findings = append(r.Findings, Finding{Kind: kind, Table: x.Table, Index: x.Name, Bytes: bytes, Detail: detail, SQL: sql})
}

func (x *Index) drop() string { return "DROP INDEX CONCURRENTLY " + x.Name }

// covered finds another index that does what x does. Of two that do the same the one that is
// needed stays, or else the one with more scans.
func (r *Report) covered(x *Index) bool {
	if x.Needed {
		return false
	}
	for i := range r.Indexes {
		y := &r.Indexes[i]
		if x == y || !x.within(y) {
			continue
		}
		kind, what := Prefix, "begins with the same columns"
		if len(x.Keys) == len(y.Keys) {
			if y.within(x) && x.stays(y) {
				continue
			}
			kind, what = Duplicate, "has the same columns"
		}
		r.add(x, kind, x.Bytes, y.Name+" "+what, x.drop())
		return true
	}
	return false
}

// stays reports whether x is the one of two equal indexes that is to be kept.
func (x *Index) stays(y *Index) bool {
	return cmp.Or(-compareTrue(x.Needed, y.Needed), -compareTrue(x.Unique, y.Unique), -cmp.Compare(x.Scans, y.Scans), cmp.Compare(x.Name, y.Name)) < 0
}

func compareTrue(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// within reports whether y serves all that x serves: it is valid, of the same rows, and its
// keys begin with those of x. Only of B-trees the beginning of several does.
func (x *Index) within(y *Index) bool {
	if x.Table != y.Table || x.Method != y.Method || !y.Valid || x.condition != y.condition || len(x.Keys) > len(y.Keys) {
		return false
	}
	if x.Unique && (!y.Unique || len(x.Keys) != len(y.Keys)) {
		return false
	}
	if len(x.Keys) < len(y.Keys) && (x.Method != "btree" || slices.Contains(y.Keys, expression)) {
		return false // expressions are compared all together
	}
	for i := range x.Keys {
		if x.Keys[i] != y.Keys[i] || x.options[i] != y.options[i] {
			return false
		}
	}
	for _, c := range x.Include {
		if !slices.Contains(y.Include, c) && !slices.Contains(y.Keys, c) {
			return false
		}
	}
	return true
}

// missing adds what plans want.
func (r *Report) missing(plans []insight.PlanRow) {
	type want struct {
		insight.WantedIndex
		statements int
		calls      uint64
	}
	wants := map[string]*want{}
	for _, p := range plans {
		for _, w := range p.Wanted {
			if r.serves(&w) || w.Verified && !w.Used {
				continue
			}
			x := wants[w.SQL()]
			if x == nil {
				x = &want{WantedIndex: w}
				wants[w.SQL()] = x
			}
			x.statements, x.calls = x.statements+1, x.calls+p.Calls
			if w.Verified && (!x.Verified || w.Before-w.After > x.Before-x.After) {
				x.WantedIndex = w
			}
		}
	}
	for sql, x := range wants {
		detail := fmt.Sprintf("%d statements, %d calls; the cost of one is %.0f, with it %s", x.statements, x.calls, x.Before, x.Verdict())
		r.Findings = append(r.Findings, Finding{Kind: Missing, Table: x.Relation, Detail: detail + r.pays(x.Relation), SQL: sql})
	}
	slices.SortFunc(r.Findings, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.SQL, b.SQL)) })
}

// serves reports whether there is an index that begins with what is wanted, in any order: that
// plans do not use it has other reasons, or they are older.
func (r *Report) serves(w *insight.WantedIndex) bool {
	return slices.ContainsFunc(r.Indexes, func(x Index) bool {
		if x.Table != w.Relation || x.Method != "btree" || !x.Valid || x.Partial || len(x.Keys) < len(w.Columns) {
			return false
		}
		for _, c := range x.Keys[:len(w.Columns)] {
			if !slices.Contains(w.Columns, c) {
				return false
			}
		}
		return true
	})
}

// pays says what writes would pay for another index of a table, as far as that has one.
func (r *Report) pays(table string) string {
	for i := range r.Indexes {
		if x := &r.Indexes[i]; x.Table == table {
			return fmt.Sprintf("; %d rows written on %s would have paid for it", x.Writes, r.counting())
		}
	}
	return ""
}

func size(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// Columns are the keys as CREATE INDEX has them.
func (x *Index) Columns() string {
	text := "(" + strings.Join(x.Keys, ", ") + ")"
	if len(x.Include) > 0 {
		text += " include (" + strings.Join(x.Include, ", ") + ")"
	}
	if x.Partial {
		text += " partial"
	}
	return text
}
