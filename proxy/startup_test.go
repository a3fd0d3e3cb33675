package proxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
)

// Codes in the place of a startup packet's protocol version.
const (
	version30  = 3 << 16
	version32  = 3<<16 | 2
	cancelCode = 80877102
	sslCode    = 80877103
	gssCode    = 80877104
)

// packet is a packet without type byte: its length, a code, and the body.
func packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

// hello is a startup packet; params are names and values in turn.
func hello(code uint32, params ...string) []byte {
	return packet(code, strings.Join(params, "\x00")+"\x00\x00")
}

// withLength is eight bytes that announce a length.
func withLength(n uint32) []byte {
	return append(binary.BigEndian.AppendUint32(nil, n), 0, 3, 0, 0)
}

func join(bs ...[]byte) []byte { return slices.Concat(bs...) }

// dial is a connection on which nothing was said; reads and writes are bounded.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// answers reads what the server says until it is ready for a query or closes the
// connection; single bytes answer requests for encryption.
func answers(t testing.TB, conn net.Conn, single int) (lines []string) {
	t.Helper()
	for range single {
		var b [1]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return append(lines, "end")
		}
		lines = append(lines, string(b[:]))
	}
	front := pgproto3.NewFrontend(conn, nil)
	for {
		m, err := front.Receive()
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatalf("no answer after %v", lines)
		}
		if err != nil {
			return append(lines, "end")
		}
		switch m := m.(type) {
		case *pgproto3.ParameterStatus:
		case *pgproto3.ErrorResponse:
			lines = append(lines, m.Severity+" "+m.Code)
		case *pgproto3.BackendKeyData:
			lines = append(lines, fmt.Sprintf("key of %d", len(m.SecretKey)))
		case *pgproto3.NegotiateProtocolVersion:
			lines = append(lines, fmt.Sprintf("version %d.%d %v", m.NewestMinorProtocol>>16, m.NewestMinorProtocol&0xffff, m.UnrecognizedOptions))
		case *pgproto3.ReadyForQuery:
			return append(lines, "ready")
		default:
			lines = append(lines, describe(m))
		}
	}
}

