package router

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/router/catalog"
)

// fakeCatalog is PostgreSQL's own objects and those of testdata/catalog.txt.
type fakeCatalog struct {
	*catalog.Snapshot
	loaded    bool
	functions map[string]catalog.Fact
	operators map[string]catalog.Fact
	types     map[string]catalog.Fact
	relations map[string]catalog.Relation
}

func (f *fakeCatalog) Loaded() bool { return f.loaded }
func (*fakeCatalog) Hooks() bool    { return false }

func (f *fakeCatalog) Implicit() catalog.Fact {
	return catalog.Fact{Known: true, Replica: true, Clean: true}
}

func (f *fakeCatalog) Function(schema, name string) catalog.Fact {
	return worst(f.functions, schema, name, f.Snapshot.Function(schema, name))
}

func (f *fakeCatalog) Operator(schema, name string) catalog.Fact {
	return worst(f.operators, schema, name, f.Snapshot.Operator(schema, name))
}

func (f *fakeCatalog) Type(schema, name string) catalog.Fact {
	return worst(f.types, schema, name, f.Snapshot.Type(schema, name))
}

func (f *fakeCatalog) Relation(schema, name string) catalog.Relation {
	if schema == "" {
		schema = "public"
	}
	if r, ok := f.relations[schema+"."+name]; ok {
		return r
	}
	if schema == "public" {
		return f.Snapshot.Relation("", name)
	}
	return f.Snapshot.Relation(schema, name)
}

// Body is what the source itself shows, with the functions and relations it names.
func (f *fakeCatalog) Body(source string) catalog.Fact {
	b := f.Snapshot.Body(source)
	if !f.loaded {
		return b
	}
	b.Clean = b.Why == ""
	l := grammar.Lexer{Text: source}
	for t := l.Next(); t.Kind != grammar.End && t.Kind != grammar.Bad; t = l.Next() {
		if fn := f.Function("", l.Word(t)); fn.Known && l.Word(t) != "set_config" {
			b.Clean = b.Clean && fn.Clean
		}
		if r := f.Relation("", l.Word(t)); r.Known {
			b.Clean = b.Clean && r.Clean && r.WriteClean
		}
	}
	return b
}

// worst joins a user's object with PostgreSQL's own of that name.
func worst(m map[string]catalog.Fact, schema, name string, own catalog.Fact) catalog.Fact {
	key := schema
	if key == "" {
		key = "public"
	}
	mine, ok := m[key+"."+name]
	if !ok {
		return own
	}
	if !own.Known {
		return mine
	}
	return catalog.Fact{Known: true, Replica: mine.Replica && own.Replica, Clean: mine.Clean && own.Clean}
}

// loadCatalog reads lines of: kind schema.name fact…, where a fact is replica,
// clean or writeclean.
func loadCatalog(t testing.TB) *fakeCatalog {
	t.Helper()
	file, err := os.Open("testdata/catalog.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c := &fakeCatalog{
		Snapshot: catalog.Builtin(), loaded: true,
		functions: map[string]catalog.Fact{}, operators: map[string]catalog.Fact{},
		types: map[string]catalog.Fact{}, relations: map[string]catalog.Relation{},
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		c.add(t, words[0], words[1], words[2:])
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fakeCatalog) add(t testing.TB, kind, name string, facts []string) {
	t.Helper()
	r := catalog.Relation{Fact: catalog.Fact{Known: true}}
	for _, fact := range facts {
		switch fact {
		case "replica":
			r.Replica = true
		case "clean":
			r.Clean = true
		case "writeclean":
			r.WriteClean = true
		default:
			t.Fatalf("catalog.txt: unknown fact %q of %s", fact, name)
		}
	}
	switch kind {
	case "function":
		f.functions[name] = r.Fact
	case "operator":
		f.operators[name] = r.Fact
	case "type":
		f.types[name] = r.Fact
	case "relation":
		f.relations[name] = r
	default:
		t.Fatalf("catalog.txt: unknown kind %q", kind)
	}
}

// plansWith makes a Plans that takes its facts from f.
func plansWith(f facts, o Options) *Plans {
	p := NewPlans(o)
	p.gen.Store(newGeneration(p.gen.Load().wishes, catalog.Builtin(), f))
	return p
}

// testRules are in force for testdata/rules.txt.
var testRules = []config.Rule{
	{Route: "auto", User: "auditor", Table: "orders"},
	{Route: "primary", Table: "public.orders"},
	{Route: "replica", Function: "slow_report"},
	{Route: "replica", Pattern: `(?i)/\*\s*report\s*\*/`},
	{Route: "primary", Application: "billing", Pattern: `customers`},
	{Route: "replica", Pattern: "id = 42"},
}
