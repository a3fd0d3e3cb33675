package router

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"strings"
	"testing"
)

// TestEveryBitHasAName: explanations, metrics and data files print pins and flags by
// name, and a bit without one would be left out silently.
func TestEveryBitHasAName(t *testing.T) {
	f, err := parser.ParseFile(gotoken.NewFileSet(), "plan.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	bits := map[string]int{}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for _, prefix := range []string{"Pin", "Flag"} {
			if name := s.Names[0].Name; strings.HasPrefix(name, prefix) && name != "PinNone" && name != "PinAll" {
				bits[prefix]++
			}
		}
		return true
	})
	if bits["Pin"] != len(pinNames) || bits["Flag"] != len(flagNames) {
		t.Errorf("%v bits, %d names of pins, %d of flags", bits, len(pinNames), len(flagNames))
	}
}
