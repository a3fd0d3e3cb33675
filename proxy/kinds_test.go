package proxy_test

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
)

// TestBeforeAnyQuery: what must come before a transaction's first query may, whatever the
// proxy has to set first on the connection it comes to.
func TestBeforeAnyQuery(t *testing.T) {
	t.Parallel()
	others := "\n@b\nQ select set_config('app.current_org_id', 'b', false)\nQ select count(*) from items\n@a\n"
	declared := func(c *config.Config) { c.Tenant.Settings = []string{"app.current_org_id"} }
	for _, change := range [][]func(*config.Config){nil, {declared}} {
		stage{setup: items, change: change}.tell(t,
			story{name: "SET LOCAL, then a level", steps: others + "Q begin\nQ set local app.current_org_id = '4'\nQ set transaction isolation level serializable\nQ select count(*) from items\nQ commit"},
			story{name: "SET LOCAL of a name nobody knows, then a level", steps: others + "Q begin\nQ set local app.unknown%n% = '4'\nQ set transaction isolation level repeatable read\nQ select 1\nQ commit"},
			story{name: "a snapshot", steps: others + "Q begin isolation level repeatable read\nQ set transaction snapshot '00000000-00000000-1'\nQ rollback", mode: "once"},
			story{name: "a snapshot behind SET LOCAL", steps: others + "Q begin isolation level repeatable read\nQ set local app.current_org_id = 'it''s\\4'\nQ set transaction snapshot '00000000-00000000-1'\nQ rollback", mode: "once"},
			story{name: "SET outside a transaction, then a level", steps: others + "Q set app.current_org_id = '4' ;; set transaction isolation level serializable\nQ show transaction_isolation"},
			story{name: "a second BEGIN", steps: others + "Q begin\nQ set local app.current_org_id = '4'\nQ begin isolation level serializable\nQ select count(*) from items\nQ commit", mode: "once"},
		)
	}
}

// TestLevelBehindAQuery: a transaction that has run a query has run one, on whichever server.
func TestLevelBehindAQuery(t *testing.T) {
	t.Parallel()
	var all []story
	for _, sql := range []string{"listen a", "unlisten a", "notify a", "set default_transaction_read_only = on", "set role pg_monitor", "set search_path = public", "lock table items in access share mode", "savepoint s", "deallocate all",
		"prepare p%n% as insert into items values (1)", "set transaction read write", "show work_mem", "reset all", "load 'plpgsql'", "set session authorization default", "checkpoint", "set temp_buffers = 100", "close all", "discard plans", "select 1"} {
		for _, level := range []string{"set transaction isolation level serializable", "begin isolation level repeatable read"} {
			all = append(all, story{name: sql + ", " + level, steps: "Q begin\nQ select count(*) from items\nQ " + sql + "\nQ " + level + "\nQ rollback"})
		}
	}
	stage{setup: items}.tell(t, all...)
}

// TestPreparedAndExecutedAtOnce: PREPARE, EXECUTE and DEALLOCATE of one name in one pipeline.
func TestPreparedAndExecutedAtOnce(t *testing.T) {
	t.Parallel()
	stage{setup: items}.tell(t,
		story{name: "prepare, execute", steps: "Q prepare p%n% as select 1 ;; execute p%n%\nQ execute p%n%\nQ deallocate p%n%"},
		story{name: "deallocate, prepare, execute", mode: "once", steps: "Q prepare p%n% as select 1\n" +
			"P \"\" deallocate p%n%\nB \"\" \"\"\nE \"\"\nP \"\" prepare p%n% as select 2\nB \"\" \"\"\nE \"\"\nP \"\" execute p%n%\nB \"\" \"\"\nE \"\"\nS\nQ execute p%n%"},
		story{name: "prepare what fails behind it", steps: "Q prepare p%n% as select 1 ;; select 1/0\nQ execute p%n%"},
	)
}

