package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/pgtest"
	"github.com/pgweir/pgweir/internal/setup"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/tenant"
)

// firstWord is a table row's first cell, set as code.
var firstWord = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")

// section returns the code words that begin the rows of the first table below a heading.
func section(t *testing.T, page, heading string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", page, heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	var words []string
	for _, m := range firstWord.FindAllStringSubmatch(rest, -1) {
		words = append(words, m[1])
	}
	return words
}

// TestRoutingPage: the page for operators names every reason, class and pin there is.
func TestRoutingPage(t *testing.T) {
	const page = "../../docs/routing.md"
	var reasons []string
	for r := router.ReasonNone + 1; int(r) < router.Reasons; r++ {
		reasons = append(reasons, r.String())
	}
	if diff := cmp.Diff(reasons, section(t, page, "Reasons")); diff != "" {
		t.Errorf("reasons: %s", diff)
	}
	if diff := cmp.Diff((router.PinAll | router.PinSession).Names(), section(t, page, "Pins")); diff != "" {
		t.Errorf("pins: %s", diff)
	}
	if got := section(t, page, "Classes"); len(got) != router.Classes {
		t.Errorf("classes %v, want %d", got, router.Classes)
	}
}

// TestFailuresPage: what the table of failures names is what is logged, exported and configured.
func TestFailuresPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	metrics, err := os.ReadFile("../../docs/metrics.md") // TestMetrics holds it to what is exported
	must(t, err)
	keys := map[string]bool{}
	for _, k := range config.Keys() {
		keys[k.Path] = true
	}
	sources := sourceText(t)
	_, table, _ := strings.Cut(string(page), "## When something fails")
	code := regexp.MustCompile("`([^`]+)`")
	metric := regexp.MustCompile(`^[a-z_]+(\{|$)`)
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 7 || !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| |") {
			continue
		}
		cells = cells[1:]
		rows++
		for _, m := range code.FindAllStringSubmatch(cells[2], -1) {
			for _, piece := range strings.Split(strings.ReplaceAll(m[1], ": ", "…"), "…") {
				if !strings.Contains(sources, strings.TrimSpace(piece)) {
					t.Errorf("nothing logs %q of %q", piece, m[1])
				}
			}
		}
		for _, m := range code.FindAllStringSubmatch(cells[3], -1) {
			name, _, _ := strings.Cut(m[1], "{")
			if metric.MatchString(m[1]) && !strings.HasPrefix(name, "process_") && !strings.Contains(string(metrics), "| `pgweir_"+name+"` |") {
				t.Errorf("there is no metric %s", name)
			}
		}
		for _, m := range code.FindAllStringSubmatch(cells[4], -1) {
			if section, _, dotted := strings.Cut(m[1], "."); dotted && keys[section] && !keys[m[1]] {
				t.Errorf("there is no key %s", m[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d rows", rows)
	}
}

// sourceText is the code of the program, without its tests.
func sourceText(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	}))
	return all.String()
}

// TestAuthQueries runs the built-in query and the one of the page on
// authentication, with what setup-sql prints, against a server.
func TestAuthQueries(t *testing.T) {
	page, err := os.ReadFile("../../docs/authentication.md")
	if err != nil {
		t.Fatal(err)
	}
	query := regexp.MustCompile(`query: "(.*?)"`).FindSubmatch(page)
	if query == nil {
		t.Fatal("the page lacks the query")
	}
	script, err := setup.SQL(setup.Plain, setup.Account{User: "pgweir", Database: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	c := pgtest.New(t, pgtest.Options{})
	if err := c.Exec(t.Context(), "CREATE ROLE app LOGIN PASSWORD 'x'; CREATE ROLE late LOGIN PASSWORD 'x' VALID UNTIL '2000-01-01'; CREATE ROLE barred PASSWORD 'x';"+script); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		account, query, user string
		found                bool
	}{
		{pgtest.Superuser, config.DefaultAuthQuery, "app", true},
		{pgtest.Superuser, config.DefaultAuthQuery, "late", false},
		{pgtest.Superuser, config.DefaultAuthQuery, "nobody", false},
		{"pgweir", string(query[1]), "app", true},
		{"pgweir", string(query[1]), "late", false},
		{"pgweir", string(query[1]), "barred", false},
	} {
		conn := logIn(t, c.Primary.Addr(), tc.account)
		result := conn.ExecParams(t.Context(), tc.query, [][]byte{[]byte(tc.user)}, nil, nil, nil).Read()
		if result.Err != nil {
			t.Fatalf("%s: %v", tc.query, result.Err)
		}
		found := len(result.Rows) == 1 && len(result.Rows[0]) >= 2 && strings.HasPrefix(string(result.Rows[0][1]), "SCRAM-SHA-256$")
		if found != tc.found {
			t.Errorf("%s for %s: %q", tc.query, tc.user, result.Rows)
		}
	}
}

func logIn(t *testing.T, address, user string) *pgconn.PgConn {
	t.Helper()
	conn, err := connect(t.Context(), config.Cluster{}, config.Server{Address: address}, backend.Credentials{User: user}, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// TestAuditPage: the page on the audit names every kind and every gap, with its severity.
func TestAuditPage(t *testing.T) {
	const page = "../../docs/audit.md"
	var kinds, gaps []string
	for k := tenant.KindNone + 1; k < tenant.Kinds; k++ {
		kinds = append(kinds, k.String())
	}
	for k := range tenant.GapKinds {
		gaps = append(gaps, k.String())
	}
	if diff := cmp.Diff(kinds, section(t, page, "Kinds")); diff != "" {
		t.Errorf("kinds: %s", diff)
	}
	if diff := cmp.Diff(gaps, section(t, page, "The database's own protection")); diff != "" {
		t.Errorf("gaps: %s", diff)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for k := range tenant.GapKinds {
		if row := fmt.Sprintf("| `%s` | %s |", k, tenant.SeverityOf(k)); !strings.Contains(string(text), row) {
			t.Errorf("the page lacks %q", row)
		}
	}
}
