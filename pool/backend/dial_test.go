package backend

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/scram"
)

const testTimeout = 20 * time.Second

// realHBA has one user for each method and kind of connection.
var realHBA = []string{
	"host all postgres 127.0.0.1/32 trust",
	"host all u_trust 127.0.0.1/32 trust",
	"host all u_md5,u_md5scram 127.0.0.1/32 md5",
	"host all u_password 127.0.0.1/32 password",
	"host all u_scram,u_accent 127.0.0.1/32 scram-sha-256",
	"host all u_denied 127.0.0.1/32 reject",
	"hostssl all u_cert 127.0.0.1/32 cert",
	"hostssl all u_ssl 127.0.0.1/32 scram-sha-256",
	"hostnossl all u_nossl 127.0.0.1/32 scram-sha-256",
	"hostssl replication postgres 127.0.0.1/32 trust",
	"local all u_scram scram-sha-256",
}

const realUsers = `
create role u_trust login;
set password_encryption = 'md5';
create role u_md5 login password 'secret';
set password_encryption = 'scram-sha-256';
create role u_md5scram login password 'secret';
create role u_password login password 'secret';
create role u_scram login password 'secret';
create role u_accent login password U&'p\00E4ss\00A0\2167w\00ADort';
create role u_denied login;
create role u_cert login;
create role u_ssl login password 'secret';
create role u_nossl login password 'secret';
create role u_nologin`

// startReal is a server with every kind of login.
func startReal(t *testing.T) *pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{TLS: true, HBA: realHBA})
	if err := c.Exec(testContext(t), realUsers); err != nil {
		t.Fatal(err)
	}
	return c
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

