package tenant

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// author writes random statements about the tables of the cases: joins of every
// kind, queries within queries, boolean expressions, all with a liking for the tenant column.
type author struct {
	r     *rand.Rand
	names int
	left  int      // how many more tables may be named
	withs []string // names of WITH queries; all have the columns of a source
}

var authorTables = []string{
	"(SELECT organization_id, id, customer_id AS x FROM orders)", "(SELECT organization_id, id, plan_id AS x FROM customers)",
	"(SELECT organization_id, id, order_id AS x FROM notes)", "(SELECT organization_id, id, parent_id AS x FROM tree)",
	"(SELECT organization_id, id, order_id AS x FROM items)", "(SELECT id AS organization_id, id, id AS x FROM plans)",
	"(SELECT org AS organization_id, id, id AS x FROM v_both)", "(SELECT organization_id, id, amount AS x FROM v_mine)",
}

var bareTables = map[string]string{
	"orders": "customer_id", "customers": "plan_id", "notes": "order_id", "tree": "parent_id", "items": "order_id",
}

func (a *author) pick(list ...string) string { return list[a.r.IntN(len(list))] }
func (a *author) chance(percent int) bool    { return a.r.IntN(100) < percent }

// visible is a source that can be named: its alias and the name of its x.
type visible struct{ alias, x string }

func (v visible) column(a *author) string {
	return v.alias + "." + a.pick("organization_id", "organization_id", "id", v.x)
}

func (v visible) org() string { return v.alias + ".organization_id" }

// source writes one table or query for a FROM list.
func (a *author) source(outer []visible, lateral bool) (string, visible) {
	a.names++
	a.left--
	v := visible{alias: fmt.Sprint("t", a.names), x: "x"}
	switch {
	case a.chance(45):
		name := a.pick("orders", "customers", "notes", "tree", "items")
		v.x = bareTables[name]
		return name + " " + v.alias, v
	case len(a.withs) > 0 && a.chance(40):
		return a.pick(a.withs...) + " " + v.alias, v
	case a.left > 0 && a.chance(50):
		word := ""
		if !lateral {
			outer = nil
		} else if len(outer) > 0 {
			word = "LATERAL "
		}
		return word + "(" + a.query(outer) + ") " + v.alias, v
	}
	return a.pick(authorTables...) + " " + v.alias, v
}

