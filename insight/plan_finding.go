package insight

import (
	"fmt"
	"slices"
	"strings"
)

// bigTable is how many rows a table must have for it to matter that all are read, and
// fewRows which part of them may be meant for that to be wrong.
const (
	bigTable = 10_000
	fewRows  = 0.05
)

// WantsIndex reports whether x reads a big table from end to end for few of its rows.
func (x *PlanNode) WantsIndex() bool {
	return strings.HasSuffix(x.Type, "Seq Scan") && len(x.Conditions) > 0 &&
		x.TableRows >= bigTable && x.Rows <= fewRows*x.TableRows
}

// barred reports whether x reads a big table from end to end because what the session says of
// itself is asked for in a way that no index can serve.
func (x *PlanNode) barred() bool {
	return strings.HasSuffix(x.Type, "Seq Scan") && x.TableRows >= bigTable &&
		slices.ContainsFunc(x.Conditions, func(c Condition) bool { return c.Session && c.Compare == ByOther })
}

// planFindings are what is wrong with the plan of s.
func (s *Statement) planFindings(t *totals) (found []*Finding) {
	p := s.Planned()
	if p == nil {
		return nil
	}
	for i := range p.Nodes {
		x := &p.Nodes[i]
		if (x.WantsIndex() || x.barred()) && !slices.ContainsFunc(found, func(f *Finding) bool { return f.Table == x.Relation }) {
			found = append(found, s.seqScan(p.Plan, x, t))
		}
	}
	return append(found, s.spills(p.Plan, t), s.regressed(p, t))
}

// seqScan is of a node that wants an index.
func (s *Statement) seqScan(p *Plan, x *PlanNode, t *totals) *Finding {
	kind := SeqScan
	var columns, policy []string
	for _, c := range x.Conditions {
		if !slices.Contains(columns, c.Column) {
			columns = append(columns, c.Column)
		}
		if c.Session {
			kind = PolicyUnindexed
			if !slices.Contains(policy, c.Column) {
				policy = append(policy, c.Column)
			}
		}
	}
	f := s.single(kind, t)
	f.Table, f.Sure = x.Relation, "likely"
	f.Detail = fmt.Sprintf("reads all of %.0f rows for about %.0f, by %s", x.TableRows, x.Rows, strings.Join(columns, ", "))
	if len(policy) > 0 {
		f.Detail += fmt.Sprintf("; row-level security asks for %s, and no index serves it", strings.Join(policy, ", "))
	}
	f.Cost = fmt.Sprintf("%.0f of the plan's cost of %.0f by estimate; %s in all", x.Cost, p.Cost, rounded(t.took))
	if x.barred() {
		f.Detail += ", and none could: it is compared by more than = or <"
		f.SQL = "a policy that is " + policy[0] + " = …, without OR, COALESCE or a function around the column"
	}
	for _, w := range p.Wanted {
		if w.Relation == x.Relation {
			f.SQL = w.SQL()
			f.Cost += "; with an index " + w.Verdict()
		}
	}
	return f
}

// SQL makes the index.
func (w *WantedIndex) SQL() string {
	return "CREATE INDEX CONCURRENTLY ON " + w.Relation + " (" + strings.Join(w.Columns, ", ") + ")"
}

// Verdict says what the statement would cost with the index.
func (w *WantedIndex) Verdict() string {
	switch {
	case !w.Verified:
		return "not verified"
	case !w.Used:
		return "the cost stays: it would not be used (HypoPG)"
	}
	return fmt.Sprintf("the cost is %.0f (HypoPG)", w.After)
}

// spills is of what is sorted, hashed or kept beyond work_mem.
func (s *Statement) spills(p *Plan, t *totals) *Finding {
	var bytes float64
	var steps []string
	for i := range p.Nodes {
		if x := &p.Nodes[i]; x.Spills > 0 {
			bytes += x.Spills
			steps = append(steps, fmt.Sprintf("%s of %.0f rows", x.Type, x.Rows))
		}
	}
	if bytes == 0 {
		return nil
	}
	f := s.single(Spill, t)
	f.Severity, f.Sure = Info, "likely"
	f.Detail = strings.Join(steps, ", ") + ": more than work_mem by estimate"
	f.Cost = fmt.Sprintf("%.0f MiB written to disk and read again each time, about", max(bytes/(1<<20), 1))
	return f
}

// regressed is of a plan by which calls take longer than by the one before.
func (s *Statement) regressed(p *Planned, t *totals) *Finding {
	if !p.regressed() {
		return nil
	}
	f := s.single(PlanRegressed, t)
	f.Detail = fmt.Sprintf("%s since %s, p95 %s → %s", p.Before.Change(p.Plan), p.Since.UTC().Format("2006-01-02 15:04"), rounded(p.Earlier.P95), rounded(p.Usual.P95))
	f.Cost = fmt.Sprintf("%s a call, before %s", rounded(p.Usual.Mean), rounded(p.Earlier.Mean))
	return f
}

// PlanRow is what is known of the plans of one statement.
type PlanRow struct {
	Database    string `json:"database"`
	Fingerprint string `json:"fingerprint"`
	Statement   string `json:"statement"`
	Calls       uint64 `json:"calls"`
	*Planned
}

// addPlan adds what is known of the plans of s.
func (sum *Summary) addPlan(s *Statement, t *totals) {
	if p := s.Planned(); p != nil {
		sum.Plans = append(sum.Plans, PlanRow{s.Database, s.Fingerprint, s.Text, t.calls, p})
	}
}
