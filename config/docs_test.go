package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

const (
	examplePath = "../docs/pgweir.yaml"
	pagePath    = "../docs/configuration.md"
)

// TestExampleIsTheDefault: the documented file, loaded as it stands, changes nothing.
func TestExampleIsTheDefault(t *testing.T) {
	got, err := parseFile(t, examplePath)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Servers = []Server{{Address: "127.0.0.1:5432", Weight: 1}}
	want.Routing.SafeFunctions, want.Routing.UnsafeFunctions = []string{}, []string{}
	want.Settings.Assert, want.Pool.Reserve.Users = []string{}, []string{}
	want.Tenant.Settings, want.Tenant.Columns = []string{}, []string{}
	want.Insight.ExemptApplications = []string{}
	want.Tenant.Exempt = Exempt{Tables: []string{}, Statements: []string{}, Patterns: []string{}, Users: []string{}, Applications: []string{}}
	if diff := cmp.Diff(want.Complete(), got); diff != "" {
		t.Error(diff)
	}
}

var (
	commentedKey = regexp.MustCompile(`(?m)^#([^ \n].*|  +\S.*)$`)
	markers      = [2]string{"<!-- keys: begin -->\n", "<!-- keys: end -->\n"}
)

// uncommented is the example with the keys that have no default switched on.
func uncommented(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	return commentedKey.ReplaceAll(data, []byte("$1"))
}

// TestExampleHoldsEveryKey compares the example with the structs both ways and
// requires a word on every key.
func TestExampleHoldsEveryKey(t *testing.T) {
	meanings := exampleKeys(t)
	for _, k := range Keys() {
		if meanings[k.Path] == "" {
			t.Errorf("docs/pgweir.yaml lacks %s, or a comment on its line", k.Path)
		}
		delete(meanings, k.Path)
	}
	for path := range meanings {
		t.Errorf("docs/pgweir.yaml has %s, which is no key", path)
	}
}

// TestExampleUncommentedLoads switches every example on; only the short forms
// must give way to the clusters, servers are told in every way, and the files named are not there.
func TestExampleUncommentedLoads(t *testing.T) {
	_, err := Parse(examplePath, uncommented(t), environment)
	faults, _ := err.(Faults)
	for _, f := range faults {
		missing := strings.Contains(f.Text, "no such file")
		short := strings.Contains(f.Text, "is short for a single cluster")
		several := strings.Contains(f.Text, "the servers are told by") || strings.Contains(f.Text, "peers say")
		if !missing && !short && !several && !strings.Contains(f.Text, "needs service.user") {
			t.Error(f)
		}
	}
	if len(faults) == 0 {
		t.Error("clusters beside servers is no fault")
	}
}

// exampleKeys maps the paths of the example, as Keys writes them, to their comments.
func exampleKeys(t *testing.T) map[string]string {
	t.Helper()
	root, err := document(uncommented(t))
	if err != nil {
		t.Fatal(err)
	}
	meanings := map[string]string{}
	collect(root, "", meanings)
	return meanings
}

func collect(n *yaml.Node, path string, meanings map[string]string) {
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		name := k.Value
		if path == "clusters" || path == "databases" || path == "users" {
			collect(v, path+".*", meanings)
			continue
		}
		at := join(path, name)
		// A secret's {file: path} is a way to write its value, not a key.
		comment := k.LineComment + v.LineComment
		if len(v.Content) > 0 && v.Style&yaml.FlowStyle != 0 && comment == "" {
			comment = v.Content[len(v.Content)-1].LineComment
		}
		meanings[at] = strings.TrimPrefix(comment, "# ")
		if v.Style&yaml.FlowStyle == 0 {
			collect(v, at, meanings)
		}
	}
	for _, item := range n.Content {
		if n.Kind == yaml.SequenceNode {
			collect(item, path+"[]", meanings)
		}
	}
}

// TestConfigurationPage keeps the table of docs/configuration.md equal to the
// structs and the example's comments.
func TestConfigurationPage(t *testing.T) {
	page, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), markers[0])
	_, after, ok2 := strings.Cut(rest, markers[1])
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", pagePath)
	}
	want := before + markers[0] + table(t) + markers[1] + after
	if *update {
		if err := os.WriteFile(pagePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(page)); diff != "" {
		t.Errorf("run go test ./config -update:\n%s", diff)
	}
}

func table(t *testing.T) string {
	t.Helper()
	meanings := exampleKeys(t)
	var b bytes.Buffer
	b.WriteString("| key | value | default | reload | meaning |\n|---|---|---|---|---|\n")
	for _, k := range Keys() {
		def := k.Default
		if def != "" {
			def = "`" + def + "`"
		}
		meaning := strings.ReplaceAll(meanings[k.Path], "|", `\|`)
		effect := "live"
		if k.Restart {
			effect = "restart"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Path, strings.TrimPrefix(k.Type, "a "), def, effect, meaning)
	}
	return b.String()
}

var dottedWord = regexp.MustCompile("`([a-z_]+(?:\\.[a-z_*]+)+)")

// TestKeysOfPages: a key that a page names is there.
func TestKeysOfPages(t *testing.T) {
	known, sections := Keys(), map[string]bool{}
	for i, k := range known {
		known[i].Path = strings.ReplaceAll(k.Path, "[]", "")
		section, _, _ := strings.Cut(known[i].Path, ".")
		sections[section] = true
	}
	named := func(words []string) bool {
		return slices.ContainsFunc(known, func(k Key) bool {
			return slices.EqualFunc(strings.Split(k.Path, "."), words, func(k, w string) bool { return k == w || k == "*" })
		})
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages", err)
	}
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range dottedWord.FindAllStringSubmatch(string(text), -1) {
			words := strings.Split(m[1], ".")
			if sections[words[0]] && !named(words) && m[1] != "service.namespace.svc" { // a host's name
				t.Errorf("%s names %s, which is no key", page, m[1])
			}
		}
	}
}
