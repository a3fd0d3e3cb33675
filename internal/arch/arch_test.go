package arch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// floors gives every package its floor; imports within the module go strictly
// downward, but for the exceptions. A package that is not here is an error: decide
// where it belongs first.
var floors = map[string]int{
	"cmd/pgweir": 4,

	"proxy":             3,
	"proxy/admin":       3,
	"proxy/console":     3,
	"proxy/reload":      3,
	"proxy/shadow":      3,
	"proxy/activity":    3,
	"proxy/analysis":    3,
	"proxy/audit":       3,
	"proxy/client":      3,
	"proxy/copyin":      3,
	"proxy/described":   3,
	"proxy/doubt":       3,
	"proxy/explain":     3,
	"proxy/freshness":   3,
	"proxy/interrupt":   3,
	"proxy/local":       3,
	"proxy/notify":      3,
	"proxy/page":        3,
	"proxy/observe":     3,
	"proxy/baselines":   3,
	"proxy/peers":       3,
	"proxy/preferences": 3,
	"proxy/batch":       3,
	"proxy/metrics":     3,
	"proxy/session":     3,
	"proxy/slots":       3,
	"proxy/tail":        3,
	"proxy/timeouts":    3,
	"proxy/tracing":     3,
	"proxy/upstream":    3,
	"internal/serve":    3,
	"internal/trial":    3,

	"internal/adminclient": 3,

	"pool/cluster": 2,
	"pool/probe":   2,
	"pool":         2,

	"pool/discovery":  2,
	"pool/perserver":  2,
	"internal/replay": 2,

	"router":             1,
	"router/catalog":     1,
	"router/tenant":      1,
	"router/shape":       1,
	"router/execplan":    1,
	"router/indexes":     1,
	"pool/backend":       1,
	"proxy/auth":         1,
	"internal/pgbouncer": 1,
	"proxy/auth/ldap":    1,

	"internal/wire":       0,
	"internal/sockets":    0,
	"internal/handover":   0,
	"internal/systemd":    0,
	"internal/lsn":        0,
	"internal/prepared":   0,
	"internal/setting":    0,
	"internal/hba":        0,
	"internal/setup":      0,
	"internal/userlist":   0,
	"internal/scram":      0,
	"internal/statements": 0,
	"internal/progress":   0,
	"internal/logs":       0,
	"internal/grammar":    0,
	"config":              0,
	"insight":             0,
	"insight/archive":     0,
	"insight/compare":     0,
}

// tools are programs and packages beside the floors. They may import any of them
// and are imported by each other, by tests and by what importers names, only.
var tools = []string{"bench", "internal/arch", "internal/arch/figures", "internal/clients", "internal/demo", "internal/pgtest", "internal/regress", "internal/sim", "internal/sim/planted", "internal/simpg"}

// importers names who may import a tool from outside the tests.
var importers = map[string][]string{
	"internal/arch":   {"internal/arch/figures"},
	"internal/pgtest": {"internal/demo", "internal/regress", "bench"},
	"internal/simpg":  {"internal/sim"},
	"internal/demo":   {"cmd/pgweir"},
}

