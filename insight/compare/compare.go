// Package compare says what differs between two periods: which statements are slower or faster,
// which are new or gone, for which of the application's requests more statements are sent, and
// which patterns came or went. What differs by chance is no difference: significance.go has how that is
// judged.
package compare

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pgweir/pgweir/insight"
)

// Options say what counts. Zero is the default.
type Options struct {
	// MinCalls is how many calls, or transactions of a route, both periods must have: 30.
	MinCalls uint64
	// Slower and More are by which part a statement must be slower or faster, and a route send
	// more or fewer statements: 0.2.
	Slower, More float64
}

// level is how probable it may be that two equal periods differ in anything.
const level = 0.05

// Status is what became of a statement or a route.
type Status string

// Statuses. Few: too few calls to tell.
const (
	Slower Status = "slower"
	Faster Status = "faster"
	More   Status = "more"
	Fewer  Status = "fewer"
	Same   Status = "same"
	Few    Status = "few"
	New    Status = "new"
	Gone   Status = "gone"
)

// Report is what differs.
type Report struct {
	Before Period `json:"before"`
	After  Period `json:"after"`
	// Notes say why the periods may not be comparable.
	Notes      []string    `json:"notes,omitempty"`
	Statements []Statement `json:"statements"`
	Routes     []Route     `json:"routes"`
	Patterns   []Pattern   `json:"patterns,omitempty"`
}

// Period is what the servers had to do. Times are in milliseconds.
type Period struct {
	Name  string    `json:"name,omitempty"`
	Why   string    `json:"why,omitempty"` // it was taken
	Begin time.Time `json:"begin,omitzero"`
	End   time.Time `json:"end,omitzero"`
	Calls uint64    `json:"calls"`
	// Rate is calls a second, Busy how many statements ran at the same time; both on average.
	Rate    float64 `json:"calls_per_second,omitempty"`
	Busy    float64 `json:"busy,omitempty"`
	Wait    float64 `json:"wait_ms"` // for a connection, of each call
	Lag     float64 `json:"lag_ms"`  // of replicas, on average
	MostLag float64 `json:"most_lag_ms"`
}

// Figures are of one statement in one period. Times are in milliseconds; rows are of each call.
type Figures struct {
	Calls   uint64  `json:"calls"`
	Errors  uint64  `json:"errors,omitempty"`
	Mean    float64 `json:"mean_ms"`
	P50     float64 `json:"p50_ms"`
	P95     float64 `json:"p95_ms"`
	Rows    float64 `json:"rows"`
	Primary float64 `json:"on_primary"` // the part of the calls
}

// Statement is one statement in both periods. Change is how many times as long it takes, and P
// how probable it is that chance alone makes such a difference anywhere.
type Statement struct {
	Status      Status  `json:"status"`
	Database    string  `json:"database,omitempty"`
	Fingerprint string  `json:"fingerprint"`
	Statement   string  `json:"statement"`
	Before      Figures `json:"before"`
	After       Figures `json:"after"`
	Change      float64 `json:"change,omitempty"`
	P           float64 `json:"p,omitempty"`
	// Plan is what is another way of executing it, where servers were asked for plans.
	Plan string `json:"plan,omitempty"`

	total float64
}

// Route is one route in both periods: its transactions, and the statements of each.
type Route struct {
	Status             Status  `json:"status"`
	Database           string  `json:"database,omitempty"`
	Application        string  `json:"application,omitempty"`
	Route              string  `json:"route,omitempty"`
	TransactionsBefore uint64  `json:"transactions_before"`
	TransactionsAfter  uint64  `json:"transactions_after"`
	Before             float64 `json:"statements_before"`
	After              float64 `json:"statements_after"`
	Change             float64 `json:"change,omitempty"`
	P                  float64 `json:"p,omitempty"`
}

// Pattern is a finding that is there in one of the periods only.
type Pattern struct {
	Status Status `json:"status"`
	insight.Finding
}

