package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/config"
)

// unknownStage has what may be behind a name that the catalog does not know.
var unknownStage = stage{
	setup: `create function sets() returns trigger language plpgsql as 'begin perform set_config(''app.a'', ''left'', false); return new; end';
		create function locks() returns int language plpgsql as 'begin perform pg_advisory_lock(1); return 1; end'`,
	look: "current_setting('work_mem')",
}

// TestUnknownIsJudgedLater: what runs on objects that the catalog does not know yet leaves what
// it leaves for its session, and nothing for others.
func TestUnknownIsJudgedLater(t *testing.T) {
	t.Parallel()
	unknownStage.tell(t,
		story{name: "table", steps: `
		Q create table z%n%(a int)
		Q insert into z%n% values (1)
		Q select * from z%n%
		Q drop table z%n%`},
		story{name: "table in one string", steps: `
		Q create table z%n%(a int) ;; insert into z%n% values (1) ;; select * from z%n%
		Q drop table z%n%`},
		story{name: "create as, select", steps: `
		Q create table z%n% as select 1 as a
		Q select * from z%n%`},
		story{name: "select into", steps: `
		Q select 1 as a into z%n%
		Q select * from z%n%`},
		story{name: "trigger that sets", steps: `
		Q create table z%n%(a int)
		Q create trigger t before insert on z%n% for each row execute function sets()
		Q insert into z%n% values (1)
		Q select current_setting('app.a', true)
		Q drop table z%n%
		Q select current_setting('app.a', true)`},
		story{name: "trigger that sets, dropped at once", steps: `
		Q create table z%n%(a int)
		Q create trigger t before insert on z%n% for each row execute function sets()
		Q insert into z%n% values (1) ;; drop table z%n%
		Q select current_setting('app.a', true)`},
		story{name: "default that locks", steps: `
		Q create table z%n%(a int, b int default locks())
		Q insert into z%n% values (1)
		Q select b from z%n%
		Q drop table z%n%`},
		story{name: "table with a trigger, past the proxy", mode: "outside", steps: `
		! create table z%n%(a int); create trigger t before insert on z%n% for each row execute function sets()
		Q insert into z%n% values (1)
		Q select current_setting('app.a', true)`},
		story{name: "temporary table", steps: `
		Q create temp table z%n%(a int)
		Q insert into z%n% values (1)
		Q select * from z%n%
		Q drop table z%n%`},
		story{name: "temporary table until commit", mode: "outside", steps: `
		Q begin
		Q create temp table z%n%(a int) on commit drop
		Q insert into z%n% values (1)
		Q select * from z%n%
		Q commit`},
		story{name: "function that sets", steps: `
		Q create function f%n%() returns text language sql as 'select set_config(''app.a'', ''left'', false)'
		Q select f%n%()
		Q select current_setting('app.a', true)
		Q drop function f%n%
		Q select current_setting('app.a', true)`},
		story{name: "rolled back", mode: "outside", steps: `
		Q begin
		Q create table z%n%(a int, b int default locks())
		Q insert into z%n% values (1)
		Q rollback
		Q select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
		Q select pg_advisory_unlock_all()`},
		story{name: "view that hides a function", steps: `
		Q create view v%n% as select set_config('app.a', 'left', false) as a
		Q select a from v%n%
		Q select current_setting('app.a', true)`},
		story{name: "a failing statement", mode: "outside", steps: `
		Q create table z%n%(a int primary key, b int default locks())
		Q insert into z%n% values (1)
		Q insert into z%n% values (1)
		Q select pg_advisory_unlock_all()`},
	)
}

// TestNewObjectsPinNobody: using what is new ties no session to its connection, and costs no
// login.
func TestNewObjectsPinNobody(t *testing.T) {
	for name, script := range map[string]string{
		"table":                  "create table z(a int) ;; insert into z values (1) ;; select * from z",
		"one string":             "create table z(a int); insert into z values (1)",
		"transaction":            "begin ;; create table z(a int) ;; insert into z values (1) ;; select * from z ;; commit",
		"create as":              "create table z as select 1 as a ;; select * from z ;; insert into z values (2)",
		"select into":            "select 1 as a into z ;; select * from z",
		"serial":                 "create table z(id serial primary key, at timestamptz default now(), n int check (n > 0)) ;; insert into z(n) values (1)",
		"dropped":                "create table z(a int) ;; insert into z values (1) ;; drop table z",
		"temporary, dropped":     "create temp table z(a int) ;; insert into z values (1) ;; select * from z ;; drop table z",
		"temporary until commit": "begin ;; create temp table z(a int) on commit drop ;; insert into z values (1) ;; commit",
		"function":               "create function z() returns int language sql as 'select 1' ;; select z()",
		"function, dropped":      "create function z() returns int language sql as 'select 1' ;; select z() ;; drop function z",
		"clean trigger": "create function tf() returns trigger language plpgsql as 'begin return new; end' ;; create table z(a int) ;; " +
			"create trigger t before insert on z for each row execute function tf() ;; insert into z values (1)",
		"transaction, dropped":   "begin ;; create table z(a int) ;; insert into z values (1) ;; drop table z ;; commit",
		"transaction, undone":    "begin ;; create table z(a int) ;; insert into z values (1) ;; rollback",
		"enum":                   "create type e as enum ('a') ;; create table z(a e) ;; insert into z values ('a') ;; select * from z where a = 'a'::e",
		"view":                   "create table y(a int) ;; create view z as select * from y ;; select * from z",
		"failing":                "create table z(a int primary key) ;; insert into z values (1) ;; insert into z values (1)",
		"other tables meanwhile": "create table z(a int) ;; insert into z values (1) ;; create table y(a int) ;; insert into y values (1) ;; alter table y add column b int ;; insert into y values (1, 2)",
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, poolSize(2), func(c *config.Config) { c.Routing.CatalogInterval = time.Hour })
			database := newDatabase(t, "create table known(a int)")
			c := raw(t, s.addr, database)
			c.query("insert into known values (1)")
			dialled := s.metric(t, "pgweir_pool_events_total", "event=dialled")
			for sql := range strings.SplitSeq(script, " ;; ") {
				if got := tail(c.query(sql)); name != "failing" && strings.Contains(got, " E ERROR") {
					t.Fatal(got)
				}
			}
			free := func() bool {
				return s.metric(t, "pgweir_pinned_sessions") == 0 && s.metric(t, "pgweir_pool_connections", "database="+database, "state=used") == 0
			}
			until(t, "the connection is free", free)
			if now := s.metric(t, "pgweir_pool_events_total", "event=dialled"); now != dialled {
				t.Errorf("%v logins", now-dialled)
			}
		})
	}
}

