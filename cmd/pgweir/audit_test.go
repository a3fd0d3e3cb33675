package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/progress"
	"github.com/pgweir/pgweir/internal/statements"
	"github.com/pgweir/pgweir/router/tenant"
)

// fleet is a cluster with the database of the fleet application, owned by fleet_app, and
// a configuration for it.
func fleet(t *testing.T) (c *pgtest.Cluster, path string) {
	t.Helper()
	f, err := os.Open("../../router/tenant/testdata/fleet/schema.sql.gz")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	sql, err := io.ReadAll(z)
	require.NoError(t, err)
	c = pgtest.New(t, pgtest.Options{})
	require.NoError(t, c.Exec(t.Context(), "CREATE ROLE fleet_app LOGIN"))
	require.NoError(t, c.Exec(t.Context(), "CREATE DATABASE fleet OWNER fleet_app"))
	require.NoError(t, c.Primary.Exec(t.Context(), "fleet", regexp.MustCompile(`(?m)^\\.*$`).ReplaceAllString(string(sql), "")))
	path = filepath.Join(t.TempDir(), "pgweir.yaml")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `
servers: [%q]
service: {user: %s}
auth: {method: trust}
users: {fleet_app: {pool_size: 5}}
tenant: {settings: [app.current_org_id], columns: [organization_id]}
`, c.Primary.Addr(), pgtest.Superuser), 0o600))
	return c, path
}

// auditJSON runs audit and reads its JSON.
func auditJSON(t *testing.T, args ...string) (r report, code int) {
	t.Helper()
	var out, told bytes.Buffer
	code = run(append([]string{"audit", "--format", "json"}, args...), strings.NewReader(""), &out, &told)
	require.NoError(t, json.Unmarshal(out.Bytes(), &r), out.String()+told.String())
	return r, code
}

func (r *report) tables(kind string) (list []string) {
	for _, x := range r.Issues {
		if x.Kind == kind {
			list = append(list, x.Tables...)
		}
	}
	return list
}

// TestAuditOfNothing: where no table is a tenant's, nothing can be found, which is no good news.
func TestAuditOfNothing(t *testing.T) {
	server := pgtest.Shared(t).Primary.Addr()
	path := filepath.Join(t.TempDir(), "pgweir.yaml")
	for more, hint := range map[string]string{
		"": "if they are in another database: --database NAME",
		"databases: {zoo: {}, shop: {name: x}, '*': {}, tools: {name: postgres}}\n": "if they are in another database: --database shop, --database zoo",
	} {
		text := fmt.Sprintf("servers: [%s]\nservice: {user: %s}\ntenant: {columns: [a_tenant, organisation_id], tables: [{table: orgs, column: id}]}\n", server, pgtest.Superuser)
		require.NoError(t, os.WriteFile(path, []byte(text+more), 0o600))
		out, code := pgweir("", "audit", "--config", path, "--database", "tools")
		if more == "" {
			out, code = pgweir("", "audit", "--config", path)
		}
		wantOutput(t, out, "database postgres on "+server+": no table has a column a_tenant or organisation_id or orgs.id", hint+"\n")
		require.Equal(t, exitFailure, code)
	}
}

// TestAuditDatabase inspects the database of the fleet application: nine tenant tables
// have no row-level security, and the policies of the others open while nothing is set.
func TestAuditDatabase(t *testing.T) {
	c, path := fleet(t)
	r, code := auditJSON(t, "--config", path, "--database", "fleet")
	require.Equal(t, exitFailure, code)
	require.Equal(t, 86, r.Tables)
	require.Equal(t, []string{
		"public.cod_transactions", "public.courier_targets", "public.customer_feedbacks", "public.feedbacks",
		"public.organization_users", "public.payroll_parameters", "public.penalties", "public.vehicle_inspections",
		"public.workflow_notification_preferences",
	}, r.tables("no_rls"))
	require.Len(t, r.tables("policy_open_unset"), 77)
	require.Empty(t, r.tables("role_bypasses"))

	require.NoError(t, c.Primary.Exec(t.Context(), "fleet", "ALTER ROLE fleet_app BYPASSRLS"))
	r, _ = auditJSON(t, "--config", path, "--database", "fleet")
	require.True(t, slices.ContainsFunc(r.Issues, func(x issue) bool { return x.Kind == "role_bypasses" && x.Role == "fleet_app" }))
	r, _ = auditJSON(t, "--config", path, "--database", "fleet", "--login", "nobody")
	require.False(t, slices.ContainsFunc(r.Issues, func(x issue) bool { return x.Kind == "role_bypasses" }))

	out, code := pgweir("", "audit", "--config", path, "--database", "nowhere")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, `database "nowhere" does not exist`)
}

