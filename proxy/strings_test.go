package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
)

// TestStringsOfStatements: what the statements of one string do to their session is what
// they do on PostgreSQL, one by one, wherever the string ends or fails.
func TestStringsOfStatements(t *testing.T) {
	t.Parallel()
	look := "\nQ select current_setting('app.a', true), current_setting('app.current_org_id', true), current_setting('work_mem')\nQ insert into w values (1)\nQ rollback\n" +
		"Q select current_setting('app.a', true), current_setting('work_mem') from items limit 1"
	var all []story
	for i, steps := range []string{
		"begin ;; set local app.a = '1' ;; select current_setting('app.a') from items limit 1 ;; commit",
		"begin ;; set app.a = '1' ;; select 1 ;; commit ;; set app.a = '2' ;; select 1/0",
		"set app.a = '1' ;; begin ;; set app.a = '2' ;; rollback ;; select current_setting('app.a', true)",
		"set app.a = '1' ;; select 1 ;; begin ;; set app.a = '2'",
		"begin ;; set app.a = '1' ;; savepoint s ;; set app.a = '2' ;; rollback to s ;; select current_setting('app.a') from items limit 1",
		"begin ;; savepoint s ;; set local work_mem = '1MB' ;; release s ;; select 1\nrollback to s",
		"begin ;; savepoint s ;; set app.a = '1'\nselect 1 from items\ninsert into w values (1)\nrollback to s ;; commit",
		"begin ;; set local app.a = '1'\nselect current_setting('app.a') from items limit 1\ncommit",
		"begin ;; set transaction read only\ninsert into w values (1)",
		"begin read only ;; select count(*) from items\nset app.a = '1' ;; commit ;; select 1",
		"begin isolation level repeatable read, read only ;; select count(*) from items ;; set app.a = '1'\ncommit and chain ;; show transaction_isolation",
		"begin ;; begin ;; select 1 ;; commit ;; commit",
		"commit ;; select 1 ;; rollback", "savepoint s ;; select 1", "select 1 ;; savepoint s",
		"set local app.a = '1' ;; select current_setting('app.a') from items limit 1",
		"select set_config('app.a', '1', false), set_config('app.current_org_id', '2', true) ;; select current_setting('app.current_org_id') from items limit 1",
		"begin ;; select set_config('app.a', '1', true) ;; select 1 from items ;; select 1/0",
		"begin ;; select 1 from items ;; select 1/0\nselect 1\nset app.a = '1' ;; select 1\nrollback ;; set app.a = '2'",
		"begin ;; insert into w values (2) ;; set app.a = '1' ;; commit ;; select current_setting('app.a') from items limit 1",
		"begin ;; insert into w values (2) ;; set app.a = '1' ;; select 1/0",
		"begin ;; set local app.a = 'x' ;; insert into w values (2)\nrollback ;; select current_setting('app.a', true)",
		"begin ;; select f_set('app.a', '3', false) ;; commit ;; set app.current_org_id = '4'",
		"begin ;; reset all ;; set app.a = '5' ;; commit", "set app.a = '1' ;; reset all ;; select 1", "set app.a = '1' ;; reset app.a ;; select current_setting('app.a')",
		"begin ;; set search_path = public, pg_catalog ;; select 1 from items ;; commit", "begin ;; set local search_path = public ;; select 1 from items",
		"begin ;; declare c cursor for select id from items order by 1 ;; fetch 1 from c\nfetch 1 from c ;; close c ;; commit",
		"begin ;; create temporary table tt (a int) on commit drop ;; insert into tt values (1) ;; commit ;; select 1",
		"begin ;; set constraints all deferred ;; select 1 ;; commit",
		"begin ;; set statement_timeout = 0 ;; select pg_sleep(0) ;; commit ;; show statement_timeout",
		"begin ;; set role none ;; set local app.a = '1'\nselect current_user, current_setting('app.a') from items limit 1\ncommit",
		"select 1 ;; selec 2", "set app.a = '7' ;; selec 2", "begin ;; set app.a to word ;; commit", " ;; ",
		"begin ;; prepare p as select 1 ;; execute p ;; deallocate p ;; commit",
	} {
		all = append(all, story{name: fmt.Sprint(i, " ", strings.ReplaceAll(steps, "\n", " / ")), steps: "Q " + strings.ReplaceAll(steps, "\n", "\nQ ") + look})
	}
	stage{setup: items}.tell(t, append(all, randomStrings()...)...)
}

