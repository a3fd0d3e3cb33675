package tenant

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/router/catalog"
)

// fleetDatabase is a database with the seed application's tables.
func fleetDatabase(t testing.TB) catalog.Query {
	t.Helper()
	c := pgtest.Shared(t)
	require.NoError(t, c.Exec(t.Context(),
		"DO $$ BEGIN CREATE ROLE barq_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"))
	conn := connect(t, c.Primary, c.Database(t), "postgres")
	_, err := conn.Exec(t.Context(), withoutPsql(readGzip(t, "testdata/fleet/schema.sql.gz"))).ReadAll()
	require.NoError(t, err)
	return querying(conn)
}

// TestCorpusOnServer judges the corpus by what a server says of the tables.
func TestCorpusOnServer(t *testing.T) {
	snapshot, err := catalog.Load(t.Context(), fleetDatabase(t), catalog.LoadOptions{Tables: true})
	require.NoError(t, err)
	require.Len(t, snapshot.AllTables(), 94)
	online, offline := New(fleetPolicy, snapshot), fleetJudge(t)
	for _, s := range corpus(t, "testdata/fleet/statements.tsv.gz") {
		require.Equal(t, describe(offline.Text(s.sql)), describe(online.Text(s.sql)), s.sql)
	}
}

// BenchmarkLoadTables reads the seed application's database of 94 tables, with and without
// the shape of its tables, and asks again when nothing has changed.
func BenchmarkLoadTables(b *testing.B) {
	q := fleetDatabase(b)
	for _, tables := range []bool{false, true} {
		name := "functions"
		if tables {
			name = "tables"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, err := catalog.Load(b.Context(), q, catalog.LoadOptions{Tables: tables})
				require.NoError(b, err)
			}
		})
		b.Run(name+"/unchanged", func(b *testing.B) {
			s, err := catalog.Load(b.Context(), q, catalog.LoadOptions{Tables: tables})
			require.NoError(b, err)
			for b.Loop() {
				again, err := catalog.Load(b.Context(), q, catalog.LoadOptions{Tables: tables, Previous: s})
				require.NoError(b, err)
				require.Same(b, s, again)
			}
		})
	}
}

// BenchmarkJudge judges statements of the corpus that are parsed already.
func BenchmarkJudge(b *testing.B) {
	j := fleetJudge(b)
	all := corpus(b, "testdata/fleet/statements.tsv.gz")
	longest := map[string]string{
		"short": "SELECT count(couriers.id) AS count_1 FROM couriers WHERE couriers.organization_id = 1",
	}
	for _, s := range all {
		name, _, _ := strings.Cut(s.label, ":")
		if len(s.sql) > len(longest[name]) && s.label != "not_tenant" {
			longest[name] = s.sql
		}
	}
	for name, sql := range longest {
		b.Run(name, func(b *testing.B) {
			tree := parse(b, sql)
			b.SetBytes(int64(len(sql)))
			b.ReportAllocs()
			for b.Loop() {
				j.Tree(sql, tree)
			}
		})
	}
}