func TestStartup(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t)
	good := []string{"user", "postgres", "database", database}
	welcome := func(key int) []string { return []string{"R", fmt.Sprintf("key of %d", key), "ready"} }
	refused := func(code string) []string { return []string{"FATAL " + code, "end"} }
	for _, try := range []struct {
		name   string
		send   []byte
		single int // answers of one byte
		want   []string
	}{
		{"protocol 1.0", hello(1<<16, good...), 0, refused("0A000")},
		{"protocol 2.0", hello(2<<16, good...), 0, refused("0A000")},
		{"protocol 4.0", hello(4<<16, good...), 0, refused("0A000")},
		{"protocol 3.0", hello(version30, good...), 0, welcome(4)},
		{"protocol 3.2", hello(version32, good...), 0, welcome(32)},
		{"protocol 3.9999 with options", hello(3<<16|9999, append(good, "_pq_.test_protocol_negotiation", "", "_pq_.x", "y")...), 0,
			append([]string{"version 3.2 [_pq_.test_protocol_negotiation _pq_.x]"}, welcome(32)...)},
		{"protocol 3.0 with options", hello(version30, append(good, "_pq_.x", "y")...), 0,
			append([]string{"version 3.0 [_pq_.x]"}, welcome(4)...)},
		{"no parameters", hello(version30), 0, refused("08P01")},
		{"no user", hello(version30, "database", database), 0, refused("28000")},
		{"an empty user", hello(version30, "user", "", "database", database), 0, refused("28000")},
		{"an unknown user", hello(version30, "user", "nobody at all", "database", database), 0, refused("28000")},
		{"an unknown database", hello(version30, "user", "postgres", "database", "no such"), 0, refused("3D000")},
		{"a setting that is none", hello(version30, append(good, "no_such", "1")...), 0, refused("42704")},
		{"a setting's bad value", hello(version30, append(good, "datestyle", "never")...), 0, refused("22023")},
		{"no terminator", packet(version30, "user\x00postgres\x00"), 0, refused("08P01")},
		{"a name without value", packet(version30, "user\x00postgres\x00database\x00"), 0, refused("08P01")},
		{"more behind the terminator", packet(version30, "user\x00postgres\x00\x00more\x00"), 0, refused("08P01")},
		{"SSL refused", join(packet(sslCode, ""), hello(version30, good...)), 1, append([]string{"N"}, welcome(4)...)},
		{"SSL asked twice", join(packet(sslCode, ""), packet(sslCode, "")), 1, append([]string{"N"}, refused("0A000")...)},
		{"GSS refused", join(packet(gssCode, ""), hello(version30, good...)), 1, append([]string{"N"}, welcome(4)...)},
		{"GSS asked twice", join(packet(gssCode, ""), packet(gssCode, "")), 1, append([]string{"N"}, refused("0A000")...)},
		{"GSS, then SSL", join(packet(gssCode, ""), packet(sslCode, ""), hello(version30, good...)), 2, append([]string{"N", "N"}, welcome(4)...)},
		{"a cancel request with a wrong key", packet(cancelCode, "\x00\x00\x00\x01\x00\x00\x00\x02"), 0, []string{"end"}},
		{"a cancel request without a key", packet(cancelCode, "\x00\x00\x00\x01"), 0, []string{"end"}},
		{"a cancel request without anything", packet(cancelCode, ""), 0, []string{"end"}},
		{"a cancel request with a key too long", packet(cancelCode, strings.Repeat("x", 4+257)), 0, []string{"end"}},
	} {
		t.Run(try.name, func(t *testing.T) {
			conn := dial(t, s.addr)
			if _, err := conn.Write(try.send); err != nil {
				t.Fatal(err)
			}
			if got := answers(t, conn, try.single); !slices.Equal(got, try.want) {
				t.Errorf("answers %q, want %q", got, try.want)
			}
		})
		t.Run(try.name+", cut", func(t *testing.T) {
			conn := dial(t, s.addr)
			for _, b := range try.send[:len(try.send)-1] {
				_, _ = conn.Write([]byte{b})
			}
			_ = conn.(*net.TCPConn).CloseWrite()
			got := answers(t, conn, 0)
			if got[len(got)-1] != "end" {
				t.Errorf("half of it is answered by %q", got)
			}
		})
	}
	s.settle(t)
}

// TestFirstPackets: what is no startup packet is met as PostgreSQL meets it, which is
// without a word, and a client that says goodbye or closes is no failed login.
func TestFirstPackets(t *testing.T) {
	s := start(t)
	goodbye := encode(t, &pgproto3.Terminate{})
	for _, try := range []struct {
		name  string
		ssl   bool // encryption is asked for first, and refused
		send  []byte
		quiet bool // it is nothing to tell of
	}{
		{"nothing", false, nil, true},
		{"goodbye", false, goodbye, true},
		{"SSL refused, nothing", true, nil, true},
		{"SSL refused, goodbye", true, goodbye, true},
		{"length 0", false, withLength(0), false},
		{"length 4", false, withLength(4), false},
		{"length 7", false, withLength(7), false},
		{"length 10001", false, withLength(10001), false},
		{"length of 1 GB", false, withLength(1 << 30), false},
		{"length of 4 GB", false, withLength(0xffffffff), false},
		{"only a length", false, []byte{0xff, 0xff, 0xff, 0xff}, false},
		{"half a length", false, []byte{0}, false},
		{"another protocol", false, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), false},
		{"zeros", false, make([]byte, 100), false},
		{"TLS without a certificate", false, []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), false},
		{"SSL refused, length 0", true, withLength(0), false},
		{"no parameters", false, hello(version30), false},
	} {
		t.Run(try.name, func(t *testing.T) {
			failed, logged := s.metric(t, "pgweir_logins_total", "outcome=failed"), s.logs.Len()
			var got [2][]string
			for i, addr := range []string{shared(t).Primary.Addr(), s.addr} {
				conn := dial(t, addr)
				if try.ssl {
					_, _ = conn.Write(packet(sslCode, ""))
					var b [1]byte
					if _, err := io.ReadFull(conn, b[:]); err != nil || b[0] != 'N' {
						t.Fatalf("answer %q, %v", b, err)
					}
				}
				_, _ = conn.Write(try.send)
				_ = conn.(*net.TCPConn).CloseWrite()
				got[i] = answers(t, conn, 0)
			}
			if !slices.Equal(got[0], got[1]) {
				t.Errorf("answers %q, PostgreSQL %q", got[1], got[0])
			}
			counted := s.metric(t, "pgweir_logins_total", "outcome=failed") - failed
			if (counted == 0) != try.quiet || try.quiet && s.logs.Len() != logged {
				t.Errorf("%v failed logins counted, %d lines logged", counted, s.logs.Len()-logged)
			}
		})
	}
}

