// Package arch measures the shape of the tree (figures) and holds the tests that
// keep it as ARCHITECTURE.md draws it: floors, bounds and pages held to the code.
package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Module is the path of this module.
const Module = "github.com/pgweir/pgweir"

// listed is what "go list -json" tells of a package.
type listed struct {
	ImportPath string
	Dir        string
	Export     string
	Standard   bool
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
	Deps       []string
	Error      *struct{ Err string }
}

// path is the package's path within the module.
func (p listed) path() string { return strings.TrimPrefix(p.ImportPath, Module+"/") }

// own tells whether p belongs to this module.
func (p listed) own() bool { return strings.HasPrefix(p.ImportPath, Module+"/") }

// list runs "go list -json" with args in root and returns the packages it names.
func list(root string, args ...string) ([]listed, error) {
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Export,Standard,GoFiles,CgoFiles,Imports,Deps,Error"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.Bytes())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if p.Error != nil {
			return nil, fmt.Errorf("go list: %s: %s", p.ImportPath, p.Error.Err)
		}
		all = append(all, p)
	}
}

// source is one package with its syntax and types; tests are no part of it.
type source struct {
	path  string
	fset  *token.FileSet
	files []*ast.File
	info  *types.Info
}

// file is the name, without directory, of the file that holds pos.
func (s *source) file(pos token.Pos) string { return filepath.Base(s.fset.Position(pos).Filename) }

// at is the place of pos for a reader.
func (s *source) at(pos token.Pos) string {
	return fmt.Sprintf("%s/%s:%d", s.path, s.file(pos), s.fset.Position(pos).Line)
}

// lines counts the lines from one position to the other, both included.
func (s *source) lines(from, to token.Pos) int {
	return s.fset.Position(to).Line - s.fset.Position(from).Line + 1
}

// load reads the packages of the module at root. What they import is taken from the
// compiler's export data, which the go command builds if it has to.
func load(root string) ([]*source, error) {
	all, err := list(root, "-export", "-deps", "./...")
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	for _, p := range all {
		exports[p.ImportPath] = p.Export
	}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	var out []*source
	for _, p := range all {
		if !p.own() || len(p.GoFiles) == 0 {
			continue
		}
		s, err := check(p, fset, imports)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// check parses and type-checks one package.
func check(p listed, fset *token.FileSet, imports types.Importer) (*source, error) {
	s := &source{path: p.path(), fset: fset, info: &types.Info{
		Defs: map[*ast.Ident]types.Object{},
		Uses: map[*ast.Ident]types.Object{},
	}}
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		name = filepath.Join(p.Dir, name)
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
	}
	conf := types.Config{Importer: imports, FakeImportC: true}
	_, err := conf.Check(p.ImportPath, fset, s.files, s.info)
	return s, err
}
