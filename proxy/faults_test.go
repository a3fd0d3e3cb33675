package proxy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
)

// underTenants are tables under forced row-level security, of a role of its own.
const underTenants = `
grant all on schema public to %ROLE%;
create table t (id int, org text); insert into t select i, (i % 3)::text from generate_series(1, 30) i;
alter table t enable row level security; alter table t force row level security;
create policy p on t using (org = current_setting('app.current_org_id', true));
grant all on t to %ROLE%;
`

// asTenant is a stage of sessions under row-level security.
func asTenant(setup string) stage {
	return stage{once: "create role %ROLE% login", setup: underTenants + setup, user: "%ROLE%", look: "(select count(*) from t)"}
}

// TestNamesInBodies: whatever way a function spells the name of a setting, nobody else
// is in it.
func TestNamesInBodies(t *testing.T) {
	t.Parallel()
	asTenant(`
create function f_escape() returns void language plpgsql as $$ begin perform set_config(E'app.current\x5forg_id', '2', false); end $$;
create function f_octal() returns void language plpgsql as $$ begin perform set_config(e'app.current\137org_id', '2', false); end $$;
create function f_unicode() returns void language plpgsql as $$ begin perform set_config(U&'app.current\005forg_id', '2', false); end $$;
create function f_uescape() returns void language plpgsql as $$ begin perform set_config(U&'app.current!005forg_id' uescape '!', '2', false); end $$;
create function f_parts() returns void language plpgsql as $$ begin perform set_config('app.current'
 '_org_id', '2', false); end $$;
create function f_joined() returns void language plpgsql as $$ begin perform set_config('app.' || 'current_org_id', '2', false); end $$;
create function f_dollar() returns void language plpgsql as 'begin perform set_config($x$app.current_org_id$x$, $$2$$, false); end';
create function f_named() returns void language plpgsql as $$ begin perform set_config(is_local => false, new_value => '2', setting_name => 'app.current_org_id'); end $$;
create function f_quoted() returns void language plpgsql as $$ begin perform pg_catalog . "set_config" /* x */ ('app.current_org_id', '2', false); end $$;
create function f_ident() returns void language plpgsql as $$ begin perform U&"set\005fconfig"('app.current_org_id', '2', false); end $$;
create function f_execute() returns void language plpgsql as $$ begin execute 'set app.current' || '_org_id = 2'; end $$;
create function f_do() returns void language plpgsql as $$ begin execute format('do %L', 'begin perform set_config(E''app.current\x5forg_id'', ''2'', false); end'); end $$;
create function f_sql() returns text language sql as $$ select set_config(E'app.current\x5forg_id', '2', false) $$;
create function f_atomic() returns text language sql begin atomic select set_config(E'app.current\x5forg_id', '2', false); end;
create function f_upper() returns text language sql as $$ select set_config('APP.Current_Org_ID', '2', false) $$;
create function f_set() returns void language plpgsql as $$ begin set session app . current_org_id to 2; end $$;
create function f_settick() returns void language plpgsql as $$ begin set U&"app"."current\005forg_id" = '2'; end $$;
create function f_update() returns void language plpgsql as $$ begin update pg_settings set setting = 'Asia/Tokyo' where name = E'Time\x5aone'; end $$;
create function f_var() returns void language plpgsql as $$ declare n constant text := E'app.current\x5forg_id'; begin perform set_config(n, '2', false); end $$;
create function f_clause() returns void language plpgsql set app.current_org_id = '1' as $$ begin perform set_config(E'app.current\x5forg_id', '2', false); end $$;
create function f_local() returns void language plpgsql as $$ begin perform set_config(E'app.current\x5forg_id', '2', true); end $$;
`).tell(t,
		story{name: "by a function", steps: `
		Q select f_escape()
		Q select f_octal()
		Q select f_unicode()
		Q select f_uescape()`},
		story{name: "in parts", steps: `
		Q select f_parts()
		Q set app.current_org_id = '1'
		Q select f_joined()`},
		story{name: "quoted by dollars", steps: "Q select f_dollar()"},
		story{name: "by named arguments", steps: "Q select f_named()"},
		story{name: "the function's name quoted", steps: "Q select f_quoted()\nQ select f_ident()"},
		story{name: "through EXECUTE", steps: "Q select f_execute()\nQ select f_do()"},
		story{name: "in SQL", steps: "Q select f_sql()"},
		story{name: "in a SQL body", steps: "Q select f_atomic()"},
		story{name: "in capitals", steps: "Q select f_upper()"},
		story{name: "by SET", steps: "Q select f_set()"},
		story{name: "by SET of quoted parts", steps: "Q select f_settick()"},
		story{name: "by pg_settings", steps: "Q select f_update()"},
		story{name: "by a variable", steps: "Q select f_var()"},
		story{name: "with a SET clause", steps: "Q select f_clause()"},
		story{name: "for the transaction", steps: "Q select f_local()"},
		story{name: "from DO", steps: `Q do $$ begin perform set_config(E'app.current\x5forg_id', '2', false); end $$`},
		story{name: "from DO by EXECUTE", steps: `Q do $$ begin execute 'select set_config(E''app.current\x5forg_id'', ''2'', false)'; end $$`},
		story{name: "as text", steps: `Q select set_config(E'app.current\x5forg_id', '2', false)`},
		story{name: "in a failed function", steps: "Q select f_escape(), 1/0"},
		story{name: "behind a read", steps: "Q select count(*) from t ;; select f_escape() ;; select count(*) from t"},
		story{name: "undone", mode: "outside", steps: "Q begin\nQ select f_escape()\nQ rollback\nQ select count(*) from t"},
		story{name: "undone to a savepoint", mode: "outside", steps: "Q begin\nQ savepoint s\nQ select f_escape()\nQ rollback to s\nQ select count(*) from t\nQ commit"},
	)
}

