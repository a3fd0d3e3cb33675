package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"
)

// histGen makes up the steps of a history.
type histGen struct {
	*rand.Rand
	role     string
	database string
	size     int      // of the pools
	options  []string // of each session's startup
	modelled bool     // nothing that the model of PostgreSQL has not
	// calm: nothing but what the session follows by itself.
	calm     bool
	failed   bool                // the session's transaction has failed
	track    bool                // opaque code sets declared settings only
	prepared []map[string]bool   // by session, names of prepared statements
	bound    []map[string]string // by session, texts of what its portals were made of
	broken   []bool              // by session: something failed in its transaction
	given    bool                // a default that some connections began with, and others did not
	probes   bool                // others look at every free connection after each step
	held     func(i int) bool    // reports whether a session holds a connection
	latin    []bool              // by session: it may have an encoding that lacks what its settings hold
}

func newHistGen(rnd *rand.Rand, role, database string, size int, track bool) *histGen {
	g := &histGen{Rand: rnd, role: role, database: database, size: size, track: track, calm: rnd.IntN(3) == 0, probes: rnd.IntN(4) == 0}
	for range 2 + rnd.IntN(3) {
		g.options = append(g.options, g.startup())
		g.prepared, g.bound, g.latin = append(g.prepared, map[string]bool{}), append(g.bound, map[string]string{}), append(g.latin, false)
		g.broken = append(g.broken, false)
	}
	return g
}

// startup is what a session may begin with.
func (g *histGen) startup() string {
	return pick(g, "", "", "-c app.t=of-the-start", `-c app.t=a\ b\'c`, "--app.t=1f-c0-c2", "-c timezone=Asia/Tokyo -c app.b=begun", "-c search_path=pg_catalog,public",
		"-c default_transaction_isolation=serializable", "-c default_transaction_read_only=on", "-c app.a=first -c app.a=last")
}

func pick[T any](g *histGen, of ...T) T { return of[g.IntN(len(of))] }

func (g *histGen) name() string { return pick(g, "app.a", "app.a", "app.b", "app.c", "app.s") }

