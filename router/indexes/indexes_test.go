package indexes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Suite(m).Run()) }

// read asks a server.
func read(t *testing.T, s *pgtest.Server, database string) *Server {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), s.ConnString(database, pgtest.Superuser))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	server, err := Read(t.Context(), func(ctx context.Context, sql string, row func([][]byte) error) error {
		r := conn.ExecParams(ctx, sql, nil, nil, nil, nil)
		for r.NextRow() {
			if err := row(r.Values()); err != nil {
				return err
			}
		}
		_, err := r.Close()
		return err
	}, s.Addr())
	require.NoError(t, err)
	return server
}

// TestIndexes: of a database on a primary and replicas every index that is of no use is found,
// and no other; what only a replica scans is used.
func TestIndexes(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	ctx := t.Context()
	exec := func(s *pgtest.Server, sql string) {
		t.Helper()
		require.NoError(t, s.Exec(ctx, db, sql))
	}
	exec(c.Primary, `create table orders (id int primary key, org int, state text, at timestamptz, "Odd Name" int, gone int);
		insert into orders select i, i % 100, 'open', now(), i, i from generate_series(1, 1000) i;
		create index orders_org on orders (org); create index orders_org_state on orders (org, state); create index orders_org_2 on orders (org);
		create index orders_at on orders (at); create index orders_desc on orders (org desc); create index orders_state on orders (state) where state = 'canary';
		create unique index orders_gone on orders (gone); create index orders_lower on orders (lower(state || 'canary'));
		create index orders_odd on orders ("Odd Name"); create index orders_id on orders (id) include (state); create index orders_hash on orders using hash (org);
		create index orders_broken on orders (gone, at); update pg_index set indisvalid = false where indexrelid = 'orders_broken'::regclass`)
	exec(c.Primary, `create table big (id text, n int); insert into big select lpad(i::text, 200, '0'), i from generate_series(1, 60000) i; create index big_id on big (id);
		delete from big where n % 20 <> 0`)
	exec(c.Primary, "vacuum analyze big")
	exec(c.Primary, "vacuum analyze orders")
	require.NoError(t, c.WaitReplay(ctx))
	scan := func(s *pgtest.Server, where string) {
		t.Helper()
		exec(s, "set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off; select * from "+where)
	}
	scan(c.Primary, "orders where org < 3 order by org, state")
	scan(c.Replicas[1], "orders where at > now()")
	scan(c.Primary, "big where id = '5'")

	judge := func(silent []string, plans ...insight.PlanRow) *Report {
		t.Helper()
		return Judge(db, []*Server{read(t, c.Replicas[0], db), read(t, c.Primary, db), read(t, c.Replicas[1], db)}, silent, plans)
	}
	found := func(r *Report) (lines []string) {
		for _, f := range r.Findings {
			lines = append(lines, f.Kind+" "+strings.TrimPrefix(f.Index, "public."))
		}
		return lines
	}
	var r *Report
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) { // statistics come a moment later
		if r = judge(nil); len(found(r)) == 10 || time.Now().After(deadline) {
			break
		}
	}
	require.ElementsMatch(t, []string{
		"invalid orders_broken", "unused orders_desc", "unused orders_state", "unused orders_lower", "unused orders_odd", "unused orders_id", "unused orders_hash",
		"prefix orders_org", "duplicate orders_org_2", "bloated big_id",
	}, found(r))
	require.Equal(t, "invalid orders_broken", found(r)[0])
	for _, f := range r.Findings {
		switch f.Kind {
		case Unused:
			require.Regexp(t, `no scan on 3 servers since .*; 1000 writes kept it up to date`, f.Detail)
			require.Equal(t, "DROP INDEX CONCURRENTLY "+f.Index, f.SQL)
		case Bloated:
			require.Greater(t, f.Bytes, int64(bloat))
		}
	}
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.NotContains(t, string(text), "canary")
	require.Contains(t, string(text), `"columns":["(expression)"]`)
	require.Contains(t, string(text), `"columns":["\"Odd Name\""]`)

	require.NotContains(t, strings.Join(found(judge([]string{"replica3"})), " "), "unused", "one did not answer")

	plan := func(calls uint64, wanted ...insight.WantedIndex) insight.PlanRow {
		return insight.PlanRow{Calls: calls, Planned: &insight.Planned{Plan: &insight.Plan{Wanted: wanted}}}
	}
	r = judge(nil,
		plan(10, insight.WantedIndex{Relation: "public.orders", Columns: []string{"gone", "org"}, Before: 100}, insight.WantedIndex{Relation: "public.orders", Columns: []string{"state", "org"}}),
		plan(5, insight.WantedIndex{Relation: "public.orders", Columns: []string{"gone", "org"}, Before: 100, Verified: true, Used: true, After: 3}),
		plan(5, insight.WantedIndex{Relation: "public.orders", Columns: []string{"pad"}, Verified: true}))
	require.Equal(t, "missing ", found(r)[0])
	require.Equal(t, "CREATE INDEX CONCURRENTLY ON public.orders (gone, org)", r.Findings[0].SQL)
	require.Contains(t, r.Findings[0].Detail, "2 statements, 15 calls; the cost of one is 100, with it the cost is 3 (HypoPG); 1000 rows written on 3 servers since")
	require.NotEqual(t, Missing, r.Findings[1].Kind)
}

