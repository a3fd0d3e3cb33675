package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/replay"
	"github.com/pgweir/pgweir/internal/statements"
)

// tracePath is the trace of the fleet application, unpacked.
func tracePath(t *testing.T) string {
	t.Helper()
	f, err := os.Open("../../proxy/testdata/fleet/trace.jsonl.gz")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	data, err := io.ReadAll(z)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "trace.jsonl")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// request is one of the trace, and the findings of its statements alone.
type request struct {
	id, route  string
	statements []statements.Statement
	found      []insight.Finding
}

func (r *request) has(kind insight.Kind) bool {
	for i := range r.found {
		if r.found[i].Kind == kind.String() {
			return true
		}
	}
	return false
}

// requests looks at each request of the trace by itself.
func requests(t *testing.T) []*request {
	t.Helper()
	path := tracePath(t)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	list, err := statements.Read(path, data, statements.Auto)
	require.NoError(t, err)
	require.Len(t, list, 6287)
	var all []*request
	for i := range list {
		if n := len(all); n == 0 || all[n-1].id != list[i].Session {
			all = append(all, &request{id: list[i].Session, route: list[i].Route})
		}
		r := all[len(all)-1]
		r.statements = append(r.statements, list[i])
	}
	require.Len(t, all, 924)
	for _, r := range all {
		g := replay.New(nil, []string{"organization_id"})
		for i := range r.statements {
			g.Add(&r.statements[i])
		}
		g.End()
		r.found = g.Sum.Book.Summary().Findings
	}
	return all
}

var traceLiteral = regexp.MustCompile(`'(?:[^']|'')*'|\b\d+\b`)

var traceCount = regexp.MustCompile(`(?i)\bcount\(`)

// masked is a text without its literals, found by other means than those that are tested.
func masked(text string) string { return traceLiteral.ReplaceAllString(text, "?") }

// TestTrace finds in the fleet application's trace what counting by other means finds: the
// routes that send one SELECT five times or more in a transaction, those that send three
// counts or more, every OFFSET.
func TestTrace(t *testing.T) {
	repeated, counting := map[string]bool{}, map[string]bool{}
	nPlusOne, fanOut := map[string]bool{}, map[string]bool{}
	offsets, offsetsFound := 0, 0
	for _, r := range requests(t) {
		same, counts := map[string]int{}, 0
		for i := range r.statements {
			text := r.statements[i].Text
			if text == "BEGIN" {
				clear(same)
			}
			if !strings.HasPrefix(text, "SELECT") {
				continue
			}
			same[masked(text)]++
			repeated[r.route] = repeated[r.route] || same[masked(text)] >= 5
			if traceCount.MatchString(text) {
				counts++
			}
			if strings.Contains(text, " OFFSET ") {
				offsets++
			}
		}
		counting[r.route] = counting[r.route] || counts >= 3
		nPlusOne[r.route] = nPlusOne[r.route] || r.has(insight.NPlusOne)
		fanOut[r.route] = fanOut[r.route] || r.has(insight.CountFanOut)
		for i := range r.found {
			if r.found[i].Kind == insight.Offset.String() {
				offsetsFound += int(r.found[i].Calls)
			}
		}
	}
	judge := func(name string, want, got map[string]bool, all, least, mostFalse int) {
		found, wrong, of := 0, 0, 0
		for route := range got {
			switch {
			case want[route] && got[route]:
				found, of = found+1, of+1
			case want[route]:
				of++
				t.Logf("%s: not found: %s", name, route)
			case got[route]:
				wrong++
				t.Logf("%s: false: %s", name, route)
			}
		}
		t.Logf("%s: %d of %d found, %d false", name, found, of, wrong)
		require.Equal(t, all, of)
		require.GreaterOrEqual(t, found, least)
		require.LessOrEqual(t, wrong, mostFalse)
	}
	judge("n_plus_one", repeated, nPlusOne, 17, 15, 2)
	judge("count_fan_out", counting, fanOut, 28, 26, 2)
	require.Equal(t, 203, offsets)
	require.Equal(t, offsets, offsetsFound)
}