// TestWhereExpressionsStand: a function that sets is found wherever the catalog has an
// expression of it.
func TestWhereExpressionsStand(t *testing.T) {
	t.Parallel()
	asTenant(`
create function f_sets() returns text language plpgsql as $$ begin return set_config('app.a', '2', false); end $$;
create function i_sets(int) returns int immutable language plpgsql as $$ begin perform set_config('app.a', '2', false); return $1; end $$;
create domain d as text default f_sets(); create domain dd as d;
create domain dc as int check (i_sets(value) >= 0);
create table by_domain (id int, v d); create table by_domain2 (id int, v dd);
create table in_array (id int, v dc[]); create type comp as (a dc, b int); create table in_comp (id int, v comp);
create table parts (id int) partition by range (i_sets(id)); create table parts1 partition of parts for values from (0) to (100);
create table listed (id int) partition by list ((i_sets(id) % 2)); create table listed1 partition of listed default;
create table hashed (id int) partition by hash (i_sets(id)); create table hashed1 partition of hashed for values with (modulus 1, remainder 0);
create table stats (id int); create statistics st on (i_sets(id)), id from stats; insert into stats select generate_series(1, 100);
create table bounds (id int) partition by range (id); create table bounds1 partition of bounds for values from (0) to (10);
create materialized view mv as select 1 as x; create materialized view mvs as select f_sets() as x with no data;
create table w_when (id int); create function nop() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger tr before insert on w_when for each row when (i_sets(new.id) > 0) execute function nop();
create table deferred (id int); create function defer() returns trigger language plpgsql as $$ begin perform f_sets(); return null; end $$;
create constraint trigger ct after insert on deferred deferrable initially deferred for each row execute function defer();
create table excl (id int, exclude using btree (i_sets(id) with =));
create table part_idx (id int); create index on part_idx (id) where i_sets(id) > 0;
create table gen (id int, g int generated always as (i_sets(id)) stored);
create table using_pol (id int); alter table using_pol enable row level security; create policy p on using_pol with check (i_sets(id) > 0);
create function subdiff(a int, b int) returns float8 immutable language plpgsql as $$ begin perform set_config('app.a', '2', false); return a - b; end $$;
create function cmp(a int, b int) returns int immutable language plpgsql as $$ begin perform set_config('app.a', '2', false); return btint4cmp(a, b); end $$;
create operator class oc for type int using btree as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 cmp(int, int);
create table by_class (id int); create index on by_class (id oc); insert into by_class values (1);
create type rng as range (subtype = int, subtype_diff = subdiff);
create table by_range (r rng); create index on by_range using gist (r);
create type rng2 as range (subtype = int, subtype_opclass = oc);
create view v_def as select id, null::text as v from by_domain; alter view v_def alter v set default f_sets();
create rule ins as on insert to v_def do instead insert into by_domain values (new.id, new.v);
create table ident (id int, v text default f_sets());
grant all on all tables in schema public to %ROLE%;
alter materialized view mvs owner to %ROLE%; alter table stats owner to %ROLE%; alter table by_domain owner to %ROLE%;
`).tell(t,
		story{name: "default of a domain", steps: "Q insert into by_domain (id) values (1)\nQ insert into by_domain2 (id) values (1)"},
		story{name: "default of a domain, asked for", steps: "Q insert into by_domain values (1, default)"},
		story{name: "default of a domain by COPY", mode: "outside", steps: "P \"\" copy by_domain (id) from stdin\nB \"\" \"\"\nE \"\"\nd \"1\\n\"\nc\nS"},
		story{name: "domain in an array", steps: "Q insert into in_array values (1, '{1}')"},
		story{name: "domain in a composite", steps: "Q insert into in_comp values (1, row(1, 2))"},
		story{name: "cast to a domain", steps: "Q select 1::dc"},
		story{name: "cast from text to a domain", steps: "Q select '1'::dc\nQ select '{1}'::dc[]"},
		story{name: "partition key", steps: "Q insert into parts values (1)"},
		story{name: "list partition key", steps: "Q insert into listed values (1)"},
		story{name: "hash partition key", steps: "Q insert into hashed values (1)"},
		story{name: "partition pruned", steps: "Q select * from parts where id = 1"},
		story{name: "statistics at ANALYZE", steps: "Q analyze stats"},
		story{name: "statistics by VACUUM", mode: "outside", steps: "Q vacuum analyze stats"},
		story{name: "REFRESH MATERIALIZED VIEW", steps: "Q refresh materialized view mvs"},
		story{name: "WHEN of a trigger", steps: "Q insert into w_when values (1)"},
		story{name: "deferred constraint trigger", steps: "Q insert into deferred values (1)"},
		story{name: "exclusion constraint", steps: "Q insert into excl values (%n%)"},
		story{name: "predicate of an index", steps: "Q insert into part_idx values (1)"},
		story{name: "generated column", steps: "Q insert into gen values (1)"},
		story{name: "WITH CHECK", steps: "Q insert into using_pol values (1)"},
		story{name: "support function of an index", steps: "Q insert into by_class values (2)\nQ select id from by_class order by id using <"},
		story{name: "support function of a range", steps: "Q insert into by_range values ('[1,2)')"},
		story{name: "operator class of a range", steps: "Q select '[1,5)'::rng2"},
		story{name: "default of a view", steps: "Q insert into v_def (id) values (1)"},
		story{name: "default of a column, by the extended protocol twice", steps: "Q insert into ident (id) values (1) ;; insert into ident (id) values (2)"},
		story{name: "ALTER TABLE that rewrites", steps: "Q alter table by_domain add column x%n% text default f_sets()"},
		story{name: "CREATE TABLE AS", steps: "Q create table cta%n% as select f_sets() as x"},
		story{name: "CREATE INDEX", steps: "Q create table ci%n% (id int); insert into ci%n% values (1)\nQ create index on ci%n% (i_sets(id))"},
	)
}

