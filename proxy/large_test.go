package proxy_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
)

// bigValue is the value of a Bind that is not gathered.
var bigValue = bytes.Repeat([]byte("x"), 1<<20)

// bindBig binds a named statement to bigValue.
func bindBig(t testing.TB, statement string) []byte {
	t.Helper()
	return encode(t, &pgproto3.Bind{PreparedStatement: statement, Parameters: [][]byte{bigValue}})
}

// runIt is what follows a Bind.
func runIt(t testing.TB) []byte { return encode(t, &pgproto3.Execute{}, &pgproto3.Sync{}) }

// prepareBig prepares s, which takes a value, and has the session in a transaction that has written.
func prepareBig(t testing.TB, r *rawConn) {
	t.Helper()
	r.send(&pgproto3.Parse{Name: "s", Query: "insert into t values (length($1::text)) returning a"}, &pgproto3.Sync{})
	r.wait("Z")
	r.query("begin")
	r.query("insert into t values (1)")
}

// bothWays plays something on a server itself, and through a proxy in front of it.
func bothWays(t *testing.T, s *service, database string, f func(t *testing.T, r *rawConn)) {
	t.Helper()
	for way, addr := range map[string]string{"directly": shared(t).Primary.Addr(), "through the proxy": s.addr} {
		t.Run(way, func(t *testing.T) {
			run(t, database, "truncate t")
			r := raw(t, addr, database)
			prepareBig(t, r)
			f(t, r)
		})
	}
	// Whatever became of it, the pool has its place.
	other := raw(t, s.addr, database)
	if got := tail(other.query("insert into t values (2)")); !strings.Contains(got, "INSERT 0 1") {
		t.Errorf("the next: %s", got)
	}
}

// A client that goes in the middle of a large message has asked for nothing: its transaction is
// rolled back.
func TestLargeClientGoes(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, poolSize(1))
	bothWays(t, s, database, func(t *testing.T, r *rawConn) {
		r.write(bindBig(t, "s")[:500000], false)
		_ = r.conn.Close()
		until(t, "it is rolled back", func() bool {
			n, err := shared(t).Primary.Value(t.Context(), database, "select count(*) from pg_stat_activity where datname = $1 and state like 'idle in transaction%'", database)
			must(t, err)
			return n == "0"
		})
		n, err := shared(t).Primary.Value(t.Context(), database, "select count(*) from t")
		must(t, err)
		if n != "0" {
			t.Errorf("%s rows", n)
		}
	})
}

// A server that ends the session in the middle says so, and the session ends.
func TestLargeServerEnds(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, poolSize(1))
	bothWays(t, s, database, func(t *testing.T, r *rawConn) {
		r.write(bindBig(t, "s")[:500000], false)
		run(t, database, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and state like 'idle in%'")
		if got := r.wait("end"); !strings.Contains(tail(got), "FATAL FATAL 57P01") {
			t.Errorf("%s", tail(got))
		}
	})
}

// A connection that breaks in the middle of a large message is told as lost, what is left of the message and its
// batch is passed over, and the session goes on.
func TestLargeConnectionBreaks(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	network, addresses := between(t, shared(t).Primary)
	cfg := baseConfig(t)
	cfg.Servers = []config.Server{{Address: addresses[0], Weight: 1}}
	s := startConfig(t, cfg)
	r := raw(t, s.addr, database)
	prepareBig(t, r)
	r.query("rollback")
	frame := bindBig(t, "s")
	used := func(n float64) func() bool {
		return func() bool { return s.metric(t, "pgweir_pool_connections", "state=used") == n }
	}
	until(t, "nothing is used", used(0))
	r.write(frame[:500000], false)
	until(t, "it is on its way", used(1))
	undo := cut(network.links[0])
	r.write(frame[500000:600000], false)
	if got := tail(r.wait("E")); !strings.Contains(got, "08006") {
		t.Error(got)
	}
	undo()
	r.write(join(frame[600000:], runIt(t)), false)
	if got := tail(r.wait("Z")); got != "Z I" {
		t.Error(got)
	}
	if got := tail(r.query("insert into t values (3)")); !strings.Contains(got, "INSERT 0 1") {
		t.Error(got)
	}
}

