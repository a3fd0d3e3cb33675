package proxy_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
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