// TestWhatFunctionsSetForThemselves: a function's own SET clause leaves the placeholder
// defined, and nothing else.
func TestWhatFunctionsSetForThemselves(t *testing.T) {
	t.Parallel()
	stage{setup: items + "create function fs() returns int language sql set app.a = '9' as 'select 1'; create function fsp() returns int language plpgsql set app.a = '9' as 'begin return 1; end'"}.tell(t,
		story{name: "sql", steps: "Q select fs()\nQ select current_setting('app.a', true)\n@b\nQ select current_setting('app.a', true)\n@a\nQ select fs()"},
		story{name: "plpgsql", steps: "Q select fsp()\nQ select current_setting('app.a', true)\n@b\nQ select current_setting('app.a', true)"},
		story{name: "with a value of the session's own", steps: "Q set app.a = 'mine'\nQ select fs()\nQ select current_setting('app.a', true)\n@b\nQ select current_setting('app.a', true)"},
	)
}

// TestRedefinedInBetween: a function that becomes another one is followed at once.
func TestRedefinedInBetween(t *testing.T) {
	t.Parallel()
	stage{setup: items}.tell(t,
		story{name: "clean, then it sets", mode: "outside", steps: "Q create function r%n%() returns text language sql as $$ select 'x' $$\nQ select r%n%()\nQ select r%n%()\n" +
			"Q create or replace function r%n%() returns text language sql as $$ select set_config('app.a', '2', false) $$\nQ select r%n%()\nQ select current_setting('app.a', true)\n@b\nQ select current_setting('app.a', true)"},
	)
}

