package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// runningUnder is a proxy under a configuration that its test changes.
func runningUnder(t *testing.T, change ...func(*config.Config)) *running {
	r := &running{T: t, changed: map[string]bool{}}
	r.begin(change...)
	return r
}

// userOf is a user whom the configuration knows, and who is the superuser on the servers.
func userOf(password string) config.User {
	return config.User{Password: password, ServerUser: pgtest.Superuser, ServerPassword: "x"}
}

// TestRemovedUser: the sessions of a user who is gone end once they are idle outside a
// transaction, under the timeouts they had; nobody comes anew, and no connection is left.
func TestRemovedUser(t *testing.T) {
	r := runningUnder(t, func(c *config.Config) {
		c.Auth.Method, c.Auth.Query, c.Service = "scram-sha-256", "", config.Service{}
		c.Users = map[string]config.User{"gone": userOf("g"), "stays": userOf("s")}
		c.Timeouts.IdleTransaction = 2 * time.Second
	})
	stays := r.connect(t, r.db, "user=stays", "password=s")
	conn := func() *pgx.Conn { return r.connect(t, r.db, "user=gone", "password=g") }
	idle, busy, forgotten, listening := conn(), conn(), conn(), conn()
	exec(t, listening, "listen x")
	for _, c := range []*pgx.Conn{busy, forgotten} {
		exec(t, c, "begin")
		exec(t, c, "insert into w values (7)")
	}
	r.reload(func(c *config.Config) { delete(c.Users, "gone") })
	ends := func(c *pgx.Conn, code string) {
		t.Helper()
		_, err := c.WaitForNotification(bounded(t, patience))
		require.Equal(t, code, wantCode(err), "%v", err)
	}
	ends(idle, "57P01")
	ends(listening, "57P01")
	require.Equal(t, "28P01", r.login("user=gone", "password=g"))
	exec(t, busy, "insert into w values (7)")
	exec(t, busy, "commit")
	ends(busy, "57P01")
	ends(forgotten, "25P03")
	require.Equal(t, "2", valueOn(t, stays, "/* pgweir:primary */ select count(*)::text from w where a = 7"))
	require.NoError(t, stays.Close(t.Context()))
	r.settle(t)

	// Who comes back is somebody new.
	r.reload(func(c *config.Config) { c.Users["gone"] = userOf("back") })
	require.Empty(t, r.login("user=gone", "password=back"))
}

// TestRemovedDatabase: so it is where a database is gone.
func TestRemovedDatabase(t *testing.T) {
	r := runningUnder(t, func(c *config.Config) { delete(c.Databases, "*") })
	idle := r.connect(t, r.db)
	r.reload(func(c *config.Config) { c.Databases = map[string]config.Database{"other": {}} })
	_, err := idle.WaitForNotification(bounded(t, patience))
	require.Equal(t, "57P01", wantCode(err))
	require.Equal(t, "3D000", r.login())
	until(t, "no connection is left", func() bool {
		n, err := shared(t).Primary.Value(t.Context(), "postgres", "select count(*) from pg_stat_activity where datname = $1", r.db)
		must(t, err)
		return n == "0"
	})
}