// sideways are the imports allowed within a floor. Package proxy stands on the rooms
// beside it, which do not know it.
var sideways = map[string][]string{
	"config":            {"internal/hba", "internal/userlist"},
	"insight/archive":   {"insight"},
	"insight/compare":   {"insight"},
	"internal/grammar":  {"internal/setting"},
	"internal/logs":     {"config"},
	"router":            {"router/catalog", "router/shape", "router/tenant"},
	"router/shape":      {"router/catalog"},
	"router/indexes":    {"router/catalog"},
	"router/tenant":     {"router/catalog"},
	"pool/probe":        {"pool/cluster"},
	"pool/discovery":    {"pool/cluster"},
	"pool/perserver":    {"pool", "pool/cluster"},
	"proxy":             {"proxy/activity", "proxy/analysis", "proxy/audit", "proxy/baselines", "proxy/batch", "proxy/client", "proxy/console", "proxy/explain", "proxy/interrupt", "proxy/metrics", "proxy/page", "proxy/peers", "proxy/preferences", "proxy/session", "proxy/shadow", "proxy/tracing", "proxy/upstream"},
	"proxy/auth":        {"proxy/auth/ldap"},
	"proxy/analysis":    {"proxy/audit", "proxy/batch", "proxy/freshness", "proxy/interrupt", "proxy/preferences", "proxy/session", "proxy/upstream"},
	"proxy/client":      {"proxy/activity", "proxy/analysis", "proxy/batch", "proxy/copyin", "proxy/described", "proxy/doubt", "proxy/freshness", "proxy/interrupt", "proxy/local", "proxy/metrics", "proxy/notify", "proxy/observe", "proxy/preferences", "proxy/session", "proxy/shadow", "proxy/tail", "proxy/timeouts", "proxy/tracing", "proxy/upstream"},
	"proxy/tail":        {"proxy/interrupt", "proxy/upstream"},
	"proxy/timeouts":    {"proxy/interrupt", "proxy/metrics", "proxy/session"},
	"proxy/metrics":     {"proxy/interrupt"},
	"proxy/page":        {"proxy/console", "proxy/metrics"},
	"proxy/observe":     {"proxy/batch", "proxy/explain", "proxy/session"},
	"proxy/local":       {"proxy/batch", "proxy/preferences", "proxy/session", "proxy/upstream"},
	"proxy/doubt":       {"proxy/session", "proxy/upstream"},
	"proxy/copyin":      {"proxy/batch", "proxy/interrupt", "proxy/upstream"},
	"proxy/described":   {"proxy/batch", "proxy/session"},
	"proxy/batch":       {"proxy/session"},
	"proxy/upstream":    {"proxy/activity", "proxy/audit", "proxy/batch", "proxy/explain", "proxy/freshness", "proxy/interrupt", "proxy/metrics", "proxy/notify", "proxy/shadow", "proxy/slots", "proxy/tracing"},
	"internal/trial":    {"proxy"},
	"proxy/admin":       {"proxy/baselines"},
	"internal/serve":    {"proxy", "proxy/admin", "proxy/console", "proxy/page", "proxy/reload"},
	"proxy/preferences": {"proxy/tracing"},
	"proxy/tracing":     {"proxy/batch", "proxy/session"},

	"internal/adminclient": {"proxy/admin"},
}

// forbidden lists, for a package and all below it, what it may not depend on even
// indirectly: the router knows no sockets and the pool no SQL. A name ending in
// "/..." stands for everything below it too.
var forbidden = map[string][]string{
	"router/...": {Module + "/pool/...", Module + "/proxy/..."},
	"pool/...":   {Module + "/router/...", Module + "/proxy/...", "github.com/pganalyze/..."},
	"config":     {"net/http", "github.com/jackc/...", "github.com/pganalyze/..."},
}

// directly lists what a package may not import itself. Packages of other modules
// that it needs may: a library that parses addresses depends on net.
var directly = map[string][]string{
	"router/...":          {"net", "net/..."},
	"proxy/audit":         {"net", "net/...", "os"},
	"proxy/freshness":     {"net", "net/...", "os", "context"},
	"internal/prepared":   {"net", "net/...", "os"},
	"internal/setup":      {"net", "net/...", "os"},
	"internal/setting":    {"net", "net/...", "os"},
	"internal/statements": {"net", "net/...", "os"},
	"insight":             {"net", "net/...", "os"},
	"insight/compare":     {"net", "net/...", "os"},
}

func TestFloors(t *testing.T) {
	packages, err := list("../..", "./...")
	require.NoError(t, err)
	require.NotEmpty(t, packages)
	for _, p := range packages {
		for _, fault := range faults(p) {
			t.Error(fault)
		}
	}
	for _, fault := range surplus(packages) {
		t.Error(fault)
	}
}

