package proxy_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/proxy"
)

// These tests think like somebody who wants a session to see what another one
// left behind, to run what should not have run, or to get the answers out of step.

// advSchema is what the tests run against.
const advSchema = `
create table t (id int primary key, v text);
insert into t values (1, 'one'), (2, 'two');
create schema tenant_a; create table tenant_a.t2 (v text); insert into tenant_a.t2 values ('secret of a');
create sequence s;
create table rls (org text); alter table rls enable row level security; alter table rls force row level security;
create policy p on rls using (org = current_setting('app.org', true)) with check (org = current_setting('app.org', true));
create role %ROLE%; grant all on rls, t to %ROLE%; grant usage on sequence s to %ROLE%;
create function sets() returns int language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return 1; end $$;
create function sets_stable() returns int stable language sql as $$ select 1 from set_config('search_path', 'tenant_a', false) $$;
create function sets_immutable(int) returns int immutable language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return 1; end $$;
create function locks() returns void language sql as $$ select pg_advisory_lock(42) $$;
create function temps() returns void language plpgsql as $$ begin create temp table tt as select 1 as x; end $$;
create function dyn(text) returns void language plpgsql as $$ begin execute $1; end $$;
create function quotedset() returns text language sql as $$ select pg_catalog . "set_config" /* x */ ('search_path', 'tenant_a', false) $$;
create function upd(t) returns text language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return 'x'; end $$;
create function trg() returns trigger language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return new; end $$;
create table trig (id int); create trigger a before insert on trig for each row execute function trg();
create table parent (id int primary key); create table child (id int references parent on delete cascade); insert into parent values (1); insert into child values (1);
create function trgd() returns trigger language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return old; end $$;
create trigger b before delete on child for each row execute function trgd();
create table def (id int, v text default set_config('search_path', 'tenant_a', false));
create table chk (id int check (sets_immutable(id) > 0));
create table gen (id int, g int generated always as (sets_immutable(id)) stored);
create table idx (id int); create index on idx (sets_immutable(id));
create table part (id int) partition by range (id); create table part1 partition of part for values from (0) to (10);
create trigger a before insert on part1 for each row execute function trg();
create view vw as select sets() as x from t;
create view vw2 as select * from vw;
create view vwlock as select pg_advisory_lock(42)::text as x;
create table pol (id int); insert into pol values (1); alter table pol enable row level security; alter table pol force row level security;
create policy p on pol using (sets() = 1); grant select on pol to %ROLE%; grant all on schema tenant_a to %ROLE%;
create view vwins as select id from t; create function io() returns trigger language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return null; end $$;
create trigger io instead of insert on vwins for each row execute function io();
create table ruled (id int); create rule r as on insert to ruled do also select sets();
create type pair as (a int, b int);
create function eqpair(pair, pair) returns boolean language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return true; end $$;
create operator === (leftarg = pair, rightarg = pair, function = eqpair);
create function eqany(t, t) returns boolean language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return true; end $$;
create operator = (leftarg = t, rightarg = t, function = eqany);
create domain dom as int check (sets_immutable(value) > 0);
create function topair(int) returns pair language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return null; end $$;
create cast (int as pair) with function topair(int);
create function aggs(int, int) returns int language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return 1; end $$;
create aggregate agg (int) (sfunc = aggs, stype = int, initcond = '0');
create function nextval(int) returns int language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return 1; end $$;
create function set_config(int, int, int) returns int language plpgsql as $$ begin perform pg_catalog.set_config('search_path', 'tenant_a', false); return 1; end $$;
create function current_setting(int) returns int language plpgsql as $$ begin perform pg_catalog.set_config('search_path', 'tenant_a', false); return 1; end $$;
create function pg_notify(int) returns int language plpgsql as $$ begin perform pg_catalog.set_config('search_path', 'tenant_a', false); return 1; end $$;
create function def_arg(x text default set_config('search_path', 'tenant_a', false)) returns text language sql as $$ select 'y' $$;
create function withset() returns text language sql set app.fn = 'v' as $$ select current_setting('app.fn') $$;
create procedure proc() language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); end $$;
create unlogged table unl (id int); create materialized view mat as select 1 as x;
create function polyf(anyelement) returns anyelement language plpgsql as $$ begin perform set_config('search_path', 'tenant_a', false); return $1; end $$;
create function before_stmt() returns trigger language plpgsql as $$ begin raise exception 'no copy today'; end $$;
create table nocopy (id int); create trigger a before insert on nocopy for each statement execute function before_stmt();
`