// value is a value for a custom setting.
func (g *histGen) value() string {
	switch g.IntN(10) {
	case 0:
		v := []byte(strings.Repeat("x", pick(g, 64, 63, 1000, 8192, 65536)))
		v[g.IntN(len(v))] = 'Y'
		v[0] = byte('a' + g.IntN(26))
		return string(v)
	case 1:
		return pick(g, "\n", "a\nb\r\n", "\t", "$1", "--x", "/* x", `\`, `\\'`, `"q"`, "';select 1;--", "E'x'", "{}", "%s", "a,b", `a\000`)
	case 2:
		return pick(g, "häß", "漢字", "😀'", "é\\", "\u0085", "ÀÉ")
	default:
		return pick(g, "", "7", "8", "42", "Case", "case", "CASE", " lead", "trail ", "o'clock", `c:\d`, "b3c1-c2d0-c", "on", "NULL", "default")
	}
}

// literal writes a value as one of the constants SQL has.
func (g *histGen) literal(v string) string {
	plain := "'" + strings.ReplaceAll(v, "'", "''") + "'"
	switch g.IntN(6) {
	case 0:
		return " E'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`).Replace(v) + "'"
	case 1:
		return "$q$" + v + "$q$"
	default:
		return plain
	}
}

// piece is one statement, with its parameters if it is for the extended protocol.
type piece struct {
	sql    string
	params [][]byte
	binary bool
	vague  bool // see histStep
	opaque bool // nobody can tell what it sets
	pins   bool // it leaves what ties the session to its connection
	alone  bool // a simple query of its own, and not in a transaction
}

func text(v string) []byte { return []byte(v) }

// set is one of the ways to change a custom setting that the session carries.
func (g *histGen) set(bound bool) piece {
	n, v := g.name(), g.value()
	if g.IntN(10) == 0 {
		n = strings.ToUpper(n[:1]) + n[1:4] + strings.ToUpper(n[4:])
	}
	local := pick(g, "true", "false", "'t'", "false", "true")
	if bound && g.IntN(2) == 0 {
		switch g.IntN(5) {
		case 0:
			return piece{sql: "select set_config($1, $2, $3)", params: [][]byte{text(n), text(v), text(pick(g, "t", "f"))}, vague: true, opaque: true}
		case 1:
			return piece{sql: fmt.Sprintf("select set_config('%s', $1, %s)", n, local), params: [][]byte{nil}, vague: true}
		case 2:
			return piece{sql: fmt.Sprintf("select set_config('%s', $1::text, %s), set_config('%s', $2, false)", n, local, g.name()),
				params: [][]byte{text(v), text(g.value())}}
		default:
			return piece{sql: fmt.Sprintf("select set_config('%s', $1, %s)", n, local), params: [][]byte{text(v)}, binary: g.IntN(2) == 0, vague: true}
		}
	}
	switch g.IntN(14) {
	case 0:
		return piece{sql: fmt.Sprintf("select set_config('%s', %s, %s)", n, g.literal(v), local)}
	case 1:
		return piece{sql: fmt.Sprintf("select set_config('%s', %s, %s), pg_catalog.set_config('%s', %s, %s)",
			n, g.literal(v), local, g.name(), g.literal(g.value()), pick(g, "true", "false"))}
	case 2:
		return piece{sql: "reset " + n}
	case 3:
		return piece{sql: fmt.Sprintf("set %s to default", n)}
	case 4:
		return piece{sql: fmt.Sprintf("set %s = %s", n, pick(g, "7", "1.50", "-3", "on", "true", "word", "Word", `"Word"`, "1e3", "010", "+4"))}
	case 5, 6, 7:
		return piece{sql: fmt.Sprintf("set local %s = %s", n, g.literal(v))}
	case 8:
		return piece{sql: fmt.Sprintf("set local %s to default", n)}
	case 9:
		return piece{sql: fmt.Sprintf("set session %s to %s", n, g.literal(v))}
	case 10:
		// Names no server has taken yet, and what it refuses.
		return piece{sql: pick(g, `set "app.a" = 'quoted'`, `set app."a b" = 'x'`, "set app.1x = 'x'", "set app.a = a, b",
			"set nodot = 'x'", "set app.x.y = 'deep'", `set "app"."A" = 'up'`, "select set_config('app.', 'x', false)", "select set_config('nodot', 'x', false)"), vague: true}
	default:
		return piece{sql: fmt.Sprintf("set %s = %s", n, g.literal(v))}
	}
}

// odd changes settings in ways that only reading them back reveals.
func (g *histGen) odd() piece {
	n, v := g.name(), g.literal(g.value())
	sql, opaque, pins := "", false, false
	kinds := 46
	if g.modelled {
		kinds = 40
	}
	switch g.IntN(kinds) {
	case 40:
		// Shared, so that nobody waits for another's.
		return piece{sql: pick(g, "select pg_advisory_lock_shared(7)", "select pg_advisory_lock_shared(7)", "select pg_advisory_unlock_shared(7)", "select pg_advisory_unlock_all()"), pins: true, alone: true}
	case 41, 42, 43:
		// Code that nobody can look into, with what it may do on a replica, too.
		opaque, sql = true, "select f_do("+g.literal(pick(g, "select 1", "select 1", "select count(*) from w", "select 1/0", "insert into w values (9, 'x')",
			"set role "+g.role, "reset role", "set app.a = 'of code'", "set local app.b = 'of code'", "select pg_advisory_xact_lock_shared(7)"))+")"
	case 44, 45:
		pins, sql = true, pick(g, "select f_open('fc')", "select f_open('fc')", "fetch fc", "close fc", "move fc", "declare fc scroll cursor for select generate_series(1, 3)")
	case 32:
		// What a function does changes; whoever calls it next meets the new one.
		return piece{sql: pick(g, "create or replace function public.f_new() returns text language sql as $$ select set_config('app.a', 'anew', false) $$",
			"create or replace function public.f_new() returns text language sql as $$ select current_setting('app.a', true) $$",
			"create or replace function public.f_new() returns text language plpgsql as $$ begin set app.b = 'anew'; return 'anew'; end $$"), alone: true}
	case 33, 34:
		sql = "select f_new()"
	case 35:
		g.given = true
		// Not of built-in settings: a session older than the first default of one may meet it (docs/isolation.md).
		return piece{sql: fmt.Sprintf("alter database %s %s", g.database, pick(g, "set app.b = 'of the database'", "set app.b = 'since'", "reset app.b", "reset all")), alone: true}
	case 36:
		// A temporary schema, which comes before all others.
		pins, sql = true, pick(g, "create temp table if not exists w (s int, v text)", "set search_path = pg_temp, public", "drop table if exists pg_temp.w")
	case 37, 38:
		pins, sql = true, pick(g, "declare cu cursor for select v from w order by v", "declare ch cursor with hold for select current_setting('app.a', true)", "fetch cu", "fetch ch", "close ch", "close all")
	case 0:
		sql = fmt.Sprintf("with c as (select set_config('%s', %s, false) as x) select x from c", n, v)
	case 1:
		sql = fmt.Sprintf("select 1 where set_config('%s', %s, false) is not null", n, v)
	case 2:
		sql = fmt.Sprintf("select set_config('%s', x, false) from (values ('x'), (%s)) t (x)", n, v)
	case 3:
		sql = fmt.Sprintf("select set_config('%s', %s, false) where false", n, v)
	case 4:
		sql = fmt.Sprintf("select set_config('%s', %s, 1 = %d)", n, v, g.IntN(2))
	case 5:
		sql = fmt.Sprintf("select set_config('%s', %s || 'x', false), current_setting('%s', true)", n, v, n)
	case 6:
		sql = fmt.Sprintf("select set_config('%s', null, false)", n)
	case 7:
		opaque = true
		sql = fmt.Sprintf("select f_set('%s', %s, %v)", n, v, g.IntN(2) == 0)
	case 8:
		sql = fmt.Sprintf("select f_sql(%s)", v)
	case 9:
		opaque = true
		sql = fmt.Sprintf("select f_fail('%s', %s)", n, v)
	case 10:
		opaque = true
		sql = fmt.Sprintf("select f_catch('%s', %s)", n, v)
	case 11:
		sql = "select f_clause()"
	case 12:
		return piece{sql: fmt.Sprintf("call p_commit(%s)", v), vague: true, alone: true}
	case 13:
		sql, opaque = "select x from vw", true
	case 14:
		sql = fmt.Sprintf("insert into tr values (%d, %s)", g.IntN(4), v)
	case 15:
		opaque = true
		sql = fmt.Sprintf("insert into def values (%d) returning v", g.IntN(4))
	case 16:
		sql = fmt.Sprintf("do $d$ begin perform set_config('%s', 'done', %v); end $d$", n, g.IntN(2) == 0)
	case 17:
		sql = fmt.Sprintf("set %s from current", n)
	case 18, 19:
		sql = pick(g, "set timezone = 'Asia/Tokyo'", "set local timezone to 'America/New_York'", "set time zone 'Europe/Berlin'", "reset timezone", "set timezone to default", "set timezone = 'Nowhere/Nothing'")
	case 20, 21:
		sql = pick(g, "set search_path = pg_catalog, public", "set local search_path to 'public'", `set search_path = "$user", public`, "reset search_path", "select set_config('search_path', 'public', false)")
	case 22:
		sql = pick(g, "set work_mem = '7MB'", "set local work_mem = 4321", "reset work_mem", "set work_mem = '-1'")
	case 23:
		sql = pick(g, "set datestyle = 'German'", "set local datestyle to sql, dmy", "reset datestyle", "set names 'latin1'", "reset client_encoding")
	case 24, 25:
		sql = pick(g, "set role "+g.role, "set local role "+g.role, "reset role", "set role none")
	case 26:
		sql = pick(g, "set session authorization "+g.role, "reset session authorization")
	case 27, 28:
		return piece{sql: "reset all", alone: true, vague: true}
	case 29:
		return piece{sql: "discard all", alone: true, vague: true}
	case 30:
		sql = fmt.Sprintf("explain (analyze, costs off, timing off, summary off) select set_config('%s', %s, false)", n, v)
	default:
		sql = pick(g, "set session characteristics as transaction read only", "set default_transaction_isolation = 'serializable'", "reset default_transaction_isolation",
			"set session characteristics as transaction read write", "set application_name = 'other'", "set statement_timeout = 9000")
	}
	return piece{sql: sql, vague: true, opaque: opaque, pins: pins}
}

// look reads the settings a session has.
func (g *histGen) look() piece {
	switch g.IntN(8) {
	case 6:
		return piece{sql: histAll}
	case 0:
		// A session older than a default of app.b may meet '' (docs/isolation.md), which only a look is told by.
		return piece{sql: "show " + pick(g, "timezone", "search_path", "work_mem", "datestyle", "app.a", "transaction_isolation", map[bool]string{false: "app.b", true: "app.c"}[g.given])}
	case 1:
		return piece{sql: "select v = current_setting('app.a', true), count(*) from w group by 1 order by 1"}
	default:
		return piece{sql: histLook}
	}
}

// histAll is what SHOW ALL shows of the settings sessions may change. What RESET gives (reset_val)
// is the connection's own: the session's is given by the proxy.
const histAll = `select name, setting from pg_settings where context = 'user' and setting is distinct from boot_val and name not like 'transaction%' order by name`

const histLook = `select current_setting('app.a', true) a, current_setting('app.b', true) b, current_setting('app.c', true) c, ` +
	`current_setting('app.s', true) s, current_user, session_user, current_setting('timezone'), current_setting('search_path'), current_setting('datestyle'), ` +
	`current_setting('app.x.y', true), current_setting('app.t', true)`

// work reads or writes data, or fails.
func (g *histGen) work(session int) piece {
	return piece{sql: pick(g,
		fmt.Sprintf("insert into w values (%d, current_setting('app.a', true)) returning v", session),
		fmt.Sprintf("update w set v = current_setting('app.b', true) where s = %d", session),
		fmt.Sprintf("delete from w where s = %d and v = current_setting('app.c', true)", session),
		fmt.Sprintf("select count(*) from w where s = %d and v = current_setting('app.a', true)", session),
		fmt.Sprintf("select v from w where s = %d order by v", session),
		"select count(*) from w where v is null",
		"select 1/0", "select nonsense", "selec 1", "", "select 1 from no_such_table",
		fmt.Sprintf("insert into d values (%d, 1), (%d, 1)", session, session),
	)}
}

// control begins, ends and divides transactions.
func (g *histGen) control(open bool) piece {
	if !open {
		return piece{sql: pick(g, "begin", "begin", "begin", "start transaction", "begin read only", "begin isolation level repeatable read",
			"begin isolation level repeatable read read only", "begin isolation level repeatable read read only",
			"begin isolation level serializable", "begin read write", "begin isolation level serializable, read only, not deferrable",
			"start transaction isolation level repeatable read, read write", "commit", "rollback", "savepoint a")}
	}
	return piece{sql: pick(g, "commit", "commit", "commit", "rollback", "rollback", "savepoint a", "savepoint a", "savepoint b", "rollback to a", "rollback to a",
		"rollback to b", "release a", "release b", "commit and chain", "rollback and chain", "begin", "end", "set transaction read only",
		"set transaction read write, not deferrable", "set transaction isolation level serializable", "set transaction isolation level repeatable read")}
}

// any is one statement of any kind. In a failed transaction it is none the parser
// refuses: where no server knows of the transaction, the proxy does not say what is wrong.
func (g *histGen) any(session int, open, bound bool) piece {
	for {
		p := g.statement(session, open, bound)
		if g.givesNull(p) && (g.options[session] != "" && g.held(session) || g.given) {
			continue // Known gap: it returns the connection's own default (docs/settings.md).
		}
		if !g.failed || p.sql != "selec 1" && p.sql != "set app.1x = 'x'" {
			return p
		}
	}
}

func (g *histGen) statement(session int, open, bound bool) piece {
	n := g.IntN(100)
	switch {
	case n < 35:
		return g.set(bound)
	case n < 45 && !g.calm:
		return g.odd()
	case n < 60:
		return g.look()
	case n < 75:
		return g.work(session)
	case n < 92:
		return g.control(open)
	default:
		return g.look()
	}
}

// steps are the next steps: one, and often a look at what it did.
func (g *histGen) steps(w *histWorld) (steps []histStep) {
	g.held = w.holds
	i := g.IntN(len(w.sessions))
	for !w.mayStep(i, g.size) {
		i = g.IntN(len(w.sessions))
	}
	if g.IntN(40) == 0 && w.rests() {
		return []histStep{{kill: true, text: "every server connection is terminated"}}
	}
	if g.IntN(30) == 0 {
		g.prepared[i] = map[string]bool{}
		g.options[i] = g.startup()
		s := histStep{session: i, reconnect: true, options: g.options[i]}
		g.latin[i] = false
		s.text = fmt.Sprintf("reconnect %q", s.options)
		return []histStep{s}
	}
	s := g.step(i, w.sessions[i].status)
	if g.calm && s.vague {
		return g.steps(w)
	}
	steps = append(steps, s)
	if g.IntN(3) > 0 {
		steps = append(steps, g.query(i, piece{sql: histLook}))
	}
	return steps
}

func (g *histGen) step(i int, status byte) histStep {
	open := status != 'I'
	g.failed = status == 'E'
	g.broken[i] = open && (g.broken[i] || g.failed)
	switch n := g.IntN(21); {
	case n == 20 && !g.modelled:
		return g.further(i)
	case n < 9:
		for {
			if p := g.any(i, open, false); !p.alone || !open {
				return g.query(i, p)
			}
		}
	case n < 11 && status != 'E':
		var texts []string
		opaque, pins, unread := false, false, false
		for range 2 + g.IntN(3) {
			p := g.any(i, open, false)
			if p.alone || p.sql == "" || characterizes(p.sql) || g.resets(i, p) && g.held(i) {
				continue
			}
			pins, opaque = pins || p.pins, opaque || unread && ambiguous(p.sql)
			unread = unread || p.vague
			texts, opaque = append(texts, p.sql), opaque || p.opaque || g.rereads(i, p) || strings.HasSuffix(p.sql, "nonsense") || strings.HasSuffix(p.sql, "no_such_table")
		}
		return g.query(i, piece{sql: strings.Join(texts, "; "), vague: true, opaque: opaque, pins: pins})
	case n < 17:
		return g.pipeline(i, open)
	default:
		return g.named(i)
	}
}

// unreadable reports whether a session's settings may not be told in its encoding once a
// statement has run behind others of the batch, vague ones among them: it keeps its connection then.
func (g *histGen) unreadable(i int, sql string, vague bool) bool {
	g.latin[i] = g.latin[i] || strings.Contains(sql, "latin1")
	return g.latin[i] && vague
}

func (g *histGen) query(i int, p piece) histStep {
	p.opaque = p.opaque || len(p.sql) > 50000 && strings.Contains(p.sql, "do $d$") // bodies in long texts are not looked into
	unreadable := g.unreadable(i, p.sql, p.vague)
	return histStep{session: i, text: abridge(p.sql), pins: p.pins || p.opaque && !g.track || unreadable, vague: p.vague, msgs: []pgproto3.FrontendMessage{&pgproto3.Query{String: p.sql}}}
}

// pipeline is several statements up to one Sync.
func (g *histGen) pipeline(i int, open bool) histStep {
	s := histStep{session: i, text: "pipeline"}
	unread, flushed := false, false
	for k := range 1 + g.IntN(4) {
		p := g.any(i, open, true)
		if p.alone || k > 0 && characterizes(p.sql) || g.resets(i, p) && (g.held(i) || flushed) {
			continue
		}
		s.pins = s.pins || p.pins || (p.opaque || g.rereads(i, p) || unread && ambiguous(p.sql)) && !g.track
		s.vague, unread = s.vague || p.vague, unread || p.vague
		s.pins = g.unreadable(i, p.sql, unread) || s.pins
		s.text += fmt.Sprintf(" | %s %q", abridge(p.sql), abridge(string(joined(p.params))))
		parse := &pgproto3.Parse{Query: p.sql}
		bind := &pgproto3.Bind{Parameters: p.params, DestinationPortal: g.portal()}
		g.bound[i][bind.DestinationPortal] = p.sql
		execute := &pgproto3.Execute{Portal: bind.DestinationPortal, MaxRows: g.rows()}
		if execute.MaxRows > 0 || execute.Portal != "" {
			s.text += fmt.Sprintf(" | portal %q, %d rows", execute.Portal, execute.MaxRows)
		}
		if p.binary {
			bind.ParameterFormatCodes = []int16{1}
			parse.ParameterOIDs = []uint32{25}
		}
		s.msgs = append(s.msgs, parse, bind)
		if g.IntN(3) == 0 {
			s.msgs = append(s.msgs, &pgproto3.Describe{ObjectType: 'P', Name: execute.Portal})
		}
		s.msgs = append(s.msgs, execute)
		if g.IntN(12) == 0 {
			s.msgs = append(s.msgs, &pgproto3.Flush{})
			s.text += " | Flush"
			flushed = true // what follows runs where this did
		}
		if strings.HasPrefix(p.sql, "commit") || strings.HasPrefix(p.sql, "rollback") || p.sql == "end" {
			break // what follows may need another server, which one pipeline cannot have
		}
	}
	s.msgs = append(s.msgs, &pgproto3.Sync{})
	return s
}

// portal is the name of a portal, mostly of the unnamed one.
func (g *histGen) portal() string {
	if g.modelled {
		return ""
	}
	return pick(g, "", "", "", "", "", "", "", "po", "pq")
}

// rows is how many rows an Execute asks for at most; 0 is all.
func (g *histGen) rows() uint32 {
	if g.modelled {
		return 0
	}
	return pick(g, uint32(0), 0, 0, 0, 0, 1, 2)
}

// further goes on with a portal that may be there, or closes it.
func (g *histGen) further(i int) histStep {
	name, rows := g.portal(), pick(g, uint32(0), 1)
	if sql := g.bound[i][name]; g.broken[i] || sql != "" && !strings.HasPrefix(sql, "select") && !strings.HasPrefix(sql, "with") {
		return g.query(i, g.look()) // PostgreSQL 15 may crash when RELEASE, or what failed, is executed again
	}
	if g.IntN(5) == 0 {
		return histStep{session: i, text: fmt.Sprintf("close portal %q", name), msgs: []pgproto3.FrontendMessage{&pgproto3.Close{ObjectType: 'P', Name: name}, &pgproto3.Sync{}}}
	}
	return histStep{session: i, text: fmt.Sprintf("execute portal %q, %d rows", name, rows), vague: true, msgs: []pgproto3.FrontendMessage{&pgproto3.Execute{Portal: name, MaxRows: rows}, &pgproto3.Sync{}}}
}

// rereads reports whether what a statement sets is not known until its batch is over, so that
// the proxy may take texts behind it for anything.
func (g *histGen) rereads(i int, p piece) bool {
	return strings.Contains(p.sql, "client_encoding") || strings.Contains(p.sql, "set names") || g.resets(i, p)
}

// ambiguous reports whether a text may be taken for something else by who does not know the
// settings that it is read by.
func ambiguous(sql string) bool {
	return strings.ContainsFunc(sql, func(r rune) bool { return r == '\\' || r >= utf8.RuneSelf })
}

// characterizes reports whether a statement gives a transaction its characteristics,
// which only its first one may.
func characterizes(sql string) bool {
	return strings.Contains(sql, "isolation level") || strings.Contains(sql, "read only") || strings.Contains(sql, "read write")
}

// givesNull reports whether a statement gives NULL to set_config, which resets a setting.
func (g *histGen) givesNull(p piece) bool {
	return len(p.params) > 0 && p.params[0] == nil || strings.Contains(strings.ToLower(p.sql), "null, false")
}

// resets reports whether a statement resets what its session may have begun with. Known gap:
// on a connection that the session holds, among other statements of one batch, those behind
// it may read the connection's own default (docs/settings.md).
func (g *histGen) resets(i int, p piece) bool {
	sql := strings.ToLower(p.sql)
	return g.options[i] != "" && (g.givesNull(p) || strings.Contains(sql, "reset") || strings.Contains(sql, "default"))
}

func joined(params [][]byte) (all []byte) {
	for _, p := range params {
		all = append(append(all, p...), '|')
	}
	return all
}

// histPrepared are statements sessions prepare; all take text.
var histPrepared = map[string]string{
	"look": histLook,
	"read": "select count(*) from w where v = current_setting('app.a', true)",
	"set":  "select set_config('app.b', $1, false)",
	"loc":  "select set_config('app.a', $1, true)",
	"lit":  "set app.c = 'prepared'",
}

// named prepares a statement, or runs a prepared one.
func (g *histGen) named(i int) histStep {
	name := pick(g, "look", "read", "set", "loc", "lit")
	if g.IntN(6) == 0 && !g.calm {
		return g.query(i, piece{sql: pick(g, "prepare q (text) as select set_config('app.a', $1, false)", "execute q('by execute')", "deallocate q", "prepare r as "+histLook, "execute r",
			"deallocate all"), vague: true})
	}
	s := histStep{session: i, text: "run " + name}
	if !g.prepared[i][name] {
		g.prepared[i][name] = true
		s.text = "prepare and run " + name
		s.msgs = append(s.msgs, &pgproto3.Parse{Name: name, Query: histPrepared[name]})
	}
	bind := &pgproto3.Bind{PreparedStatement: name}
	if strings.Contains(histPrepared[name], "$1") {
		v := g.value()
		bind.Parameters = [][]byte{text(v)}
		s.text += fmt.Sprintf(" %q", abridge(v))
	}
	s.msgs = append(s.msgs, bind, &pgproto3.Execute{}, &pgproto3.Sync{})
	return s
}

// abridge shortens what people read.
func abridge(s string) string {
	s = strings.ReplaceAll(s, histLook, "look")
	if len(s) > 400 {
		return fmt.Sprintf("%s…(%d)", s[:300], len(s))
	}
	return s
}