// TestWhereItHadToStay: what ran on a replica, or was refused there, because the snapshot of
// its transaction is there, does not tie the session to it.
func TestWhereItHadToStay(t *testing.T) {
	t.Parallel()
	const fixed = "Q begin isolation level repeatable read read only\nQ select count(*) from def where s = -1\n"
	var all []story
	for name, sql := range map[string]string{
		"insert":          "insert into def (s) values (3)",
		"insert, CTE":     "with i as (insert into def (s) values (3) returning v) select * from i",
		"insert, opaque":  "insert into def (s, v) values (3, op('select 1'))",
		"update":          "update def set v = op('set app.a = ''u''')",
		"delete":          "delete from def where v = op('select pg_advisory_lock(1)::text')",
		"merge":           "merge into def using (select op('select 1') o) x on v = o when matched then delete",
		"locking":         "select op('select 1') from def for update",
		"explain analyze": "explain (analyze, costs off, timing off, summary off) insert into def (s) values (3)",
		"nextval":         "select nextval('sq')",
		"DDL":             "create table other%n% as select op('select 1')",
		"temporary":       "create temporary table other%n% as select op('select 1')",
		"comment":         "comment on table def is 'x'",
		"within":          "select op('insert into def (s) values (3)')",
		"DO":              "do $$ begin insert into def (s) values (3); end $$",
		"DO, reads":       "do $$ begin perform count(*) from def; end $$",
		"unknown":         "insert into nowhere%n% values (op('select 1'))",
		"prepare":         "prepare p%n% as insert into def (s) values (3)",
		"opaque":          "select op('select 1')",
		"opaque, sets":    "select op('set app.a = ''o''')",
		"opaque, local":   "select op('set local app.a = ''o''')",
		"opaque, usual":   "select op('set work_mem = ''5MB''')",
		"opaque, lock":    "select op('select pg_try_advisory_xact_lock_shared(1)')",
		"opaque, fails":   "select op('select 1/0')",
	} {
		for _, end := range []string{"rollback", "commit"} {
			all = append(all, story{name: name + ", " + end, mode: "outside", steps: "@c\nQ set app.a = 'c'\n@a\n" +
				"Q begin isolation level repeatable read read only\nQ select count(*) from def\nQ " + sql + "\nQ " + end +
				"\nQ select current_setting('app.a', true), current_setting('work_mem'), count(*) from def\nQ insert into def (s, v) values (4, 'x')\n@b\nQ select current_setting('app.a', true)\n" +
				"@a\nQ select current_setting('app.a', true), current_setting('work_mem')"})
		}
	}
	for name, sql := range map[string]string{
		"insert, opaque": "insert into def (s, v) values (3, op('select 1'))", "DDL": "create table other%n% as select op('select 1')",
		"locking": "select op('select 1') from def for update", "unknown": "select * from nowhere%n%",
		"copy in": "copy def from stdin", "unknown, copy in": "copy nowhere%n% from stdin",
	} {
		begin := "begin isolation level repeatable read read only"
		if strings.Contains(sql, "copy") {
			begin = "begin read only" // a standby's error is another
		}
		all = append(all, story{name: name + ", chain", mode: "outside", steps: "Q " + begin + "\nQ select count(*) from def\nQ " + sql +
			"\nQ commit and chain\nQ insert into def (s, v) values (4, 'x')\nQ show transaction_read_only\nQ rollback"})
	}
	all = append(all,
		story{name: "a snapshot and more", mode: "outside", steps: "Q begin isolation level repeatable read read only\nQ select count(*) from def where s = 9\n! insert into def (s, v) values (9, 'x')\n" +
			"Q select op('select 1')\nQ select count(*) from def where s = 9\nQ select op('select 1'), count(*) from def where s = 9\nQ commit\nQ delete from def where s = 9"},
		// What is left there is nobody else's, and is not lost to the next statement either.
		story{name: "a cursor with hold, in a chain", mode: "outside", steps: fixed + "Q declare h%n% cursor with hold for select 'secret'\nQ commit and chain\nQ select 1\nQ fetch h%n%\n" +
			"@b\nQ begin read only\nQ select 1\nQ fetch h%n%\nQ rollback\n@a\nQ close h%n%\nQ commit"},
		story{name: "a role behind a portal", mode: "once", steps: "Q begin read only\nP st select 1\nB p1 st\nE p1\nS\nwait\nQ select op('set role pg_monitor')\nQ select current_user\nC P p1\nS\nwait\n" +
			"Q select current_user\nQ commit\nQ select current_user\nQ reset role\n@b\nQ select current_user"},
		story{name: "a setting behind a portal", mode: "once", steps: "@c\nQ set app.a = 'c'\n@a\nQ begin read only\nP st select 1\nB p1 st\nE p1\nS\nwait\nQ select sa('x')\nC P p1\nS\nwait\n" +
			"Q select current_setting('app.a', true)\nQ commit\nQ select current_setting('app.a', true)"},
		story{name: "a chain behind opaque code", mode: "outside", steps: fixed + "Q select op('select 1')\nQ commit and chain\nQ select count(*) from def\nQ select sa('q')\nQ commit and chain\nQ select current_setting('app.a', true)\n" +
			"Q rollback\nQ select current_setting('app.a', true)\nQ insert into def (s, v) values (4, 'x')"},
		story{name: "a chain behind what is computed, and opaque code", mode: "outside", steps: "@c\nQ set app.a = 'c'\n@a\n" + fixed + "Q select set_config('app.a', (1 + 1)::text, false)\nQ commit and chain\nQ select op('select 1')\n" +
			"Q select current_setting('app.a', true)\nQ commit\nQ select current_setting('app.a', true)"},
		story{name: "a chain behind what is computed", mode: "outside", steps: fixed + "Q select set_config('app.a', (1 + 1)::text, false)\nQ commit and chain\nQ select current_setting('app.a', true), count(*) from def\n" +
			"Q rollback\nQ select current_setting('app.a', true)\nQ insert into def (s, v) values (4, 'x')"},
		story{name: "READ ONLY within a savepoint", mode: "outside", steps: "Q begin\nQ select count(*) from def\nQ savepoint s\nQ set transaction read only\nQ declare c cursor for select generate_series(1, 3)\n" +
			"Q rollback to s\nQ insert into def (s, v) values (-5, 'x')\nQ commit"},
		story{name: "a string in a failed transaction", mode: "outside", steps: "@c\nQ set app.a = 'c'\n@a\nQ set app.a = 'b'\n" + fixed + "Q declare c cursor for select generate_series(1, 9)\nQ select op('set app.a = ''o''')\nQ select 1/0\n" +
			"Q select sa('x') ;; delete from def where s = 3\nQ select 1 ;; rollback\nQ savepoint s ;; select 1\nQ rollback ;; select current_setting('app.a', true) ;; select 1\nQ select current_setting('app.a', true)\nQ insert into def (s, v) values (4, 'x')"},
		story{name: "a string in a failed transaction, which goes on with a write", mode: "outside", steps: fixed + "Q declare c cursor for select generate_series(1, 9)\nQ select 1/0\n" +
			"Q select 1 ;; delete from def where s = 3\nQ rollback ;; insert into def (s, v) values (4, 'x')"},
		story{name: "a string in a failed transaction, behind a chain", mode: "outside", steps: fixed + "Q select sa('x')\nQ commit and chain\nQ select count(*) from def\nQ select sa('y')\nQ select 1/0\nQ rollback and chain ;; select current_setting('app.a', true)\n" +
			"Q select current_setting('app.a', true)\nQ rollback\nQ select current_setting('app.a', true)"},
		story{name: "a string that returns to a savepoint", mode: "outside", steps: "Q set app.a = 'b'\n" + fixed + "Q declare c cursor for select generate_series(1, 9)\nQ fetch c\nQ savepoint s\nQ select 1/0\nQ rollback to s ;; fetch c\nQ select sa('q')\nQ savepoint s2\nQ select 1/0\n" +
			"Q rollback to s2 ;; select current_setting('app.a', true) ;; fetch c\nQ select 1/0\nQ rollback to s ;; select current_setting('app.a', true) ;; fetch c ;; insert into def (s, v) values (4, 'x')\nQ rollback to s ;; commit\nQ insert into def (s, v) values (4, 'x')"},
		story{name: "a string that returns to a savepoint, and may leave", mode: "outside", steps: "Q begin\nQ select count(*) from def where s = -1\nQ savepoint s\nQ select 1/0\nQ rollback to s ;; insert into def (s, v) values (4, 'x')\nQ commit"},
		story{name: "a pipeline that commits what is computed, and waits", mode: "once", steps: fixed + "P \"\" select set_config('app.a', (1 + 1)::text, false)\nB \"\" \"\"\nE \"\"\nP \"\" commit\nB \"\" \"\"\nE \"\"\nH\nwait C C\nS\nwait\n" +
			"Q select current_setting('app.a', true)\nQ insert into def (s, v) values (4, 'x')"},
		story{name: "a pipeline that commits what is computed, waits, and reads", mode: "once", steps: fixed + "P \"\" select sa('x')\nB \"\" \"\"\nE \"\"\nP \"\" commit\nB \"\" \"\"\nE \"\"\nH\nwait C C\nP \"\" select current_setting('app.a', true)\nB \"\" \"\"\nE \"\"\nS\nwait\n" +
			"Q select current_setting('app.a', true)\nQ insert into def (s, v) values (4, 'x')"},
		story{name: "a pipeline that commits what is opaque, waits, and reads", mode: "once", steps: fixed + "P \"\" select op('set app.a = ''o''')\nB \"\" \"\"\nE \"\"\nP \"\" commit\nB \"\" \"\"\nE \"\"\nH\nwait C C\nP \"\" select current_setting('app.a', true), count(*) from def\nB \"\" \"\"\nE \"\"\nH\nwait C\nS\nwait\n" +
			"Q select current_setting('app.a', true)\nQ insert into def (s, v) values (4, 'x')"},
		story{name: "a pipeline that commits, and is synchronized", mode: "once", steps: fixed + "Q set app.a = 'é' ;; select sa('y')\nP \"\" select set_config('app.a', (1 + 1)::text, false)\nB po \"\"\nE po\nP \"\" commit\nB \"\" \"\"\nE \"\"\nH\nS\nwait\n" +
			"Q select current_setting('app.a', true)\nQ insert into def (s, v) values (4, 'x')"},
		story{name: "a pipeline that commits what is set there, and is synchronized", mode: "once", steps: fixed + "Q set app.a = 'é'\nP \"\" select sa('x')\nB \"\" \"\"\nE \"\"\nP \"\" commit\nB \"\" \"\"\nE \"\"\nH\nS\nwait\n" +
			"Q select current_setting('app.a', true)\nQ insert into def (s, v) values (4, 'x')"},
		story{name: "a portal that nobody is sure of", mode: "once", steps: "Q begin read only\nP st select generate_series(1, 9)\nB p1 st\nE p1 2\nS\nwait\nQ savepoint s\nQ select 1/0\nQ rollback to s\nE p1 2\nS\nwait\n" +
			"Q commit\nQ select count(*) from def\nQ insert into def (s, v) values (4, 'x')"},
		story{name: "a function's cursor", mode: "outside", steps: "Q begin\nQ select count(*) from def where s = -1\nQ select rc('r1')\nQ fetch r1\nQ insert into def (s, v) values (4, 'x')\nQ fetch r1\nQ commit\n" +
			"Q begin read only\nQ select rc('r1')\nQ fetch r1\nQ select op('select 1')\nQ fetch r1\nQ commit"},
		story{name: "a portal, without a block", mode: "once", steps: "P st select generate_series(1, 9)\nB p1 st\nE p1 2\nH\nwait s\nP \"\" insert into def (s, v) values (4, 'x')\nB \"\" \"\"\nE \"\"\nH\nwait C\nE p1 2\nS\nwait"},
		story{name: "a path in a string, then a write", mode: "outside", steps: "Q begin ;; set local search_path = public, pg_catalog ;; select count(*) from def where s = -1\nQ select current_setting('search_path')\n" +
			"Q insert into def (s, v) values (4, 'x')\nQ select current_setting('search_path')\nQ commit"},
		story{name: "a computed setting in a string, then a write", mode: "outside", steps: "Q begin ;; select set_config('app.a', (1 + 1)::text, true) ;; select count(*) from def where s = -1\n" +
			"Q insert into def (s, v) values (4, 'x')\nQ select current_setting('app.a', true)\nQ commit"},
		story{name: "a portal with a limit", mode: "once", steps: "Q begin read only\nP \"\" select generate_series(1, 9)\nB \"\" \"\"\nE \"\" 2\nS\nwait\nP si select op('select 1')\nB p3 si\nE p3\nS\nwait\nE \"\" 2\nS\nwait\nQ commit"},
		story{name: "a cursor", mode: "outside", steps: "Q begin read only\nQ declare c cursor for select generate_series(1, 3)\nQ fetch c\nQ select op('select 1')\nQ fetch c\nQ commit"},
		story{name: "the end, and more", mode: "outside", steps: "@c\nQ set app.a = 'c'\n@a\nQ begin isolation level repeatable read read only\nQ select count(*) from def\nQ select op('set app.a = ''o''')\n" +
			"Q commit ;; select current_setting('app.a', true)\nQ select current_setting('app.a', true)"},
	)
	// Where transactions are SERIALIZABLE by default a standby is asked, and set, in others.
	const serializable = "@c\nQ set app.a = 'c'\n@a\nQ set default_transaction_isolation = serializable\n" + fixed
	all = append(all,
		story{name: "SERIALIZABLE by default, read back", mode: "outside", steps: serializable + "Q select op('set app.a = ''x''')\nQ commit\nQ select current_setting('app.a', true)"},
		story{name: "SERIALIZABLE by default, failed and in a chain", mode: "outside", steps: serializable + "Q insert into def (s) values (3)\nQ commit and chain\nQ select count(*) from def where s = -1\nQ show transaction_isolation\nQ commit"},
		story{name: "SERIALIZABLE by default, failed behind what is computed", mode: "outside", steps: "Q set app.a = 'mine'\n" + serializable + "Q select set_config('app.a', (1 + 1)::text, false)\nQ select 1/0\nQ rollback and chain\nQ select current_setting('app.a', true)\nQ commit\nQ select current_setting('app.a', true)"},
		story{name: "SERIALIZABLE by default, handed over", mode: "outside", steps: serializable + "Q commit\n@b\nQ set app.a = 'b'\nQ select count(*) from def where s = -1\nQ begin read only\nQ select 1\nQ commit\n@a\nQ select 1"},
		story{name: "SERIALIZABLE by default, and once more", mode: "outside", steps: serializable + "Q commit\n@b\nQ set default_transaction_isolation = serializable\nQ set default_transaction_read_only = on\n" +
			"Q set default_transaction_deferrable = on\n" + fixed + "Q commit\n@a\nQ set app.b = 'x'\n" + fixed + "Q select op('set app.a = ''x''')\nQ commit\nQ select current_setting('app.a', true)"},
	)
	const sets = "create function rc(c refcursor) returns refcursor language plpgsql stable as $$ begin open c for select generate_series(1, 3); return c; end $$;" +
		"create function sa(v text) returns text language sql as $$ select set_config('app.a', v, false) $$;"
	stage{setup: sets + "create sequence sq; create table def (s int, v text default set_config('app.a', 'by default', false));" +
		"create function op(q text) returns text language plpgsql as $$ begin execute q; return 'x'; end $$"}.tell(t, all...)
}