// TestLabels compares with what a reader found in 100 further transactions.
func TestLabels(t *testing.T) {
	all := map[string]*request{}
	for _, r := range requests(t) {
		all[r.id] = r
	}
	f, err := os.Open("testdata/insights/labels.txt")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	labeled, right, wrong, missed := 0, 0, 0, 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		labeled++
		r := all[words[0]]
		for k := range insight.Kinds {
			want := slices.Contains(words[1:], k.String())
			switch got := r.has(k); {
			case got && want:
				right++
			case got:
				wrong++
				t.Logf("%s %s: false: %s", r.id, r.route, k)
			case want:
				missed++
				t.Logf("%s %s: missed: %s", r.id, r.route, k)
			}
		}
	}
	t.Logf("%d right, %d false, %d missed", right, wrong, missed)
	require.Equal(t, 100, labeled)
	require.GreaterOrEqual(t, float64(right)/float64(right+wrong), 0.9)
	require.GreaterOrEqual(t, float64(right)/float64(right+missed), 0.9)
}

// TestSeedStatements: what the application does with couriers, vehicles and deliveries.
func TestSeedStatements(t *testing.T) {
	var out, progress bytes.Buffer
	args := []string{"insights", "findings", "--format", "json", "--column", "organization_id", "--fail-on", "warning", tracePath(t)}
	require.Equal(t, exitFailure, run(args, strings.NewReader(""), &out, &progress))
	var sum insight.Summary
	require.NoError(t, json.Unmarshal(out.Bytes(), &sum))
	find := func(kind insight.Kind, table, route string) *insight.Finding {
		for i := range sum.Findings {
			if f := &sum.Findings[i]; f.Kind == kind.String() && f.Table == table && slices.Contains(f.Routes, route) {
				return f
			}
		}
		require.FailNow(t, "not found", "%s of %s in %s", kind, table, route)
		return nil
	}
	f := find(insight.NPlusOne, "couriers", "GET /api/v1/fleet/vehicles/")
	require.Equal(t, 40, f.Worst)
	require.Equal(t, "SELECT … FROM couriers WHERE current_vehicle_id = ANY ($1)", f.SQL)
	require.Contains(t, f.Idiom["SQLAlchemy"], "selectinload")
	require.Equal(t, 37, find(insight.NPlusOne, "vehicles", "GET /api/v1/fleet/assignments/current").Worst)
	require.Equal(t, 21, find(insight.CountFanOut, "deliveries", "GET /api/v1/dashboard/charts/deliveries").Worst)
	find(insight.Unbounded, "deliveries", "POST /api/v1/operations/dispatch/auto-dispatch")
}

// TestInsightsShowNoLiteral: whatever statements hold in their literals, parameters and
// comments, no output shows it.
func TestInsightsShowNoLiteral(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var log strings.Builder
		n := 0
		line := func(pid int, text, detail string) {
			n++
			fmt.Fprintf(&log, "2026-01-01 00:00:%02d.%03d UTC [%d] u@d LOG:  duration: 2000.5 ms  statement: %s\n", n/1000%60, n%1000, pid, strings.ReplaceAll(text, "\n", "\n\t"))
			if detail != "" {
				fmt.Fprintf(&log, "2026-01-01 00:00:00.000 UTC [%d] u@d DETAIL:  Parameters: %s\n", pid, detail)
			}
		}
		for range rapid.IntRange(1, 5).Draw(rt, "transactions") {
			pid := rapid.IntRange(1, 3).Draw(rt, "pid")
			line(pid, "BEGIN", "")
			text := rapid.SampledFrom(canaries).Draw(rt, "text")
			for i := range rapid.IntRange(1, 8).Draw(rt, "times") {
				one := strings.ReplaceAll(text, "canary", "canary"+strconv.Itoa(i))
				line(pid, strings.ReplaceAll(one, "424242", "424242"+strconv.Itoa(i)), "$1 = 'canary', $2 = '424242'")
			}
			line(pid, "COMMIT", "")
		}
		file := filepath.Join(t.TempDir(), "postgresql.log")
		require.NoError(rt, os.WriteFile(file, []byte(log.String()), 0o600))
		snapshot := filepath.Join(t.TempDir(), "x.zst")
		for _, args := range [][]string{
			{"top"}, {"top", "--format", "json"}, {"findings"}, {"findings", "--format", "json"}, {"findings", "--format", "sarif"}, {"merge", "--output", snapshot},
			{"diff", "--all", snapshot}, {"diff", "--all", "--format", "markdown", snapshot}, {"diff", "--format", "json", snapshot},
		} {
			out, code := pgweir("", append(append([]string{"insights"}, args...), file)...)
			require.Zero(rt, code, out)
			require.NotContains(rt, out, "canary")
			require.NotContains(rt, out, "424242")
		}
		compressed, err := os.Open(snapshot)
		require.NoError(rt, err)
		defer func() { _ = compressed.Close() }()
		z, err := zstd.NewReader(compressed)
		require.NoError(rt, err)
		defer z.Close()
		kept, err := io.ReadAll(z)
		require.NoError(rt, err)
		require.Contains(rt, string(kept), "fingerprint")
		require.NotContains(rt, string(kept), "canary")
		require.NotContains(rt, string(kept), "424242")
	})
}

