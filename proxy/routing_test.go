package proxy_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// traced is a client whose statements tell where they run.
type traced struct{ *rawConn }

func trace(t *testing.T, s *service, database string) traced {
	t.Helper()
	c := traced{raw(t, s.addr, database)}
	c.query("set pgweir.trace = on")
	return c
}

var where = regexp.MustCompile(`"pgweir: (\S+) (\S+) (\S+) \d+µs"`)

// ran are the roles and reasons of what lines tell of.
func ran(lines []string) (told []string) {
	for _, l := range lines {
		if m := where.FindStringSubmatch(l); m != nil {
			told = append(told, m[2]+" "+m[3])
		}
	}
	return told
}

// told sends one simple query and returns where it ran.
func (c traced) told(sql string) []string { return ran(c.query(sql)) }

// rest are the lines of an answer without those that tell of a server.
func rest(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return where.MatchString(l) })
}

// step is one simple query and where it must run; no place is a statement no server takes part in.
type step struct{ sql, place string }

// TestWhereStatementsRun checks places and reasons of statements in a row in one session.
func TestWhereStatementsRun(t *testing.T) {
	s := start(t, eventual)
	for name, steps := range map[string][]step{
		"statements": {
			{"select count(*) from items", "replica read"},
			{"insert into log (line) values ('x')", "primary write"},
			{"select * from items for update", "primary row_lock"},
			{"select nextval('log_id_seq')", "primary sequence"},
			{"create table own.here (a int)", "primary ddl"},
			{"selec", "primary unparsed"},
			{"show timezone", "replica read"},
		},
		"a transaction that reads": {
			{"begin", "- local"},
			{"select count(*) from items", "replica read"},
			{"select count(*) from log", "replica read"},
			{"commit", "replica transaction"},
		},
		"a check is no reason to be anywhere": {
			{"begin", "- local"},
			{"", "- local"},
			{"-- ping", "- local"},
			{"show transaction isolation level", "replica read"},
			{"select count(*) from items", "replica read"},
			{"", "replica transaction"},
			{"show server_version", "replica read"},
			{"insert into log (line) values ('moved')", "primary write"},
			{"show server_version", "primary transaction"},
			{"rollback", "primary transaction"},
			{"", "replica empty"},
		},
		"a transaction moves with its first write": {
			{"begin", "- local"},
			{"select count(*) from items", "replica read"},
			{"insert into log (line) values ('moved')", "primary write"},
			{"select count(*) from items", "primary transaction"},
			{"rollback", "primary transaction"},
			{"select count(*) from items", "replica read"},
		},
		"a transaction that never reaches a server": {
			{"begin", "- local"},
			{"savepoint a", "- local"},
			{"rollback", "- local"},
		},
		"savepoints move with it": {
			{"begin", "- local"},
			{"savepoint a", "- local"},
			{"select count(*) from items", "replica read"},
			{"savepoint b", "replica transaction"},
			{"insert into log (line) values ('moved too')", "primary write"},
			{"rollback to b", "primary transaction"},
			{"rollback to a", "primary transaction"},
			{"commit", "primary transaction"},
		},
		"isolation": {
			{"begin isolation level repeatable read", "- local"},
			{"select count(*) from items", "primary isolation"},
			{"commit", "primary transaction"},
			{"begin isolation level repeatable read, read only", "- local"},
			{"select count(*) from items", "replica read"},
			{"commit", "replica transaction"},
			{"begin isolation level serializable, read only", "- local"},
			{"select count(*) from items", "primary isolation"},
			{"commit", "primary transaction"},
		},
		"cursors": {
			{"begin", "- local"},
			{"declare c cursor for select id from items", "primary cursor"},
			{"fetch 1 from c", "primary transaction"},
			{"commit", "primary transaction"},
			{"begin read only", "- local"},
			{"declare c cursor for select id from items", "replica read"},
			{"fetch 1 from c", "replica transaction"},
			{"commit", "replica transaction"},
		},
		"wishes": {
			{"set pgweir.route = primary", "- local"},
			{"select count(*) from items", "primary route"},
			{"reset pgweir.route", "- local"},
			{"select count(*) from items", "replica read"},
			{"/* pgweir:primary */ select count(*) from items", "primary hint"},
		},
		"temporary tables pin": {
			{"create temp table x (a int)", "primary ddl"},
			{"select count(*) from items", "primary pinned"},
			{"discard all", "primary pinned"},
			{"select count(*) from items", ""}, // on a replica once the catalog was read again
		},
		"explain and copy": {
			{"explain select count(*) from items", "replica read"},
			{"copy (select 1) to stdout", "replica read"},
			{"explain analyze insert into log (line) values ('explained')", "primary write"},
		},
		"prepared by SQL": {
			{"prepare a as select count(*) from items", ""},
			{"execute a", "replica read"},
			{"prepare b as insert into log (line) values ('prepared')", "primary write"},
			{"execute b", "primary write"},
			{"deallocate a", "- local"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := trace(t, s, newDatabase(t, world+restore)) // of its own, as DDL unsettles the catalog
			for _, step := range steps {
				got := strings.Join(c.told(step.sql), ", ")
				if step.place != "" && got != step.place {
					t.Errorf("%s ran on %s, not %s", step.sql, got, step.place)
				}
			}
		})
	}
}

