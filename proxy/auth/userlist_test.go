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
	users, err := parseUserlist(strings.Join([]string{
		`; a comment`,
		`"a" "secret"`,
		"\t\"b\"\t\"with \"\"quotes\"\" and ; and \\\"  \"ignored\" \r",
		``,
		`"c""d" "md5` + strings.Repeat("0", 32) + `" more`,
		`"e" ""`,
		`"a" "later wins"`,
		`"ü x" "` + scramSecret(t, "x") + `"`,
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]stored{
		"a":   {kind: secretPlain, text: "later wins"},
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
	for _, bad := range []string{`a b`, `"a"`, `"a" secret`, `"a "secret"`, `"a" "secret`, `"" "x"`, `"a" "SCRAM-SHA-256$1:x"`, "\"a\x00\" \"x\""} {
		if _, err := parseUserlist("\n" + bad); err == nil {
			t.Errorf("%q is accepted", bad)
		} else if !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "secret\"\"") {
			t.Errorf("%q: %v", bad, err)
		}
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

		writeFile(t, path, `"a" "a third`)
		time.Sleep(fileCheckInterval)
		check("another", "ok")
		if err := v.UserFileErr(); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("the fault is told as %v", err)
		}
		if err := v.ReloadUserFile(); err == nil {
			t.Error("reloading a bad file is no error")
		}
		writeFile(t, path, `"a" "a third"`)
		if err := v.ReloadUserFile(); err != nil || v.UserFileErr() != nil {
			t.Error(err)
		}
		check("a third", "ok")
	})
}

func FuzzUserlist(f *testing.F) {
	f.Add(`"a" "b"`)
	f.Add("; x\n\"a\"\"b\" \"\" z\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		users, err := parseUserlist(text)
		if err != nil {
			return
		}
		// What was read can be written and read again.
		var b strings.Builder
		quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		for name, s := range users {
			b.WriteString(quote(name) + " " + quote(s.text) + "\n")
		}
		again, err := parseUserlist(b.String())
		if err != nil || len(again) != len(users) {
			t.Fatalf("%d users, then %d: %v", len(users), len(again), err)
		}
		for name, s := range users {
			if again[name].text != s.text {
				t.Errorf("%q changed", name)
			}
		}
	})
}