func mustTLS(t *testing.T, c config.ServerTLS) *TLS {
	t.Helper()
	conf, err := LoadTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func TestRealServer(t *testing.T) {
	c := startReal(t)
	t.Run("methods", func(t *testing.T) { testMethods(t, c) })
	t.Run("TLS modes", func(t *testing.T) { testModes(t, c) })
	t.Run("errors", func(t *testing.T) { testErrors(t, c) })
	t.Run("session", func(t *testing.T) { testSession(t, c) })
	t.Run("cancel", func(t *testing.T) { testCancel(t, c) })
	t.Run("keys", func(t *testing.T) { testKeys(t, c) })
	t.Run("environment", func(t *testing.T) { testEnvironment(t, c) })
}

// testEnvironment: nothing of the environment may reach a login.
func testEnvironment(t *testing.T, c *pgtest.Cluster) {
	for name, value := range map[string]string{
		"PGSERVICE": "nowhere", "PGSSLMODE": "nonsense", "PGPASSWORD": "wrong", "PGUSER": "nobody",
		"PGOPTIONS": "-c statement_timeout=7", "PGAPPNAME": "leaked", "PGHOST": "192.0.2.1", "PGTZ": "Asia/Tokyo",
	} {
		t.Setenv(name, value)
	}
	testSession(t, c)
	_, err := Open(testContext(t), Options{Address: addressOf(t, c)}, Credentials{User: "u_scram"}, "postgres", nil)
	if !errors.Is(err, ErrNoSecret) {
		t.Errorf("without a secret: %v", err)
	}
}

func addressOf(t *testing.T, c *pgtest.Cluster) Address {
	t.Helper()
	a, err := ParseAddress(c.Primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func socketOf(c *pgtest.Cluster) Address {
	return Address{Host: c.Primary.SocketDir, Port: uint16(c.Primary.Port)}
}

func testMethods(t *testing.T, c *pgtest.Cluster) {
	cert, key, err := c.ClientCert("u_cert")
	if err != nil {
		t.Fatal(err)
	}
	require := mustTLS(t, config.ServerTLS{Mode: "require"})
	addr := addressOf(t, c)
	md5Secret := "md5" + hexMD5("secretu_md5")
	for _, m := range []struct {
		name string
		o    Options
		cred Credentials
		ok   bool
	}{
		{"trust", Options{Address: addr}, Credentials{User: "u_trust"}, true},
		{"md5", Options{Address: addr}, Credentials{User: "u_md5", Password: "secret"}, true},
		{"md5, hash only", Options{Address: addr}, Credentials{User: "u_md5", MD5: md5Secret}, true},
		{"md5, wrong", Options{Address: addr}, Credentials{User: "u_md5", Password: "x"}, false},
		{"md5, nothing", Options{Address: addr}, Credentials{User: "u_md5"}, false},
		{"md5 over scram", Options{Address: addr}, Credentials{User: "u_md5scram", Password: "secret"}, true},
		{"password", Options{Address: addr}, Credentials{User: "u_password", Password: "secret"}, true},
		{"password, wrong", Options{Address: addr}, Credentials{User: "u_password", Password: "secret "}, false},
		{"scram", Options{Address: addr}, Credentials{User: "u_scram", Password: "secret"}, true},
		{"scram, wrong", Options{Address: addr}, Credentials{User: "u_scram", Password: "Secret"}, false},
		{"scram, TLS", Options{Address: addr, TLS: require}, Credentials{User: "u_scram", Password: "secret"}, true},
		{"scram, socket", Options{Address: socketOf(c), TLS: require}, Credentials{User: "u_scram", Password: "secret"}, true},
		// The same password after SASLprep, spelt otherwise.
		{"scram, accents", Options{Address: addr}, Credentials{User: "u_accent", Password: "pa\u0308ss VIIIwort"}, true},
		{"scram, as stored", Options{Address: addr}, Credentials{User: "u_accent", Password: "p\u00e4ss\u00a0\u2167w\u00adort"}, true},
		{"scram, nothing", Options{Address: addr}, Credentials{User: "u_scram"}, false},
		{"cert", Options{Address: addr, TLS: mustTLS(t, config.ServerTLS{Mode: "require", CertFile: cert, KeyFile: key})}, Credentials{User: "u_cert"}, true},
		{"cert of another", Options{Address: addr, TLS: mustTLS(t, config.ServerTLS{Mode: "require", CertFile: cert, KeyFile: key})}, Credentials{User: "u_ssl"}, false},
		{"cert, none", Options{Address: addr, TLS: require}, Credentials{User: "u_cert"}, false},
	} {
		t.Run(m.name, func(t *testing.T) {
			l, err := Open(testContext(t), m.o, m.cred, "postgres", nil)
			if (err == nil) != m.ok {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				return
			}
			defer l.Conn.Close()
			if got := ask(t, l, "select session_user"); got != m.cred.User {
				t.Errorf("logged in as %q", got)
			}
		})
	}
}

func testModes(t *testing.T, c *pgtest.Cluster) {
	addr := addressOf(t, c)
	byName := Address{Host: "localhost", Port: addr.Port}
	otherName := Address{Host: "127.0.0.2", Port: addr.Port}
	otherCA := writeOtherCA(t)
	const plain, encrypted, fails = "plain", "encrypted", "fails"
	for _, m := range []struct {
		tls  config.ServerTLS
		addr Address
		user string
		want string
	}{
		{config.ServerTLS{Mode: "disable"}, addr, "u_scram", plain},
		{config.ServerTLS{Mode: "disable"}, addr, "u_ssl", fails},
		{config.ServerTLS{Mode: "allow"}, addr, "u_scram", plain},
		{config.ServerTLS{Mode: "allow"}, addr, "u_ssl", encrypted},
		{config.ServerTLS{Mode: "allow"}, addr, "u_nossl", plain},
		{config.ServerTLS{}, addr, "u_scram", encrypted},
		{config.ServerTLS{Mode: "prefer"}, addr, "u_ssl", encrypted},
		{config.ServerTLS{Mode: "prefer"}, addr, "u_nossl", plain},
		{config.ServerTLS{Mode: "prefer"}, socketOf(c), "u_scram", plain},
		{config.ServerTLS{Mode: "require"}, addr, "u_scram", encrypted},
		{config.ServerTLS{Mode: "require"}, addr, "u_nossl", fails},
		{config.ServerTLS{Mode: "require", CAFile: c.CA()}, addr, "u_scram", encrypted},
		{config.ServerTLS{Mode: "require", CAFile: otherCA}, addr, "u_scram", fails},
		{config.ServerTLS{Mode: "verify-ca", CAFile: c.CA()}, addr, "u_scram", encrypted},
		{config.ServerTLS{Mode: "verify-ca", CAFile: c.CA()}, otherName, "u_scram", encrypted},
		{config.ServerTLS{Mode: "verify-ca", CAFile: otherCA}, addr, "u_scram", fails},
		{config.ServerTLS{Mode: "verify-ca"}, addr, "u_scram", fails},
		{config.ServerTLS{Mode: "verify-full", CAFile: c.CA()}, addr, "u_scram", encrypted},
		{config.ServerTLS{Mode: "verify-full", CAFile: c.CA()}, byName, "u_scram", encrypted},
		{config.ServerTLS{Mode: "verify-full", CAFile: c.CA()}, otherName, "u_scram", fails},
		{config.ServerTLS{Mode: "verify-full", CAFile: otherCA}, addr, "u_scram", fails},
	} {
		ca := "no CA"
		if m.tls.CAFile != "" {
			ca = filepath.Base(m.tls.CAFile)
		}
		t.Run(fmt.Sprintf("%s %s %s %s", m.tls.Mode, ca, m.addr.Host, m.user), func(t *testing.T) {
			l, err := Open(testContext(t), Options{Address: dialable(t, m.addr), TLS: mustTLS(t, m.tls)},
				Credentials{User: m.user, Password: "secret"}, "postgres", nil)
			got := fails
			if err == nil {
				defer l.Conn.Close()
				got = plain
				if _, ok := l.Conn.(*tls.Conn); ok {
					got = encrypted
				}
				if used := ask(t, l, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"); (used == "t") != (got == encrypted) {
					t.Errorf("the server says TLS %q", used)
				}
			}
			if got != m.want {
				t.Errorf("%s (%v), want %s", got, err, m.want)
			}
		})
	}
}

// dialable makes 127.0.0.2, where the server does not listen, lead to it: a name
// its certificate does not hold.
func dialable(t *testing.T, a Address) Address {
	t.Helper()
	if a.Host != "127.0.0.2" {
		return a
	}
	front, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		client, err := front.Accept()
		if err != nil {
			return
		}
		splice(client, net.JoinHostPort("127.0.0.1", fmt.Sprint(a.Port)))
	}()
	t.Cleanup(func() { front.Close(); <-done })
	return Address{Host: a.Host, Port: uint16(front.Addr().(*net.TCPAddr).Port)}
}

func writeOtherCA(t *testing.T) string {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join("testdata", "other-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "other.crt")
	if err := os.WriteFile(file, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func testErrors(t *testing.T, c *pgtest.Cluster) {
	addr := addressOf(t, c)
	prefer := mustTLS(t, config.ServerTLS{Mode: "prefer"})
	for _, e := range []struct{ user, password, database, code string }{
		{"u_scram", "wrong", "postgres", "28P01"},
		{"u_scram", "secret", "nowhere", "3D000"},
		{"u_denied", "", "postgres", "28000"},
		{"nobody_at_all", "x", "postgres", "28000"}, // no line of pg_hba.conf
	} {
		for _, conf := range []*TLS{nil, prefer} {
			_, err := Open(testContext(t), Options{Address: addr, TLS: conf}, Credentials{User: e.user, Password: e.password}, e.database, nil)
			var refused *pgconn.PgError
			if !errors.As(err, &refused) || refused.Code != e.code {
				t.Errorf("%+v: %v, want %s", e, err, e.code)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows the password: %v", err)
			}
		}
	}
	if _, err := Open(testContext(t), Options{Address: addr}, Credentials{User: "u_scram"}, "postgres", nil); !errors.Is(err, ErrNoSecret) {
		t.Errorf("without a secret: %v", err)
	}
	if _, err := Open(testContext(t), Options{Address: addr}, Credentials{User: "u_trust"}, "a\x00b", nil); err == nil {
		t.Error("a zero byte in a name is accepted")
	}
}

func testSession(t *testing.T, c *pgtest.Cluster) {
	require := mustTLS(t, config.ServerTLS{Mode: "require"})
	l, err := Open(testContext(t), Options{Address: addressOf(t, c), TLS: require}, Credentials{User: "u_trust"}, "postgres",
		map[string]string{"application_name": "weir", "user": "postgres", "database": "nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Conn.Close()
	if l.PID == 0 || len(l.Key) < 4 || l.Parameters["server_version"] == "" || l.Parameters["application_name"] != "weir" {
		t.Errorf("%d, key of %d bytes, %v", l.PID, len(l.Key), l.Parameters)
	}
	got := ask(t, l, `select concat_ws(' ', pg_backend_pid(), session_user, current_database(),
		current_setting('application_name'), current_setting('statement_timeout'), current_setting('timezone'))`)
	if want := fmt.Sprintf("%d u_trust postgres weir 0 UTC", l.PID); got != want {
		t.Errorf("session is %q, want %q", got, want)
	}

	repl, err := Open(testContext(t), Options{Address: addressOf(t, c), TLS: require}, Credentials{User: "postgres"}, "",
		map[string]string{"replication": "true"})
	if err != nil {
		t.Fatal(err)
	}
	defer repl.Conn.Close()
	if ask(t, repl, "IDENTIFY_SYSTEM") == "" {
		t.Error("no replication connection")
	}
}

func testCancel(t *testing.T, c *pgtest.Cluster) {
	cert, key, err := c.ClientCert("u_cert")
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"plain":  {Address: addressOf(t, c)},
		"TLS":    {Address: addressOf(t, c), TLS: mustTLS(t, config.ServerTLS{Mode: "verify-full", CAFile: c.CA(), CertFile: cert, KeyFile: key})},
		"socket": {Address: socketOf(c), TLS: mustTLS(t, config.ServerTLS{Mode: "require"})},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := Open(testContext(t), o, Credentials{User: "u_scram", Password: "secret"}, "postgres", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Conn.Close()
			if err := l.send(&pgproto3.Query{String: "select pg_sleep(600)"}); err != nil {
				t.Fatal(err)
			}
			awaitActive(t, c, l.PID)
			if err := l.Cancel(testContext(t)); err != nil {
				t.Fatal(err)
			}
			_, _, err = l.receiveUntil('E')
			var refused *pgconn.PgError
			if !errors.As(err, &refused) || refused.Code != "57014" {
				t.Errorf("the statement ended with %v", err)
			}
		})
	}
}

// awaitActive returns when the process runs a statement: a cancel request before
// that would hit nothing.
func awaitActive(t *testing.T, c *pgtest.Cluster, pid uint32) {
	t.Helper()
	sql := fmt.Sprintf("select count(*) from pg_stat_activity where pid = %d and state = 'active' and wait_event = 'PgSleep'", pid)
	for {
		n, err := c.Primary.Value(testContext(t), "postgres", sql)
		if err != nil {
			t.Fatal(err)
		}
		if n == "1" {
			return
		}
	}
}

// testKeys logs in with what a server stores and the client key, without a password.
func testKeys(t *testing.T, c *pgtest.Cluster) {
	text, err := c.Primary.Value(testContext(t), "postgres", "select rolpassword from pg_authid where rolname = 'u_scram'")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := scram.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := scram.Derive(sha256.New, "secret", stored.Salt, stored.Iterations)
	if err != nil || keys.Secret() != text {
		t.Fatalf("derived keys differ from PostgreSQL's (%v)", err)
	}
	other, err := scram.Derive(sha256.New, "secret", []byte("another salt"), stored.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	for _, conf := range []*TLS{nil, mustTLS(t, config.ServerTLS{Mode: "require"})} {
		o := Options{Address: addressOf(t, c), TLS: conf}
		for name, k := range map[string]struct {
			cred Credentials
			ok   bool
		}{
			"keys":                      {Credentials{User: "u_scram", Keys: keys}, true},
			"keys without client key":   {Credentials{User: "u_scram", Keys: stored}, false},
			"other keys":                {Credentials{User: "u_scram", Keys: other}, false},
			"other keys and password":   {Credentials{User: "u_scram", Keys: other, Password: "secret"}, true},
			"keys and a stale password": {Credentials{User: "u_scram", Keys: keys, Password: "stale"}, true},
		} {
			l, err := Open(testContext(t), o, k.cred, "postgres", nil)
			if (err == nil) != k.ok {
				t.Errorf("%s: %v", name, err)
			}
			if err == nil {
				l.Conn.Close()
			}
		}
	}
}

func TestRedacted(t *testing.T) {
	keys, err := scram.Derive(sha256.New, "hunter2", []byte("salt"), 1)
	if err != nil {
		t.Fatal(err)
	}
	cred := Credentials{User: "u", Password: "hunter2", Keys: keys, MD5: "md5abc"}
	for _, other := range []Credentials{
		{User: "v", Password: "hunter2", Keys: keys, MD5: "md5abc"}, {User: "u", Keys: keys, MD5: "md5abc"},
		{User: "u", Password: "hunter2", MD5: "md5abc"}, {User: "u", Password: "hunter2", Keys: keys},
	} {
		if cred.Equal(other) || !other.Equal(other) {
			t.Errorf("Equal of %v", other)
		}
	}
	js, err := json.Marshal(cred)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(cred), fmt.Sprintf("%+v %#v", cred, cred), fmt.Sprintf("%+v", &cred), string(js), fmt.Sprintf("%v %#v", keys, keys)} {
		if strings.Contains(s, "hunter2") || strings.Contains(s, "abc") || strings.Contains(s, fmt.Sprint(keys.ClientKey[0])+" ") {
			t.Errorf("a secret is shown: %s", s)
		}
	}
}