// Compare compares two periods.
func Compare(before, after *insight.Snapshot, o Options) *Report {
	o.MinCalls = max(cmp.Or(o.MinCalls, 30), 2)
	o.Slower, o.More = cmp.Or(o.Slower, 0.2), cmp.Or(o.More, 0.2)
	r := &Report{Before: periodOf(before), After: periodOf(after), Statements: []Statement{}, Routes: []Route{}}
	r.note(before, after)
	tested := slices.Concat(r.statements(before, after, &o), r.routes(before, after, &o))
	correct(tested)
	for _, v := range tested {
		v.tell(v)
	}
	if !slices.ContainsFunc(r.Statements, func(s Statement) bool { return s.Status != New && s.Status != Gone }) && r.Before.Calls > 0 && r.After.Calls > 0 {
		r.Notes = append(r.Notes, "the periods have no statement in common: the names of databases must be the same")
	}
	r.sort()
	r.patterns(before, after)
	return r
}

func ms(d time.Duration) float64 { return rounded(d.Seconds() * 1000) }

// rounded is x to four digits: more are noise.
func rounded(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0
	}
	unit := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*unit) / unit
}

func periodOf(s *insight.Snapshot) Period {
	p := Period{Name: s.Name, Why: s.Why, Begin: s.Begin, End: s.End, Lag: ms(s.Lag.Mean()), MostLag: ms(s.Lag.Max)}
	var all insight.Counts
	for i := range s.Statements {
		n := s.Statements[i].All()
		all.Add(&n)
	}
	p.Calls = all.Calls
	p.Wait = ms(all.Waited / time.Duration(max(all.Calls, 1)))
	if d := s.End.Sub(s.Begin).Seconds(); d > 0 && !s.Begin.IsZero() {
		p.Rate, p.Busy = rounded(float64(all.Calls)/d), rounded(all.Took.Seconds()/d)
	}
	return p
}

// otherwise is how many times as much load makes times hard to compare, and lagging how much
// more replicas may lag.
const (
	otherwise = 2
	lagging   = 1000 // ms
)

// note says in what the periods differ besides the statements.
func (r *Report) note(before, after *insight.Snapshot) {
	a, b := r.Before, r.After
	for _, x := range []struct {
		what          string
		before, after float64
	}{{"the statements a second", a.Rate, b.Rate}, {"the statements at the same time", a.Busy, b.Busy}} {
		if x.before > 0 && x.after > 0 && max(x.before/x.after, x.after/x.before) > otherwise {
			r.Notes = append(r.Notes, fmt.Sprintf("after has %.2g times %s", x.after/x.before, x.what))
		}
	}
	if math.Abs(a.Lag-b.Lag) > lagging {
		r.Notes = append(r.Notes, fmt.Sprintf("replicas lagged %.0f ms before and %.0f ms after, so other reads ran on the primary", a.Lag, b.Lag))
	}
	if before.Left+after.Left > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d statements had no room before and %d after", before.Left, after.Left))
	}
	if !before.End.IsZero() && after.Begin.Before(before.End) && !after.Begin.IsZero() && after.End.After(before.Begin) {
		r.Notes = append(r.Notes, "the periods overlap")
	}
}

func figuresOf(c *insight.Counted) Figures {
	n := c.All()
	mean, _ := n.Mean()
	return Figures{
		Calls: n.Calls, Errors: n.Errors, Mean: rounded(mean * 1000), P50: rounded(n.Quantile(0.5) * 1000), P95: rounded(n.Quantile(0.95) * 1000),
		Rows:    rounded(float64(n.Rows) / float64(max(n.Calls-min(n.Uncounted, n.Calls), 1))),
		Primary: rounded(float64(c.On[insight.Primary].Calls) / float64(max(n.Calls, 1))),
	}
}

// both calls f with what before and after have of each key, nil for nothing.
func both[T any, K comparable](before, after []T, key func(*T) K, f func(before, after *T)) {
	was := make(map[K]*T, len(before))
	for i := range before {
		was[key(&before[i])] = &before[i]
	}
	for i := range after {
		k := key(&after[i])
		f(was[k], &after[i])
		delete(was, k)
	}
	for i := range before {
		if was[key(&before[i])] == &before[i] {
			f(&before[i], nil)
		}
	}
}

// sort puts first what matters most.
func (r *Report) sort() {
	slices.SortStableFunc(r.Statements, func(x, y Statement) int {
		return cmp.Or(cmp.Compare(rank[x.Status], rank[y.Status]), -cmp.Compare(x.total, y.total), -cmp.Compare(x.After.Calls, y.After.Calls), cmp.Compare(x.Statement, y.Statement))
	})
	slices.SortStableFunc(r.Routes, func(x, y Route) int {
		return cmp.Or(cmp.Compare(rank[x.Status], rank[y.Status]), -cmp.Compare(x.TransactionsAfter, y.TransactionsAfter), cmp.Compare(x.Route, y.Route))
	})
}