// TestServersReadTextsDifferently: where a backslash or a byte means something else to
// the server, whoever said so.
func TestServersReadTextsDifferently(t *testing.T) {
	text := `
		Q select 'a\'', set_config($$app.current_org_id$$,$$2$$,false) --'
		Q select 'x'
		Q set app.a = 'a\'b'
		Q select count(*) from t`
	t.Run("role", func(t *testing.T) {
		g := asTenant("")
		g.once += "; alter role %ROLE% set standard_conforming_strings = off"
		g.tell(t, story{name: "off for the role", steps: text})
	})
	t.Run("database", func(t *testing.T) {
		g := asTenant("alter database \"%DB%\" set standard_conforming_strings = off;")
		g.tell(t, story{name: "off for the database", steps: text})
	})
	t.Run("role in a database", func(t *testing.T) {
		g := asTenant("alter role %ROLE% in database \"%DB%\" set standard_conforming_strings = off;")
		g.tell(t, story{name: "off for the role there", steps: text},
			story{name: "on by SET", steps: "Q set standard_conforming_strings = on\nQ select 'a\\', current_setting($$app.a$$, true) --'\nQ reset standard_conforming_strings" + text})
	})
	t.Run("session", func(t *testing.T) {
		asTenant("").tell(t,
			story{name: "off at startup", startup: []string{"options", "-c standard_conforming_strings=off"}, steps: text},
			story{name: "off by SET", steps: "Q set standard_conforming_strings = off" + text},
			story{name: "off by set_config", steps: "Q select set_config('standard_conforming_strings', 'off', false)" + text},
			story{name: "off by DO", steps: "Q do $$ begin set standard_conforming_strings = off; end $$" + text},
			story{name: "off in one string", steps: "Q set standard_conforming_strings = off ;; select 1" + text},
			story{name: "encoding at startup", startup: []string{"client_encoding", "SJIS"}, steps: `
		Q "select '\x95\\', set_config($$app.current_org_id$$,$$2$$,false) --'"
		Q select count(*) from t`},
			story{name: "encoding by SET", steps: `
		Q set client_encoding = 'BIG5'
		Q "select '\xa5\\', set_config($$app.current_org_id$$,$$2$$,false) --'"
		Q select count(*) from t`},
			story{name: "encoding reset before another text", mode: "outside", steps: `
		P "" reset client_encoding
		B "" ""
		E ""
		P "" select 'é'
		B "" ""
		E ""
		S
		Q create table written (a int)
		Q drop table written`},
			story{name: "encoding by DO before a Flush", steps: `
		P "" do $$ begin perform set_config('client_encoding', 'BIG5', false); end $$
		B "" ""
		E ""
		H
		wait C
		P "" "select '\xa5\\', set_config($$app.current_org_id$$,$$2$$,false) --'"
		B "" ""
		E ""
		S
		Q select count(*) from t`},
			story{name: "settings read back before another text", mode: "outside", steps: `
		P "" set datestyle = iso, dmy
		B "" ""
		E ""
		H
		P "" select 'é'
		B "" ""
		E ""
		P "" select 2
		B "" ""
		E ""
		S
		Q create table written (a int)
		Q drop table written`},
			story{name: "an encoding that lacks a value's characters", mode: "outside", startup: []string{"options", "-c default_transaction_read_only=on"}, steps: `
		Q set app.b = '漢字'
		Q set names 'latin1'
		Q select current_setting($$app.b$$)
		Q select 1
		Q reset client_encoding
		Q select current_setting($$app.b$$)
		Q begin
		Q select 2
		Q set client_encoding = 'latin1'
		Q commit
		Q select encode(convert_to(current_setting($$app.b$$), 'UTF8'), 'hex')
		Q select set_config($$client_encoding$$, 'utf8', false)
		Q select current_setting($$app.b$$)`},
			story{name: "encoding, carried to another server", startup: []string{"client_encoding", "SJIS"}, steps: `
		Q begin
		P "" select set_config('app.b', $1, false)
		B "" "" "\x83\\'x"
		E ""
		S
		Q select count(*) from t
		Q create table moved (a int)
		Q select encode(convert_to(current_setting($$app.b$$), 'UTF8'), 'hex')
		Q rollback`},
			story{name: "encoding, carried to where it fails", startup: []string{"client_encoding", "SJIS"}, steps: `
		Q begin
		P "" select set_config('app.b', $1, false)
		B "" "" "\x83\\'x"
		E ""
		S
		Q selec
		Q commit`},
		)
	})
	t.Run("encoding of the role", func(t *testing.T) {
		g := asTenant("")
		g.once += "; alter role %ROLE% set client_encoding = 'GBK'"
		g.tell(t, story{name: "by default", steps: `
		Q "select '\xb5\\', set_config($$app.current_org_id$$,$$2$$,false) --'"
		Q select count(*) from t`})
	})
}

