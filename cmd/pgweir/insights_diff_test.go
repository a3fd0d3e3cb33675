package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/insight/archive"
	"github.com/pgweir/pgweir/insight/compare"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// TestDiffOfTheProgram: what an index does to a statement is told by a baseline before and what
// comes after, two equal periods differ in nothing, more statements in a request are found,
// and all of it survives that the process is killed.
func TestDiffOfTheProgram(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	must(t, c.Exec(t.Context(), `create table couriers (id int primary key, organization_id int, status text, name text);
		insert into couriers select i, i % 50, case when i % 500 = 7 then 'ON_LEAVE' else 'ACTIVE' end, 'name ' || i from generate_series(1, 100000) i; analyze couriers`))
	at, dir := freeAddresses(t, 2), filepath.Join(t.TempDir(), "insight")
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\ninsight: {enabled: true, dir: %s}\n", at[0], at[1], dir))
	process := g.start()
	g.await("listening")
	conn := clientOf(t, dsn(at[0], "postgres"))
	simple := func(sql string) {
		t.Helper()
		_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		must(t, err)
	}
	request := func(more int) {
		simple("begin")
		simple("select id, name from couriers where organization_id = 7 and status = 'ON_LEAVE' order by id limit 20 /*route='/couriers'*/")
		for i := range 1 + more {
			simple(fmt.Sprintf("select name from couriers where id = %d /*route='/couriers'*/", i))
		}
		simple("commit")
	}
	work := func(more int) {
		for range 60 {
			request(more)
		}
	}
	insights := func(args ...string) string {
		t.Helper()
		out, code := commanded(slices.Concat([]string{"insights"}, args, []string{"--config", g.config})...)
		require.Zero(t, code, out)
		return out
	}
	diff := func(want int, args ...string) (r compare.Report) {
		t.Helper()
		var out, stderr bytes.Buffer
		code := run(slices.Concat([]string{"insights", "diff", "--format", "json", "--config", g.config}, args), strings.NewReader(""), &out, &stderr)
		require.Equal(t, want, code, stderr.String())
		require.NoError(t, json.Unmarshal(out.Bytes(), &r))
		return r
	}
	statement := func(r *compare.Report, part string) *compare.Statement {
		i := slices.IndexFunc(r.Statements, func(s compare.Statement) bool { return strings.Contains(s.Statement, part) })
		require.GreaterOrEqual(t, i, 0, part)
		return &r.Statements[i]
	}
	const leave, byID = "status = $2", "where id = $1"

	require.Contains(t, insights("baseline"), "there is no baseline")
	// Two equal periods, which take turns so that what else the machine does is in both.
	equal := [2]string{filepath.Join(t.TempDir(), "a.zst"), filepath.Join(t.TempDir(), "b.zst")}
	var parts [2][]string
	for i := range 10 {
		for range 12 {
			request(0)
		}
		insights("baseline", "part")
		part := filepath.Join(t.TempDir(), "part.zst")
		insights("baseline", "part", "--output", part)
		parts[i%2] = append(parts[i%2], part)
	}
	for i, name := range equal {
		require.Zero(t, first(commanded(slices.Concat([]string{"insights", "merge", "--output", name}, parts[i])...)))
	}
	r := diff(0, equal[0], equal[1], "--fail-on", "slower=200%,more-queries=20%,new-findings") // 200: other work on the machine is no fault
	require.Equal(t, compare.Same, statement(&r, leave).Status, "%+v", statement(&r, leave))
	require.Equal(t, compare.Same, r.Routes[0].Status)
	require.Equal(t, "/couriers", r.Routes[0].Route)
	require.Equal(t, uint64(60), statement(&r, leave).Before.Calls)

	work(0)
	insights("baseline", "before")

	must(t, c.Exec(t.Context(), "create index couriers_leave on couriers (organization_id, status)"))
	work(0)
	insights("baseline", "after")
	r = diff(0, "before", "after", "--fail-on", "new-findings")
	s := statement(&r, leave)
	require.Equal(t, compare.Faster, s.Status, "%+v", s)
	require.Less(t, s.Change, 0.5)
	require.Equal(t, uint64(60), s.After.Calls)
	require.Less(t, s.P, 0.001)
	require.Positive(t, r.After.Busy)
	r = diff(exitFailure, "after", "before", "--fail-on", "slower=20%")
	require.Equal(t, compare.Slower, r.Statements[0].Status)
	require.Contains(t, r.Statements[0].Statement, leave)

	for range 40 {
		request(9)
	}
	r = diff(exitFailure, "after", "--fail-on", "more-queries=100%")
	require.Equal(t, compare.More, r.Routes[0].Status)
	require.Equal(t, "/couriers", r.Routes[0].Route)
	require.Greater(t, r.Routes[0].After, 2*r.Routes[0].Before)
	require.Equal(t, "n_plus_one", r.Patterns[0].Kind)
	diff(exitFailure, "after", "--fail-on", "new-findings")
	table := insights("diff", "after", "--format", "markdown")
	require.Contains(t, table, "| more | ×")
	require.Contains(t, table, "`select name from couriers where id = $1`")

	require.Equal(t, exitFailure, first(commanded("insights", "diff", "nothing", "--config", g.config)))
	insights("baseline", "now") // writes what was counted up to it
	require.Contains(t, insights("baseline"), "after")
	saved := filepath.Join(t.TempDir(), "now.zst")
	insights("baseline", "now", "--output", saved)
	must(t, process.Process.Kill())
	_ = process.Wait()
	g.start()
	g.await("listening")
	r = diff(0, "before", "now")
	require.Contains(t, statement(&r, byID).Statement, byID)
	require.Contains(t, insights("top"), byID)
	require.Contains(t, insights("findings"), "n_plus_one")
	merged := filepath.Join(t.TempDir(), "all.zst")
	out, code := commanded("insights", "merge", "--output", merged, dir, dir)
	require.Zero(t, code, out)
	require.Contains(t, out, "is counted once")
	out, code = commanded("insights", "top", merged)
	require.Zero(t, code, out)
	require.Regexp(t, `(?m)^280 .* select id, name from couriers`, out)
	out, code = commanded("insights", "diff", saved, merged)
	require.Zero(t, code, out)
	require.Contains(t, out, "the periods overlap")
	insights("baseline", "before", "--remove")
	require.NotContains(t, insights("baseline"), "before")
}

