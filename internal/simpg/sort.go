package simpg

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// orderedRows sorts rows by their own columns.
func (a *analysis) orderedRows(q *query, s *pg.SelectStmt, outer *scope) *query {
	if len(s.SortClause) == 0 {
		return q
	}
	sc := &scope{outer: outer}
	for _, f := range q.fields {
		sc.cols = append(sc.cols, scopeCol{name: f.name, typ: f.typ})
	}
	keys := a.sortKeys(s.SortClause, sc, q.fields)
	run := q.run
	q.run = func(e *env, each func([]datum) bool) {
		var rows []sortable
		run(e, func(r []datum) bool {
			r = slices.Clone(r)
			rows = append(rows, sortable{r, keys.of(e.over(r), r)})
			return true
		})
		keys.emit(rows, each)
	}
	return q
}

// sortable is a row with what it is sorted by.
type sortable struct{ row, by []datum }

type sortKey struct {
	column int // of the output, where x is nil
	x      *expr
	desc   bool
	first  bool // NULLs come first
}

type sortKeys []sortKey

// sortKeys analyzes ORDER BY: a number or a name of the output, or an expression of the input.
func (a *analysis) sortKeys(list []*pg.Node, s *scope, fields []field) (keys sortKeys) {
	for _, n := range list {
		by := n.GetSortBy()
		k := sortKey{column: -1, desc: by.SortbyDir == pg.SortByDir_SORTBY_DESC}
		k.first = by.SortbyNulls == pg.SortByNulls_SORTBY_NULLS_FIRST || k.desc && by.SortbyNulls != pg.SortByNulls_SORTBY_NULLS_LAST
		if c := outputColumn(by.Node, fields); c >= 0 {
			k.column = c
		} else {
			x := a.known(a.expr(by.Node, s))
			k.x = &x
		}
		keys = append(keys, k)
	}
	return keys
}

// outputColumn is the column of the output that a number or a bare name means; -1 is none.
func outputColumn(n *pg.Node, fields []field) int {
	if c := n.GetAConst(); c != nil && c.GetIval() != nil {
		i := int(c.GetIval().Ival)
		if i < 1 || i > len(fields) {
			at(c.Location, failure("42P10", "ORDER BY position %d is not in select list", i))
		}
		return i - 1
	}
	if c := n.GetColumnRef(); c != nil && len(c.Fields) == 1 {
		name := c.Fields[0].GetString_().GetSval()
		return slices.IndexFunc(fields, func(f field) bool { return f.name == name })
	}
	return -1
}

func (keys sortKeys) of(e *env, out []datum) []datum {
	by := make([]datum, len(keys))
	for i, k := range keys {
		if k.x == nil {
			by[i] = out[k.column]
		} else {
			by[i] = k.x.eval(e)
		}
	}
	return by
}

func (keys sortKeys) emit(rows []sortable, each func([]datum) bool) {
	slices.SortStableFunc(rows, func(l, r sortable) int {
		for i, k := range keys {
			a, b := l.by[i], r.by[i]
			c := 0
			switch {
			case a == nil && b == nil:
			case a == nil || b == nil:
				if c = 1; (a == nil) == k.first {
					c = -1
				}
			default:
				if c = compare(a, b); k.desc {
					c = -c
				}
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	for _, r := range rows {
		if !each(r.row) {
			return
		}
	}
}
