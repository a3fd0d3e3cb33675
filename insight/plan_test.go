package insight

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func scan(kind, index string, rows float64) *Plan {
	return &Plan{Shape: kind + index, Cost: 2000, Rows: rows, Nodes: []PlanNode{{
		Type: kind, Relation: "public.children", Index: index, Cost: 1990, Rows: rows, TableRows: 100_000,
		Conditions: []Condition{{Column: "org", Compare: ByEquality, Session: true}, {Column: "state", Compare: ByEquality}},
	}}}
}

// calls are some calls that take as long.
func (c *client) calls(s *Statement, n int, each time.Duration) {
	for i := range n {
		c.now = c.now.Add(time.Second)
		c.Ran(&Event{Statement: s, Batch: uint64(i + 1), Params: uint64(i), Rows: 1, Began: c.now, Duration: each})
	}
}

// TestPlanner: a plan is asked for now and then, when calls take longer, and when the catalog
// changed; a plan of another shape is told, and is a finding if calls are slower by it.
func TestPlanner(t *testing.T) {
	c := newClient(Options{})
	p := c.book.NewPlanner(time.Hour)
	s := c.statement("a", child)
	due := func() bool { return s.PlanDue(c.now.Unix()) }
	require.True(t, due())
	require.False(t, c.book.other.PlanDue(c.now.Unix()))
	require.Nil(t, p.Note(s, scan("Index Scan", "children_org", 1), c.now))
	require.False(t, due())

	c.calls(s, 40, 4*time.Millisecond)
	p.Review(c.now)
	require.Equal(t, Pace{Calls: 40, P95: 4096 * time.Microsecond, Mean: 4 * time.Millisecond}, s.Planned().Usual)
	c.calls(s, 100, 3*time.Millisecond)
	p.Review(c.now)
	require.False(t, due())
	c.calls(s, minCalls-1, time.Second)
	p.Review(c.now)
	require.False(t, due(), "a few calls are no pace")
	c.calls(s, 30, 300*time.Millisecond)
	p.Review(c.now)
	require.True(t, due())
	p.Review(c.now)
	p.Failed(s, c.now)
	require.False(t, due())

	changed := p.Note(s, scan("Seq Scan", "", 7), c.now)
	require.NotNil(t, changed)
	require.Equal(t, "Index Scan by children_org on public.children → Seq Scan on public.children", changed.Before.Change(changed.Plan))
	kinds := func() (all []string) {
		for _, f := range c.book.Summary().Findings {
			all = append(all, f.Kind)
		}
		return all
	}
	require.Contains(t, kinds(), "plan_regressed", "the calls were slow, so the plan was asked for")
	require.Equal(t, []*Statement{s}, p.Review(c.now))
	c.calls(s, 30, 310*time.Millisecond)
	require.Empty(t, p.Review(c.now), "it is not new")
	require.Contains(t, kinds(), "plan_regressed")
	for _, f := range c.book.Summary().Findings {
		if f.Kind == "plan_regressed" {
			require.Regexp(t, `Index Scan .* → Seq Scan .* since 2001-09-09 .*, p95 4.1ms → 524.29ms`, f.Detail)
		}
	}

	require.NotNil(t, p.Note(s, scan("Index Scan", "children_org", 1), c.now))
	c.calls(s, 30, 4*time.Millisecond)
	p.Review(c.now)
	require.NotContains(t, kinds(), "plan_regressed", "it is fast again")

	// The same plan, but slower: it is asked for once, not again and again.
	c.calls(s, 60, 400*time.Millisecond)
	p.Review(c.now)
	require.True(t, due())
	require.Nil(t, p.Note(s, scan("Index Scan", "children_org", 2), c.now))
	for range 5 {
		c.calls(s, 60, 400*time.Millisecond)
		p.Review(c.now)
		require.False(t, due())
	}

	p.Again("another", c.now)
	require.False(t, due())
	p.Again("db", c.now)
	require.True(t, due())
	p.Note(s, scan("Seq Scan", "", 7), c.now)
	p.Again("db", c.now)
	require.False(t, due(), "not at once again")
	other := c.statement("b", child)
	p.Failed(other, c.now)
	require.False(t, other.PlanDue(c.now.Unix()))
	p.Again("db", c.now)
	require.True(t, other.PlanDue(c.now.Unix()), "a replica may know it now")
}