// TestRoleNone: NONE is a value of role, RESET what the session began with.
func TestRoleNone(t *testing.T) {
	const other = "create role %ROLE%_a; create role %ROLE% login in role %ROLE%_a"
	stories := []story{
		{name: "SET ROLE NONE", steps: "Q set role none\nQ select current_user\nQ reset role\nQ select current_user"},
		{name: "set_config none", steps: "Q select set_config('role', 'none', false)\nQ select current_user\nQ select set_config('role', null, false)"},
		{name: "bound none", steps: "P \"\" select set_config('role', $1, false)\nB \"\" \"\" none\nE \"\"\nS\nQ select current_user"},
		{name: "SET LOCAL ROLE NONE", mode: "outside", steps: "Q begin\nQ set local role none\nQ select current_user\nQ commit\nQ select current_user"},
		{name: "RESET ROLE", steps: "Q reset role\nQ select current_user"},
		{name: "SET ROLE DEFAULT", steps: "Q set role none\nQ set role to default\nQ select current_user"},
		{name: "RESET ALL", steps: "Q set role none\nQ reset all\nQ select current_user"},
		{name: "DISCARD ALL", mode: "outside", steps: "Q set role none\nQ discard all\nQ select current_user"},
		{name: "rolled back", mode: "outside", steps: "Q begin\nQ set role none\nQ select current_user\nQ rollback\nQ select current_user"},
		{name: "in one string", steps: "Q set role none ;; select current_user\nQ reset role ;; select current_user"},
		{name: "SET SESSION AUTHORIZATION", steps: "Q set session authorization %ROLE%\nQ select current_user\nQ reset session authorization\nQ select current_user"},
		{name: "at startup", startup: []string{"options", "-c role=%ROLE%_a"}, steps: "Q select current_user\nQ set role none\nQ select current_user\nQ reset role\nQ select current_user"},
		{name: "at startup, and the authorization reset", mode: "outside", startup: []string{"options", "-c role=%ROLE%_a"}, steps: "Q reset session authorization\nQ select current_user\nQ set role none\nQ set session authorization default\nQ select current_user\n" +
			"Q set session authorization %ROLE%\nQ select current_user\nQ reset session authorization\nQ select current_user\nQ select current_user\nQ reset role\nQ select current_user"},
		{name: "at startup, and the authorization reset for a transaction", mode: "outside", startup: []string{"options", "-c role=%ROLE%_a"}, steps: "Q set role none\nQ begin\nQ set local session authorization default\nQ select current_user\nQ commit\nQ select current_user\n" +
			"Q begin\nQ savepoint s\nQ reset session authorization\nQ select current_user\nQ rollback to s\nQ select current_user\nQ commit\nQ select current_user"},
		{name: "none at startup", startup: []string{"options", "-c role=none"}, steps: "Q select current_user\nQ set role %ROLE%_a\nQ select current_user\nQ reset role\nQ select current_user"},
	}
	t.Run("by default", func(t *testing.T) {
		stage{once: other + "; alter role %ROLE% set role = %ROLE%_a", undone: "drop owned by %ROLE%_a", undo: "drop role %ROLE%_a", setup: "grant all on schema public to %ROLE%, %ROLE%_a", user: "%ROLE%"}.tell(t, stories...)
	})
	t.Run("without a default", func(t *testing.T) {
		stage{once: other, undone: "drop owned by %ROLE%_a", undo: "drop role %ROLE%_a", setup: "grant all on schema public to %ROLE%, %ROLE%_a", user: "%ROLE%"}.tell(t, stories...)
	})
}

