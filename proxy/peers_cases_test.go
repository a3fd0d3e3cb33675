package proxy_test

import (
	"fmt"
	"slices"
	"strings"
)

// peer is what a session does to its settings that a proxy is likely to get wrong.
// The steps are lines of a script (see readScripts), each query or Sync of which is
// answered before the next line is sent.
type peer struct {
	name    string
	steps   string
	startup []string // further startup parameters of the session
	// pins are the reasons for which the session was tied to its connection, held
	// those for which it still is in the end.
	pins, held string
	// differs: the proxy has yet to learn it.
	differs bool
}

var peers = []peer{
	{name: "bound set_config", steps: `
		P "" select set_config('app.a', $1, false)
		B "" "" "o'7"
		E ""
		S
		Q insert into w values (1, current_setting('app.a')) returning v`},
	{name: "bound set_config in a transaction", steps: `
		Q set app.a = '1'
		Q begin
		P "" select set_config('app.a', $1, true), set_config('app.b', $2, false)
		B "" "" 7 8
		E ""
		S
		Q insert into w values (1, current_setting('app.a')) returning v
		Q commit`},
	{name: "bound set_config, prepared once", steps: `
		P s select set_config('app.a', $1, false)
		S
		B "" s 7
		E ""
		S
		B "" s 8
		E ""
		B "" s 9
		E ""
		S`},
	{name: "bound name", pins: "opaque", held: "opaque", steps: `
		P "" select set_config($1, $2, $3::bool)
		B "" "" app.a 7 f
		E ""
		S
		P "" select set_config($1, $2, $3::bool)
		B "" "" timezone Asia/Tokyo f
		E ""
		S`},
	{name: "bound NULL", steps: `
		Q set app.a = '1'
		P "" select set_config('app.a', $1, false)
		B "" "" null
		E ""
		S`},
	{name: "binary integer", pins: "temp", steps: `
		P ""(23) select set_config('app.a', $1::text, false)
		raw B 00 00 00 01 00 01 00 01 00 00 00 04 00 00 00 07 00 00
		E ""
		S
		P ""(23) select set_config('app.a', ($1 + 1)::text, false)
		raw B 00 00 00 01 00 01 00 01 00 00 00 04 00 00 00 07 00 00
		E ""
		S`},
	{name: "two in one SELECT", steps: `
		Q select set_config('app.a', '1', false), set_config('app.b', '2', false)
		Q select set_config('app.a', '3', false), set_config('app.a', '4', false)
		Q select set_config('app.a', '5', true), set_config('app.b', '6', false)`},
	{name: "SET after others in a transaction", steps: `
		Q begin
		Q select 1
		Q insert into w values (2, 'x')
		Q set app.a = '7'
		Q set local app.b = '8'
		Q insert into w values (2, current_setting('app.a') || current_setting('app.b')) returning v
		Q commit`},
	{name: "SET LOCAL outside a transaction", steps: `
		Q set local app.a = '7'
		Q set local timezone = 'Asia/Tokyo'
		Q select set_config('app.a', '8', true)`},
	{name: "COMMIT of a failed transaction", steps: `
		Q set app.a = '1'
		Q begin
		Q set app.a = '2'
		Q set timezone = 'Asia/Tokyo'
		Q select 1/0
		Q commit`},
	{name: "COMMIT that fails", steps: `
		Q set app.a = '1'
		Q begin
		Q set app.a = '2'
		Q insert into d values (1, 1), (1, 1)
		Q commit`},
	{name: "ROLLBACK TO", steps: `
		Q begin
		Q set app.a = '1'
		Q savepoint a
		Q set app.a = '2'
		Q savepoint b
		Q set local app.a = '3'
		Q rollback to b
		Q insert into w values (3, current_setting('app.a')) returning v
		Q select 1/0
		Q rollback to a
		Q set app.b = '4'
		Q release a
		Q commit`},
	{name: "COMMIT AND CHAIN", steps: `
		Q begin
		Q set app.a = '1'
		Q set local app.b = '1'
		Q commit and chain
		Q set app.a = '2'
		Q select 1
		Q rollback and chain
		Q set local app.b = '3'
		Q insert into w values (4, current_setting('app.b')) returning v
		Q commit and chain
		Q set app.b = '4'
		Q rollback`},
	{name: "DISCARD ALL", steps: `
		Q set app.a = '1'
		Q discard all
		Q set search_path = pg_catalog
		Q set timezone = 'Asia/Tokyo'
		Q discard all`},
	{name: "RESET ALL", steps: `
		Q set app.a = '1'
		Q set timezone = 'Asia/Tokyo'
		Q set role %ROLE%
		Q reset all
		Q reset role`},
	{name: "options with a UUID", startup: []string{"options", "-c app.a=9b1c7f0e-c0de-4c-c1-cafe --app.b=-c"}, steps: `
		Q select 1
		Q set app.a = 'x'
		Q reset app.a
		Q set app.a = 'y'
		Q reset all
		Q set app.b = 'y'
		Q discard all`},
	{name: "RESET of a startup parameter", startup: []string{"TimeZone", "Asia/Riyadh", "application_name", "app", "DateStyle", "German"}, steps: `
		Q select timestamptz '2026-02-01 12:00:00+00'
		Q set timezone = 'UTC'
		Q reset timezone
		Q set datestyle = 'ISO'
		Q set datestyle to default
		Q set application_name = 'other'
		Q reset all
		Q set timezone = 'UTC'
		Q discard all`},
	{name: "RESET of a startup parameter that is undone", startup: []string{"TimeZone", "Asia/Riyadh", "options", "-c app.a=start"}, steps: `
		Q set timezone = 'UTC'
		Q set app.a = 'set'
		P "" reset timezone
		B "" ""
		E ""
		P "" reset app.a
		B "" ""
		E ""
		P "" select 1/0
		B "" ""
		E ""
		S
		Q show timezone
		Q begin
		P "" reset timezone
		B "" ""
		E ""
		P "" reset app.a
		B "" ""
		E ""
		P "" select 1/0
		B "" ""
		E ""
		S
		Q rollback
		Q show timezone
		Q begin
		Q reset app.a
		Q savepoint a
		P "" reset timezone
		B "" ""
		E ""
		P "" select 1/0
		B "" ""
		E ""
		S
		Q rollback to a
		Q show timezone
		Q commit`},
	{name: "SET first in a pipeline", steps: `
		P "" set app.a = '7'
		B "" ""
		E ""
		P "" select current_setting('app.a')
		B "" ""
		E ""
		P "" insert into w values (5, current_setting('app.a')) returning v
		B "" ""
		E ""
		S
		P "" set app.a = '8'
		B "" ""
		E ""
		P "" select 1/0
		B "" ""
		E ""
		S`},
	{name: "SET in strings of several statements", steps: `
		Q set app.a = '1'; set app.b = '2'; select current_setting('app.a')
		Q set app.a = '3'; select 1/0
		Q begin; set local app.a = '4'; insert into w values (6, current_setting('app.a')) returning v; commit
		Q begin; set app.a = '5'; savepoint s; set app.a = '6'; rollback to s; commit; select current_setting('app.a')`},
	{name: "SET ROLE", steps: `
		Q set role %ROLE%
		Q insert into w values (7, current_user) returning v = current_user
		Q set role none
		Q begin
		Q set local role %ROLE%
		Q rollback
		Q select set_config('role', '%ROLE%', false) = current_user
		Q reset role`},
	{name: "SET ROLE after a pin", pins: "temp", steps: `
		Q create temp table x (i int)
		Q set role %ROLE%
		Q set app.a = '2'
		Q reset role
		Q drop table x`},
	{name: "SET SESSION AUTHORIZATION", steps: `
		Q set session authorization %ROLE%
		Q set app.a = '2'
		Q set role none
		Q reset session authorization`},
	{name: "a function that sets", pins: "opaque", held: "opaque", steps: `
		Q select f_set('app.a', '5', false)
		Q select f_set('app.a', '6', true)
		Q select f_sql('7')
		Q select f_catch('app.a', '8')
		Q select f_fail('app.a', '9')
		Q select f_clause()
		Q begin
		Q select f_set('app.b', '5', true)
		Q select f_set('app.c', '6', false)
		Q commit`},
	{name: "a trigger that sets", pins: "opaque", held: "opaque", steps: `
		Q insert into tr values (1, 'of the trigger')
		Q insert into def values (1) returning v
		Q select x from vw`},
	{name: "a DO block that sets", steps: `
		Q do $$ begin perform set_config('app.a', '1', false); end $$
		Q do $$ begin perform set_config('app.b', '2', true); end $$
		Q begin
		Q do $$ begin perform set_config('app.b', '3', true); end $$
		Q rollback`},
	{name: "a procedure that sets and commits", steps: `
		Q call p_commit('1')`},
	{name: "search_path lists", steps: `
		Q set search_path = "$user", public, "Odd, Name", pg_catalog
		Q set search_path = 'a, b', "c""d"
		Q select set_config('search_path', '"Odd, Name",public', false)
		Q set local search_path = ''
		Q begin
		Q set local search_path = public
		Q commit
		Q set search_path to default`},
	{name: "client_encoding", pins: "temp cursor lock listen", steps: `
		Q set app.b = 'é'
		Q set client_encoding = 'latin1'
		Q "set app.a = '\xe9'"
		Q select current_setting('app.a')
		Q "select set_config('app.c', '\xe4\\\xf6', false)"
		Q "insert into w values (8, '\xe9') returning v"
		Q reset client_encoding
		Q select current_setting('app.a')`},
	{name: "SET NAMES", steps: `
		Q set names 'latin1'
		Q "set app.a = '\xe9'"
		Q set names
		Q set names 'nonsense'`},
	{name: "SET TIME ZONE", steps: `
		Q set time zone interval '+03:30' hour to minute
		Q select timestamptz '2026-02-01 12:00:00+00'
		Q set time zone -8
		Q set time zone 'Asia/Tokyo'
		Q set time zone local
		Q begin
		Q set local time zone 'America/New_York'
		Q select timestamptz '2026-02-01 12:00:00+00'
		Q commit
		Q set time zone default`},
	{name: "datestyle in parts", steps: `
		Q set datestyle = 'German'
		Q set datestyle = 'MDY'
		Q select date '2026-02-01'
		Q set datestyle to sql, dmy
		Q set datestyle = ''
		Q select date '2026-02-01'
		Q set datestyle = 'nonsense'
		Q reset datestyle`},
	{name: "SET SESSION CHARACTERISTICS", steps: `
		Q set session characteristics as transaction isolation level serializable
		Q select count(*) from tr
		Q set session characteristics as transaction isolation level read committed, read only
		Q insert into w values (9, 'x')
		Q begin read write
		Q insert into w values (9, 'x')
		Q commit
		Q set session characteristics as transaction read write`},
	{name: "SET TRANSACTION", steps: `
		Q begin
		Q set transaction isolation level repeatable read, read only
		Q set local app.a = '1'
		Q insert into w values (10, 'x')
		Q commit`},
	{name: "FROM CURRENT", steps: `
		Q set app.a = '1'
		Q set app.a from current
		Q set timezone from current
		Q begin
		Q set local app.a = '2'
		Q set app.a from current
		Q commit`},
	{name: "set_config with an expression", pins: "opaque", held: "opaque", steps: `
		Q select set_config('app.a', 'x' || 1, false)
		Q select set_config('app.' || 'b', upper(current_setting('app.a')), 1 = 1)
		Q select set_config('app.b', upper(current_setting('app.a')), 1 = 0)
		Q select set_config('app.a', null, false)
		Q select set_config('app.a', (select max(s)::text from tr), false)`},
	{name: "set_config over rows", pins: "opaque", held: "opaque", steps: `
		Q select set_config('app.a', g::text, false) from generate_series(1, 3) g
		Q select set_config('app.a', 'never', false) from generate_series(1, 0) g
		Q select set_config('app.a', 'never', false) where false
		Q select set_config('app.' || n, n, false) from unnest('{a,b,c}'::text[]) n
		Q select set_config('app.a', g::text, false) from generate_series(1, 3) g limit 2
		Q select set_config('app.a', 'x', false), 1 / (3 - g) from generate_series(1, 3) g`},
	{name: "set_config in odd places", steps: `
		Q with c as (select set_config('app.a', '1', false) as x) select x from c
		Q with c as (select set_config('app.a', 'never', false)) select 1
		Q select case when now() is null then set_config('app.a', 'never', false) else set_config('app.b', '2', false) end
		Q select 1 where set_config('app.a', '3', false) is not null
		Q insert into w select 11, set_config('app.a', '4', false) returning v
		Q update w set v = set_config('app.b', '5', false) where s = 11 returning v
		Q delete from w where s = 11 returning set_config('app.c', '6', false)
		Q explain (analyze, costs off, timing off, summary off) select set_config('app.a', '7', false)
		Q explain (costs off) select set_config('app.a', 'never', false)
		Q copy (select set_config('app.b', '8', false)) to stdout
		Q select set_config('app.a', '9', false) union all select set_config('app.a', '10', false)`},
	{name: "set_config by cursor and in parts", steps: `
		Q begin
		Q declare c cursor for select set_config('app.a', g::text, false) from generate_series(1, 3) g
		Q fetch 1 from c
		Q fetch 1 from c
		Q commit
		P "" select set_config('app.b', g::text, false) from generate_series(1, 3) g
		B "" ""
		E "" 1
		E "" 1
		S`},
	{name: "PREPARE of what sets", steps: `
		Q prepare q (text) as select set_config('app.a', $1, false)
		Q execute q('7')
		Q execute q('8')
		Q deallocate q`},
	{name: "names quoted and in other case", steps: `
		Q set "app"."A" = 'up'
		Q set APP.B = 'x'
		Q select set_config('App.C', 'y', false)
		Q reset App.a
		Q set app."a b" = 'x'
		Q set app.x.y = 'deep'
		Q select set_config('app.', 'x', false)
		Q set nodot = 'x'
		Q set plpgsql.nonsense = 'x'`},
	{name: "what is refused", steps: `
		Q set app.a = '1'
		Q set timezone = 'Nowhere/Nothing'
		Q set work_mem = '-1'
		Q set app.a = a, b
		Q set role no_such_role
		Q set session authorization no_such_role
		Q begin
		Q set app.a = '2'
		Q set timezone = 'Nowhere/Nothing'
		Q rollback`},
	{name: "settings that were never set", steps: `
		Q show app.a
		Q select current_setting('app.a')
		Q begin
		Q set local app.a = '1'
		Q commit
		Q show app.a
		Q set app.b = ''
		Q show app.b
		Q show app.c`},
	{name: "DISCARD of parts", steps: `
		Q set app.a = '1'
		Q discard plans
		Q discard sequences
		Q discard temp
		Q begin
		Q discard all
		Q rollback`},
	{name: "SHOW", steps: `
		Q set app.a = '1'
		Q show app.a
		Q show timezone
		Q begin read only
		Q show transaction_read_only
		Q set local app.a = '2'
		Q show app.a
		Q commit
		Q show transaction_isolation`},
	{name: "a read that fails under a setting", steps: `
		Q set app.a = 'x'
		Q select current_setting('app.a')::int
		Q set app.a = '7'
		Q select current_setting('app.a')::int
		Q begin
		Q set local app.a = 'y'
		Q select current_setting('app.a')::int
		Q set app.a = 'z'
		Q rollback`},
	{name: "savepoints and errors in a pipeline", steps: `
		P "" begin
		B "" ""
		E ""
		P "" set local app.a = '1'
		B "" ""
		E ""
		P "" savepoint s
		B "" ""
		E ""
		P "" set app.a = '2'
		B "" ""
		E ""
		P "" select 1/0
		B "" ""
		E ""
		P "" set app.a = 'never'
		B "" ""
		E ""
		S
		Q rollback to s
		Q insert into w values (14, current_setting('app.a')) returning v
		Q commit`},
	// With standard_conforming_strings off nobody knows what the texts that follow leave behind.
	{name: "many settings", pins: "setting opaque", held: "setting opaque", steps: `
		Q set app.a = '1'; set app.b = '2'; set app.c = '3'
		Q set work_mem = '7MB'
		Q set statement_timeout = 9000
		Q set application_name = 'other'
		Q set extra_float_digits = 0
		Q set intervalstyle = iso_8601
		Q set bytea_output = escape
		Q set standard_conforming_strings = off
		Q set app.a = 'a\\b'
		Q set default_transaction_isolation = 'repeatable read'
		Q reset all`},
	{name: "values that differ in case", steps: `
		Q set app.a = 'Case'
		Q set app.a = 'case'
		Q set app.a = 'CASE'
		Q set app.a = Case
		Q set app.a = "Case"`},
}