// advPlain is a database with nothing dangerous in it.
const advPlain = `create table t (id int primary key, v text); insert into t values (1, 'one'), (2, 'two'); create sequence s;
create table idx (id int)`

func advDatabase(t testing.TB) string {
	t.Helper()
	name := newDatabase(t, "")
	role := "role_" + name
	t.Cleanup(func() { run(t, name, "drop owned by "+role+"; drop role "+role) })
	run(t, name, strings.ReplaceAll(advSchema, "%ROLE%", role))
	return name
}

// oneEach is a proxy with one connection to one primary and to one replica.
func oneEach(t testing.TB, change ...func(*config.Config)) *service {
	t.Helper()
	return start(t, append([]func(*config.Config){func(c *config.Config) {
		c.Servers = c.Servers[:2]
		c.Pool.Size = 1
		c.Pool.AcquireTimeout = 5 * time.Second
		c.Routing.Consistency = "eventual"
	}}, change...)...)
}

// traces is what of a session another one must not meet.
const traces = `current_setting('search_path') || ' ' || current_setting('TimeZone') || ' ' || current_setting('work_mem') || ' ' ||
 coalesce(current_setting('app.x', true), 'null') || ' ' || current_user || ' locks ' ||
 (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) || ' temp ' ||
 (select count(*) from pg_class where relnamespace = pg_my_temp_schema()) || ' cursors ' || (select count(*) from pg_cursors) ||
 ' channels ' || (select count(*) from pg_listening_channels()) || ' prepared ' ||
 (select count(*) from pg_prepared_statements where name not like '\_pgweir\_%')`

// look is what a new session finds on both servers.
func (s *service) look(t testing.TB, database string) (primary, replica string) {
	t.Helper()
	r := raw(t, s.addr, database)
	defer r.close()
	return strings.Join(r.query("/* pgweir:primary */ select "+traces), "\n"), strings.Join(r.query("/* pgweir:replica */ select "+traces), "\n")
}

// extended sends a text as Parse, Bind, Execute.
func extended(sql string) []pgproto3.FrontendMessage {
	return []pgproto3.FrontendMessage{&pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Execute{}}
}

var (
	advSync  = &pgproto3.Sync{}
	advFlush = &pgproto3.Flush{}
)

// ext runs texts as one pipeline.
func (r *rawConn) ext(sqls ...string) []string {
	r.t.Helper()
	for _, sql := range sqls {
		r.send(extended(sql)...)
	}
	r.send(advSync)
	return r.wait("Z")
}

