package proxy_test

import (
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
)

// TestRemade: a statement that is parsed anew means what it says now, whatever a server
// connection has prepared of that text before, and whoever remade what it uses.
func TestRemade(t *testing.T) {
	t.Parallel()
	insert := `
		P s insert into t%n% values ($1::e%n%)
		B "" s a
		E ""
		S
		C S s
		S`
	remake := `drop table t%n% ;; drop type e%n% ;; create type e%n% as enum ('a', 'b') ;; create table t%n%(v e%n%)`
	create := `
		Q create type e%n% as enum ('a') ;; create table t%n%(v e%n%)`
	stage{}.tell(t,
		story{name: "type", mode: "outside", steps: create + insert + `
		Q ` + remake + insert + `
		@b` + insert + `
		@a
		P u select $1::e%n%
		S
		Q drop table t%n% ;; drop type e%n% ;; create domain e%n% as text ;; create table t%n%(v e%n%)
		P s select $1::e%n%
		B "" s b
		D P ""
		E ""
		S`},
		story{name: "type, past the proxy", mode: "outside", steps: create + insert + `
		! ` + strings.ReplaceAll(remake, ";;", ";") + insert + `
		@b` + insert},
		story{name: "type, in one transaction", mode: "once", steps: create + insert + `
		Q begin` + insert + `
		Q drop table t%n%
		Q drop type e%n%
		Q create type e%n% as enum ('a', 'b')
		Q create table t%n%(v e%n%)` + insert + `
		Q commit` + insert},
		story{name: "type, in one pipeline", mode: "once", steps: create + insert + `
		P "" drop table t%n%
		B "" ""
		E ""
		P "" alter type e%n% rename to f%n%
		B "" ""
		E ""
		P "" create type e%n% as enum ('a', 'b')
		B "" ""
		E ""
		P "" create table t%n%(v e%n%)
		B "" ""
		E ""` + insert + insert},
		story{name: "function, overloaded", mode: "outside", steps: `
		Q create function f%n%(numeric) returns text language sql immutable as 'select ''numeric'''
		P s select f%n%(1)
		B "" s
		E ""
		S
		C S s
		S
		Q create function f%n%(int) returns text language sql immutable as 'select ''int'''
		P s select f%n%(1)
		B "" s
		E ""
		S
		C S s
		S
		Q drop function f%n%(int)
		P s select f%n%(1)
		B "" s
		E ""
		S`},
		story{name: "function, dropped", mode: "outside", steps: `
		Q create function f%n%(int) returns int language sql immutable as 'select 1'
		P s select f%n%(2)
		B "" s
		E ""
		S
		C S s
		S
		Q drop function f%n%
		P s select f%n%(2)
		B "" s
		E ""
		S`},
		story{name: "table, dropped", mode: "outside", steps: `
		Q create table t%n%(a int)
		P s select * from t%n%
		B "" s
		E ""
		S
		C S s
		S
		Q drop table t%n%
		P s select * from t%n%
		B "" s
		E ""
		S`},
		story{name: "table, hidden by a temporary one", mode: "outside", steps: `
		Q create table t%n%(a text)
		Q insert into t%n% values ('lasting') ;; create temp table other%n%(a int)
		P s select * from t%n%
		B "" s
		E ""
		S
		C S s
		S
		Q create temp table t%n% as select 'temporary'::text a
		P s select * from t%n%
		B "" s
		E ""
		S
		C S s
		S
		Q drop table pg_temp.t%n%
		P s select * from t%n%
		B "" s
		E ""
		S`},
		story{name: "table, remade with other columns past the proxy", mode: "outside", steps: `
		Q create table t%n%(a int, b int)
		P s insert into t%n% values (1, 2) returning b
		D S s
		B "" s
		E ""
		S
		! drop table t%n%; create table t%n%(a int, c text)
		C S s
		P s insert into t%n% values (1, 2) returning c
		D S s
		B "" s
		E ""
		S
		! drop table t%n%; create table t%n%(a int, b int, c text)
		P u insert into t%n% values (1, 2) returning b
		D S u
		B "" u
		E ""
		S`},
		story{name: "operator", mode: "outside", steps: `
		Q create function o%n%(int, int) returns text language sql immutable as 'select ''first''' ;; create operator ###% (leftarg = int, rightarg = int, function = o%n%)
		P s select 1 ###% 2
		B "" s
		E ""
		S
		C S s
		S
		Q drop operator ###% (int, int) ;; create function p%n%(int, int) returns text language sql immutable as 'select ''second''' ;; create operator ###% (leftarg = int, rightarg = int, function = p%n%)
		P s select 1 ###% 2
		B "" s
		E ""
		S
		Q drop operator ###% (int, int)`},
	)
}

