package tenant

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// readGzip reads a compressed file of testdata.
func readGzip(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	text, err := gunzip(b)
	require.NoError(t, err)
	return text
}

func gunzip(b []byte) (string, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(z)
	return string(text), err
}

func TestParseSchemaFleet(t *testing.T) {
	s, err := ParseSchema(readGzip(t, "testdata/fleet/schema.sql.gz"))
	require.NoError(t, err)
	require.Len(t, s.AllTables(), 94)
	withColumn, withPolicies := 0, 0
	for _, table := range s.AllTables() {
		if _, ok := table.Column("organization_id"); ok {
			withColumn++
		}
		withPolicies += len(table.Policies)
		require.NotEmpty(t, table.Keys, table.Name)
		require.True(t, table.Keys[0].Primary, table.Name)
	}
	require.Equal(t, 86, withColumn)
	require.Equal(t, 154, withPolicies)
	couriers := s.Tables("", "couriers")[0]
	require.Equal(t, []string{"id"}, couriers.Keys[0].Columns)
	require.True(t, couriers.RowSecurity)
	require.True(t, couriers.ForcedRowSecurity)
	c, _ := couriers.Column("organization_id")
	require.Equal(t, "int4", c.Type)
}

func TestParseSchemaHistory(t *testing.T) {
	s, err := ParseSchema(`
\restrict x
SET search_path = app, public;
CREATE TABLE a (id serial PRIMARY KEY, org int NOT NULL DEFAULT current_setting('app.org')::int, old text, UNIQUE (org, old));
COPY app.a (id) FROM stdin;
1	this is ; no SQL '
\.
CREATE TABLE b (x varchar(3), a_id int REFERENCES a (id)) INHERITS (a);
ALTER TABLE a ADD COLUMN extra uuid, DROP COLUMN extra;
ALTER TABLE a RENAME COLUMN old TO new;
CREATE TABLE p (org int, id int) PARTITION BY LIST (org);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE INDEX p_i ON p (org, id) WHERE id > 0;
CREATE POLICY pol ON p FOR UPDATE TO PUBLIC USING (org = 1) WITH CHECK (org = 2);
ALTER TABLE p ENABLE ROW LEVEL SECURITY;
CREATE VIEW v AS SELECT org FROM a;
CREATE TABLE gone (id int); DROP TABLE gone;
THIS IS NOT SQL;
CREATE TABLE public.last (id int)`)
	require.ErrorContains(t, err, "THIS IS NOT SQL")
	a := s.Tables("app", "a")[0]
	require.Equal(t, []string{"id", "org", "new"}, []string{a.Columns[0].Name, a.Columns[1].Name, a.Columns[2].Name})
	require.True(t, a.Columns[0].NotNull)
	require.Equal(t, "int4", a.Columns[0].Type)
	require.Contains(t, a.Columns[1].Default, "current_setting")
	require.Equal(t, []string{"org", "new"}, a.Keys[1].Columns)
	b := s.Tables("", "b")[0]
	require.Equal(t, "varchar", b.Columns[3].Type)
	require.Equal(t, "a", b.Foreign[0].Table)
	require.Equal(t, a, b.Parents[0])
	p := s.Tables("", "p")[0]
	require.Equal(t, byte('p'), p.Kind)
	require.Len(t, p.Children, 1)
	require.Len(t, p.Children[0].Columns, 2)
	require.True(t, p.Indexes[0].Partial)
	require.Equal(t, "org = 1", p.Policies[0].Using)
	require.Equal(t, byte('w'), p.Policies[0].Command)
	require.True(t, p.RowSecurity)
	require.Equal(t, "SELECT org FROM a", s.Tables("app", "v")[0].View)
	require.Empty(t, s.Tables("", "gone"))
	require.Len(t, s.Tables("public", "last"), 1)
}
