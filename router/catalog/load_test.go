package catalog

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/setting"
)

// nasty makes a database of testdata/nasty.sql.
func nasty(t testing.TB) (*pgtest.Cluster, string) {
	t.Helper()
	c := pgtest.Shared(t)
	db := c.Database(t)
	sql, err := os.ReadFile("testdata/nasty.sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Primary.Exec(t.Context(), db, string(sql)); err != nil {
		t.Fatal(err)
	}
	if err := c.Exec(t.Context(), "do $$ begin create role catalog_nobody login; exception when duplicate_object then null; end $$"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, db
}

// own describes all that is not PostgreSQL's own, a line each.
func own(s *Snapshot) string {
	var b strings.Builder
	for line := range strings.Lines(formatBuiltin(s)) {
		f := strings.Fields(line)
		if f[0] != "#" && f[2] != "pg_catalog" && f[2] != "information_schema" && !(f[0] == "t" && strings.HasPrefix(f[3], "_")) {
			b.WriteString(strings.TrimSuffix(line, "\n") + sets(s, f[0], f[2], f[3]) + "\n")
		}
	}
	return b.String()
}

// sets describes the settings an object may change, and writing to it.
func sets(s *Snapshot, kind, schema, name string) (text string) {
	r := s.Relation(schema, name)
	switch kind {
	case "f":
		r = Relation{Fact: s.Function(schema, name)}
	case "t":
		r = Relation{Fact: s.Type(schema, name)}
	case "o":
		r = Relation{Fact: s.Operator(schema, name)}
	}
	say := func(verb string, changes bool, touches setting.Names) {
		if changes || touches != (setting.Names{}) {
			text += fmt.Sprintf(" [%s %s session=%v]", verb, touches, changes)
		}
	}
	say("sets", r.Sets, r.Touches)
	say("write sets", r.WriteSets, r.WriteTouches)
	return text
}

// TestFacts reads a database full of traps as an ordinary role, on the primary and
// on a replica, and compares with testdata/nasty.txt.
func TestFacts(t *testing.T) {
	c, db := nasty(t)
	s := load(t, connect(t, c.Primary, db, "catalog_nobody"), LoadOptions{})
	if !s.Loaded() {
		t.Error("not loaded")
	}
	const file = "testdata/nasty.txt"
	got := own(s)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("facts differ (-want +got):\n%s", diff)
	}
	replica := load(t, connect(t, c.Replicas[0], db, "catalog_nobody"), LoadOptions{})
	if diff := cmp.Diff(got, own(replica)); diff != "" {
		t.Errorf("the replica's facts differ (-primary +replica):\n%s", diff)
	}
	if s.Version() != replica.Version() {
		t.Error("equal contents, unequal versions")
	}
}

// TestNames asks for names as the router does.
func TestNames(t *testing.T) {
	c, db := nasty(t)
	s := load(t, connect(t, c.Primary, db, "catalog_nobody"), LoadOptions{})
	for _, test := range []struct {
		what string
		got  Fact
		want string
	}{
		{"function random, also app's", s.Function("", "random"), "known unsafe clean"},
		{"pg_catalog.random", s.Function("pg_catalog", "random"), "known safe clean"},
		{"lower, also app's", s.Function("", "lower"), "known unsafe clean"},
		{"f_twice", s.Function("", "f_twice"), "known unsafe clean"},
		{"app.f_twice", s.Function("app", "f_twice"), "known safe clean"},
		{"missing schema", s.Function("missing", "now"), "unknown"},
		{"missing function", s.Function("", "missing"), "unknown"},
		{"shared", s.Relation("", "shared").Fact, "known unsafe clean"},
		{"app.shared", s.Relation("app", "shared").Fact, "known safe clean"},
		{"plain, also other's", s.Relation("", "plain").Fact, "known unsafe clean"},
		{"temporary table", s.Relation("", "passing").Fact, "unknown"},
		{"temporary view", s.Relation("", "passing_view").Fact, "unknown"},
		{"qualified missing", s.Relation("public", "shared").Fact, "unknown"},
		{"row type", s.Type("public", "serials"), "known safe clean"},
		{"array of row type", s.Type("", "_serials"), "known safe clean"},
		{"row type with a domain", s.Type("", "with_state"), "known unsafe state"},
		{"array of row type with a domain", s.Type("", "_with_state"), "known unsafe state"},
		{"array of domain", s.Type("", "_d_state"), "known unsafe state"},
		{"missing type", s.Type("", "missing"), "unknown"},
		{"missing array", s.Type("", "_missing"), "unknown"},
		{"text", s.Type("", "text"), "known safe clean"},
		{"=", s.Operator("", "="), "known safe clean"},
		{"===", s.Operator("", "==="), "known unsafe state"},
		{"implicit", s.Implicit(), "known safe clean"},
	} {
		if got := brief(test.got); got != test.want {
			t.Errorf("%s: %s, want %s (%+v)", test.what, got, test.want, test.got)
		}
	}
}

