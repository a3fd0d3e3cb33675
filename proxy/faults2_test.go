package proxy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
)

const items = `
create table items (id int, v text); insert into items select i, 'x' from generate_series(1, 5) i;
create table w (a int); create sequence sq;
create function writes() returns int language sql as $$ insert into w values (1) returning a $$;
create function f_set(n text, v text, l boolean) returns text language plpgsql as $$ begin return set_config(n, v, l); end $$;
grant all on schema public to public; grant all on items, w to public; grant all on sequence sq to public;
`

// TestTransactionModesAreTheResultingOnes: of what BEGIN and SET TRANSACTION say in any
// order, what results counts, on whichever server.
func TestTransactionModesAreTheResultingOnes(t *testing.T) {
	t.Parallel()
	others := "\n\t\t@b\n\t\tQ select 'b'\n\t\t@c\n\t\tQ select count(*) from items\n\t\t@d\n\t\tQ insert into w values (1)\n\t\t@e\n\t\tQ select 'e' from items limit 1"
	tx := func(begin string, more ...string) string {
		steps := "Q " + begin
		for _, m := range more {
			steps += "\n\t\tQ " + m
		}
		return steps + "\n\t\tQ select 1\n\t\tQ show transaction_isolation\n\t\tQ show transaction_read_only\n\t\tQ select count(*) from items\n\t\tQ insert into w values (1)\n\t\tQ commit" + others
	}
	stage{setup: items}.tell(t,
		story{name: "serializable by default, less by BEGIN", steps: "Q set default_transaction_isolation = 'serializable'\nQ begin isolation level read committed\nQ select 1\nQ commit\nQ select 1" + others},
		story{name: "serializable by default", steps: "Q set default_transaction_isolation = 'serializable'\nQ select 1\nQ select count(*) from items\nQ insert into w values (1)" + others},
		story{name: "serializable by default, read only", steps: "Q set session characteristics as transaction isolation level serializable, read only, deferrable\nQ select count(*) from items\nQ insert into w values (1)" + others},
		story{name: "serializable at startup", startup: []string{"options", "-c default_transaction_isolation=serializable"}, steps: "Q select 1\nQ begin isolation level repeatable read\nQ select 1\nQ commit\nQ reset all\nQ select 1" + others},
		story{name: "read only by default", steps: "Q set default_transaction_read_only = on\nQ select 1\nQ insert into w values (1)\nQ begin read write\nQ insert into w values (1)\nQ commit" + others},
		story{name: "read only at startup", startup: []string{"options", "-c default_transaction_read_only=on"}, steps: "Q begin\nQ select 1\nQ set transaction read write\nQ commit\nQ begin\nQ set transaction read write\nQ insert into w values (1)\nQ commit" + others},
		story{name: "READ WRITE, then READ ONLY", steps: tx("begin", "set transaction read write", "set transaction read only")},
		story{name: "BEGIN READ WRITE, then READ ONLY", steps: tx("begin read write", "set transaction read only")},
		story{name: "both in BEGIN", steps: tx("begin read write, read only")},
		story{name: "both in BEGIN, the other way", steps: tx("begin read only, read write")},
		story{name: "READ ONLY, then READ WRITE", steps: tx("begin read only", "set transaction read write")},
		story{name: "SERIALIZABLE, then REPEATABLE READ", steps: tx("begin isolation level serializable", "set transaction isolation level repeatable read, read only")},
		story{name: "two levels in BEGIN", steps: tx("begin isolation level serializable, isolation level read committed")},
		story{name: "a second BEGIN", steps: tx("begin", "begin read only")},
		story{name: "a second BEGIN, serializable", steps: tx("begin", "begin isolation level serializable")},
		story{name: "a second BEGIN behind a query", steps: tx("begin", "select count(*) from items", "begin read only")},
		story{name: "a second BEGIN, READ WRITE behind a query", steps: tx("begin read only", "select count(*) from items", "begin read write")},
		story{name: "a second START TRANSACTION", steps: tx("begin", "select count(*) from items", "start transaction isolation level repeatable read")},
		story{name: "SET TRANSACTION in a savepoint, undone", steps: tx("begin", "savepoint s", "set transaction read only", "rollback to s")},
		story{name: "SET TRANSACTION in a savepoint", steps: tx("begin", "savepoint s", "set transaction read only", "release s")},
		story{name: "READ WRITE in a savepoint of READ ONLY", steps: tx("begin read only", "savepoint s", "set transaction read write", "rollback to s")},
		story{name: "transaction_read_only", steps: tx("begin", "set transaction_read_only = on", "set transaction_isolation = 'repeatable read'")},
		story{name: "transaction_read_only by set_config", steps: tx("begin", "select set_config('transaction_read_only', 'on', true)")},
		story{name: "AND CHAIN", steps: "Q begin isolation level repeatable read, read only\nQ select 1\nQ commit and chain\nQ show transaction_isolation\nQ insert into w values (1)\nQ rollback and chain\nQ select count(*) from items\nQ commit" + others},
		story{name: "AND CHAIN of what SET TRANSACTION said", steps: "Q begin\nQ set transaction isolation level serializable\nQ set transaction isolation level repeatable read\nQ commit and chain\nQ show transaction_isolation\nQ select count(*) from items\nQ commit" + others},
		story{name: "deferrable", steps: tx("begin isolation level serializable read only deferrable", "set transaction not deferrable")},
		story{name: "one string", steps: "Q begin read write ;; set transaction read only ;; select 1 ;; commit\nQ begin ;; select count(*) from items ;; begin read only ;; insert into w values (1) ;; commit\nQ commit" + others},
		story{name: "BEGIN in one string, the rest alone", steps: "Q begin ;; select count(*) from items\nQ begin read only\nQ insert into w values (1)\nQ commit" + others},
		story{name: "READ WRITE again and again", steps: "Q begin read write\nQ select 1\nQ commit\nQ begin read write\nQ select 1\nQ insert into w values (1)\nQ commit\nQ begin read write\nQ rollback" + others},
	)
}

