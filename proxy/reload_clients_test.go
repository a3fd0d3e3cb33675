package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/proxy"
)

func showClients(r *running) {
	r.begin(func(c *config.Config) { c.Pool.Reserve.Users = []string{"boss"} })
	held := r.connect(r, r.db)
	for name, change := range map[string]func(most int) func(*config.Config){
		"max_clients": func(most int) func(*config.Config) {
			return func(c *config.Config) { c.MaxClients, c.Pool.Reserve.Clients = most, 0 }
		},
		"of a database": func(most int) func(*config.Config) {
			return r.database(func(d *config.Database) { d.MaxClients = most })
		},
		"of a user": func(most int) func(*config.Config) { return superuser(func(u *config.User) { u.MaxClients = most }) },
		"reserved": func(most int) func(*config.Config) {
			return func(c *config.Config) { c.MaxClients, c.Pool.Reserve.Clients = most+1, 1 }
		},
	} {
		r.reload(change(1))
		require.Equal(r, "53300", r.login(), name)
		r.reload(change(1000))
		require.Empty(r, r.login(), name)
	}
	exec(r.T, held, "select 1")
}

func showNewSessions(r *running) {
	r.begin()
	require.NotContains(r, r.value("show application_name", "application_name=me"), "127.0.0.1")
	r.reload(func(c *config.Config) { c.ApplicationNameAddHost = true })
	require.Contains(r, r.value("show application_name", "application_name=me"), "me - 127.0.0.1:")
	tied := func() float64 { return r.metric(r, "pgweir_pinned_sessions", "reason=session") }
	for name, mode := range map[string]func(string) func(*config.Config){
		"all":        func(m string) func(*config.Config) { return func(c *config.Config) { c.Pool.Mode = m } },
		"a database": func(m string) func(*config.Config) { return r.database(func(d *config.Database) { d.PoolMode = m }) },
		"a user":     func(m string) func(*config.Config) { return superuser(func(u *config.User) { u.PoolMode = m }) },
	} {
		r.reload(mode("session"))
		conn := r.connect(r, r.db)
		until(r, "it is tied, by the mode of "+name, func() bool { return tied() == 1 })
		r.reload(func(c *config.Config) { c.Pool.Mode = "transaction" }, r.database(func(d *config.Database) { d.PoolMode = "" }), superuser(func(u *config.User) { u.PoolMode = "" }))
		require.NoError(r, conn.Close(r.Context()))
		until(r, "it has left", func() bool { return tied() == 0 })
	}
}

// acceptedLast remembers the connections that it accepts.
type acceptedLast struct {
	net.Listener
	mu   sync.Mutex // protects last
	last net.Conn
}

func (w *acceptedLast) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = conn
	return conn, err
}

// userTimeout is that of the connection accepted last.
func (w *acceptedLast) userTimeout(r *running) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	raw, err := w.last.(*net.TCPConn).SyscallConn()
	must(r, err)
	var ms int
	must(r, raw.Control(func(fd uintptr) {
		ms, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}))
	must(r, err)
	return time.Duration(ms) * time.Millisecond
}

func showUserTimeout(r *running) {
	r.db = newDatabase(r, "")
	cfg := baseConfig(r)
	r.cfg = cfg.Complete()
	w := &acceptedLast{}
	reg := newRegistry()
	server, err := proxy.NewOver(proxy.Network{Listen: func(network, target string) (_ net.Listener, err error) {
		w.Listener, err = net.Listen(network, target)
		return w, err
	}}, r.cfg, zap.NewNop(), reg)
	must(r, err)
	must(r, server.Start())
	r.Cleanup(server.Close)
	r.service = &service{Server: server, addr: server.Addrs()[0].String(), reg: reg}
	r.connect(r, r.db)
	require.Zero(r, w.userTimeout(r))
	r.reload(func(c *config.Config) { c.TCPUserTimeout = 7 * time.Second })
	r.connect(r, r.db)
	require.Equal(r, 7*time.Second, w.userTimeout(r))
}

func showPeers(r *running) {
	r.begin()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(r, err)
	asked := make(chan struct{}, 100)
	var peer sync.WaitGroup
	peer.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			asked <- struct{}{}
			_ = conn.Close()
		}
	})
	r.Cleanup(func() { _ = l.Close(); peer.Wait() })
	r.reload(func(c *config.Config) { c.Peers = config.Addresses{l.Addr().String()} })
	conn := dial(r, r.addr)
	_, err = conn.Write(packet(80877102, "\x00\x00\x00\x01\x00\x00\x00\x01")) // a key that no session here has
	must(r, err)
	select {
	case <-asked:
	case <-time.After(patience):
		r.Fatal("the peer was not asked")
	}
}