func brief(f Fact) string {
	if !f.Known {
		return "unknown"
	}
	word := map[bool]string{true: "safe clean", false: "unsafe state"}
	replica, _, _ := strings.Cut(word[f.Replica], " ")
	_, clean, _ := strings.Cut(word[f.Clean && !f.Sets], " ")
	return fmt.Sprintf("known %s %s", replica, clean)
}

// TestExtensions: functions in C are judged by the extension they belong to.
func TestExtensions(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	if err := c.Primary.Exec(t.Context(), db, `create schema x;
create extension pg_trgm schema x; create extension "uuid-ossp" schema x; create extension citext schema x;
create extension hstore schema x; create extension tablefunc schema x; create extension dblink schema x;
create extension pgcrypto schema x; create extension postgres_fdw schema x; create extension pg_stat_statements schema x;
create view x.v as select * from x.crosstab('select 1') as t(a int);
create table x.documents (name x.citext, attributes x.hstore default '', id uuid default x.uuid_generate_v4());
create index on x.documents using gin (name x.gin_trgm_ops)`); err != nil {
		t.Fatal(err)
	}
	s := load(t, connect(t, c.Primary, db, pgtest.Superuser), LoadOptions{})
	for name, want := range map[string]string{
		"similarity": "known safe clean", "uuid_generate_v4": "known safe clean", "akeys": "known safe clean",
		"set_limit": "known unsafe state", "show_limit": "known safe clean", "crosstab": "known unsafe state",
		"connectby": "known unsafe state", "normal_rand": "known safe clean", "dblink": "known unsafe state",
		"dblink_connect": "known unsafe state", "gen_salt": "known safe clean", "crypt": "known safe clean",
		"postgres_fdw_disconnect_all": "known unsafe state", "regexp_match": "known safe clean",
	} {
		if got := brief(s.Function("", name)); got != want {
			t.Errorf("%s: %s, want %s (%+v)", name, got, want, s.Function("", name))
		}
	}
	for _, op := range []string{"%", "=", "->", "@>", "~~*"} {
		if got := brief(s.Operator("", op)); got != "known safe clean" {
			t.Errorf("operator %s: %s", op, got)
		}
	}
	for _, typ := range []string{"citext", "hstore", "text", "json", "documents"} {
		if got := brief(s.Type("", typ)); got != "known safe clean" {
			t.Errorf("type %s: %+v", typ, s.Type("", typ))
		}
	}
	if r := s.Relation("x", "documents"); !r.Replica || !r.Clean || !r.WriteClean {
		t.Errorf("documents: %+v", r)
	}
	if got := brief(s.Relation("x", "v").Fact); got != "known unsafe state" {
		t.Errorf("view of crosstab: %s", got)
	}
	if got := brief(s.Relation("x", "pg_stat_statements").Fact); got != "known unsafe clean" {
		t.Errorf("pg_stat_statements: %s", got)
	}
	if got := brief(s.Implicit()); got != "known safe clean" {
		t.Errorf("implicit: %+v", s.Implicit())
	}
}
