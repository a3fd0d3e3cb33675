package proxy_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
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
	t.Cleanup(func() { run(t, "postgres", fmt.Sprintf("drop role %s, %s; drop table logins_%s", app, other, database)) })
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