func showServerUsers(r *running) {
	r.db = newDatabase(r, items)
	one, two := r.role("one"), r.role("two")
	r.begin()
	who := func() string { return r.value("select session_user") }
	require.Equal(r, pgtest.Superuser, who())
	live := r.connect(r, r.db)
	r.reload(r.database(func(d *config.Database) { d.ServerUser, d.ServerPassword = one, "one" }))
	require.Equal(r, one, who())
	require.Contains(r, valueOn(r.T, live, "select 1"), "57P01") // it would be another
	r.reload(superuser(func(u *config.User) { u.ServerUser, u.ServerPassword = two, "two" }))
	require.Equal(r, two, who())
}

func showLookups(r *running) {
	r.db = newDatabase(r, "create table secrets (name text, secret text); insert into secrets values ('u', 'first')")
	const none = "select $1::text, null"
	query := "select name, secret from secrets where name = $1"
	r.begin(func(c *config.Config) {
		c.Service.Database = r.db
		c.Auth.Method, c.Auth.FailureDelay, c.Auth.Query, c.Auth.QueryTTL = "scram-sha-256", 0, none, time.Millisecond
		c.Databases[r.db] = config.Database{ServerUser: pgtest.Superuser, ServerPassword: "x"}
	})
	password := func(p string) string { return r.login("user=u", "password="+p) }
	require.Equal(r, "28P01", password("first"))
	r.reload(func(c *config.Config) { c.Auth.Query = query })
	require.Empty(r, password("first"))
	r.reload(r.database(func(d *config.Database) { d.AuthQuery = none }))
	require.Equal(r, "28P01", password("first"))
	r.reload(r.database(func(d *config.Database) { d.AuthQuery = "" }))
	run(r, r.db, "update secrets set secret = 'second'")
	until(r, "an answer is kept for a moment only", func() bool { return password("second") == "" })
	r.reload(func(c *config.Config) { c.Auth.QueryTTL = time.Hour })
	require.Empty(r, password("second"))
	run(r, r.db, "update secrets set secret = 'third'")
	time.Sleep(20 * time.Millisecond) // longer than the other time
	require.Empty(r, password("second"))
}

