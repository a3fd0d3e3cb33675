package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
)

// leaving are the ways a client goes while it waits for an answer.
var leaving = map[string]func(*rawConn){
	"closes": func(r *rawConn) { _ = r.conn.Close() },
	"resets": func(r *rawConn) { _ = r.conn.(*net.TCPConn).SetLinger(0); _ = r.conn.Close() },
	"says goodbye": func(r *rawConn) {
		r.send(&pgproto3.Terminate{})
		_ = r.conn.Close()
	},
	"has asked more": func(r *rawConn) {
		r.send(&pgproto3.Query{String: "insert into t values ('more')"})
		_ = r.conn.Close()
	},
}

// What runs for a client that is gone is canceled and undone, and its server connection
// serves the next one.
func TestVanishWhileRunning(t *testing.T) {
	database := newDatabase(t, "create table t (a text)")
	s := start(t, poolSize(1), func(c *config.Config) { c.Servers = c.Servers[:2] })
	other := raw(t, s.addr, database)
	other.query("insert into t values ('before')")
	other.query("/* pgweir:replica */ select 1")
	dialled := func() float64 { return s.metric(t, "pgweir_pool_events_total", "event=connected") }
	before := dialled()
	if before != 2 {
		t.Fatalf("%v connections", before)
	}
	for what, send := range map[string]func(*rawConn){
		"a write": func(r *rawConn) {
			r.send(&pgproto3.Query{String: "insert into t select 'gone' from pg_sleep(60)"})
		},
		"a read": func(r *rawConn) {
			r.send(&pgproto3.Query{String: "/* pgweir:replica */ select 'gone' from pg_sleep(60)"})
		},
		"a string": func(r *rawConn) {
			r.send(&pgproto3.Query{String: "insert into t values ('gone'); select 'gone' from pg_sleep(60); insert into t values ('gone')"})
		},
		"an extended query": func(r *rawConn) {
			r.send(&pgproto3.Parse{Query: "insert into t select 'gone' from pg_sleep($1)"}, &pgproto3.Bind{Parameters: [][]byte{[]byte("60")}},
				&pgproto3.Execute{}, &pgproto3.Sync{})
		},
		"before Sync": func(r *rawConn) {
			r.send(&pgproto3.Parse{Query: "insert into t select 'gone' from pg_sleep($1)"}, &pgproto3.Bind{Parameters: [][]byte{[]byte("60")}},
				&pgproto3.Execute{}, &pgproto3.Flush{})
		},
		"in a transaction": func(r *rawConn) {
			r.query("begin")
			r.query("insert into t values ('gone')")
			r.send(&pgproto3.Query{String: "select 'gone' from pg_sleep(60)"})
		},
		"a part of a row": func(r *rawConn) {
			r.send(&pgproto3.Query{String: "select repeat('x', 100000); insert into t values ('gone'); select 'gone' from pg_sleep(60)"})
			r.wait("T")
		},
	} {
		for how, leave := range leaving {
			if what != "a write" && how != "closes" {
				continue
			}
			t.Run(what+", "+how, func(t *testing.T) {
				r := raw(t, s.addr, database)
				send(r)
				until(t, "it runs", func() bool { return sleeping(t, database) == 1 })
				leave(r)
				began := time.Now()
				until(t, "it runs no more", func() bool { return sleeping(t, database) == 0 })
				t.Logf("after %v", time.Since(began).Round(time.Millisecond))
				until(t, "it is gone", func() bool { return s.metric(t, "pgweir_clients") == 1 })
				if got := tail(other.query("insert into t values ('next'); delete from t where a = 'next'; select string_agg(a, ' ') from t")); !strings.Contains(got, `"before"`) {
					t.Errorf("afterwards: %s", got)
				}
				if n := dialled(); n != before && what != "before Sync" {
					t.Errorf("%v more connections were opened", n-before)
				}
				before = dialled()
			})
		}
	}
	if n := s.metric(t, "pgweir_clients_vanished_total"); n != float64(6+len(leaving)) {
		t.Errorf("%v clients are counted", n)
	}
}

// sleeping is how many statements sleep in a database, on all servers.
func sleeping(t *testing.T, database string) (n int) {
	t.Helper()
	for _, server := range shared(t).Servers() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		v, err := server.Value(ctx, "postgres", "select count(*)::text from pg_stat_activity where datname = $1 and wait_event = 'PgSleep'", database)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		var here int
		_, _ = fmt.Sscan(v, &here)
		n += here
	}
	return n
}

