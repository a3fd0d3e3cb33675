package proxy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
)

// TestDoubts: what ran before the catalog knew of it is judged by what it was, not by what bears
// its name now, and what was committed stays whatever fails behind it.
func TestDoubts(t *testing.T) {
	const function = "create temp table q(a int) ;; create function pg_temp.f() returns int language plpgsql as 'begin perform set_config(''work_mem'',''64kB'',false); perform set_config(''app.x'',''1'',false); return 1; end' ;; select pg_temp.f() ;; "
	for name, c := range map[string]struct {
		script, work, custom string // what the session has at last
	}{
		"a table that was undone, and one of its name": {"begin ;; savepoint x ;; create temp table z(a int) on commit drop ;; rollback to x ;; create temp table z() inherits (hidden) on commit drop ;; insert into z values (1) ;; commit", "64kB", ""},
		"one that was dropped":                         {"begin ;; create temp table z(a int) on commit drop ;; drop table z ;; create temp table z() inherits (hidden) on commit drop ;; insert into z values (1) ;; commit", "64kB", ""},
		"an error behind it":                           {function + "select 1/0 ;; drop function pg_temp.f() ;; drop table q", "64kB", "1"},
		"a rollback behind it":                         {function + "begin ;; rollback ;; drop function pg_temp.f() ;; drop table q", "64kB", "1"},
		"undone itself":                                {"create temp table q(a int) ;; begin ;; create function pg_temp.f() returns int language plpgsql as 'begin perform set_config(''work_mem'',''64kB'',false); return 1; end' ;; select pg_temp.f() ;; rollback ;; drop table q", "4MB", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, poolSize(1), func(c *config.Config) { c.Routing.CatalogInterval = time.Hour })
			database := newDatabase(t, "create table t (v text); create function sp() returns int language plpgsql as 'begin perform set_config(''work_mem'',''64kB'',false); return 1; end'")
			a, b := raw(t, s.addr, database), raw(t, s.addr, database)
			b.query("select 1")
			a.query("insert into t values ('x')")
			run(t, database, "create table hidden (a int, b int default sp())")
			for sql := range strings.SplitSeq(c.script, " ;; ") {
				a.query(sql)
			}
			has := func(c *rawConn, setting, want string) {
				t.Helper()
				if got := c.query("select coalesce(current_setting('" + setting + "', true), '')"); got[1] != `D "`+want+`"` {
					t.Errorf("%s: %q, want %q", setting, got, want)
				}
			}
			has(a, "work_mem", c.work)
			has(a, "app.x", c.custom)
			a.close()
			has(b, "work_mem", "4MB")
			has(b, "app.x", "")
		})
	}
}

// TestDoubtsBeforeReset: a connection that is kept only until the catalog is known does not decide
// what RESET returns to.
func TestDoubtsBeforeReset(t *testing.T) {
	s := start(t, poolSize(2))
	database := newDatabase(t, "create table known (a int)")
	a := raw(t, s.addr, database, "options", "-c app.a=begun")
	a.query("insert into known values (1)")
	a.send(&pgproto3.Query{String: "create function f() returns int language sql as 'select 1'"}, &pgproto3.Query{String: "insert into known values (2)"},
		&pgproto3.Query{String: "set app.a to default; select current_setting('app.a')"})
	a.wait("Z")
	a.wait("Z")
	if got := a.wait("Z"); !slices.Contains(got, `D "begun"`) {
		t.Errorf("%q, want what the session began with", got)
	}
}

