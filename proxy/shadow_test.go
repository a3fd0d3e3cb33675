package proxy_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/proxy/shadow"
)

// TestShadow: in the shadow everything runs on the primary, and the report says of each
// statement what happens to it once the same service is out of it.
func TestShadow(t *testing.T) {
	db := newDatabase(t, `create table items (id int); create table log (line text);
		create function vol() returns int language plpgsql as $$ begin perform pg_notify('x', ''); return 1; end $$`)
	cfg := baseConfig(t)
	eventual(&cfg)
	cfg.Routing.Shadow = true
	cfg = cfg.Complete()
	s := startConfig(t, cfg)
	statements := []string{
		"select count(*) from items where id = 1", "insert into log values ('x')", "select vol()", "select * from items for update",
		"begin", "select id from items", "select line from log", "commit",
		"begin", "select 1 from items", "insert into log values ('y')", "select 2 from items", "commit",
		"/* pgweir:replica */ select 3 from items", "create temp table tmp (a int)", "select 4 from items", "drop table tmp",
	}
	places := func(c traced) (all [][]string) {
		for _, sql := range statements {
			all = append(all, c.told(sql))
		}
		return all
	}
	c := trace(t, s, db)
	for i, told := range places(c) {
		for _, place := range told {
			require.NotContains(t, place, "replica", statements[i])
		}
	}
	c.query("set pgweir.route = replica")
	require.Equal(t, []string{"primary shadow"}, c.told("select 5 from items"))

	cfg.Routing.Shadow = false
	_, err := s.Reload(cfg)
	require.NoError(t, err)
	after := trace(t, s, db)
	told := places(after)
	var rows []shadow.Row
	until(t, "all is recorded", func() bool {
		sum := s.Shadow.Summary()
		rows = sum.Rows
		return sum.Replica+sum.Primary >= 16
	})
	for _, want := range []struct {
		sql, statement string
		i              int
	}{
		{"read", "select count(*) from items where id = $1", 0},
		{"write", "insert into log values ($1)", 1},
		{"function", "select vol()", 2},
		{"row lock", "select * from items for update", 3},
		{"read in a transaction", "select id from items", 5},
		{"read in a transaction that moves", "select line from log", 6},
		{"tied", "create temp table tmp (a int)", 14},
	} {
		require.True(t, slices.ContainsFunc(rows, func(r shadow.Row) bool {
			return r.Statement == want.statement && slices.Equal(told[want.i], []string{r.Place + " " + r.Reason})
		}), "%s: ran at %v, reported are %v", want.sql, told[want.i], rows)
	}
	require.True(t, slices.ContainsFunc(rows, func(r shadow.Row) bool { return r.Pins != "" && r.Reason == "pinned" }), "%v", rows)
}
