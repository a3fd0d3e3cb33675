package arch

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// bounds are the largest figures a package may have.
type bounds struct{ methods, fields, cycle, function, lines int }

// aim is what every package is held to. Where one goes over it, look for what
// wants to be a value, a file or a package of its own before the bound is moved.
var aim = bounds{methods: 45, fields: 20, cycle: 8, function: 80, lines: 3500}

// exceptions are the bounds of packages beyond the aim; what is 0 is the aim's. One
// that is not needed any more is a failure.
var exceptions = map[string]bounds{
	"internal/simpg": {methods: 134, fields: 26, cycle: 37, lines: 10620}, // a server in one piece, for tests only: an interpreter calls itself everywhere
	// Listening, sequences and doubts keep or take a connection in the midst of a life. They want a room of
	// their own beside lease and settle before more comes.
	"proxy/client":   {fields: 21, cycle: 10, lines: 4670},
	"proxy/upstream": {cycle: 10},   // what users, databases and clusters share refers to each other
	"router/catalog": {lines: 3580}, // the questions are a fifth of it
	"router":         {methods: 72, fields: 32, cycle: 9, lines: 5552},
	"router/tenant":  {methods: 100, cycle: 10, lines: 6000},
}

// maxBooleans bounds the Booleans on all session types together.
const maxBooleans = 10

// TestBounds holds the tree to the bounds.
func TestBounds(t *testing.T) {
	f, err := Measure("../..")
	require.NoError(t, err)
	require.NotEmpty(t, f.Packages)
	for _, p := range f.Packages {
		for _, fault := range p.beyond(exceptions[p.Path]) {
			t.Error(fault)
		}
	}
	for path := range exceptions {
		require.True(t, slices.ContainsFunc(f.Packages, func(p Package) bool { return p.Path == path }), "no package is %s", path)
	}
	if n := Sum(f.Booleans); n > maxBooleans {
		t.Errorf("%d Booleans on session types, bound %d: %v", n, maxBooleans, f.Booleans)
	}
}

// beyond lists which figures of p are beyond its bounds, and which of its exceptions
// it does not need.
func (p Package) beyond(own bounds) []string {
	var longest Function
	for _, f := range p.Functions {
		if f.Lines > longest.Lines {
			longest = f
		}
	}
	var out []string
	for _, c := range []struct {
		what              string
		is, aim, exempted int
	}{
		{"methods of " + p.Methods.Name, p.Methods.N, aim.methods, own.methods},
		{"fields of " + p.Fields.Name, p.Fields.N, aim.fields, own.fields},
		{fmt.Sprintf("files in the cycle %v", p.Cycle), len(p.Cycle), aim.cycle, own.cycle},
		{"lines of " + longest.Name, longest.Lines, aim.function, own.function},
		{"lines", p.Lines, aim.lines, own.lines},
	} {
		bound := max(c.aim, c.exempted)
		switch {
		case c.is > bound:
			out = append(out, fmt.Sprintf("%s: %d %s, bound %d", p.Path, c.is, c.what, bound))
		case c.exempted > 0 && c.is <= c.aim:
			out = append(out, fmt.Sprintf("%s: %d %s need no exception", p.Path, c.is, c.what))
		}
	}
	return out
}

func TestBeyond(t *testing.T) {
	p := Package{
		Path: "p", Lines: 3501, Methods: Count{"T", 46}, Fields: Count{"T", 20}, Cycle: make([]string, 8),
		Functions: []Function{{Name: "f", Lines: 80}, {Name: "g", Lines: 81}},
	}
	require.Equal(t, []string{"p: 46 methods of T, bound 45", "p: 81 lines of g, bound 80", "p: 3501 lines, bound 3500"}, p.beyond(bounds{}))
	require.Equal(t, []string{"p: 20 fields of T need no exception"}, p.beyond(bounds{methods: 50, fields: 21, function: 90, lines: 4000}))
}