// TestRemadeUnseen: what was remade past the proxy is found out by each connection's refusal,
// of which no client is told, whether it was told of the rows before or not.
func TestRemadeUnseen(t *testing.T) {
	database := newDatabase(t, "create type e as enum ('a'); create table t(v e, n int); create table other(a int)")
	s := start(t, poolSize(2), eventual)
	client := func() *rawConn { return raw(t, s.addr, database) }
	const insert = "insert into t values ($1::e, 1) returning n"
	occupy := func() *rawConn {
		c := client()
		c.query("begin")
		c.query("insert into other values (1)")
		return c
	}
	first, second := occupy(), occupy()
	for _, c := range []*rawConn{first, second} {
		say(c, "P s "+insert, `B "" s a`, `E ""`, "S", "wait")
		c.query("commit")
	}
	told, fresh := client(), client()
	say(told, "P told "+insert, "D S told", "S", "wait")
	run(t, database, "drop table t; drop type e; create type e as enum ('a'); create table t(v e, n int)")
	check := func(c *rawConn, lines ...string) {
		t.Helper()
		if got := say(c, append(lines, `E ""`, "S", "wait")...); !strings.Contains(got, "C INSERT 0 1") {
			t.Errorf("refused:\n%s", got)
		}
	}
	busy := occupy()
	check(fresh, "P s "+insert, `B "" s a`)
	next := occupy()
	busy.query("commit")
	check(told, `B "" told a`)
	next.query("commit")
	if n := s.metric(t, "pgweir_retries_total", "reason=cached_plan"); n != 2 {
		t.Errorf("sent again: %v times", n)
	}

	// Other rows than a client was told of are refused, as PostgreSQL does.
	run(t, database, "drop table t; drop type e; create type e as enum ('a'); create table t(v e, n text)")
	if got := say(told, `B "" told a`, `E ""`, "S", "wait"); !strings.Contains(got, "0A000") {
		t.Errorf("other rows:\n%s", got)
	}
}

