package proxy_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
)

// loginChanges are what keeps a role from logging in, or lets it in again. %r% is the role,
// %d% the database. What a new client is told is PostgreSQL's word, though connections of
// that role live.
var loginChanges = []struct{ name, change, back string }{
	{"nologin", "alter role %r% nologin", "alter role %r% login"},
	{"connection limit", "alter role %r% connection limit 0", "alter role %r% connection limit -1"},
	{"revoke connect", "revoke connect on database %d% from public", "grant connect on database %d% to public"},
	{"connection limit of the database", "alter database %d% connection limit 0", "alter database %d% connection limit 5"},
	{"closed database", "alter database %d% allow_connections false", "alter database %d% allow_connections true"},
	{"renamed", "alter role %r% rename to %r%_2", "alter role %r%_2 rename to %r%"},
	{"expired", "alter role %r% valid until '2000-01-01'", "alter role %r% valid until 'infinity'"}, // counts with passwords only
	{"in a transaction", "begin; alter role %r% nologin; commit", "begin; alter role %r% login; commit"},
	{"undone", "begin; alter role %r% nologin; rollback", "select 1"},
	{"in a block", "do $$ begin execute 'alter role %r% nologin'; end $$", "do $$ begin alter role %r% login; end $$"},
	{"dropped", "drop role %r%", "create role %r% login"},
}

func TestRolesThatMayNotLogIn(t *testing.T) {
	home, database := newDatabase(t, ""), newDatabase(t, "")
	role := "login_" + database
	run(t, "postgres", "create role "+role+" login")
	t.Cleanup(func() { run(t, "postgres", "drop role "+role) })
	fill := strings.NewReplacer("%r%", role, "%d%", database).Replace
	s := start(t)
	admin := raw(t, s.addr, home)
	logIn := func(addr string) string {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", role, addr, database))
		if err != nil {
			_, told, _ := strings.Cut(err.Error(), "FATAL")
			return wantCode(err) + told
		}
		_ = conn.Close(ctx)
		return "in"
	}
	for _, c := range loginChanges {
		for _, seen := range []bool{true, false} {
			if !seen && c.name != "nologin" && c.name != "revoke connect" && c.name != "dropped" {
				continue // a second each
			}
			t.Run(fmt.Sprintf("%s, seen %t", c.name, seen), func(t *testing.T) {
				live := raw(t, s.addr, database, "user", role)
				live.query("select 1")
				for _, sql := range []string{c.change, c.back} {
					if seen {
						for _, part := range strings.Split(fill(sql), "; ") {
							admin.query(part)
						}
					} else {
						run(t, home, fill(sql))
						time.Sleep(1100 * time.Millisecond)
					}
					want := logIn(shared(t).Primary.Addr())
					if got := logIn(s.addr); got != want {
						t.Errorf("after %s: %s, PostgreSQL: %s", sql, got, want)
					}
				}
				if got := live.query("select 1"); got[len(got)-1] != "Z I" && c.name != "dropped" {
					t.Errorf("the session that lives: %q", got)
				}
				live.close()
			})
		}
	}
}

// A changed password counts at once if the change passed, else after a second; so does its end.
func TestChangedPassword(t *testing.T) {
	database := newDatabase(t, "")
	role := "password_" + database
	run(t, "postgres", "create role "+role+" login password 'one'")
	t.Cleanup(func() { run(t, "postgres", "drop role "+role) })
	for _, method := range []string{"scram-sha-256", "password"} {
		s := start(t, func(c *config.Config) {
			c.Auth.Method, c.Auth.AllowPlainPassword, c.Auth.FailureDelay = method, true, 0
			c.Users = map[string]config.User{"postgres": {Password: "postgres"}}
		})
		admin := s.connect(t, database, "password=postgres")
		logIn := func(password string) string {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			conn, err := pgx.Connect(ctx, s.dsn(database, "user="+role, "password="+password))
			if err != nil {
				return wantCode(err)
			}
			_ = conn.Close(ctx)
			return "in"
		}
		live := s.connect(t, database, "user="+role, "password=one")
		for i, step := range []struct{ sql, password, want string }{
			{"password 'two'", "one", "28P01"}, {"password 'two'", "two", "in"},
			{"valid until '2000-01-01'", "two", "28P01"}, {"valid until 'infinity'", "two", "in"},
			{"password null", "two", "28P01"}, {"password 'one'", "one", "in"},
		} {
			for _, seen := range []bool{true, false} {
				if !seen && i >= 2 {
					continue // a second each
				}
				sql := "alter role " + role + " " + step.sql
				if seen {
					if _, err := admin.Exec(context.Background(), sql); err != nil {
						t.Fatal(err)
					}
				} else {
					run(t, database, sql)
					time.Sleep(1100 * time.Millisecond)
				}
				if got := logIn(step.password); got != step.want {
					t.Errorf("%s, step %d, seen %t, %s: %s, want %s", method, i, seen, step.sql, got, step.want)
				}
			}
		}
		if _, err := live.Exec(context.Background(), "select 1"); err != nil {
			t.Error(err)
		}
	}
}

