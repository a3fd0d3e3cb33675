package proxy_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// names answers questions for addresses in the place of the system's resolver, which nothing in
// these tests needs: unknown names do not exist.
type names struct {
	mu    sync.Mutex // protects the field below
	known map[string][]string
}

// resolver is that of the test binary from before its first test: what was set in the middle
// of one would be read by dials that an earlier one left.
var resolver = func() *names {
	n := &names{known: map[string][]string{}}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: n.dial}
	return n
}()

// resolve returns the resolver, for a test that ends with no name known.
func resolve(t *testing.T) *names {
	t.Cleanup(func() {
		resolver.mu.Lock()
		defer resolver.mu.Unlock()
		clear(resolver.known)
	})
	return resolver
}

func (n *names) set(name string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[name+"."] = addresses
}

// dial is a connection to a name server that speaks as over TCP: each message has its
// length before it.
func (n *names) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() { defer server.Close(); n.serve(server) }()
	return client, nil
}

func (n *names) serve(conn net.Conn) {
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		request := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, request); err != nil {
			return
		}
		answer, err := n.answer(request)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

func (n *names) answer(request []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(request); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, q := range m.Questions {
		n.mu.Lock()
		addresses, known := n.known[q.Name.String()]
		n.mu.Unlock()
		if !known {
			m.RCode = dnsmessage.RCodeNameError
		}
		for _, a := range addresses {
			if q.Type == dnsmessage.TypeA {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
				})
			}
		}
	}
	return m.Pack()
}

// A server given by name is looked for at all of the name's addresses, and anew when
// they change; a name that leads to a server known already changes nothing.
func TestServerNames(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 1})
	ctx := bounded(t, time.Minute)
	must(t, cluster.Exec(ctx, ledgerTable))
	old, next := cluster.Primary, cluster.Replicas[0]
	dns := resolve(t)
	toOld, _ := between(t, old)
	_, port, err := net.SplitHostPort(toOld.links[0].Listen)
	must(t, err)
	dns.set("db.test", "127.0.0.9", "127.0.0.1") // nobody listens at the first
	toNext := forward(t, net.JoinHostPort("127.0.0.2", port), next)
	cfg := failoverConfig(t, cluster, net.JoinHostPort("db.test", port), next.Addr())
	cfg.Routing.MonitorInterval = 100 * time.Millisecond
	s := startConfig(t, cfg)
	is := func(role, state string) {
		t.Helper()
		until(t, "the server by its name is "+role+", "+state, func() bool {
			return s.metric(t, "pgweir_server_state", "server="+cfg.Servers[0].Address, "state="+state) == 1 &&
				(state != "serving" || s.metric(t, "pgweir_server_up", "server="+cfg.Servers[0].Address, "role="+role) == 1)
		})
	}
	is("primary", "serving")
	conn := connectTo(t, s)
	insert := func(id int) {
		t.Helper()
		if _, err := conn.Exec(ctx, "insert into ledger values ($1, 0)", id); err != nil {
			t.Fatal(err)
		}
	}
	insert(1)
	must(t, old.Stop(pgtest.Fast))
	must(t, next.Promote(ctx))
	dns.set("db.test", "127.0.0.2")
	is("primary", "serving")
	s.state(t, next, "primary", "duplicate")
	insert(2)
	must(t, old.Clone(ctx, next))
	dns.set("db.test", "127.0.0.9", "127.0.0.1")
	is("replica", "serving")
	toNext.Stop()
	insert(3)
	v, err := next.Value(ctx, "postgres", "select count(*) from ledger")
	if err != nil || v != strconv.Itoa(3) {
		t.Errorf("%s rows, %v", v, err)
	}
	dns.set("db.test") // no address at all: what is connected stays
	after, err := pgconn.Connect(ctx, s.dsn("postgres"))
	must(t, err)
	must(t, after.Close(ctx))
}

// Where the primary's name leads to one that it has succeeded, and that runs still, nothing is written there.
func TestNamesChangePlaces(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{Replicas: 1})
	ctx := bounded(t, time.Minute)
	must(t, cluster.Exec(ctx, ledgerTable))
	must(t, cluster.WaitReplay(ctx))
	old, next := cluster.Primary, cluster.Replicas[0]
	dns := resolve(t)
	toOld, _ := between(t, old)
	_, port, err := net.SplitHostPort(toOld.links[0].Listen)
	must(t, err)
	forward(t, net.JoinHostPort("127.0.0.2", port), next)
	dns.set("a.test", "127.0.0.1")
	dns.set("b.test", "127.0.0.2")
	cfg := failoverConfig(t, cluster, net.JoinHostPort("a.test", port), net.JoinHostPort("b.test", port))
	cfg.Routing.MonitorInterval = 500 * time.Millisecond
	s := startConfig(t, cfg)
	must(t, next.Promote(ctx))
	until(t, "the other is the primary", func() bool {
		return s.metric(t, "pgweir_server_up", "server="+cfg.Servers[1].Address, "role=primary") == 1 &&
			s.metric(t, "pgweir_server_state", "server="+cfg.Servers[0].Address, "state=fenced") == 1
	})
	first, second := connectTo(t, s), connectTo(t, s)
	_, err = first.Exec(ctx, "begin; insert into ledger values (1, 0)", pgx.QueryExecModeSimpleProtocol)
	must(t, err)
	dns.set("a.test", "127.0.0.2")
	dns.set("b.test", "127.0.0.1")
	_, err = second.Exec(ctx, "insert into ledger values (2, 0)") // over a new connection
	must(t, err)
	for server, want := range map[*pgtest.Server]string{old: "0", next: "1"} {
		n, err := server.Value(ctx, "postgres", "select count(*) from ledger where id = 2")
		if err != nil || n != want {
			t.Errorf("%s: %s rows, %v; want %s", server.Addr(), n, err, want)
		}
	}
}
