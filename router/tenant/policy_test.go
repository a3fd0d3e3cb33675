package tenant

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPolicy(t *testing.T) {
	const ddl = `
		CREATE TABLE organizations (id int PRIMARY KEY, name text);
		CREATE TABLE pairs (id int, tenant_id int, organization_id int);
		CREATE TABLE parts (shop int, id int) PARTITION BY LIST (shop);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
		CREATE TABLE logs (organization_id int, line text);
		CREATE SCHEMA a; CREATE TABLE a.t (id int, organization_id int);
		CREATE SCHEMA b; CREATE TABLE b.t (id int);
		CREATE SCHEMA c; CREATE TABLE c.t (organization_id int, id int); CREATE TABLE c.u (organization_id int);
		CREATE VIEW c.w AS SELECT id, line FROM logs, organizations;
		CREATE VIEW public.newer AS SELECT 1 AS id;`
	schema, err := ParseSchema(ddl)
	require.NoError(t, err)
	policy := Policy{
		Columns:      []string{"tenant_id", "organization_id"},
		Tables:       map[string]string{"organizations": "id", "parts": "shop", "elsewhere": "org", "c.u": "", "c.w": ""},
		ExemptTables: []string{"logs"},
	}
	cases := []struct {
		change func(*Policy)
		sql    string
		want   Verdict
	}{
		{nil, "SELECT * FROM organizations", Missing},
		{nil, "SELECT * FROM organizations WHERE id = 1", Filtered},
		{nil, "SELECT * FROM pairs WHERE organization_id = 1", Missing},
		{nil, "SELECT * FROM pairs WHERE tenant_id = 1", Filtered},
		{nil, "SELECT * FROM parts_1", Missing},
		{nil, "SELECT * FROM parts_1 WHERE shop = 1", Filtered},
		{nil, "SELECT * FROM elsewhere", Missing},
		{nil, "SELECT * FROM any_schema.elsewhere e WHERE e.org = 1", Filtered},
		{nil, "SELECT * FROM elsewhere WHERE org = 1", Filtered},
		{nil, "SELECT * FROM c.u", NotTenant},
		{nil, "SELECT * FROM c.w", NotTenant},
		{nil, "SELECT * FROM logs", Exempt},
		{nil, "DELETE FROM logs", Exempt},
		{func(p *Policy) { p.ExemptTables = []string{"public.*"} }, "SELECT * FROM pairs, logs", Exempt},
		{func(p *Policy) { p.ExemptTables = []string{"a.*"} }, "SELECT * FROM pairs", Missing},
		{func(p *Policy) { p.ExemptTables = []string{"parts"} }, "SELECT * FROM parts_1", Exempt},
		// An unqualified name may be any of these tables, unless the path is known.
		{nil, "SELECT * FROM t", Missing},
		{nil, "SELECT * FROM t WHERE organization_id = 1", Filtered},
		{nil, "SELECT * FROM b.t", NotTenant},
		{func(p *Policy) { p.SearchPath = []string{"b", "a"} }, "SELECT * FROM t", NotTenant},
		{func(p *Policy) { p.SearchPath = []string{"x", "a"} }, "SELECT * FROM t", Missing},
		{func(p *Policy) { p.ExemptTables = []string{"a.t"} }, "SELECT * FROM t", Missing},
		{func(p *Policy) { p.ExemptTables = []string{"a.t"} }, "SELECT * FROM a.t", Exempt},
		{func(p *Policy) { *p = Policy{} }, "SELECT * FROM a.t", NotTenant},
	}
	for _, c := range cases {
		p := policy
		if c.change != nil {
			c.change(&p)
		}
		f := New(&p, schema).Text(c.sql)
		require.Equal(t, c.want, f.Verdict, "%s: %s", c.sql, describe(f))
	}

	j := New(&policy, schema)
	require.Equal(t, Unknown, j.Text("SELECT nonsense FROM").Verdict)
	first := j.Text("SELECT * FROM pairs WHERE id = 5 AND name = 'x'")
	require.Len(t, first.Fingerprint, 16)
	policy2 := policy
	policy2.ExemptStatements = []string{first.Fingerprint}
	again := New(&policy2, schema).Text("SELECT * FROM pairs WHERE id = 77 AND name = 'yyy'")
	require.Equal(t, Exempt, again.Verdict)
	require.Equal(t, first.Fingerprint, again.Fingerprint)
}

// TestUnreadableView: what a view does that cannot be parsed is not known, and not taken for harmless.
func TestUnreadableView(t *testing.T) {
	schema, err := ParseSchema("CREATE TABLE orders (organization_id int); CREATE VIEW v AS SELECT 1 AS id")
	require.NoError(t, err)
	schema.Tables("", "v")[0].View = "SELECT something of PostgreSQL 30"
	j := New(casePolicy, schema)
	for range 2 { // also when the view was met before
		require.Equal(t, Missing, j.Text("SELECT * FROM v").Verdict)
		require.Equal(t, Missing, j.Text("SELECT * FROM v WHERE organization_id = 1").Verdict)
		require.Equal(t, Missing, j.Text("SELECT * FROM v, orders WHERE organization_id = 1").Verdict)
	}
}

// TestTooMuch: a statement that would take for ever is given up, and not judged filtered.
func TestTooMuch(t *testing.T) {
	var b strings.Builder
	b.WriteString("WITH w0 AS (SELECT * FROM orders)")
	for i := range 40 {
		fmt.Fprintf(&b, ", w%d AS (SELECT a.* FROM w%d a JOIN w%[2]d b ON a.id = b.id AND a.organization_id = b.organization_id)", i+1, i)
	}
	sql := b.String() + " SELECT * FROM w40 WHERE organization_id = 1"
	f := New(casePolicy, caseSchema(t)).Text(sql)
	require.Equal(t, Missing, f.Verdict)
}

// TestConcurrent: a Judge with its parsed views serves all sessions.
func TestConcurrent(t *testing.T) {
	j := New(casePolicy, caseSchema(t))
	all := cases(t, "testdata/cases/read.txt")
	want := make([]string, len(all))
	alone := New(casePolicy, caseSchema(t))
	for i, c := range all {
		want[i] = describe(alone.Text(c.sql))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, c := range all {
				if got := describe(j.Text(c.sql)); got != want[i] {
					t.Errorf("%s: %s, alone %s", c.sql, got, want[i])
				}
			}
		})
	}
	wg.Wait()
}