// TestNothingIsLeftBehind runs what leaves state in a session and looks whether
// the next one on the same connections meets it.
func TestNothingIsLeftBehind(t *testing.T) {
	db := advDatabase(t)
	s := oneEach(t)
	var one = map[string]func(r *rawConn){
		"bind, flush, execute": func(r *rawConn) {
			r.send(&pgproto3.Parse{Query: "select set_config('search_path', 'tenant_a', false)"}, &pgproto3.Bind{}, advFlush)
			r.wait("2")
			r.send(&pgproto3.Execute{}, advSync)
			r.wait("Z")
		},
		"bind, sync, execute in a transaction": func(r *rawConn) {
			r.query("begin")
			r.send(&pgproto3.Parse{Query: "select set_config('search_path', 'tenant_a', false)"}, &pgproto3.Bind{}, advSync)
			r.wait("Z")
			r.send(&pgproto3.Execute{}, advSync)
			r.wait("Z")
			r.query("commit")
		},
		"portal named twice": func(r *rawConn) {
			r.query("begin")
			r.send(&pgproto3.Parse{Query: "select pg_advisory_lock(7)"}, &pgproto3.Bind{DestinationPortal: "p"}, advSync)
			r.wait("Z")
			r.query("savepoint a")
			r.send(&pgproto3.Parse{Query: "select 1"}, &pgproto3.Bind{DestinationPortal: "p"}, advSync)
			r.wait("Z")
			r.query("rollback to a")
			r.send(&pgproto3.Execute{Portal: "p"}, advSync)
			r.wait("Z")
			r.query("commit")
		},
		"portal closed behind an error": func(r *rawConn) {
			r.query("begin")
			r.send(&pgproto3.Parse{Query: "select pg_advisory_lock(7)"}, &pgproto3.Bind{DestinationPortal: "p"}, advSync)
			r.wait("Z")
			r.query("savepoint a")
			r.send(&pgproto3.Parse{Query: "select bad"}, &pgproto3.Close{ObjectType: 'P', Name: "p"}, advSync)
			r.wait("Z")
			r.query("rollback to a")
			r.send(&pgproto3.Execute{Portal: "p"}, advSync)
			r.wait("Z")
			r.query("commit")
		},
		"execute with a setting": func(r *rawConn) {
			r.query("prepare a (text) as select $1")
			r.query("execute a(set_config('search_path', 'tenant_a', false))")
		},
		"execute a write with a lock": func(r *rawConn) {
			r.query("prepare a (text) as insert into t values (3, $1) on conflict do nothing")
			r.query("execute a(pg_advisory_lock(8)::text)")
		},
		"create temp table as execute": func(r *rawConn) {
			r.query("prepare a as select 1 as x")
			r.query("create temp table tt as execute a")
		},
		"create temp table as execute of a primary's": func(r *rawConn) {
			r.query("prepare a as select nextval('s'::regclass) as x")
			r.query("create temp table tt as execute a")
		},
		"explain analyze execute": func(r *rawConn) {
			r.query("prepare a (text) as select $1")
			r.query("explain analyze execute a(set_config('search_path', 'tenant_a', false))")
		},
		"reset all rolled back": func(r *rawConn) {
			r.query("begin")
			r.query("reset all")
			r.query("rollback")
		},
		"reset all in a failed pipeline": func(r *rawConn) { r.ext("reset all", "select 1/0") },
		"lock in a failed string":        func(r *rawConn) { r.query("select pg_advisory_lock(9); select 1/0; select pg_advisory_unlock_all()") },
		"listen in a string":             func(r *rawConn) { r.query("listen a; unlisten *; listen b") },
		"lock refused by a policy": func(r *rawConn) {
			r.query("set local role none")
			r.query("begin; set local role role_" + db + "; insert into rls values (pg_advisory_lock(10)::text)")
			r.query("rollback")
		},
		"lock refused at run time": func(r *rawConn) {
			r.query("insert into t select 5, set_config('no_such_setting_' || pg_advisory_lock(11)::text, 'x', false)")
		},
		"hinted to a replica, then moved": func(r *rawConn) {
			r.query("begin")
			r.query("/* pgweir:replica */ select locks()")
			r.query("insert into t values (30, 'x')")
			r.query("rollback")
		},
		"hinted to a replica, which refuses": func(r *rawConn) {
			r.query("/* pgweir:replica */ select locks(), dyn('create table no (i int)')")
		},
		"prepared then discarded": func(r *rawConn) { r.query("select 1; prepare zz as select 1") },
		"select into by name": func(r *rawConn) {
			r.query("create temp table first_one (i int); drop table first_one; select 1 as x into pg_temp.y")
		},
		"cursor with hold": func(r *rawConn) { r.query("declare c cursor with hold for select * from t") },
		"temp schema in the path": func(r *rawConn) {
			r.query("begin; set local search_path = pg_temp; create table hidden (i int); commit")
		},
		"function call": func(r *rawConn) {
			r.send(&pgproto3.FunctionCall{Function: 2880, ArgFormatCodes: []uint16{0}, Arguments: [][]byte{[]byte("12")}})
			r.wait("Z")
		},
	}
	for name, do := range one {
		t.Run(name, func(t *testing.T) {
			run(t, db, "create or replace function warm() returns int language sql as 'select 1'")
			wantP, wantR := s.look(t, db)
			var params []string
			if strings.HasPrefix(name, "reset") {
				params = []string{"search_path", "tenant_a"}
			}
			r := raw(t, s.addr, db, params...)
			do(r)
			r.close()
			gotP, gotR := s.look(t, db)
			if gotP != wantP {
				t.Errorf("primary:\n%s\nbefore:\n%s", gotP, wantP)
			}
			if gotR != wantR {
				t.Errorf("replica:\n%s\nbefore:\n%s", gotR, wantR)
			}
		})
	}
}

