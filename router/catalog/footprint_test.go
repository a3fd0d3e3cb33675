package catalog

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgweir/pgweir/internal/pgtest"
)

// TestFootprints reads testdata/footprints.sql and compares with footprints.txt.
func TestFootprints(t *testing.T) {
	c := pgtest.Shared(t)
	db := c.Database(t)
	sql, err := os.ReadFile("testdata/footprints.sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Primary.Exec(t.Context(), db, string(sql)); err != nil {
		t.Fatal(err)
	}
	s := load(t, connect(t, c.Primary, db, pgtest.Superuser), LoadOptions{})
	got := footprintsOf(s)
	const file = "testdata/footprints.txt"
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
		t.Error(diff)
	}
	if n := len(s.relations.facts); n > 200 {
		t.Errorf("%d facts of %d relations: plain tables share none", n, len(s.relations.entries))
	}
}

// footprintsOf describes what the users' objects touch, a line each.
func footprintsOf(s *Snapshot) string {
	names := map[uint32]string{}
	for _, e := range s.relations.entries {
		names[tableID(s.relations.name(e))] = s.relations.name(e)
	}
	show := func(f Footprint) string {
		if !f.Exact() {
			return "any"
		}
		list := []string{}
		for i := range f.Len() {
			list = append(list, names[f.ID(i)])
		}
		slices.Sort(list)
		return "[" + strings.Join(list, " ") + "]"
	}
	var b strings.Builder
	for kind, t := range s.tables() {
		for _, e := range t.entries {
			schema, name := t.schemas[e.schema], t.name(e)
			if schema == "pg_catalog" || schema == "information_schema" || kind == "t" || strings.HasPrefix(name, "many_") || strings.HasPrefix(name, "part_") && name != "part_7" {
				continue
			}
			r := t.find(schema, name).named(name)
			fmt.Fprintf(&b, "%s %s.%s reads %s writes %s", kind, schema, name, show(r.Reads), show(r.Writes))
			if kind == "r" {
				fmt.Fprintf(&b, " changes %s", show(r.Changes))
			}
			b.WriteByte('\n')
		}
	}
	lines := strings.SplitAfter(b.String(), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func TestFootprintSets(t *testing.T) {
	a, b := OneTable("a"), OneTable("b")
	ab := a.With(b)
	if ab != b.With(a) || ab.With(a) != ab || ab.With(NoTable()) != ab || NoTable().With(ab) != ab || ab.Len() != 2 {
		t.Error("a union depends on how it was made")
	}
	if ab.With(Footprint{}) != (Footprint{}) || (Footprint{}).With(a).Exact() {
		t.Error("any table and some is some")
	}
	all := NoTable()
	for i := range maxTables {
		all = all.With(OneTable(fmt.Sprint(i)))
	}
	if !all.Exact() || all.Len() != maxTables || all.With(a).Exact() {
		t.Errorf("%d tables, exact %v", all.Len(), all.Exact())
	}
}

// What built-in functions write matters when a user's function or a write calls them.
func TestBuiltinFootprints(t *testing.T) {
	c := pgtest.Shared(t)
	s := load(t, connect(t, c.Primary, c.Database(t), pgtest.Superuser), LoadOptions{})
	for name, writes := range map[string]bool{
		"nextval": false, "now": false, "random": false, "gen_random_uuid": false, "set_config": false, "pg_notify": false,
		"pg_advisory_xact_lock": false, "count": false, "to_char": false, "txid_current": false, "pg_sleep": false,
		"lo_unlink": true, "query_to_xml": true, "pg_import_system_collations": true, "RI_FKey_cascade_del": true,
	} {
		if f := s.Function("", name); !f.Known || f.Writes.Exact() == writes {
			t.Errorf("%s: %+v", name, f)
		}
	}
	for _, name := range []string{"now", "to_char", "count", "concat", "jsonb_agg", "random", "lower"} {
		if f := s.Function("", name); f.Reads != NoTable() {
			t.Errorf("%s reads tables: %+v", name, f)
		}
	}
}
