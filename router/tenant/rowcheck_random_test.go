package tenant

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// expressions makes random expressions of the kind policies are made of.
type expressions struct{ *rand.Rand }

func (r expressions) pick(list ...func() string) string { return list[r.IntN(len(list))]() }

func (r expressions) text(depth int) string {
	words := []string{
		"current_setting('app.tenant', true)", "current_setting('app.tenant', true)", "current_setting('app.tenant')",
		"current_setting('app.is_superuser', true)", "''", "'1'", "'true'", "NULL::text", "name",
	}
	if depth <= 0 || r.IntN(2) == 0 {
		return words[r.IntN(len(words))]
	}
	return r.pick(
		func() string { return "NULLIF(" + r.text(depth-1) + ", '')" },
		func() string { return "COALESCE(" + r.text(depth-1) + ", " + r.text(depth-1) + ")" },
		func() string { return "lower(" + r.text(depth-1) + ")" },
		func() string { return "(SELECT " + r.text(depth-1) + ")" },
	)
}

func (r expressions) number(depth int) string {
	words := []string{"tenant_id", "tenant_id", "tenant_id", "1", "2", "NULL::int", "current_tenant()"}
	if depth <= 0 || r.IntN(3) == 0 {
		return words[r.IntN(len(words))]
	}
	return r.pick(
		func() string { return "(" + r.text(depth-1) + ")::int" },
		func() string { return "(NULLIF(current_setting('app.tenant', true), ''))::int" },
		func() string { return "COALESCE(" + r.number(depth-1) + ", " + r.number(depth-1) + ")" },
		func() string { return "NULLIF(" + r.number(depth-1) + ", " + r.number(depth-1) + ")" },
		func() string {
			return "CASE WHEN " + r.condition(depth-1) + " THEN " + r.number(depth-1) + " ELSE " + r.number(depth-1) + " END"
		},
	)
}

func (r expressions) comparison(depth int) string {
	of := r.number
	if r.IntN(3) == 0 {
		of = r.text
	}
	a, b, c := of(depth-1), of(depth-1), of(depth-1)
	forms := []string{
		a + " = " + b, a + " = " + b, a + " <> " + b, a + " IN (" + b + ", " + c + ")",
		a + " = ANY (ARRAY[" + b + ", " + c + "])", a + " IS NULL", a + " IS NOT NULL",
		a + " IS DISTINCT FROM " + b, a + " IS NOT DISTINCT FROM " + b,
	}
	return "(" + forms[r.IntN(len(forms))] + ")"
}

func (r expressions) condition(depth int) string {
	if depth <= 0 {
		words := []string{"true", "false", "NULL::boolean", "shared"}
		return words[r.IntN(len(words))]
	}
	c := func() string { return r.condition(depth - 1) }
	return r.pick(
		func() string { return r.comparison(depth) },
		func() string { return r.comparison(depth) },
		func() string { return "(" + c() + " AND " + c() + ")" },
		func() string { return "(" + c() + " OR " + c() + ")" },
		func() string { return "(NOT " + c() + ")" },
		func() string {
			tests := []string{"TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN"}
			return "(" + c() + " IS " + tests[r.IntN(len(tests))] + ")"
		},
		func() string { return "COALESCE(" + c() + ", " + c() + ")" },
		func() string { return "(" + c() + " = " + c() + ")" },
		func() string { return "CASE WHEN " + c() + " THEN " + c() + " ELSE " + c() + " END" },
		func() string { return "(" + r.text(depth-1) + ")::boolean" },
	)
}

// TestRandomPolicies: whatever an expression is, what it was found to let through is
// what PostgreSQL lets through, unless it fails there or nothing certain was found.
func TestRandomPolicies(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	require.NoError(t, c.Exec(t.Context(), "DO $$ BEGIN CREATE ROLE policy_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"))
	require.NoError(t, c.Primary.Exec(t.Context(), db, policyTables))
	// A policy brings current_tenant() into what is loaded.
	require.NoError(t, c.Primary.Exec(t.Context(), db, "CREATE POLICY p ON t USING (tenant_id = current_tenant())"))
	roles, err := LoadRoles(t.Context(), querying(connect(t, c.Primary, db, pgtest.Superuser)))
	require.NoError(t, err)
	var conns [3]*pgconn.PgConn
	for state := range conns {
		conns[state] = connect(t, c.Primary, db, pgtest.Superuser)
	}
	require.NoError(t, conns[resetOnce].Exec(t.Context(), "SET app.tenant = 'x'; RESET app.tenant; SET app.is_superuser = 'x'; RESET app.is_superuser").Close())
	require.NoError(t, conns[tenantSet].Exec(t.Context(), "SET app.tenant = '1'").Close())
	const n, seed = 3000, 7
	r := expressions{rand.New(rand.NewPCG(seed, seed))}
	certain := 0
	for range n {
		expression := r.condition(4)
		for state, conn := range conns {
			e := &evaluator{state: sessionState(state), settings: []string{"app.tenant"}, column: "tenant_id", functions: roles.functions}
			found := e.rows(expression)
			rows, err := rowsSeen(t, conn, expression)
			if found != rowsUnsure {
				certain++
			}
			if err == nil && !agrees(found, rows) {
				t.Errorf("state %d: judged %d, but of the rows %v are seen: %s", state, found, rows, expression)
			}
		}
	}
	require.Greater(t, certain, n, "hardly anything is certain")
}

// rowsSeen asks which rows an expression lets through.
func rowsSeen(t *testing.T, conn *pgconn.PgConn, expression string) (rows []string, err error) {
	err = querying(conn)(t.Context(), "SELECT tenant_id || coalesce(name, '') FROM t WHERE "+expression, func(v [][]byte) error {
		rows = append(rows, string(v[0]))
		return nil
	})
	return rows, err
}

// agrees reports whether what was found holds of the rows seen, of six: two of each of
// three tenants, of which nobody names the third.
func agrees(found rowCheck, rows []string) bool {
	switch found {
	case rowsNone:
		return len(rows) == 0
	case rowsBound:
		return !slices.ContainsFunc(rows, func(row string) bool { return row[0] == '3' })
	case rowsAll:
		return len(rows) == 6
	}
	return true
}

// FuzzRowCheck: no expression makes the evaluator fail.
func FuzzRowCheck(f *testing.F) {
	r := expressions{rand.New(rand.NewPCG(1, 1))}
	for range 20 {
		f.Add(r.condition(3))
	}
	f.Add("current_setting()")
	f.Add("string_to_array()")
	f.Add("1); SELECT (1")
	f.Fuzz(func(t *testing.T, expression string) {
		if len(expression) > 1000 || strings.Count(expression, "(") > 200 {
			return
		}
		for state := range 3 {
			e := &evaluator{state: sessionState(state), column: "tenant_id", functions: map[string]string{"f": "SELECT f()", "g": fmt.Sprint("SELECT ", expression)}}
			e.rows(expression)
		}
	})
}
