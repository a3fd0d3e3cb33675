package proxy_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// network is what lies between the proxy and the servers: a TCP proxy before each
// that does to its connections what networks do.
type network struct{ links []*link }

// link is the way to one server.
type link struct {
	*toxiproxy.Proxy
	t testing.TB
}

// between puts a network before servers.
func between(t testing.TB, servers ...*pgtest.Server) (n network, addresses []string) {
	t.Helper()
	for _, s := range servers {
		l := forward(t, freeAddress(t), s)
		n.links = append(n.links, l)
		addresses = append(addresses, l.Listen)
	}
	return n, addresses
}

// forward leads from an address to a server.
func forward(t testing.TB, address string, s *pgtest.Server) *link {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	l := &link{toxiproxy.NewProxy(api, s.Name, address, s.Addr()), t}
	must(t, l.Start())
	t.Cleanup(l.Stop)
	return l
}

// fault does something to a link and returns what undoes it.
type fault func(l *link) (undo func())

// toxic is a fault of the library's, in one direction or both.
func toxic(kind, attributes string, streams ...string) fault {
	return func(l *link) func() {
		l.t.Helper()
		for _, stream := range streams {
			_, err := l.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
				`{"name": %q, "type": %q, "stream": %q, "toxicity": 1, "attributes": {%s}}`, kind+stream, kind, stream, attributes)))
			must(l.t, err)
		}
		return func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			for _, stream := range streams {
				must(l.t, l.Toxics.RemoveToxic(ctx, kind+stream))
			}
		}
	}
}

// cut breaks all connections off and lets no new one through.
func cut(l *link) func() {
	l.Stop()
	return func() { must(l.t, l.Start()) }
}

// A replica that is lost between the failure of a pipeline and its Sync takes nothing with it: what was
// set before the failure stays undone, and the block failed.
func TestFailedPipelineLosesItsReplica(t *testing.T) {
	t.Parallel()
	database := newDatabase(t, "")
	for _, block := range []bool{false, true} {
		l := forward(t, freeAddress(t), shared(t).Replicas[0])
		s := start(t, func(c *config.Config) { c.Servers = []config.Server{c.Servers[0], {Address: l.Listen, Weight: 1}} })
		r := raw(t, s.addr, database)
		r.query("set app.a = '3'")
		status := "Z I"
		if block {
			r.query("begin")
			status = "Z E"
		}
		extended := func(text string) {
			r.send(&pgproto3.Parse{Query: text}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Flush{})
		}
		extended("select set_config('app.a', '2', false)")
		r.wait("C")
		extended("fetch 1 from nothing")
		r.wait("E")
		undo := cut(l)
		r.send(&pgproto3.Sync{})
		require.Equal(t, []string{status}, r.wait("Z"))
		r.query("rollback")
		require.Contains(t, r.query("select current_setting('app.a')"), `D "3"`)
		undo()
	}
}

