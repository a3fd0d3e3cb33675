package router

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/router/catalog"

	"github.com/pgweir/pgweir/internal/grammar"
)

func TestLiteralsShareAPlan(t *testing.T) {
	p := plansWith(loadCatalog(t), Options{})
	var first *Plan
	for i := range 100 {
		plan := p.Get(fmt.Appendf(nil, "SELECT * FROM orders WHERE id = %d AND note = 'n%d' /* trace %d */", i, i, i))
		if first == nil {
			first = plan
		}
		if plan != first {
			t.Fatal("another plan for other literals")
		}
	}
	if s := p.Stats(); s.Misses != 1 || s.Hits != 99 || s.Entries != 1 {
		t.Errorf("%+v", s)
	}
}

func TestDependentPlansAreApart(t *testing.T) {
	p := plansWith(loadCatalog(t), Options{})
	for round := range 2 {
		for value, want := range map[string]string{"primary": "primary", "replica": "replica", "auto": "auto"} {
			got := p.Get([]byte("SET pgweir.route = '" + value + "'"))
			if got.Own.Value != want {
				t.Errorf("%s: %s", value, got.line())
			}
		}
		if s := p.Stats(); round == 1 && s.Hits != 3 {
			t.Errorf("the second round is not cached: %+v", s)
		}
	}
}

// TestTracedStatementsShareAPlan: that each has another traceparent, in a comment or as the value
// of the setting, has no statement analysed again.
func TestTracedStatementsShareAPlan(t *testing.T) {
	for _, text := range []string{
		"SELECT id FROM orders WHERE id = 7 /*route='%%2Forders',traceparent='%s'*/",
		"/*application='pgweir-shop',traceparent='%s'*/ SELECT id FROM orders WHERE id = 7",
		"SET LOCAL pgweir.traceparent = '%s' /* pgweir */",
		"SET pgweir.traceparent TO '%s';",
	} {
		p := plansWith(loadCatalog(t), Options{})
		for i := range 100 {
			parent := fmt.Sprintf("00-%032x-%016x-01", i+1, i+1)
			got := p.Get(fmt.Appendf(nil, text, parent))
			if got.Own.Verb == OwnSet && got.Own.Value != parent {
				t.Fatalf("%s for %s", got.Own.Value, parent)
			}
		}
		if s := p.Stats(); s.Misses != 1 || s.Entries != 1 {
			t.Errorf("%s: %+v", text, s)
		}
	}
}

// TestBounded: a flood of distinct texts stays within the bound and does not
// evict what is in use.
func TestBounded(t *testing.T) {
	const limit = 2 << 20
	p := plansWith(loadCatalog(t), Options{MaxBytes: limit})
	hot := func(i int) []byte { return fmt.Appendf(nil, "SELECT hot%d FROM orders", i) }
	const hots = 50
	seen := make(map[*Plan]bool)
	for i := range hots {
		p.Get(hot(i))
		for range maxUsed {
			seen[p.Get(hot(i))] = true
		}
	}
	for i := range 10000 {
		p.Get(fmt.Appendf(nil, "SELECT a%d, b%d", i, i))
		if i%500 == 0 {
			for j := range hots {
				p.Get(hot(j))
			}
		}
	}
	kept := 0
	for i := range hots {
		if seen[p.Get(hot(i))] {
			kept++
		}
	}
	s := p.Stats()
	if s.Bytes > limit || s.Evictions == 0 {
		t.Errorf("%+v, the limit is %d", s, limit)
	}
	if kept < hots*9/10 {
		t.Errorf("%d of %d hot plans survived", kept, hots)
	}
	t.Logf("%+v, %d of %d hot plans kept", s, kept, hots)
}

func TestHugeTextIsNotKept(t *testing.T) {
	p := plansWith(loadCatalog(t), Options{})
	text := []byte("SELECT " + strings.Repeat("a, ", 50000) + "b FROM orders")
	for range 2 {
		if got := p.Get(text); got.Target != TargetReplica {
			t.Fatalf("%s", got.line())
		}
	}
	if s := p.Stats(); s.Entries != 0 || s.Misses != 2 {
		t.Errorf("%+v", s)
	}
	// A huge literal is not part of the key.
	text = []byte("SELECT id FROM orders WHERE note = '" + strings.Repeat("x", 1<<20) + "'")
	p.Get(text)
	p.Get(text)
	if s := p.Stats(); s.Entries != 1 || s.Hits != 1 {
		t.Errorf("%+v", s)
	}
	// A huge value of a setting is, in the Plan.
	p.Get([]byte("BEGIN; SET LOCAL app.note = '" + strings.Repeat("x", 1<<20) + "'; COMMIT"))
	if s := p.Stats(); s.Entries != 1 {
		t.Errorf("%+v", s)
	}
}

