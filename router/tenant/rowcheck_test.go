package tenant

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/pgtest"
)

var rowCheckNames = map[string]rowCheck{"none": rowsNone, "bound": rowsBound, "unsure": rowsUnsure, "all": rowsAll}

// judged is one line of testdata/policies.txt.
type judged struct {
	expression string
	want       [3]rowCheck // by sessionState
}

func readPolicies(t *testing.T) []judged {
	text, err := os.ReadFile("testdata/policies.txt")
	require.NoError(t, err)
	var list []judged
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		expression, want, ok := cutLast(line, " | ")
		words := strings.Fields(want)
		require.True(t, ok && len(words) == 3, line)
		j := judged{expression: expression}
		for i, w := range words {
			j.want[i], ok = rowCheckNames[w]
			require.True(t, ok, line)
		}
		list = append(list, j)
	}
	require.NotEmpty(t, list)
	return list
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// policyTables is what the expressions of testdata/policies.txt refer to.
const policyTables = `
CREATE FUNCTION current_tenant() RETURNS int STABLE LANGUAGE sql AS $$ SELECT NULLIF(current_setting('app.tenant', true), '')::int $$;
CREATE FUNCTION atomic_tenant() RETURNS int STABLE LANGUAGE sql BEGIN ATOMIC SELECT NULLIF(current_setting('app.tenant', true), '')::int; END;
CREATE FUNCTION returned_tenant() RETURNS int STABLE LANGUAGE sql RETURN NULLIF(current_setting('app.tenant', true), '')::int;
CREATE FUNCTION opaque_tenant() RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN NULLIF(current_setting('app.tenant', true), '')::int; END $$;
CREATE TABLE members (tenant_id int);
INSERT INTO members VALUES (1), (2);
CREATE TABLE t (tenant_id int NOT NULL, name text, shared bool);
INSERT INTO t VALUES (1, 'a', true), (1, 'b', false), (2, 'a', true), (2, 'b', false), (3, 'a', true), (3, 'b', false);
ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT ALL ON ALL TABLES IN SCHEMA public TO policy_app;`

// TestPolicyExpressions judges every expression of testdata/policies.txt as PostgreSQL
// writes it, and compares what was found with what PostgreSQL then shows.
func TestPolicyExpressions(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	require.NoError(t, c.Exec(t.Context(), "DO $$ BEGIN CREATE ROLE policy_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"))
	require.NoError(t, c.Primary.Exec(t.Context(), db, policyTables))
	conn := connect(t, c.Primary, db, pgtest.Superuser)
	for _, j := range readPolicies(t) {
		require.NoError(t, conn.Exec(t.Context(), "DROP POLICY IF EXISTS p ON t; CREATE POLICY p ON t USING ("+j.expression+")").Close())
		roles, err := LoadRoles(t.Context(), querying(conn))
		require.NoError(t, err)
		stored, err := c.Primary.Value(t.Context(), db, "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy")
		require.NoError(t, err)
		for state, want := range j.want {
			for _, text := range []string{j.expression, stored} {
				e := &evaluator{state: sessionState(state), settings: []string{"app.tenant"}, column: "tenant_id", functions: roles.functions}
				if got := e.rows(text); got != want {
					t.Errorf("state %d: %s: judged %d, want %d", state, text, got, want)
				}
			}
			shown(t, c, db, sessionState(state), j.expression, want)
		}
	}
}

// shown asks, on a connection of its own, which tenants a session in that state sees
// rows of.
func shown(t *testing.T, c *pgtest.Cluster, db string, state sessionState, expression string, want rowCheck) {
	t.Helper()
	conn := connect(t, c.Primary, db, "policy_app")
	defer conn.Close(t.Context())
	switch state {
	case resetOnce:
		require.NoError(t, conn.Exec(t.Context(), "SET app.tenant = 'x'; RESET app.tenant; SET app.is_superuser = 'x'; RESET app.is_superuser").Close())
	case tenantSet:
		require.NoError(t, conn.Exec(t.Context(), "SET app.tenant = '1'").Close())
	}
	tenants := map[string]int{}
	err := querying(conn)(t.Context(), "SELECT tenant_id FROM t", func(v [][]byte) error {
		tenants[string(v[0])]++
		return nil
	})
	ok := true
	switch want {
	case rowsNone:
		ok = len(tenants) == 0
	case rowsBound:
		ok = err == nil && len(tenants) <= 1
	case rowsAll:
		ok = err == nil && tenants["1"] == 2 && tenants["2"] == 2
	}
	if !ok {
		t.Errorf("state %d: %s: judged %d, but PostgreSQL shows %v, %v", state, expression, want, tenants, err)
	}
}