// settle waits until the proxy has no client and no connection in use.
func (s *service) settle(t testing.TB) {
	t.Helper()
	until(t, "no client is left", func() bool { return s.metric(t, "pgweir_clients") == 0 })
	until(t, "no connection is in use or waited for", func() bool {
		return s.metric(t, "pgweir_pool_connections", "state=used")+s.metric(t, "pgweir_pool_connections", "state=connecting")+
			s.metric(t, "pgweir_pool_waiting")+s.metric(t, "pgweir_server_connections_in_use") == 0
	})
}

// withCertificate lets the proxy speak TLS.
func withCertificate(t *testing.T) func(*config.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: cert}, "key": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(c *config.Config) {
		c.TLS.Mode, c.TLS.CertFile, c.TLS.KeyFile = "allow", filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	}
}

func TestStartupTLS(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, withCertificate(t))
	startup := hello(version30, "user", "postgres", "database", database)
	insecure := func(protocols ...string) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
	}
	welcome := []string{"R", "key of 4", "ready"}
	for _, try := range []struct {
		name  string
		plain []byte      // sent first; answered by "S" if it is not empty
		tls   *tls.Config // nil is none
		send  []byte
		want  []string
	}{
		{"asked for", packet(sslCode, ""), insecure(), startup, welcome},
		{"asked for, with ALPN", packet(sslCode, ""), insecure("postgresql"), startup, welcome},
		{"GSS asked for inside", packet(sslCode, ""), insecure(), packet(gssCode, ""), []string{"N"}},
		{"asked for again inside", packet(sslCode, ""), insecure(), packet(sslCode, ""), []string{"FATAL 0A000", "end"}},
		{"data behind the request", join(packet(sslCode, ""), startup), nil, nil, []string{"FATAL 08P01", "end"}},
		{"direct", nil, insecure("postgresql"), startup, welcome},
		{"direct without ALPN", nil, insecure(), startup, []string{"FATAL 08P01", "end"}},
		{"not used", nil, nil, startup, welcome},
		{"garbage for a handshake", packet(sslCode, ""), nil, make([]byte, 500), []string{"end"}},
	} {
		t.Run(try.name, func(t *testing.T) {
			conn := dial(t, s.addr)
			_, _ = conn.Write(try.plain)
			if try.plain != nil && try.want[0] != "FATAL 08P01" {
				var b [1]byte
				if _, err := io.ReadFull(conn, b[:]); err != nil || b[0] != 'S' {
					t.Fatalf("answer %q, %v", b, err)
				}
			}
			if try.tls != nil {
				secured := tls.Client(conn, try.tls)
				if err := secured.Handshake(); err != nil {
					t.Fatal(err)
				}
				conn = secured
			}
			_, _ = conn.Write(try.send)
			if try.want[0] == "N" {
				b := make([]byte, 1)
				if _, err := io.ReadFull(conn, b); err != nil || b[0] != 'N' {
					t.Fatalf("answer %q, %v", b, err)
				}
				return
			}
			got := answers(t, conn, 0)
			got = slices.DeleteFunc(got, func(line string) bool { return strings.HasPrefix(line, "*") })
			if !slices.Equal(got, try.want) {
				t.Errorf("answers %q, want %q", got, try.want)
			}
		})
	}
	t.Run("direct with another protocol", func(t *testing.T) {
		if err := tls.Client(dial(t, s.addr), insecure("http/1.1")).Handshake(); err == nil {
			t.Error("a client of another protocol was let in")
		}
	})
}