// canaries are statements with what nobody may see.
var canaries = []string{
	"SELECT * FROM t WHERE a = 'canary' AND b = 424242",
	"SELECT count(*) FROM t WHERE a = E'canary\\n' OR b IN (424242, 424242.5, 4242421e3)",
	"SELECT * FROM t WHERE a = $tag$canary$tag$ LIMIT 424242 OFFSET 4242420",
	"SELECT * FROM t WHERE a = $1 OFFSET $2 /* canary */ -- 424242",
	"SELECT * FROM t WHERE a = U&'canary' AND b = B'1' ORDER BY 424242",
	"SELECT count(*) FROM (SELECT * FROM t WHERE a = 'canary' AND NOT b = 424242) AS x",
	"INSERT INTO t VALUES ('canary', 424242)",
	"UPDATE t SET a = 'canary' WHERE id = 424242",
	"CREATE ROLE r PASSWORD 'canary424242'",
	"SET app.x = 'canary'",
	"SELECT set_config('app.x', 'canary', 424242 = 1)",
	"DO $$ BEGIN PERFORM 'canary', 424242; END $$",
	"SELECT 'canary' \"unterminated",
	"SELECT 1; SELECT 'canary', 424242",
	"/* route='canary' */ SELECT a FROM t WHERE id = 424242",
}

// TestInsightsSARIF: code review tools get what the audit gives them.
func TestInsightsSARIF(t *testing.T) {
	out, code := pgweir("", "insights", "findings", "--format", "sarif", "testdata/insights/postgresql.log")
	require.Zero(t, code)
	var log sarifLog
	require.NoError(t, json.Unmarshal([]byte(out), &log))
	run := log.Runs[0]
	levels := map[string]string{}
	for _, r := range run.Results {
		require.Equal(t, r.RuleID, run.Tool.Driver.Rules[r.RuleIndex].ID)
		require.NotEmpty(t, run.Tool.Driver.Rules[r.RuleIndex].Description.Text)
		require.NotEmpty(t, r.Fingerprints["pgweir/v1"])
		require.Equal(t, "testdata/insights/postgresql.log", r.Locations[0].Physical.Artifact.URI)
		require.Positive(t, r.Locations[0].Physical.Region.StartLine)
		levels[r.RuleID] = r.Level
	}
	require.Equal(t, map[string]string{
		"n_plus_one": "warning", "count_fan_out": "warning", "idle_in_transaction": "warning", "offset": "warning", "unbounded": "note",
	}, levels)
}

// TestInsightKinds: every kind has its words, and a row in the documentation.
func TestInsightKinds(t *testing.T) {
	page, err := os.ReadFile("../../docs/insights.md")
	require.NoError(t, err)
	for k := range insight.Kinds {
		require.NotEmpty(t, k.Text(), k)
		require.Contains(t, string(page), "| `"+k.String()+"` |")
	}
}

// TestInsightsOfTheProgram: what sessions of a running program do is told by its commands.
func TestInsightsOfTheProgram(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	must(t, c.Exec(t.Context(), "create table items (id int primary key); insert into items select generate_series(1, 100)"))
	at := freeAddresses(t, 2)
	g := newGenerations(t, c, fmt.Sprintf("listen: %s\nhttp: %s\ninsight: {enabled: true}\n", at[0], at[1]))
	g.start()
	g.await("listening")
	conn := clientOf(t, dsn(at[0], "postgres"))
	for _, sql := range []string{"begin", "", "", "", "", "", "", "commit"} {
		if sql == "" {
			_, err := conn.Exec(t.Context(), "select * from items where id = $1", rand.IntN(1<<30))
			must(t, err)
			continue
		}
		_, err := conn.Exec(t.Context(), sql)
		must(t, err)
	}
	out, code := commanded("insights", "top", "--config", g.config)
	require.Zero(t, code, out)
	require.Regexp(t, `(?m)^6 .* select \* from items where id = \$1$`, out)
	out, code = commanded("insights", "findings", "--config", g.config, "--fail-on", "warning")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, "warning: n_plus_one (likely): sent 6 times a transaction")
	out, _ = commanded("insights", "findings", "--config", g.config, "--format", "json")
	var sum insight.Summary
	require.NoError(t, json.Unmarshal([]byte(out), &sum))
	require.Equal(t, "postgres", sum.Findings[0].Database[len(sum.Findings[0].Database)-8:])
}