// surplus lists what the tables say of packages that are not there, and the
// exceptions that no package needs.
func surplus(packages []listed) []string {
	var out []string
	imports := map[string][]string{}
	for _, p := range packages {
		imports[p.path()] = p.Imports
	}
	for _, path := range slices.Concat(slices.Sorted(maps.Keys(floors)), tools) {
		if _, ok := imports[path]; !ok {
			out = append(out, path+" is in the tables and not in the tree")
		}
	}
	for _, from := range slices.Sorted(maps.Keys(sideways)) {
		for _, to := range sideways[from] {
			if floors[to] != floors[from] || !slices.Contains(imports[from], Module+"/"+to) {
				out = append(out, fmt.Sprintf("sideways: %s needs no exception for %s", from, to))
			}
		}
	}
	for _, tool := range slices.Sorted(maps.Keys(importers)) {
		for _, from := range importers[tool] {
			if !slices.Contains(imports[from], Module+"/"+tool) {
				out = append(out, fmt.Sprintf("importers: %s does not import %s", from, tool))
			}
		}
	}
	paths := slices.Sorted(maps.Keys(imports))
	return slices.Concat(out, idle(forbidden, paths), idle(directly, paths))
}

// idle lists the patterns of forbidden or directly that stand for no package.
func idle(table map[string][]string, paths []string) []string {
	var out []string
	none := func(pattern string) bool {
		return !slices.ContainsFunc(paths, func(p string) bool { return matches(pattern, p) })
	}
	for _, pattern := range slices.Sorted(maps.Keys(table)) {
		if none(pattern) {
			out = append(out, "forbidden: no package is "+pattern)
		}
		for _, name := range table[pattern] {
			if within, ok := strings.CutPrefix(name, Module+"/"); ok && none(within) {
				out = append(out, "forbidden: no package is "+within)
			}
		}
	}
	return out
}

// faults lists what is wrong with the imports of one package.
func faults(p listed) []string {
	if !known(p.path()) {
		return []string{p.path() + " has no floor: decide where it belongs and add it to the table"}
	}
	var out []string
	for _, imported := range p.Imports {
		if within, ok := strings.CutPrefix(imported, Module+"/"); ok && !allowed(p.path(), within) {
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

func clashes(p listed, table map[string][]string, imports []string, verb string) []string {
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
	m := Module + "/"
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
		{path: "proxy/freshness", imports: []string{m + "proxy"}, want: []string{"proxy/freshness may not import proxy"}},
		{path: "cmd/pgweir", imports: []string{m + "internal/demo", m + "internal/pgtest"}, want: []string{"cmd/pgweir may not import internal/pgtest"}},
		{path: "bench", imports: []string{m + "internal/pgtest"}},
	} {
		got := faults(listed{ImportPath: m + c.path, Imports: c.imports, Deps: c.deps})
		require.Equal(t, c.want, got, "%s importing %v, depending on %v", c.path, c.imports, c.deps)
	}
}

// TestSurplus checks the check of the exceptions.
func TestSurplus(t *testing.T) {
	var tree []listed
	for _, path := range slices.Concat(slices.Collect(maps.Keys(floors)), tools) {
		p := listed{ImportPath: Module + "/" + path}
		for _, to := range sideways[path] {
			p.Imports = append(p.Imports, Module+"/"+to)
		}
		for tool, from := range importers {
			if slices.Contains(from, path) {
				p.Imports = append(p.Imports, Module+"/"+tool)
			}
		}
		tree = append(tree, p)
	}
	require.Empty(t, surplus(tree))
	gone := slices.DeleteFunc(slices.Clone(tree), func(p listed) bool { return p.path() == "router/tenant" || p.path() == "bench" })
	for i, p := range gone {
		if p.path() == "router" {
			gone[i].Imports = nil
		}
	}
	require.Subset(t, surplus(gone), []string{
		"router/tenant is in the tables and not in the tree",
		"bench is in the tables and not in the tree",
		"sideways: router needs no exception for router/catalog",
		"sideways: router needs no exception for router/tenant",
		"importers: bench does not import internal/pgtest",
	})
	table := map[string][]string{"a/...": {"net", Module + "/b/..."}, "c": {Module + "/a"}}
	require.Empty(t, idle(table, []string{"a/x", "a", "b/y", "c"}))
	require.Equal(t, []string{"forbidden: no package is b/...", "forbidden: no package is c"}, idle(table, []string{"a"}))
}