// TestPortalsOfOthers: what the proxy runs of its own is never in a client's portal, and takes none away.
func TestPortalsOfOthers(t *testing.T) {
	t.Parallel()
	const asks = "D P \"\"\nS\nwait\nE \"\"\nS\nwait\nC P \"\"\nE \"\"\nS\nwait\n"
	const suspended = "Q begin\nP \"\" select generate_series(1, 9)\nB \"\" \"\"\nE \"\" 2\nS\nwait\n"
	const more = "E \"\" 2\nS\nwait\n"
	var all []story
	for name, steps := range map[string]string{
		"none":              asks + "@b\nQ set app.a = 'x'\n" + asks + "Q select 1\n@a\n" + asks + "Q begin\n" + asks + "Q rollback",
		"none, and a Flush": "@b\nQ set app.a = 'x'\n@a\nE \"\"\nH\nwait E\nS\nwait\n@b\nE \"\"\nS\nwait",
		"opaque":            suspended + "P s select op('set app.a = ''x''')\nB p s\nE p\nS\nwait\n" + more + "P i insert into def (s) values (3)\nB q i\nE q\nS\nwait\n" + more + "Q commit",
		"sequences": "@b\nQ select nextval('sq') > 0\n@a\n" + suspended + "P s select nextval('sq') > 0\nB p s\nE p\nS\nwait\n" + more +
			"P u select lastval() > 0\nB q u\nE q\nS\nwait\n" + more + "Q commit",
		"once more": "P \"\" reset app.a\nB \"\" \"\"\nE \"\"\nE \"\"\nS\nwait\nQ begin\nP \"\" set app.a = 'x'\nB \"\" \"\"\nE \"\"\nS\nwait\nD P \"\"\nE \"\"\nS\nwait\nQ rollback\n" +
			"P \"\" \nB \"\" \"\"\nE \"\"\nE \"\"\nS\nwait\nP \"\" begin\nB \"\" \"\"\nE \"\"\nS\nwait\nE \"\"\nS\nwait\nQ rollback\nP \"\" set app.a = 'x'\nB \"\" \"\"\nE \"\"\nP \"\" select 1\nB \"\" \"\"\nE \"\"\nE \"\"\nS\nwait",
		"of a block that is opened": "Q begin\nP s select set_config('app.a', '7', false)\nB pq s\nE pq\nS\nwait\nE \"\"\nS\nwait\nQ rollback\nQ begin\nP s2 select 1\nD S s2\nS\nwait\nE \"\"\nS\nwait\nQ rollback",
		"answered by the proxy": "Q begin\nP \"\" select 1\nB \"\" \"\"\nE \"\"\nS\nwait\nQ deallocate all\nE \"\"\nS\nwait\nQ rollback\nQ begin\nP \"\" select 1\nB \"\" \"\"\nE \"\"\nS\nwait\n" +
			"P \"\" deallocate all\nB \"\" \"\"\nE \"\"\nS\nwait\nC P \"\"\nS\nwait\nE \"\"\nS\nwait\nQ rollback",
		"SQL-level prepared": "Q prepare q%n% as select 1\nP \"\" select generate_series(1, 9)\nB \"\" \"\"\nP e execute q%n%\nB p e\nE p\n" + more,
	} {
		all = append(all, story{name: name, mode: "once", steps: steps})
	}
	stage{setup: "create sequence sq; create table def (s int, v text);" +
		"create function op(q text) returns text language plpgsql as $$ begin execute q; return 'x'; end $$"}.tell(t, all...)
}

