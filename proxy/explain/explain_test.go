package explain

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }

// asker is a Sampler over a database of the tests' cluster.
type asker struct {
	*Sampler
	*Source
	database string
}

func newAsker(t *testing.T, sql string, o Options) *asker {
	t.Helper()
	c := pgtest.Shared(t)
	a := &asker{database: c.Database(t)}
	require.NoError(t, c.Primary.Exec(t.Context(), a.database, sql))
	require.NoError(t, c.WaitReplay(t.Context()))
	topology := &cluster.Topology{Primary: cluster.NewServer(c.Primary.Addr(), 1)}
	for _, s := range c.Replicas {
		topology.Replicas = append(topology.Replicas, cluster.NewServer(s.Addr(), 1))
	}
	o.Timeout, o.Every, o.Log = 5*time.Second, time.Hour, zap.NewNop()
	a.Sampler = New(insight.New(insight.Options{}), o)
	a.Source = a.Sampler.Source(func() *cluster.Topology { return topology }, func(ctx context.Context, s *cluster.Server, application string) (*backend.Backend, error) {
		address, err := backend.ParseAddress(s.Address)
		if err != nil {
			return nil, err
		}
		l, err := backend.Open(ctx, backend.Options{Address: address}, backend.Credentials{User: "explained"}, a.database, map[string]string{"application_name": application})
		if err != nil {
			return nil, err
		}
		return backend.New(l, 1), nil
	})
	return a
}

// bind is what follows the names in a Bind.
func bind(t *testing.T, m pgproto3.Bind) []byte {
	t.Helper()
	frame, err := m.Encode(nil)
	require.NoError(t, err)
	_, _, rest, ok := wire.BindParts(frame)
	require.True(t, ok)
	return rest
}

// TestExplain: a server is asked as the statement ran, whatever that is, and nothing is done
// or shown that is not a plan.
func TestExplain(t *testing.T) {
	_ = pgtest.Shared(t).Exec(t.Context(), "create role explained login; create role other; grant other to explained")
	a := newAsker(t, `create table items (id int primary key, owner name, tags int[], name varchar(40), at date);
		insert into items select i, case when i % 2 = 0 then 'other' else 'explained' end, array[i], 'n' || i, '2026-01-01' from generate_series(1, 20000) i;
		analyze items; alter table items enable row level security; create policy own on items using (owner = current_user); grant select on items to explained, other;
		create table written (id int); grant all on written to explained;
		create function writes() returns int language sql volatile as 'insert into public.written values (1) returning id'; create function slow() returns int language plpgsql immutable as 'begin perform pg_sleep(20); return 1; end';
		create schema evil; grant usage on schema evil to explained; create function evil.to_regclass(text) returns regclass language sql as 'select null::regclass'; create function evil.pg_is_in_recovery() returns bool language sql as 'select false'`, Options{})
	settings := func(pairs ...string) (s setting.Settings) {
		for i := 0; i < len(pairs); i += 2 {
			s = s.With(pairs[i], pairs[i+1])
		}
		return s
	}
	two := bind(t, pgproto3.Bind{ParameterFormatCodes: []int16{1, 0}, Parameters: [][]byte{{0, 0, 0, 7}, []byte("canary")}, ResultFormatCodes: []int16{1, 0, 1}})
	null := bind(t, pgproto3.Bind{ParameterFormatCodes: []int16{1}, Parameters: [][]byte{{0, 0, 0, 7}, nil}, ResultFormatCodes: []int16{1, 0, 1}})
	for _, tc := range []struct {
		name, want string // part of the plan in JSON, or of the error
		Sample
	}{
		{"simple", `"Index Scan","relation":"public.items","index":"items_pkey"`, Sample{Text: "select * from items where id = 424242"}},
		{"comment", `items_pkey`, Sample{Text: "/* a */ select * from items where id = 7; -- canary"}},
		{"parameters", `items_pkey`, Sample{Text: "select id, name, at from items where id = $1 and name = $2", Values: two, Types: "\x00\x02\x00\x00\x00\x17\x00\x00\x00\x00"}},
		{"null", `"Result"`, Sample{Text: "select id, name, at from items where id = $1 and name = $2", Values: null, Types: "\x00\x02\x00\x00\x00\x17\x00\x00\x00\x00"}},
		{"unknown values", `"generic":true`, Sample{Text: "select id from items where id = $1 and name = $2 and 'canary' <> '$9'"}},
		{"policy", `"column":"owner","by":"equality","session":true`, Sample{Text: "select * from items where name = 'canary'"}},
		{"role", `"column":"owner"`, Sample{Text: "select * from items", Settings: settings("role", "other")}},
		{"settings", `"type":"Seq Scan"`, Sample{Text: "select * from items where id = 7", Settings: settings("enable_indexscan", "off", "enable_bitmapscan", "off", "app.canary", "canary's \\ ü")}},
		{"encoding", `items`, Sample{Text: "select * from items where name = '\xfc'", Settings: settings("client_encoding", "LATIN1", "app.canary", "\xfc")}},
		{"search_path", `"table_rows":20000`, Sample{Text: "select * from items where name = 'canary'", Settings: settings("search_path", "evil, pg_catalog, public")}},
		{"serializable", `items_pkey`, Sample{Text: "select * from items where id = 7", Settings: settings("default_transaction_isolation", "serializable")}},
		{"small work_mem", `"spill_bytes":`, Sample{Text: "select * from items order by tags", Settings: settings("work_mem", "64kB")}},
		{"several", "42601", Sample{Text: "select 1; drop table written"}},
		{"not a query", "42601", Sample{Text: "analyze select writes()"}},
		{"analyze", "42601", Sample{Text: "(analyze) select writes()"}},
		{"a function that writes", `"Result"`, Sample{Text: "select writes()"}},
		{"slow to plan", "57014", Sample{Text: "select * from items where id = slow()", Settings: settings("statement_timeout", "0")}},
		{"no such table", "42P01", Sample{Text: "select * from canary"}},
		{"no such role", "22023", Sample{Text: "select 1", Settings: settings("role", "canary")}},
		{"wrong values", "08P01", Sample{Text: "select * from items where id = $1", Values: two}},
		{"malformed values", "", Sample{Text: "select * from items where id = 1", Values: []byte("canary")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.name == "slow to plan" {
				a.options.Timeout = 200 * time.Millisecond
				defer func() { a.options.Timeout = 5 * time.Second }()
			}
			s := tc.Sample
			s.From = a.Source
			plan, err := a.explain(t.Context(), &s)
			shown := ""
			if err != nil {
				shown = reason(err)
			} else {
				text, err := json.Marshal(plan)
				require.NoError(t, err)
				shown = string(text)
			}
			require.Contains(t, shown, tc.want)
			require.NotContains(t, shown, "canary")
			require.NotContains(t, shown, "424242")
		})
	}
	c := pgtest.Shared(t)
	n, err := c.Primary.Value(t.Context(), a.database, "select count(*) from written")
	require.NoError(t, err)
	require.Equal(t, "0", n)
	log, err := os.ReadFile(c.Primary.LogFile)
	require.NoError(t, err)
	require.NotContains(t, string(log), "EXPLAIN")

	// A replica that was promoted meanwhile is not asked for a plan.
	primary := a.topology().Primary
	a.topology = func() *cluster.Topology { return &cluster.Topology{Replicas: []*cluster.Server{primary}} }
	_, err = a.explain(t.Context(), &Sample{Text: "select 1", From: a.Source})
	require.ErrorIs(t, err, errPrimary)
	a.topology = func() *cluster.Topology { return &cluster.Topology{Primary: primary} }
	_, err = a.explain(t.Context(), &Sample{Text: "select 1", From: a.Source})
	require.ErrorIs(t, err, errNoServer)
	a.options.Primary, a.options.Generic = true, true
	plan, err := a.explain(t.Context(), &Sample{Text: "select * from items where id = $1", From: a.Source, Values: two})
	require.NoError(t, err)
	require.True(t, plan.Generic)
}

