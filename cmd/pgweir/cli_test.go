package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgweir/pgweir/internal/pgtest"
)

var update = flag.Bool("update", false, "rewrite testdata/cli.txt")

// TestMain lets the test binary be the program itself, for tests of signals.
func TestMain(m *testing.M) {
	if mode := os.Getenv(childVariable); mode != "" {
		if mode != realProxy {
			serveFunc = childServe
		}
		main()
	}
	os.Exit(pgtest.Suite(m).Run())
}

// pgweir runs a command line as main does and returns all it printed.
func pgweir(stdin string, args ...string) (output string, code int) {
	var out bytes.Buffer
	code = run(args, strings.NewReader(stdin), &out, &out)
	return out.String(), code
}

// TestCommandLines runs every command of testdata/cli.txt and compares what it
// prints, and its exit code if that is not 0, with what stands below it.
func TestCommandLines(t *testing.T) {
	t.Setenv("PGUSER", "nobody") // must not count
	t.Setenv("PGPASSWORD", "")
	want, err := os.ReadFile("testdata/cli.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line := range strings.Lines(string(want)) {
		command, ok := strings.CutPrefix(line, "$ pgweir ")
		if !ok {
			continue
		}
		command, stdin, _ := strings.Cut(strings.TrimSpace(command), " < ")
		output, code := pgweir(strings.Trim(stdin, "'"), words(command)...)
		got.WriteString(line + output)
		if code != 0 {
			fmt.Fprintf(&got, "exit %d\n", code)
		}
		got.WriteString("\n")
	}
	if *update {
		if err := os.WriteFile("testdata/cli.txt", []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}

// words splits a command line at spaces; inside single quotes, which are
// doubled to stand for themselves, spaces count.
func words(s string) []string {
	var out []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if s[0] != '\'' {
			word, rest, _ := strings.Cut(s, " ")
			out, s = append(out, word), rest
			continue
		}
		var word strings.Builder
		for s = s[1:]; s != ""; s = s[1:] {
			if strings.HasPrefix(s, "''") {
				s = s[1:]
			} else if s[0] == '\'' {
				s = s[1:]
				break
			}
			word.WriteByte(s[0])
		}
		out = append(out, word.String())
	}
	return out
}

func TestVersion(t *testing.T) {
	out, code := pgweir("", "version")
	if same, _ := pgweir("", "--version"); same != out {
		t.Errorf("--version prints %q, version %q", same, out)
	}
	for _, part := range []string{"pgweir ", "go1.", "PostgreSQL parser 1"} {
		if code != 0 || !strings.Contains(out, part) {
			t.Errorf("exit %d, no %q in %q", code, part, out)
		}
	}
}

// TestManual: every command that is shown has a page, with what its help says.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	if output, code := pgweir("", "manual", dir); code != 0 {
		t.Fatal(output)
	}
	var started bool
	for _, c := range newRoot(&started).Commands() {
		page, err := os.ReadFile(filepath.Join(dir, "pgweir-"+c.Name()+".8"))
		if c.Hidden != (err != nil) {
			t.Errorf("%s: %v", c.Name(), err)
		}
		if !c.Hidden && !strings.Contains(strings.ReplaceAll(string(page), `\-`, "-"), "pgweir-"+c.Name()+" - "+c.Short) {
			t.Errorf("the page of %s lacks %q:\n%s", c.Name(), c.Short, page)
		}
	}
}
