package insight

import (
	"fmt"
	"time"
)

// Kind is what a finding is.
type Kind uint8

// Kinds of findings.
const (
	NPlusOne Kind = iota
	Duplicate
	CountFanOut
	PageAndCount
	IdleInTransaction
	Unbounded
	Offset
	PrimaryRead
	Unfiltered
	SeqScan
	PolicyUnindexed
	Spill
	PlanRegressed
	Kinds // how many there are
)

var kindNames = [Kinds]string{
	"n_plus_one", "duplicate", "count_fan_out", "page_and_count", "idle_in_transaction",
	"unbounded", "offset", "read_on_primary", "unfiltered",
	"seq_scan", "policy_unindexed", "spill", "plan_regressed",
}

func (k Kind) String() string { return kindNames[k] }

// kindTexts say in a sentence what each kind is.
var kindTexts = [Kinds]string{
	"One statement is sent again and again with other parameters, where one would do",
	"One statement is sent again and again with the same parameters",
	"Several counts of one table, where one statement would do",
	"A page and the count of all rows it is a page of are asked for separately",
	"A transaction waits for its application, and keeps a server connection",
	"A statement returns many rows, or may: nothing bounds it",
	"Rows are skipped by OFFSET, which reads them all",
	"A read that a replica could serve runs on the primary",
	"A statement does not filter by tenant",
	"A big table is read from end to end for few of its rows",
	"No index serves what a policy of row-level security asks for",
	"A step of a plan needs more memory than work_mem by estimate",
	"A statement is slower since a server executes it by another plan",
}

// Text says in a sentence what a kind is.
func (k Kind) Text() string { return kindTexts[k] }

// occurrence is a pattern that was found once.
type occurrence struct {
	calls  int           // the statements it consists of
	wasted time.Duration // what they took beyond what is needed
	others [2]*Statement
	parent bool // of N+1: others begins with the statement whose rows are gone through
	route  string
	app    string
	place  Place
}

// tally is what was found of one kind with one statement.
type tally struct {
	units, calls, parents uint64
	worst                 int
	wasted                time.Duration
	others                [2]*Statement
	routes, apps          top
	place                 Place
}

func (t *tally) add(o *occurrence) {
	t.units++
	t.calls += uint64(o.calls)
	t.wasted += o.wasted
	if o.parent {
		t.parents++
	}
	if o.calls > t.worst {
		t.worst, t.others = o.calls, o.others
	}
	t.routes.add(o.route)
	t.apps.add(o.app)
}

// Severities of findings, as the audit has them.
const (
	Info    = "info"
	Warning = "warning"
)

// Finding is something that costs more than it needs to, with what shows it.
type Finding struct {
	Kind     string `json:"kind"`
	Severity string `json:"severity"`
	// Sure is how sure it is: "certain", "likely" or, of what a text alone says, "possible".
	Sure        string            `json:"sure"`
	Database    string            `json:"database,omitempty"`
	Table       string            `json:"table,omitempty"`
	Statement   string            `json:"statement"`
	Fingerprint string            `json:"fingerprint"`
	With        []string          `json:"with,omitempty"` // other statements of it
	Detail      string            `json:"detail"`
	Cost        string            `json:"cost"`
	SQL         string            `json:"sql,omitempty"`   // what to send instead
	Idiom       map[string]string `json:"idiom,omitempty"` // how, by library
	Evidence
	Place

	kind Kind
}

// Evidence is what a finding rests on.
type Evidence struct {
	Times  uint64   `json:"times"` // it was found
	Calls  uint64   `json:"calls"` // of statements, in all of these
	Worst  int      `json:"worst,omitempty"`
	Wasted float64  `json:"wasted_ms,omitempty"`
	Routes []string `json:"routes,omitempty"`
	Apps   []string `json:"applications,omitempty"`

	wasted time.Duration
}

// of begins the finding of a kind for a statement.
func (s *Statement) finding(k Kind) *Finding {
	f := &Finding{
		Kind: k.String(), kind: k, Severity: Warning, Sure: "certain", Database: s.Database, Table: s.Shape().Table,
		Statement: s.Text, Fingerprint: s.Fingerprint,
	}
	f.cure(s)
	return f
}

// pattern is the finding of a tally.
func (t *tally) finding(key findingKey) *Finding {
	f := key.statement.finding(key.kind)
	f.Evidence = Evidence{Times: t.units, Calls: t.calls, Worst: t.worst, Routes: t.routes.list(), Apps: t.apps.list(), wasted: t.wasted}
	f.Place = t.place
	for _, x := range t.others {
		if x != nil {
			f.With = append(f.With, x.Text)
		}
	}
	each := float64(t.calls) / float64(t.units)
	switch key.kind {
	case NPlusOne:
		f.Detail = fmt.Sprintf("sent %.0f times a transaction with other parameters, %d times at worst", each, t.worst)
		if t.parents > 0 {
			f.Detail += ", once for each row of another statement"
		} else {
			f.Sure = "likely"
		}
		f.Cost = saving(each-1, "round trip", t)
	case Duplicate:
		f.Detail = fmt.Sprintf("sent %.0f times a transaction with the same parameters, %d times at worst", each, t.worst)
		f.Cost = saving(each-1, "round trip", t)
	case CountFanOut:
		f.Detail = fmt.Sprintf("%.0f counts of %s a transaction, %d at worst", each, key.statement.Shape().Table, t.worst)
		f.Cost = saving(each-1, "statement", t)
	case PageAndCount:
		f.Severity = Info
		f.Detail = "the rows of the page are counted by a statement of its own"
		f.Cost = saving(1, "statement", t)
	case IdleInTransaction:
		f.Detail = fmt.Sprintf("transactions waited for their application, most of it behind this statement, %d times", t.units)
		f.Cost = fmt.Sprintf("%s of a server connection each time", rounded(t.wasted/time.Duration(t.units)))
	case Unbounded, Offset, PrimaryRead, Unfiltered, SeqScan, PolicyUnindexed, Spill, PlanRegressed, Kinds: // of statements, not of tallies
	}
	return f
}

// saving says what could be saved each time.
func saving(n float64, what string, t *tally) string {
	if n != 1 {
		what += "s"
	}
	text := fmt.Sprintf("%.0f %s too many each time", n, what)
	if t.wasted > 0 {
		text += fmt.Sprintf(", %s", rounded(t.wasted/time.Duration(t.units)))
	}
	return text
}

func rounded(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