// TestDeepTexts: texts that would overflow the parser's stack are refused
// before it sees them; wide ones are not.
func TestDeepTexts(t *testing.T) {
	p := plansWith(loadCatalog(t), Options{})
	const n = 300000
	for name, text := range map[string]string{
		"plus":     "SELECT 1" + strings.Repeat("+1", n),
		"union":    "SELECT 1" + strings.Repeat(" UNION ALL SELECT 1", n),
		"cast":     "SELECT 1" + strings.Repeat("::int", n),
		"join":     "SELECT * FROM a" + strings.Repeat(" CROSS JOIN a", n),
		"natural":  "SELECT * FROM a" + strings.Repeat(" NATURAL JOIN a", n),
		"paren":    "SELECT " + strings.Repeat("(", n) + "1" + strings.Repeat(")", n),
		"array":    "SELECT " + strings.Repeat("[", n),
		"not":      "SELECT " + strings.Repeat("NOT ", n) + "true",
		"case":     "SELECT " + strings.Repeat("CASE WHEN a THEN ", n) + "1" + strings.Repeat(" END", n),
		"isnull":   "SELECT a" + strings.Repeat(" IS NULL", n),
		"collate":  "SELECT a" + strings.Repeat(` COLLATE "C"`, n),
		"at":       "SELECT a" + strings.Repeat(" AT TIME ZONE b", n),
		"dollar":   "SELECT $$ ' $$" + strings.Repeat("+1", n),
		"comment":  "SELECT /* ' */ 1" + strings.Repeat("+1", n),
		"escape":   `SELECT E'\''` + strings.Repeat("||1", n),
		"like":     "SELECT a" + strings.Repeat(" LIKE b", n),
		"in":       "SELECT a" + strings.Repeat(" IN (1)", n),
		"select":   strings.Repeat("SELECT (", n),
		"explain":  strings.Repeat("EXPLAIN ", n) + "SELECT 1",
		"prepare":  strings.Repeat("PREPARE a AS ", n) + "SELECT 1",
		"cte":      strings.Repeat("WITH a AS (", n) + "SELECT 1",
		"comments": "SELECT " + strings.Repeat("/*", n) + strings.Repeat("*/", n) + "1",
		"signs":    "SELECT " + strings.Repeat("+-", n) + "1",
		"mixed":    "SELECT " + strings.Repeat("*/", n) + "1",
		"empty":    "SELECT " + strings.Repeat("/**/", n) + "1",
		"between":  "SELECT 1 " + strings.Repeat("+/**/", n) + "1",
	} {
		if !grammar.TooDeep(text) {
			t.Errorf("%s is let through", name)
		}
	}
	if got := p.Get([]byte("SELECT 1" + strings.Repeat("+1", n))); got.Reason != ReasonUnparsed {
		t.Errorf("%s", got.line())
	}
	for name, text := range map[string]string{
		"and":    "SELECT * FROM orders WHERE a = 1" + strings.Repeat(" AND a = 1", 20000),
		"or":     "SELECT * FROM orders WHERE a = 1" + strings.Repeat(" OR (a = 1 AND b = 2)", 20000),
		"in":     "SELECT * FROM orders WHERE id IN (1" + strings.Repeat(", 1", 50000) + ")",
		"values": "VALUES (1, 'a')" + strings.Repeat(", (1, 'a')", 20000),
		"when":   "SELECT CASE id WHEN 1 THEN 2" + strings.Repeat(" WHEN 1 THEN 2", 10000) + " END FROM orders",
		"union":  "SELECT 1" + strings.Repeat(" UNION ALL SELECT 1", 2000),
	} {
		if got := p.Get([]byte(text)); got.Target != TargetReplica {
			t.Errorf("%s: %s", name, got.line())
		}
	}
}

func TestConcurrent(t *testing.T) {
	facts := loadCatalog(t)
	p := plansWith(facts, Options{MaxBytes: 1 << 20, Rules: testRules})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				text := fmt.Appendf(nil, "SELECT c%d FROM items WHERE id = %d", i%40, i+g)
				if got := p.Get(text); got.Target == TargetAny {
					t.Errorf("%s", got.line())
				}
				switch {
				case i%97 == 0:
					p.Learn(text)
				case i%53 == 0:
					p.Stats()
				case g == 0 && i%61 == 0:
					p.gen.Store(newGeneration(p.gen.Load().wishes, catalog.Builtin(), facts))
				}
			}
		})
	}
	wg.Wait()
}

