package proxy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

const ledgerTable = "create table ledger (id bigint, client int)"

// A primary is killed under load, a replica promoted, and the old primary comes
// back, first as what it was, then cloned anew. With synchronous replication every
// commit a client was told of is there, once; no client hangs, no read fails.
func TestPrimaryKilled(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2, Sync: true})
	ctx := bounded(t, time.Minute)
	must(t, cluster.Exec(ctx, ledgerTable))
	s := startConfig(t, failoverConfig(t, cluster))
	l := newLedger(t, s)
	for i := range 12 {
		l.writer(i, []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol}[i%2])
	}
	for i := 12; i < 20; i++ {
		l.reader(i, []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol}[i%2])
	}
	l.more(500)

	old := cluster.Primary
	must(t, old.Kill())
	until(t, "the primary is missed", func() bool { return s.metric(t, "pgweir_cluster_has_primary") == 0 })
	l.mark()
	next, others := mostAdvanced(t, cluster.Replicas)
	must(t, next.Promote(ctx))
	promoted := time.Now()
	for _, o := range others {
		must(t, o.Follow(ctx, next)) // until then nothing is acknowledged
	}
	followed := time.Now()
	t.Logf("first write %v after the promotion, %v after a replica followed", l.after(promoted), l.after(followed))
	s.state(t, next, "primary", "serving")
	l.more(300)

	must(t, old.Start(ctx))
	s.state(t, old, "primary", "fenced")
	l.more(300)
	must(t, old.Clone(ctx, next))
	s.state(t, old, "replica", "serving")
	l.more(300)
	l.end()
	t.Logf("%d writes, %d reads, slowest statement %v, %d errors of writes, such as %q",
		l.written.Load(), l.read.Load(), time.Duration(l.slowest.Load()), len(l.writeErrors), some(l.writeErrors))
	if len(l.readErrors) > 0 {
		t.Errorf("%d errors of reads: %q", len(l.readErrors), some(l.readErrors))
	}
	if n := s.metric(t, "pgweir_failovers_total"); n != 1 {
		t.Errorf("%v failovers counted", n)
	}
	l.audit(next)
}

// A planned switchover as tools do it: the primary is shut down fast, which ends its
// sessions and sends its log to the last byte, a replica is promoted, and the old
// primary starts as its replica. Of 64 clients none sees an error.
func TestSwitchover(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2})
	ctx := bounded(t, time.Minute)
	must(t, cluster.Exec(ctx, ledgerTable))
	cfg := failoverConfig(t, cluster)
	s := startConfig(t, cfg)
	l := newLedger(t, s)
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec}
	for i := range 64 {
		if i%2 == 0 {
			l.writer(i, modes[i%3])
		} else {
			l.reader(i, modes[i%3])
		}
	}
	l.more(1000)
	for _, next := range cluster.Replicas {
		old := cluster.Primary
		if next == cluster.Replicas[1] {
			old = cluster.Replicas[0]
		}
		began := time.Now()
		must(t, old.Stop(pgtest.Fast))
		l.mark()
		must(t, next.Promote(ctx))
		promoted := time.Now()
		for _, o := range cluster.Servers() {
			if o != next {
				must(t, o.Follow(ctx, next))
			}
		}
		must(t, old.Start(ctx))
		first := l.after(promoted)
		t.Logf("shut down and promoted in %v, first write %v after the promotion", promoted.Sub(began).Round(time.Millisecond), first)
		if first > 2*cfg.Routing.MonitorInterval {
			t.Errorf("first write %v after the promotion, more than two intervals of the monitor", first)
		}
		l.more(500)
		s.state(t, next, "primary", "serving")
		s.state(t, old, "replica", "serving")
	}
	l.end()
	t.Logf("%d writes, %d reads, slowest statement %v, sent again: %v",
		l.written.Load(), l.read.Load(), time.Duration(l.slowest.Load()), s.metric(t, "pgweir_retries_total"))
	if len(l.writeErrors)+len(l.readErrors) > 0 {
		t.Errorf("%d errors of writes: %q; %d of reads: %q", len(l.writeErrors), some(l.writeErrors), len(l.readErrors), some(l.readErrors))
	}
	l.audit(cluster.Replicas[1])
}