// TestNamedPortals: a named portal is where its transaction goes on, whatever it holds.
func TestNamedPortals(t *testing.T) {
	t.Parallel()
	portal := func(sql string) string { return "P \"\" " + sql + "\nB pq \"\"\nE pq\nS\nwait\n" }
	const begun, insert = "Q begin\nQ select count(*) from def\n", "Q insert into def (s) values (1)\n"
	sets := portal("select set_config('app.b', 'x', false), pg_catalog.set_config('app.s', 'Case', false)")
	var all []story
	for name, steps := range map[string]string{
		"that sets, and again":         begun + sets + "Q select count(*) from def\n" + portal("select 1") + "Q rollback",
		"that sets, at once":           "Q begin\n" + sets + "Q set app.c = 'x'\nQ select 1\n" + portal("select 1") + "Q rollback",
		"that sets, then a write":      begun + sets + insert + "E pq\nS\nwait\nQ commit",
		"of SAVEPOINT":                 begun + portal("savepoint a") + insert + "Q rollback to a\n" + portal("select 1") + "Q commit",
		"of COMMIT":                    begun + portal("commit") + insert,
		"of BEGIN, then a write":       portal("begin") + "Q select count(*) from def\n" + insert + "Q commit",
		"of BEGIN, and again":          portal("begin") + "Q select count(*) from def\n" + insert + portal("select 1") + "Q rollback",
		"of a read in READ ONLY":       "Q begin read only\n" + portal("select count(*) from def") + "Q set local app.b = 'y'\n" + portal("select 1") + "Q commit",
		"behind a failure, in a chain": "Q begin isolation level repeatable read read only\n" + portal("select count(*) from def") + "Q select 1/0\nQ rollback and chain\n" + insert + portal("select 1") + "Q commit",
		"in a chain":                   "Q begin read only\n" + portal("select count(*) from def") + "Q commit and chain\n" + portal("select 1") + "Q rollback",
		"of a setting in READ ONLY":    "Q begin read only\nQ select count(*) from def\n" + sets + insert + "Q commit",
	} {
		all = append(all, story{name: name, mode: "once", steps: steps})
	}
	stage{setup: "create table def (s int, v text)"}.tell(t, all...)
}

