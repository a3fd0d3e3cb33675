package execplan

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pgweir/pgweir/insight"
)

// TestConditions: of what EXPLAIN writes of a condition the columns are kept, with how an
// index could serve them.
func TestConditions(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "",
		"(c.organization_id = 'x'::uuid)":       "organization_id=",
		"('active'::text = c.status)":           "status=",
		"((c.status)::text = 'active'::text)":   "status=",
		"((c.n)::numeric = 1.5)":                "n?",
		"((c.a = $1) AND (c.b >= 3))":           "a= b<",
		"(c.\"odd Name\" < 3)":                  `"odd Name"<`,
		"(c.\"order\" = 3)":                     `"order"=`,
		"(c.a = ANY ('{1,2}'::integer[]))":      "a=",
		"(c.a <> ALL ('{1,2}'::integer[]))":     "a?",
		"(c.a = c.b)":                           "a? b?",
		"(c.a = v.b)":                           "a=",
		"(lower(c.status) = 'x'::text)":         "status?",
		"((c.a = 1) OR (c.b = 2))":              "a? b?",
		"(c.a IS NULL)":                         "a=",
		"(c.a IS NOT NULL)":                     "a?",
		"(c.active AND (NOT c.gone))":           "active= gone=",
		"(ROW(c.a, c.b) > ROW(1, 2))":           "a<",
		"(c.data @> '{\"a\": 1}'::jsonb)":       "data?",
		"(c.a OPERATOR(public.=) 1)":            "a?",
		"((NOT (hashed SubPlan 1)) AND c.ok)":   "ok=",
		"(c.a = (SubPlan 2))":                   "a=",
		"(c.a = (InitPlan 1).col1)":             "a=",
		"(c.a = $0)":                            "a=",
		"(ANY (c.a = (hashed SubPlan 1).col1))": "",
		"what is this":                          "",
		"(c.organization_id = (current_setting('app.id'::text, true))::uuid)": "organization_id=s",
		"(c.owner = CURRENT_USER)":                                 "owner=s",
		"((c.t >= now()) AND (c.t < (now() + '1 day'::interval)))": "t<",
	} {
		var got []string
		for _, c := range conditions(text, "c", false) {
			s := c.Column + map[insight.Comparison]string{insight.ByEquality: "=", insight.ByRange: "<", insight.ByOther: "?"}[c.Compare]
			if c.Session {
				s += "s"
			}
			got = append(got, s)
		}
		require.Equal(t, want, strings.Join(got, " "), text)
	}
}

const hashJoin = `[{"Plan": {"Node Type": "Limit", "Total Cost": 9, "Plan Rows": 10, "Plan Width": 8, "Plans": [
	{"Node Type": "Sort", "Sort Key": ["(c.x = 'canary')"], "Total Cost": 8, "Plan Rows": 1000000, "Plan Width": 100, "Plans": [
	{"Node Type": "Aggregate", "Strategy": "Hashed", "Total Cost": 7, "Plan Rows": 500000, "Plan Width": 30, "Output": ["'canary'"], "Plans": [
	{"Node Type": "Hash Join", "Join Type": "Inner", "Hash Cond": "(c.a = 'canary')", "Total Cost": 6, "Plan Rows": 1, "Plans": [
	{"Node Type": "Seq Scan", "Parallel Aware": true, "Schema": "public", "Relation Name": "couriers", "Alias": "c", "Total Cost": 5, "Plan Rows": 7, "Plan Width": 7,
	 "Filter": "((c.status = 'canary'::text) AND (c.org = (current_setting('canary'::text))::uuid) AND (c.at > 'canary'))"},
	{"Node Type": "Hash", "Total Cost": 3, "Plan Rows": 100000, "Plan Width": 60, "Plans": [
	{"Node Type": "Index Scan", "Scan Direction": "Forward", "Schema": "public", "Relation Name": "vehicles", "Alias": "v", "Index Name": "Odd", "Total Cost": 2, "Plan Rows": 7,
	 "Index Cond": "(v.id = 1)", "Filter": "(v.name ~~ 'canary%'::text)"}]}]}]}]}]}}]`

