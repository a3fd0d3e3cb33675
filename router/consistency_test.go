package router

import (
	"testing"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/router/catalog"
)

func TestWishes(t *testing.T) {
	for text, want := range map[string]struct {
		level Consistency
		lsn   lsn.LSN
	}{
		"select 1": {},
		"select 1 /* pgweir:consistency=session */":                                           {level: Session},
		"/*pgweir:consistency=strong*/ select 1":                                              {level: Strong},
		"select 1 -- pgweir:consistency=tenant":                                               {level: Tenant},
		"select 'pgweir:consistency=strong'":                                                  {},
		"select 1 /* pgweir:consistency=whatever */":                                          {},
		"select 1 /* xpgweir:consistency=strong */":                                           {},
		"select 1 /* pgweir:primary pgweir:consistency=eventual, x */":                        {level: Eventual},
		"/* pgweir:consistency=eventual */ select 1 /* pgweir:consistency=database */":        {level: Database},
		"select 1 /* pgweir:min_lsn=16/B374D848 */":                                           {lsn: 0x16B374D848},
		"select 1 /*pgweir:min_lsn=0/10*/ -- pgweir:min_lsn=0/20 pgweir:consistency=eventual": {Eventual, 0x20},
		"select 1 /* pgweir:min_lsn=0/10/* nested */ */":                                      {lsn: 0x10},
		"select 1 /* pgweir:min_lsn=16 */":                                                    {},
		"select 1 /* pgweir:min_lsn=123456789/0 */":                                           {},
	} {
		p := NewPlans(Options{}).Get([]byte(text))
		if p.Consistency != want.level || p.MinLSN != want.lsn {
			t.Errorf("%s: %v, %v", text, p.Consistency, p.MinLSN)
		}
	}
}

// The comment is part of the key: equal statements with other wishes have other plans.
func TestWishesAreKeyed(t *testing.T) {
	plans := NewPlans(Options{})
	for _, level := range []Consistency{Eventual, Strong, Eventual} {
		p := plans.Get([]byte("select 1 /* pgweir:consistency=" + level.String() + " */"))
		if p.Consistency != level {
			t.Errorf("%v, want %v", p.Consistency, level)
		}
	}
}

func TestConsistencyRules(t *testing.T) {
	plans := NewPlans(Options{Rules: []config.Rule{
		{Table: "outbox", Consistency: "strong"},
		{Application: "boards", Consistency: "eventual", Route: "replica"},
		{Pattern: "(?i)ledger", Route: "primary"},
	}})
	for _, c := range []struct {
		sql, application string
		want             Consistency
	}{
		{"select * from outbox", "boards", Strong},
		{"select * from outbox", "", Strong},
		{"select * from t", "boards", Eventual},
		{"select * from t", "other", ConsistencyNone},
		{"select * from ledger", "other", ConsistencyNone},
	} {
		if got := plans.Get([]byte(c.sql)).For("u", c.application).RuleConsistency; got != c.want {
			t.Errorf("%s as %q: %v, want %v", c.sql, c.application, got, c.want)
		}
	}
	if _, err := compileRule(config.Rule{Table: "t", Consistency: "firm"}); err == nil {
		t.Error("a level that does not exist is accepted")
	}
}

func TestParseConsistency(t *testing.T) {
	for c := Eventual; int(c) < Consistencies; c++ {
		if got, ok := ParseConsistency(c.String()); got != c || !ok {
			t.Errorf("%v: %v, %v", c, got, ok)
		}
	}
	for _, s := range []string{"", "none", "STRONG", "eventually"} {
		if got, ok := ParseConsistency(s); ok {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// What a statement's walk does not show touches any table.
func TestPlanFootprints(t *testing.T) {
	plans := NewPlans(Options{})
	facts := &footprintFacts{}
	gen := newGeneration(plans.gen.Load().wishes, catalog.Builtin(), facts)
	for sql, want := range map[string]struct{ reads, writes bool }{ // exact
		"select * from t":                      {true, true},
		"insert into t select * from u":        {true, true},
		"select 1":                             {true, true},
		"begin":                                {true, true},
		"set a.b = 1":                          {true, true},
		"explain analyze delete from t":        {true, true},
		"truncate t":                           {true, true},
		"prepare p as update t set a = 1":      {true, true},
		"copy t from stdin":                    {true, true},
		"declare c cursor for select * from t": {true, true},
		"lock table t":                         {true, true},
		"truncate t cascade":                   {false, false},
		"create table x()":                     {false, false},
		"create table x as select * from t":    {false, false},
		"select * into x from t":               {false, false},
		"do 'begin end'":                       {false, false},
		"call p()":                             {false, false},
		"commit prepared 'x'":                  {false, false},
		"refresh materialized view m":          {false, false},
		"vacuum":                               {false, false},
		"this is no sql":                       {false, false},
		"select 1; drop table t":               {false, false},
		"select * from unknown":                {false, false},
		"select unknown()":                     {false, false},
		"explain create table x as select 1":   {false, false},
		"prepare p as select * from unknown":   {false, false},
		"select * from t where exists (select from unknown)": {false, false},
	} {
		p := plans.analyse(gen, []byte(sql), keyExact, []byte(sql)).plan
		if p.Reads.Exact() != want.reads || p.Writes.Exact() != want.writes {
			t.Errorf("%s: reads exact %v, writes exact %v", sql, p.Reads.Exact(), p.Writes.Exact())
		}
	}
	p := plans.analyse(gen, nil, keyExact, []byte("with d as (delete from t returning *) insert into u select * from d join v using (i)")).plan
	if want := catalog.OneTable("t").With(catalog.OneTable("u")); p.Writes != want {
		t.Error("it does not write t and u")
	}
	if want := catalog.OneTable("v"); p.Reads != want {
		t.Error("it does not read v")
	}
	if p := plans.analyse(gen, nil, keyExact, []byte("select * from t for update")).plan; p.Writes != catalog.NoTable() {
		t.Error("a row lock writes")
	}
}

// footprintFacts knows three plain tables and all that PostgreSQL is born with.
type footprintFacts struct{}

func (*footprintFacts) known(ok bool) catalog.Fact {
	if !ok {
		return catalog.Fact{}
	}
	return catalog.Fact{Known: true, Replica: true, Clean: true, Reads: catalog.NoTable(), Writes: catalog.NoTable()}
}

func (f *footprintFacts) Function(_, name string) catalog.Fact { return f.known(name != "unknown") }
func (f *footprintFacts) Operator(_, _ string) catalog.Fact    { return f.known(true) }
func (f *footprintFacts) Type(_, _ string) catalog.Fact        { return f.known(true) }
func (f *footprintFacts) Implicit() catalog.Fact               { return f.known(true) }
func (*footprintFacts) Hooks() bool                            { return false }

func (f *footprintFacts) DDL() catalog.Fact        { return f.known(true) }
func (f *footprintFacts) Loaded() bool             { return true }
func (f *footprintFacts) Body(string) catalog.Fact { return catalog.Fact{} }

func (f *footprintFacts) Relation(_, name string) catalog.Relation {
	if name != "t" && name != "u" && name != "v" {
		return catalog.Relation{}
	}
	r := catalog.Relation{Fact: f.known(true), WriteClean: true, Changes: catalog.OneTable(name)}
	r.Reads = catalog.OneTable(name)
	return r
}
