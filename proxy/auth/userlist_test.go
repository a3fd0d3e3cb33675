package auth

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/config"
)

func TestParseUserlist(t *testing.T) {
	users, faults := parseUserlist("users", strings.Join([]string{
		`; a comment`,
		`"a" "secret"`,
		"\t\"b\"\t\"with \"\"quotes\"\" and ; and \\\"  \"ignored\" \r",
		``,
		`"c""d" "md5` + strings.Repeat("0", 32) + `" more`,
		`"e" ""`,
		`"a" "another"`,
		`"ü x" "` + scramSecret(t, "x") + `"`,
	}, "\n"))
	if len(faults) != 0 {
		t.Fatal(faults)
	}
	for name, want := range map[string]stored{
		"a":   {kind: secretPlain, text: "secret"},
		"b":   {kind: secretPlain, text: `with "quotes" and ; and \`},
		`c"d`: {kind: secretMD5, text: "md5" + strings.Repeat("0", 32)},
		"e":   {kind: secretNone},
		"ü x": {kind: secretSCRAM, text: scramSecret(t, "x")},
	} {
		if got, ok := users[name]; !ok || got.kind != want.kind || got.text != want.text {
			t.Errorf("%s: kind %d, text %q", name, got.kind, got.text)
		}
	}
	if len(users) != 5 {
		t.Errorf("%d users", len(users))
	}
	if more := users["a"].more; len(more) != 1 || more[0].text != "another" {
		t.Errorf("a has %d secrets more", len(more))
	}
	for _, line := range []string{`a b`, `"a"`, `"a" secret`, `"a "secret"`, `"a" "secret`, `"" "x"`, `"a" "SCRAM-SHA-256$1:x"`, "\"a\x00\" \"x\""} {
		users, bad := parseUserlist("users", "\n"+line+"\n\"b\" \"right\"")
		if len(bad) != 1 || bad[0].Line != 2 || strings.Contains(bad[0].Why.Error(), "secret\"\"") {
			t.Errorf("%q: %v", line, bad)
		}
		if a, ok := users["a"]; users["b"].text != "right" || ok && (a.kind != secretNone || !strings.Contains(a.why, "users line 2")) {
			t.Errorf("%q: %v", line, users)
		}
	}
	users, _ = parseUserlist("users", "\"a\" \"x\n\"a\" \"right\"")
	if users["a"].text != "right" {
		t.Error("a wrong line spoils another of the same user")
	}
}

func TestUserFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	writeFile(t, path, `"a" "one"`)
	synctest.Test(t, func(t *testing.T) {
		v := mustNew(t, config.Auth{Method: "password", AllowPlainPassword: true, UserFile: path}, nil, nil, nil)
		check := func(p, want string) {
			t.Helper()
			if _, got := authenticate(t, v, "a", password(p)); got != want {
				t.Errorf("%s: got %s, want %s", p, got, want)
			}
		}
		check("one", "ok")
		writeFile(t, path, `"a" "another"`)
		check("one", "ok") // not looked at yet
		time.Sleep(fileCheckInterval)
		check("one", "28P01")
		check("another", "ok")

		// A line that is wrong refuses its user and nobody else.
		writeFile(t, path, "\"a\" \"a third\n\"b\" \"bs\"")
		time.Sleep(fileCheckInterval)
		check("another", "28P01")
		if _, got := authenticate(t, v, "b", password("bs")); got != "ok" {
			t.Errorf("the other user: %s", got)
		}
		if faults := v.UserFileFaults(); len(faults) != 1 || !strings.Contains(faults[0], "line 1") {
			t.Errorf("the fault is told as %q", faults)
		}
		writeFile(t, path, `"a" "a third"`)
		if err := v.ReloadUserFile(); err != nil || v.UserFileFaults() != nil {
			t.Error(err, v.UserFileFaults())
		}
		check("a third", "ok")
	})
}

func FuzzUserlist(f *testing.F) {
	f.Add(`"a" "b"`)
	f.Add("; x\n\"a\"\"b\" \"\" z\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		users, _ := parseUserlist("users", text)
		// What was read can be written and read again.
		var b strings.Builder
		quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		for name, s := range users {
			s.each(func(s stored) { b.WriteString(quote(name) + " " + quote(s.text) + "\n") })
		}
		again, bad := parseUserlist("users", b.String())
		if len(bad) != 0 || len(again) != len(users) {
			t.Fatalf("%d users, then %d: %v", len(users), len(again), bad)
		}
		for name, s := range users {
			if again[name].text != s.text {
				t.Errorf("%q changed", name)
			}
		}
	})
}

// TestRotation: while a password is rotated both let the user in, by every method and whatever
// their kinds, and the first is what logs in to servers.
func TestRotation(t *testing.T) {
	hash := func(p string) string { return "md5" + hexMD5(p+"app") }
	for _, c := range []struct {
		method, first, second string
		server                func(Secret) bool // what logs in after the second
	}{
		{"scram-sha-256", "new", "old", func(s Secret) bool { return s.Password == "new" }},
		{"scram-sha-256", scramSecret(t, "new"), "old", func(s Secret) bool { return s.Keys.ClientKey != nil }},
		{"scram-sha-256", "new", scramSecret(t, "old"), func(s Secret) bool { return s.Password == "new" }},
		{"md5", "new", hash("old"), func(s Secret) bool { return s.Password == "new" }},
		{"md5", hash("new"), "old", func(s Secret) bool { return s.MD5 == hash("new") }},
		{"password", hash("new"), scramSecret(t, "old"), func(s Secret) bool { return s.MD5 == hash("new") }},
		{"password", scramSecret(t, "new"), hash("old"), func(s Secret) bool { return s.Password == "old" }},
	} {
		path := filepath.Join(t.TempDir(), "users")
		writeFile(t, path, `"app" "`+c.first+"\"\n\"app\" \""+c.second+`"`)
		cfg := config.Auth{Method: c.method, AllowPlainPassword: true}
		file := cfg
		file.UserFile = path
		for name, v := range map[string]*Verifier{
			"configuration": mustNew(t, cfg, map[string]config.User{"app": {Password: c.first, OldPasswords: []string{c.second}}}, nil, nil),
			"file":          mustNew(t, file, nil, nil, nil),
		} {
			f := newFront(t, v, nil)
			for password, want := range map[string]string{"old": "ok", "new": "ok", "older": "28P01"} {
				if got := code(f.connect(t, "app", password, "sslmode=disable")); got != want {
					t.Errorf("%s, %s then %s, by %s: %s says %s", c.method, c.first, c.second, name, password, got)
				}
			}
			if err := f.connect(t, "app", "old", "sslmode=disable"); err == nil && !c.server(f.last(t).Secret) {
				t.Errorf("%s, %s then %s: to servers goes %s", c.method, c.first, c.second, kinds(f.last(t).Secret))
			}
		}
	}
}