// A client that is slow holds no server connection before its names are there. Then it does, as it would with
// PostgreSQL, and a cancel request counts for nothing until all has come.
func TestLargeSlowClient(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, poolSize(1), func(c *config.Config) { c.Timeouts.Statement = 500 * time.Millisecond })
	used := func() bool { return s.metric(t, "pgweir_pool_connections", "state=used") > 0 }
	frame := bindBig(t, "s")
	r := raw(t, s.addr, database)
	prepareBig(t, r)
	r.query("rollback")
	until(t, "it holds no connection", func() bool { return !used() })
	r.write(frame[:8000], false)
	time.Sleep(100 * time.Millisecond) // that nothing happens
	if used() {
		t.Error("it holds a connection")
	}
	r.write(frame[8000:9000], false)
	until(t, "it is on its way", used)
	r.write(join(frame[9000:], runIt(t)), false)
	r.wait("Z")
	bothWays(t, s, database, func(t *testing.T, r *rawConn) {
		r.write(frame[:500000], false)
		time.Sleep(100 * time.Millisecond)
		request := dial(t, r.conn.RemoteAddr().String())
		_, _ = request.Write(packet(cancelCode, string(r.key)))
		_, _ = request.Read(make([]byte, 1)) // it was dealt with
		r.write(frame[500000:500001], false)
		time.Sleep(600 * time.Millisecond) // longer than a statement may take
		r.write(join(frame[500001:], runIt(t)), false)
		if got := tail(r.wait("Z")); !strings.HasSuffix(got, "D \"1048576\"\nC INSERT 0 1\nZ T") {
			t.Error(got)
		}
		r.query("commit")
	})
}

// Timeouts end a session in the middle of a large message.
func TestLargeTimeouts(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	for name, v := range map[string]struct {
		limits config.Timeouts
		setup  string
		code   string
	}{
		"silent":             {limits: config.Timeouts{IdleTransaction: time.Second}, code: "25P03"},
		"in all":             {limits: config.Timeouts{Transaction: 2 * time.Second}, code: "25P04"},
		"silent, PostgreSQL": {setup: "set idle_in_transaction_session_timeout = '1s'", code: "25P03"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, poolSize(1), func(c *config.Config) { c.Timeouts = v.limits })
			r := raw(t, s.addr, database)
			if v.setup != "" {
				r.query(v.setup)
			}
			prepareBig(t, r)
			frame := bindBig(t, "s")
			r.write(frame[:500000], false)
			stop := make(chan struct{})
			go func() { // a client that is not silent for long, but for ever
				defer close(stop)
				for i := 500000; name == "in all" && i < 501000; i++ {
					if _, err := r.conn.Write(frame[i : i+1]); err != nil {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
			}()
			if got := tail(r.wait("end")); !strings.Contains(got, "FATAL FATAL "+v.code) {
				t.Error(got)
			}
			_ = r.conn.Close()
			<-stop
			other := raw(t, s.addr, database)
			if got := tail(other.query("insert into t values (2)")); !strings.Contains(got, "INSERT 0 1") {
				t.Errorf("the next: %s", got)
			}
		})
	}
}

// A large message that finds no server connection is refused, and so is one that is canceled while it waits.
func TestLargeFindsNoConnection(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, poolSize(1), func(c *config.Config) { c.Pool.AcquireTimeout = time.Second })
	other, r := raw(t, s.addr, database), raw(t, s.addr, database)
	prepareBig(t, r)
	r.query("rollback")
	other.query("begin")
	other.query("insert into t values (1)")
	for _, code := range []string{"53300", "57014"} {
		r.write(bindBig(t, "s")[:500000], false)
		if code == "57014" {
			until(t, "it waits", func() bool { return s.metric(t, "pgweir_pool_waiting") == 1 })
			_, _ = dial(t, s.addr).Write(packet(cancelCode, string(r.key)))
		}
		if got := tail(r.wait("E")); !strings.Contains(got, code) {
			t.Error(got)
		}
		r.write(join(bindBig(t, "s")[500000:], runIt(t)), false)
		if got := tail(r.wait("Z")); got != "Z I" {
			t.Error(got)
		}
	}
	other.query("commit")
	r.write(join(bindBig(t, "s"), runIt(t)), false)
	if got := tail(r.wait("Z")); !strings.Contains(got, "INSERT 0 1") {
		t.Error(got)
	}
}

// The same over TLS.
func TestLargeOverTLS(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(1), withCertificate(t))
	conn := dial(t, s.addr)
	_, _ = conn.Write(packet(sslCode, ""))
	_, err := conn.Read(make([]byte, 1))
	must(t, err)
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	must(t, secured.Handshake())
	_, _ = secured.Write(hello(version30, "user", "postgres", "database", database))
	answers(t, secured, 0)
	for range 3 {
		_, _ = secured.Write(join(encode(t, &pgproto3.Parse{Query: "select length($1::text)"}), bindBig(t, ""), runIt(t), encode(t, &pgproto3.Query{String: "select 1"})))
		if got := strings.Join(answers(t, secured, 0), " "); got != `1 2 D "1048576" C SELECT 1 ready` {
			t.Error(got)
		}
		answers(t, secured, 0)
	}
}