// TestTold: a statement of whose rows a client was told runs with these rows or not at all, wherever
// it runs, however they came to be others.
func TestTold(t *testing.T) {
	t.Parallel()
	// What is bound again asks for the columns it was told of in binary format, which a server refuses for another number.
	again := `
		raw B 00 73 00 00 00 00 00 00 02 00 01 00 01
		E ""
		S
		B "" s
		E ""
		S`
	describe := `
		P s select * from t%n%
		S
		D S s
		B "" s
		E ""
		S`
	create := `
		Q create table t%n%(a int) ;; insert into t%n% values (1)`
	stage{}.tell(t,
		story{name: "in a transaction that was rolled back", mode: "outside", steps: create + `
		Q begin
		Q alter table t%n% add b int default 4` + describe + `
		Q rollback` + again + `
		Q begin` + again + `
		Q rollback`},
		story{name: "behind a savepoint that was rolled back", mode: "once", steps: create + `
		Q begin
		Q savepoint s
		Q alter table t%n% add b int default 4` + describe + `
		Q rollback to s` + again + `
		Q rollback` + again},
		story{name: "under another path", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a int, b int) ;; insert into s%n%.t%n% values (1, 2)
		Q set search_path = s%n%` + describe + `
		Q set search_path = public` + again + `
		Q set search_path = s%n%` + again},
		story{name: "under another path of the transaction", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a int, b int) ;; insert into s%n%.t%n% values (1, 2)
		Q begin ;; set local search_path = s%n%` + describe + `
		Q commit` + again + `
		Q begin
		Q set local search_path = s%n%` + again + `
		Q rollback`},
		story{name: "under another path, on another server", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a int, b int) ;; insert into s%n%.t%n% values (1, 2)
		Q begin ;; set local search_path = s%n% ;; insert into t%n% values (2, 3)` + describe + `
		Q commit` + again + `
		Q begin
		Q set local search_path = s%n%` + again + `
		Q commit
		Q set search_path = s%n%` + again + `
		Q set search_path = nowhere` + again},
		story{name: "under another path of another server's transaction", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a int, b int) ;; insert into s%n%.t%n% values (1, 2)
		Q begin ;; insert into t%n% values (2)` + describe + `
		Q commit
		Q begin
		Q set local search_path = s%n%` + again + `
		Q rollback` + again},
		story{name: "under another path, beside what is described", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x')` + describe + `
		Q set search_path = s%n%
		B "" s
		E ""
		P "" select 1
		B "" ""
		D P ""
		E ""
		S`},
		story{name: "under another path of the transaction, a list", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x')` + describe + `
		Q begin
		Q set search_path = s%n%, public
		Q insert into t%n% values ('y')` + again + `
		Q rollback` + again},
		story{name: "under another path of the transaction, a list, on another server", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x')` + describe + `
		Q begin
		Q set search_path = s%n%, public
		P "" insert into t%n% values ('y')
		B "" ""
		E ""` + again + `
		Q rollback` + again},
		story{name: "behind what the transaction's pipeline reads", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x')
		P n select * from t%n% where a <> $1
		S
		D S n
		S
		Q begin
		Q set search_path = s%n%, public
		Q insert into t%n% values ('y')
		P "" select 1
		B "" ""
		E ""
		B "" n 2
		E ""
		S
		Q rollback`},
		story{name: "under another path of the pipeline", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x')` + describe + `
		P "" set search_path = s%n%
		B "" ""
		E ""` + again},
		story{name: "under another path of the pipeline, a list", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x')` + describe + `
		P "" set search_path = s%n%, public
		B "" ""
		E ""` + again + again},
		story{name: "under another path of the pipeline's transaction", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x')` + describe + `
		P "" begin
		B "" ""
		E ""
		P "" set local search_path = s%n%, public
		B "" ""
		E ""` + again + `
		Q rollback` + again},
		story{name: "under the path of the pipeline", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x') ;; set search_path = s%n%` + describe + `
		Q set search_path = public
		P "" set search_path = s%n%
		B "" ""
		E ""` + again},
		story{name: "under the path of the pipeline, a list", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x') ;; set search_path = s%n%, public` + describe + `
		Q set search_path = public
		P "" set search_path = s%n%, public
		B "" ""
		E ""` + again + `
		Q show search_path` + again},
		story{name: "under another path of the pipeline than before it", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x')` + describe + `
		Q set search_path = pg_catalog, s%n%
		P "" set search_path = s%n%, public
		B "" ""
		E ""` + again + `
		Q show search_path` + again + `
		Q begin
		Q set local search_path = pg_catalog
		P "" set local search_path = s%n%, pg_catalog
		B "" ""
		E ""` + again + `
		Q rollback
		Q show search_path`},
		story{name: "behind what cannot run in a transaction", mode: "once", steps: create + describe + `
		Q set search_path = pg_catalog, public
		P "" create index concurrently on public.t%n%(a)
		B "" ""
		E ""` + again},
		story{name: "before modes are said", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a int) ;; insert into s%n%.t%n% values (2)` + describe + `
		Q begin
		Q set local search_path = s%n%, public
		P "" set transaction isolation level repeatable read
		B "" ""
		E ""` + again + `
		Q rollback`},
		story{name: "before others alter it, behind DDL in the pipeline", mode: "once", steps: create + describe + `
		@b
		Q alter table t%n% add b int
		@a
		P "" create table u%n%(a int)
		B "" ""
		E ""` + again + again},
		story{name: "before the pipeline alters it", mode: "once", steps: create + describe + `
		P "" alter table t%n% alter a type text
		B "" ""
		E ""` + again + again},
		story{name: "of a temporary table", mode: "once", steps: create + `
		Q create temp table t%n%(a int, b int)` + describe + `
		Q drop table pg_temp.t%n%` + again + `
		Q discard temp` + again},
		story{name: "before a temporary table hides it", mode: "once", steps: create + describe + `
		Q begin
		Q create temp table t%n%(a int, b int)` + again + `
		Q rollback` + again},
	)
	stage{change: []func(*config.Config){maxStatements(1)}}.tell(t, story{name: "that has just made room for another", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x')
		Q begin
		Q insert into t%n% values (2)` + describe + `
		P other insert into t%n% values (3)
		B "" other
		E ""
		S
		P "" set search_path = s%n%, public
		B "" ""
		E ""` + again + `
		Q rollback` + again}, story{name: "where no more are kept", mode: "once", steps: create + `
		Q create schema s%n% ;; create table s%n%.t%n%(a text) ;; insert into s%n%.t%n% values ('x')
		Q begin
		Q insert into t%n% values (2)` + describe + `
		Q commit
		Q begin
		Q set search_path = s%n%, public
		P "" insert into t%n% values ('y')
		B "" ""
		E ""` + again + `
		Q rollback` + again})
}