// TestFailedTransactionStaysFailed: what fails on a replica fails the transaction,
// whatever comes then.
func TestFailedTransactionStaysFailed(t *testing.T) {
	db := newDatabase(t, advPlain)
	s := oneEach(t)
	r := raw(t, s.addr, db)
	r.query("begin")
	r.query("select 1/0 from t")
	got := r.query("insert into t values (77, 'must not be')")
	if !strings.Contains(strings.Join(got, "\n"), "25P02") {
		t.Errorf("a write in a failed transaction: %v", got)
	}
	r.query("commit")
	if got := r.query("select count(*) from t where id = 77"); !slices.Contains(got, `D "0"`) {
		t.Errorf("%v", got)
	}
	r.query("begin")
	r.query("savepoint a")
	r.query("select 1/0 from t")
	r.query("rollback to a")
	if got := r.query("insert into t values (78, 'may be')"); !slices.Contains(got, "C INSERT 0 1") {
		t.Errorf("%v", got)
	}
	r.query("commit")
	if got := r.query("select count(*) from t where id = 78"); !slices.Contains(got, `D "1"`) {
		t.Errorf("%v", got)
	}
}

// same plays messages on the server and through the proxy, which must answer alike.
func (s *service) same(t *testing.T, db string, talk func(r *rawConn)) {
	t.Helper()
	cluster := shared(t)
	var all [2][]string
	for i, addr := range []string{cluster.Primary.Addr(), s.addr} {
		r := raw(t, addr, db)
		talk(r)
		r.query("select 'the end'")
		r.mu.Lock()
		all[i] = slices.Clone(r.lines[len(r.startup):])
		r.mu.Unlock()
		r.close()
	}
	if !slices.Equal(all[0], all[1]) {
		t.Errorf("the server said\n%s\nthe proxy\n%s", strings.Join(all[0], "\n"), strings.Join(all[1], "\n"))
	}
}

func TestAnswersStayInStep(t *testing.T) {
	db := advDatabase(t)
	s := oneEach(t)
	for name, talk := range map[string]func(r *rawConn){
		"own refusal behind rows": func(r *rawConn) {
			r.send(extended("select * from t order by 1")...)
			r.send(&pgproto3.Bind{PreparedStatement: "nope"}, advSync)
			r.wait("Z")
		},
		"own refusal behind a write": func(r *rawConn) {
			r.send(extended("update t set v = v")...)
			r.send(&pgproto3.Parse{Name: "x", Query: "select 1"}, &pgproto3.Parse{Name: "x", Query: "select 2"}, advSync)
			r.wait("Z")
		},
		"begin and a write in a pipeline": func(r *rawConn) { r.ext("begin", "update t set v = v", "commit") },
		"begin and an error in a pipeline": func(r *rawConn) {
			r.ext("begin", "select 1/0")
			r.ext("commit")
		},
		"prepare and change": func(r *rawConn) {
			r.send(&pgproto3.Parse{Name: "a", Query: "select 1"}, &pgproto3.Close{ObjectType: 'S', Name: "a"},
				&pgproto3.Parse{Name: "a", Query: "select bad"}, advSync)
			r.wait("Z")
			r.send(&pgproto3.Bind{PreparedStatement: "a"}, &pgproto3.Execute{}, advSync)
			r.wait("Z")
		},
		"begin read write": func(r *rawConn) {
			r.query("begin read write")
			r.query("select count(*) from t")
			r.query("commit")
		},
		"set transaction read write": func(r *rawConn) {
			r.query("begin")
			r.query("set transaction read write")
			r.query("select count(*) from t")
			r.query("insert into t values (99, 'x')")
			r.query("rollback")
		},
		"read only": func(r *rawConn) {
			r.query("begin read only")
			r.query("select count(*) from t")
			r.query("insert into t values (99, 'x')")
			r.query("rollback")
			r.query("begin read only")
			r.query("insert into t values (99, 'x')")
			r.query("select 1")
			r.query("commit")
		},
		"chain": func(r *rawConn) {
			r.query("begin isolation level repeatable read")
			r.query("commit and chain")
			r.query("show transaction_isolation")
			r.query("select count(*) from t")
			r.query("rollback and chain")
			r.query("show transaction_isolation")
			r.query("commit")
		},
	} {
		t.Run(name, func(t *testing.T) { s.same(t, db, talk) })
	}
}