// TestBehindAFailedTransaction: what comes behind the end of a failed transaction, in the
// same string or pipeline, runs.
func TestBehindAFailedTransaction(t *testing.T) {
	t.Parallel()
	failed := func(first string, then ...string) string {
		steps := first
		for _, s := range then {
			steps += "\n\t\tQ " + s
		}
		return steps + "\n\t\tQ select 1\n\t\tQ select count(*) from items\n\t\t@b\n\t\tQ select 'b'"
	}
	onReplica, onPrimary := "Q begin\nQ select 1/0", "Q begin\nQ insert into w values (1)\nQ select 1/0"
	var all []story
	for name, first := range map[string]string{"a read failed": onReplica, "a write failed": onPrimary, "nothing reached a server": "Q begin\nP \"\" nonsense\nS", "a read behind a savepoint": "Q begin\nQ savepoint s\nQ select 1/0 from items"} {
		all = append(all,
			story{name: name + ", ROLLBACK and a write", steps: failed(first, "rollback ;; insert into w values (1)")},
			story{name: name + ", COMMIT and a write", steps: failed(first, "commit ;; insert into w values (1)")},
			story{name: name + ", END and two writes", steps: failed(first, "end ;; insert into w values (1) ;; insert into w values (2) returning a")},
			story{name: name + ", ROLLBACK and a function that sets", steps: failed(first, "rollback ;; select f_set('app.a', '1', false)", "select current_setting('app.a', true)")},
			story{name: name + ", ROLLBACK and SET", steps: failed(first, "rollback ;; set app.a = '1'", "select current_setting('app.a', true)")},
			story{name: name + ", ROLLBACK and BEGIN", steps: failed(first, "rollback ;; begin ;; insert into w values (1)", "commit")},
			story{name: name + ", ROLLBACK AND CHAIN and a write", steps: failed(first, "rollback and chain ;; insert into w values (1)", "commit")},
			story{name: name + ", ROLLBACK and a read", steps: failed(first, "rollback ;; select count(*) from items")},
			story{name: name + ", ROLLBACK and a temporary table", steps: failed(first, "rollback ;; create temp table tt (a int) ;; insert into tt values (1)", "select count(*) from tt")},
			story{name: name + ", a write, then ROLLBACK", steps: failed(first, "insert into w values (1) ;; rollback", "rollback")},
			story{name: name + ", ABORT and nextval", steps: failed(first, "abort ;; select nextval('sq') > 0")},
		)
	}
	stage{setup: items}.tell(t, all...)
}

