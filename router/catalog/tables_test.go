package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/pgtest"
)

const shapes = `
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('good');
CREATE TABLE app.orgs (id int PRIMARY KEY);
CREATE TABLE app.items (
  id int, org int NOT NULL DEFAULT current_setting('app.org')::int REFERENCES app.orgs, code text DEFAULT 'x',
  tags text[], m app.mood, PRIMARY KEY (org, id), UNIQUE (code, org));
CREATE UNIQUE INDEX items_partial ON app.items (code) WHERE id > 0;
CREATE UNIQUE INDEX items_lower ON app.items (lower(code));
CREATE INDEX items_code ON app.items (code) INCLUDE (id);
ALTER TABLE app.items ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.items FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON app.items AS RESTRICTIVE FOR UPDATE TO pg_monitor USING (org = 1) WITH CHECK (org = 2);
CREATE TABLE app.parts (org int, id int) PARTITION BY LIST (org);
CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES IN (1);
CREATE VIEW app.v AS SELECT org, code FROM app.items WHERE id > 5;`

// TestTables reads the shape of tables.
func TestTables(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	require.NoError(t, c.Primary.Exec(t.Context(), db, shapes))
	q := connect(t, c.Primary, db, "postgres")
	s := load(t, q, LoadOptions{Tables: true})
	require.Len(t, s.AllTables(), 5)

	items := s.Tables("", "items")
	require.Len(t, items, 1)
	it := items[0]
	require.Equal(t, "app", it.Schema)
	require.Equal(t, "postgres", it.Owner)
	require.Equal(t, []Column{
		{Name: "id", Type: "int4", NotNull: true},
		{Name: "org", Type: "int4", NotNull: true, Default: "(current_setting('app.org'::text))::integer"},
		{Name: "code", Type: "text"},
		{Name: "tags", Type: "text[]"},
		{Name: "m", Type: "app.mood"},
	}, it.Columns)
	require.Equal(t, []Key{
		{Name: "items_pkey", Columns: []string{"org", "id"}, Primary: true},
		{Name: "items_code_org_key", Columns: []string{"code", "org"}},
	}, it.Keys)
	require.Equal(t, []Index{
		{Name: "items_pkey", First: "org"}, {Name: "items_code", First: "code"}, {Name: "items_code_org_key", First: "code"},
		{Name: "items_lower"}, {Name: "items_partial", First: "code", Partial: true},
	}, it.Indexes)
	require.Equal(t, []ForeignKey{{Columns: []string{"org"}, Schema: "app", Table: "orgs"}}, it.Foreign)
	require.True(t, it.RowSecurity)
	require.True(t, it.ForcedRowSecurity)
	require.Equal(t, []Policy{{
		Name: "mine", Command: 'w', Roles: []string{"pg_monitor"}, Using: "(org = 1)", Check: "(org = 2)",
	}}, it.Policies)
	parts := s.Tables("app", "parts")[0]
	require.Equal(t, byte('p'), parts.Kind)
	require.Equal(t, "parts_1", parts.Children[0].Name)
	require.Equal(t, parts, parts.Children[0].Parents[0])
	require.Contains(t, s.Tables("app", "v")[0].View, "FROM app.items")
	require.Empty(t, s.Tables("public", "items"))
	require.Empty(t, load(t, q, LoadOptions{}).AllTables())

	// Any role sees the same, on any server.
	require.NoError(t, c.Exec(t.Context(), "do $$ begin create role catalog_nobody login; exception when duplicate_object then null; end $$"))
	require.NoError(t, c.WaitReplay(t.Context()))
	replica := load(t, connect(t, c.Replicas[0], db, "catalog_nobody"), LoadOptions{Tables: true})
	require.Equal(t, s.Version(), replica.Version())
	require.Equal(t, s.AllTables(), replica.AllTables())
}

// TestTablesChange makes changes that leave pg_class as it was.
func TestTablesChange(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	require.NoError(t, c.Primary.Exec(t.Context(), db, shapes))
	q := connect(t, c.Primary, db, "postgres")
	s := load(t, q, LoadOptions{Tables: true})
	require.Same(t, s, load(t, q, LoadOptions{Tables: true, Previous: s}))
	for _, sql := range []string{
		"ALTER TABLE app.items ADD COLUMN extra int",
		"ALTER TABLE app.items RENAME COLUMN extra TO other",
		"ALTER TABLE app.items ALTER COLUMN other SET NOT NULL",
		"CREATE INDEX items_other ON app.items (other)",
		"DROP INDEX app.items_other",
		"ALTER TABLE app.items NO FORCE ROW LEVEL SECURITY",
		"ALTER POLICY mine ON app.items USING (org = 3)",
		"CREATE OR REPLACE VIEW app.v AS SELECT org, code FROM app.items WHERE id > 6",
		"ALTER TABLE app.parts DETACH PARTITION app.parts_1",
		"ALTER TABLE app.items DROP COLUMN other",
	} {
		require.NoError(t, c.Primary.Exec(t.Context(), db, sql))
		next := load(t, q, LoadOptions{Tables: true, Previous: s})
		require.NotSame(t, s, next, sql)
		require.NotEqual(t, s.Version(), next.Version(), sql)
		s = next
	}
}