// query writes a SELECT of the three columns.
func (a *author) query(outer []visible) string {
	if a.left > 1 && a.chance(12) {
		op := a.pick("UNION", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL")
		return "(" + a.query(outer) + ") " + op + " (" + a.query(outer) + ")"
	}
	from, mine := a.from(outer)
	all := append(append([]visible(nil), mine...), outer...)
	v := mine[a.r.IntN(len(mine))]
	out := v.org()
	switch {
	case a.chance(6):
		out = "1"
	case a.chance(6):
		out = v.alias + ".id"
	case len(outer) > 0 && a.chance(10):
		out = outer[0].org()
	}
	where := a.condition(all, 0)
	sql := fmt.Sprintf("SELECT %%s%s AS organization_id, %s.id, %s.%s AS x FROM %s WHERE %s", out, v.alias, v.alias, v.x, from, where)
	switch {
	case a.chance(6):
		return fmt.Sprintf(sql, "DISTINCT ")
	case a.chance(8):
		return fmt.Sprintf(sql, "") + " ORDER BY 2 DESC, 1, 3 LIMIT 3"
	case a.chance(6):
		x := v.alias + "." + v.x
		return fmt.Sprintf(sql, "DISTINCT ON ("+x+") ") + " ORDER BY " + x + ", 1 DESC, 2"
	case len(outer) > 0 && a.chance(15):
		// One row, whatever there is.
		return fmt.Sprintf("SELECT %s AS organization_id, count(*) AS id, max(%s.id) AS x FROM %s WHERE %s",
			a.pick(outer[0].org(), "1"), v.alias, from, where)
	case a.chance(8):
		group := a.pick("GROUP BY 1", "GROUP BY 1", "GROUP BY ROLLUP (1)", "GROUP BY GROUPING SETS ((1), ())")
		if out == "1" || strings.Contains(group, "(1)") && out != v.org() {
			group = "GROUP BY " + out
			if out == "1" {
				group = ""
			}
		}
		having := ""
		if a.chance(40) {
			having = " HAVING " + a.pick(out+" = 1", "count(*) > 1")
		}
		return fmt.Sprintf("SELECT %s AS organization_id, count(*) AS id, max(%s.id) AS x FROM %s WHERE %s %s%s",
			out, v.alias, from, where, strings.ReplaceAll(group, "1", out), having)
	case a.chance(4):
		return fmt.Sprintf("SELECT %s AS organization_id, %s.id, row_number() OVER (ORDER BY %s.id, %s)::int AS x FROM %s WHERE %s",
			out, v.alias, v.alias, out, from, where)
	}
	return fmt.Sprintf(sql, "")
}

// from writes a FROM list.
func (a *author) from(outer []visible) (string, []visible) {
	sql, v := a.source(outer, true)
	all := []visible{v}
	for a.left > 0 && a.chance(60) {
		kind := a.pick("JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", ",")
		lateral := kind == "JOIN" || kind == "LEFT JOIN" || kind == ","
		next, w := a.source(append(append([]visible(nil), all...), outer...), lateral)
		if !lateral {
			next, w = a.source(outer, true)
		}
		if kind == "," {
			sql, all = sql+" CROSS JOIN "+next, append(all, w)
			continue
		}
		if a.left > 0 && a.chance(15) && kind != "FULL JOIN" {
			inner, u := a.source(nil, false)
			next = fmt.Sprintf("(%s %s %s ON %s)", next, a.pick("JOIN", "LEFT JOIN"), inner, a.on([]visible{w}, u))
			if strings.Contains(next, "LATERAL") {
				next = strings.ReplaceAll(next, "LATERAL", "")
			}
			all = append(all, u)
		}
		if len(all) == 1 && !strings.HasPrefix(next, "(t") && a.chance(25) {
			sql = fmt.Sprintf("%s %s %s USING (%s)", sql, kind, next, a.pick("organization_id", "organization_id", "id", "organization_id, id"))
		} else {
			sql = fmt.Sprintf("%s %s %s ON %s", sql, kind, next, a.on(all, w))
		}
		all = append(all, w)
	}
	return sql, all
}

// on writes a join condition that PostgreSQL can use for FULL JOIN too.
func (a *author) on(all []visible, w visible) string {
	v := all[a.r.IntN(len(all))]
	cond := v.alias + ".id = " + w.alias + "." + w.x
	if a.chance(70) {
		cond = v.org() + " = " + w.org()
		if a.chance(40) {
			cond += " AND " + v.alias + ".id = " + w.alias + ".id"
		}
	}
	if a.chance(25) {
		cond += " AND " + a.pick(v.org(), w.org()) + " = 1"
	}
	return cond
}

// condition writes a boolean expression over the sources in sight.
func (a *author) condition(all []visible, depth int) string {
	if depth < 3 && a.chance(45) {
		op := a.pick(" AND ", " AND ", " AND ", " OR ")
		return "(" + a.condition(all, depth+1) + op + a.condition(all, depth+1) + ")"
	}
	v, w := all[a.r.IntN(len(all))], all[a.r.IntN(len(all))]
	switch n := a.r.IntN(100); {
	case n < 3:
		return "organization_id = 1" // often ambiguous
	case n < 38:
		return v.org() + " = 1"
	case n < 52:
		return v.org() + " = " + w.org()
	case n < 57:
		return a.pick("NOT ", "") + "(" + a.condition(all, depth+1) + ")" + a.pick("", " IS TRUE", " IS NOT FALSE", " IS FALSE", " IS NOT TRUE")
	case n < 61:
		return v.org() + a.pick(" <> 1", " IS NULL", " IN (1, 3)", " IS NOT DISTINCT FROM 1", " <> 3", " = ANY (ARRAY[1, 3])")
	case n < 64:
		return fmt.Sprintf("(%s, %s.id) = (1, %s.id)", v.org(), v.alias, w.alias)
	case n < 80 && a.left > 0:
		return a.subquery(all, v)
	case n < 90:
		return v.column(a) + a.pick(" = ", " <> ", " < ") + w.column(a)
	}
	return v.alias + ".id" + a.pick(" > 3", " < 9", " = 4", " IS NULL", " IS NOT NULL")
}

func (a *author) subquery(all []visible, v visible) string {
	a.left--
	q := a.query(all)
	switch a.r.IntN(6) {
	case 0, 1:
		return a.pick("", "NOT ") + "EXISTS (" + q + ")"
	case 2, 3:
		return v.org() + a.pick(" IN ", " IN ", " NOT IN ", " = ANY ") + "(SELECT organization_id FROM (" + q + ") q)"
	case 4:
		return fmt.Sprintf("(%s, %s.id) IN (SELECT organization_id, id FROM (%s) q)", v.org(), v.alias, q)
	}
	return v.org() + " = (SELECT " + a.pick("min(organization_id)", "count(*)::int") + " FROM (" + q + ") q)"
}

// statement writes a whole statement.
func (a *author) statement() string {
	a.left = 1 + a.r.IntN(6)
	with := ""
	if a.chance(25) {
		name := "w1"
		with = fmt.Sprintf("WITH %s AS (%s) ", name, a.query(nil))
		a.withs = append(a.withs, name)
	} else if a.chance(12) {
		from, mine := a.from(nil)
		a.names++
		next, w := a.source(nil, false)
		with = fmt.Sprintf("WITH RECURSIVE w1 AS (SELECT %s AS organization_id, %s.id, 0 AS x FROM %s WHERE %s UNION SELECT %s, %s.id, w1.x + 1 FROM w1 JOIN %s ON %s WHERE w1.x < 2) ",
			mine[0].org(), mine[0].alias, from, a.condition(mine, 1), a.pick(w.org(), "w1.organization_id"), w.alias, next,
			a.on([]visible{{"w1", "x"}}, w))
		a.withs = append(a.withs, "w1")
	}
	switch n := a.r.IntN(100); {
	case n < 10:
		from, mine := a.from(nil)
		return with + fmt.Sprintf("UPDATE notes u SET body = 'changed' FROM %s WHERE %s AND %s", from, a.on(mine, visible{"u", "id"}), a.condition(append(mine, visible{"u", "id"}), 1))
	case n < 18:
		from, mine := a.from(nil)
		return with + fmt.Sprintf("DELETE FROM notes u USING %s WHERE %s AND %s", from, a.on(mine, visible{"u", "id"}), a.condition(append(mine, visible{"u", "id"}), 1))
	case n < 26:
		return with + "INSERT INTO notes (organization_id, id, order_id) SELECT organization_id, 1000 + row_number() OVER (), count(*) FROM (" + a.query(nil) + ") q GROUP BY 1"
	case n < 30:
		from, mine := a.from(nil)
		on := visible{"u", "order_id"}
		return with + fmt.Sprintf("MERGE INTO notes u USING (SELECT %s AS organization_id, %s.id, 0 AS x FROM %s WHERE %s) q ON %s AND %s WHEN MATCHED THEN %s%s",
			mine[0].org(), mine[0].alias, from, a.condition(mine, 1), a.on([]visible{{"q", "x"}}, on), a.condition([]visible{{"q", "x"}, on}, 2),
			a.pick("DELETE", "UPDATE SET body = 'merged'", "UPDATE SET organization_id = q.organization_id"),
			a.pick("", " WHEN NOT MATCHED THEN INSERT (organization_id, id) VALUES (q.organization_id, q.id + 1000)"))
	case n < 36:
		return with + "SELECT count(*), sum(id) FROM (" + a.query(nil) + ") q WHERE " + a.condition([]visible{{"q", "x"}}, 2)
	}
	return with + a.query(nil)
}

// TestRandomFiltered runs random statements that are judged filtered. PGWEIR_FUZZ
// is how many to write, and PGWEIR_SEED where to begin.
func TestRandomFiltered(t *testing.T) {
	count, seed := 1000, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("PGWEIR_FUZZ")); err == nil {
		count = n
	}
	if n, err := strconv.ParseUint(os.Getenv("PGWEIR_SEED"), 10, 64); err == nil {
		seed = n
	}
	w := newWorld(t)
	j := New(casePolicy, caseSchema(t))
	verdicts := [Verdicts]int{}
	proved, failed := 0, 0
	for i := range count {
		a := &author{r: rand.New(rand.NewPCG(seed, uint64(i)))}
		sql := a.statement()
		f := j.Text(sql)
		verdicts[f.Verdict]++
		if f.Verdict != Filtered && f.Verdict != Many || len(f.Tables) == 0 {
			continue
		}
		how, ran := w.leaks(sql)
		switch {
		case how != "" && !strings.Contains(how, "fails with or without"):
			t.Errorf("seed %d, %d: %s\n\t%s\n\t%s", seed, i, sql, describe(f), how)
		case ran:
			proved++
		default:
			failed++
		}
	}
	t.Logf("%v; %d proved, %d do not run", verdicts, proved, failed)
	require.Greater(t, proved*20, count)
	require.Less(t, failed*4, proved, "most statements must run")
}