// TestTemporaryObjectsOfEveryKind: what is created in the temporary schema stays with its
// session, whatever it is.
func TestTemporaryObjectsOfEveryKind(t *testing.T) {
	t.Parallel()
	g := stage{setup: "create table ledger (a int, b int)", look: "(select count(*) from pg_catalog.pg_depend" +
		" where refclassid = 'pg_namespace'::regclass and refobjid = pg_my_temp_schema())"}
	var stories []story
	for _, object := range []string{
		"table t (a int)", "view t as select 1 as a", "sequence t", "type t as (a int)", "type t as enum ('a')", "domain t as int",
		"function t() returns int language sql as 'select 1'", "aggregate t (int) (sfunc = int4pl, stype = int)",
		"statistics t on a, b from ledger", "operator === (function = int4eq, leftarg = int, rightarg = int)", `collation t from "C"`,
		"operator family t using btree", "operator class t for type int using hash as operator 1 =", "text search configuration t (copy = simple)",
		"text search dictionary t (template = simple)", "conversion t for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8",
	} {
		words := strings.Fields(object)
		name := slices.IndexFunc(words, func(w string) bool { return w == "t" || w == "t()" || w == "===" })
		words[name] = "pg_temp." + words[name]
		kind := strings.Join(words[:name], " ")
		created := "Q create " + strings.Join(words, " ")
		stories = append(stories, story{name: kind, mode: "outside", steps: created + "\nQ select 1\nQ " + created + "\n@b\nQ select 1"})
	}
	g.tell(t, stories...)
}

