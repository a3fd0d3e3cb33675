package tenant

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/router/catalog"
)

// What "filtered" promises is proved on a server without row security: in a
// database of two tenants, a statement bound to tenant 1 must answer as it does when
// all rows of tenant 2 are gone, and leave those rows as they are.

// tenantTables are the tables of the cases with their tenant columns.
var tenantTables = [][2]string{
	{"customers", "organization_id"}, {"orders", "organization_id"}, {"items", "organization_id"},
	{"notes", "organization_id"}, {"accounts", "tenant_id"}, {"big", "organization_id"}, {"exact", "organization_id"},
	{"loose", "organization_id"}, {"defaults", "organization_id"}, {"events", "organization_id"},
	{"special", "organization_id"}, {`"Odd Name"`, "organization_id"}, {"other.things", "organization_id"},
	{"other.secrets", "organization_id"}, {"archive", "organization_id"}, {"tree", "organization_id"},
}

// tenantRows fills them: ids are of one tenant each, all else is alike, so that any
// join that does not name the tenant crosses over.
const tenantRows = `
INSERT INTO plans SELECT n, 'plan ' || n FROM generate_series(1, 3) n;
INSERT INTO customers SELECT n, 1 + n % 2, 'name ' || n / 2 % 3, 1 + n / 2 % 3, chr(96 + n / 2) FROM generate_series(1, 12) n;
INSERT INTO orders SELECT n, 1 + n % 2, 1 + n % 12, 'code ' || n / 2 % 3, n / 2 % 7, CASE WHEN n / 2 % 2 = 0 THEN 'new' ELSE 'done' END,
  NULLIF(n / 3, 0) FROM generate_series(1, 24) n;
INSERT INTO items SELECT o, n, 1 + n % 24, 'sku', n % 4 FROM generate_series(1, 2) o, generate_series(1, 10) n;
INSERT INTO notes SELECT n, CASE WHEN n % 3 < 2 THEN 1 + n % 3 END, 'body ' || n % 4, n FROM generate_series(1, 15) n;
INSERT INTO accounts SELECT n, 1 + n % 2, 'title' FROM generate_series(1, 6) n;
INSERT INTO big SELECT n, 1 + n % 2, 'b' FROM generate_series(1, 6) n;
INSERT INTO exact SELECT n, 1 + n % 2 FROM generate_series(1, 6) n;
INSERT INTO loose SELECT n, 1 + n % 2 FROM generate_series(1, 6) n;
INSERT INTO defaults SELECT n, 1 + n % 2, 'd' FROM generate_series(1, 6) n;
INSERT INTO events SELECT 1 + n % 2, n, 'k' FROM generate_series(1, 6) n;
INSERT INTO special SELECT n, 'x', 1 + n % 2 FROM generate_series(1, 6) n;
INSERT INTO "Odd Name" SELECT n, 1 + n % 2, 2 - n % 2 FROM generate_series(1, 6) n;
INSERT INTO things SELECT n, 'x' FROM generate_series(1, 6) n;
INSERT INTO other.things SELECT n, 1 + n % 2, 'x' FROM generate_series(1, 6) n;
INSERT INTO other.secrets SELECT n, 1 + n % 2, 'x' FROM generate_series(1, 6) n;
INSERT INTO archive SELECT n, 1 + n % 2, 'x' FROM generate_series(1, 6) n;
INSERT INTO tree SELECT n, 1 + n % 2, NULLIF(n / 2, 0), 'x' FROM generate_series(1, 12) n;
REFRESH MATERIALIZED VIEW m_orders;`

// world is a database of two tenants.
type world struct {
	t    testing.TB
	conn *pgconn.PgConn
	// gone are the statements that remove tenant 2, keep those that show its rows.
	gone, others, own []string
}