// TestResetOfStartupSettings: RESET in any form and place returns to what the startup
// packet said. In a block with which a server has to do already, NULL to set_config does not (docs/settings.md): whether SET
// in a block needs one depends on what was learned of the setting before, and so on the stories before.
func TestResetOfStartupSettings(t *testing.T) {
	var all []story
	look := "\n\t\tQ select current_setting('app.current_org_id', true), current_setting('search_path')\n\t\tQ select current_setting('app.current_org_id', true) from items limit 1"
	for _, steps := range []string{
		"select set_config('app.current_org_id', NULL, false)", "select set_config('search_path', NULL, false)", "select set_config('app.current_org_id', NULL, true)",
		"set app.current_org_id = 5\nselect set_config('app.current_org_id', NULL, false)",
		"reset app.current_org_id ;; select current_setting('app.current_org_id', true)", "reset app.current_org_id ;; insert into w values (1)",
		"reset all ;; reset role", "reset all ;; select current_setting('search_path')", "reset all", "discard all",
		"do $$ begin reset all; end $$", "do $$ begin reset app.current_org_id; end $$", "do $$ begin execute 'reset search_path'; end $$",
		"set search_path = public ;; reset search_path ;; select current_setting('search_path')", "set search_path = public ;; reset search_path",
		"set search_path to default ;; select current_setting('search_path')", "set local search_path to default ;; select current_setting('search_path')",
		"select f_set('app.current_org_id', null, false)", "select f_resets()", "select f_resets() ;; select current_setting('search_path')",
		"set app.current_org_id = '7' ;; reset app.current_org_id ;; select current_setting('app.current_org_id', true) ;; select 1/0",
		"set app.current_org_id = '7'\nreset app.current_org_id ;; select 1/0",
		"set app.current_org_id = '7'\nreset all ;; set app.a = '1' ;; select current_setting('app.current_org_id', true)",
		"begin ;; reset app.current_org_id ;; select current_setting('app.current_org_id', true) ;; commit",
		"begin ;; set local app.current_org_id = '8' ;; reset app.current_org_id ;; select current_setting('app.current_org_id', true) ;; rollback",
		"reset session authorization ;; select current_setting('search_path')", "select set_config('app.current_org_id', NULL, false), set_config('search_path', NULL, false)",
		"insert into w values (1) ;; reset app.current_org_id ;; insert into w values (coalesce(current_setting('app.current_org_id', true), '0')::int)",
		"set app.current_org_id = '7'\nset local app.current_org_id = '2' ;; reset all", "set app.current_org_id = '7'\nset local app.current_org_id = '2' ;; select 1 ;; reset all",
		"set app.current_org_id = '7'\nset local app.current_org_id = '2'\nreset all", "set app.current_org_id = '7'\nset local app.current_org_id to default\nreset all", "set search_path = public\nselect set_config('search_path', 's2', true)\nreset all",
		"set app.current_org_id to default ;; select 1", "set timezone = 'Asia/Tokyo' ;; reset timezone ;; show timezone",
	} {
		v := story{name: steps, startup: []string{"options", "-c app.current_org_id=2 -c search_path=s2", "TimeZone", "Asia/Riyadh"}}
		for _, line := range splitLines(steps) {
			v.steps += "\nQ " + line
		}
		v.steps += look
		if steps == "discard all" {
			v.mode = "outside"
		}
		all = append(all, v)
	}
	all = append(all, story{name: "bound NULL", startup: []string{"options", "-c app.current_org_id=2"}, steps: "P \"\" select set_config('app.current_org_id', $1, false)\nB \"\" \"\" null\nE \"\"\nS" + look},
		story{name: "behind a Flush", startup: []string{"options", "-c app.current_org_id=2"}, steps: "P \"\" set local app.current_org_id to default\nB \"\" \"\"\nE \"\"\nH\nP \"\" select current_setting('app.current_org_id', true)\nB \"\" \"\"\nE \"\"\nS" + look},
		story{name: "RESET behind a write and a Flush", mode: "outside", startup: []string{"options", "-c app.current_org_id=2"}, steps: "P \"\" insert into w values (1)\nB \"\" \"\"\nE \"\"\nH\nP \"\" reset app.current_org_id\nB \"\" \"\"\nE \"\"\nS" + look},
		story{name: "RESET behind a read and a Flush", mode: "outside", startup: []string{"options", "-c app.current_org_id=2"}, steps: "P \"\" select 1\nB \"\" \"\"\nE \"\"\nH\nP \"\" reset app.current_org_id\nB \"\" \"\"\nE \"\"\nS" + look},
		story{name: "RESET ALL behind a write and a Flush", mode: "outside", startup: []string{"options", "-c app.current_org_id=2"}, steps: "P \"\" insert into w values (1)\nB \"\" \"\"\nE \"\"\nH\nP \"\" reset all\nB \"\" \"\"\nE \"\"\nS" + look},
		story{name: "RESET ALL behind a read and a Flush", mode: "outside", startup: []string{"options", "-c app.current_org_id=2"}, steps: "P \"\" select 1\nB \"\" \"\"\nE \"\"\nH\nP \"\" reset all\nB \"\" \"\"\nE \"\"\nS" + look},
		story{name: "DISCARD ALL before a Parse", mode: "outside", startup: []string{"options", "-c search_path=s2"}, steps: "P \"\" discard all\nB \"\" \"\"\nE \"\"\nP p select * from there\nD S p\nS\nB \"\" p\nE \"\"\nS"},
		story{name: "RESET before a Parse", mode: "outside", startup: []string{"options", "-c search_path=s2"}, steps: "Q set search_path = public\nP \"\" reset search_path\nB \"\" \"\"\nE \"\"\nP p select * from there\nD S p\nS\nB \"\" p\nE \"\"\nS"},
		story{name: "bound name and NULL", startup: []string{"options", "-c app.current_org_id=2"}, steps: "P \"\" select set_config($1, $2, false)\nB \"\" \"\" app.current_org_id null\nE \"\"\nS" + look},
		story{name: "prepared RESET", startup: []string{"options", "-c app.current_org_id=2"}, steps: "P r reset app.current_org_id\nS\nQ set app.current_org_id = 3\nB \"\" r\nE \"\"\nS" + look})
	stage{every: true, setup: items + "create schema s2; grant all on schema s2 to public; create function f_resets() returns void language plpgsql as $$ begin reset all; end $$;\n" +
		"create table s2.there (a serial); create table s2.items (like items); insert into s2.items values (1, 'y'); create table s2.w (a int); " +
		"create function s2.f_set(n text, v text, l boolean) returns text language plpgsql as $$ begin return set_config(n, v, l); end $$;\n" +
		"create function s2.f_resets() returns void language plpgsql as $$ begin reset all; end $$;"}.tell(t, all...)
}

