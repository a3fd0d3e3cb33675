package proxy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/config"
)

const settingsLook = "select current_setting('app.a', true), current_setting('app.b', true), current_user, current_setting('search_path')"

// TestSettingsAsOnOneServer: what other poolers get wrong is as on PostgreSQL itself.
func TestSettingsAsOnOneServer(t *testing.T) {
	db := newDatabase(t, "")
	role := "role_" + db
	run(t, db, strings.ReplaceAll(histSchema, "%ROLE%", role))
	t.Cleanup(func() { run(t, db, "drop owned by "+role+"; drop role "+role) })
	s := start(t, poolSize(2), eventual)
	queries := func(sqls ...string) func(*rawConn) {
		return func(r *rawConn) {
			for _, sql := range sqls {
				r.query(sql)
				r.query(settingsLook)
			}
		}
	}
	bound := func(sql string, format int16, values ...[]byte) func(*rawConn) {
		return func(r *rawConn) {
			r.send(&pgproto3.Parse{Query: sql}, &pgproto3.Bind{ParameterFormatCodes: []int16{format}, Parameters: values}, &pgproto3.Execute{}, advSync)
			r.wait("Z")
			r.query(settingsLook)
			r.query("insert into w values (1, current_setting('app.a', true)) returning v")
			r.query("select count(*) from w where v = current_setting('app.a', true) and false")
			r.query(settingsLook)
		}
	}
	for name, talk := range map[string]func(*rawConn){
		"bound text":                     bound("select set_config('app.a', $1, false)", 0, []byte("o'7")),
		"bound binary":                   bound("select set_config('app.a', $1, false)", 1, []byte("7")),
		"bound NULL":                     bound("select set_config('app.a', $1, false)", 0, nil),
		"bound name":                     bound("select set_config($1, $2, false)", 0, []byte("app.a"), []byte("7")),
		"two in one SELECT":              queries("select set_config('app.a', '1', false), set_config('app.b', '2', false)"),
		"after others in a transaction":  queries("begin", "select 1", "set app.a = '7'", "insert into w values (2, 'x')", "commit"),
		"LOCAL outside a transaction":    queries("set local app.a = '7'", "begin", "set local app.a = '8'", "commit"),
		"COMMIT of a failed transaction": queries("set app.a = '1'", "begin", "set app.a = '2'", "select 1/0", "commit"),
		"ROLLBACK TO":                    queries("begin", "set app.a = '1'", "savepoint a", "set app.a = '2'", "rollback to a", "insert into w values (3, 'x')", "rollback to a", "commit"),
		"ROLLBACK AND CHAIN":             queries("set app.a = '1'", "begin", "set app.a = '2'", "rollback and chain", "select 1", "commit"),
		"a failed deferred constraint":   queries("begin", "set app.a = '1'", "insert into d values (1, 1), (1, 1)", "commit"),
		"DISCARD ALL":                    queries("set app.a = '1'", "discard all", "set search_path = pg_catalog", "discard all"),
		"SET ROLE":                       queries("set app.a = '1'", "set role "+role, "reset role", "begin", "set local role "+role, "rollback"),
		"SET ROLE after a pin":           queries("create temp table x (i int)", "set role "+role, "set app.a = '2'", "reset role"),
		"a function":                     queries("select f_set('app.a', '5', false)", "select f_set('app.a', '6', true)", "select f_catch('app.a', '7')"),
		"a trigger":                      queries("insert into tr values (1, 'of the trigger')", "delete from tr"),
		"search_path lists":              queries(`set search_path = "$user", public, "Odd"`, "set search_path to default", "set local search_path = public"),
		"client_encoding":                queries("set client_encoding = 'latin1'", "set app.a = '\xe9'", "select current_setting('app.a')", "reset client_encoding", "select current_setting('app.a')"),
		"BEGIN after SET in a pipeline": func(r *rawConn) {
			r.ext("set app.a = '7'", "begin")
			r.query("insert into w values (4, current_setting('app.a'))")
			r.query(settingsLook)
			r.query("rollback")
			r.query(settingsLook)
		},
		"SET first in a pipeline": func(r *rawConn) {
			r.ext("set app.a = '7'", settingsLook, "insert into w values (5, 'x')", settingsLook)
			r.ext("set app.a = '8'", settingsLook, "select 1/0", settingsLook)
			r.query(settingsLook)
		},
		"ROLLBACK and more in a pipeline": func(r *rawConn) {
			r.query("set app.a = '7'")
			r.query("begin")
			r.query("set app.a = '8'")
			r.query(settingsLook)
			r.ext("rollback", settingsLook)
		},
		"an error behind a Flush": func(r *rawConn) {
			r.send(append(extended("set app.a = '7'"), advFlush)...)
			r.wait("C")
			r.send(extended("select 1/0")...)
			r.send(advSync)
			r.wait("Z")
			r.query(settingsLook)
		},
		"an impossible name": queries(`set app."a b" = 'x'`, "set app.a = '1'", "set plpgsql.nonsense = '1'"),
	} {
		t.Run(name, func(t *testing.T) { s.same(t, db, talk) })
	}
	for _, value := range []string{strings.Repeat("x", 64), strings.Repeat("ä", 40), strings.Repeat("y", 64<<10), `a'b"c\d`, "a\nb\r\t", "漢字", "", "Case", "case", " "} {
		t.Run("value "+short([]byte(value)), func(t *testing.T) {
			literal := "'" + strings.ReplaceAll(value, "'", "''") + "'"
			s.same(t, db, func(r *rawConn) {
				queries("set app.a = "+literal, "select md5(current_setting('app.a'))", "insert into w values (6, md5(current_setting('app.a'))) returning v")(r)
			})
		})
	}
}

