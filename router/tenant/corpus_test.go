package tenant

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v5"
	"github.com/stretchr/testify/require"
)

// fleetPolicy is the seed application's: what belongs to whom is said by organization_id.
var fleetPolicy = &Policy{Columns: []string{"organization_id"}, Settings: []string{"app.current_org_id"}}

var fleetSchema = sync.OnceValues(func() (Schema, error) {
	b, err := os.ReadFile("testdata/fleet/schema.sql.gz")
	if err != nil {
		return nil, err
	}
	text, err := gunzip(b)
	if err != nil {
		return nil, err
	}
	return ParseSchema(text)
})

func fleetJudge(t testing.TB) *Judge {
	t.Helper()
	s, err := fleetSchema()
	require.NoError(t, err)
	return New(fleetPolicy, s)
}

// labelled is one statement of the seed application, judged by people.
type labelled struct{ id, sql, label string }

func corpus(t testing.TB, file string) []labelled {
	t.Helper()
	var all []labelled
	labels := map[string]string{}
	for _, f := range rows(t, "testdata/fleet/statements.tsv.gz") {
		labels[f[0]] = f[4]
		if strings.HasSuffix(file, "/statements.tsv.gz") {
			all = append(all, labelled{id: f[0], sql: f[2], label: f[4]})
		}
	}
	if all != nil {
		return all
	}
	for _, f := range rows(t, file) {
		all = append(all, labelled{id: f[0], sql: f[1], label: labels[f[0]]})
	}
	return all
}

// rows are the lines of a compressed TSV file, but for its head.
func rows(t testing.TB, file string) [][]string {
	t.Helper()
	var all [][]string
	for _, line := range strings.Split(strings.TrimRight(readGzip(t, file), "\n"), "\n") {
		all = append(all, strings.Split(line, "\t"))
	}
	return all[1:]
}

// label writes a finding as the corpus does.
func label(f *Finding) string {
	switch f.Verdict {
	case NotTenant:
		return "not_tenant"
	case Filtered, Many:
		return "ok"
	}
	var names []string
	for _, table := range f.Unbound() {
		if !slices.Contains(names, table.Name) {
			names = append(names, table.Name)
		}
	}
	slices.Sort(names)
	return "missing:" + strings.Join(names, ",")
}

// disagreements reads testdata/fleet/disagreements.txt, which explains every
// difference from the labels: "file id: what is found: why".
func disagreements(t testing.TB) map[string]string {
	t.Helper()
	explained := map[string]string{}
	for line := range strings.Lines(string(readFile(t, "testdata/fleet/disagreements.txt"))) {
		if id, why, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && !strings.HasPrefix(line, "#") {
			found, _, _ := strings.Cut(why, ": ")
			explained[id] = found
		}
	}
	return explained
}

// TestCorpus compares with the labels of the seed application's statements, with
// literals and with parameters. Where a literal NULL became a parameter, the label
// tells what the server alone sees: there the value must be handed on.
func TestCorpus(t *testing.T) {
	explained := disagreements(t)
	for _, file := range []string{"statements.tsv.gz", "statements_params.tsv.gz"} {
		j := fleetJudge(t)
		var both, found, wanted float64
		for _, s := range corpus(t, "testdata/fleet/"+file) {
			if s.sql == "" {
				continue // it has no form with parameters
			}
			f := j.Text(s.sql)
			got, want := label(f), sorted(s.label)
			id := file + " " + s.id
			if got == "ok" && explained[id] == got && storesParameter(f) {
				want = "ok"
				delete(explained, id)
			}
			if strings.HasPrefix(want, "missing") {
				wanted++
			}
			if strings.HasPrefix(got, "missing") {
				found++
				if strings.HasPrefix(want, "missing") {
					both++
				}
			}
			if got != want && explained[id] != got {
				t.Errorf("%s: %s, labelled %s\n%s", id, got, want, s.sql)
			}
			if got == want && explained[id] != "" {
				t.Errorf("%s: explained, but there is no difference", id)
			}
		}
		t.Logf("%s: %v missing; precision %.4f, recall %.4f", file, wanted, both/found, both/wanted)
		require.GreaterOrEqual(t, both/found, 0.98)
		require.GreaterOrEqual(t, both/wanted, 0.98)
	}
}

// storesParameter reports whether a row's tenant is known only when it is bound.
func storesParameter(f *Finding) bool {
	return slices.ContainsFunc(f.Values, func(v Value) bool { return v.Stored && v.Param > 0 })
}

func sorted(label string) string {
	tables, ok := strings.CutPrefix(label, "missing:")
	if !ok {
		return label
	}
	names := strings.Split(tables, ",")
	slices.Sort(names)
	return "missing:" + strings.Join(names, ",")
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err, fmt.Sprint("read ", name))
	return b
}

func parse(t testing.TB, sql string) *pg.ParseResult {
	t.Helper()
	tree, err := pg.Parse(sql)
	require.NoError(t, err)
	return tree
}
