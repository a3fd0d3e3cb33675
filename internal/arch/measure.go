package arch

import (
	"cmp"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"slices"
)

// Figures is the shape of the tree: its packages, tests left out.
type Figures struct {
	Packages []Package
	// Booleans are the structs of the session packages that have fields of type
	// bool, and how many.
	Booleans []Count
}

// Package is the shape of one package.
type Package struct {
	Path         string
	Files, Lines int
	// Methods and Fields are the named types with the most of each.
	Methods, Fields Count
	// Cycle is the largest set of files that all reach each other by uses of
	// functions and methods of the package.
	Cycle []string
	// Functions are all functions and methods. A literal counts with the function
	// it stands in.
	Functions []Function
}

// Count is how many of something belong to Name.
type Count struct {
	Name string
	N    int
}

// Function is the size of one function.
type Function struct {
	Name  string // type.method for a method
	Where string // file:line
	// Lines is from "func" to the closing brace.
	Lines int
	// Complexity is 1 and one for each if, for, case but default, && and ||.
	Complexity int
}

// sessionPackages hold a client's session: their structs' Booleans are counted.
var sessionPackages = []string{"proxy", "proxy/analysis", "proxy/client", "proxy/interrupt", "proxy/session", "proxy/batch"}

// Measure reads the module at root and measures it.
func Measure(root string) (Figures, error) {
	sources, err := load(root)
	if err != nil {
		return Figures{}, err
	}
	var f Figures
	for _, s := range sources {
		f.Packages = append(f.Packages, s.measure())
		if slices.Contains(sessionPackages, s.path) {
			f.Booleans = append(f.Booleans, s.booleans()...)
		}
	}
	slices.SortFunc(f.Packages, func(a, b Package) int { return cmp.Compare(a.Path, b.Path) })
	slices.SortStableFunc(f.Booleans, func(a, b Count) int { return cmp.Compare(b.N, a.N) })
	return f, nil
}

func (s *source) measure() Package {
	p := Package{Path: s.path, Files: len(s.files), Cycle: largestCycle(s.uses())}
	methods, fields := map[string]int{}, map[string]int{}
	for _, f := range s.files {
		p.Lines += s.lines(f.FileStart, f.FileEnd)
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok {
				p.Functions = append(p.Functions, s.function(d))
				methods[receiver(d)]++
			}
		}
	}
	delete(methods, "")
	for name, t := range s.structs() {
		fields[name] = t.NumFields()
	}
	p.Methods, p.Fields = most(methods), most(fields)
	return p
}

func (s *source) function(d *ast.FuncDecl) Function {
	f := Function{Name: d.Name.Name, Lines: s.lines(d.Type.Func, d.End()), Complexity: complexity(d)}
	if r := receiver(d); r != "" {
		f.Name = r + "." + f.Name
	}
	f.Where = s.at(d.Pos())
	return f
}

// receiver is the name of the type that d is a method of, or "".
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	e := ast.Unparen(d.Recv.List[0].Type)
	if p, ok := e.(*ast.StarExpr); ok {
		e = p.X
	}
	switch x := e.(type) {
	case *ast.IndexExpr:
		e = x.X
	case *ast.IndexListExpr:
		e = x.X
	}
	return e.(*ast.Ident).Name
}

func complexity(d *ast.FuncDecl) int {
	n := 1
	ast.Inspect(d, func(x ast.Node) bool {
		switch x := x.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			n += min(len(x.List), 1)
		case *ast.CommClause:
			if x.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if x.Op == token.LAND || x.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// structs are the package's named struct types.
func (s *source) structs() map[string]*types.Struct {
	out := map[string]*types.Struct{}
	for _, o := range s.info.Defs {
		name, ok := o.(*types.TypeName)
		if !ok || name.IsAlias() {
			continue
		}
		if t, ok := name.Type().Underlying().(*types.Struct); ok {
			out[name.Name()] = t
		}
	}
	return out
}

// booleans counts the fields whose type is a bool, those of structs without a name
// within the struct too.
func (s *source) booleans() []Count {
	structs := s.structs()
	var out []Count
	for _, name := range slices.Sorted(maps.Keys(structs)) {
		if n := countBooleans(structs[name]); n > 0 {
			out = append(out, Count{s.path + "." + name, n})
		}
	}
	return out
}

func countBooleans(t *types.Struct) int {
	n := 0
	for f := range t.Fields() {
		switch u := f.Type().(type) {
		case *types.Struct:
			n += countBooleans(u)
		default:
			if b, ok := u.Underlying().(*types.Basic); ok && b.Kind() == types.Bool {
				n++
			}
		}
	}
	return n
}

func most(counts map[string]int) Count {
	var out Count
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > out.N {
			out = Count{name, counts[name]}
		}
	}
	return out
}