// TestPortalsAgain: a portal runs once, and one whose statement ends the transaction is gone then.
func TestPortalsAgain(t *testing.T) {
	t.Parallel()
	outside := map[string]string{"outside": ""}
	blocks := map[string]string{"in a block": "Q begin\n", "in one that has run": "Q begin\nQ select 1\n"}
	anywhere := map[string]string{}
	maps.Copy(anywhere, outside)
	maps.Copy(anywhere, blocks)
	var all []story
	for sql, where := range map[string]map[string]string{
		"begin": anywhere, "commit": anywhere, "rollback": anywhere, "commit and chain": blocks, "savepoint s": blocks, "set app.a = 'x'": anywhere, "set local app.a = 'y'": anywhere,
		"reset all": anywhere, "deallocate all": anywhere, "discard all": outside, "discard plans": anywhere, "show work_mem": anywhere, "select 1": anywhere, "listen a": anywhere, "unlisten *": anywhere,
	} {
		for begun, first := range where {
			for _, portal := range []string{`""`, "po"} {
				bind := first + "P \"\" " + sql + "\nB " + portal + " \"\"\nE " + portal + "\n"
				again := "E " + portal + "\n"
				all = append(all,
					story{name: sql + " " + begun + ", at once, " + portal, mode: "once", steps: bind + again + "S\nwait\n" + again + "S\nwait\nQ rollback"},
					story{name: sql + " " + begun + ", behind Flush, " + portal, mode: "once", steps: bind + "H\nwait C\n" + again + "P \"\" select 1\nB \"\" \"\"\nE \"\"\nS\nwait\nQ rollback"})
			}
		}
	}
	stage{}.tell(t, all...)
}

