package shape

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/router/catalog"
)

var update = flag.Bool("update", false, "rewrite testdata/shapes.txt")

var bounds = map[insight.Bound]string{
	insight.BoundNone: "none", insight.BoundLimit: "limit", insight.BoundAggregate: "aggregate",
	insight.BoundKey: "key", insight.BoundForeign: "foreign", insight.BoundValues: "values",
}

// known are two tables; of others nothing is known.
var known = Known{
	Tenants: []string{"org_id"},
	Tables: func(_, name string) []*catalog.Table {
		switch name {
		case "users":
			return []*catalog.Table{{Name: name, Keys: []catalog.Key{{Columns: []string{"uid"}, Primary: true}, {Columns: []string{"org_id", "email"}}}}}
		case "log":
			return []*catalog.Table{{Name: name}}
		}
		return nil
	},
}

// TestShapes: testdata/shapes.txt has a SELECT a line, and below it what is said of it.
func TestShapes(t *testing.T) {
	want, err := os.ReadFile("testdata/shapes.txt")
	require.NoError(t, err)
	var got strings.Builder
	for line := range strings.Lines(string(want)) {
		if strings.HasPrefix(line, "    ") {
			continue
		}
		got.WriteString(line)
		tree, err := grammar.Parse(line)
		require.NoError(t, err, line)
		if len(tree.GetStmts()) == 0 {
			continue
		}
		s := tree.GetStmts()[0].GetStmt().GetSelectStmt()
		o := Of(s, known)
		fmt.Fprintf(&got, "    %s: %s", o.Table, bounds[o.Bound])
		for _, x := range []struct {
			is   bool
			word string
		}{{!o.Reads, "not to be rewritten"}, {o.Counts, "counts"}, {o.Groups, "groups"}, {o.Offset, "offset"}} {
			if x.is {
				got.WriteString(", " + x.word)
			}
		}
		if len(o.Keys) > 0 {
			fmt.Fprintf(&got, ", keys %v", o.Keys)
		}
		if len(o.Order) > 0 {
			fmt.Fprintf(&got, ", order %v", o.Order)
		}
		if at, param := Offset(s); at >= 0 {
			fmt.Fprintf(&got, ", skips %q", strings.TrimSpace(line[at:]))
		} else if param > 0 {
			fmt.Fprintf(&got, ", skips $%d", param)
		}
		got.WriteString("\n")
	}
	if *update {
		require.NoError(t, os.WriteFile("testdata/shapes.txt", []byte(got.String()), 0o644))
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}

// TestSource: a page and the count of its rows read the same, others do not.
func TestSource(t *testing.T) {
	source := func(text string) string {
		tree, err := grammar.Parse(text)
		require.NoError(t, err)
		return Of(tree.GetStmts()[0].GetStmt().GetSelectStmt(), Known{}).Source
	}
	page := source("SELECT a, b FROM t WHERE c = 1 AND d > 'x' ORDER BY a LIMIT 10 OFFSET 20")
	require.NotEmpty(t, page)
	for text, same := range map[string]bool{
		"SELECT count(*) FROM t WHERE c = 7 AND d > 'y'":                                   true,
		"SELECT count(*) AS n FROM (SELECT a, b FROM t WHERE c = 7 AND d > 'y') AS anon_1": true,
		"SELECT count(*) FROM t WHERE c = 7":                                               false,
		"SELECT count(*) FROM u WHERE c = 7 AND d > 'y'":                                   false,
		"SELECT count(*) FROM (SELECT DISTINCT a FROM t WHERE c = 7 AND d > 'y') AS x":     false,
	} {
		require.Equal(t, same, source(text) == page, text)
	}
	require.Empty(t, source("SELECT a FROM t WHERE c = 1"))
}

func TestRows(t *testing.T) {
	require.Equal(t, []int64{7, 0, 0}, []int64{Rows("7"), Rows("-7"), Rows("x")})
}
