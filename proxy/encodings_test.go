package proxy_test

import (
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// TestNamesOfOtherEncodings: names that are not UTF-8 are shown all the same, by the metrics and the console, and hide nobody else's.
func TestNamesOfOtherEncodings(t *testing.T) {
	database := newDatabase(t, "") + "_latin1"
	run(t, "postgres", `create database "`+database+`" encoding 'LATIN1' template template0 locale 'C'`)
	t.Cleanup(func() { run(t, "postgres", `drop database "`+database+`" with (force)`) })
	run(t, database, `create role U&"caf\00e9" login; create role U&"caf\00e8" login`)
	t.Cleanup(func() { run(t, database, `drop role U&"caf\00e9"; drop role U&"caf\00e8"`) })
	s := start(t, func(c *config.Config) { c.Console.AdminUsers = []string{pgtest.Superuser} })
	for _, user := range []string{"caf\xe9", "caf\xe8"} {
		if got := raw(t, s.addr, database, "user", user, "application_name", user).query("select pg_current_xact_id_if_assigned() is null"); got[1] != `D "t"` {
			t.Errorf("%q", got)
		}
	}
	if _, err := s.reg.Gather(); err != nil {
		t.Error(err)
	}
	if n := s.metric(t, "pgweir_pool_size", "user=caf\uFFFD", "database="+database); n == 0 {
		t.Error("their pools have no metrics")
	}
	console := s.connect(t, "pgweir")
	seen := false
	for _, view := range []string{"clients", "servers", "pools", "users", "databases", "transactions", "pins", "stats"} {
		rows, err := console.Query(bounded(t, patience), "show "+view)
		must(t, err)
		for rows.Next() {
			for i, v := range rows.RawValues() {
				seen = seen || view == "clients" && string(v) == "caf\uFFFD"
				if rows.FieldDescriptions()[i].Format == pgx.TextFormatCode && !utf8.Valid(v) {
					t.Errorf("show %s: %q", view, v)
				}
			}
		}
		must(t, rows.Err())
	}
	if !seen {
		t.Error("show clients does not have them")
	}
}