func showPasswords(r *running) {
	r.db = newDatabase(r, items)
	file := func(name, text string) string {
		path := filepath.Join(r.TempDir(), name)
		must(r, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	r.begin(func(c *config.Config) {
		c.Users = map[string]config.User{"u": {ServerUser: pgtest.Superuser, ServerPassword: "x"}}
		c.Auth.Query, c.Auth.FailureDelay = "select $1::text, null", 0
	})
	password := func(p string) string { return r.login("user=u", "password="+p) }
	require.Empty(r, password("anything"))
	r.reload(func(c *config.Config) { c.Auth.Method = "scram-sha-256" })
	require.Equal(r, "28P01", password("new"))
	r.reload(func(c *config.Config) { c.Auth.UserFile = file("users", `"u" "new"`) })
	require.Empty(r, password("new"))
	r.reload(ofUser("u", func(u *config.User) { u.Password = "newer" }))
	require.Equal(r, "28P01", password("new"))
	require.Empty(r, password("newer"))
	r.reload(ofUser("u", func(u *config.User) { u.OldPasswords = []string{"old"} }))
	require.Empty(r, password("old"))

	began := time.Now()
	require.Equal(r, "28P01", password("wrong"))
	require.Less(r, time.Since(began), 700*time.Millisecond)
	r.reload(func(c *config.Config) { c.Auth.FailureDelay = 700 * time.Millisecond })
	began = time.Now()
	require.Equal(r, "28P01", password("wrong"))
	require.GreaterOrEqual(r, time.Since(began), 700*time.Millisecond)
	r.reload(func(c *config.Config) { c.Auth.FailureDelay = 0 })

	r.reload(func(c *config.Config) { c.Auth.HBAFile = file("hba", "host all all all password\n") })
	require.Equal(r, "28000", password("newer"))
	r.reload(func(c *config.Config) { c.Auth.AllowPlainPassword = true })
	require.Empty(r, password("newer"))

	r.reload(func(c *config.Config) { c.Auth.Timeout = 200 * time.Millisecond })
	began = time.Now()
	silent := dial(r, r.addr)
	_, _ = silent.Read(make([]byte, 1))
	require.Less(r, time.Since(began), 5*time.Second)
}

func showHBA(r *running) {
	dir := r.TempDir()
	me, err := user.Current()
	must(r, err)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(r, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	r.begin(func(c *config.Config) {
		c.Listen = append(c.Listen, dir+":6432")
		c.Auth.HBAFile, c.Auth.IdentFile = write("all", "host all all all trust\n"), write("nobody", "own nobody nobody\n")
		c.Auth.Query = "select $1::text, null"
	})
	require.Empty(r, r.login())
	r.reload(func(c *config.Config) {
		c.Auth.HBAFile = write("none", "local all all peer map=own\nhost all all all reject\n")
	})
	require.Equal(r, "28000", r.login())

	local := func() string {
		conn, err := pgx.Connect(bounded(r, patience), fmt.Sprintf("host=%s port=6432 user=%s dbname=%s", dir, pgtest.Superuser, r.db))
		if err != nil {
			return wantCode(err)
		}
		return fmt.Sprint(conn.Close(context.Background()))
	}
	require.Equal(r, "28000", local())
	r.reload(func(c *config.Config) {
		c.Auth.IdentFile = write("ident", "own "+me.Username+" "+pgtest.Superuser+"\n")
	})
	require.Equal(r, "<nil>", local())

	// A directory that speaks TLS and nothing else.
	certificate := config.Config{}
	withCertificate(r.T)(&certificate)
	pair, err := tls.LoadX509KeyPair(certificate.TLS.CertFile, certificate.TLS.KeyFile)
	must(r, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	must(r, err)
	trusted := make(chan bool, 100)
	var directory sync.WaitGroup
	directory.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, err = io.ReadFull(conn, make([]byte, 1))
			trusted <- err == nil
			_ = conn.Close()
		}
	})
	r.Cleanup(func() { _ = l.Close(); directory.Wait() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	r.reload(func(c *config.Config) {
		c.Auth.AllowPlainPassword = true
		c.Auth.HBAFile = write("ldap", "host all all all ldap ldapserver=localhost ldapport="+port+" ldapscheme=ldaps ldapprefix=\"cn=\"\n")
	})
	r.login("password=x")
	require.False(r, <-trusted)
	r.reload(func(c *config.Config) { c.Auth.LDAPCAFile = certificate.TLS.CertFile })
	for len(trusted) > 0 {
		<-trusted
	}
	r.login("password=x")
	require.True(r, <-trusted)
}

// offered is how the proxy answers a client that asks for TLS: its certificate's bytes, or why
// there is none.
func (r *running) offered(conf *tls.Config) string {
	r.Helper()
	conn := dial(r, r.addr)
	_, err := conn.Write(packet(sslCode, ""))
	must(r, err)
	var answer [1]byte
	_, err = io.ReadFull(conn, answer[:])
	must(r, err)
	if answer[0] != 'S' {
		return string(answer[:])
	}
	conf.InsecureSkipVerify = true
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(bounded(r, patience)); err != nil {
		return "refused"
	}
	_, _ = secure.Write(hello(version30, "user", pgtest.Superuser, "database", r.db))
	if n, err := secure.Read(answer[:]); n == 0 {
		return "refused: " + err.Error()
	}
	return string(secure.ConnectionState().PeerCertificates[0].Raw)
}

func showClientTLS(r *running) {
	r.begin()
	certificates := func() (c config.Config) { withCertificate(r.T)(&c); return c }
	first, second, of := certificates().TLS, certificates().TLS, certificates().TLS
	shown := func(c config.ClientTLS) string {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		must(r, err)
		return string(pair.Certificate[0])
	}
	require.Equal(r, "N", r.offered(&tls.Config{}))
	r.reload(func(c *config.Config) {
		c.TLS.Mode, c.TLS.CertFile, c.TLS.KeyFile = "allow", first.CertFile, first.KeyFile
	})
	require.Equal(r, shown(first), r.offered(&tls.Config{}))
	r.reload(func(c *config.Config) { c.TLS.CertFile, c.TLS.KeyFile = second.CertFile, second.KeyFile })
	require.Equal(r, shown(second), r.offered(&tls.Config{}))

	require.Equal(r, shown(second), r.offered(&tls.Config{MaxVersion: tls.VersionTLS12}))
	r.reload(func(c *config.Config) { c.TLS.MinVersion = "1.3" })
	require.Equal(r, "refused", r.offered(&tls.Config{MaxVersion: tls.VersionTLS12}))

	require.Empty(r, r.login())
	r.reload(func(c *config.Config) { c.TLS.Mode = "require" })
	require.Equal(r, "28000", r.login())

	pair, err := tls.LoadX509KeyPair(of.CertFile, of.KeyFile)
	must(r, err)
	known := func() bool {
		return !strings.HasPrefix(r.offered(&tls.Config{Certificates: []tls.Certificate{pair}}), "refused")
	}
	r.reload(func(c *config.Config) { c.TLS.Mode, c.TLS.CAFile = "verify-client", first.CertFile })
	require.False(r, known())
	r.reload(func(c *config.Config) { c.TLS.CAFile = of.CertFile })
	require.True(r, known())
}