// TestTextIsNotKept: the text may be overwritten as soon as Get returns.
func TestTextIsNotKept(t *testing.T) {
	p := plansWith(loadCatalog(t), Options{})
	for _, sql := range []string{"SET app.abc = '1'", "SAVEPOINT abc", "SELECT E'a' FROM orders", "PREPARE abc AS SELECT * FROM orders"} {
		text := []byte(sql)
		plan := p.Get(text)
		before := plan.line()
		for i := range text {
			text[i] = 'z'
		}
		p.Get(bytes.Repeat([]byte("z"), len(text)))
		if plan.line() != before {
			t.Errorf("%s: became %s", sql, plan.line())
		}
		if again := p.Get([]byte(sql)); again != plan {
			t.Errorf("%s: the key was overwritten", sql)
		}
	}
}

func TestHitDoesNotAllocate(t *testing.T) {
	p := plansWith(loadCatalog(t), Options{})
	for _, sql := range []string{
		"SELECT abalance FROM pgbench_accounts WHERE aid = 12345", "BEGIN", "SET pgweir.trace = 'on'",
		ormSelect() + "7", "SELECT E'x'",
	} {
		text := []byte(sql)
		p.Get(text)
		if n := testing.AllocsPerRun(1000, func() { p.Get(text) }); n >= 1 {
			t.Errorf("%.40s: %v allocations", sql, n)
		}
	}
}

func TestSetSnapshot(t *testing.T) {
	p := NewPlans(Options{})
	text := []byte("SELECT 1")
	first := p.Get(text)
	p.SetSnapshot(catalog.Builtin())
	if p.Get(text) != first {
		t.Error("an equal catalog killed the plans")
	}
	p.gen.Store(newGeneration(p.gen.Load().wishes, new(catalog.Snapshot), new(catalog.Snapshot)))
	p.SetSnapshot(nil)
	if p.Get(text) == first {
		t.Error("a plan outlived its catalog")
	}
	if p.Snapshot().Loaded() {
		t.Error("built-ins are not a loaded catalog")
	}
}

func TestCompileRule(t *testing.T) {
	for _, bad := range []config.Rule{{Route: "elsewhere"}, {Route: "auto", Pattern: "("}} {
		if _, err := compileRule(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

// TestManyPatterns: more patterns than bits in a byte.
func TestManyPatterns(t *testing.T) {
	var list []config.Rule
	for i := range 20 {
		list = append(list, config.Rule{Route: "primary", Pattern: fmt.Sprintf("= %d$", 100+i)})
	}
	p := plansWith(loadCatalog(t), Options{Rules: list})
	for round := range 2 {
		for i := range 30 {
			want := TargetPrimary
			if i >= 20 {
				want = TargetReplica
			}
			if got := p.Get(fmt.Appendf(nil, "SELECT * FROM orders WHERE id = %d", 100+i)); got.Target != want {
				t.Errorf("round %d, %d: %s", round, i, got.line())
			}
		}
	}
}

func TestFor(t *testing.T) {
	p := plansWith(loadCatalog(t), Options{Rules: testRules})
	plan := p.Get([]byte("SELECT * FROM orders"))
	if got := plan.For("auditor", ""); got.Target != TargetReplica {
		t.Errorf("auditor: %s", got.line())
	}
	if got := plan.For("bob", "psql"); got != plan || got.Target != TargetPrimary {
		t.Errorf("bob: %s", got.line())
	}
	plan = p.Get([]byte("SELECT * FROM customers"))
	if got := plan.For("bob", "billing"); got.Target != TargetPrimary {
		t.Errorf("billing: %s", got.line())
	}
}

func TestExplain(t *testing.T) {
	p := NewPlans(Options{})
	e := Explain(p.Get([]byte("SELECT pg_backend_pid(), no_such(1) FROM pg_class /* pgweir:primary */")), p.Snapshot())
	if e.Target != "primary" || len(e.Functions) != 2 || e.Functions[0].Why == "" || e.Functions[1].Why != "unknown to the catalog" {
		t.Errorf("%+v", e)
	}
	if len(e.Relations) != 1 || e.Relations[0] != (Noted{Name: "pg_class"}) {
		t.Errorf("%+v", e.Relations)
	}
}
