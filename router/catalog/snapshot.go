package catalog

import (
	"hash/fnv"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
)

// Snapshot is all that is known of one database at one time. It never changes
// and may be shared by any number of goroutines. Names are compared as
// PostgreSQL stores them: the caller folds unquoted identifiers.
//
// It does not hold temporary objects, indexes and TOAST tables: a session that
// uses temporary objects is tied to its server anyway, and other sessions'
// cannot be reached.
type Snapshot struct {
	loaded  bool
	version uint64

	functions, operators, types, relations nameTable

	shapes *Tables // nil if not asked for

	implicit Fact
	ddl      Fact
	folding  []string
	settings settings

	// What the next load goes by; nil if it was not read from a database.
	fingerprints fingerprints
	answers      map[string]answer
}

// Function returns what is known of all overloads of a function, aggregate or
// procedure; with an empty schema, of those in every schema.
//
// Replica: it is declared IMMUTABLE or STABLE, or is volatile but known to be
// harmless, and neither the function nor anything its source names is known to
// belong to the primary. Dynamic SQL in a STABLE function is taken at its
// declaration, as PostgreSQL itself refuses its writes.
//
// Clean: for PostgreSQL's own, that it is on no list; for LANGUAGE sql and
// plpgsql, that no word of the source can leave state and all it calls is clean;
// for LANGUAGE c, that it is IMMUTABLE or of a well-known extension. Settings in a
// function's own SET clause do not matter, since they end with the call.
func (s *Snapshot) Function(schema, name string) Fact { return s.functions.find(schema, name).Fact }

// Operator returns what is known of the functions behind an operator.
func (s *Snapshot) Operator(schema, name string) Fact { return s.operators.find(schema, name).Fact }

// Type returns what is known of a cast to a type, from anything: its input and
// cast functions, the checks of a domain, the same of elements and attributes.
func (s *Snapshot) Type(schema, name string) Fact {
	f := s.types.find(schema, name).Fact
	if f.Known {
		return f
	}
	// The row type of a table whose columns are all of built-in types, or an array of it.
	table := strings.TrimPrefix(name, "_")
	if !s.relations.find(schema, name).Known && !s.relations.find(schema, table).Known {
		return f
	}
	if f := s.types.find(schema, table).Fact; f.Known {
		return f
	}
	return Fact{Known: true, Replica: true, Clean: true, Reads: NoTable(), Writes: NoTable()}
}

// Relation returns what is known of reading a table, view, materialized view,
// sequence or foreign table, through views, policies, partitions and
// children to any depth; and of writing to it. A composite type has no relation.
func (s *Snapshot) Relation(schema, name string) Relation {
	return s.relations.find(schema, name).named(name)
}

// Body returns what is known of running the source of a DO block or of a function in
// LANGUAGE sql or plpgsql: it is never known to be safe on a replica.
func (s *Snapshot) Body(source string) Fact {
	b := scanBody(source)
	sum := Relation{
		Fact: Fact{
			Known: true, Clean: b.unclean == "" && s.loaded, Why: b.unclean,
			Touches: setting.Names{}.With(b.touches), Sets: b.sets,
		},
	}
	add := func(f Relation, written bool) {
		if f.Known && written {
			f.Clean, f.Touches, f.Sets = f.Clean && f.WriteClean, f.Touches.Union(f.WriteTouches), f.Sets || f.WriteSets
		}
		f.WriteClean, f.WriteTouches, f.WriteSets = false, setting.Names{}, false
		sum = join(sum, f)
	}
	for _, w := range b.words {
		add(s.relations.find("", w), b.writes)
		add(s.types.find("", w), false)
	}
	for _, c := range b.calls {
		add(s.functions.find("", c), false)
	}
	for _, o := range b.operators {
		add(s.operators.find("", o), false)
	}
	add(Relation{Fact: s.implicit}, false)
	if b.ddl {
		add(Relation{Fact: s.ddl}, false)
	}
	if own := s.functions.find("", "set_config"); b.sets && own != s.functions.find("pg_catalog", "set_config") {
		add(own, false) // a user's, perhaps
	}
	return sum.Fact
}

// Implicit is the worst of what PostgreSQL may run without the text naming it:
// users' implicit and assignment casts and operator classes.
// Those written in C are trusted, as only a superuser can make them.
func (s *Snapshot) Implicit() Fact { return s.implicit }

// DDL is what commands that change the catalog run beside themselves: event triggers, and
// validators of languages and foreign data. It is never known to be safe on a replica.
func (s *Snapshot) DDL() Fact { return s.ddl }

// Hooks reports whether commands that change the catalog run code of users beside themselves,
// clean or not, or that is not known.
func (s *Snapshot) Hooks() bool { a, read := s.answers[hooks]; return !read || len(a.rows) > 0 }

// Folding are the functions that are declared IMMUTABLE and may depend on their session all the
// same, by settings, roles or tables, ordered: servers compute calls of such a function once for
// each plan. Members of extensions are believed.
func (s *Snapshot) Folding() []string { return s.folding }

// Folds reports whether there are such functions, or nothing is known of functions.
func (s *Snapshot) Folds() bool { return s == nil || !s.loaded || len(s.folding) > 0 }

// Version tells contents apart: equal contents have equal versions, in every process.
func (s *Snapshot) Version() uint64 { return s.version }

// Loaded reports whether the snapshot was read from a database.
func (s *Snapshot) Loaded() bool { return s.loaded }

// Functions is how many names of functions are known, counted by schema.
func (s *Snapshot) Functions() int { return len(s.functions.entries) }

// Relations is how many relations are known.
func (s *Snapshot) Relations() int { return len(s.relations.entries) }

// seal computes the version; the snapshot does not change afterwards.
func (s *Snapshot) seal() *Snapshot {
	h := fnv.New64a()
	for _, t := range []*nameTable{&s.functions, &s.operators, &s.types, &s.relations} {
		t.sum(h)
	}
	for _, f := range []Fact{s.implicit, s.ddl, {Known: s.Hooks()}, {Known: s.Folds()}} {
		unnamed := nameTable{entries: []entry{{}}, schemas: []string{""}, facts: []Relation{{Fact: f}}}
		unnamed.sum(h)
	}
	h.Write([]byte(s.settings.text()))
	s.shapes.sum(h)
	s.version = h.Sum64()
	return s
}
