package proxy_test

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/setup"
)

// logInAt is the SQLSTATE that a login at an address gets, or "in". No name is too odd for it.
func logInAt(t testing.TB, addr, user, password, database string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cfg, err := pgx.ParseConfig("postgres://" + addr + "/" + database + "?sslmode=disable")
	must(t, err)
	cfg.User, cfg.Password = user, password
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return wantCode(err)
	}
	_ = conn.Close(ctx)
	return "in"
}

// lookUpFunction is an auth.query of somebody's own, which fails for some names.
const lookUpFunction = `create function look_up(inout name text, out secret text) language plpgsql security definer as $$
begin
  case name
    when 'slow' then perform pg_sleep(60);
    when 'data' then perform name::int;
    when 'says so' then raise 'not %', name;
    when 'denied' then raise insufficient_privilege;
    else select passwd into secret from pg_shadow where usename = name;
  end case;
end $$`

// TestOneNameIsNotTheAccount: that a look-up of one name fails says nothing of the others. A name
// that cannot be one on the server is unknown, as there.
func TestOneNameIsNotTheAccount(t *testing.T) {
	cluster := pgtest.New(t, pgtest.Options{HBA: []string{"host all all 127.0.0.1/32 scram-sha-256"}})
	must(t, cluster.Exec(bounded(t, patience), `create role app login password 'right'; create role staff;
create role watcher login password 'w'; grant pg_monitor to watcher; alter role watcher set statement_timeout = '300ms'; `+lookUpFunction))
	rules := filepath.Join(t.TempDir(), "hba")
	must(t, os.WriteFile(rules, []byte("host all +staff 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 scram-sha-256\n"), 0o600))
	for _, file := range []string{"", rules} {
		s := start(t, func(c *config.Config) {
			c.Servers = []config.Server{{Address: cluster.Primary.Addr(), Weight: 1}}
			c.Service = config.Service{User: "watcher", Password: "w", Database: "postgres"}
			c.Auth.Method, c.Auth.FailureDelay, c.Auth.HBAFile = "scram-sha-256", 0, file
			c.Auth.Query = "select name, secret from look_up($1)"
		})
		for _, c := range []struct{ user, want string }{
			{"app", "in"}, {"\xff", "28P01"}, {"app\xc3", "28P01"}, {"slow", "57P03"}, {"data", "57P03"}, {"says so", "57P03"}, {"denied", "57P03"}, {"app", "in"},
		} {
			got := logInAt(t, s.addr, c.user, "right", "postgres")
			if theirs := logInAt(t, cluster.Primary.Addr(), c.user, "right", "postgres"); got != c.want || got != theirs && got != "57P03" {
				t.Errorf("%q: %s, want %s; PostgreSQL: %s", c.user, got, c.want, theirs)
			}
			if err := s.Ready(); err != nil {
				t.Errorf("after %q: %v", c.user, err)
			}
		}
		if told := s.logs.FilterMessage("passwords cannot be looked up").All(); len(told) > 0 {
			t.Errorf("logged: %v", told[0].ContextMap())
		}
	}
}

// TestRefusedLookUpsAreTriedAgain: where a client found that secrets cannot be looked up, it is found
// without another that they can.
func TestRefusedLookUpsAreTriedAgain(t *testing.T) {
	database := newDatabase(t, lookUpFunction)
	role := "again_" + database
	run(t, "postgres", "create role "+role+" login password 'right'")
	t.Cleanup(func() { run(t, "postgres", "drop role "+role) })
	s := start(t, func(c *config.Config) {
		c.Service.Database = database
		c.Auth.Method, c.Auth.FailureDelay, c.Auth.QueryTTL = "scram-sha-256", 0, time.Millisecond
		c.Auth.Query = "select name, secret from look_up($1)"
	})
	for range 2 {
		if got := logInAt(t, s.addr, role, "right", database); got != "in" {
			t.Fatalf("before: %s", got)
		}
		run(t, database, "alter function look_up rename to away")
		if got := logInAt(t, s.addr, role, "right", database); got != "57P03" {
			t.Errorf("refused: %s", got)
		}
		if s.Ready() == nil {
			t.Error("it is ready, though nobody can log in")
		}
		run(t, database, "alter function away rename to look_up")
		until(t, "it is found that passwords can be looked up", func() bool { return s.Ready() == nil })
	}
}

