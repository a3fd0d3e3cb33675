package proxy_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
)

// paths is a stage of schemas whose tables have one name and columns of other types, and of a
// shared one with code that is for whatever the path leads to.
func paths() stage {
	return stage{setup: `create schema q1; create schema q2;
		create type q1.mood as enum ('a', 'b'); create type q2.mood as enum ('a', 'c');
		create table q1.k (id int, b int, m q1.mood, c int, e int); create table q2.k (id numeric, b bigint, m q2.mood, d text, e text);
		insert into q1.k values (1, 1, 'a', 1); insert into q2.k values (2.5, 2, 'c', 'd');
		create function use(path text) returns void language plpgsql as $$begin perform set_config('search_path', path, false); end$$;`}
}

// TestParametersByPath: of which types the parameters of a prepared statement are is what the names in
// it mean to the session that prepares it, whoever has prepared the same text before.
func TestParametersByPath(t *testing.T) {
	t.Parallel()
	const a, b = "@a\nQ set search_path = q1\n", "@b\nQ set search_path = q2\n"
	prepared := func(sql string) string { return "P s " + sql + "\nD S s\nS\nwait\n" }
	bound := func(value string) string { return "B \"\" s " + value + "\nE \"\"\nS\nwait\n" }
	const insert, update, enum = "insert into k(id) values ($1) returning id", "update k set b = $1", "update k set m = $1"
	paths().tell(t,
		story{name: "numeric behind int", mode: "once", steps: a + prepared(insert) + bound("1") + b + prepared(insert) + bound("1.5") + "@a\n" + bound("2") + "@b\n" + bound("2.5")},
		story{name: "not described", mode: "once", steps: a + "P s " + insert + "\n" + bound("1") + b + "P s " + insert + "\n" + bound("1.5") + "@a\n" + bound("2")},
		story{name: "bigint behind int", mode: "once", steps: a + prepared(update) + bound("1") + b + prepared(update) + bound("5000000000")},
		story{name: "another enum", mode: "once", steps: a + "P s " + enum + "\n" + bound("b") + b + "P s " + enum + "\n" + bound("c") + "@a\n" + bound("b")},
		story{name: "another enum for a transaction", mode: "once", steps: "@b\nQ begin\nQ set local search_path = q2\nP s " + enum + "\n" + bound("c") + "Q commit\n" + a + "P s " + enum + "\n" + bound("b")},
		story{name: "one session", mode: "once", steps: a + prepared(insert) + bound("1") + "Q set search_path = q2\nP s1 " + insert + "\nD S s1\nB \"\" s1 1.5\nE \"\"\nS\nwait"},
		story{name: "in one pipeline", mode: "once", steps: a + prepared(insert) + bound("1") + "@b\nP \"\" set search_path = q2\nB \"\" \"\"\nE \"\"\n" + prepared(insert) + bound("1.5")},
		story{name: "behind a rollback in the pipeline", mode: "once", steps: a + prepared(insert) + bound("1") + b + "Q begin\nQ set local search_path = q1\nP \"\" rollback\nB \"\" \"\"\nE \"\"\n" + prepared(insert) + bound("1.5")},
		story{name: "a column that is not there", mode: "once", steps: a + prepared("select c from k") + b + "P m select c from k\nS\nwait\nP m select id from k\nD S m\nS\nwait\nB \"\" m\nE \"\"\nS\nwait"},
		story{name: "taken elsewhere", mode: "once", steps: a + "P s update k set id = $1\nS\nwait\n" + bound("1") + b + "P s update k set id = $1\nS\nwait\n" + bound("1.5") +
			"@a\nQ set search_path = q2\n" + bound("1") + "Q set search_path = q1\n" + bound("1") + "@b\n" + bound("1.5") + "Q select id from q2.k"},
		story{name: "SQL's PREPARE", mode: "once", steps: a + "Q prepare p%n% as update k set b = $1\nQ execute p%n%(2)\n" + b + "Q prepare p%n% as update k set b = $1\nQ execute p%n%(5000000000)\n@a\nQ execute p%n%(3)"},
	)
	portal := func(value string) string { return "B \"\" s " + value + "\nD P \"\"\nE \"\"\nS\nwait\n" }
	const plain, read = "insert into k(id) values ($1)", "select count(*) from k where e <> $1"
	ids := "Q select id from q1.k order by id\nQ select id from q2.k order by id"
	paths().tell(t,
		story{name: "told of parameters", mode: "once", steps: a + prepared(plain) + "Q set search_path = q2\n" + portal("1.5") + portal("2") + ids},
		story{name: "told of parameters, behind others", mode: "once", steps: a + prepared(plain) + b + prepared(plain) + bound("1.5") + "@a\nQ set search_path = q2\n" + portal("2.5") + portal("3") + ids},
		story{name: "in a pipeline, by a function", mode: "once", steps: a + prepared(insert) + bound("1") + "@b\nP \"\" select public.use('q2')\nB \"\" \"\"\nE \"\"\nP s " + insert + "\n" + bound("1.5") + "@a\nC S s\n" + prepared(insert) + bound("2")},
		story{name: "in a pipeline, by a function, before", mode: "once", steps: "@b\nP \"\" select public.use('q2')\nB \"\" \"\"\nE \"\"\nP s " + insert + "\n" + bound("1.5") + a + "P s " + insert + "\n" + bound("1.5") + prepared(update) + bound("1")},
		story{name: "told of the columns anew", mode: "once", steps: b + "P s select count(*) from k where b <> $1\nD S s\nS\nwait\nQ set search_path = q1\n" + portal("5000000000") + "Q begin\nQ insert into k(id) values (3)\n" + portal("5000000000") + "Q rollback"},
		story{name: "told twice", mode: "once", steps: a + prepared(plain) + "Q set search_path = q2\nD S s\nS\nwait\n" + portal("1.5")},
		story{name: "told before a column changed", mode: "once", steps: a + prepared(update) + "@b\nQ alter table q1.k alter b type text\n@a\n" + portal("1") + "@b\nQ alter table q1.k alter b type int using b::int\n@a\n" + portal("2")},
		story{name: "told of parameters that have become others", mode: "once", steps: b + prepared(read) + "Q set search_path = q1\n" + portal("1") + "Q set search_path = q2\n" + portal("a")},
		story{name: "bound with parameters that have become others", mode: "once", steps: b + prepared(read) + "Q set search_path = q1\n" + bound("1") + "Q set search_path = q2\n" + bound("a")},
		story{name: "bound before a column changed", mode: "once", steps: a + prepared("update k set c = $1") + "@b\nQ alter table q1.k alter c type text\n@a\n" + bound("1") + "@b\nQ alter table q1.k alter c type int using b::int\n@a\n" + bound("2")},
	)
	const set = "update k set id = $1"
	few := paths()
	few.change = []func(*config.Config){func(c *config.Config) { c.Pool.MaxStatements = 4 }}
	others := ""
	for i := range 4 {
		others += strings.ReplaceAll("P o% /* pgweir:primary */ select %\nB \"\" o%\nE \"\"\nS\nwait\n", "%", strconv.Itoa(i))
	}
	few.tell(t, story{name: "parsed anew under another path", mode: "once", steps: a + "P s " + set + "\n" + bound("1") + "@b\nQ set search_path = q1\nP s " + set + "\n" + bound("1") + others +
		"@a\nQ set search_path = q2\n" + bound("2") + "@b\n" + bound("1.5") + "Q select count(*) from k"},
		story{name: "parsed anew under another path of the pipeline", mode: "once", steps: a + "P s " + set + "\n" + bound("1") + "@b\nQ set search_path = q1\nP s " + set + "\n" + bound("1") + others +
			"@a\nP \"\" set search_path = q2\nB \"\" \"\"\nE \"\"\n" + bound("2") + "@b\n" + bound("1.5") + "Q select count(*) from k"},
		story{name: "parsed anew where its table is dropped in the pipeline", mode: "once", steps: "Q set search_path = q1\nQ create temp table k(id text)\nP r select id from k\nD S r\nS\nwait\n" + others +
			"Q create table made%n%()\nP \"\" drop table k\nB \"\" \"\"\nE \"\"\nB \"\" r\nE \"\"\nS\nwait"},
		story{name: "parsed where only its server knew the path", mode: "once", steps: a + "P \"\" set search_path = q2, public\nB \"\" \"\"\nE \"\"\n" + prepared(read) + "Q set search_path = q1\n" + others +
			"P \"\" set local search_path = q2\nB \"\" \"\"\nE \"\"\nB \"\" s a\nE \"\"\nS\nwait"},
		story{name: "SQL's PREPARE anew under another path", mode: "once", steps: a + "Q prepare p%n% as " + set + "\n@b\nQ set search_path = q1\nQ prepare p%n% as " + set + "\nQ execute p%n%(1)\n" + others +
			"@a\nQ set search_path = q2\nQ execute p%n%(2)\n@b\nQ execute p%n%('1.5')\nQ execute p%n%(7)\n@a\nQ execute p%n%(3)\nQ select id from q1.k\nQ select id from q2.k"},
		story{name: "an EXECUTE anew under another path of the pipeline", mode: "once", steps: a + "Q prepare p%n% as " + set + "\nQ set search_path = q2\nP n execute p%n%(2)\nS\nD S n\nS\nwait\nQ set search_path = q1\n@b\nQ set search_path = q1\nQ prepare p%n% as " + set + "\n" + others +
			"@a\nP \"\" set search_path = q2\nB \"\" \"\"\nE \"\"\nB \"\" n\nE \"\"\nS\nwait\n@b\nQ execute p%n%('1.5')\nQ execute p%n%(7)"})
}

// TestOthersKeepTypes: where statements are prepared anew for one session, as one of them has other
// columns under another path, their parameters stay what they were for another.
func TestOthersKeepTypes(t *testing.T) {
	database := newDatabase(t, paths().setup)
	s := start(t, poolSize(1))
	a, b := raw(t, s.addr, database), raw(t, s.addr, database)
	for _, c := range []*rawConn{a, b} {
		c.query("set search_path = q1")
		say(c, "P s insert into k(id) values ($1)", "P u select id from k", "S", "wait")
	}
	a.query("set search_path = q2")
	if got := say(a, `B "" u`, `D P ""`, `E ""`, `B "" s 9`, `E ""`, "S", "wait"); !strings.Contains(got, "INSERT") {
		t.Errorf("under another path:\n%s", got)
	}
	if got := say(b, `B "" s 1.5`, `E ""`, "S", "wait"); !strings.Contains(got, "22P02") {
		t.Errorf("under its own path:\n%s", got)
	}
}
