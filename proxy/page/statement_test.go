package page

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/insight/compare"
)

// The page of a statement has what was called lately, what was found, its plan, and what became of it
// since the last baseline.
func TestStatement(t *testing.T) {
	f := newFake()
	f.book = insight.New(insight.Options{})
	s := f.book.Statement("c/d", "f1", "SELECT a FROM t WHERE b = $1", insight.Shape{Reads: true, Table: "t", Bound: insight.BoundNone})
	client := f.book.NewSession(insight.Who{Database: "c/d", User: "u", Application: "shop", Route: "/x", Tenant: func() string { return "hashed" }})
	began := time.Now()
	run := func(n int, took time.Duration) {
		for range n {
			client.Ran(&insight.Event{Statement: s, Target: insight.Replica, Rows: 5000, Bytes: 1000, Began: began, Duration: took})
		}
	}
	p := pageOf(f)
	p.recent = f.book.NewRecent(steps)
	p.tick(began)
	run(50, time.Millisecond)
	p.tick(began.Add(step))
	p.tick(began.Add(step + interval)) // too early for a step

	ask := func(database, fingerprint string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/statement?"+url.Values{"database": {database}, "fingerprint": {fingerprint}}.Encode(), nil))
		return w
	}
	got := func() (shown statementPage) {
		w := ask("c/d", "f1")
		require.Equal(t, http.StatusOK, w.Code)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &shown))
		return shown
	}
	for _, other := range [][2]string{{"c/d", "f2"}, {"c/e", "f1"}, {"", ""}} {
		require.Equal(t, http.StatusNotFound, ask(other[0], other[1]).Code)
	}
	shown := got()
	require.Equal(t, s.Text, shown.Statement)
	require.Equal(t, []statementPoint{{began.Add(step).UnixMilli(), 5, 1, 0.005}}, shown.Points)
	require.Equal(t, uint64(50), shown.On[0].Calls)
	require.Equal(t, []string{"hashed"}, shown.On[0].Tenants)
	require.Equal(t, 1.0, shown.On[0].Slow.Took)
	require.Equal(t, "unbounded", shown.Findings[0].Kind)
	require.Nil(t, shown.Plan)
	require.Nil(t, shown.Baseline)

	planner := f.book.NewPlanner(time.Minute)
	plan := func(kind, index string) *insight.Plan {
		return &insight.Plan{Shape: kind, Cost: 100, Rows: 3, Server: "r:1", Nodes: []insight.PlanNode{{Type: kind, Relation: "public.t", Index: index}},
			Wanted: []insight.WantedIndex{{Relation: "public.t", Columns: []string{"b"}}}}
	}
	planner.Note(s, plan("Seq Scan", ""), began)
	f.baseline = f.book.Snapshot()
	f.baseline.Name = "before"
	planner.Note(s, plan("Index Scan", "t_b"), began)
	run(50, 8*time.Millisecond)
	p.since.at = time.Time{} // it was asked a moment ago
	shown = got()
	require.Equal(t, []string{"Index Scan by t_b on public.t  (cost 0, rows 0)"}, shown.Plan.Lines)
	require.Equal(t, "Seq Scan on public.t → Index Scan by t_b on public.t", shown.Plan.Change)
	require.Equal(t, "CREATE INDEX CONCURRENTLY ON public.t (b)", shown.Plan.Wanted[0].SQL)
	require.Equal(t, "before", shown.Baseline.Name)
	require.Equal(t, compare.Slower, shown.Baseline.Status)
	require.InDelta(t, 8, shown.Baseline.Change, 0.1)

	f.book = nil
	require.Equal(t, http.StatusNotFound, ask("c/d", "f1").Code)
}
