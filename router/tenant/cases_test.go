package tenant

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// casePolicy is for the tables of testdata/cases/schema.sql.
var casePolicy = &Policy{
	Columns: []string{"organization_id", "tenant_id"}, ExemptTables: []string{"archive"}, Settings: []string{"app.org"},
}

// marks are what people expect of a case.
var marks = map[byte][]Verdict{
	'+': {Filtered}, '*': {Many}, '-': {Missing, Unknown}, '.': {NotTenant}, 'x': {Exempt},
}

// tenantCase is one statement of testdata/cases.
type tenantCase struct {
	mark byte
	sql  string
}

func cases(t testing.TB, file string) []tenantCase {
	t.Helper()
	var all []tenantCase
	for line := range strings.Lines(string(readFile(t, file))) {
		line = strings.TrimRight(line, "\n")
		if len(line) > 2 && line[1] == ' ' && marks[line[0]] != nil {
			all = append(all, tenantCase{line[0], line[2:]})
		}
	}
	return all
}

func caseSchema(t testing.TB) Schema {
	t.Helper()
	s, err := ParseSchema(string(readFile(t, "testdata/cases/schema.sql")))
	require.NoError(t, err)
	return s
}

// describe is a finding in one line.
func describe(f *Finding) string {
	var b strings.Builder
	b.WriteString(f.Verdict.String())
	if f.Kind != KindNone {
		fmt.Fprintf(&b, " (%s)", f.Kind)
	}
	for _, t := range f.Tables {
		if t.Bound {
			fmt.Fprintf(&b, "; %s", occurrenceName(t))
			continue
		}
		fmt.Fprintf(&b, "; %s: %s, %s", occurrenceName(t), t.Kind, t.Suggestion)
	}
	for _, v := range f.Values {
		switch {
		case v.Param > 0:
			fmt.Fprintf(&b, "; $%d", v.Param)
		case v.Setting != "":
			fmt.Fprintf(&b, "; %s", v.Setting)
		default:
			fmt.Fprintf(&b, "; %s@%d", v.Text, v.Offset)
		}
		if v.Array {
			b.WriteString("[]")
		}
		if v.Stored {
			b.WriteString(" stored")
		}
	}
	if f.Reason != "" {
		fmt.Fprintf(&b, "; because of %s", f.Reason)
	}
	return b.String()
}

func occurrenceName(t Table) string {
	s := dotted(t.Schema, t.Name)
	if t.Alias != "" {
		s += " " + t.Alias
	}
	if t.Via != "" {
		s += " in " + t.Via
	}
	return s
}

// TestCases judges the statements of testdata/cases. What stands under each is
// rewritten by -update; the mark before it is people's and never is.
func TestCases(t *testing.T) {
	j := New(casePolicy, caseSchema(t))
	total := 0
	for _, file := range []string{"testdata/cases/read.txt", "testdata/cases/write.txt"} {
		var got strings.Builder
		for line := range strings.Lines(string(readFile(t, file))) {
			if strings.HasPrefix(line, "  => ") {
				continue
			}
			got.WriteString(line)
			line = strings.TrimRight(line, "\n")
			if len(line) < 3 || line[1] != ' ' || marks[line[0]] == nil {
				require.True(t, line == "" || line[0] == '#', line)
				continue
			}
			total++
			f := j.Text(line[2:])
			require.Contains(t, verdictNames[:], f.Verdict.String())
			if want := marks[line[0]]; f.Verdict != want[0] && f.Verdict != want[len(want)-1] {
				t.Errorf("%s\n\t%s", line, describe(f))
			}
			fmt.Fprintf(&got, "  => %s\n", describe(f))
		}
		if *update {
			require.NoError(t, os.WriteFile(file, []byte(got.String()), 0o644))
		}
		if diff := cmp.Diff(string(readFile(t, file)), got.String()); diff != "" && !*update {
			t.Errorf("%s differs (-want +got):\n%s", file, diff)
		}
	}
	t.Logf("%d statements", total)
}