// TestIsolationIsSetBeforeAnyQuery: SET TRANSACTION counts from what the client ran, not
// from what the proxy did.
func TestIsolationIsSetBeforeAnyQuery(t *testing.T) {
	t.Parallel()
	level := "set transaction isolation level repeatable read"
	stage{setup: items}.tell(t,
		story{name: "outside a transaction", mode: "outside", steps: "Q set app.current_org_id = '1' ;; " + level + " ;; select f_set('app.a', '1', false)"},
		story{name: "outside, behind SET of what is carried", mode: "outside", steps: "Q set app.a = '1'\nQ set app.a = '2' ;; " + level + " ;; insert into w values (1)"},
		story{name: "outside, first", mode: "outside", steps: "Q set app.a = '1'\nQ " + level + " ;; insert into w values (1) ;; show transaction_isolation"},
		story{name: "outside, alone", mode: "outside", steps: "Q set app.a = '1'\nQ " + level + "\nQ show transaction_isolation"},
		story{name: "outside, with another session's settings there", mode: "outside", steps: "@b\nQ set app.a = 'b'\nQ select 1\n@a\nQ set app.current_org_id = '1' ;; " + level + " ;; insert into w values (1)"},
		story{name: "in a block behind SET", steps: "Q begin\nQ set app.a = '1'\nQ " + level + "\nQ insert into w values (1)\nQ show transaction_isolation\nQ commit"},
		story{name: "in a block behind SET LOCAL", steps: "Q begin\nQ set local app.a = '1'\nQ " + level + "\nQ select count(*) from items\nQ show transaction_isolation\nQ insert into w values (1)\nQ commit"},
		story{name: "in a block behind set_config", steps: "Q begin\nQ select set_config('app.a', '1', true)\nQ " + level + "\nQ insert into w values (1)\nQ commit"},
		story{name: "behind a query, then a setting function", steps: "Q begin\nQ select * from items\nQ " + level + " ;; select set_config('app.a', '1', false)\nQ commit"},
		story{name: "behind a query, bound", steps: "Q begin\nQ select * from items\nP \"\" " + level + "\nB \"\" \"\"\nE \"\"\nP \"\" select set_config($1,$2,$3)\nB \"\" \"\" app.a 1 f\nE \"\"\nS\nQ commit"},
		story{name: "behind a query, alone", steps: "Q begin\nQ select * from items\nQ " + level + "\nQ commit"},
		story{name: "behind a query, then a write", steps: "Q begin\nQ select * from items\nQ " + level + " ;; insert into w values (1)\nQ commit"},
		story{name: "behind a query, in a savepoint", steps: "Q begin\nQ savepoint s\nQ select * from items\nQ " + level + "\nQ rollback to s\nQ " + level + "\nQ insert into w values (1)\nQ commit"},
		story{name: "in a savepoint", steps: "Q begin\nQ savepoint s\nQ " + level + "\nQ insert into w values (1)\nQ commit"},
		story{name: "behind SHOW", steps: "Q begin\nQ show timezone\nQ " + level + "\nQ insert into w values (1)\nQ show transaction_isolation\nQ commit"},
		story{name: "behind an empty query", steps: "Q begin\nQ \nQ " + level + "\nQ insert into w values (1)\nQ commit"},
		story{name: "behind a query that a BEGIN makes a part of its block", steps: "Q select count(*) from items ;; begin\nQ set transaction isolation level serializable\nQ commit"},
		story{name: "behind a query that was committed", steps: "Q select count(*) from items ;; commit ;; begin\nQ set transaction isolation level serializable\nQ select 1\nQ commit"},
		story{name: "behind a query and a BEGIN, by default", mode: "outside", steps: "Q set default_transaction_isolation = 'repeatable read'\nQ select count(*) from items ;; begin\nQ " + level + "\nQ insert into w values (1)\nQ commit"},
		story{name: "snapshot", steps: "Q begin isolation level repeatable read\nQ select count(*) from items\nQ set transaction snapshot '00000003-0000001B-1'\nQ commit"},
	)
}

