package router

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

const arrow = "=> "

// dataEntry is one statement of a data file: comment lines, the text, and what
// is expected of its Plan. An entry ends with its expectation.
type dataEntry struct {
	comments []string
	sql      string
	want     string
}

func readData(t testing.TB, path string) []dataEntry {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []dataEntry
	var e dataEntry
	var sql []string
	for _, line := range strings.Split(strings.TrimRight(string(raw), "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, arrow):
			e.sql, e.want = strings.Join(sql, "\n"), strings.TrimPrefix(line, arrow)
			list = append(list, e)
			e, sql = dataEntry{}, nil
		case len(sql) == 0 && (line == "" || strings.HasPrefix(line, "# ")):
			e.comments = append(e.comments, line)
		default:
			sql = append(sql, line)
		}
	}
	return list
}

func writeData(t *testing.T, path string, list []dataEntry) {
	t.Helper()
	var b strings.Builder
	for _, e := range list {
		for _, c := range e.comments {
			fmt.Fprintln(&b, c)
		}
		fmt.Fprintf(&b, "%s\n%s%s\n", e.sql, arrow, e.want)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// line puts a Plan into one line: class, target, reason, then all that is not empty.
func (p *Plan) line() string {
	s := fmt.Sprintf("%s %s %s", p.Class, p.Target, p.Reason)
	add := func(name, value string) {
		if value != "" && value != "none" {
			s += " " + name + "=" + value
		}
	}
	if p.Statements != 1 {
		add("statements", fmt.Sprint(p.Statements))
	}
	add("flags", p.Flags.String())
	add("pins", p.Pins.String())
	add("unpins", p.Unpins.String())
	add("vacates", p.Vacates)
	add("touches", strings.Join(p.Touches, ","))
	for _, set := range p.Sets {
		add("set", fmt.Sprintf("%s=%q/%d/%t/%t", set.Name, set.Value, set.Param, set.Local, set.Reset))
	}
	if p.Statements > 1 && p.Parts == nil {
		add("parts", "unknown")
	}
	for i, part := range p.Parts {
		for _, set := range part.Sets {
			add(fmt.Sprintf("set%d", i+1), fmt.Sprintf("%s=%q/%t/%t", set.Name, set.Value, set.Local, set.Reset))
		}
	}
	if p.SetOnly {
		add("setonly", "yes")
	}
	if p.Tx.Verb != TxNone {
		add("tx", fmt.Sprint(p.Tx.Verb))
		add("modes", strings.TrimSpace(p.Tx.Modes.clause()))
		if p.Tx.Start {
			add("start", "yes")
		}
		add("savepoint", p.Tx.Name)
		if p.Tx.Chain {
			add("chain", "yes")
		}
	}
	if p.SQL.Verb != PreparedNone {
		add("prepared", fmt.Sprintf("%d/%s@%d-%d", p.SQL.Verb, p.SQL.Name, p.SQL.NameStart, p.SQL.NameEnd))
	}
	if p.Own.Verb != OwnNone {
		add("own", fmt.Sprintf("%d/%s/%q/%t", p.Own.Verb, p.Own.Name, p.Own.Value, p.Own.Local))
	}
	add("rel", strings.Join(p.Relations, ","))
	add("fn", strings.Join(p.Functions, ","))
	if p.SQL.Inner != nil {
		s += " inner=(" + p.SQL.Inner.line() + ")"
	}
	for _, v := range p.Variants {
		s += fmt.Sprintf(" for=%s/%s(%s %s %s)", v.User, v.Application, v.Plan.Class, v.Plan.Target, v.Plan.Reason)
	}
	return s
}

// TestData checks every entry of the data files, computed afresh and through a
// cache that has seen all the others.
func TestData(t *testing.T) {
	facts := loadCatalog(t)
	files, err := filepath.Glob("testdata/plans/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no data files: %v", err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			f := *facts
			f.loaded = name != "no_catalog.txt"
			if !f.loaded {
				f.relations, f.functions, f.types, f.operators = nil, nil, nil, nil
			}
			o := Options{Safe: []string{"declared_safe", "app.safe_too"}, Unsafe: []string{"declared_unsafe", "app.unsafe_too", "lower"}}
			if name == "rules.txt" {
				o.Rules = testRules
			}
			checkData(t, path, &f, o)
		})
	}
}

func checkData(t *testing.T, path string, f facts, o Options) {
	list := readData(t, path)
	shared := plansWith(f, o)
	for i, e := range list {
		got := plansWith(f, o).Get([]byte(e.sql)).line()
		if *update {
			list[i].want = got
		} else if got != e.want {
			t.Errorf("%s\n got %s\nwant %s", e.sql, got, e.want)
		}
		for range 3 {
			if cached := shared.Get([]byte(e.sql)).line(); cached != got {
				t.Errorf("%s\n through the cache %s\n          afresh %s", e.sql, cached, got)
			}
		}
	}
	if *update {
		writeData(t, path, list)
	}
	t.Logf("%d statements", len(list))
}

// TestLearn: what a replica refused goes to the primary, whatever its literals,
// until the catalog changes.
func TestLearn(t *testing.T) {
	p := plansWith(loadCatalog(t), Options{})
	text := func(id int) []byte { return fmt.Appendf(nil, "SELECT * FROM orders WHERE id = %d", id) }
	if got := p.Get(text(1)); got.Target != TargetReplica {
		t.Fatalf("before: %s", got.line())
	}
	p.Learn(text(2))
	want := "write primary learned rel=orders"
	for id := range 3 {
		if diff := cmp.Diff(want, p.Get(text(id)).line()); diff != "" {
			t.Errorf("id %d: %s", id, diff)
		}
	}
	// A plan found by its exact text is learned through all literals too.
	dependent := func(s string) []byte { return fmt.Appendf(nil, "SELECT current_setting(trim('%s')||'x')", s) }
	exact := func(s string) []byte {
		return fmt.Appendf(nil, "SELECT \"current_setting\"('%s'), id FROM orders", s)
	}
	if got := p.Get(exact("timezone")); got.Target != TargetReplica {
		t.Fatalf("before: %s", got.line())
	}
	p.Learn(exact("datestyle"))
	if got := p.Get(exact("timezone")); got.Reason != ReasonLearned {
		t.Errorf("learned by another literal: %s", got.line())
	}
	p.Learn(dependent("a"))
	if got := p.Get(dependent("b")); got.Target != TargetPrimary {
		t.Errorf("%s", got.line())
	}
	p.SetSnapshot(nil)
	p.gen.Store(newGeneration(p.gen.Load().wishes, p.Snapshot(), loadCatalog(t)))
	if got := p.Get(text(1)); got.Target != TargetReplica {
		t.Errorf("after a new catalog: %s", got.line())
	}
}

func TestCommitsWithin(t *testing.T) {
	plans := NewPlans(Options{})
	for sql, want := range map[string]bool{
		"call p()": true, "do 'begin end'": true, "vacuum": true, "begin; insert into t values (1); commit": true,
		"commit prepared 'x'": true, "create index concurrently on t (i)": true,
		"insert into t values (1)": false, "select 1": false, "commit": false, "create table t()": false,
	} {
		if got := plans.Get([]byte(sql)).CommitsWithin(); got != want {
			t.Errorf("%s: %v", sql, got)
		}
	}
}