// TestOptionsHoldAnything: a value of the startup options may look like an option.
func TestOptionsHoldAnything(t *testing.T) {
	db := newDatabase(t, "")
	s := start(t, poolSize(1))
	for _, value := range []string{"9b1c7f0e-c0de-4c-c1-cafe", "--x=y", "-c", "a=b"} {
		for _, other := range []bool{false, true} {
			r := raw(t, s.addr, db, "options", "-c app.a="+value)
			if other {
				r.query("begin read write")
			}
			if got := r.query("select current_setting('app.a')"); !slices.Contains(got, "D "+short([]byte(value))) {
				t.Errorf("%s: %v", value, got)
			}
			r.close()
		}
	}
}

// TestSettingsGoWithTheTransaction: a transaction that sets and reads runs on a
// replica, and what it set is in force, level by level, after it moved to the primary.
func TestSettingsGoWithTheTransaction(t *testing.T) {
	db := newDatabase(t, "create table w (v text)")
	s := start(t, poolSize(2), eventual)
	c := trace(t, s, db)
	look := "select current_setting('app.a', true)"
	c.query("begin")
	c.query("set local app.a = '7'")
	got := strings.Join(c.query(look), "\n")
	if !strings.Contains(got, "replica") || !strings.Contains(got, `D "7"`) {
		t.Errorf("in a transaction that reads: %s", got)
	}
	c.query("savepoint s")
	c.query("set local app.a = '8'")
	got = strings.Join(c.query("insert into w values (current_setting('app.a')) returning v"), "\n")
	if !strings.Contains(got, "primary") || !strings.Contains(got, `D "8"`) {
		t.Errorf("after the move: %s", got)
	}
	c.query("rollback to s")
	if got := c.query(look); !slices.Contains(got, `D "7"`) {
		t.Errorf("after ROLLBACK TO: %v", got)
	}
	c.query("commit")
	if got := c.query(look); !slices.Contains(got, `D ""`) {
		t.Errorf("after COMMIT: %v", got)
	}
}

// An empty statement behind one whose settings the text does not tell is no unknown one: the
// session keeps no connection for it.
func TestEmptyBehindUnknownSettings(t *testing.T) {
	s := start(t, poolSize(1))
	database := newDatabase(t, "create table d (k int primary key)")
	c, other := raw(t, s.addr, database), raw(t, s.addr, database)
	var pipeline []pgproto3.FrontendMessage
	for _, sql := range []string{"select set_config('app.s', 'x', true)", "set app.s from current", ""} {
		pipeline = append(pipeline, &pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Execute{})
	}
	c.send(append(pipeline, &pgproto3.Sync{})...)
	c.wait("Z")
	other.query("insert into d values (1)")
}

// A setting whose value a server keeps in its own words decides nothing of how texts are read:
// the session does not depend on the replica it was set on.
func TestTextBehindSettingInOtherWords(t *testing.T) {
	s := start(t)
	c := raw(t, s.addr, newDatabase(t, ""), "options", "-c default_transaction_read_only=on")
	var pipeline []pgproto3.FrontendMessage
	for _, sql := range []string{"select set_config('search_path', 'public', false)", "close all", `set app.a = 'c:\d'`} {
		pipeline = append(pipeline, &pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Execute{})
	}
	c.send(append(pipeline, &pgproto3.Sync{})...)
	c.wait("Z")
	if got := strings.Join(c.query("select current_setting('app.a'), current_setting('search_path')"), "\n"); !strings.Contains(got, `D "c:\\d" "public"`) {
		t.Error(got)
	}
}