// TestCopyRefusedAtOnce: a COPY that fails before it reads leaves nobody an answer too many.
func TestCopyRefusedAtOnce(t *testing.T) {
	db := advDatabase(t)
	s := oneEach(t)
	for range 5 {
		r := raw(t, s.addr, db)
		r.send(extended("copy nocopy from stdin")...)
		r.send(advSync)
		r.wait("E")
		r.send(&pgproto3.CopyDone{}, advSync)
		r.wait("Z")
		for _, want := range []string{"eins", "zwei", "drei"} {
			other := raw(t, s.addr, db)
			if got := other.query("/* pgweir:primary */ select '" + want + "'"); !slices.Contains(got, `D "`+want+`"`) {
				t.Errorf("asked for %s: %v", want, got)
			}
			other.close()
		}
		r.close()
	}
}

// TestCopyDataWithoutWaiting: a client need not wait for CopyInResponse.
func TestCopyDataWithoutWaiting(t *testing.T) {
	db := newDatabase(t, advPlain)
	s := oneEach(t)
	s.same(t, db, func(r *rawConn) {
		r.query("truncate idx")
		r.send(extended("copy idx from stdin")...)
		r.send(&pgproto3.CopyData{Data: []byte("1\n2\n")}, &pgproto3.CopyDone{}, advSync)
		r.wait("Z")
		r.query("/* pgweir:primary */ select count(*) from idx")
	})
}

// TestStatementsMeanWhatTheirSessionSays: statements are shared among sessions, but a
// literal is read under the settings of the one that prepared it.
func TestStatementsMeanWhatTheirSessionSays(t *testing.T) {
	db := advDatabase(t)
	s := oneEach(t)
	const text = "select extract(epoch from '2024-06-01 00:00'::timestamptz)::text"
	answer := func(zone string) string {
		r := raw(t, s.addr, db, "TimeZone", zone)
		defer r.close()
		r.send(&pgproto3.Parse{Name: "a", Query: text}, &pgproto3.Bind{PreparedStatement: "a"}, &pgproto3.Execute{}, advSync)
		got := r.wait("Z")
		for _, l := range got {
			if strings.HasPrefix(l, "D ") {
				return l
			}
		}
		t.Fatalf("%v", got)
		return ""
	}
	utc, tokyo, utcAgain := answer("UTC"), answer("Asia/Tokyo"), answer("UTC")
	if utc == tokyo || utc != utcAgain {
		t.Errorf("UTC %s, Tokyo %s, UTC %s", utc, tokyo, utcAgain)
	}
	r := raw(t, s.addr, db)
	r.query("begin")
	r.query("set local timezone = 'America/New_York'")
	r.send(&pgproto3.Parse{Name: "b", Query: text + "::text"}, &pgproto3.Bind{PreparedStatement: "b"}, &pgproto3.Execute{}, advSync)
	r.wait("Z")
	r.query("commit")
	r.close()
	r = raw(t, s.addr, db, "TimeZone", "UTC")
	r.query("begin")
	r.query("insert into t values (55, 'x')")
	r.send(&pgproto3.Parse{Name: "b", Query: text + "::text"}, &pgproto3.Bind{PreparedStatement: "b"}, &pgproto3.Execute{}, advSync)
	if got := r.wait("Z"); !slices.Contains(got, utc) {
		t.Errorf("after another session's SET LOCAL: %v, want %s", got, utc)
	}
	r.query("rollback")
}

// TestCurrvalIsNobodyElses: a session that drew no number must not be told another's.
func TestCurrvalIsNobodyElses(t *testing.T) {
	db := newDatabase(t, advPlain)
	s := oneEach(t)
	a, b := raw(t, s.addr, db), raw(t, s.addr, db)
	a.query("select nextval('s'::regclass)")
	for _, sql := range []string{"select currval('s'::regclass)", "select lastval()"} {
		if got := strings.Join(b.query(sql), "\n"); !strings.Contains(got, "55000") {
			t.Errorf("%s: %s", sql, got)
		}
		b.query("discard all")
	}
	b.query("begin")
	b.query("select nextval('s'::regclass)")
	if got := b.query("select currval('s'::regclass)"); !slices.Contains(got, `D "2"`) {
		t.Errorf("%v", got)
	}
	b.query("commit")
}