// lockOuts are what keeps a role that is logged in from logging in again, by what it logs in, and
// what the next login is told. %r% is the role.
var lockOuts = []struct{ name, method, change, next string }{
	{"password", "scram-sha-256", "alter role %r% password 'two'", "28P01"},
	{"plain", "password", "alter role %r% password 'two'", "28P01"},
	{"another kind", "md5", "alter role %r% password 'one'", "in"}, // the hash logs in to nothing any more
	{"no password", "scram-sha-256", "alter role %r% password null", "28P01"},
	{"nologin", "scram-sha-256", "alter role %r% nologin", "28"},
	{"no connect", "scram-sha-256", "revoke connect on database postgres from public", "42501"},
	{"dropped", "scram-sha-256", "drop role %r%", "28P01"},
}

// TestLockedOut: a session whose role the servers let in no more lives as long as its connections,
// and then ends, so that its client logs in again; the log says why.
func TestLockedOut(t *testing.T) {
	cluster := scramCluster(t)
	for i, c := range lockOuts {
		t.Run(c.name, func(t *testing.T) {
			role := fmt.Sprint("lock_", i)
			must(t, cluster.Exec(bounded(t, patience), "create role "+role+" login password 'one'; grant connect on database postgres to public, watcher"))
			if c.method == "md5" {
				must(t, cluster.Exec(bounded(t, patience), fmt.Sprintf("alter role %s password 'md5%x'", role, md5.Sum([]byte("one"+role)))))
			}
			s := startAt(t, cluster, c.method)
			var sessions []*pgx.Conn
			for range 3 {
				sessions = append(sessions, s.connect(t, "postgres", "user="+role, "password=one"))
			}
			must(t, ask(sessions[0], aRead))
			must(t, cluster.Exec(bounded(t, patience), strings.ReplaceAll(c.change, "%r%", role)))
			if err := ask(sessions[0], aRead); err != nil {
				t.Errorf("over the connection there is: %v", err)
			}
			ended(t, cluster)
			for i, conn := range sessions {
				if i == 1 {
					must(t, ask(conn, "begin"))
				}
				err := ask(conn, aRead)
				var told *pgconn.PgError
				if !errors.As(err, &told) || told.Severity != "FATAL" || told.Code != "57P01" || !strings.Contains(told.Message, role) || told.Detail == "" || told.Hint == "" {
					t.Errorf("session %d: %v", i, err)
				}
				if !conn.IsClosed() {
					t.Errorf("session %d is open", i)
				}
			}
			told := s.logs.FilterMessageSnippet("does not let their role in again").All()
			if len(told) != 1 || told[0].ContextMap()["user"] != role {
				t.Errorf("logged: %v", told)
			}
			time.Sleep(1100 * time.Millisecond) // for as long as it is relied on what the servers said
			if got := logInAt(t, s.addr, role, "one", "postgres"); !strings.HasPrefix(got, c.next) {
				t.Errorf("the next login: %s, want %s", got, c.next)
			}
		})
	}
}

// TestNewPasswordOpensConnections: sessions that logged in with the password of before go on over
// connections opened with what another client has shown since.
func TestNewPasswordOpensConnections(t *testing.T) {
	cluster := scramCluster(t)
	must(t, cluster.Exec(bounded(t, patience), "create role app login password 'one'"))
	s := startAt(t, cluster, "scram-sha-256")
	conn := s.connect(t, "postgres", "user=app", "password=one")
	must(t, ask(conn, "set application_name = 'mine'"))
	must(t, ask(conn, aRead))
	must(t, cluster.Exec(bounded(t, patience), "alter role app password 'two'"))
	until(t, "the new password counts", func() bool { return logInAt(t, s.addr, "app", "two", "postgres") == "in" })
	for range 2 {
		ended(t, cluster)
		var name string
		err := conn.QueryRow(bounded(t, patience), "select current_setting('application_name') from pg_class limit 1", pgx.QueryExecModeSimpleProtocol).Scan(&name)
		if err != nil || name != "mine" {
			t.Errorf("the session goes on with %q, %v", name, err)
		}
	}
}

// aRead needs a server.
const aRead = "select 1 from pg_class limit 1"

