package proxy_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// serverRegistry tells a proxy which servers there are. Its set makes it tell of hosts that listen
// on one port, or, without any, of none.
type serverRegistry struct {
	configure func(*config.Config, string)
	set       func(hosts ...string)
}

// byName is a name with addresses.
func byName(t *testing.T) serverRegistry {
	dns := resolve(t)
	return serverRegistry{
		configure: func(c *config.Config, port string) { c.DNS = config.Addresses{net.JoinHostPort("db.test", port)} },
		set:       func(hosts ...string) { dns.set("db.test", hosts...) },
	}
}

// bySlices is an API server of Kubernetes with the EndpointSlice of a headless Service.
func bySlices(t *testing.T) serverRegistry {
	var mu sync.Mutex
	var listed []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if got := r.URL.Query().Get("labelSelector"); got != "kubernetes.io/service-name=pg" {
			t.Errorf("it asks for %q", got)
		}
		var endpoints []string
		for _, h := range listed {
			endpoints = append(endpoints, fmt.Sprintf(`{"addresses": [%q], "conditions": {"ready": true}}`, h))
		}
		fmt.Fprintf(w, `{"items": [{"addressType": "IPv4", "endpoints": [%s], "ports": [{"name": "", "port": 1}]}]}`, strings.Join(endpoints, ","))
	}))
	t.Cleanup(api.Close)
	return serverRegistry{
		configure: func(c *config.Config, port string) {
			c.Kubernetes = config.Kubernetes{Services: []string{"pg"}, Namespace: "default", Port: port, API: api.URL}
		},
		set: func(hosts ...string) {
			mu.Lock()
			defer mu.Unlock()
			listed = hosts
		},
	}
}

const inTransaction = "select count(*) from pg_stat_activity where state = 'idle in transaction'"

// Servers that are found come and go under load: no statement fails, what is new serves
// reads, and what is listed no more ends its transactions and then has no connection left.
// A registry that tells of no server changes nothing.
func TestServersFound(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 2})
	ctx := bounded(t, 2*time.Minute)
	must(t, cluster.Exec(ctx, ledgerTable))
	_, port, err := net.SplitHostPort(freeAddress(t))
	must(t, err)
	registries := map[string]serverRegistry{"dns": byName(t), "kubernetes": bySlices(t)}
	var addresses []string
	for i, s := range cluster.Servers() {
		addresses = append(addresses, net.JoinHostPort(fmt.Sprintf("127.0.0.%d", 11+i), port))
		forward(t, addresses[i], s)
	}
	for name, reg := range registries {
		t.Run(name, func(t *testing.T) {
			reg.set("127.0.0.11", "127.0.0.12")
			cfg := failoverConfig(t, cluster)
			cfg.Servers = nil
			reg.configure(&cfg, port)
			cfg.Routing.DiscoveryInterval, cfg.Routing.MonitorInterval = 100*time.Millisecond, 200*time.Millisecond
			s := launch(t, cfg)
			is := func(i int, state string) {
				t.Helper()
				until(t, addresses[i]+" is "+state, func() bool {
					return s.metric(t, "pgweir_server_state", "server="+addresses[i], "state="+state) == 1
				})
			}
			is(0, "serving")
			is(1, "serving")
			l := newLedger(t, s)
			for i := range 4 {
				l.writer(i, pgx.QueryExecModeCacheStatement)
				l.reader(4+i, pgx.QueryExecModeCacheStatement)
			}
			l.more(100)

			// A transaction that reads on the replica that is to go.
			conn := s.connect(t, "postgres", "options='-c pgweir.consistency=eventual'")
			tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.RepeatableRead})
			must(t, err)
			var before, after int
			must(t, tx.QueryRow(ctx, "select count(*) from ledger").Scan(&before))
			if held, err := cluster.Replicas[0].Value(ctx, "postgres", inTransaction); err != nil || held != "1" {
				t.Fatalf("%s transactions are open on the replica, %v", held, err)
			}

			reg.set("127.0.0.11", "127.0.0.12", "127.0.0.13")
			is(2, "serving")
			reg.set("127.0.0.11", "127.0.0.13")
			is(1, "leaving")
			l.more(100)
			until(t, "the new replica serves reads", func() bool {
				return s.metric(t, "pgweir_pool_events_total", "server="+addresses[2], "event=acquired") > 10
			})
			must(t, tx.QueryRow(ctx, "select count(*) from ledger").Scan(&after))
			if after != before {
				t.Errorf("the transaction saw %d rows, then %d", before, after)
			}
			must(t, tx.Commit(ctx))
			until(t, "the old replica has left", func() bool {
				left, err := cluster.Replicas[0].Value(ctx, "postgres", "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()")
				must(t, err)
				return left == "0" && s.metric(t, "pgweir_server_state", "server="+addresses[1]) == 0
			})

			failed := s.metric(t, "pgweir_discoveries_total", "outcome=failed")
			reg.set()
			until(t, "nothing is found", func() bool { return s.metric(t, "pgweir_discoveries_total", "outcome=failed") > failed+1 })
			l.more(100)
			is(0, "serving")
			is(2, "serving")
			l.end()
			for _, failures := range [][]string{l.writeErrors, l.readErrors} {
				if len(failures) > 0 {
					t.Errorf("%d statements failed: %q", len(failures), some(failures))
				}
			}
			l.audit(cluster.Primary)
			must(t, cluster.Exec(ctx, "truncate ledger"))
		})
	}
}