// Connections on which nothing is said, or half a packet, cost no client its
// place and end with the login's time.
func TestSilentConnections(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, func(c *config.Config) { c.Auth.Timeout, c.MaxClients = 3*time.Second, 5 })
	before := runtime.NumGoroutine()
	startup := hello(version30, "user", "postgres", "database", database)
	conns := make([]net.Conn, 1000)
	for i := range conns {
		conns[i] = dial(t, s.addr)
		_, _ = conns[i].Write(startup[:i%len(startup)])
	}
	s.connect(t, database).Close(context.Background())
	for i, conn := range conns {
		if got := answers(t, conn, 0); !slices.Equal(got, []string{"end"}) {
			t.Errorf("connection %d: %q", i, got)
		}
	}
	until(t, "their goroutines are gone", func() bool { return runtime.NumGoroutine() < before+20 })
}

// With application_name_add_host servers show which client a session is of; its own SET and
// the rules of the configuration are about the name as it is.
func TestApplicationNameAddHost(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(1), func(c *config.Config) {
		c.ApplicationNameAddHost = true
		c.Routing.Rules = []config.Rule{{Route: "primary", Application: "reports"}}
	})
	for name, want := range map[string]string{"reports": "reports - %s", "": "app - %s", strings.Repeat("x", 80): strings.Repeat("x", 63-3-len("127.0.0.1:12345")) + " - %s"} {
		conn := s.connect(t, database, "application_name='"+name+"'")
		local := conn.PgConn().Conn().LocalAddr().String()
		for _, sql := range []string{"select current_setting('application_name')", "select application_name from pg_stat_activity where pid = pg_backend_pid()", "show application_name"} {
			var got string
			if err := conn.QueryRow(context.Background(), sql).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got != fmt.Sprintf(want, local) {
				t.Errorf("%q, %s: %q", name, sql, got)
			}
		}
		if name != "reports" {
			continue
		}
		if got := conn.PgConn().ParameterStatus("application_name"); got != fmt.Sprintf(want, local) {
			t.Errorf("the client is told %q", got)
		}
		if _, err := conn.Exec(context.Background(), "select 1"); err != nil || s.metric(t, "pgweir_statements_total", "reason=rule") == 0 {
			t.Errorf("the rule for the application does not hold, or %v", err)
		}
	}
}

func TestMaxClients(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, func(c *config.Config) { c.MaxClients = 2 })
	a, b := s.connect(t, database), s.connect(t, database)
	for range 3 {
		_, err := pgx.Connect(context.Background(), s.dsn(database))
		if wantCode(err) != "53300" {
			t.Fatalf("a client too many: %v", err)
		}
	}
	_ = a.Close(context.Background())
	until(t, "there is a place again", func() bool { return s.metric(t, "pgweir_clients") == 1 })
	c := s.connect(t, database)
	for _, conn := range []*pgx.Conn{b, c} {
		if _, err := conn.Exec(context.Background(), "select 1"); err != nil {
			t.Error(err)
		}
	}
}