// statements adds all statements, and returns what is to be judged of them.
func (r *Report) statements(before, after *insight.Snapshot, o *Options) (tested []*verdict) {
	type key struct{ database, fingerprint string }
	both(before.Statements, after.Statements, func(c *insight.Counted) key { return key{c.Database, c.Fingerprint} }, func(a, b *insight.Counted) {
		is := cmp.Or(b, a)
		s := Statement{Database: is.Database, Fingerprint: is.Fingerprint, Statement: is.Text}
		var m, n insight.Counts
		if a != nil {
			s.Before, m = figuresOf(a), a.All()
		}
		if b != nil {
			s.After, n = figuresOf(b), b.All()
		}
		if a != nil && b != nil && a.Plan != nil && b.Plan != nil && a.Plan.Shape != b.Plan.Shape {
			s.Plan = a.Plan.Change(b.Plan)
		}
		s.total = (m.Took + n.Took).Seconds()
		switch {
		case a == nil:
			s.Status = New
		case b == nil:
			s.Status = Gone
		case m.Timed() < o.MinCalls || n.Timed() < o.MinCalls:
			s.Status = Few
		default:
			v, i := slower(&m, &n, o.Slower), len(r.Statements)
			v.tell = func(v *verdict) {
				s := &r.Statements[i]
				s.Change, s.P, s.Status = rounded(v.change), rounded(v.p), v.status(Slower, Faster)
			}
			tested = append(tested, v)
		}
		r.Statements = append(r.Statements, s)
	})
	return tested
}

// rank is the order of a report.
var rank = map[Status]int{Slower: 0, More: 0, New: 1, Faster: 2, Fewer: 2, Gone: 3, Same: 4, Few: 5}

// routes adds all routes, and returns what is to be judged of them.
func (r *Report) routes(before, after *insight.Snapshot, o *Options) (tested []*verdict) {
	type key struct{ database, application, route string }
	both(before.Routes, after.Routes, func(n *insight.RouteCounts) key { return key{n.Database, n.Application, n.Route} }, func(a, b *insight.RouteCounts) {
		is := cmp.Or(b, a)
		x := Route{Database: is.Database, Application: is.Application, Route: is.Route}
		if a != nil {
			x.TransactionsBefore, x.Before = a.Transactions, rounded(perTransaction(a))
		}
		if b != nil {
			x.TransactionsAfter, x.After = b.Transactions, rounded(perTransaction(b))
		}
		switch {
		case a == nil:
			x.Status = New
		case b == nil:
			x.Status = Gone
		case min(a.Transactions, b.Transactions) < o.MinCalls:
			x.Status = Few
		default:
			v, i := more(a, b, o.More), len(r.Routes)
			v.tell = func(v *verdict) {
				x := &r.Routes[i]
				x.Change, x.P, x.Status = rounded(v.change), rounded(v.p), v.status(More, Fewer)
			}
			tested = append(tested, v)
		}
		r.Routes = append(r.Routes, x)
	})
	return tested
}

func perTransaction(n *insight.RouteCounts) float64 {
	return float64(n.Statements) / float64(max(n.Transactions, 1))
}

// patterns compares what is found in the periods.
func (r *Report) patterns(before, after *insight.Snapshot) {
	type key struct{ kind, database, fingerprint string }
	both(findings(before), findings(after), func(f *insight.Finding) key { return key{f.Kind, f.Database, f.Fingerprint} }, func(a, b *insight.Finding) {
		switch {
		case a == nil:
			r.Patterns = append(r.Patterns, Pattern{New, *b})
		case b == nil:
			r.Patterns = append(r.Patterns, Pattern{Gone, *a})
		}
	})
	slices.SortStableFunc(r.Patterns, func(x, y Pattern) int {
		return cmp.Or(cmp.Compare(rank[x.Status], rank[y.Status]), -cmp.Compare(x.Severity, y.Severity))
	})
}

func findings(s *insight.Snapshot) []insight.Finding {
	const all = 1 << 40
	b := insight.New(insight.Options{MaxStatements: all, MaxBytes: all})
	b.Add(s)
	return b.Summary().Findings
}