// TestCopyIntoNewTable is TestNewObjectsPinNobody for COPY, whose text is gone by its end.
func TestCopyIntoNewTable(t *testing.T) {
	database := newDatabase(t, "")
	s := start(t, func(c *config.Config) { c.Routing.CatalogInterval = time.Hour })
	c := raw(t, s.addr, database)
	for i := range 2 {
		c.query("create table z(a int)")
		p := &player{t: t, conns: map[string]*rawConn{"a": c}, now: "a", out: map[string][]byte{}, due: map[string]int{}}
		lines := []string{"Q copy z from stdin", "wait G", `d "1\n"`, "c", "wait Z"}
		if i == 1 {
			lines = []string{`P "" copy z from stdin`, `B "" ""`, `E ""`, "S", "wait G", `d "1\n"`, "c", "S", "wait Z"}
		}
		for _, l := range lines {
			p.line(l)
		}
		if got := tail(p.transcript); !strings.Contains(got, "COPY 1") {
			t.Fatal(got)
		}
		until(t, "the connection is free", func() bool {
			return s.metric(t, "pgweir_pool_connections", "database="+database, "state=used") == 0
		})
		if pinned := s.metric(t, "pgweir_pinned_sessions"); pinned != 0 {
			t.Errorf("%v sessions are pinned", pinned)
		}
		c.query("drop table z")
	}
}

// TestMadePastTheProxy: what the catalog cannot know yet ties no session either.
func TestMadePastTheProxy(t *testing.T) {
	database := newDatabase(t, "create table known(a int)")
	s := start(t, func(c *config.Config) { c.Routing.CatalogInterval = time.Hour })
	c := raw(t, s.addr, database)
	c.query("select * from known")
	run(t, database, "create table z(a int)")
	for range 3 {
		c.query("insert into z values (1)")
		until(t, "the connection is free", func() bool {
			return s.metric(t, "pgweir_pool_connections", "database="+database, "state=used") == 0
		})
	}
	if pinned := s.metric(t, "pgweir_pinned_sessions"); pinned != 0 {
		t.Errorf("%v sessions are pinned", pinned)
	}
}

// TestDDLCostsNoLogin: the catalog is read over one connection, and statements of others
// meanwhile open none and tie nobody.
func TestDDLCostsNoLogin(t *testing.T) {
	database := newDatabase(t, "create table known(a int)")
	s := start(t, poolSize(3))
	c, other, direct := raw(t, s.addr, database), raw(t, s.addr, database), raw(t, shared(t).Primary.Addr(), database)
	other.query("insert into known values (1)")
	c.query("insert into known values (1)")
	dialled := s.metric(t, "pgweir_pool_events_total", "event=dialled")
	readers := map[string]bool{}
	for i := range 40 {
		for _, sql := range []string{"create table z%d(a int)", "alter table z%d add column b int default 0", "create index on z%d(a)",
			"insert into z%d values (1)", "drop table z%d"} {
			if got := tail(c.query(fmt.Sprintf(sql, i))); strings.Contains(got, " E ERROR") {
				t.Fatal(got)
			}
			other.query("insert into known values (1)")
		}
		for _, l := range direct.query("select pid from pg_stat_activity where datname = current_database() and application_name = 'pgweir'") {
			if strings.HasPrefix(l, "D ") {
				readers[l] = true
			}
		}
	}
	// One, and another if the machine was busy for longer than it is kept.
	if now := s.metric(t, "pgweir_pool_events_total", "event=dialled"); now > dialled+1 || len(readers) > 3 {
		t.Errorf("%v logins of clients, %d of readers of the catalog", now-dialled, len(readers))
	}
	until(t, "nothing is held", func() bool {
		return s.metric(t, "pgweir_pool_connections", "database="+database, "state=used") == 0
	})
}