// randomStrings are strings of statements chosen at random, the same each time.
func randomStrings() (all []story) {
	r := rand.New(rand.NewPCG(1, 2))
	some := []string{
		"begin", "begin read only", "start transaction isolation level repeatable read, read only", "commit", "rollback", "savepoint s", "rollback to s", "release s",
		"commit and chain", "rollback and chain", "set app.a = '%d'", "set local app.a = '%d'", "select set_config('app.a', '%d', true)", "reset app.a",
		"set work_mem = '%d64kB'", "set local work_mem = '%d64kB'", "select count(*) from items where id > %d", "select current_setting('app.a', true) from items where id = %d",
		"insert into w values (%d)", "select 1/0 from items", "select f_set('app.a', '%d', false)", "set transaction read only",
	}
	for i := range 30 {
		var steps []string
		for range 1 + r.IntN(4) {
			var parts []string
			for range 2 + r.IntN(4) {
				s := some[r.IntN(len(some))]
				if strings.Contains(s, "%d") {
					s = fmt.Sprintf(s, 1+r.IntN(3))
				}
				parts = append(parts, s)
			}
			steps = append(steps, "Q "+strings.Join(parts, " ;; "))
		}
		steps = append(steps, "Q rollback", "Q select current_setting('app.a', true), current_setting('work_mem') from items limit 1")
		all = append(all, story{name: fmt.Sprint("random ", i), mode: "once", steps: strings.Join(steps, "\n")})
	}
	return all
}

// TestStringsOnReplicas: a string of reads runs on a replica, whatever transaction control
// and settings are among them, nothing is asked afterwards, and its plan is found by its
// masked text.
func TestStringsOnReplicas(t *testing.T) {
	database := newDatabase(t, items)
	s := start(t, eventual, func(c *config.Config) { c.Settings.VerifyReleases = false })
	c := trace(t, s, database)
	c.query("set app.a = '0'; select 1") // a server has taken the name
	for _, step := range []step{
		{"select 1; select count(*) from items", "replica read"},
		{"begin; select count(*) from items; commit", "replica read"},
		{"begin; set local app.a = '7'; select current_setting('app.a') from items where id = 1; commit", "replica read"},
		{"begin; select set_config('app.a', '8', true); select count(*) from items; rollback", "replica read"},
		{"set app.a = '9'; select count(*) from items", "replica read"},
		{"begin; set local app.a = '7'", "- local"},
		{"select current_setting('app.a') from items where id = 1; commit", "replica read"},
		{"begin; set local app.a = '7'; select count(*) from items", "replica read"},
		{"insert into w values (1); select current_setting('app.a')", "primary write"},
		{"commit; select count(*) from items", "primary transaction"},
		{"begin; set local app.a = '7'; insert into w values (1); commit", "primary multi"},
		{"begin isolation level serializable; select count(*) from items; commit", "primary multi"},
		{"begin; select id from items for update; commit", "primary multi"},
	} {
		if got := c.told(step.sql); !slices.Equal(got, []string{step.place}) {
			t.Errorf("%s: %v, want %s", step.sql, got, step.place)
		}
	}
	if n := s.metric(t, "pgweir_read_backs_total"); n != 0 {
		t.Errorf("settings were read back %v times", n)
	}
	misses := s.metric(t, "pgweir_plan_cache_total", "result=miss")
	for i := range 10 {
		got := c.query(fmt.Sprintf("begin; set local app.a = 't%d'; select current_setting('app.a') from items where id > 0 and id <> %d limit 1; commit", i, i+10))
		if want := fmt.Sprintf("t%d", i); !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("%v, want %s", got, want)
		}
	}
	if n := s.metric(t, "pgweir_plan_cache_total", "result=miss") - misses; n > 1 {
		t.Errorf("%v misses for texts that differ in literals", n)
	}
}

// TestCustomSettingsUndone: a custom setting that was set reads as an empty string for ever
// after, whatever undid it; one that no server ever came to set reads NULL.
func TestCustomSettingsUndone(t *testing.T) {
	read := "\nQ select current_setting('a.b%n%', true)\nQ select current_setting('a.b%n%', true) from items limit 1"
	stage{setup: items}.tell(t,
		story{name: "in a string", steps: "Q set a.b%n% = '8' ;; select 1/0" + read},
		story{name: "in a block", steps: "Q begin\nQ set a.b%n% = '8'\nQ rollback" + read},
		story{name: "behind an error", steps: "Q select 1/0 ;; set a.b%n% = '8'" + read},
		story{name: "by set_config", steps: "Q select set_config('a.b%n%', '8', false) ;; select 1/0" + read},
		story{name: "in a string that does not parse", steps: "Q set a.b%n% = '8' ;; selec" + read},
		story{name: "a portal's name used again", mode: "once", steps: "Q begin\nP \"\" select 1\nB c \"\"\nH\nwait 2\nP \"\" select 2\nB c \"\"\nE c\nS\nQ rollback"},
	)
}

// TestPreparedOutOfSight: a statement that code prepared, where nobody sees it, is executed by its
// name, and an unknown name is refused when PostgreSQL refuses it.
func TestPreparedOutOfSight(t *testing.T) {
	t.Parallel()
	stage{setup: items}.tell(t,
		story{name: "in DO", mode: "outside", steps: "Q do $$ begin execute 'prepare pp%n% as select 41 + 1'; end $$\nQ execute pp%n%\nQ deallocate pp%n%\nQ execute pp%n%\nQ discard all"},
		story{name: "unknown", steps: "Q execute nothing\nQ select 1"},
		story{name: "unknown, parsed only", mode: "once", steps: "P \"\" execute nothing\nS\nwait\nP \"\" execute nothing\nB \"\" \"\"\nE \"\"\nS\nwait\nP s execute nothing\nS\nwait\nD S s\nS\nwait"},
	)
}