// TestResetAllKeepsStartupSettings: RESET ALL returns to what the session began with.
func TestResetAllKeepsStartupSettings(t *testing.T) {
	db := advDatabase(t)
	s := oneEach(t)
	r := raw(t, s.addr, db, "options", "-c app.org=7 -c search_path=tenant_a")
	for _, before := range []string{"select 1", "create temp table mine (i int)", "begin"} {
		r.query(before)
		r.query("reset all")
		if got := r.query("select current_setting('app.org', true), current_setting('search_path')"); !slices.Contains(got, `D "7" "tenant_a"`) {
			t.Errorf("after %s, reset all: %v", before, got)
		}
		r.query("rollback")
	}
}

// TestOpeningThatFails: when what was answered as BEGIN and SAVEPOINT fails on its
// server, nothing runs outside the transaction the client believes in.
func TestOpeningThatFails(t *testing.T) {
	cluster := shared(t)
	s := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := cluster.Exec(ctx, "create database latin encoding latin1 locale 'C' template template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run(t, "postgres", "drop database latin with (force)") })
	run(t, "latin", "create table t (id int)")
	for _, simple := range []bool{true, false} {
		r := raw(t, s.addr, "latin", "client_encoding", "utf8")
		r.query("begin")
		r.query("savepoint \"\u6f22\"") // Latin 1 has no such letter
		for range 2 {
			var got []string
			if simple {
				got = r.query("insert into t values (1)")
			} else {
				got = r.ext("insert into t values (1)")
			}
			if last := got[len(got)-1]; last != "Z E" {
				t.Errorf("%v", got)
			}
		}
		if got := r.query("commit"); !slices.Equal(got, []string{"C ROLLBACK", "Z I"}) {
			t.Errorf("%v", got)
		}
		if got := r.query("select count(*) from t"); !slices.Contains(got, `D "0"`) {
			t.Errorf("%v", got)
		}
		r.close()
	}
}

// TestRefusedQueriesEnd: a simple query the proxy refuses ends as any other does,
// wherever the session is.
func TestRefusedQueriesEnd(t *testing.T) {
	db := newDatabase(t, advPlain)
	s := oneEach(t)
	r := raw(t, s.addr, db)
	for _, before := range []string{"select 1", "begin", "begin; update t set v = v", "create temp table pinned (i int)"} {
		r.query(before)
		for _, bad := range []string{"execute nope", "set pgweir.route = nonsense", "deallocate nope"} {
			got := r.query(bad)
			if !strings.HasPrefix(got[0], "E ") || !strings.HasPrefix(got[len(got)-1], "Z ") {
				t.Errorf("after %s, %s: %v", before, bad, got)
			}
			if strings.HasPrefix(before, "begin") {
				r.query("rollback")
				r.query(before)
			}
		}
		r.query("rollback")
	}
}

// TestUnnamedStatementSurvives: a client may bind its unnamed statement long after it
// parsed it, whatever others did on the connection.
func TestUnnamedStatementSurvives(t *testing.T) {
	db := newDatabase(t, advPlain)
	s := oneEach(t)
	a, b := raw(t, s.addr, db, "work_mem", "5MB"), raw(t, s.addr, db, "work_mem", "6MB")
	for _, sql := range []string{"select count(*) from t", "update t set v = v where id = 1"} {
		a.send(&pgproto3.Parse{Query: sql}, advSync)
		a.wait("Z")
		b.send(&pgproto3.Parse{Name: "b" + sql, Query: sql}, &pgproto3.Bind{PreparedStatement: "b" + sql}, &pgproto3.Execute{}, advSync)
		b.wait("Z")
		a.send(&pgproto3.Bind{}, &pgproto3.Execute{}, advSync)
		if got := strings.Join(a.wait("Z"), " "); strings.Contains(got, "E ERROR") {
			t.Errorf("%s: %s", sql, got)
		}
	}
}

// TestLocalPortalGoesStale: what the proxy would have answered itself when it was
// bound must not be, once a server has the transaction.
func TestLocalPortalGoesStale(t *testing.T) {
	db := newDatabase(t, advPlain)
	s := oneEach(t)
	r := raw(t, s.addr, db)
	r.send(&pgproto3.Parse{Name: "w", Query: "insert into t values (500, 'x')"}, advSync)
	r.wait("Z")
	r.query("begin")
	r.send(&pgproto3.Parse{Query: "commit"}, &pgproto3.Bind{}, advSync)
	r.wait("Z")
	r.send(&pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "w"}, &pgproto3.Execute{Portal: "p"}, advSync)
	r.wait("Z")
	r.send(&pgproto3.Execute{}, advSync)
	got := r.wait("Z")
	r.query("rollback")
	count := r.query("/* pgweir:primary */ select count(*) from t where id = 500")
	if slices.Contains(got, "C COMMIT") != slices.Contains(count, `D "1"`) {
		t.Errorf("%v, and then %v", got, count)
	}
}

