package proxy_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// logIn is the session's user as a client of the proxy sees it, or the SQLSTATE.
func (s *service) logIn(t testing.TB, user, password, database string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.dsn(database, "user="+user, "password='"+password+"'"))
	if err != nil {
		return wantCode(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var as string
	if err := conn.QueryRow(ctx, "select session_user").Scan(&as); err != nil {
		return err.Error()
	}
	return as
}

// A database has a login of its own on the servers, for all its clients but those with one of
// their own, and a query of its own that knows its clients.
func TestDatabaseAccounts(t *testing.T) {
	database := newDatabase(t, "")
	app, other := "app_"+database, "other_"+database
	run(t, "postgres", fmt.Sprintf("create role %s login password 'servers'; create role %s login; create table logins_%s (name text, secret text); insert into logins_%[3]s values ('alice', 'wonder')", app, other, database))
	t.Cleanup(func() {
		run(t, "postgres", fmt.Sprintf("drop role %s, %s; drop table logins_%s", app, other, database))
	})
	s := start(t, func(c *config.Config) {
		c.Auth.Method = "scram-sha-256"
		c.Auth.FailureDelay = 0
		c.Users = map[string]config.User{
			"bob": {Password: "bobs"}, "carol": {Password: "carols", ServerUser: other}, app: {Password: "own", ServerPassword: "servers"},
		}
		c.Databases = map[string]config.Database{
			"shop":   {Name: database, ServerUser: app, ServerPassword: "servers", AuthQuery: "select name, secret from logins_" + database + " where name = $1"},
			database: {},
		}
	})
	for _, c := range []struct{ user, password, database, want string }{
		{"alice", "wonder", "shop", app},
		{"alice", "wrong", "shop", "28P01"},
		{"alice", "wonder", database, "28P01"}, // the other database does not know her
		{"bob", "bobs", "shop", app},
		{"carol", "carols", "shop", other},
		{app, "own", "shop", app},
		{app, "own", database, app},
		{"bob", "bobs", database, "28000"}, // is himself there, and no role
		{"nobody", "x", "shop", "28P01"},
	} {
		if got := s.logIn(t, c.user, c.password, c.database); got != c.want {
			t.Errorf("%s in %s: %s, want %s", c.user, c.database, got, c.want)
		}
	}
}

// A user file is read again when it changes: of two lines of a name both let it in, and the first
// logs in to the servers; a line that is wrong is logged, and refuses nobody else.
func TestUserFileChanges(t *testing.T) {
	database := newDatabase(t, "")
	app := "app_" + database
	cluster := pgtest.New(t, pgtest.Options{HBA: []string{"host all all 127.0.0.1/32 scram-sha-256"}})
	if err := cluster.Exec(bounded(t, patience), "create role "+app+" login password 'new'; create role watcher login password 'w'; grant pg_monitor to watcher"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "users")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "app", app)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`"app" "new"`)
	s := start(t, func(c *config.Config) {
		c.Servers = []config.Server{{Address: cluster.Primary.Addr(), Weight: 1}}
		c.Service = config.Service{User: "watcher", Password: "w", Database: "postgres"}
		c.Auth = config.Auth{Method: "scram-sha-256", UserFile: path, Query: "select $1::text, null", Timeout: patience}
	})
	steps := []struct{ file, old, new, told string }{
		{`"app" "new"`, "28P01", app, ""},
		{"\"app\" \"new\"\n\"app\" \"old\"", app, app, ""},
		{"\"other\" \"x\n\"app\" \"new\"", "28P01", app, "line 1 lets nobody in"},
		{"\n\"app\" \"new", "28P01", "28P01", "line 2 lets nobody in"},
		{`"app" "new"`, "28P01", app, ""},
	}
	for _, step := range steps {
		write(step.file)
		before := s.logs.FilterMessage("user file").Len()
		until(t, "the file is read: "+step.file, func() bool {
			return s.logIn(t, app, "old", "postgres") == step.old && s.logIn(t, app, "new", "postgres") == step.new
		})
		if step.told == "" {
			continue
		}
		until(t, "the fault is logged: "+step.told, func() bool {
			found := s.logs.FilterMessage("user file").All()
			return len(found) > before && strings.Contains(fmt.Sprint(found[len(found)-1].ContextMap()), step.told)
		})
	}
}
