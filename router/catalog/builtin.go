package catalog

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// builtinText is what every PostgreSQL 15 to 18 is born with, the worst of all
// of them: a line for each object, "kind flags schema name why". Written by
// "go test ./router/catalog -run TestBuiltinText -update" against each version (see
// internal/pgtest on how to choose one). That only makes facts worse: empty the
// file first when a list became more lenient.
//
//go:embed builtin.txt
var builtinText string

// Builtin is what is known before a database was read: PostgreSQL's own
// functions, operators, types and system relations.
func Builtin() *Snapshot { return builtin() }

var builtin = sync.OnceValue(func() *Snapshot {
	objects, err := parseBuiltin(builtinText)
	if err != nil {
		panic(err) // the text is part of the program and a test reads it
	}
	s := &Snapshot{implicit: Fact{Known: true, Replica: true, Clean: true}, ddl: Fact{Known: true, Clean: true}}
	for kind, t := range s.tables() {
		*t = newNameTable(slices.Clone(objects[kind]))
	}
	return s.seal()
})

// tables are the snapshot's tables by the letter that stands for them in builtin.txt.
func (s *Snapshot) tables() map[string]*nameTable {
	return map[string]*nameTable{"f": &s.functions, "o": &s.operators, "t": &s.types, "r": &s.relations}
}

func parseBuiltin(text string) (map[string][]named, error) {
	objects := map[string][]named{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(line, " ", 5)
		if len(f) < 4 {
			return nil, fmt.Errorf("builtin.txt: %q", line)
		}
		o := named{schema: f[2], name: f[3], fact: Relation{
			Fact:       Fact{Known: true, Replica: strings.Contains(f[1], "r"), Clean: strings.Contains(f[1], "c")},
			WriteClean: strings.Contains(f[1], "w"),
		}}
		if len(f) == 5 {
			o.fact.Why = f[4]
		}
		objects[f[0]] = append(objects[f[0]], o)
	}
	return objects, nil
}
