package console

import (
	"strings"
	"testing"
)

// TestParse: words of statements, with what joins them and what quotes them.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		" ; ;-- nothing\n":                     "",
		"SHOW pools;":                          "SHOW|pools",
		"show state; /* and */ Show \"Lists\"": "show|state\nShow|Lists",
		"PAUSE \"my \"\"shop\"\"\"":            "PAUSE|my \"shop\"",
		"PAUSE shop-2":                         "PAUSE|shop-2",
		"SET pool.size=7":                      "SET|pool.size|=|7",
		"SET routing.primary_wait TO 3s":       "SET|routing.primary_wait|TO|3s",
		"SET x = 'it''s; so'":                  "SET|x|=|it's; so",
		"SET console.stats_users = [a, b]":     "SET|console.stats_users|=|[a|,|b]",
		"DISABLE SERVER 127.0.0.1:5432":        "DISABLE|SERVER|127.0.0.1:5432",
		"DISABLE SERVER [::1]:5432":            "DISABLE|SERVER|[::1]:5432",
		"DISABLE SERVER /run/postgresql:5432":  "DISABLE|SERVER|/run/postgresql:5432",
		"DISABLE SERVER db-1.example.org:5432": "DISABLE|SERVER|db-1.example.org:5432",
	} {
		all, err := parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, st := range all {
			got = append(got, strings.Join(st.text, "|"))
		}
		if got := strings.Join(got, "\n"); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"SHOW 'x", "/* SHOW"} {
		if _, err := parse(text); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("SET a.b = 'c''d'; SHOW \"x\"")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parse(text)
		for _, st := range all {
			if len(st.text) == 0 || len(st.text) != len(st.upper) || len(st.text) != len(st.quoted) || err != nil {
				t.Errorf("%q, %v", st.text, err)
			}
		}
	})
}