// The same over TLS, however that was begun.
func TestVanishOverTLS(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(1), withCertificate(t))
	for _, direct := range []bool{false, true} {
		conn := dial(t, s.addr)
		if !direct {
			_, _ = conn.Write(packet(sslCode, ""))
			var b [1]byte
			if _, err := conn.Read(b[:]); err != nil || b[0] != 'S' {
				t.Fatalf("answer %q, %v", b, err)
			}
		}
		secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
		if err := secured.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, _ = secured.Write(hello(version30, "user", "postgres", "database", database))
		answers(t, secured, 0)
		_, _ = secured.Write(encode(t, &pgproto3.Query{String: "/* pgweir:primary */ select pg_sleep(60)"}))
		until(t, "it runs", func() bool { return sleeping(t, database) == 1 })
		_ = secured.Close()
		until(t, "it runs no more", func() bool { return sleeping(t, database) == 0 })
	}
}

// A short write is done for a client that closes as soon as it has sent it, as PostgreSQL
// does it.
func TestWriteAndClose(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, poolSize(1))
	for i := range 10 {
		r := raw(t, s.addr, database)
		r.send(&pgproto3.Query{String: fmt.Sprintf("insert into t values (%d)", i)}, &pgproto3.Terminate{})
		_ = r.conn.Close()
	}
	r := raw(t, s.addr, database)
	until(t, "all are there", func() bool { return strings.Contains(tail(r.query("select 'rows', count(*) from t")), `"rows" "10"`) })
}

// A pool's connections are not held by those who left: what comes next is served at once.
func TestVanishedCrowd(t *testing.T) {
	database := newDatabase(t, "create table t (a int)")
	s := start(t, poolSize(5), func(c *config.Config) { c.Pool.AcquireTimeout = 30 * time.Second })
	var crowd []*rawConn
	for range 12 {
		r := raw(t, s.addr, database)
		r.send(&pgproto3.Query{String: "insert into t select 1 from pg_sleep(60)"})
		crowd = append(crowd, r)
	}
	until(t, "all are taken", func() bool {
		return s.metric(t, "pgweir_pool_connections", "state=used") == 5 && s.metric(t, "pgweir_pool_waiting") == 7
	})
	for _, r := range crowd {
		_ = r.conn.Close()
	}
	r := raw(t, s.addr, database)
	if got := r.query("insert into t values (2)"); got[len(got)-1] != "Z I" {
		t.Errorf("answer %q", got)
	}
	if got := tail(r.query("/* pgweir:primary */ select count(*) from t")); !strings.Contains(got, `"1"`) {
		t.Errorf("rows: %s", got)
	}
}

// One that has closed its side and reads no more, either.
func TestHalfClosed(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(1))
	conn := dial(t, s.addr)
	_, _ = conn.Write(hello(version30, "user", "postgres", "database", database))
	answers(t, conn, 0)
	_, _ = conn.Write(encode(t, &pgproto3.Query{String: "/* pgweir:primary */ select repeat('x', 1000000) from generate_series(1, 1000)"}))
	_ = conn.(*net.TCPConn).CloseWrite()
	r := raw(t, s.addr, database)
	if got := r.query("/* pgweir:primary */ select 1"); got[len(got)-1] != "Z I" {
		t.Errorf("answer %q", got)
	}
}

// A client that is there no more without having closed shows by what it does not
// acknowledge; so does one that reads no more.
func TestUserTimeout(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(1), func(c *config.Config) { c.TCPUserTimeout = time.Second })
	conn := dial(t, s.addr)
	_, _ = conn.Write(hello(version30, "user", "postgres", "database", database))
	answers(t, conn, 0)
	_, _ = conn.Write(encode(t, &pgproto3.Query{String: "/* pgweir:primary */ select repeat('x', 1000000) from generate_series(1, 1000)"}))
	until(t, "it is given up", func() bool { return s.metric(t, "pgweir_clients_vanished_total") == 1 })
	r := raw(t, s.addr, database)
	if got := r.query("/* pgweir:primary */ select 1"); got[len(got)-1] != "Z I" {
		t.Errorf("answer %q", got)
	}
}
