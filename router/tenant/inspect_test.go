package tenant

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/router/catalog"
)

var gapPolicy = &Policy{
	Columns: []string{"tenant_id"}, Settings: []string{"app.tenant"},
	Tables: map[string]string{"accounts": "id"}, ExemptTables: []string{"public.public_holidays"},
}

func (in *Inspection) describe() string {
	var b strings.Builder
	for _, g := range in.Gaps {
		fmt.Fprintf(&b, "%s %s", g.Severity, g.Kind)
		for _, s := range []string{g.Qualified(), g.Role, strings.Join(g.Policies, ","), strings.Join(g.Commands, ",")} {
			if s != "" {
				b.WriteString(" " + s)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// TestGaps inspects testdata/gaps.sql on a server, as an ordinary role on the primary
// and on a replica, and as text; roles are known on servers only.
func TestGaps(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Replicas: 1})
	sql, err := os.ReadFile("testdata/gaps.sql")
	require.NoError(t, err)
	require.NoError(t, c.Exec(t.Context(), string(sql)))
	require.NoError(t, c.WaitReplay(t.Context()))
	for _, s := range c.Servers() {
		q := querying(connect(t, s, "postgres", "app"))
		snapshot, err := catalog.Load(t.Context(), q, catalog.LoadOptions{Tables: true})
		require.NoError(t, err)
		roles, err := LoadRoles(t.Context(), q)
		require.NoError(t, err)
		golden(t, "testdata/gaps.txt", Inspect(snapshot, gapPolicy, roles, nil).describe())
		golden(t, "testdata/gaps_boss.txt", Inspect(snapshot, gapPolicy, roles, []string{"boss", "app"}).describe())
	}
}

func TestGapsOfText(t *testing.T) {
	sql, err := os.ReadFile("testdata/gaps.sql")
	require.NoError(t, err)
	s, err := ParseSchema(string(sql))
	require.NoError(t, err)
	golden(t, "testdata/gaps_text.txt", Inspect(s, gapPolicy, nil, nil).describe())
}

// TestCovers: a severity rests on whom row-level security binds.
func TestCovers(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	sql, err := os.ReadFile("testdata/gaps.sql")
	require.NoError(t, err)
	require.NoError(t, c.Exec(t.Context(), string(sql)))
	q := querying(connect(t, c.Primary, "postgres", "app"))
	snapshot, err := catalog.Load(t.Context(), q, catalog.LoadOptions{Tables: true})
	require.NoError(t, err)
	roles, err := LoadRoles(t.Context(), q)
	require.NoError(t, err)
	in := Inspect(snapshot, gapPolicy, roles, nil)
	for _, tc := range []struct {
		role, schema, table, via string
		want                     bool
	}{
		{"app", "public", "good", "", true},
		{"app", "", "good", "", true},
		{"boss", "public", "good", "", false},
		{"bypasser", "public", "good", "", false},
		{"app", "public", "bare", "", false},
		{"app", "public", "unforced", "", true},
		{"heir", "public", "unforced", "", false},
		{"stranger", "public", "unforced", "", true},
		{"app", "public", "opens", "", true},
		{"app", "public", "open", "", false},
		{"app", "public", "audited", "", true},
		{"auditor", "public", "audited", "", false},
		{"nobody known", "public", "audited", "", true},
		{"nobody known", "public", "open", "", false},
		{"app", "public", "unknown", "", false},
		{"app", "other", "good", "", false},
		{"app", "public", "totals", "", false},
		{"app", "public", "good", "view_of_app", true},
		{"app", "public", "good", "public.view_of_app", true},
		{"app", "public", "good", "view_of_boss", false},
		{"app", "public", "good", "view_nobody_knows", false},
		{"boss", "public", "good", "view_of_app", false},
	} {
		if got := in.Covers(tc.role, &Table{Schema: tc.schema, Name: tc.table, Via: tc.via}); got != tc.want {
			t.Errorf("%s on %s.%s: %v", tc.role, tc.schema, tc.table, got)
		}
	}
	if (*Inspection)(nil).Covers("app", &Table{Schema: "public", Name: "good"}) {
		t.Error("without an inspection nothing is covered")
	}
}

// TestFleetGaps finds the nine tenant tables of the fleet application that have no
// row-level security, and that its policies open while nothing is set.
func TestFleetGaps(t *testing.T) {
	s, err := ParseSchema(readGzip(t, "testdata/fleet/schema.sql.gz"))
	require.NoError(t, err)
	fleetGaps(t, Inspect(s, &Policy{Columns: []string{"organization_id"}, Settings: []string{"app.current_org_id"}}, nil, nil))
}

// TestFleetGapsOnServer finds the same where the application itself would run.
func TestFleetGapsOnServer(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	require.NoError(t, c.Exec(t.Context(), "CREATE ROLE fleet_app LOGIN"))
	require.NoError(t, c.Exec(t.Context(), "CREATE DATABASE fleet OWNER fleet_app"))
	require.NoError(t, c.Primary.Exec(t.Context(), "fleet", withoutPsql(readGzip(t, "testdata/fleet/schema.sql.gz"))))
	q := querying(connect(t, c.Primary, "fleet", "fleet_app"))
	snapshot, err := catalog.Load(t.Context(), q, catalog.LoadOptions{Tables: true})
	require.NoError(t, err)
	roles, err := LoadRoles(t.Context(), q)
	require.NoError(t, err)
	fleetGaps(t, Inspect(snapshot, &Policy{Columns: []string{"organization_id"}, Settings: []string{"app.current_org_id"}}, roles, nil))
}

var withoutRLS = []string{
	"cod_transactions", "courier_targets", "customer_feedbacks", "feedbacks", "organization_users", "payroll_parameters",
	"penalties", "vehicle_inspections", "workflow_notification_preferences",
}

func fleetGaps(t *testing.T, in *Inspection) {
	t.Helper()
	require.Equal(t, 86, in.Tables)
	byKind := map[GapKind][]string{}
	for _, g := range in.Gaps {
		byKind[g.Kind] = append(byKind[g.Kind], g.Table)
	}
	require.Equal(t, withoutRLS, byKind[GapNoRLS])
	require.Len(t, byKind[GapPolicyOpenUnset], 77)
	for _, k := range []GapKind{GapPolicyOpen, GapNotForced, GapNoPolicy, GapPolicyUnclear, GapRoleBypasses} {
		require.Empty(t, byKind[k], k)
	}
	for _, g := range in.Gaps {
		if g.Kind == GapPolicyOpenUnset {
			require.Equal(t, []string{"SELECT", "INSERT", "UPDATE", "DELETE"}, g.Commands)
			require.Len(t, g.Policies, 1)
			require.NotContains(t, g.Policies[0], "superuser_bypass")
		}
	}
}