// TestDoubtsInStrings: a function that was just redefined may leave behind what nobody foresees
// among other statements as well, and in a text too long to be kept.
func TestDoubtsInStrings(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"first":         "select f(); select 1",
		"last":          "select 1; select f()",
		"in a block":    "begin; select f(); commit",
		"long":          "select f(); select '" + strings.Repeat("x", 100<<10) + "'",
		"many":          "select f()" + strings.Repeat("; select 1", 100),
		"behind others": "select f(); select set_config('app.b', 'x', false)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, poolSize(1))
			database := newDatabase(t, "create function f() returns text language sql as $$ select 'old' $$")
			a, b := raw(t, s.addr, database), raw(t, s.addr, database)
			a.query("select f()")
			a.query("create or replace function f() returns text language sql as $$ select set_config('app.a', 'new', false) $$")
			a.query(sql)
			if got := a.query("select current_setting('app.a')"); !slices.Contains(got, `D "new"`) {
				t.Errorf("%q: what the function set is lost", got)
			}
			a.close()
			if got := b.query("select current_setting('app.a', true) is distinct from 'new'"); !slices.Contains(got, `D "t"`) {
				t.Errorf("%q: another session has it", got)
			}
		})
	}
}

// TestDoubtsAndReports: what a statement did to the settings that decide how texts are read, its
// server has reported by the time it is judged, so that texts behind it are understood.
func TestDoubtsAndReports(t *testing.T) {
	s := start(t, poolSize(1))
	database := newDatabase(t, "create table known (a int)")
	a, b := raw(t, s.addr, database), raw(t, s.addr, database)
	a.query("insert into known values (1)")
	a.send(&pgproto3.Query{String: "create function f(v text) returns text language sql as $$ select set_config('app.a', v, false) $$"},
		&pgproto3.Query{String: "select f('x')"}, &pgproto3.Query{String: "set role none; do $$ begin perform set_config('app.a', 'done', false); end $$"})
	for range 3 {
		a.wait("Z")
	}
	b.query("insert into known values (2)") // a has given back the only connection
	a.query("select f('häß')")
	b.query("insert into known values (3)")
	if pins, which := s.pinsOf(t, "pgweir_pins_total", nil); which != "" {
		t.Errorf("sessions were pinned: %v", pins)
	}
}

// TestDoubtsOfDDL: DDL that names nothing which runs is in no doubt, but for what runs beside it.
func TestDoubtsOfDDL(t *testing.T) {
	t.Parallel()
	const sets, clean = `returns event_trigger language plpgsql as 'begin perform set_config(''app.a'', ''%n%'', false); end'`,
		`returns event_trigger language plpgsql as 'begin end'`
	stage{}.tell(t,
		story{name: "an event trigger", mode: "outside", steps: `
		Q create function fe%n%() ` + sets + `
		Q create event trigger e%n% on ddl_command_end execute function fe%n%()
		Q create table t%n%(a int)
		Q comment on table t%n% is 'x'
		Q drop event trigger e%n%`},
		story{name: "the function of one", mode: "outside", steps: `
		Q create function fe%n%() ` + clean + `
		Q create event trigger e%n% on ddl_command_end execute function fe%n%()
		Q create table t%n%(a int)
		Q create or replace function fe%n%() ` + sets + `
		Q create function other%n%() returns int language sql as 'select 1'
		Q drop event trigger e%n%`},
	)

	// Functions that are replaced one after the other cost neither a read of the catalog each nor a login.
	database := newDatabase(t, "create table known(a int)")
	s := start(t, func(c *config.Config) { c.Routing.CatalogInterval = time.Hour })
	c := raw(t, s.addr, database)
	until(t, "the catalog is read", func() bool {
		c.query("select * from known")
		return s.metric(t, "pgweir_statements_total", "target=replica") > 0
	})
	dialled := s.metric(t, "pgweir_pool_events_total", "event=dialled")
	begun := time.Now()
	const many = 100
	for range many {
		if got := tail(c.query("create or replace function f() returns int language sql as 'select 1'")); !strings.Contains(got, "CREATE FUNCTION") {
			t.Fatal(got)
		}
	}
	t.Logf("%v for each", time.Since(begun)/many)
	if now := s.metric(t, "pgweir_pool_events_total", "event=dialled"); now > dialled+1 {
		t.Errorf("%v logins", now-dialled)
	}
}