// newWorld makes one; the schema's foreign keys are for the analysis, and no trigger keeps them.
func newWorld(t testing.TB) *world {
	t.Helper()
	c := pgtest.Shared(t)
	db := c.Database(t)
	w := &world{t: t, conn: connect(t, c.Primary, db, "postgres")}
	w.exec("SET session_replication_role = replica; SET app.org = '1'; SET client_min_messages = error; SET statement_timeout = '20s'")
	w.exec(string(readFile(t, "testdata/cases/schema.sql")) + tenantRows)
	for _, table := range tenantTables {
		w.gone = append(w.gone, fmt.Sprintf("DELETE FROM %s WHERE %s::text = '2'", table[0], table[1]))
		w.others = append(w.others, fmt.Sprintf("SELECT '%s', x::text FROM %[1]s x WHERE x.%[2]s::text = '2' ORDER BY 2", table[0], table[1]))
		w.own = append(w.own, fmt.Sprintf("SELECT '%s', x::text FROM %[1]s x WHERE x.%[2]s::text IS DISTINCT FROM '2' ORDER BY 2", table[0], table[1]))
	}
	w.gone = append(w.gone, "REFRESH MATERIALIZED VIEW m_orders")
	w.own = append(w.own, "SELECT 'plans', x::text FROM plans x ORDER BY 2", "SELECT 'things', x::text FROM public.things x ORDER BY 2", "SELECT 'base', x::text FROM ONLY base x ORDER BY 2")
	return w
}

func (w *world) exec(sql string) {
	w.t.Helper()
	_, err := w.conn.Exec(w.t.Context(), sql).ReadAll()
	require.NoError(w.t, err, sql)
}

// rows runs queries and returns all their rows, a line each.
func (w *world) rows(queries []string) string {
	w.t.Helper()
	results, err := w.conn.Exec(w.t.Context(), strings.Join(queries, ";\n")).ReadAll()
	require.NoError(w.t, err)
	var b strings.Builder
	for _, r := range results {
		for _, row := range r.Rows {
			fmt.Fprintf(&b, "%s\n", row)
		}
	}
	return b.String()
}

// outcome is what a statement did.
type outcome struct {
	answer string // rows in any order, and command tags; or the error
	failed bool
	own    string // the rows of tenant 1, of nobody, and of tables without tenants, afterwards
	others string // those of tenant 2
}

// run runs sql in a transaction that is rolled back, after the given preparations.
func (w *world) run(sql string, before ...string) outcome {
	w.t.Helper()
	w.exec("BEGIN")
	for _, b := range before {
		w.exec(b)
	}
	answer, err := w.answer(sql)
	o := outcome{answer: answer, failed: err != nil}
	if err == nil {
		o.own, o.others = w.rows(w.own), w.rows(w.others)
	}
	w.exec("ROLLBACK; DEALLOCATE ALL")
	return o
}

// answer runs sql with every parameter bound to tenant 1.
func (w *world) answer(sql string) (string, error) {
	var lines []string
	if n := parameters(sql); n > 0 {
		values := make([][]byte, n)
		for i := range values {
			values[i] = []byte("1")
			if strings.Contains(sql, fmt.Sprintf("ANY ($%d", i+1)) {
				values[i] = []byte("{1}")
			}
		}
		r := w.conn.ExecParams(context.Background(), sql, values, nil, nil, nil).Read()
		return text(lines, r), r.Err
	}
	results, err := w.conn.Exec(context.Background(), sql).ReadAll()
	if err != nil {
		return err.Error(), err
	}
	for _, r := range results {
		lines = append(lines, text(nil, r))
	}
	return strings.Join(lines, "\n--\n"), nil
}

func text(lines []string, r *pgconn.Result) string {
	for _, row := range r.Rows {
		lines = append(lines, fmt.Sprintf("%q", row))
	}
	slices.Sort(lines)
	return strings.Join(append(lines, r.CommandTag.String()), "\n")
}