// What an earlier batch of the block set, nobody knows what, the server has reported since as
// far as it decides how texts are read.
func TestTextBehindSettingsOfAnEarlierBatch(t *testing.T) {
	s := start(t, poolSize(1))
	database := newDatabase(t, "create table d (k int primary key)")
	c, other := raw(t, s.addr, database), raw(t, s.addr, database)
	c.query("begin")
	c.query("explain (analyze, costs off, timing off, summary off) select set_config('app.a', 'x', false)")
	var pipeline []pgproto3.FrontendMessage
	for _, sql := range []string{"set local app.c = '漢字'", "commit"} {
		pipeline = append(pipeline, &pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Execute{})
	}
	c.send(append(pipeline, &pgproto3.Sync{})...)
	c.wait("Z")
	other.query("insert into d values (1)")
}

// A custom setting that code nobody can see through has set reads ” once its transaction is
// rolled back, and no longer NULL, where it is declared as well.
func TestDeclaredSettingIsUndone(t *testing.T) {
	s := start(t, func(c *config.Config) { c.Settings.Track = []string{"app.c", "app.d"} })
	database := newDatabase(t, "create view sets as select set_config('app.c', 'by a view', false) as x")
	for _, server := range []string{shared(t).Primary.Addr(), s.addr} {
		c := raw(t, server, database)
		for _, sql := range []string{"begin", "select x from sets", "rollback"} {
			c.query(sql)
		}
		if got := strings.Join(c.query("select current_setting('app.c', true), current_setting('app.d', true)"), "\n"); !strings.Contains(got, `D "" NULL`) {
			t.Errorf("%s: %s", server, got)
		}
	}
}

// A custom setting whose statement a failed pipeline never came to reads NULL behind the end of its
// block, although another session has set one of that name on the connection.
func TestSettingNeverReached(t *testing.T) {
	s := start(t, poolSize(1))
	database := newDatabase(t, "")
	other, c := raw(t, s.addr, database), raw(t, s.addr, database)
	other.query("begin; select pg_backend_pid()")
	other.query("/* pgweir:primary */ select set_config('app.a', '1', false)")
	other.query("rollback")
	c.query("start transaction")
	say(c, "P s select * from nowhere", `P "" /* pgweir:primary */ select set_config('app.a', '2', false)`, `B "" ""`, `E ""`, "S", "wait")
	if got := say(c, `P "" rollback`, `B "" ""`, `E ""`, `P "" select current_setting('app.a', true)`, `B "" ""`, `E ""`, "S", "wait"); !strings.Contains(got, "D NULL") {
		t.Error(got)
	}
}

// SET LOCAL behind the RESET that made a connection another session's leaves the default with
// the source "session": nothing that anybody left there.
func TestDefaultOfSourceSession(t *testing.T) {
	s := start(t, poolSize(1))
	database := newDatabase(t, "")
	first, second := raw(t, s.addr, database), raw(t, s.addr, database)
	for range 3 { // of three servers
		first.query("set search_path to 'pg_catalog'")
		first.query("select 1")
		second.query("set local app.a = 'x'; set local search_path to 'public'; select 1")
	}
	c := raw(t, s.addr, database)
	if got := strings.Join(c.query("/* pgweir:primary */ select current_setting('search_path')"), "\n"); !strings.Contains(got, `"\"$user\", public"`) {
		t.Error(got)
	}
}

// TestNewNumbers: numbers as only newer servers read them are what the server says they are.
func TestNewNumbers(t *testing.T) {
	stage{look: "current_setting('app.x', true)"}.tell(t,
		story{name: "hex", steps: `
		Q set app.x = 31
		Q select current_setting('app.x', true)
		Q set app.x = 0x1F
		Q select current_setting('app.x', true)
		Q set app.x = 0b11
		Q select current_setting('app.x', true)
		Q set app.x = -1_000
		Q select current_setting('app.x', true)
		Q set app.x = 31
		Q begin
		Q set local app.x = 0x1F
		Q rollback
		Q set app.x = 0o17; select current_setting('app.x', true)
		Q select current_setting('app.x', true), 0x1F
		Q set app.x = 1_0; select 1_000
		Q set application_name = 0x1F
		Q select set_config('app.x', '5', false), 0x1F
		Q set work_mem = 0x1000
		Q show work_mem`})
}