// TestSavepointsAreReplayed: what is set on a replica is there after the move.
func TestSavepointsAreReplayed(t *testing.T) {
	s := start(t, eventual)
	database := newDatabase(t, world+restore)
	c := trace(t, s, database)
	for _, sql := range []string{
		"begin", "select 1", "savepoint a", "select 2", "savepoint b",
		"insert into log (line) values ('kept')", "savepoint c", "insert into log (line) values ('lost')",
		"rollback to c", "release b", "commit",
	} {
		for _, l := range c.query(sql) {
			if strings.HasPrefix(l, "E ") {
				t.Fatalf("%s: %s", sql, l)
			}
		}
	}
	got := rest(c.query("select line from log"))
	want := []string{`T line:25:-1:-1:0:column2`, `D "kept"`, "C SELECT 1", "Z I"}
	if !slices.Equal(got, want) {
		t.Errorf("left: %q", got)
	}
}

// TestLyingFunction: a function declared STABLE that writes is refused by a
// replica, runs once on the primary, and is known from then on.
func TestLyingFunction(t *testing.T) {
	s := start(t, eventual)
	for name, opening := range map[string]string{"alone": "", "first in a transaction": "begin", "after a read": "begin; select"} {
		t.Run(name, func(t *testing.T) {
			database := newDatabase(t, world+restore)
			c := trace(t, s, database)
			before := s.metric(t, "pgweir_retries_total", "reason=read_only")
			switch opening {
			case "begin":
				c.query("begin")
			case "begin; select":
				c.query("begin")
				c.query("select count(*) from items")
			}
			lines := c.query("select liar('first')")
			if got := ran(lines); !slices.Equal(got, []string{"primary retried"}) && !slices.Equal(got, []string{"primary function"}) {
				t.Errorf("ran on %q: %q", got, lines)
			} else if got[0] == "primary function" {
				t.Log("the catalog saw through it")
			} else if n := s.metric(t, "pgweir_retries_total", "reason=read_only") - before; n != 1 {
				t.Errorf("%v retries counted", n)
			}
			if opening != "" {
				c.query("commit")
			}
			if got := ran(c.query("select liar('second')")); !slices.Equal(got, []string{"primary learned"}) && !slices.Equal(got, []string{"primary function"}) {
				t.Errorf("the second time on %q", got)
			}
			got := rest(c.query("/* pgweir:primary */ select line from log order by id"))
			if want := []string{`D "first"`, `D "second"`}; !slices.Equal(got[1:len(got)-2], want) {
				t.Errorf("written: %q", got)
			}
		})
	}
}

// TestLyingFunctionReadOnly: in a transaction declared read only the refusal is the client's.
func TestLyingFunctionReadOnly(t *testing.T) {
	s := start(t, eventual)
	c := trace(t, s, newDatabase(t, world+restore))
	c.query("begin read only")
	lines := c.query("select liar('x')")
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "E ERROR ERROR 25006") }) {
		t.Errorf("%q", lines)
	}
}