// TestTemporarySchemaInEffect: what is created where a temporary schema comes first in
// the path is nobody else's.
func TestTemporarySchemaInEffect(t *testing.T) {
	g := stage{once: "create role %ROLE% login", user: "%ROLE%", setup: `
grant all on schema public to %ROLE%; create table ledger (a int); grant all on ledger to %ROLE%;
create schema s1; grant all on schema s1 to %ROLE%;
create function makes(text) returns void language plpgsql as $$ begin execute $1; end $$;
create function paths() returns void language plpgsql as $$ begin perform set_config('search_path', 'pg_temp, public', false); end $$;
`, look: "(select count(*) from pg_catalog.pg_type where typnamespace = pg_my_temp_schema()), (select relnamespace = pg_my_temp_schema() from pg_catalog.pg_class where oid = to_regclass('ledger'))"}
	others := "\n\t\t@b\n\t\tQ insert into ledger values (99)\n\t\tQ select count(*) from public.ledger where a = 99"
	created := []story{
		{name: "table", steps: "Q create table ledger (a int)" + others},
		{name: "table if not there", steps: "Q create table if not exists ledger (a int)" + others},
		{name: "sequence", steps: "Q create sequence ledger" + others},
		{name: "type", steps: "Q create type ledger_t as enum ('a')" + others},
		{name: "composite type", steps: "Q create type ledger as (a int)" + others},
		{name: "domain", steps: "Q create domain ledger_d as int" + others},
		{name: "view", steps: "Q create view ledger as select 1 as a" + others},
		{name: "CREATE TABLE AS", steps: "Q create table ledger as select 1 as a" + others},
		{name: "SELECT INTO", steps: "Q select 1 as a into ledger" + others},
		{name: "function", steps: "Q create function ledger_f() returns int language sql as 'select 1'" + others},
		{name: "through code", steps: "Q select makes('create table ledger (a int)')" + others},
		{name: "serial", steps: "Q create table ledger (a serial primary key)" + others},
		{name: "in one string", steps: "Q create table ledger (a int) ;; insert into ledger values (1)" + others},
		{name: "and dropped", steps: "Q create table ledger (a int)\nQ drop table ledger" + others},
	}
	begun := func(begin string, startup ...string) (all []story) {
		for _, v := range created {
			v.steps, v.startup = begin+v.steps, startup
			all = append(all, v)
		}
		return all
	}
	t.Run("set_config", func(t *testing.T) {
		g.tell(t, begun("Q select set_config('search_path', 'pg_temp,public', false)\n")...)
	})
	t.Run("SET", func(t *testing.T) { g.tell(t, begun("Q set search_path = pg_temp, public\n")[:4]...) })
	t.Run("SET quoted", func(t *testing.T) { g.tell(t, begun("Q set search_path = \"pg_temp\", public\n")[:2]...) })
	t.Run("code", func(t *testing.T) { g.tell(t, begun("Q select paths()\n")[:4]...) })
	t.Run("behind a schema that is not there", func(t *testing.T) {
		g.tell(t, begun("Q select set_config('search_path', 'nosuch,\"$user\",pg_temp,public', false)\n")[:4]...)
	})
	t.Run("startup", func(t *testing.T) { g.tell(t, begun("", "options", "-c search_path=pg_temp,public")...) })
	t.Run("in one string", func(t *testing.T) {
		g.tell(t,
			story{name: "SET", steps: "Q set search_path = pg_temp, public ;; create table ledger (a int)" + others},
			story{name: "set_config", steps: "Q select set_config('search_path', 'pg_temp', false) ;; create table ledger (a int)" + others},
			story{name: "SET LOCAL", steps: "Q begin ;; set local search_path = pg_temp, public ;; create table ledger (a int) ;; commit" + others},
		)
	})
	t.Run("role", func(t *testing.T) {
		g := g
		g.once += "; alter role %ROLE% set search_path = pg_temp, public"
		g.tell(t, created...)
	})
	t.Run("database", func(t *testing.T) {
		g := g
		g.setup += "; alter database \"%DB%\" set search_path = pg_temp, public"
		g.tell(t, created[:4]...)
	})
}

