package tenant

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hostile are statements made to be hard, by how large they are.
var hostile = map[string]func(n int) string{
	"joins": func(n int) string {
		var b strings.Builder
		b.WriteString("SELECT 1 FROM orders t0")
		for i := range n {
			fmt.Fprintf(&b, " JOIN orders t%d ON t%[1]d.organization_id = t%d.organization_id AND t%[1]d.id = t%[2]d.id", i+1, i)
		}
		return b.String() + " WHERE t0.organization_id = 1"
	},
	"outer joins": func(n int) string {
		var b strings.Builder
		b.WriteString("SELECT 1 FROM orders t0")
		for i := range n {
			fmt.Fprintf(&b, " LEFT JOIN orders t%d ON t%[1]d.organization_id = t%d.organization_id", i+1, i)
		}
		return b.String() + fmt.Sprintf(" WHERE t%d.organization_id = 1", n)
	},
	"list": func(n int) string {
		return "SELECT 1 FROM orders WHERE organization_id IN (1" + strings.Repeat(", 3", n*20) + ")"
	},
	"or": func(n int) string {
		return "SELECT 1 FROM orders WHERE organization_id = 1" + strings.Repeat(" OR organization_id = 1", n*5)
	},
	"and": func(n int) string {
		return "SELECT 1 FROM orders WHERE organization_id = 1" + strings.Repeat(" AND id = 1", n*5)
	},
	"union": func(n int) string {
		return "SELECT organization_id FROM orders WHERE organization_id = 1" + strings.Repeat(" UNION ALL SELECT organization_id FROM orders WHERE organization_id = 1", n)
	},
	"exists": func(n int) string {
		return "SELECT 1 FROM orders WHERE organization_id = 1" + strings.Repeat(" AND EXISTS (SELECT 1 FROM customers c WHERE c.organization_id = orders.organization_id)", n)
	},
	"nested": func(n int) string {
		n = min(n, 50)
		return "SELECT 1 FROM " + strings.Repeat("(SELECT * FROM ", n) + "orders" + strings.Repeat(" t) ", n) + "t WHERE organization_id = 1"
	},
	"views": func(n int) string {
		var b strings.Builder
		b.WriteString("SELECT 1 FROM v_nested t0")
		for i := range n / 3 {
			fmt.Fprintf(&b, " JOIN v_nested t%d ON t%[1]d.org = t%d.org", i+1, i)
		}
		return b.String() + " WHERE t0.org = 1"
	},
	"recursive": func(n int) string {
		cols := make([]string, n)
		for i := range cols {
			cols[i] = fmt.Sprintf("organization_id AS c%d", i)
		}
		back := append(cols[:0:0], cols...)
		for i := range back {
			back[i] = fmt.Sprintf("c%d", (i+1)%n)
		}
		return "WITH RECURSIVE t AS (SELECT " + strings.Join(cols, ", ") + " FROM orders WHERE organization_id = 1 UNION SELECT " + strings.Join(back, ", ") + " FROM t) SELECT * FROM t"
	},
}

// TestCostIsBounded: no statement of the size a proxy meets takes time without bound.
// The longest takes a quarter of a second by itself and ten times that under the race
// detector; what grows faster than with the square of its size would not end at all.
func TestCostIsBounded(t *testing.T) {
	j := New(casePolicy, caseSchema(t))
	for name, make := range hostile {
		for _, n := range []int{10, 100, 1000} {
			sql := make(n)
			tree := parse(t, sql)
			begin := time.Now()
			f := j.Tree(sql, tree)
			took := time.Since(begin)
			t.Logf("%s %d: %s, %d KB, %v", name, n, f.Verdict, len(sql)>>10, took)
			require.NotEmpty(t, f.Tables)
			require.Less(t, took, time.Minute, "%s %d", name, n)
			if n <= 100 && !(name == "outer joins" && n == 100) { // one more inner join a round
				require.Contains(t, []Verdict{Filtered, Many}, f.Verdict, "%s %d", name, n)
			}
		}
	}
}