// TestShrunkPools: what is idle beyond a smaller bound is closed at once, what is in use when it
// is given back.
func TestShrunkPools(t *testing.T) {
	for name, shrink := range map[string]func(*running) func(*config.Config){
		"size": func(*running) func(*config.Config) { return func(c *config.Config) { c.Pool.Size = 1 } },
		"of a user": func(*running) func(*config.Config) {
			return superuser(func(u *config.User) { u.MaxServerConnections = 1 })
		},
		"of a database": func(r *running) func(*config.Config) {
			return r.database(func(d *config.Database) { d.MaxServerConnections = 1 })
		},
		"of the server": func(*running) func(*config.Config) {
			return func(c *config.Config) { c.Pool.MaxServerConnections = 5 }
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := runningUnder(t)
			primary := "server=" + shared(t).Primary.Addr()
			count := func(state string) float64 { return r.metric(t, "pgweir_pool_connections", primary, "state="+state) }
			var conns []*pgx.Conn
			for range 8 {
				c := r.connect(t, r.db)
				exec(t, c, "begin")
				exec(t, c, "insert into w values (1)")
				conns = append(conns, c)
			}
			for _, c := range conns[4:] {
				exec(t, c, "commit")
			}
			until(t, "four are idle", func() bool { return count("idle") == 4 && count("used") == 4 })
			r.reload(shrink(r))
			require.Zero(t, count("idle"))
			require.EqualValues(t, 4, count("used"))
			for _, c := range conns[:4] {
				exec(t, c, "commit")
			}
			until(t, "they are closed", func() bool { return count("idle")+count("used") <= 1 })
			var all sync.WaitGroup
			for _, c := range conns {
				all.Go(func() {
					_, err := c.Exec(bounded(t, patience), "insert into w values (2)")
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		})
	}
}

// TestLoginAcrossReload: who is about to log in is let in by what is in force then, to where it
// says, or is told that it is gone.
func TestLoginAcrossReload(t *testing.T) {
	other := newDatabase(t, "create table here as select 'two' as at")
	for _, try := range []struct {
		name   string
		change func(*running) func(*config.Config)
		want   string
	}{
		{"pool size", func(r *running) func(*config.Config) { return func(c *config.Config) { c.Pool.Size = 3 } }, `D "one"`},
		{"moved", func(r *running) func(*config.Config) {
			return r.database(func(d *config.Database) { d.Name = other })
		}, `D "two"`},
		{"removed", func(*running) func(*config.Config) { return func(c *config.Config) { delete(c.Users, "u") } }, "E FATAL FATAL 57P01"},
		{"without its database", func(r *running) func(*config.Config) {
			return func(c *config.Config) { c.Databases = map[string]config.Database{"other": {}} }
		}, "E FATAL FATAL 3D000"},
	} {
		t.Run(try.name, func(t *testing.T) {
			r := &running{T: t, changed: map[string]bool{}, db: newDatabase(t, "create table here as select 'one' as at")}
			r.begin(func(c *config.Config) {
				c.Auth.Method, c.Auth.AllowPlainPassword, c.Auth.Query, c.Service = "password", true, "", config.Service{}
				c.Users = map[string]config.User{"u": userOf("secret"), "v": userOf("v")}
			})
			held := r.connect(t, r.db, "user=u", "password=secret") // so that its pools are there
			defer func() { _ = held.Close(context.Background()) }()
			conn := &rawConn{t: t, conn: dial(t, r.addr)}
			conn.changed = sync.NewCond(&conn.mu)
			conn.reading.Go(conn.read)
			t.Cleanup(conn.close)
			_, err := conn.conn.Write(hello(version30, "user", "u", "database", r.db))
			must(t, err)
			conn.wait("*pgproto3.AuthenticationCleartextPassword")
			r.reload(try.change(r))
			conn.send(&pgproto3.PasswordMessage{Password: "secret"})
			if try.want[0] == 'E' {
				require.Contains(t, tail(conn.wait("E", "end")), try.want)
				return
			}
			conn.wait("Z")
			require.Contains(t, tail(conn.query("select at from here")), try.want)
		})
	}
}

// TestRenewedFiles: a certificate, a user file and rules of logins that were written anew count
// at once for who comes; who is there goes on. Files that do not fit each other change nothing.
func TestRenewedFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) { must(t, os.WriteFile(at(name), []byte(text), 0o600)) }
	var pairs []config.ClientTLS
	for range 2 {
		c := config.Config{}
		withCertificate(t)(&c)
		pairs = append(pairs, c.TLS)
	}
	put := func(from, to string) {
		data, err := os.ReadFile(from)
		must(t, err)
		write(to, string(data))
	}
	put(pairs[0].CertFile, "cert")
	put(pairs[0].KeyFile, "key")
	write("users", `"u" "one"`)
	write("hba", "host all all all scram-sha-256\n")
	r := runningUnder(t, func(c *config.Config) {
		c.TLS = config.ClientTLS{Mode: "allow", CertFile: at("cert"), KeyFile: at("key"), MinVersion: "1.2"}
		c.Auth.UserFile, c.Auth.HBAFile, c.Auth.Query, c.Auth.FailureDelay = at("users"), at("hba"), "select $1::text, null", 0
		c.Databases = map[string]config.Database{"*": {ServerUser: pgtest.Superuser, ServerPassword: "x"}}
	})
	shown := func(p config.ClientTLS) string {
		pair, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
		must(t, err)
		return string(pair.Certificate[0])
	}
	secure, err := pgx.Connect(t.Context(), r.dsn(r.db, "user=u", "password=one", "sslmode=require"))
	must(t, err)
	defer func() { _ = secure.Close(context.Background()) }()

	put(pairs[1].CertFile, "cert")
	write("users", `"u" "two"`)
	_, err = r.Reload(r.cfg)
	require.ErrorContains(t, err, "private key does not match")
	require.Equal(t, shown(pairs[0]), r.offered(&tls.Config{}))
	put(pairs[1].KeyFile, "key")
	r.reload()
	require.Equal(t, shown(pairs[1]), r.offered(&tls.Config{}))
	require.Equal(t, "28P01", r.login("user=u", "password=one"))
	require.Empty(t, r.login("user=u", "password=two"))
	exec(t, secure, "select 1")

	write("hba", "host all all all reject\n")
	r.reload()
	require.Equal(t, "28000", r.login("user=u", "password=two"))
	exec(t, secure, "select 1")
	write("hba", "host all all all scram-sha-256\n")
	write("users", `"other" "x"`)
	r.reload()
	require.Equal(t, "28P01", r.login("user=u", "password=two"))
}