// TestQueriedBehindFlush: what a pipeline read on a replica before a Flush counts where it goes on, and
// what it bound there it may run, and go on.
func TestQueriedBehindFlush(t *testing.T) {
	t.Parallel()
	var all []story
	for _, behind := range []string{"begin isolation level repeatable read", "begin isolation level serializable read only", "set transaction isolation level serializable",
		"discard all", "vacuum items", "insert into w values (1)", "begin", "create table made%n% ()"} {
		for first, read := range map[string]string{"a read": "select count(*) from items", "a setting": "select set_config('app.a', 'x', true)"} {
			all = append(all, story{name: behind + " behind " + first, mode: "once", steps: "P \"\" " + read + "\nB \"\" \"\"\nE \"\"\nH\nwait C\n" +
				"P \"\" " + behind + "\nB \"\" \"\"\nE \"\"\nS\nwait\nQ insert into w values (2)\nQ rollback\nQ select count(*) from w"})
		}
	}
	for _, behind := range []string{"insert into w values (1)", "show transaction_read_only", "show transaction_isolation", "begin"} {
		for _, modes := range []string{"read only", "isolation level repeatable read, read only"} {
			all = append(all, story{name: behind + " behind " + modes, mode: "once", steps: "Q set app.a = '1'\nP \"\" set transaction " + modes + "\nB \"\" \"\"\nE \"\"\nP \"\" select count(*) from items\nB \"\" \"\"\nE \"\"\nH\nwait C\n" +
				"P \"\" " + behind + "\nB \"\" \"\"\nE \"\"\nS\nwait\nQ insert into w values (2)\nQ rollback\nQ select count(*) from w"})
		}
	}
	all = append(all, story{name: "what is too long to be gathered", mode: "once", steps: "P \"\" select count(*) from items\nB \"\" \"\"\nE \"\"\nH\nwait C\n" +
		"P \"\" select length($1)\nB \"\" \"\" " + strings.Repeat("x", 300<<10) + "\nE \"\"\nP \"\" insert into w values (nextval('sq'))\nB \"\" \"\"\nE \"\"\nS\nwait\nQ select count(*) from w"})
	for _, texts := range [][2]string{{"select count(*) from items", "insert into w values (1)"}, {"select set_config('app.a', 'x', false)", "create table made%n% ()"}, {"select 1", "show transaction_read_only"},
		{"reset app.a", "set transaction isolation level repeatable read"}, {"insert into w values (1)", "select count(*) from w"}, {"begin", "insert into w values (3)"}} {
		all = append(all, story{name: texts[0] + " run behind a Flush, before " + texts[1], mode: "once", steps: "Q set app.a = '1'\nP \"\" " + texts[0] + "\nB \"\" \"\"\nH\nwait 2\nE \"\"\n" +
			"P \"\" " + texts[1] + "\nB \"\" \"\"\nE \"\"\nS\nwait\nQ rollback\nQ select current_setting('app.a', true), count(*) from w"})
	}
	for _, behind := range []string{"discard all", "vacuum items", "create database made%n%"} {
		for _, first := range []string{"set app.a = '2'", "reset app.a", "select set_config('app.a', '2', false)", "deallocate all", "discard all", "commit"} {
			if (first == "discard all" || first == "commit") && strings.HasPrefix(behind, "create") {
				continue // it succeeds, and each run makes the same
			}
			all = append(all, story{name: behind + " behind " + first, mode: "once", steps: "Q set app.a = '1'\nP \"\" " + first + "\nB \"\" \"\"\nE \"\"\nP \"\" " + behind + "\nB \"\" \"\"\nE \"\"\nS\nwait\nQ select current_setting('app.a', true)"})
		}
	}
	for _, read := range []string{"select nosuch from items", "select count(*) from items"} {
		for _, end := range []string{"commit", "rollback to a", "rollback and chain"} {
			for parted, steps := range map[string]string{"parsed": "H\nwait 1\nB \"\" \"\"\nE \"\"", "bound": "B \"\" \"\"\nH\nwait 2\nE \"\"", "run": "B \"\" \"\"\nE \"\"\nH\nwait C"} {
				all = append(all, story{name: end + " " + parted + " before a Flush, behind " + read, mode: "once", steps: "Q begin\nQ savepoint a\nQ " + read + "\nP \"\" " + end + "\n" + steps +
					"\nP \"\" insert into w values (1)\nB \"\" \"\"\nE \"\"\nS\nwait\nQ rollback\nQ select count(*) from w"})
			}
		}
	}
	stage{setup: items, every: true}.tell(t, all...)
}