// TestToldUnseen: what was told of a statement holds against changes past the proxy, too, which the
// proxy learns of by a server's refusal.
func TestToldUnseen(t *testing.T) {
	database := newDatabase(t, "create table t(a int, b int); create table u(a int, b int); create table other(a int)")
	s := start(t, poolSize(2), eventual)
	a, b, busy := raw(t, s.addr, database), raw(t, s.addr, database), raw(t, s.addr, database)
	const primary = "/* pgweir:primary */ "
	say(a, "P t "+primary+"select * from t", "D S t", "P u "+primary+"select * from u", "D S u", "S", "wait")
	s.rest(t)
	busy.query("begin")
	busy.query("insert into other values (1)")
	run(t, database, "alter table t add c int; alter table u add c int")
	say(b, "P u "+primary+"select * from u", "D S u", "S", "wait")

	const two = " 00 00 00 00 00 00 02 00 01 00 01"
	if got := say(a, "raw B 00 74"+two, `E ""`, "S", "wait"); !strings.Contains(got, `0A000 "cached plan must not change result type"`) {
		t.Errorf("bound with the columns it was told of:\n%s", got)
	}
	also := raw(t, s.addr, database)
	also.query("begin")
	also.query("insert into other values (1)") // where b was told
	busy.query("rollback")
	if got := say(b, `B "" u`, `E ""`, "S", "wait"); !strings.Contains(got, "C SELECT 0") {
		t.Errorf("as it was told, over a connection that knows it with other columns:\n%s", got)
	}
}

// say has a client say the lines of a script, and returns what was said.
func say(c *rawConn, lines ...string) string {
	p := &player{t: c.t, conns: map[string]*rawConn{"a": c}, now: "a", out: map[string][]byte{}, due: map[string]int{}}
	for _, l := range lines {
		p.line(l)
	}
	return strings.Join(p.transcript, "\n")
}

// TestToldTypes: the values of a statement are taken for what its client was told that they are.
func TestToldTypes(t *testing.T) {
	database := newDatabase(t, "create table t(a int); create table other(a int)")
	s := start(t, poolSize(2), eventual)
	a, busy := raw(t, s.addr, database), raw(t, s.addr, database)
	say(a, "P s insert into t values ($1)", "D S s", "P w delete from t where a = $1 returning 1", "D S w", "S", "wait")
	busy.query("alter table t alter a type bigint")
	busy.query("begin")
	busy.query("insert into other values (1)") // on the connection that has prepared them
	const five = "00 01 00 01 00 01 00 00 00 04 00 00 00 05 00 00"
	for _, bind := range []string{"raw B 00 73 00 " + five, "raw B 00 77 00 " + five} {
		if got := say(a, bind, `E ""`, "S", "wait"); !strings.Contains(got, " 1\n") {
			t.Errorf("a value of the type it was told of:\n%s", got)
		}
	}
}