// TestServiceAccountRemoved: without its account the proxy goes on by the login of a client that
// is there.
func TestServiceAccountRemoved(t *testing.T) {
	r := runningUnder(t)
	conn := r.connect(t, r.db)
	exec(t, conn, "insert into w values (1)")
	r.reload(cluster(func(c *config.Cluster) { c.Service = config.Service{Database: "postgres"} }))
	for range 10 { // rounds of the monitor
		time.Sleep(200 * time.Millisecond)
		exec(t, conn, "insert into w values (1)")
		require.EqualValues(t, len(shared(t).Servers()), r.metric(t, "pgweir_server_up"))
	}
}

// TestReloadUnderLoad: clients of all kinds are at work while the configuration changes to and
// fro; none of them notices, and nothing is left of any of it.
func TestReloadUnderLoad(t *testing.T) {
	r := runningUnder(t, func(c *config.Config) {
		c.Auth.Method, c.Auth.AllowPlainPassword, c.Auth.FailureDelay = "scram-sha-256", true, 0
		c.Users = map[string]config.User{pgtest.Superuser: {Password: "p"}}
		c.Routing.Consistency = "database"
	})
	other := copyOf(r.cfg)
	other.Pool.Size, other.Pool.MinIdle, other.Pool.MaxServerConnections = 3, 1, 12
	other.Routing.Rules = []config.Rule{{Route: "primary", Table: "items"}}
	other.Routing.PlanCache, other.Routing.CatalogInterval, other.Routing.Consistency = 1<<20, 50*time.Millisecond, "session"
	other.Timeouts = config.Timeouts{ClientIdle: time.Minute, Transaction: time.Minute, Statement: time.Minute}
	other.Settings.Assert, other.Tenant.Settings = []string{"app.x"}, []string{"app.tenant"}
	other.Auth.Method = "password"
	other.Users = map[string]config.User{pgtest.Superuser: {Password: "p", PoolMode: "session"}}
	other.Databases = map[string]config.Database{"*": {}}
	cl := other.Clusters["default"]
	cl.Servers = cl.Servers[:2]
	other.Clusters["default"] = cl
	configs := [2]config.Config{r.cfg, other.Complete()}

	ctx, end := context.WithTimeout(t.Context(), 2*time.Minute)
	defer end()
	goroutines := runtime.NumGoroutine()
	var stop atomic.Bool
	var answered, logins atomic.Int64
	var clients sync.WaitGroup
	work := func(conn *pgx.Conn, i int) error {
		for _, sql := range []string{"select count(*) from items", "begin", "insert into w values ($1)", "select count(*) from items where id > $1", "commit", "select set_config('app.tenant', $1::int::text, false)"} {
			var args []any
			if strings.Contains(sql, "$1") {
				args = []any{i}
			}
			if _, err := conn.Exec(ctx, sql, args...); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
			answered.Add(1)
		}
		return nil
	}
	for i := range 6 {
		clients.Go(func() {
			var conn *pgx.Conn
			var err error
			for n := 0; !stop.Load() && err == nil; n++ {
				if conn == nil {
					conn, err = pgx.Connect(ctx, r.dsn(r.db, "password=p"))
					logins.Add(1)
				}
				if err == nil {
					err = work(conn, i)
				}
				if i >= 3 && err == nil { // these log in each time
					err, conn = conn.Close(ctx), nil
				}
			}
			if conn != nil {
				_ = conn.Close(ctx)
			}
			if err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	for n := range 50 {
		before := answered.Load()
		_, err := r.Reload(configs[(n+1)%2])
		if err != nil {
			t.Error(err)
		}
		until(t, "some are answered", func() bool { return answered.Load() > before+100 || ctx.Err() != nil })
	}
	stop.Store(true)
	clients.Wait()
	t.Logf("%d statements, %d logins", answered.Load(), logins.Load())
	r.settle(t)
	require.Equal(t, configs[0], r.Config())
	until(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+15 })
	until(t, "connections are those of the pools", func() bool {
		n, err := shared(t).Primary.Value(ctx, "postgres", "select count(*) from pg_stat_activity where datname = $1 and application_name <> 'pgweir'", r.db)
		must(t, err)
		pooled := r.metric(t, "pgweir_pool_connections", "database="+r.db, "server="+shared(t).Primary.Addr())
		return n == fmt.Sprint(pooled)
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Error("it took too long")
	}
}

// TestRotatedPassword: sessions that are there open new connections by the password that is
// configured now, theirs or that of a login of its own.
func TestRotatedPassword(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{HBA: []string{"host all app 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"}})
	must(t, cluster.Exec(t.Context(), "create role app superuser login password 'old'"))
	file := filepath.Join(t.TempDir(), "users")
	for name, set := range map[string]func(c *config.Config, password string){
		"user": func(c *config.Config, p string) { c.Users = map[string]config.User{"app": {Password: p}} },
		"login": func(c *config.Config, p string) {
			c.Users = map[string]config.User{"app": {Password: "x", ServerPassword: p}}
		},
		"database": func(c *config.Config, p string) {
			c.Users = map[string]config.User{"app": {Password: "old", OldPasswords: []string{"x"}}}
			c.Databases = map[string]config.Database{"*": {ServerUser: "app", ServerPassword: p}}
		},
		"file": func(c *config.Config, p string) {
			must(t, os.WriteFile(file, []byte(`"app" "`+p+`"`), 0o600))
			c.Users, c.Auth.UserFile = nil, file
		},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, cluster.Exec(t.Context(), "alter role app password 'old'"))
			r := &running{T: t, changed: map[string]bool{}, db: "postgres"}
			r.begin(func(c *config.Config) {
				c.Servers = []config.Server{{Address: cluster.Primary.Addr(), Weight: 1}}
				c.Auth.Method = "scram-sha-256"
				c.Databases = nil
				set(c, "old")
			})
			password := "old"
			if name == "login" {
				password = "x"
			}
			conn := r.connect(t, r.db, "user=app", "password="+password)
			exec(t, conn, "create temp table if not exists nothing ()")
			exec(t, conn, "discard all")
			must(t, cluster.Exec(t.Context(), "alter role app password 'new'"))
			r.reload(func(c *config.Config) { set(c, "new") })
			must(t, cluster.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'"))
			until(t, "its connections are missed", func() bool { return r.metric(t, "pgweir_pool_connections", "user=app") == 0 })
			exec(t, conn, "select pg_backend_pid()")
		})
	}
}

// TestReadyAfterLookupsAreMended: the proxy is ready as soon as secrets can be looked up, whatever
// was asked before and is answered late.
func TestReadyAfterLookupsAreMended(t *testing.T) {
	r := runningUnder(t, func(c *config.Config) {
		c.Auth.Method, c.Auth.Query = "scram-sha-256", "select $1::text, null"
		c.Users = nil
	})
	must(t, r.Ready())
	for range 5 {
		r.reload(func(c *config.Config) { c.Auth.Query = "select $1::text, secret from nowhere" })
		until(t, "it is not ready", func() bool { return r.Ready() != nil })
		r.reload(func(c *config.Config) {
			c.Auth.Query = "select $1::text, (1 / length(pg_sleep(0.2)::text))::text" // it fails late
		})
		r.reload(func(c *config.Config) { c.Auth.Query = "select $1::text, null" })
		must(t, r.Ready())
		time.Sleep(400 * time.Millisecond) // that late answers come
		must(t, r.Ready())
	}
}
