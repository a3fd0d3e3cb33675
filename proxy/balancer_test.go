package proxy_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
)

// balancer is one address that leads to several servers, each connection to another.
func balancer(t *testing.T, choose func(n int) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 0; ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", choose(n))
			if err != nil {
				_ = client.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
				go func() {
					_, _ = io.Copy(pair[1], pair[0])
					_ = pair[0].Close()
					_ = pair[1].Close()
				}()
			}
		}
	}()
	return l.Addr().String()
}

// TestAddressThatMoves: an address that leads to another server from a moment on, while the
// former lives, is one server all the same, and is read from again.
func TestAddressThatMoves(t *testing.T) {
	replicas := shared(t).Replicas
	database := newDatabase(t, "create table n (a int)")
	var now atomic.Int64
	s := start(t, poolSize(4), func(c *config.Config) {
		c.Servers = []config.Server{c.Servers[0], {Address: balancer(t, func(int) string { return replicas[now.Load()].Addr() }), Weight: 1}}
	})
	r := raw(t, s.addr, database)
	reads := func() float64 { return s.metric(t, "pgweir_statements_total", "target=replica") }
	read := func(what string) {
		before := reads()
		until(t, what, func() bool {
			r.query("insert into n values (1)")
			r.query("select * from n limit 1")
			return reads() > before+20
		})
	}
	read("the first server reads")
	now.Store(1)
	must(t, replicas[0].Exec(bounded(t, patience), "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+database+"'"))
	read("the second server reads")
	if s.metric(t, "pgweir_server_many") != 0 {
		t.Error("it is taken for several servers")
	}
}

// TestOneAddressOfManyServers: what is known of one server behind an address is not taken
// for true of another, so that no read is stale; and it is said.
func TestOneAddressOfManyServers(t *testing.T) {
	replicas := shared(t).Replicas
	if len(replicas) < 2 {
		t.Fatal("two replicas are needed")
	}
	database := newDatabase(t, "create table n (a int); insert into n values (0)")
	run(t, "postgres", "alter database "+database+" set synchronous_commit = local")
	slow := replicas[0]
	for name, choose := range map[string]func(n int) string{
		"in turn":   func(n int) string { return replicas[n%2].Addr() },
		"at random": func(int) string { return replicas[rand.IntN(2)].Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			must(t, slow.PauseReplay(bounded(t, patience)))
			defer func() { must(t, slow.ResumeReplay(context.Background())) }()
			s := start(t, poolSize(8), func(c *config.Config) {
				c.Servers = []config.Server{c.Servers[0], {Address: balancer(t, choose), Weight: 1}}
			})
			writer := raw(t, s.addr, database)
			var readers []*rawConn
			for range 6 {
				r := raw(t, s.addr, database)
				r.query("begin read only") // holds a connection of its own
				r.query("select 1")
				readers = append(readers, r)
			}
			for _, r := range readers {
				r.query("commit")
			}
			stale, reads := 0, 0
			for i := range 200 {
				writer.query(fmt.Sprintf("update n set a = %d", i))
				for range 2 {
					r := readers[rand.IntN(len(readers))]
					for _, line := range r.query("select a from n") {
						var a int
						if n, _ := fmt.Sscanf(line, "D \"%d\"", &a); n == 0 {
							continue
						}
						reads++
						if a < i {
							stale++
						}
					}
				}
			}
			if stale > 0 || reads != 400 {
				t.Errorf("%d of %d reads were stale", stale, reads)
			}
			t.Logf("%v statements ran on a replica", s.metric(t, "pgweir_statements_total", "target=replica"))
			until(t, "it is said", func() bool { return s.metric(t, "pgweir_server_many") == 1 })
		})
	}
}

// The primary's name leads to a standby for a while, as during a switchover: whoever gets a new
// connection meanwhile waits, and nobody is told that the server is read-only.
func TestPrimaryAddressLeadsToStandby(t *testing.T) {
	var away atomic.Bool
	address := balancer(t, func(int) string {
		if away.Load() {
			return shared(t).Replicas[0].Addr()
		}
		return shared(t).Primary.Addr()
	})
	database := newDatabase(t, "create table n (a int)")
	s := start(t, poolSize(4), func(c *config.Config) { c.Servers = []config.Server{{Address: address, Weight: 1}} })
	first, second := raw(t, s.addr, database), raw(t, s.addr, database)
	first.query("begin")
	first.query("insert into n values (1)") // holds the only connection
	away.Store(true)
	second.send(&pgproto3.Query{String: "notify there"}, &pgproto3.Query{String: "insert into n values (2)"}, &pgproto3.Query{String: "show transaction_read_only"})
	until(t, "it is seen", func() bool { return s.metric(t, "pgweir_cluster_has_primary") == 0 })
	away.Store(false)
	got := strings.Join(second.wait("Z", "Z", "Z"), "\n")
	if strings.Contains(got, "E ERROR") || !strings.Contains(got, `D "off"`) {
		t.Error(got)
	}
	first.query("commit")
}