// TestManyClientsFewConnections sees that nobody waits for ever for a connection.
func TestManyClientsFewConnections(t *testing.T) {
	db := newDatabase(t, advPlain)
	s := oneEach(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 16)
	for i := range cap(done) {
		conn, err := pgconn.Connect(ctx, s.dsn(db))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer conn.Close(ctx)
			for range 20 {
				for _, sql := range []string{"begin", "select count(*) from t", "update t set v = v where id = 1", "select count(*) from t", "commit", "select 1 from t"} {
					if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
						done <- err
						return
					}
				}
			}
			done <- nil
		}()
		_ = i
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestHostileTexts runs texts that hide what they do, as a simple query and in the
// extended protocol, and looks at what the next session finds. What ran on the
// replica must not have been a refusal of it.
func TestHostileTexts(t *testing.T) {
	db := advDatabase(t)
	s := oneEach(t)
	data, err := os.ReadFile("testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	wantP, wantR := s.look(t, db)
	for _, sql := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		for _, simple := range []bool{true, false} {
			r := raw(t, s.addr, db)
			var got []string
			if simple {
				got = r.query(sql)
			} else {
				got = r.ext(sql)
			}
			r.query("rollback")
			r.close()
			if all := strings.Join(got, "\n"); strings.Contains(all, "25006") || strings.Contains(all, "recovery") {
				t.Errorf("%s: %s", sql, all)
			}
			if gotP, gotR := s.look(t, db); gotP != wantP || gotR != wantR {
				t.Errorf("%s (simple: %v):\n%s\nprimary:\n%s\nreplica:\n%s", sql, simple, strings.Join(got, "\n"), gotP, gotR)
			}
		}
	}
}

// TestBadLoginsCostNobodyTheirServers: without a service account the proxy borrows a
// client's login, but not one that no server accepts.
func TestBadLoginsCostNobodyTheirServers(t *testing.T) {
	db := newDatabase(t, advPlain)
	cluster := shared(t)
	cfg := config.Default()
	cfg.Listen = config.Addresses{freeAddress(t)}
	cfg.HTTP = ""
	cfg.Auth.Method = "trust"
	cfg.ServerTLS.Mode = "disable"
	cfg.Routing.MonitorInterval = 100 * time.Millisecond
	cfg.Routing.PrimaryWait = 3 * time.Second
	for _, s := range cluster.Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	server, err := proxy.New(cfg.Complete(), testLog(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s := &service{Server: server, addr: server.Addrs()[0].String()}
	bad := func() {
		if conn, err := pgconn.Connect(t.Context(), s.dsn("no_such_database")); err == nil {
			_ = conn.Close(t.Context())
			t.Error("logged in to a database that is not there")
		}
	}
	bad()
	r := raw(t, s.addr, db)
	r.query("update t set v = v")
	bad()
	// The probes' connections end: new ones must not be made with the bad login.
	run(t, "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgweir'")
	for range 20 {
		if got := r.query("update t set v = v"); !slices.Contains(got, "C UPDATE 2") {
			t.Fatalf("%v", got)
		}
		run(t, "postgres", "select pg_sleep(0.02)")
	}
	run(t, "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+db+"' and pid <> pg_backend_pid()")
	bad()
	if got := raw(t, s.addr, db).query("update t set v = v"); !slices.Contains(got, "C UPDATE 2") {
		t.Errorf("%v", got)
	}
}