// wantCode is an error's SQLSTATE.
func wantCode(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// occupy takes the only connection of the primary's pool until the test's end or until the
// returned function is called.
func (s *service) occupy(t *testing.T, database string) (release func()) {
	t.Helper()
	conn := s.connect(t, database)
	for _, sql := range []string{"begin", "create temp table held () on commit drop"} {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if _, err := conn.Exec(context.Background(), "rollback"); err != nil {
			t.Error(err)
		}
	}
}

// A client that vanishes while it waits for a connection gives up its place,
// however it goes.
func TestVanishWhileWaiting(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(1))
	release := s.occupy(t, database)
	waiting := func(n float64) func() bool {
		return func() bool { return s.metric(t, "pgweir_pool_waiting") == n }
	}
	for name, leave := range map[string]func(*rawConn){
		"closes": func(r *rawConn) { _ = r.conn.Close() },
		"resets": func(r *rawConn) { _ = r.conn.(*net.TCPConn).SetLinger(0); _ = r.conn.Close() },
		"says goodbye": func(r *rawConn) {
			r.send(&pgproto3.Terminate{})
			_ = r.conn.Close()
		},
		"has asked more": func(r *rawConn) {
			r.send(&pgproto3.Query{String: "/* pgweir:primary */ select 2"})
			_ = r.conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := raw(t, s.addr, database)
			r.send(&pgproto3.Query{String: "/* pgweir:primary */ select 1"})
			until(t, "it waits", waiting(1))
			leave(r)
			until(t, "it waits no more", waiting(0))
			until(t, "it is gone", func() bool { return s.metric(t, "pgweir_clients") == 1 })
		})
	}
	release()
	r := raw(t, s.addr, database)
	if got := r.query("/* pgweir:primary */ select 1"); !slices.Contains(got, "Z I") {
		t.Errorf("afterwards: %v", got)
	}
}

// A cancel request ends the wait for a connection, as it would end the statement.
func TestCancelWhileWaiting(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, poolSize(1))
	release := s.occupy(t, database)
	conn := s.connect(t, database)
	failed := make(chan error, 1)
	go func() { _, err := conn.Exec(context.Background(), "/* pgweir:primary */ select 1"); failed <- err }()
	until(t, "it waits", func() bool { return s.metric(t, "pgweir_pool_waiting") == 1 })
	if err := conn.PgConn().CancelRequest(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; wantCode(err) != "57014" {
		t.Errorf("error %v, want 57014", err)
	}
	if _, err := conn.Exec(context.Background(), "select 1"); err != nil {
		t.Errorf("the session afterwards: %v", err)
	}
	release()
	if _, err := conn.Exec(context.Background(), "/* pgweir:primary */ select 1"); err != nil {
		t.Errorf("the session afterwards: %v", err)
	}
}

// Keys of both lengths cancel what runs; others do nothing.
func TestCancelKeys(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t)
	for version, size := range map[uint32]int{version30: 4, version32: 32} {
		conn := dial(t, s.addr)
		_, _ = conn.Write(hello(version, "user", "postgres", "database", database))
		front := pgproto3.NewFrontend(conn, conn)
		var key []byte
		for ready := false; !ready; {
			m, err := front.Receive()
			if err != nil {
				t.Fatal(err)
			}
			switch m := m.(type) {
			case *pgproto3.BackendKeyData:
				key = append(binary.BigEndian.AppendUint32(nil, m.ProcessID), m.SecretKey...)
			case *pgproto3.ReadyForQuery:
				ready = true
			}
		}
		if len(key) != 4+size {
			t.Fatalf("a key of %d bytes, want %d", len(key)-4, size)
		}
		front.Send(&pgproto3.Query{String: "select pg_sleep(60)"})
		if err := front.Flush(); err != nil {
			t.Fatal(err)
		}
		until(t, "it runs", func() bool { return s.metric(t, "pgweir_server_connections_in_use") == 1 })
		wrong := bytes.Clone(key)
		wrong[len(wrong)-1]++
		for _, k := range [][]byte{wrong, key[:len(key)-1], append(bytes.Clone(key), 0), key} {
			request := dial(t, s.addr)
			_, _ = request.Write(packet(cancelCode, string(k)))
			if got := answers(t, request, 0); !slices.Equal(got, []string{"end"}) {
				t.Errorf("a cancel request is answered: %q", got)
			}
			if !bytes.Equal(k, key) && s.metric(t, "pgweir_server_connections_in_use") != 1 {
				t.Error("a wrong key cancels")
			}
		}
		if got := answers(t, conn, 0); !slices.Contains(got, "ERROR 57014") {
			t.Errorf("%d bytes: %q", size, got)
		}
		_ = conn.Close()
	}
}