// TestPace: one sample is taken a second, others are not even made, and what cannot be had is
// not asked for again at once.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.DebugLevel)
		book := insight.New(insight.Options{})
		changed := uint64(0)
		x := New(book, Options{Every: time.Hour, Timeout: time.Second, Log: zap.New(core), Changed: func() map[string]uint64 { return map[string]uint64{"d": changed} }})
		asked := 0
		from := x.Source(func() *cluster.Topology {
			return &cluster.Topology{Replicas: []*cluster.Server{cluster.NewServer("a", 1)}}
		},
			func(context.Context, *cluster.Server, string) (*backend.Backend, error) {
				asked++
				return nil, context.DeadlineExceeded
			})
		var all []*insight.Statement
		for _, name := range []string{"a", "b", "c"} {
			all = append(all, book.Statement("d", name, name, insight.Shape{Reads: true}))
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { x.Run(ctx); close(done) }()
		offered := 0
		for range 10_000 { // ten seconds
			time.Sleep(time.Millisecond)
			for _, s := range all {
				if from.Wants(s) {
					offered++
					from.Offer(&Sample{Statement: s})
				}
			}
		}
		require.Equal(t, 3, offered)
		require.Equal(t, 3, asked)
		require.Equal(t, 3, logs.FilterMessage("no plan").Len())
		times := []time.Time{}
		for _, l := range logs.All() {
			times = append(times, l.Time)
		}
		require.True(t, slices.IsSortedFunc(times, func(a, b time.Time) int { return a.Compare(b) }))
		require.GreaterOrEqual(t, times[2].Sub(times[0]), 2*time.Second-10*time.Millisecond)
		time.Sleep(time.Hour)
		require.True(t, from.Wants(all[0]))
		cancel()
		<-done
	})
	var none *Sampler
	none.Run(t.Context())
	require.False(t, none.Source(nil, nil).Wants(nil))
}

// TestWithoutFormats: values are those of the client, and the result is text.
func TestWithoutFormats(t *testing.T) {
	for _, m := range []pgproto3.Bind{
		{}, {Parameters: [][]byte{[]byte("a"), nil, {}}},
		{ParameterFormatCodes: []int16{1}, Parameters: [][]byte{{1}, {2}}, ResultFormatCodes: []int16{1, 0}},
		{ParameterFormatCodes: []int16{0, 1}, Parameters: [][]byte{{1}, {2}}, ResultFormatCodes: []int16{1}},
	} {
		rest := bind(t, m)
		got := withoutFormats(rest)
		require.Equal(t, len(wire.BindParameters(rest)), len(wire.BindParameters(got)))
		for i, p := range wire.BindParameters(rest) {
			require.Equal(t, p, wire.BindParameters(got)[i])
		}
		require.True(t, strings.HasSuffix(string(got), "\x00\x00"))
	}
	require.Equal(t, []byte{0, 0, 0, 0, 0, 0}, withoutFormats(nil))
	require.Equal(t, []byte{0, 0, 0, 0, 0, 0}, withoutFormats([]byte("canary")))
}