// TestAuditStatementsWithDatabase judges statements by what a server knows.
func TestAuditStatementsWithDatabase(t *testing.T) {
	_, path := fleet(t)
	file := filepath.Join(t.TempDir(), "q.sql")
	require.NoError(t, os.WriteFile(file, []byte("SELECT * FROM couriers;\nSELECT * FROM penalties WHERE id = 1;\nSELECT * FROM couriers WHERE organization_id = 1"), 0o600))
	r, code := auditJSON(t, "--config", path, "--database", "fleet", "--fail-on", "danger", file)
	require.Equal(t, exitFailure, code)
	require.Equal(t, map[string]int{"missing": 2, "filtered": 1}, r.Statements)
	require.Len(t, r.Issues, 2)
	require.Equal(t, "danger lookup [public.penalties] 2", fmt.Sprint(r.Issues[0].Severity, " ", r.Issues[0].Kind, " ", r.Issues[0].Tables, " ", r.Issues[0].Line))
	require.Equal(t, "warning list [public.couriers] 1", fmt.Sprint(r.Issues[1].Severity, " ", r.Issues[1].Kind, " ", r.Issues[1].Tables, " ", r.Issues[1].Line))
}

// TestSARIF checks what code review tools rely on: the properties that SARIF 2.1.0
// requires (sections 3.13 to 3.58), levels, rules that are there, places with lines.
func TestSARIF(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"testdata/audit/queries.sql", "testdata/audit/server.log", "testdata/audit/stats.tsv"},
	} {
		out, _ := pgweir("", append([]string{"audit", "--schema", "testdata/audit/schema.sql", "--column", "tenant_id", "--format", "sarif"}, args...)...)
		var log map[string]any
		require.NoError(t, json.Unmarshal([]byte(out), &log))
		require.Equal(t, "2.1.0", log["version"])
		require.Equal(t, sarifSchema, log["$schema"])
		runs := log["runs"].([]any)
		require.Len(t, runs, 1)
		run := runs[0].(map[string]any)
		driver := run["tool"].(map[string]any)["driver"].(map[string]any)
		require.Equal(t, "pgweir", driver["name"])
		require.NotEmpty(t, driver["version"])
		rules := driver["rules"].([]any)
		results := run["results"].([]any)
		require.NotEmpty(t, results)
		for _, x := range results {
			checkResult(t, x.(map[string]any), rules, "testdata/audit/", len(args) > 0)
		}
	}
}

// checkResult checks one result, whose file's URI begins with under.
func checkResult(t *testing.T, r map[string]any, rules []any, under string, placed bool) {
	t.Helper()
	rule := rules[int(r["ruleIndex"].(float64))].(map[string]any)
	require.Equal(t, rule["id"], r["ruleId"])
	require.NotEmpty(t, rule["shortDescription"].(map[string]any)["text"])
	require.Contains(t, []any{"error", "warning", "note"}, r["level"])
	require.NotEmpty(t, r["message"].(map[string]any)["text"])
	require.NotEmpty(t, r["partialFingerprints"].(map[string]any)["pgweir/v1"])
	places := r["locations"].([]any)
	require.Len(t, places, 1)
	physical := places[0].(map[string]any)["physicalLocation"].(map[string]any)
	require.True(t, strings.HasPrefix(physical["artifactLocation"].(map[string]any)["uri"].(string), under))
	region, ok := physical["region"].(map[string]any)
	require.Equal(t, placed, ok)
	if placed {
		require.GreaterOrEqual(t, region["startLine"].(float64), 1.0)
		require.NotContains(t, physical["artifactLocation"].(map[string]any)["uri"], "schema.sql")
	}
}

// TestRuleTexts: every kind there is has its words.
func TestRuleTexts(t *testing.T) {
	for k := tenant.KindNone + 1; k < tenant.Kinds; k++ {
		require.NotEmpty(t, ruleTexts[k.String()], k)
	}
	for k := range tenant.GapKinds {
		require.NotEmpty(t, ruleTexts[k.String()], k)
	}
}

func TestFileURI(t *testing.T) {
	for path, want := range map[string]string{
		"a/b c.sql": "a/b%20c.sql",
		"/a/b.sql":  "file:///a/b.sql",
		"a:b.sql":   "./a:b.sql",
	} {
		require.Equal(t, want, fileURI(path))
	}
}

// TestAuditTellsHowFar: who audits a long log hears how far it is.
func TestAuditTellsHowFar(t *testing.T) {
	s, err := subject(t.Context(), auditFlags{schema: "testdata/audit/schema.sql", columns: []string{"tenant_id"}})
	require.NoError(t, err)
	var told strings.Builder
	stdin := strings.NewReader(strings.Repeat("SELECT 1;\n", 50))
	require.NoError(t, new(report).judge(s, tenant.Inspect(s.schema, s.policy, nil, nil), []string{"-"}, statements.SQL, stdin, &progress.Meter{To: &told, Every: time.Nanosecond}))
	require.Contains(t, told.String(), "stdin: 50 of 50 statements\n")
}
