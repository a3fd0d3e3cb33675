package pgbouncer

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the generated table of docs/pgbouncer.md and what files come to")

// TestEveryKeyOfTheManual: the table has every key of PgBouncer's manual, in its section, and no
// other, each with a key of ours or a word on why there is none.
func TestEveryKeyOfTheManual(t *testing.T) {
	manual, err := os.ReadFile("testdata/manual.txt")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for line := range strings.Lines(string(manual)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
			want = append(want, line)
		}
	}
	for _, k := range Keys() {
		got = append(got, k.Section+" "+k.Name)
		if k.Ours == "" && k.Why == "" {
			t.Errorf("%s.%s has neither a key of ours nor a reason", k.Section, k.Name)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

var markers = [2]string{"<!-- keys: begin -->\n", "<!-- keys: end -->\n"}

// TestPage keeps the table of docs/pgbouncer.md equal to the keys.
func TestPage(t *testing.T) {
	const path = "../../docs/pgbouncer.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), markers[0])
	_, after, ok2 := strings.Cut(rest, markers[1])
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	var b strings.Builder
	section := ""
	for _, k := range Keys() {
		if k.Section != section {
			section = k.Section
			fmt.Fprintf(&b, "\n### [%s]\n\n| PgBouncer | pgweir | |\n|---|---|---|\n", section)
		}
		ours := "–"
		if k.Ours != "" {
			ours = "`" + k.Ours + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Name, ours, strings.ReplaceAll(k.Why, "*", `\*`))
	}
	want := before + markers[0] + b.String() + "\n" + markers[1] + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(page)); diff != "" {
		t.Errorf("run go test ./internal/pgbouncer -update:\n%s", diff)
	}
}