func first(_ string, code int) int { return code }

// TestDiffOfLogs: periods are files of a server log, too.
func TestDiffOfLogs(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, took func(i int) float64) string {
		var log strings.Builder
		for i := range 80 {
			at := time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC).Format("2006-01-02 15:04:05.000 UTC")
			fmt.Fprintf(&log, "%s [1] u@d LOG:  duration: %.3f ms  statement: SELECT * FROM t WHERE a = %d LIMIT 1\n", at, took(i), i)
			fmt.Fprintf(&log, "%s [1] u@d LOG:  duration: 1.5 ms  statement: SELECT * FROM u WHERE a = %d LIMIT 1\n", at, i)
		}
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(log.String()), 0o600))
		return path
	}
	main, branch := write("main.log", func(i int) float64 { return 2 + float64(i%7) }), write("branch.log", func(i int) float64 { return 4 + 2*float64(i%7) })
	out, code := pgweir("", "insights", "diff", main, branch, "--fail-on", "slower=50%")
	require.Equal(t, exitFailure, code)
	require.Regexp(t, `(?m)^slower +×2\.00 .*SELECT \* FROM t WHERE a = \$1 LIMIT \$2$`, out)
	require.Contains(t, out, "without a difference: 1; with too few calls to tell: 0")
	require.Contains(t, out, "slower: 2.00 times as long: SELECT * FROM t")
	for _, args := range [][]string{{"--fail-on", "slower=150%"}, {"--min-calls", "100", "--fail-on", "slower=20%"}, {}} {
		out, code = pgweir("", append([]string{"insights", "diff", main, branch}, args...)...)
		require.Zero(t, code, out)
	}
	for _, args := range [][]string{{"--fail-on", "slower"}, {"--fail-on", "slower=x%"}, {"--fail-on", "slower=20"}, {"--fail-on", "new-findings=1%"}, {"--fail-on", "other"}, {"--format", "sarif"}} {
		_, code = pgweir("", append([]string{"insights", "diff", main, branch}, args...)...)
		require.Equal(t, exitUsage, code, args)
	}
	snapshot := filepath.Join(dir, "main.zst")
	_, code = pgweir("", "insights", "merge", "-o", snapshot, main)
	require.Zero(t, code)
	fromLog, _ := pgweir("", "insights", "diff", main, branch)
	fromSnapshot, _ := pgweir("", "insights", "diff", snapshot, branch)
	require.Equal(t, strings.ReplaceAll(fromLog, ".log", ""), strings.ReplaceAll(strings.ReplaceAll(fromSnapshot, ".log", ""), ".zst", ""))
	s, err := archive.ReadFile(snapshot)
	require.NoError(t, err)
	require.Equal(t, 79*time.Second, s.End.Sub(s.Begin).Round(time.Second))
	require.NoError(t, os.Truncate(snapshot, 100))
	out, code = pgweir("", "insights", "top", snapshot)
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, snapshot+": ")
}