// TestChangedResultType: a prepared statement whose result type DDL has changed runs
// as if it were prepared anew, unless a transaction under way would be harmed.
func TestChangedResultType(t *testing.T) {
	s := start(t, eventual, poolSize(1))
	database := newDatabase(t, world+restore+"create table own.t (a int); insert into own.t values (1)")
	other := s.connect(t, database)
	c := &player{t: t, addr: s.addr, database: database, now: "a", conns: map[string]*rawConn{}, out: map[string][]byte{}, due: map[string]int{}}
	do := func(lines ...string) []string {
		c.transcript = nil
		for _, l := range append(lines, "wait") {
			c.line(l)
		}
		return slices.DeleteFunc(c.transcript, func(l string) bool { return !strings.HasPrefix(l, "a  ") || where.MatchString(l) })
	}
	alter := func(column string) {
		if _, err := other.Exec(t.Context(), "alter table own.t add "+column+" int"); err != nil {
			t.Fatal(err)
		}
	}
	for _, lines := range [][]string{
		{"P s select * from own.t", "S", `B "" s`, `E ""`, "S"},
		{"Q prepare q as select * from own.t", "Q execute q"},
		{"Q set pgweir.route = primary", `B "" s`, `E ""`, "S", "Q execute q", "Q reset pgweir.route"},
	} {
		do(lines...)
	}
	before := s.metric(t, "pgweir_retries_total", "reason=cached_plan")
	alter("b")
	if got, want := do(`B "" s`, `D P ""`, `E ""`, "S"), []string{"a  2", "a  T a:23:4:-1:0:column1 b:23:4:-1:0:column2", `a  D "1" NULL`, "a  C SELECT 1", "a  Z I"}; !slices.Equal(got, want) {
		t.Errorf("alone: %q", got)
	}
	if s.metric(t, "pgweir_retries_total", "reason=cached_plan") == before {
		t.Error("nothing was prepared anew: the test proves nothing")
	}
	alter("c")
	if got, want := do("Q begin", `B "" s`, `D P ""`, `E ""`, "S", "Q commit"), []string{"a  C BEGIN", "a  Z T", "a  2",
		"a  T a:23:4:-1:0:column1 b:23:4:-1:0:column2 c:23:4:-1:0:column3", `a  D "1" NULL NULL`, "a  C SELECT 1", "a  Z T", "a  C COMMIT", "a  Z I"}; !slices.Equal(got, want) {
		t.Errorf("first in a transaction: %q", got)
	}
	alter("d")
	// Not where the client would read the new rows by what it was told of the old.
	if got := do(`B "" s`, `E ""`, "S"); !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "a  E ERROR ERROR 0A000") }) {
		t.Errorf("without a new description: %q", got)
	}
	if got, want := do("Q execute q"), []string{"a  T a:23:4:-1:0:column1 b:23:4:-1:0:column2 c:23:4:-1:0:column3 d:23:4:-1:0:column4", `a  D "1" NULL NULL NULL`, "a  C SELECT 1", "a  Z I"}; !slices.Equal(got, want) {
		t.Errorf("by SQL: %q", got)
	}
	for _, conn := range c.conns {
		conn.close()
	}
}

// TestSettingsBehindFlush: what a statement sets is known to the proxy also when it
// was bound before a Flush and executed behind it.
func TestSettingsBehindFlush(t *testing.T) {
	s := start(t, poolSize(1))
	database := newDatabase(t, "create table w (a int)")
	play(t, &script{lines: []string{ // committed on the replica that it began on, when the batch goes to the primary
		`P "" set search_path = pg_catalog, public`, `B "" ""`, `E ""`, "H", "wait C",
		`P "" insert into w values (1)`, `B "" ""`, `E ""`, "S", "wait",
	}}, s.addr, database, false)
	play(t, &script{lines: []string{
		`P "" set TimeZone = 'Asia/Tokyo'`, "H", "wait 1", `B "" ""`, "H", "wait 2", `E ""`, "H", "wait C", "S", "wait",
	}}, s.addr, database, false)
	c := raw(t, s.addr, database)
	for _, route := range []string{"primary", "replica"} {
		c.query("set pgweir.route = " + route)
		if got := c.query("show TimeZone"); !slices.Contains(got, `D "UTC"`) {
			t.Errorf("another session finds %q", got)
		}
		if got := c.query("show search_path"); !slices.Contains(got, `D "\"$user\", public"`) {
			t.Errorf("another session finds %q", got)
		}
	}
}