func TestParse(t *testing.T) {
	p, err := Parse([]byte(hashJoin), Memory{Work: 1 << 20, Hash: 2 << 20})
	require.NoError(t, err)
	var lines []string
	for i := range p.Nodes {
		x := &p.Nodes[i]
		lines = append(lines, fmt.Sprintf("%d %s %s %s %v %.0f", x.Depth, x.Type, x.Relation, x.Index, x.Conditions, x.Spills))
	}
	require.Equal(t, []string{
		"0 Limit   [] 0",
		"1 Sort   [] 0", // only ten rows are kept
		"2 HashAggregate   [] 28000000",
		"3 Hash Join   [] 0",
		"4 Parallel Seq Scan public.couriers  [{status equality false false} {org equality true false} {at range false false}] 0",
		"4 Hash   [] 8800000",
		`5 Index Scan public.vehicles "Odd" [{id equality false true} {name other false false}] 0`,
	}, lines)
	require.Equal(t, []string{"Parallel Seq Scan on public.couriers", `Index Scan by "Odd" on public.vehicles`}, p.Access())
	require.Empty(t, Wanted(p), "nobody knows how big the table is")
	p.Nodes[4].TableRows = 1e6
	require.Equal(t, []insight.WantedIndex{{Relation: "public.couriers", Columns: []string{"org", "status", "at"}, Before: 9}}, Wanted(p))

	bitmap, err := Parse([]byte(`[{"Plan": {"Node Type": "Bitmap Heap Scan", "Relation Name": "t", "Alias": "x", "Filter": "(x.b = 1)", "Plans": [
		{"Node Type": "BitmapAnd", "Plans": [{"Node Type": "Bitmap Index Scan", "Index Name": "t_a", "Index Cond": "(x.a = 1)"}]}]}}]`), Memory{})
	require.NoError(t, err)
	require.Equal(t, []string{"Bitmap Heap Scan on t", "Bitmap Index Scan by t_a"}, bitmap.Access())
	require.Equal(t, []insight.Condition{{Column: "a", Compare: insight.ByEquality, Index: true}}, bitmap.Nodes[2].Conditions)

	other, err := Parse([]byte(strings.ReplaceAll(strings.ReplaceAll(hashJoin, "canary", "x"), `"Plan Rows": 7`, `"Plan Rows": 9`)), Memory{})
	require.NoError(t, err)
	require.Equal(t, p.Shape, other.Shape)
	other, err = Parse([]byte(strings.ReplaceAll(hashJoin, `"Odd"`, `"Other"`)), Memory{})
	require.NoError(t, err)
	require.NotEqual(t, p.Shape, other.Shape)
	for _, bad := range []string{"", "{}", "[]", "canary", `[{"Plan": 3}]`, `[{"Plan": {}}]`, `[{"Plan": {"Plan Rows": "canary"}}]`} {
		_, err := Parse([]byte(bad), Memory{})
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "canary")
	}
}

// TestPlansAreBounded: of a plan of any size as much is kept, and its shape tells it all.
func TestPlansAreBounded(t *testing.T) {
	deep := func(last string) *insight.Plan {
		text := strings.Repeat(`{"Node Type": "Append", "Plans": [`, 1000) + `{"Node Type": "` + last + `"}` + strings.Repeat("]}", 1000)
		p, err := Parse([]byte(`[{"Plan": `+text+`}]`), Memory{})
		require.NoError(t, err)
		return p
	}
	p := deep("Result")
	require.Len(t, p.Nodes, maxNodes)
	require.Equal(t, 1001-maxNodes, p.Left)
	require.NotEqual(t, p.Shape, deep("Seq Scan").Shape)
}

// TestNoLiteral: whatever conditions hold, nothing that is kept shows it.
func TestNoLiteral(t *testing.T) {
	atom := rapid.SampledFrom([]string{
		"(c.a = 'canary'::text)", "(c.b > 424242)", "(c.c = ANY ('{canary,424242}'::text[]))", "(lower(c.d) ~~ 'canary%'::text)", "c.e",
		"(c.f = E'canary\\'')", "(c.g = (current_setting('canary'::text))::uuid)", "(NOT (hashed SubPlan 424242))", "(c.h @> '{\"canary\": 424242}'::jsonb)",
		"'canary'", "424242", "((c.i || 'canary') = 'canary'::text)", "(c.j IS DISTINCT FROM 'canary')", "broken ( 'canary", "(CASE WHEN (c.k = 424242) THEN 'canary' END = c.l)",
	})
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(atom, 1, 6).Draw(t, "conditions")
		text := "(" + strings.Join(parts, rapid.SampledFrom([]string{" AND ", " OR "}).Draw(t, "between")) + ")"
		n := map[string]any{"Node Type": "Seq Scan", "Relation Name": "t", "Alias": "c", "Plan Rows": 1, "Total Cost": 1,
			"Filter": text, "Index Cond": text, "Recheck Cond": text, "Join Filter": text, "Output": parts, "Sort Key": parts, "Subplan Name": text, "One-Time Filter": text}
		answer, err := json.Marshal([]any{map[string]any{"Plan": n}})
		require.NoError(t, err)
		p, err := Parse(answer, Memory{})
		require.NoError(t, err)
		p.Nodes[0].TableRows = 1e6
		p.Wanted = Wanted(p)
		kept, err := json.Marshal(p)
		require.NoError(t, err)
		require.NotContains(t, string(kept), "canary")
		require.NotContains(t, string(kept), "424242")
	})
}