// hardValues are values that are hard to carry.
var hardValues = map[string]string{
	"64 bytes": strings.Repeat("x", 64), "64 characters": strings.Repeat("ä", 64), "8 KiB": strings.Repeat("y", 8<<10), "64 KiB": strings.Repeat("漢", 64<<10/3),
	"quotes": `o''clock "q" $$ $1`, "backslashes": `a\b\\c\'d\`, "newlines": "a\nb\r\n\tc", "multi-byte characters": `漢'字\😀é`, "empty": "", "a space": " ", "comments": "/* -- ';select 1;--",
}

// hardPeers set each of the hard values in each of three ways.
func hardPeers() (all []peer) {
	for name, v := range hardValues {
		literal := "E'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\r", `\r`).Replace(v) + "'"
		all = append(all, peer{name: "value: " + name, steps: strings.Join([]string{
			fmt.Sprintf("Q %q", "set app.a = "+literal),
			"Q select md5(current_setting('app.a'))",
			"Q insert into w values (12, md5(current_setting('app.a'))) returning v",
			fmt.Sprintf("Q %q", "select set_config('app.b', "+literal+", false)"),
			`P "" select set_config('app.c', $1, false)`, fmt.Sprintf(`B "" "" %q`, v), `E ""`, "S",
			"Q insert into w values (13, md5(current_setting('app.b') || current_setting('app.c'))) returning v"}, "\n")})
	}
	slices.SortFunc(all, func(a, b peer) int { return strings.Compare(a.name, b.name) })
	return all
}
