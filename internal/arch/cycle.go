package arch

import (
	"go/ast"
	"go/types"
	"slices"
)

// uses maps each file of the package to the other files it needs: those that declare
// a function or method it calls or takes as a value. A call through an interface
// leads nowhere, and types, constants and variables do not count.
func (s *source) uses() map[string][]string {
	declared := map[types.Object]string{}
	for _, f := range s.files {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok {
				declared[s.info.Defs[d.Name]] = s.file(d.Pos())
			}
		}
	}
	out := map[string][]string{}
	for _, f := range s.files {
		from := s.file(f.Pos())
		out[from] = nil
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			used, ok := s.info.Uses[id].(*types.Func)
			if !ok {
				return true
			}
			to := declared[used.Origin()]
			if to != "" && to != from && !slices.Contains(out[from], to) {
				out[from] = append(out[from], to)
			}
			return true
		})
	}
	return out
}

// largestCycle returns the largest set of nodes of a graph that all reach each other
// (its largest strongly connected component), sorted; nil if there is no cycle.
func largestCycle(graph map[string][]string) []string {
	reach := map[string]map[string]bool{}
	for node := range graph {
		seen := map[string]bool{}
		visit(graph, node, seen)
		reach[node] = seen
	}
	var largest []string
	for node := range graph {
		var group []string
		for other := range reach[node] {
			if reach[other][node] {
				group = append(group, other)
			}
		}
		slices.Sort(group)
		if len(group) > len(largest) || len(group) == len(largest) && slices.Compare(group, largest) < 0 {
			largest = group
		}
	}
	return largest
}

// visit adds to seen what can be reached from node in one step or more.
func visit(graph map[string][]string, node string, seen map[string]bool) {
	for _, next := range graph[node] {
		if !seen[next] {
			seen[next] = true
			visit(graph, next, seen)
		}
	}
}