// ask has a session run a simple query.
func ask(conn *pgx.Conn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

// scramCluster is a server that asks for passwords, with an account for the proxy.
func scramCluster(t *testing.T) *pgtest.Cluster {
	t.Helper()
	cluster := pgtest.New(t, pgtest.Options{HBA: []string{"host all all 127.0.0.1/32 md5"}}) // SCRAM where that is stored
	must(t, cluster.Exec(bounded(t, patience), "create role watcher superuser login password 'w'"))
	return cluster
}

// startAt is a proxy before such a cluster, whose clients come by a method.
func startAt(t *testing.T, cluster *pgtest.Cluster, method string, more ...func(*config.Config)) *service {
	t.Helper()
	return start(t, append([]func(*config.Config){func(c *config.Config) {
		c.Servers = []config.Server{{Address: cluster.Primary.Addr(), Weight: 1}}
		c.Service = config.Service{User: "watcher", Password: "w", Database: "postgres"}
		c.Auth.Method, c.Auth.FailureDelay, c.Auth.AllowPlainPassword = method, 0, true
		c.Pool.IdleTimeout = 500 * time.Millisecond
	}}, more...)...)
}

// ended waits until the server has no sessions left but the proxy's own.
func ended(t *testing.T, cluster *pgtest.Cluster) {
	t.Helper()
	until(t, "idle connections are closed", func() bool {
		n, err := cluster.Primary.Value(t.Context(), "postgres", "select count(*) from pg_stat_activity where backend_type = 'client backend' and usename is distinct from 'watcher' and pid <> pg_backend_pid()")
		return err == nil && n == "0"
	})
}

// TestRolesWithoutLogin: with what setup-sql makes, a role that may not log in gets PostgreSQL's
// error once it has shown its password, whatever it asks for; with another query none of them is known.
func TestRolesWithoutLogin(t *testing.T) {
	for _, kind := range []string{setup.Plain, setup.RDS} {
		t.Run(kind, func(t *testing.T) {
			cluster := scramCluster(t)
			script, err := setup.SQL(kind, setup.Account{User: "account", Database: "postgres"})
			must(t, err)
			must(t, cluster.Exec(bounded(t, patience), script+`alter role account password 'w';
create role app login password 'one'; create role barred password 'one'; create role late password 'one' valid until '2000-01-01'`))
			if kind == setup.RDS {
				must(t, cluster.Exec(bounded(t, patience), "select pgweir.set_secret(rolname, rolpassword) from pg_authid where rolname in ('app', 'barred', 'late')"))
			}
			for query, told := range map[string]string{setup.Query(kind): "28000", "select name, secret from pgweir.secret($1)": "28P01"} {
				s := startAt(t, cluster, "scram-sha-256", func(c *config.Config) {
					c.Service.User = "account"
					c.Auth.Query = query
					c.Databases = map[string]config.Database{"postgres": {}, "mapped": {Name: "postgres", ServerUser: "app", ServerPassword: "one"}}
					c.Console.AdminUsers = []string{"barred"}
				})
				for _, c := range []struct{ user, password, want string }{
					{"app", "one", "in"}, {"barred", "one", told}, {"barred", "two", "28P01"}, {"late", "one", "28P01"}, {"nobody", "one", "28P01"},
				} {
					for _, database := range []string{"postgres", "mapped"} {
						if got := logInAt(t, s.addr, c.user, c.password, database); got != c.want {
							t.Errorf("%s: %s with %s in %s: %s, want %s", query, c.user, c.password, database, got, c.want)
						}
					}
					theirs := logInAt(t, cluster.Primary.Addr(), c.user, c.password, "postgres")
					if told == "28000" && theirs != c.want {
						t.Errorf("PostgreSQL tells %s %s, want %s", c.user, theirs, c.want)
					}
				}
				if got := logInAt(t, s.addr, "barred", "one", "pgweir"); got != told {
					t.Errorf("%s: the console: %s", query, got)
				}
				must(t, cluster.Exec(bounded(t, patience), "alter role barred login"))
				until(t, "the role may log in", func() bool { return logInAt(t, s.addr, "barred", "one", "postgres") == "in" })
				must(t, cluster.Exec(bounded(t, patience), "alter role barred nologin"))
			}
		})
	}
}
