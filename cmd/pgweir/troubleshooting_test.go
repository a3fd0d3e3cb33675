package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTroubleshootingPage: the page has every message of the log from WARN on, every SQLSTATE that pgweir itself
// tells clients, and every event, each once, and nothing else.
func TestTroubleshootingPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	must(t, err)
	said := saidBy(t)
	for heading, want := range map[string]map[string]bool{"Messages of the log": said.messages, "SQLSTATEs": said.states, "Events": said.events} {
		if len(want) < 6 {
			t.Errorf("%s: the code has only %d", heading, len(want))
		}
		listed := map[string]bool{}
		for _, name := range firstCells(string(page), heading) {
			if listed[name] {
				t.Errorf("%s: %q is there twice", heading, name)
			}
			listed[name] = true
			if !want[name] {
				t.Errorf("%s: nothing says %q", heading, name)
			}
		}
		for name := range want {
			if !listed[name] {
				t.Errorf("%s: the page lacks %q", heading, name)
			}
		}
	}
	for _, unclear := range said.unclear {
		t.Errorf("%s: a message that cannot be read from the code cannot be documented", unclear)
	}
	for line := range strings.Lines(string(page)) {
		for message, level := range said.levels {
			if strings.HasPrefix(line, "| `"+message+"`") && !strings.Contains(line, "` | "+level+" | ") {
				t.Errorf("%q is of level %s", message, level)
			}
		}
	}
	for _, cell := range regexp.MustCompile("(?m)^\\| `[0-9A-Z]{5}` \\| (.*?) \\|").FindAllStringSubmatch(string(page), -1) {
		for _, quoted := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(cell[1], -1) {
			for piece := range strings.SplitSeq(quoted[1], "…") {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(said.texts)), func(text string) bool { return strings.Contains(text, strings.TrimSpace(piece)) }) {
					t.Errorf("no client is told %q", quoted[1])
				}
			}
		}
	}
}

// firstCells are the first cells of the rows under a heading; several names are divided by commas.
func firstCells(page, heading string) (names []string) {
	_, text, _ := strings.Cut(page, "\n## "+heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|").FindAllStringSubmatch(text, -1) {
		for _, m := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(row[1], -1) {
			names = append(names, m[1])
		}
	}
	return names
}

// saying is what the program says.
type saying struct {
	messages map[string]bool // of the log; what follows at run time is …
	states   map[string]bool // SQLSTATEs
	texts    map[string]bool // of errors
	events   map[string]bool
	levels   map[string]string // of messages
	unclear  []string          // places
}

// saidBy reads it from the sources of the program.
func saidBy(t *testing.T) *saying {
	t.Helper()
	s := &saying{messages: map[string]bool{}, states: map[string]bool{}, texts: map[string]bool{}, events: map[string]bool{}, levels: map[string]string{}}
	files := token.NewFileSet()
	for _, root := range []string{"cmd/pgweir", "config", "internal/logs", "internal/serve", "internal/systemd", "internal/handover", "internal/wire", "pool", "proxy", "router"} {
		must(t, filepath.WalkDir(filepath.Join("../..", root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			for _, d := range file.Decls {
				ast.Inspect(d, func(n ast.Node) bool { s.look(n, d, files); return true })
			}
			return nil
		}))
	}
	return s
}

var sqlstate = regexp.MustCompile(`^[0-9A-Z]{5}$`)

// look takes in a node of a declaration.
func (s *saying) look(n ast.Node, within ast.Decl, files *token.FileSet) {
	switch n := n.(type) {
	case *ast.KeyValueExpr: // of a wire.Error
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
			s.state(n.Value)
		} else if ok && key.Name == "Message" {
			s.texts[text(n.Value)] = true
		}
	case *ast.CallExpr:
		s.call(n, within, files)
	}
}

func (s *saying) state(e ast.Expr) {
	if code := text(e); sqlstate.MatchString(code) {
		s.states[code] = true
	}
}

func (s *saying) call(n *ast.CallExpr, within ast.Decl, files *token.FileSet) {
	name := ""
	switch f := n.Fun.(type) {
	case *ast.SelectorExpr:
		name = f.Sel.Name
	case *ast.Ident:
		name = f.Name
	}
	if len(n.Args) == 0 {
		return
	}
	switch first := text(n.Args[0]); {
	case name == "String" && len(n.Args) == 2 && first == "event":
		s.events[text(n.Args[1])] = true
	case (name == "Fatalf" || name == "Errorf" || name == "complaint") && sqlstate.MatchString(first):
		s.states[first] = true
		s.texts[text(n.Args[1])] = true
	case name == "AppendNotice" && len(n.Args) > 3:
		if text(n.Args[1]) != "NOTICE" {
			s.state(n.Args[2])
			s.texts[text(n.Args[3])] = true
		}
	case slices.Contains([]string{"Warn", "Error", "DPanic", "Panic", "Fatal"}, name) && !strings.HasPrefix(first, "error"):
		if f := n.Fun.(*ast.SelectorExpr); isName(f.X, "http") || isName(f.X, "zap") {
			return
		}
		s.message(n.Args[0], within, n, files)
		s.levels[first] = strings.ToUpper(name)
	case name == "Log" && len(n.Args) > 1:
		s.message(n.Args[1], within, n, files)
	}
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// message takes in what is logged: a text, or a variable that texts are assigned to.
func (s *saying) message(e ast.Expr, within ast.Decl, at ast.Node, files *token.FileSet) {
	if said := text(e); said != "" {
		s.messages[said] = true
		return
	}
	id, ok := e.(*ast.Ident)
	found := false
	ast.Inspect(within, func(n ast.Node) bool {
		a, is := n.(*ast.AssignStmt)
		for i := 0; ok && is && i < len(a.Lhs) && len(a.Rhs) == len(a.Lhs); i++ {
			if isName(a.Lhs[i], id.Name) && text(a.Rhs[i]) != "" {
				s.messages[text(a.Rhs[i])] = true
				found = true
			}
		}
		return true
	})
	if !found {
		s.unclear = append(s.unclear, files.Position(at.Pos()).String())
	}
}

// text is that of a literal; what is joined to it at run time is …
func text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if said, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return said
		}
	case *ast.BinaryExpr:
		if left, right := text(e.X), text(e.Y); left+right != "" {
			if right == "" {
				right = "…"
			}
			return left + right
		}
	}
	return ""
}
