package hba

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
)

// texts reads files from a map.
func texts(files map[string]string) Read {
	return func(path string) ([]byte, error) {
		text, ok := files[path]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}
}

func TestMaps(t *testing.T) {
	maps, faults := ParseMaps("ident", texts(map[string]string{"ident": `
# map system user
m  root      postgres
m  /^(.*)@corp$  \1
m  /^dba-    all
g  ops       +staff
g  "quoted user" "all"
`}))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for _, c := range []struct {
		name, system, user string
		want               bool
	}{
		{"", "alice", "alice", true},
		{"", "alice", "bob", false},
		{"m", "root", "postgres", true},
		{"m", "root", "root", false},
		{"m", "alice@corp", "alice", true},
		{"m", "alice@corp", "bob", false},
		{"m", "all@corp", "bob", false}, // what the system says is no keyword
		{"m", "alice@other", "alice", false},
		{"m", "dba-1", "anybody", true},
		{"g", "ops", "member", true},
		{"g", "ops", "other", false},
		{"g", "quoted user", "all", true},
		{"g", "quoted user", "alice", false},
		{"none", "alice", "alice", false},
	} {
		got, err := maps.Allow(c.name, c.system, Connection{User: c.user, MemberOf: func(role string) (bool, error) { return c.user == "member" && role == "staff", nil }})
		if got != c.want || err != nil {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	if _, faults := ParseMaps("ident", texts(map[string]string{"ident": "m root\n"})); len(faults) != 1 || faults[0].Line != 1 {
		t.Error(faults)
	}
}

func TestFaultsNameTheirLine(t *testing.T) {
	files := map[string]string{
		"/a/hba":  "local all all trust\nhost all all \\\n db.example.com trust\ninclude b\nlocal all all peer map=m\n",
		"/a/b":    "\nlocal all @none trust\ninclude_dir d\ninclude b\n",
		"/a/good": "local all all peer map=m\n",
	}
	_, faults := Parse("/a/hba", texts(files))
	var all strings.Builder
	for _, f := range faults {
		all.WriteString(f.String() + "\n")
	}
	for _, want := range []string{
		`/a/hba line 2: "db.example.com" is a host name`, "/a/b line 2: open /a/none: file does not exist",
		"/a/b line 3: include_dir is not served", "/a/b line 4: more than 10 files deep",
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no %q in\n%s", want, all.String())
		}
	}
	rules, faults := Parse("/a/good", texts(files))
	if unknown := rules.Unknown(nil); len(faults) != 0 || len(unknown) != 1 || !strings.Contains(unknown[0].String(), `line 1: there is no map "m"`) {
		t.Error(faults, unknown)
	}
	if _, faults := Parse("/a/empty", texts(map[string]string{"/a/empty": "# nothing\n"})); len(faults) != 1 {
		t.Error(faults)
	}
}

// TestFailedQuestion: where it is not known who is a member of what, no later line is tried.
func TestFailedQuestion(t *testing.T) {
	rules, _ := Parse("hba", texts(map[string]string{"hba": "host all +staff all reject\nhost all all all trust\n"}))
	r, err := rules.Match(Connection{User: "a", Database: "d", Address: netip.MustParseAddr("10.0.0.1"), MemberOf: func(string) (bool, error) { return false, errors.New("no") }})
	if r != nil || err == nil {
		t.Error(r, err)
	}
	if !rules.NeedsRoles() || rules[1:].NeedsRoles() {
		t.Error("which lines need roles")
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range files {
		f.Add(file)
	}
	for _, l := range lines {
		f.Add(l.line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		read := texts(map[string]string{"hba": text, "names": "a"})
		rules, faults := Parse("hba", read)
		if (len(rules) == 0) == (len(faults) == 0) {
			t.Errorf("%d rules, %d faults", len(rules), len(faults))
		}
		for _, r := range rules {
			_ = r.String()
		}
		_, _ = rules.Match(Connection{User: "a", Database: "b", Address: netip.MustParseAddr("10.0.0.1"), MemberOf: func(string) (bool, error) { return false, nil }})
		_, _ = ParseMaps("hba", read)
	})
}