// A read that could not be sent again runs where it need not be. Who asks for a replica gets one, and what that says.
func TestLargeReads(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, poolSize(1), eventual, func(c *config.Config) { c.Servers = c.Servers[:2] })
	r := raw(t, s.addr, database)
	where := func() (primary, replica float64) {
		return s.metric(t, "pgweir_statements_total", "target=primary"), s.metric(t, "pgweir_statements_total", "target=replica")
	}
	ask := func(what string, onReplica bool) {
		t.Helper()
		p, q := where()
		r.write(join(encode(t, &pgproto3.Parse{Query: what + "select length($1::text)"}), bindBig(t, ""), runIt(t)), false)
		if got := tail(r.wait("Z")); !strings.Contains(got, `D "1048576"`) {
			t.Error(got)
		}
		until(t, "it is counted", func() bool { p2, q2 := where(); return p2+q2 > p+q })
		if p2, q2 := where(); (p2 > p) == onReplica || (q2 > q) != onReplica {
			t.Errorf("%q: %v on the primary, %v on replicas", what, p2-p, q2-q)
		}
	}
	ask("", false)
	ask("/* pgweir:replica */ ", true)
	r.query("set pgweir.route = 'replica'")
	ask("", true)
	r.query("reset pgweir.route")
	r.query("begin")
	r.query("select count(*) from t")
	ask("", false) // its portal could not leave a replica with the transaction
	r.query("commit")
	r.send(&pgproto3.Parse{Name: "s", Query: "/* pgweir:replica */ select length($1::text)"}, &pgproto3.Sync{})
	r.wait("Z")
	frame := bindBig(t, "s")
	r.write(frame[:500000], false)
	until(t, "it is on its way", func() bool { return s.metric(t, "pgweir_pool_connections", "state=used") == 1 })
	replica := shared(t).Replicas[0]
	until(t, "its session is found", func() bool {
		n, err := replica.Value(t.Context(), "postgres", "select count(*) from pg_stat_activity a, lateral pg_terminate_backend(a.pid) where datname = $1", database)
		must(t, err)
		return n == "1"
	})
	if got := tail(r.wait("end")); !strings.Contains(got, "FATAL FATAL 57P01") {
		t.Error(got)
	}
}

// A service that ends in the middle of a large message waits for nobody.
func TestLargeShutdown(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, poolSize(1))
	r := raw(t, s.addr, database)
	prepareBig(t, r)
	r.write(bindBig(t, "s")[:500000], false)
	skipped := raw(t, s.addr, database)
	skipped.write(bindBig(t, "nosuch")[:500000], false)
	skipped.wait("E")
	s.Close()
	for _, c := range []*rawConn{r, skipped} {
		if got := tail(c.wait("end")); !strings.Contains(got, "57P01") && !strings.HasSuffix(got, "end") {
			t.Error(got)
		}
	}
}

// What the proxy reads of it is little: the names may not be longer than the head.
func TestLargeNames(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, poolSize(1))
	name := strings.Repeat("n", 20000)
	for _, addr := range []string{shared(t).Primary.Addr(), s.addr} {
		r := raw(t, addr, database)
		r.send(&pgproto3.Bind{PreparedStatement: name, Parameters: [][]byte{bigValue}}, &pgproto3.Sync{})
		if got := tail(r.wait("Z")); !strings.Contains(got, "26000") {
			t.Error(got[:min(len(got), 200)])
		}
		if got := tail(r.query("insert into t values (1)")); !strings.Contains(got, "INSERT 0 1") {
			t.Error(got)
		}
	}
}

// Whatever way a large message is cut into pieces, it is answered alike.
func TestLargeInPieces(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, poolSize(1))
	r := raw(t, s.addr, database)
	all := join(encode(t, &pgproto3.Parse{Query: "insert into t values (length($1::text)) returning a"}), bindBig(t, ""), runIt(t))
	_ = r.conn.(*net.TCPConn).SetNoDelay(true)
	for _, size := range []int{1, 4, 5, 6, 8191, 8192, 8193, 65536, 300000} {
		first := bytes.IndexByte(all, 'B')
		for i := 0; i < 3*size+first+10; i += size { // the beginning in pieces, the rest at once
			r.write(all[min(i, len(all)):min(i+size, len(all))], false)
			if i+size >= 3*size+first+10 {
				r.write(all[min(i+size, len(all)):], false)
			}
		}
		if got := tail(r.wait("Z")); got != "1\n2\nD \"1048576\"\nC INSERT 0 1\nZ I" {
			t.Errorf("%d: %s", size, got)
		}
	}
}