// TestSnapshotsFollowLocks: a transaction that locks first sees what was committed before it had
// the lock, whatever the proxy has its connection assert.
// https://www.postgresql.org/docs/current/sql-lock.html
func TestSnapshotsFollowLocks(t *testing.T) {
	t.Parallel()
	tenants := func(c *config.Config) { c.Tenant.Settings = []string{"app.current_org_id"} }
	others := "Q set app.current_org_id = '1'\nQ insert into w values (1)\n@b\nQ set app.current_org_id = '1'\nQ insert into w values (2)\n@a\n" // the same: nothing has to be set, only asserted
	var all []story
	for name, first := range map[string]string{"LOCK": "lock table w in share mode", "NOTIFY": "notify ch", "SET CONSTRAINTS": "set constraints all deferred", "SHOW": "show work_mem"} {
		all = append(all,
			story{name: name, mode: "outside", steps: others + "Q begin isolation level repeatable read\nQ " + first + "\n! insert into items values (100, 'late')\nQ select count(*) from items\nQ commit"},
			story{name: name + ", then SET TRANSACTION", mode: "outside", steps: others + "Q begin\nQ " + first + "\nQ set transaction isolation level serializable\nQ show transaction_isolation\nQ insert into w values (4)\nQ commit"})
	}
	stage{setup: items, change: []func(*config.Config){tenants}}.tell(t, all...)
}

// TestSettingsTheServerMayRefuse: a SET that a server could refuse is refused when it is said.
func TestSettingsTheServerMayRefuse(t *testing.T) {
	then := "\n\t\tQ select 1\n\t\tQ select count(*) from items\n\t\tQ insert into w values (1)\n\t\tQ reset all\n\t\tQ select 1\n\t\t@b\n\t\tQ select 1"
	g := stage{once: "create role %ROLE% login", user: "%ROLE%", setup: items + "create function pl() returns int language plpgsql as $$ begin return 1; end $$; "}
	var all []story
	for loaded, load := range map[string]string{"": "", "code ran, ": "Q select pl()\n\t\t"} {
		for _, set := range []string{"set plpgsql.variable_conflict = 'error'", "set plpgsql.extra_warnings = 'all'", "set plpgsql.check_asserts = off", "set plpgsql.nonsense = 1", "set plpgsql.check_asserts = maybe",
			"select set_config('plpgsql.variable_conflict', 'error', false)", "set auto_explain.log_analyze = on", "set session_preload_libraries = 'x'", "set log_statement = 'all'", "set pg_stat_statements.track = 'all'",
			"set session authorization postgres", "set role postgres", "set work_mem = 'much'", "set app.a = 'x'", "set \"app.b c\" = 1", "set app.b-c = 1"} {
			if load != "" && strings.Contains(set, "plpgsql.") {
				continue // a loaded library is not carried (docs/isolation.md)
			}
			all = append(all, story{name: loaded + set, mode: "outside", steps: load + "Q " + set + then})
		}
		all = append(all, story{name: loaded + "startup", mode: "outside", startup: []string{"options", "-c plpgsql.check_asserts=off"}, steps: load + "Q show plpgsql.check_asserts" + then})
	}
	g.tell(t, all...)
}