// TestSerializableByDefault: replicas of servers whose transactions are SERIALIZABLE unless they
// say otherwise serve those that do.
func TestSerializableByDefault(t *testing.T) {
	t.Parallel()
	cluster := pgtest.New(t, pgtest.Options{Replicas: 1, Conf: map[string]string{"default_transaction_isolation": "serializable"}})
	must(t, cluster.Exec(t.Context(), "create table def (s int); create function op(q text) returns text language plpgsql as $$ begin execute q; return 'x'; end $$"))
	must(t, cluster.WaitReplay(t.Context()))
	cfg := failoverConfig(t, cluster)
	cfg.Tenant.Settings = []string{"app.a"}
	s := startConfig(t, cfg)
	s.state(t, cluster.Replicas[0], "replica", "serving")
	conns, mode := []*pgx.Conn{s.connect(t, "postgres"), s.connect(t, "postgres")}, pgx.QueryExecModeSimpleProtocol
	const committed, repeatable = "begin isolation level read committed read only", "begin isolation level repeatable read read only"
	for i, tx := range [][2]string{{committed, "select 1"}, {repeatable, "select 1"}, {repeatable, "select op('select 1')"}, {repeatable, "select op('set app.a = ''x''')"}} {
		for k, c := range conns {
			a, b := fmt.Sprint(i, k), fmt.Sprint("b", i, k)
			exec(t, c, "set app.a = '"+a+"'", mode)
			exec(t, c, "set app.b = '"+b+"'", mode)
			exec(t, c, tx[0], mode)
			exec(t, c, "select count(*) from def", mode)
			require.Equal(t, a+b, valueOn(t, c, "select current_setting('app.a') || current_setting('app.b')"))
			exec(t, c, tx[1], mode)
			exec(t, c, "commit", mode)
			exec(t, c, "insert into def values (1)", mode)
		}
	}
	require.GreaterOrEqual(t, s.metric(t, "pgweir_statements_total", "target=replica"), 20.0)
}

