package proxy_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// patiently waits for what takes Patroni and a base backup their time.
func patiently(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// settles waits until a server is in a state.
func settles(t *testing.T, s *service, server *pgtest.Server, role, state string) {
	t.Helper()
	patiently(t, server.Name+" is a "+role+", "+state, func() bool {
		return s.metric(t, "pgweir_server_state", "server="+server.Addr(), "state="+state) == 1 &&
			(state != "serving" || s.metric(t, "pgweir_server_up", "server="+server.Addr(), "role="+role) == 1)
	})
}

// TestPatroni: before a cluster that Patroni manages, of whose members the configuration
// names one, clients write and read while a node is added, one is removed, the leader is
// switched over and its successor crashes. What a client was told is committed is there,
// once; no read fails and no client hangs.
func TestPatroni(t *testing.T) {
	p := pgtest.NewPatroni(t, "a", "b", "c")
	ctx := bounded(t, 3*time.Minute)
	first, err := p.Having(ctx, "leader")
	must(t, err)
	cfg := config.Default()
	cfg.Listen, cfg.HTTP = config.Addresses{freeAddress(t)}, ""
	cfg.Patroni.URLs = []string{first.API}
	cfg.ServerTLS.Mode, cfg.Service.User, cfg.Auth.Method = "disable", pgtest.Superuser, "trust"
	cfg.Routing.DiscoveryInterval, cfg.Log.Connections = 500*time.Millisecond, false
	s := launch(t, cfg)
	settles(t, s, first.Server, "primary", "serving")
	until(t, "all nodes serve", func() bool { return s.metric(t, "pgweir_server_up") == 3 })
	_, err = s.connect(t, "postgres").Exec(ctx, ledgerTable) // past it, replicas need not have it when it is read
	must(t, err)
	l := newLedger(t, s)
	for i := range 2 {
		l.writer(i, []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol}[i%2])
		l.reader(2+i, []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol}[i%2])
	}
	l.more(200)

	// One more comes and goes. Patroni forgets a member when its lease ends.
	added, err := p.Add(ctx, "d")
	must(t, err)
	settles(t, s, added.Server, "replica", "serving")
	until(t, "the new node serves reads", func() bool {
		return s.metric(t, "pgweir_pool_events_total", "server="+added.Addr(), "event=acquired") > 10
	})
	must(t, added.Leave())
	settles(t, s, added.Server, "replica", "down")
	l.more(100)

	began := time.Now()
	second, err := p.Switchover(ctx)
	must(t, err)
	settles(t, s, second.Server, "primary", "serving")
	l.more(200)
	t.Logf("switchover: another primary after %v", time.Since(began).Round(time.Millisecond))
	settles(t, s, first.Server, "replica", "serving")

	sync, err := p.Having(ctx, "sync_standby") // the only one that may succeed
	must(t, err)
	began = time.Now()
	second.Crash()
	until(t, "the primary is missed", func() bool { return s.metric(t, "pgweir_cluster_has_primary") == 0 })
	settles(t, s, sync.Server, "primary", "serving")
	l.more(200)
	t.Logf("failover: another primary after %v", time.Since(began).Round(time.Millisecond))
	settles(t, s, second.Server, "replica", "serving")

	patiently(t, "the node that was removed is forgotten", func() bool {
		return s.metric(t, "pgweir_server_state", "server="+added.Addr()) == 0
	})
	l.more(100)
	l.end()
	t.Logf("%d writes, %d reads, slowest statement %v, %d errors of writes, such as %q",
		l.written.Load(), l.read.Load(), time.Duration(l.slowest.Load()), len(l.writeErrors), some(l.writeErrors))
	if len(l.readErrors) > 0 {
		t.Errorf("%d errors of reads: %q", len(l.readErrors), some(l.readErrors))
	}
	l.audit(sync.Server)
}