// TestErrorsInAFailedTransaction: PostgreSQL looks at some things before it looks at the
// transaction.
func TestErrorsInAFailedTransaction(t *testing.T) {
	t.Parallel()
	var all []story
	for name, first := range map[string]string{
		"on the primary": "Q begin\nQ insert into w values (1)\nQ savepoint s\nQ select 1/0\n", "on a replica": "Q begin\nQ savepoint s\nQ select 1/0 from items\n",
		"on none": "Q begin\nQ savepoint s\nB \"\" nosuch\nS\n", "refused here": "Q begin\nP x select 1\nP x select 1\nS\n",
	} {
		for what, steps := range map[string]string{
			"Bind with too few parameters":       "B \"\" q\nE \"\"\nS",
			"Bind with too many parameters":      "B \"\" q 1 2\nE \"\"\nS",
			"Bind of ROLLBACK with a parameter":  "P \"\" rollback\nB \"\" \"\" 1\nE \"\"\nS",
			"Bind of an unknown statement":       "B \"\" nosuch\nE \"\"\nS",
			"Bind":                               "B \"\" q 1\nE \"\"\nS",
			"Bind of the end":                    "B \"\" e\nE \"\"\nS",
			"Parse of bad SQL":                   "P \"\" selekt 1\nS",
			"Parse of bad SQL with a name":       "P z selekt 1\nS",
			"bad SQL":                            "Q selekt 1",
			"bad SQL behind good":                "Q select 1; selekt 2",
			"two commands in a Parse":            "P \"\" select 1; select 2\nS",
			"ROLLBACK TO an unknown savepoint":   "Q rollback to nosuch",
			"ROLLBACK TO unknown, extended":      "P \"\" rollback to nosuch\nB \"\" \"\"\nE \"\"\nS",
			"ROLLBACK TO":                        "Q rollback to s\nQ select 1\nQ insert into w values (1)",
			"RELEASE of an unknown savepoint":    "Q release nosuch",
			"empty query":                        "Q ",
			"comment":                            "Q -- nothing",
			"empty query, extended":              "P \"\" \"\"\nB \"\" \"\"\nD P \"\"\nE \"\"\nS",
			"semicolons":                         "Q ;;",
			"BEGIN parsed":                       "P \"\" begin\nB \"\" \"\"\nE \"\"\nS",
			"BEGIN":                              "Q begin",
			"BEGIN bound":                        "B \"\" b\nE \"\"\nS",
			"COMMIT parsed, then bound":          "P c%n% commit\nS\nB \"\" c%n%\nE \"\"\nS",
			"SAVEPOINT":                          "Q savepoint s2",
			"SET":                                "Q set app.a = '1'",
			"SET extended":                       "P \"\" set app.a = '1'\nB \"\" \"\"\nE \"\"\nS",
			"SHOW":                               "Q show timezone",
			"DEALLOCATE":                         "Q deallocate q",
			"DEALLOCATE of an unknown statement": "Q deallocate nosuch",
			"EXECUTE of an unknown statement":    "Q execute nosuch",
			"PREPARE":                            "Q prepare zz as select 1",
			"DISCARD ALL":                        "Q discard all",
			"Describe of a statement":            "D S q\nS",
			"Describe of the end":                "D S e\nS",
			"Describe of an unknown statement":   "D S nosuch\nS",
			"Describe of an unknown portal":      "D P nosuch\nS",
			"Execute of an unknown portal":       "E nosuch\nS",
			"Close of a statement":               "C S nosuch\nC S q\nS\nB \"\" q 1\nS",
			"Close of a portal":                  "C P nosuch\nS",
			"Parse of a name that is taken":      "P q select 1\nS",
			"Parse with a name":                  "P n%n% select 1\nS\nQ rollback\nB \"\" n%n%\nE \"\"\nS",
			"function call":                      "F 2880 7",
			"COPY":                               "Q copy w from stdin",
			"COMMIT AND CHAIN":                   "Q commit and chain\nQ select 1\nQ commit",
			"ROLLBACK AND CHAIN":                 "Q rollback and chain\nQ insert into w values (1)",
			"PREPARE TRANSACTION":                "Q prepare transaction 'x'",
			"COMMIT PREPARED":                    "Q commit prepared 'x'",
			"two strings":                        "Q select 1; select 2",
			"end in a string":                    "Q rollback; select 1",
			"end in a string, extended":          "P \"\" rollback\nB \"\" \"\"\nE \"\"\nP \"\" select 1\nB \"\" \"\"\nE \"\"\nS",
			"Bind again behind the error":        "B \"\" q 1\nB \"\" q\nE \"\"\nS",
			"Flush":                              "H\nB \"\" q\nS",
			"bad Bind behind Parse":              "P \"\" select $1::int\nB \"\" \"\"\nE \"\"\nS",
			"bad types":                          "P \"\"(9999999) select $1\nS",
			"unknown relation":                   "P \"\" select * from nosuch\nS",
			"proxy's setting":                    "Q set pgweir.route = 'primary'",
		} {
			if what == "proxy's setting" {
				continue
			}
			all = append(all, story{name: name + ", " + what, mode: "once", steps: "P q select $1::int\nP e rollback\nP b begin\nS\n" + first + steps + "\nQ select 2\nQ rollback\nQ select 1"})
		}
	}
	stage{setup: items}.tell(t, all...)
}