// TestRefusedBehindALock: what a replica ran before it refused the rest of a statement, its planner, or for the
// parameters of an EXECUTE, may have left something there.
func TestRefusedBehindALock(t *testing.T) {
	t.Parallel()
	s := start(t, eventual)
	body := "(q text) returns text language plpgsql as $$ begin execute q; return 'x'; end $$"
	db := newDatabase(t, "create sequence sq; create table def (s int, v text); insert into def values (1, 'x'); create function op"+body+" volatile; create function st"+body+" stable")
	locks := func() (n int) {
		for _, r := range shared(t).Replicas {
			v, err := r.Value(t.Context(), db, "select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())")
			must(t, err)
			i, err := strconv.Atoi(v)
			must(t, err)
			n += i
		}
		return n
	}
	for _, sql := range []string{
		"select op('select pg_advisory_lock_shared(1)'), nextval('sq')", "select op('select pg_advisory_lock_shared(2)'), op('select nextval(''sq'')')",
		"execute p(op('select pg_advisory_lock_shared(3)'))", "explain analyze execute p(op('select pg_advisory_lock_shared(4)'))",
		"delete from def where v = st('select pg_advisory_lock_shared(5)')", "select * from def where v = st('select pg_advisory_lock_shared(6)') for update",
	} {
		c := raw(t, s.addr, db)
		for _, before := range []string{"prepare p (text) as insert into def values (2, $1)", "begin isolation level repeatable read read only", "select count(*) from def"} {
			c.query(before)
		}
		require.Contains(t, strings.Join(c.query(sql), "\n"), "25006", sql)
		c.query("rollback")
		c.close()
		until(t, "no lock is left behind "+sql, func() bool { return locks() == 0 })
	}
}

// TestLockOnAReplica: an advisory lock is never taken where nobody else looks for it.
func TestLockOnAReplica(t *testing.T) {
	t.Parallel()
	s := start(t, eventual)
	db := newDatabase(t, "create table def (s int)")
	conn, mode := s.connect(t, db), pgx.QueryExecModeSimpleProtocol
	for _, lock := range []string{"select pg_advisory_lock(1)", "select pg_try_advisory_xact_lock(1)", "select 1; select pg_advisory_xact_lock(1)"} {
		exec(t, conn, "begin isolation level repeatable read read only", mode)
		exec(t, conn, "select count(*) from def", mode)
		_, err := conn.Exec(t.Context(), lock, mode)
		require.Equal(t, "25006", wantCode(err), lock)
		_, err = conn.Exec(t.Context(), "select 1", mode)
		require.Equal(t, "25P02", wantCode(err), lock)
		exec(t, conn, "rollback", mode)
		exec(t, conn, "begin isolation level repeatable read read only", mode)
		exec(t, conn, "set local pgweir.route = primary", mode)
		exec(t, conn, "select count(*) from def", mode)
		exec(t, conn, lock, mode)
		exec(t, conn, "commit", mode)
		exec(t, conn, "select pg_advisory_unlock_all()", mode)
	}
}