// parameters is the highest $n in sql; PREPARE's are its own.
func parameters(sql string) int {
	if strings.HasPrefix(sql, "PREPARE") {
		return 0
	}
	for n := 9; n > 0; n-- {
		if strings.Contains(sql, fmt.Sprintf("$%d", n)) {
			return n
		}
	}
	return 0
}

// leaks describes how sql depends on tenant 2 or changes it; empty if it does not.
// ran is whether it ran at all.
func (w *world) leaks(sql string) (how string, ran bool) {
	with := w.run(sql)
	without := w.run(sql, w.gone...)
	before := w.rows(w.others)
	switch {
	case with.failed != without.failed:
		return fmt.Sprintf("fails with or without tenant 2 only: %s / %s", with.answer, without.answer), false
	case with.failed:
		return "", false
	case with.answer != without.answer:
		return fmt.Sprintf("answers with tenant 2\n%s\nwithout\n%s", with.answer, without.answer), true
	case with.others != before:
		return "changes tenant 2's rows", true
	case without.others != "":
		return "makes rows of tenant 2: " + without.others, true
	case with.own != without.own:
		return fmt.Sprintf("stores, with tenant 2\n%s\nwithout\n%s", with.own, without.own), true
	}
	return "", true
}

// notRun are the kinds of statement that do not run by themselves, or whose answer
// is about the server.
var notRun = []string{"COPY orders FROM", "EXPLAIN", "CREATE TEMP", "SELECT * INTO"}

// TestFilteredIsProved runs every case that is judged filtered.
func TestFilteredIsProved(t *testing.T) {
	w := newWorld(t)
	j := New(casePolicy, caseSchema(t))
	proved := 0
	for _, file := range []string{"testdata/cases/read.txt", "testdata/cases/write.txt"} {
		for _, c := range cases(t, file) {
			f := j.Text(c.sql)
			if f.Verdict != Filtered && f.Verdict != Many || slices.ContainsFunc(notRun, func(p string) bool { return strings.HasPrefix(c.sql, p) }) {
				continue
			}
			how, ran := w.leaks(c.sql)
			if how != "" {
				t.Errorf("%s\n\t%s", c.sql, how)
			}
			if !ran {
				t.Errorf("%s\n\tdoes not run: %s", c.sql, w.run(c.sql).answer)
			}
			proved++
		}
	}
	t.Logf("%d filtered statements proved", proved)
}

// TestMissingIsReal runs the cases without a filter: most of them must depend on
// tenant 2, else the proof above proves nothing.
func TestMissingIsReal(t *testing.T) {
	w := newWorld(t)
	leaking, total := 0, 0
	for _, c := range cases(t, "testdata/cases/read.txt") {
		if c.mark != '-' || slices.ContainsFunc(notRun, func(p string) bool { return strings.HasPrefix(c.sql, p) }) {
			continue
		}
		if how, ran := w.leaks(c.sql); ran {
			total++
			if how != "" {
				leaking++
			}
		}
	}
	t.Logf("%d of %d statements without a filter depend on the other tenant", leaking, total)
	require.Greater(t, leaking*10, total*6)
}

// TestSnapshotJudgesAlike: what a server's catalog says gives the same verdicts as the DDL.
func TestSnapshotJudgesAlike(t *testing.T) {
	w := newWorld(t)
	snapshot, err := catalog.Load(t.Context(), querying(w.conn), catalog.LoadOptions{Tables: true})
	require.NoError(t, err)
	offline, online := New(casePolicy, caseSchema(t)), New(casePolicy, snapshot)
	for _, file := range []string{"testdata/cases/read.txt", "testdata/cases/write.txt"} {
		for _, c := range cases(t, file) {
			want, got := offline.Text(c.sql), online.Text(c.sql)
			for _, f := range []*Finding{want, got} {
				for i := range f.Tables {
					f.Tables[i].Suggestion = "" // the DDL has no types for what a query makes
				}
			}
			require.Equal(t, describe(want), describe(got), c.sql)
		}
	}
}