// A server that freezes holds up nobody for long: not the reads it had been given, nor
// the writes that wait for its successor. Thawed, it is fenced.
func TestFrozenServers(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2, Sync: true})
	ctx := bounded(t, time.Minute)
	must(t, cluster.Exec(ctx, ledgerTable))
	cfg := failoverConfig(t, cluster)
	cfg.Routing.SlowAfter, cfg.Pool.ConnectTimeout, cfg.Routing.MonitorInterval = 300*time.Millisecond, time.Second, 200*time.Millisecond
	s := startConfig(t, cfg)
	l := newLedger(t, s)
	for i := range 4 {
		l.writer(i, pgx.QueryExecModeCacheStatement)
	}
	for i := 4; i < 12; i++ {
		l.reader(i, pgx.QueryExecModeCacheStatement)
	}
	l.more(200)

	frozen := cluster.Replicas[0]
	frozen.Freeze()
	s.state(t, frozen, "replica", "slow")
	s.state(t, frozen, "replica", "down")
	l.more(100)
	if len(l.writeErrors) > 0 {
		t.Errorf("a replica froze, and writes failed: %q", some(l.writeErrors))
	}
	frozen.Thaw()
	s.state(t, frozen, "replica", "serving")

	old := cluster.Primary
	listening := raw(t, s.addr, "postgres")
	listening.query("listen news")
	until(t, "it listens over the shared connection", func() bool {
		return s.metric(t, "pgweir_pins_total", "reason=listen") > 0 && s.metric(t, "pgweir_pinned_sessions") == 0
	})
	old.Freeze()
	if got := listening.wait("end"); !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "E FATAL FATAL 57P01") }) {
		t.Errorf("a session that listens to a server that is gone: %q", got)
	}
	until(t, "the primary is missed", func() bool { return s.metric(t, "pgweir_cluster_has_primary") == 0 })
	l.mark()
	next, others := mostAdvanced(t, cluster.Replicas)
	must(t, next.Promote(ctx))
	must(t, others[0].Follow(ctx, next))
	t.Logf("first write %v after the promotion and a replica's following", l.after(time.Now()))
	l.more(100)
	old.Thaw()
	s.state(t, old, "primary", "fenced")
	l.end()
	t.Logf("slowest statement %v; errors of writes: %q", time.Duration(l.slowest.Load()), some(l.writeErrors))
	if took := time.Duration(l.slowest.Load()); took > 8*time.Second {
		t.Errorf("a statement took %v", took)
	}
	if len(l.readErrors) > 0 {
		t.Errorf("errors of reads: %q", some(l.readErrors))
	}
	if len(l.writeErrors) > 4 {
		t.Errorf("%d errors of writes, more than there are writers: %q", len(l.writeErrors), some(l.writeErrors))
	}
	l.audit(next)
}

// A data directory of another cluster is never used, whatever it calls itself; nor are
// two primaries on one timeline.
func TestForeignServers(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 1})
	foreign := pgtest.New(t, pgtest.Options{Fresh: true})
	ctx := bounded(t, time.Minute)
	cfg := failoverConfig(t, cluster, foreign.Primary.Addr(), cluster.Primary.Addr(), cluster.Replicas[0].Addr())
	cfg.Routing.PrimaryWait, cfg.Routing.MonitorInterval = time.Second, 100*time.Millisecond
	s := startKnown(t, cfg, 2)
	s.state(t, foreign.Primary, "primary", "foreign")
	conn := connectTo(t, s)
	where := func(conn *pgx.Conn, hint string) string {
		t.Helper()
		var id string
		if err := conn.QueryRow(ctx, hint+"select system_identifier::text from pg_control_system()").Scan(&id); err != nil {
			return err.Error()
		}
		return id
	}
	own, err := cluster.Primary.Value(ctx, "postgres", "select system_identifier::text from pg_control_system()")
	must(t, err)
	for range 20 {
		for _, hint := range []string{"", "/* pgweir:primary */ ", "/* pgweir:replica */ "} {
			if got := where(conn, hint); got != own {
				t.Fatalf("%sread on %s, not %s", hint, got, own)
			}
		}
	}
	// Only the foreign is left: nothing is written, and the reason is told.
	must(t, cluster.Replicas[0].Stop(pgtest.Fast))
	must(t, cluster.Primary.Stop(pgtest.Fast))
	if got := where(conn, ""); !strings.Contains(got, "57P03") || !strings.Contains(got, "belongs to another cluster") {
		t.Errorf("with only the foreign left: %s", got)
	}
	must(t, cluster.Primary.Start(ctx))
	if got := where(connectTo(t, s), ""); got != own {
		t.Errorf("back again: %s", got)
	}
}

// Two primaries on the same timeline: no write is taken by either, loudly; reads go on.
func TestSplitBrain(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2})
	ctx := bounded(t, time.Minute)
	must(t, cluster.Exec(ctx, ledgerTable))
	cfg := failoverConfig(t, cluster)
	cfg.Routing.PrimaryWait, cfg.Routing.MonitorInterval = time.Second, 100*time.Millisecond
	s := startConfig(t, cfg)
	conn := connectTo(t, s)
	must(t, cluster.Primary.Stop(pgtest.Fast))
	// Neither knows of the other, so both take the next timeline.
	must(t, cluster.Replicas[0].Promote(ctx))
	must(t, cluster.Replicas[1].Promote(ctx))
	s.state(t, cluster.Replicas[0], "primary", "split_brain")
	s.state(t, cluster.Replicas[1], "primary", "split_brain")
	_, err := conn.Exec(ctx, "insert into ledger values (1, 1)")
	if err == nil || !strings.Contains(err.Error(), "57P03") || !strings.Contains(err.Error(), "several servers are primaries on timeline 2") {
		t.Errorf("a write: %v", err)
	}
	must(t, cluster.Replicas[1].Stop(pgtest.Fast))
	if _, err := conn.Exec(ctx, "insert into ledger values (1, 1)"); err != nil {
		t.Errorf("with one of them gone: %v", err)
	}
}