// Whatever the network does between the proxy and the servers, no client hangs, no
// read gives a wrong answer, and every acknowledged write is there once. A fault on
// the way to a replica is none to anybody.
func TestNetworkFaults(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2})
	must(t, cluster.Exec(bounded(t, patience), ledgerTable))
	net, addresses := between(t, cluster.Servers()...)
	cfg := failoverConfig(t, cluster, addresses...)
	cfg.Routing.SlowAfter, cfg.Pool.ConnectTimeout, cfg.Routing.MonitorInterval = 300*time.Millisecond, time.Second, 100*time.Millisecond
	s := startConfig(t, cfg)
	l := newLedger(t, s)
	for i := range 6 {
		l.writer(i, []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol}[i%2])
	}
	for i := 6; i < 14; i++ {
		l.reader(i, []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol}[i%2])
	}
	for _, f := range []struct {
		name  string
		fault fault
		lasts time.Duration
	}{
		{"latency", toxic("latency", `"latency": 30, "jitter": 20`, "upstream", "downstream"), 500 * time.Millisecond},
		{"cut", cut, 300 * time.Millisecond},
		{"reset", toxic("reset_peer", `"timeout": 50`, "downstream"), 400 * time.Millisecond},
		{"half-open", toxic("timeout", `"timeout": 0`, "upstream", "downstream"), 2 * time.Second},
		{"answers lost", toxic("timeout", `"timeout": 0`, "downstream"), 2 * time.Second},
		{"slow close", toxic("slow_close", `"delay": 500`, "upstream", "downstream"), 300 * time.Millisecond},
		{"crumbs", toxic("slicer", `"average_size": 7, "size_variation": 5, "delay": 50`, "upstream", "downstream"), 400 * time.Millisecond},
		{"cut after some bytes", toxic("limit_data", `"bytes": 3000`, "downstream"), 500 * time.Millisecond},
	} {
		for i, where := range []string{"primary", "replica"} {
			l.slowest.Store(0)
			l.mu.Lock()
			writes, reads := len(l.writeErrors), len(l.readErrors)
			l.mu.Unlock()
			undo := f.fault(net.links[i])
			time.Sleep(f.lasts) // the fault's length, nothing is waited for
			undo()
			l.more(50)
			l.mu.Lock()
			writeErrors, readErrors := l.writeErrors[writes:], l.readErrors[reads:]
			l.mu.Unlock()
			t.Logf("%s, %s: slowest statement %v, errors of writes %d, of reads %d", f.name, where,
				time.Duration(l.slowest.Load()).Round(time.Millisecond), len(writeErrors), len(readErrors))
			if took := time.Duration(l.slowest.Load()); took > 6*time.Second {
				t.Errorf("%s, %s: a statement took %v", f.name, where, took)
			}
			if where == "replica" && len(writeErrors)+len(readErrors) > 0 {
				t.Errorf("%s, %s: errors %q, %q", f.name, where, some(writeErrors), some(readErrors))
			}
			for _, text := range append(some(writeErrors), some(readErrors)...) {
				if !strings.Contains(text, "08006") {
					t.Errorf("%s, %s: error %q", f.name, where, text)
				}
			}
		}
	}
	l.end()
	t.Logf("%d writes, %d reads", l.written.Load(), l.read.Load())
	l.audit(cluster.Primary)
}

// TestConflictBehindARow: rows that came together with the conflict have not reached the client, who learns nothing of it.
func TestConflictBehindARow(t *testing.T) {
	database := newDatabase(t, `create function elsewhere() returns int stable language plpgsql as $$
		begin if pg_is_in_recovery() then raise sqlstate '40001'; end if; return 2; end $$`)
	s := start(t, eventual)
	const sql = "/* pgweir:replica */ select 1 union all select elsewhere()"
	want := raw(t, shared(t).Primary.Addr(), database).query(sql)
	if got := raw(t, s.addr, database).query(sql); !slices.Equal(want, got) {
		t.Errorf("%q, want %q", got, want)
	}
	if n := s.metric(t, "pgweir_retries_total", "reason=recovery_conflict"); n != 1 {
		t.Errorf("it was sent again %v times", n)
	}
}

// Vacuum on the primary removes what long reads on a replica still need, so recovery
// cancels them. A reader that has got no row yet learns nothing of it.
func TestRecoveryConflicts(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2, Conf: map[string]string{
		"hot_standby_feedback": "off", "max_standby_streaming_delay": "20ms", "autovacuum": "off",
	}})
	ctx := bounded(t, time.Minute)
	must(t, cluster.Exec(ctx, "create table churn (id int primary key, v int); insert into churn select i, 0 from generate_series(1, 100) i"))
	must(t, cluster.WaitReplay(ctx))
	cfg := failoverConfig(t, cluster)
	cfg.Routing.Consistency = "eventual" // every read to a replica
	s := startConfig(t, cfg)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	defer clients.Wait()
	for i := range 8 {
		conn := connectTo(t, s)
		mode := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol}[i%2]
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var rows, sum int
				err := conn.QueryRow(ctx, "select count(*), coalesce(sum(length(pg_sleep(0.002)::text)), 0) from churn where v >= $1", mode, 0).Scan(&rows, &sum)
				if err != nil || rows != 100 {
					t.Errorf("%d rows, %v", rows, err)
					return
				}
			}
		})
	}
	conflicts := func() float64 { return s.metric(t, "pgweir_retries_total", "reason=recovery_conflict") }
	until(t, "reads were canceled by recovery", func() bool {
		must(t, cluster.Exec(ctx, "update churn set v = v + 1"))
		must(t, cluster.Exec(ctx, "vacuum churn"))
		return conflicts() >= 10 || t.Failed()
	})
	close(stop)
	clients.Wait()
	t.Logf("%v reads were canceled by recovery and sent again", conflicts())
}
