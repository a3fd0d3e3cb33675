package arch

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// measured type-checks files given by name and text.
func measured(t *testing.T, files ...[2]string) *source {
	t.Helper()
	s := &source{path: "p", fset: token.NewFileSet(), info: &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}}
	for _, f := range files {
		parsed, err := parser.ParseFile(s.fset, f[0], f[1], parser.SkipObjectResolution)
		require.NoError(t, err)
		s.files = append(s.files, parsed)
	}
	conf := types.Config{Importer: importer.Default()}
	_, err := conf.Check(s.path, s.fset, s.files, s.info)
	require.NoError(t, err)
	return s
}

const typesFile = `package p

type T[K comparable] struct {
	a, b bool
	inner struct { c bool; d flag }
	n int
}

type flag bool
type caller interface{ call() }

func (t *T[K]) one() { two() }
func (T[K]) call() {}
`

const usesFile = `package p

func two() {
	f := (&T[int]{}).one
	if f != nil && true || false {
		for range 3 { f() }
	}
	switch {
	case true, false:
	default:
	}
}
`

const thirdFile = `package p

func three(c caller) {
	c.call()
	two()
}
`

func TestMeasure(t *testing.T) {
	p := measured(t, [2]string{"types.go", typesFile}, [2]string{"uses.go", usesFile}, [2]string{"third.go", thirdFile}).measure()
	require.Equal(t, []any{3, 31, Count{"T", 2}, Count{"T", 4}}, []any{p.Files, p.Lines, p.Methods, p.Fields})
	require.Equal(t, []string{"types.go", "uses.go"}, p.Cycle, "third.go calls and is not called")
	require.Equal(t, []Function{
		{Name: "T.one", Where: "p/types.go:12", Lines: 1, Complexity: 1},
		{Name: "T.call", Where: "p/types.go:13", Lines: 1, Complexity: 1},
		{Name: "two", Where: "p/uses.go:3", Lines: 10, Complexity: 6},
		{Name: "three", Where: "p/third.go:3", Lines: 4, Complexity: 1},
	}, p.Functions)
}

func TestBooleans(t *testing.T) {
	require.Equal(t, []Count{{"p.T", 4}}, measured(t, [2]string{"types.go", typesFile}, [2]string{"uses.go", usesFile}).booleans())
}

func TestLargestCycle(t *testing.T) {
	require.Empty(t, largestCycle(map[string][]string{"a": {"b"}, "b": {"c"}, "c": nil}))
	require.Equal(t, []string{"b", "c", "d"}, largestCycle(map[string][]string{
		"a": {"b", "e"}, "b": {"c"}, "c": {"d"}, "d": {"b"}, "e": {"f"}, "f": {"e"},
	}))
}

func TestQuantile(t *testing.T) {
	require.Equal(t, []int{0, 1, 5, 9, 10}, []int{
		quantile(nil, 50), quantile([]int{1}, 90), quantile([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 50),
		quantile([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 90), quantile([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 100),
	})
}

func TestPrint(t *testing.T) {
	f := Figures{
		Packages: []Package{{Path: "a", Lines: 2, Functions: []Function{{Name: "f", Lines: 1, Complexity: 1}}}, {Path: "b", Cycle: []string{"x", "y", "z"}}},
		Booleans: []Count{{"b.T", 3}},
	}
	var b strings.Builder
	require.NoError(t, f.Print(&b))
	for _, want := range []string{"Booleans on session types: 3\n", "Cycle of 3 files in b: x y z\n", "\nall "} {
		require.Contains(t, b.String(), want)
	}
}
