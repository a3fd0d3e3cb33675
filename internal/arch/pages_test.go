package arch

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the module's, as seen from this package.
const root = "../.."

// tree reads the files whose path within the module keep wants, by that path.
func tree(t *testing.T, keep func(path string) bool) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		within, _ := filepath.Rel(root, name)
		if d.IsDir() {
			if d.Name() == ".git" || d.Name() == "node_modules" || within == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() && keep(within) {
			text, err := os.ReadFile(name)
			out[within] = string(text)
			return err
		}
		return nil
	})
	require.NoError(t, err)
	return out
}

var (
	// readHere is where Go code, or a shell script, reads a variable.
	readHere = regexp.MustCompile(`(?:env\(|Env\(|Variable = |Child = )"((?:PGWEIR|SIMPG)_[A-Z_]+)"|\$\{?(PGWEIR_[A-Z_]+)`)
	// told is a row of the table of variables.
	told = regexp.MustCompile("(?m)^\\| `((?:PGWEIR|SIMPG)_[A-Z_]+)` \\|")
)

// TestVariables: CONTRIBUTING.md lists the variables that the tree reads, and no others.
func TestVariables(t *testing.T) {
	read := map[string]bool{}
	for name, text := range tree(t, func(p string) bool {
		return strings.HasSuffix(p, ".go") || strings.HasSuffix(p, ".sh") || p == "Makefile" || p == ".ci/run"
	}) {
		if strings.HasPrefix(name, "internal/arch/") {
			continue
		}
		for _, m := range readHere.FindAllStringSubmatch(text, -1) {
			read[m[1]+m[2]] = true
		}
	}
	var listed []string
	for _, m := range told.FindAllStringSubmatch(tree(t, func(p string) bool { return p == "CONTRIBUTING.md" })["CONTRIBUTING.md"], -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	require.Equal(t, slices.Sorted(maps.Keys(read)), listed)
}

var (
	link     = regexp.MustCompile(`\]\(([^)#: ]+)(?:#[^) ]*)?\)`)
	quoted   = regexp.MustCompile("`([^`\n]+)`")
	testName = regexp.MustCompile(`^(?:Test|Fuzz|Benchmark|Example)[A-Z]\w*$`)
	fileName = regexp.MustCompile(`^[\w.-]+(?:/[\w.-]+)*\.(?:go|md|txt|yml|yaml|sh)$|^(?:internal|proxy|pool|router|cmd|docs|deploy|config|bench|\.ci)/[\w./-]*$`)
	declares = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w+)\(`)
)

// forHackers are the pages about the tree itself: the tests and files they name exist.
var forHackers = []string{"ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs/development.md", "docs/debugging.md", "docs/testing.md"}

// TestPages: links lead to files, and the pages about the tree name what is in it.
func TestPages(t *testing.T) {
	tests := map[string]bool{}
	for _, text := range tree(t, func(p string) bool { return strings.HasSuffix(p, "_test.go") }) {
		for _, m := range declares.FindAllStringSubmatch(text, -1) {
			tests[m[1]] = true
		}
	}
	pages := tree(t, func(p string) bool { return strings.HasSuffix(p, ".md") })
	for name, text := range pages {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if !exists(path.Join(path.Dir(name), m[1])) {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	}
	for _, name := range forHackers {
		for _, m := range quoted.FindAllStringSubmatch(pages[name], -1) {
			switch word := m[1]; {
			case testName.MatchString(word):
				if !tests[word] {
					t.Errorf("%s names %s, which is no test", name, word)
				}
			case fileName.MatchString(word):
				if !found(word) {
					t.Errorf("%s names %s, which is not there", name, word)
				}
			}
		}
	}
}

func exists(within string) bool {
	_, err := os.Stat(filepath.Join(root, within))
	return err == nil
}

// found tells whether a file, directory or pattern is at that place in the module, or
// its name anywhere if it has no directory.
func found(word string) bool {
	if exists(word) {
		return true
	}
	if strings.Contains(word, "/") {
		return false
	}
	for _, depth := range []string{"*", "*/*", "*/*/*"} {
		if m, _ := filepath.Glob(filepath.Join(root, depth, word)); len(m) > 0 {
			return true
		}
	}
	return false
}

// constant is a message type of package wire.
var constant = regexp.MustCompile(`(?m)^\t([A-Z]\w+) += '(.)'$`)

// TestMessages: every type of message is used by somebody, and the scripts that compare
// the proxy with PostgreSQL send every one a client may send after its login.
func TestMessages(t *testing.T) {
	source := tree(t, func(p string) bool { return strings.HasSuffix(p, ".go") && !strings.HasSuffix(p, "_test.go") })
	scripts := tree(t, func(p string) bool { return strings.HasPrefix(p, "proxy/testdata/protocol/") })
	all := strings.Join(slices.Collect(maps.Values(source)), "\n")
	played := "\n" + strings.Join(slices.Collect(maps.Values(scripts)), "\n")
	frontend, _, ok := strings.Cut(source["internal/wire/message.go"], "\n)\n")
	require.True(t, ok)
	for _, m := range constant.FindAllStringSubmatch(source["internal/wire/message.go"], -1) {
		if !regexp.MustCompile(`wire\.` + m[1] + `\b`).MatchString(all) {
			t.Errorf("wire.%s is used by nobody", m[1])
		}
	}
	for _, m := range constant.FindAllStringSubmatch(frontend, -1) {
		if m[1] != "Password" && !regexp.MustCompile(`\n`+m[2]+`[ \n]`).MatchString(played) {
			t.Errorf("no script of proxy/testdata/protocol sends %s (%s)", m[1], m[2])
		}
	}
}
