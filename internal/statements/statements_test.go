package statements

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgweir/pgweir/internal/pgtest"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Suite(m)) }

func describe(list []Statement) string {
	var b strings.Builder
	for _, s := range list {
		fmt.Fprintf(&b, "%s:%d %q", s.File, s.Line, s.Text)
		for _, p := range []string{s.Session, s.User, s.Database, s.Application} {
			if p != "" {
				b.WriteString(" " + p)
			}
		}
		for i, p := range s.Parameters {
			if p == nil {
				fmt.Fprintf(&b, " $%d=NULL", i+1)
			} else {
				fmt.Fprintf(&b, " $%d=%q", i+1, *p)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestFiles(t *testing.T) {
	var got strings.Builder
	for _, name := range []string{"script.sql", "server.log", "table.tsv", "table.csv"} {
		data, err := os.ReadFile("testdata/" + name)
		require.NoError(t, err)
		list, err := Read(name, data, Auto)
		require.NoError(t, err)
		got.WriteString(describe(list))
	}
	if *update {
		require.NoError(t, os.WriteFile("testdata/want.txt", []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile("testdata/want.txt")
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestFaults(t *testing.T) {
	for _, tc := range []struct {
		name, data, want string
		format           Format
	}{
		{"a.tsv", "id\tname\n1\tx\n", "a.tsv: the first line names no column sql, query or statement", Auto},
		{"a.csv", "id,name\n", "a.csv: the first line names no column sql, query or statement", Auto},
		{"a", "a,b\n", "a: line 1: 2 columns; a CSV log has 26", CSVLog},
		{"a.json", "{\n", "a.json: line 1: unexpected end of JSON input", Auto},
		{"a", "x", `a: unknown format "xml"`, "xml"},
		{"a.sql", "SELECT 'x", "a.sql: split into statements: unterminated quoted string at or near \"'x\"", Auto},
	} {
		_, err := Read(tc.name, []byte(tc.data), tc.format)
		require.EqualError(t, err, tc.want)
	}
	for _, name := range []string{"empty.sql", "empty.log"} {
		list, err := Read(name, nil, Auto)
		require.NoError(t, err)
		require.Empty(t, list)
	}
}

// TestRealLogs reads what a server itself writes in its three formats: the same
// statements stand in each.
func TestRealLogs(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Conf: map[string]string{
		"logging_collector": "on", "log_destination": "stderr,csvlog,jsonlog", "log_directory": "log", "log_filename": "server.log",
		"log_line_prefix": "%m [%p] %u@%d ", "log_statement": "all", "log_min_error_statement": "panic",
	}})
	conn, err := pgx.Connect(t.Context(), c.Primary.ConnString("postgres", pgtest.Superuser)+" application_name=reading")
	require.NoError(t, err)
	marker := "SELECT 'begin of the test'"
	_, err = conn.Exec(t.Context(), marker)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT 1,\n\t'two''s'")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT $1::text, $2::int, $3::text", "it's\na \"text\", $2 = '", 7, nil)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT * FROM nowhere")
	require.Error(t, err)
	_, err = conn.Exec(t.Context(), "SELECT 'end of the test'")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	var texts []string
	for _, file := range []string{"server.log", "server.csv", "server.json"} {
		path := filepath.Join(c.Primary.DataDir, "log", file)
		var list []Statement
		require.Eventually(t, func() bool {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			list, err = Read(path, data, Auto)
			return err == nil && len(list) > 0 && strings.Contains(list[len(list)-1].Text, "end of the test")
		}, 20*time.Second, 10*time.Millisecond)
		for list[0].Text != marker {
			list = list[1:]
		}
		require.Equal(t, pgtest.Superuser, list[0].User)
		require.Equal(t, "postgres", list[0].Database)
		session := list[0].Session
		for i := range list {
			if file != "server.log" {
				require.Equal(t, "reading", list[i].Application)
			}
			require.Equal(t, session, list[i].Session)
			list[i] = Statement{Text: list[i].Text, Parameters: list[i].Parameters}
		}
		texts = append(texts, describe(list))
	}
	require.Equal(t, texts[1], texts[0])
	require.Equal(t, texts[1], texts[2])
	require.Contains(t, texts[0], `$1="it's\na \"text\", $2 = '" $2="7" $3=NULL`)
	require.Contains(t, texts[0], `"SELECT 1,\n\t'two''s'"`)
}

// TestTimes: when a statement ran and how long, as far as its file tells.
func TestTimes(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	for _, tc := range []struct {
		format Format
		data   string
		want   Statement
	}{
		{Log, "2026-01-02 03:04:05.678 UTC [7] u@d LOG:  duration: 1.250 ms  statement: SELECT 1\n",
			Statement{Text: "SELECT 1", Time: at, Took: 1250 * time.Microsecond, Session: "7", User: "u", Database: "d"}},
		{Log, "2026-01-02 03:04:05.678 UTC LOG:  statement: SELECT 1\n", Statement{Text: "SELECT 1", Time: at}},
		{Log, "LOG:  execute s: SELECT 1\n", Statement{Text: "SELECT 1"}},
		{JSONLog, `{"timestamp":"2026-01-02 03:04:05.678 UTC","error_severity":"LOG","message":"duration: 2 ms  execute x: SELECT 1"}`,
			Statement{Text: "SELECT 1", Time: at, Took: 2 * time.Millisecond}},
		{CSVLog, `2026-01-02 03:04:05.678 UTC,"u","d",7,,,,,,,,LOG,,"statement: SELECT 1",,,,,,,,,"app",,,` + "\n",
			Statement{Text: "SELECT 1", Time: at, Session: "7", User: "u", Database: "d", Application: "app"}},
		{Auto, `{"req": 3, "method": "GET", "route": "/x", "events": ["SELECT 1"]}`, Statement{Text: "SELECT 1", Session: "3", Route: "GET /x"}},
	} {
		list, err := Read("f.jsonl", []byte(tc.data), tc.format)
		require.NoError(t, err)
		tc.want.File, tc.want.Line = "f.jsonl", 1
		require.Equal(t, []Statement{tc.want}, list, tc.data)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"script.sql", "server.log", "table.tsv", "table.csv"} {
		data, err := os.ReadFile("testdata/" + name)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range Formats {
			list, err := Read("f", data, format)
			if err != nil {
				continue
			}
			lines := strings.Count(string(data), "\n") + 1
			for _, s := range list {
				if s.Line < 1 || s.Line > lines || s.Text == "" {
					t.Fatalf("%s: line %d of %d: %q", format, s.Line, lines, s.Text)
				}
			}
		}
	})
}