// TestPlanFindings: what a plan shows, and what it does not.
func TestPlanFindings(t *testing.T) {
	c := newClient(Options{})
	p := c.book.NewPlanner(time.Hour)
	found := func(plan *Plan) (all []Finding) {
		s := c.statement(fmt.Sprint(len(c.book.order)), child)
		c.calls(s, 1, time.Millisecond)
		p.Note(s, plan, c.now)
		for _, f := range c.book.Summary().Findings {
			if f.Fingerprint == s.Fingerprint {
				all = append(all, f)
			}
		}
		return all
	}
	plan := scan("Parallel Seq Scan", "", 40)
	plan.Wanted = []WantedIndex{{Relation: "public.children", Columns: []string{"org", "state"}}}
	f := found(plan)
	require.Len(t, f, 1)
	require.Equal(t, "policy_unindexed", f[0].Kind)
	require.Equal(t, "CREATE INDEX CONCURRENTLY ON public.children (org, state)", f[0].SQL)
	require.Contains(t, f[0].Detail, "reads all of 100000 rows for about 40, by org, state; row-level security asks for org")
	require.Contains(t, f[0].Cost, "not verified")
	plan.Wanted[0].Verified, plan.Wanted[0].Used, plan.Wanted[0].After = true, true, 8
	require.Contains(t, found(plan)[0].Cost, "the cost is 8 (HypoPG)")

	plan = scan("Seq Scan", "", 40)
	plan.Nodes[0].Conditions[0].Session = false
	require.Equal(t, "seq_scan", found(plan)[0].Kind)
	for _, change := range []func(*PlanNode){
		func(x *PlanNode) { x.Rows = 10_000 },
		func(x *PlanNode) { x.TableRows, x.Rows = 5000, 1 },
		func(x *PlanNode) { x.TableRows = 0 },
		func(x *PlanNode) { x.Conditions = nil },
		func(x *PlanNode) { x.Type = "Index Scan" },
	} {
		plan := scan("Seq Scan", "", 40)
		change(&plan.Nodes[0])
		require.Empty(t, found(plan))
	}
	plan = &Plan{Nodes: []PlanNode{{Type: "Sort", Rows: 1e6, Spills: 80 << 20}}}
	f = found(plan)
	require.Equal(t, "spill info Sort of 1000000 rows: more than work_mem by estimate", f[0].Kind+" "+f[0].Severity+" "+f[0].Detail)
}

// TestPlansAreBounded: plans of many statements take no more memory than the statements may.
func TestPlansAreBounded(t *testing.T) {
	b := New(Options{MaxStatements: 1 << 30, MaxBytes: 1 << 20})
	p := b.NewPlanner(time.Hour)
	plan := scan("Seq Scan", "", 1)
	plan.Nodes[0].Relation = strings.Repeat("x", 63)
	for len(plan.Nodes) < 50 {
		plan.Nodes = append(plan.Nodes, plan.Nodes[0])
	}
	kept := 0
	for i := range 100_000 {
		s := b.Statement("db", fmt.Sprint(i), "", child)
		if s.PlanDue(1) {
			p.Note(s, plan, time.Unix(1, 0))
		}
		if s.Planned() != nil {
			kept++
		}
	}
	require.LessOrEqual(t, p.bytes, 1<<20)
	require.Equal(t, kept, len(p.pace))
	require.Greater(t, kept, 20)
	require.Less(t, kept, 200)
}
