package proxy_test

import (
	"strings"
	"testing"
	"time"

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