// TestOneStays: of indexes that do the same, all but one are found, and that one is needed or
// used most.
func TestOneStays(t *testing.T) {
	index := func(name string, change func(*Index)) Index {
		x := Index{Table: "t", Name: name, Method: "btree", Keys: []string{"a"}, options: []string{"1 2 3"}, Valid: true, TableScans: 1, Scans: 1}
		if change != nil {
			change(&x)
		}
		return x
	}
	for _, tc := range []struct {
		want string
		all  []Index
	}{
		{"duplicate b", []Index{index("a", nil), index("b", nil)}},
		{"duplicate a", []Index{index("a", nil), index("b", func(x *Index) { x.Scans = 2 })}},
		{"duplicate a", []Index{index("a", func(x *Index) { x.Scans = 5 }), index("b", func(x *Index) { x.Unique = true })}},
		{"duplicate a", []Index{index("a", func(x *Index) { x.Unique = true }), index("b", func(x *Index) { x.Unique, x.Needed = true, true })}},
		{"", []Index{index("a", func(x *Index) { x.Unique = true }), index("b", func(x *Index) { x.Keys, x.options = []string{"a", "b"}, []string{"1 2 3", ""} })}},
		{"prefix b", []Index{index("a", func(x *Index) { x.Keys, x.options = []string{"a", "b"}, []string{"1 2 3", ""} }), index("b", nil)}},
		{"", []Index{index("a", nil), index("b", func(x *Index) { x.options = []string{"9 2 3"} })}},
		{"", []Index{index("a", nil), index("b", func(x *Index) { x.condition = "9" })}},
		{"", []Index{index("a", nil), index("b", func(x *Index) { x.Method = "hash" })}},
		{"", []Index{index("a", nil), index("b", func(x *Index) { x.Table = "u" })}},
		{"duplicate a", []Index{index("a", nil), index("b", func(x *Index) { x.Include = []string{"c"} })}},
		{"invalid b", []Index{index("a", nil), index("b", func(x *Index) { x.Valid = false })}},
		{"duplicate b duplicate c", []Index{index("a", nil), index("b", nil), index("c", nil)}},
		{"", []Index{index("a", func(x *Index) { x.Needed = true }), index("b", func(x *Index) { x.Keys = []string{"b"} })}},
	} {
		r := Judge("d", []*Server{{Name: "s", Indexes: tc.all}}, nil, nil)
		var got []string
		for _, f := range r.Findings {
			got = append(got, f.Kind+" "+f.Index)
		}
		require.Equal(t, tc.want, strings.Join(got, " "), fmt.Sprint(tc.all))
	}
}