// The checks of applications' pools say that a server is there, though there is no primary;
// so do clients that begin then.
func TestChecksWithoutPrimary(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 1})
	cfg := failoverConfig(t, cluster)
	cfg.Routing.PrimaryWait = time.Minute
	s := startConfig(t, cfg)
	before := raw(t, s.addr, "postgres")
	before.query("select 1")
	must(t, cluster.Primary.Stop(pgtest.Fast))
	until(t, "there is no primary", func() bool { return s.metric(t, "pgweir_cluster_has_primary") == 0 })
	checks := []string{"", ";", "-- ping", "/* ping */", "select 1", "show server_version", "SHOW TRANSACTION ISOLATION LEVEL",
		"begin", "", "show search_path", "select 1", "commit"}
	asStrings := []string{"begin; select 1; commit", "begin;select 1;commit;", "BEGIN; SHOW server_version; ROLLBACK", "select 1; select 2"}
	for name, r := range map[string]*rawConn{"before": before, "since": raw(t, s.addr, "postgres")} {
		for _, sql := range append(asStrings, checks...) {
			if got := tail(r.query(sql)); strings.Contains(got, "E ") {
				t.Errorf("%s, %s: %s", name, sql, got)
			}
		}
		for _, sql := range checks {
			r.send(&pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
			if got := tail(r.wait("Z")); strings.Contains(got, "E ") {
				t.Errorf("%s, extended, %s: %s", name, sql, got)
			}
		}
	}
}

// An administrator who ends a session or cancels a statement means it: it is not
// sent again, for the server stays.
func TestTerminatedByAdministrator(t *testing.T) {
	s := start(t)
	database := newDatabase(t, "")
	for _, hint := range []string{"/* pgweir:primary */ ", ""} {
		victim := s.connect(t, database)
		failed := make(chan error, 1)
		go func() {
			_, err := victim.Exec(bounded(t, patience), hint+"select pg_sleep(30) as victim")
			failed <- err
		}()
		until(t, "it is killed", func() bool {
			killed := false
			for _, server := range shared(t).Servers() {
				v, err := server.Value(bounded(t, patience), database,
					"select count(pg_terminate_backend(pid)) from pg_stat_activity where query like '%as victim' and state = 'active'")
				must(t, err)
				killed = killed || v != "0"
			}
			return killed
		})
		select {
		case err := <-failed:
			if err == nil || !strings.Contains(err.Error(), "57P01") {
				t.Errorf("%q: %v", hint, err)
			}
		case <-time.After(patience):
			t.Errorf("%q: it was sent again", hint)
		}
	}
}

// A transaction that is cut in the middle is never repeated: its client is told.
func TestTransactionCut(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 1})
	ctx := bounded(t, time.Minute)
	must(t, cluster.Exec(ctx, ledgerTable))
	s := startConfig(t, failoverConfig(t, cluster))
	wrote, waits := raw(t, s.addr, "postgres"), raw(t, s.addr, "postgres")
	wrote.query("begin")
	wrote.query("insert into ledger values (1, 1)")
	waits.query("begin") // nothing of it has been sent to a server
	// What may commit by itself is not repeated either.
	alone := raw(t, s.addr, "postgres")
	alone.send(&pgproto3.Query{String: "do $$ begin perform pg_sleep(60); end $$"})
	until(t, "it runs", func() bool { return s.metric(t, "pgweir_server_connections_in_use") == 2 })
	next := cluster.Replicas[0]
	must(t, cluster.Primary.Stop(pgtest.Fast))
	if got := alone.wait("end"); !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "E FATAL FATAL 57P01") }) {
		t.Errorf("a DO that was cut: %q", got)
	}
	waits.send(&pgproto3.Query{String: "insert into ledger values (2, 2)"})
	wrote.send(&pgproto3.Query{String: "insert into ledger values (3, 1)"})
	if got := wrote.wait("end"); !slices.ContainsFunc(got, func(line string) bool {
		return strings.HasPrefix(line, "E FATAL FATAL 57P01") || strings.HasPrefix(line, "E FATAL FATAL 08006") || strings.HasPrefix(line, "E ERROR ERROR 08006")
	}) {
		t.Errorf("the transaction that was cut: %q", got)
	}
	must(t, next.Promote(ctx))
	if got := waits.wait("Z"); !slices.Contains(got, "C INSERT 0 1") {
		t.Errorf("the transaction that had not begun: %q", got)
	}
	waits.query("commit")
	v, err := next.Value(ctx, "postgres", "select string_agg(id::text, ',') from ledger")
	if err != nil || v != "2" {
		t.Errorf("kept: %q, %v", v, err)
	}
}

// startKnown is startConfig for a configuration of which only some servers can be used.
func startKnown(t testing.TB, cfg config.Config, usable int) *service {
	t.Helper()
	s := launch(t, cfg)
	until(t, "the servers are known", func() bool { return s.metric(t, "pgweir_server_up") == float64(usable) })
	return s
}
