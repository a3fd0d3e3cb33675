package catalog

import (
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// TestLargeDefinitions: who may create something may make it as large as they like. It is not
// looked into, and counts as bad; nobody else's reads suffer.
func TestLargeDefinitions(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	many := func(one, between string, n int) string { return strings.Repeat(one+between, n) + one }
	for _, sql := range []string{
		"create table plain (a int); create table ruled (a int); create table checked (a int); create table defaulted (a int)",
		"create rule big as on update to ruled do also (" + many("select 1", "; ", 20000) + ")",
		"alter table checked add check (a in (" + many("1", ", ", 30000) + "))",
		"alter table defaulted alter a set default (array[" + many("length('x')", ", ", 20000) + "])[1]",
		"create view viewed as select * from plain where a in (" + many("1", ", ", 30000) + ")",
		"create function f() returns int language plpgsql as $$ begin return 1; " + strings.Repeat("-- a long comment\n", 200000) + " end $$",
	} {
		if err := c.Primary.Exec(t.Context(), db, sql); err != nil {
			t.Fatalf("%.60s: %v", sql, err)
		}
	}
	started := time.Now()
	s := load(t, connect(t, c.Primary, db, pgtest.Superuser), LoadOptions{Tables: true})
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("reading the catalog took %v", took)
	}
	if r := s.Relation("", "plain"); !r.Known || !r.Replica || !r.Clean || !r.WriteClean {
		t.Errorf("a table beside them: %+v", r)
	}
	for _, name := range []string{"ruled", "checked", "defaulted"} {
		if r := s.Relation("", name); !r.Replica || r.WriteClean {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := s.Relation("", "viewed"); r.Replica || r.Clean {
		t.Errorf("a view: %+v", r)
	}
	if f := s.Function("", "f"); f.Clean {
		t.Errorf("a function: %+v", f)
	}
	t.Logf("read in %v", time.Since(started))
}