// TestRedefinedMeanwhile: between a change of the catalog and its being read, nothing old
// decides what a session is given or leaves behind.
func TestRedefinedMeanwhile(t *testing.T) {
	t.Parallel()
	setup := `
create function ff(int) returns int language sql as 'select $1';
create function fs(int) returns int stable language sql as 'select $1';
create table tt (a int); create view vv as select ff(1) as a; create table dd (a int, b text default 'x');
create function nop() returns trigger language plpgsql as $$ begin return new; end $$;
grant all on all tables in schema public to public;
`
	sets := "create or replace function ff(int) returns int language plpgsql as $x$ begin perform set_config('app.a', $1::text, false); return $1; end $x$"
	clean := "create or replace function ff(int) returns int language sql as 'select $1'"
	look := "\n\t\tQ select current_setting('app.a', true)\n\t\t@c\n\t\tQ select current_setting('app.a', true)"
	var all []story
	for name, v := range map[string][3]string{
		"a function":                     {sets, "select ff(3)", clean},
		"a function, made again":         {"drop function ff cascade ;; " + sets, "select ff(3)", clean + " ;; create or replace view vv as select ff(1) as a"},
		"a stable function":              {"create or replace function fs(int) returns int stable language plpgsql as $x$ begin perform set_config('app.a', $1::text, false); return $1; end $x$", "select fs(3)", "create or replace function fs(int) returns int stable language sql as 'select $1'"},
		"through a view":                 {sets, "select * from vv", clean},
		"a view":                         {"create or replace view vv as select length(set_config('app.a', '3', false)) as a", "select * from vv", "create or replace view vv as select ff(1) as a"},
		"a trigger":                      {"create function trg%n%() returns trigger language plpgsql as $x$ begin perform set_config('app.a', '3', false); return new; end $x$ ;; create trigger t before insert on tt for each row execute function trg%n%()", "insert into tt values (1)", "drop trigger t on tt"},
		"a trigger's function":           {"create or replace trigger t before insert on tt for each row execute function nop() ;; create or replace function nop() returns trigger language plpgsql as $x$ begin perform set_config('app.a', '3', false); return new; end $x$", "insert into tt values (1)", "drop trigger t on tt ;; create or replace function nop() returns trigger language plpgsql as $x$ begin return new; end $x$"},
		"a default":                      {"alter table dd alter b set default set_config('app.a', '3', false)", "insert into dd (a) values (1)", "alter table dd alter b set default 'x'"},
		"a function that is clean again": {sets + " ;; " + clean, "select ff(3)", clean},
		"a function, in DO":              {sets, "do $x$ begin perform ff(3); end $x$", clean},
		"a function, prepared":           {sets, "execute q", clean},
	} {
		first := "Q prepare q as select ff(3)\n\t\tQ " + v[1] + "\n\t\tQ " + v[1] + "\n\t\t"
		if v[1] != "execute q" {
			first = "Q " + v[1] + "\n\t\tQ " + v[1] + "\n\t\t"
		}
		all = append(all,
			story{name: name + ", used by another", mode: "outside", steps: "@b\n\t\t" + first + "@d\n\t\tQ " + v[0] + "\n\t\t@b\n\t\tQ " + v[1] + look + "\n\t\t@d\n\t\tQ " + v[2]},
			story{name: name + ", used at once", mode: "outside", steps: first + "Q " + v[0] + "\n\t\tQ " + v[1] + "\n\t\tQ select current_setting('app.a', true)\n\t\t@c\n\t\tQ select current_setting('app.a', true)\n\t\t@d\n\t\tQ " + v[2]},
			story{name: name + ", in a transaction", mode: "outside", steps: "@b\n\t\t" + first + "@d\n\t\tQ " + v[0] + "\n\t\t@b\n\t\tQ begin\n\t\tQ " + v[1] + "\n\t\tQ commit" + look + "\n\t\t@d\n\t\tQ " + v[2]},
		)
	}
	stage{setup: setup}.tell(t, all...)
}

