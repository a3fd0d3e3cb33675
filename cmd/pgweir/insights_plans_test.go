package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/router/indexes"
)

// TestPlansOfTheProgram: how a replica executes what ran is told by the program's commands,
// and so are the indexes that are missing, and those that no server uses; no literal is.
func TestPlansOfTheProgram(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 1})
	must(t, c.Exec(t.Context(), `create table items (id int primary key, shelf int, name text, "order" int); create index items_name on items (name); create index items_name_2 on items (name);
		insert into items select i, i % 2000, 'canary', i from generate_series(1, 50000) i; analyze items`))
	must(t, c.WaitReplay(t.Context()))
	at := freeAddresses(t, 2)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\ninsight: {enabled: true, plans: {enabled: true, interval: 30s}}\n", at[0], at[1]))
	g.start()
	g.await("listening")
	conn := clientOf(t, dsn(at[0], "postgres"))
	plan := func() (p insight.PlanRow) {
		out, code := commanded("insights", "plans", "--config", g.config, "--format", "json")
		require.Zero(t, code, out)
		var all []insight.PlanRow
		require.NoError(t, json.Unmarshal([]byte(out), &all), out)
		if len(all) > 0 {
			p = all[0]
		}
		return p
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
			require.True(t, time.Now().Before(deadline), what)
			_, err := conn.Exec(t.Context(), `select count(*) from items where shelf = 424242 and name <> 'canary' and "order" > $1`, pgx.QueryExecModeExec, 31)
			must(t, err)
		}
	}
	until("no plan", func() bool { return plan().Planned != nil })
	out, code := commanded("insights", "plans", "--config", g.config)
	require.Zero(t, code, out)
	require.Regexp(t, `Seq Scan on public.items of 50000 rows  \(cost \d+, rows \d+\)  filter: name, "order", shelf`, out)
	require.Contains(t, out, `wanted: CREATE INDEX CONCURRENTLY ON public.items (shelf, "order"): not verified`)
	out, code = commanded("insights", "plans", "--config", g.config, "--changed")
	require.Equal(t, "no plan changed\n", out)
	require.Zero(t, code)
	out, _ = commanded("insights", "findings", "--config", g.config, "--kind", "seq_scan")
	require.Contains(t, out, "instead: CREATE INDEX CONCURRENTLY ON public.items (shelf,")

	out, code = commanded("insights", "indexes", "--config", g.config, "--all", "--fail-on", "missing")
	require.Equal(t, exitFailure, code, out)
	for _, want := range []string{
		"default/postgres: indexes: 3, on ", `(?m)^  public.items  public.items_name_2  btree   \(name\)`, "duplicate: public.items_name_2: public.items_name has the same columns",
		`missing: public.items: 1 statements, \d+ calls; the cost of one is \d+, with it not verified; 50000 rows written on 2 servers`, `CREATE INDEX CONCURRENTLY ON public.items \(shelf, "order"\)`,
	} {
		require.Regexp(t, want, out)
	}
	out, code = commanded("insights", "indexes", "--dsn", c.Primary.ConnString("postgres", pgtest.Superuser), "--dsn", c.Replicas[0].ConnString("postgres", pgtest.Superuser), "--format", "json")
	require.Zero(t, code, out)
	var reports []indexes.Report
	require.NoError(t, json.Unmarshal([]byte(out), &reports))
	require.Len(t, reports[0].Servers, 2)
	require.Equal(t, "unused duplicate", reports[0].Findings[0].Kind+" "+reports[0].Findings[1].Kind)
	out, code = commanded("insights", "indexes", "--dsn", c.Primary.ConnString("postgres", pgtest.Superuser), "--dsn", "host=127.0.0.1 port=1 user=x dbname=postgres password=canary")
	require.Zero(t, code, out)
	require.Contains(t, out, "no answer, so that nothing is called unused: 127.0.0.1:1: ")
	out, code = commanded("insights", "indexes", "--config", g.config, "--format", "sarif")
	require.Zero(t, code, out)
	var log struct{ Runs []map[string]any }
	require.NoError(t, json.Unmarshal([]byte(out), &log))
	levels := map[string]any{}
	for _, x := range log.Runs[0]["results"].([]any) {
		r := x.(map[string]any)
		checkResult(t, r, log.Runs[0]["tool"].(map[string]any)["driver"].(map[string]any)["rules"].([]any), "file://"+g.config, false)
		levels[r["ruleId"].(string)] = r["level"]
	}
	require.Equal(t, map[string]any{"index_missing": "warning", "index_duplicate": "note", "index_unused": "note"}, levels)
	_, code = commanded("insights", "baseline", "before", "--config", g.config)
	require.Zero(t, code)
	_, err := conn.Exec(t.Context(), "create index items_shelf on items (shelf)")
	must(t, err)
	until("no other plan", func() bool { return plan().Before != nil })
	out, code = commanded("insights", "diff", "before", "--config", g.config)
	require.Zero(t, code, out)
	require.Regexp(t, `(?s)Plans\n\nstatus [^\n]*\n[^\n]*Seq Scan on public.items → [^\n]*items_shelf[^\n]*select count`, out)
	for _, args := range [][]string{{"plans", "--format", "json"}, {"plans"}, {"indexes", "--format", "json"}, {"indexes", "--format", "sarif"}, {"findings", "--format", "json"}, {"top"}, {"diff", "before"}} {
		out, _ := commanded(append(append([]string{"insights"}, args...), "--config", g.config)...)
		require.NotContains(t, out, "canary")
		require.NotContains(t, out, "424242")
	}
}
