package tenant

import (
	"strings"
	"testing"
)

// FuzzJudge: no text makes the analysis fail, and what filters still filters with a
// further condition.
func FuzzJudge(f *testing.F) {
	schema := caseSchema(f)
	for _, file := range []string{"testdata/cases/read.txt", "testdata/cases/write.txt"} {
		for _, c := range cases(f, file) {
			f.Add(c.sql)
		}
	}
	j := New(casePolicy, schema)
	f.Fuzz(func(t *testing.T, sql string) {
		if len(sql) > 5000 || strings.Count(sql, "(") > 200 || strings.IndexByte(sql, 0) >= 0 {
			return // the router keeps such texts from the parser
		}
		found := j.Text(sql)
		if len(found.Unbound()) > 0 && (found.Verdict == Filtered || found.Verdict == Many) {
			t.Errorf("%s: %s", sql, describe(found))
		}
		if found.Verdict == Missing && len(found.Tables) == 0 {
			t.Errorf("%s: missing what?", sql)
		}
	})
}