// TestRedefinedPastTheProxy: what was changed past the proxy shows nobody another
// tenant's rows, where the tenant's setting is declared.
func TestRedefinedPastTheProxy(t *testing.T) {
	db := newDatabase(t, "")
	role := "role_" + db
	run(t, db, "create role "+role+" login; "+strings.ReplaceAll(underTenants, "%ROLE%", role)+
		"create function f() returns int language sql as 'select 1'; create view v as select f(); grant select on v to public")
	t.Cleanup(func() { run(t, db, "drop owned by "+role+"; drop role "+role) })
	for _, size := range []int{1, 2} {
		s := start(t, poolSize(size), eventual, func(c *config.Config) {
			c.Tenant.Settings, c.Settings.VerifyReleases = []string{"app.current_org_id"}, false // it would find all of it
		})
		for _, use := range []func(r *rawConn, sql string){
			func(r *rawConn, sql string) { r.query(sql) },
			func(r *rawConn, sql string) { r.ext(sql) },
			func(r *rawConn, sql string) { r.query("begin"); r.ext("select 1", sql); r.query("commit") },
		} {
			for _, sql := range []string{"select f()", "select * from v", "/* pgweir:primary */ select f()", "insert into t select f(), '2' where false"} {
				run(t, db, "create or replace function f() returns int language sql as 'select 1'")
				a := raw(t, s.addr, db, "user", role)
				use(a, sql)
				run(t, db, "create or replace function f() returns int language plpgsql as $$ begin perform set_config('app.current_org_id', '2', false); return 1; end $$")
				use(a, sql)
				for range 2 * size {
					b := raw(t, s.addr, db, "user", role)
					for _, look := range []string{"select count(*) from t", "/* pgweir:primary */ select count(*) from t"} {
						if got := b.query(look); !slices.Contains(got, `D "0"`) {
							t.Errorf("after %s: %s: %v", sql, look, got)
						}
					}
					b.close()
				}
				a.close()
			}
		}
	}
}