// TestNamesAreFoldedAsTheServerDoes: a name with a letter beyond ASCII is not the one that has
// its lower case (the Kelvin sign is no k, the dotted capital I no i).
func TestNamesAreFoldedAsTheServerDoes(t *testing.T) {
	t.Parallel()
	look := "\n\t\tQ select 1\n\t\tQ select current_setting('app.tenant_id', true), current_setting('app.tenant_\u0130d', true), current_setting('app.key', true)" +
		"\n\t\tQ insert into w values (1)\n\t\tQ select current_setting('app.tenant_id', true), current_setting('APP.KEY', true)\n\t\t@b\n\t\tQ select current_setting('app.tenant_id', true), current_setting('app.key', true)"
	stage{setup: items}.tell(t,
		story{name: "SET", steps: "Q set app.tenant_id = '1'\nQ set \"app.tenant_\u0130d\" = '2'\nQ set \"app.\u212Aey\" = '3'" + look},
		story{name: "set_config", steps: "Q select set_config('app.tenant_id', '1', false)\nQ select set_config('app.tenant_\u0130d', '2', false), set_config('App.\u212Aey', '3', false)" + look},
		story{name: "RESET", steps: "Q set app.tenant_id = '1'\nQ set app.key = '2'\nQ reset \"app.tenant_\u0130d\"\nQ set local \"app.\u212Aey\" = '3'" + look},
		story{name: "of the proxy", steps: "Q set \"pgwe\u0130r.route\" = 'nowhere'\nQ show \"pgwe\u0130r.route\"" + look},
	)
}

// TestResetAllBesideDefault: a connection on which RESET ALL returned to the database's default, which SET LOCAL
// had said before, is not taken for one of the tenant that SET LOCAL had hidden.
func TestResetAllBesideDefault(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, "create table t (i int)")
	run(t, "postgres", "alter database "+db+" set app.org = '2'")
	s := oneEach(t)
	a, b := raw(t, s.addr, db), raw(t, s.addr, db)
	for _, sql := range []string{"set app.org = '7'", "begin", "insert into t values (1)", "set local app.org = '2'", "reset all", "commit"} {
		a.query(sql)
	}
	b.query("set app.org = '7'")
	const look = "insert into t values (2) returning current_setting('app.org')"
	if got := b.query(look); !slices.Contains(got, `D "7"`) {
		t.Errorf("another session, which has set 7: %v", got)
	}
	if got := a.query(look); !slices.Contains(got, `D "2"`) {
		t.Errorf("the session itself: %v", got)
	}
}
