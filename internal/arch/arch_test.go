// Package arch holds the tests that keep the tree in the shape ARCHITECTURE.md gives it.
package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/pgweir/pgweir"

// floors gives every package its floor; imports within the module go strictly
// downward, but for the exceptions. A package that is not here is an error: decide
// where it belongs first.
var floors = map[string]int{
	"cmd/pgweir": 4,

	"proxy":          3,
	"proxy/admin":    3,
	"internal/serve": 3,

	"pool/cluster": 2,
	"pool":         2,

	"router":         1,
	"router/catalog": 1,
	"router/tenant":  1,
	"pool/backend":   1,
	"proxy/auth":     1,

	"internal/wire":       0,
	"internal/session":    0,
	"internal/scram":      0,
	"internal/statements": 0,
	"internal/grammar":    0,
	"config":              0,
}

// tools are programs and packages beside the floors. They may import any of them
// and are imported by each other, by tests and by what importers names, only.
var tools = []string{"bench", "internal/arch", "internal/clients", "internal/demo", "internal/pgtest"}

// importers names who may import a tool from outside the tests.
var importers = map[string][]string{
	"internal/pgtest": {"internal/demo", "bench"},
	"internal/demo":   {"cmd/pgweir"},
}

// sideways are the imports allowed within a floor.
var sideways = map[string][]string{
	"router":         {"router/catalog", "router/tenant"},
	"router/tenant":  {"router/catalog"},
	"pool/cluster":   {"pool"},
	"proxy":          {"proxy/admin"},
	"internal/serve": {"proxy", "proxy/admin"},
}

// forbidden lists, for a package and all below it, what it may not depend on even
// indirectly: the router knows no sockets and the pool no SQL. A name ending in
// "/..." stands for everything below it too.
var forbidden = map[string][]string{
	"router/...": {module + "/pool/...", module + "/proxy/..."},
	"pool/...":   {module + "/router/...", module + "/proxy/...", "github.com/pganalyze/..."},
	"config":     {"net/http", "github.com/jackc/...", "github.com/pganalyze/..."},
}

// directly lists what a package may not import itself. Packages of other modules
// that it needs may: a library that parses addresses depends on net.
var directly = map[string][]string{
	"router/...":          {"net", "net/..."},
	"internal/session":    {"net", "net/...", "os"},
	"internal/statements": {"net", "net/...", "os"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Error      *struct{ Err string }
}

// path is the package's path within the module.
func (p goPackage) path() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func listPackages(t *testing.T) []goPackage {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,Error", "./...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		require.Nil(t, p.Error, p.ImportPath)
		all = append(all, p)
	}
}

func TestFloors(t *testing.T) {
	packages := listPackages(t)
	require.NotEmpty(t, packages)
	for _, p := range packages {
		for _, fault := range faults(p) {
			t.Error(fault)
		}
	}
}

// faults lists what is wrong with the imports of one package.
func faults(p goPackage) []string {
	if !known(p.path()) {
		return []string{p.path() + " has no floor: decide where it belongs and add it to the table"}
	}
	var out []string
	for _, imported := range p.Imports {
		if within, ok := strings.CutPrefix(imported, module+"/"); ok && !allowed(p.path(), within) {
			out = append(out, fmt.Sprintf("%s may not import %s", p.path(), within))
		}
	}
	out = append(out, clashes(p, directly, p.Imports, "import")...)
	return append(out, clashes(p, forbidden, p.Deps, "depend on")...)
}

func known(path string) bool {
	_, ok := floors[path]
	return ok || slices.Contains(tools, path)
}

// allowed tells whether the package from may import to; both are of this module.
func allowed(from, to string) bool {
	if slices.Contains(tools, to) {
		return slices.Contains(importers[to], from)
	}
	if slices.Contains(tools, from) || slices.Contains(sideways[from], to) {
		return true
	}
	return floors[to] < floors[from]
}

func clashes(p goPackage, table map[string][]string, imports []string, verb string) []string {
	var out []string
	for pattern, names := range table {
		if !matches(pattern, p.path()) {
			continue
		}
		for _, imported := range imports {
			if slices.ContainsFunc(names, func(n string) bool { return matches(n, imported) }) {
				out = append(out, fmt.Sprintf("%s may not %s %s", p.path(), verb, imported))
			}
		}
	}
	return out
}

// matches tells whether path is pattern, or below it if that ends in "/...".
func matches(pattern, path string) bool {
	root, below := strings.CutSuffix(pattern, "/...")
	return path == root || below && strings.HasPrefix(path, root+"/")
}

// TestFaults checks the check.
func TestFaults(t *testing.T) {
	m := module + "/"
	for _, c := range []struct {
		path    string
		imports []string
		deps    []string
		want    []string
	}{
		{path: "proxy", imports: []string{"net", m + "router", m + "pool/cluster", m + "internal/wire"}},
		{path: "new/thing", want: []string{"new/thing has no floor: decide where it belongs and add it to the table"}},
		{path: "router", imports: []string{m + "pool"}, want: []string{"router may not import pool"}},
		{path: "router", deps: []string{m + "pool/backend"}, want: []string{"router may not depend on " + m + "pool/backend"}},
		{path: "router/catalog", imports: []string{"net"}, want: []string{"router/catalog may not import net"}},
		{path: "router/catalog", imports: []string{m + "router"}, want: []string{"router/catalog may not import router"}},
		{path: "router", imports: []string{m + "router/catalog", m + "config"}, deps: []string{"net"}},
		{path: "pool/backend", deps: []string{"github.com/pganalyze/pg_query_go/v5"}, want: []string{"pool/backend may not depend on github.com/pganalyze/pg_query_go/v5"}},
		{path: "pool", imports: []string{m + "pool/cluster"}, want: []string{"pool may not import pool/cluster"}},
		{path: "internal/wire", imports: []string{m + "config"}, want: []string{"internal/wire may not import config"}},
		{path: "proxy", imports: []string{m + "internal/pgtest"}, want: []string{"proxy may not import internal/pgtest"}},
		{path: "cmd/pgweir", imports: []string{m + "internal/demo", m + "internal/pgtest"}, want: []string{"cmd/pgweir may not import internal/pgtest"}},
		{path: "bench", imports: []string{m + "internal/pgtest"}},
	} {
		got := faults(goPackage{ImportPath: m + c.path, Imports: c.imports, Deps: c.deps})
		require.Equal(t, c.want, got, "%s importing %v, depending on %v", c.path, c.imports, c.deps)
	}
}