// Users who have left leave no metrics and no connections behind.
func TestDepartedUsers(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, func(c *config.Config) { c.Pool.ForgetAfter = 2 * time.Second })
	stays := raw(t, s.addr, database)
	stays.query("select 1")
	series := func() (n int) {
		families, err := s.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if strings.HasPrefix(l.GetValue(), "departed_") {
						n++
					}
				}
			}
		}
		return n
	}
	for i := range 5 {
		role := fmt.Sprintf("departed_%d_%s", i, database)
		run(t, "postgres", "create role "+role+" login")
		t.Cleanup(func() { run(t, "postgres", "drop role "+role) })
		r := raw(t, s.addr, database, "user", role)
		r.query("/* pgweir:primary */ select 1")
		r.close()
	}
	if series() == 0 {
		t.Error("no series are theirs")
	}
	until(t, "their series are gone", func() bool { return series() == 0 })
	until(t, "their connections are closed", func() bool {
		n, err := shared(t).Primary.Value(context.Background(), "postgres", "select count(*)::text from pg_stat_activity where usename like 'departed_%_' || $1", database)
		return err == nil && n == "0"
	})
	if got := stays.query("select 1"); got[len(got)-1] != "Z I" {
		t.Errorf("who stays is told %q", got)
	}
}

// TestLoginsAtOnce: who may not log in may not if many try at once either, over connections
// that nobody has free: they do not ask one by one.
func TestLoginsAtOnce(t *testing.T) {
	database := newDatabase(t, "")
	role := "storm_" + database
	run(t, "postgres", "create role "+role+" login")
	t.Cleanup(func() { run(t, "postgres", "drop role "+role) })
	s := start(t, poolSize(1))
	holds := raw(t, s.addr, database, "user", role)
	holds.query("begin")
	holds.query("select 1 from pg_class limit 1")
	run(t, "postgres", "alter role "+role+" nologin")
	time.Sleep(1100 * time.Millisecond)
	var in atomic.Int64
	var all sync.WaitGroup
	for range 300 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", role, s.addr, database))
			if err == nil {
				in.Add(1)
				_ = conn.Close(ctx)
			} else if wantCode(err) != "28000" {
				t.Error(err)
			}
		})
	}
	v, err := shared(t).Primary.Value(t.Context(), "postgres", "select count(*) from pg_stat_activity where backend_type = 'client backend'")
	must(t, err)
	all.Wait()
	if n, _ := strconv.Atoi(v); in.Load() > 0 || n > 30 {
		t.Errorf("%d of 300 logged in, over %d connections", in.Load(), n)
	}
}

// TestLoginsReadNames: names and values are what they are, whatever encoding the last session
// on a connection has chosen.
func TestLoginsReadNames(t *testing.T) {
	database := newDatabase(t, "")
	role := "müller_" + database
	run(t, "postgres", `create role "`+role+`" login; alter role "`+role+`" set app.tenant = 'zürich'`)
	t.Cleanup(func() { run(t, "postgres", `drop role "`+role+`"`) })
	s := start(t)
	a := raw(t, s.addr, database, "user", role)
	a.query("set client_encoding = 'LATIN1'")
	a.query("create table if not exists x()")
	time.Sleep(1100 * time.Millisecond)
	b := raw(t, s.addr, database, "user", role)
	if got := b.query("select current_setting('app.tenant', true)"); got[1] != `D "zürich"` {
		t.Errorf("the next session has %q", got)
	}
}
