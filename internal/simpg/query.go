package simpg

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// query is a statement that was analyzed. run gives its rows, which are the receiver's
// only during the call unless it copies them, until each returns false.
type query struct {
	fields []field
	run    func(e *env, each func(r []datum) bool)
	tag    func(e *env) string // of one that changes data, once it ran
}

// cte is a WITH query; it is run once, when its statement begins.
type cte struct {
	fields []field
	rows   [][]datum
	q      *query
}

// describe returns the columns of a statement's answer; nil is none.
func (a *analysis) describe(p *prepared) []field {
	s := p.stmt
	if !isQuery(s.node) {
		return a.describeUtility(s)
	}
	return a.top(p).columns(s)
}

// columns are those of the answer; nil is that there are no rows.
func (q *query) columns(s *stmt) []field {
	if len(q.fields) == 0 && s.kind != "SelectStmt" {
		return nil
	}
	if q.fields == nil {
		return []field{}
	}
	return q.fields
}

// top analyzes a whole statement.
func (a *analysis) top(p *prepared) *query {
	if k := known(p.text); k != nil && p.stmt.kind == "SelectStmt" {
		for i := range k.params {
			a.param(i+1, 0)
		}
		return k.query(a.se, p.text)
	}
	q := a.query(p.stmt.node, nil)
	a.refuse()
	return q
}

// refuse raises what was found to be in the way.
func (a *analysis) refuse() {
	if a.refused != nil {
		panic(a.refused)
	}
}

// query analyzes a statement that returns rows or changes data, within outer.
func (a *analysis) query(n *pg.Node, outer *scope) *query {
	switch n := n.GetNode().(type) {
	case *pg.Node_SelectStmt:
		return a.selectStmt(n.SelectStmt, outer)
	case *pg.Node_InsertStmt:
		return a.insert(n.InsertStmt)
	case *pg.Node_UpdateStmt:
		return a.update(n.UpdateStmt)
	case *pg.Node_DeleteStmt:
		return a.delete(n.DeleteStmt)
	}
	a.unsupported(n)
	return nil
}

// with analyzes WITH. What it makes has to be run before the rest: see begin.
func (a *analysis) with(w *pg.WithClause, outer *scope) (begin func(e *env), end func()) {
	if w == nil {
		return func(*env) {}, func() {}
	}
	if w.Recursive {
		raise("0A000", "simpg: WITH RECURSIVE is not modelled")
	}
	was := a.ctes
	a.ctes = map[string]*cte{}
	maps.Copy(a.ctes, was)
	var made []*cte
	for _, n := range w.Ctes {
		x := n.GetCommonTableExpr()
		c := &cte{q: a.query(x.Ctequery, outer)}
		c.fields = slices.Clone(c.q.fields)
		for i, name := range stringsOf(x.Aliascolnames) {
			c.fields[i].name = name
		}
		a.ctes[x.Ctename] = c
		made = append(made, c)
	}
	return func(e *env) {
		for _, c := range made {
			c.rows = nil
			c.q.run(e.over(nil), func(r []datum) bool {
				c.rows = append(c.rows, slices.Clone(r))
				return true
			})
		}
	}, func() { a.ctes = was }
}

func (a *analysis) selectStmt(s *pg.SelectStmt, outer *scope) *query {
	begin, end := a.with(s.WithClause, outer)
	defer end()
	var q *query
	switch {
	case s.Op != pg.SetOperation_SETOP_NONE && s.Op != pg.SetOperation_SET_OPERATION_UNDEFINED:
		q = a.union(s, outer)
	case len(s.ValuesLists) > 0:
		q = a.values(s.ValuesLists, outer, nil)
		q = a.orderedRows(q, s, outer)
	default:
		if q = a.channelsQuery(s); q == nil {
			q = a.plain(s, outer)
		}
	}
	q = a.limited(q, s, outer)
	if s.WithClause == nil {
		return q
	}
	run := q.run
	q.run = func(e *env, each func([]datum) bool) {
		begin(e)
		run(e, each)
	}
	return q
}

// channelsQuery is SELECT pg_listening_channels(), the one function that returns a set and
// may stand in front of FROM; nil is that s is another statement.
func (a *analysis) channelsQuery(s *pg.SelectStmt) *query {
	if len(s.TargetList) != 1 || len(s.FromClause) > 0 {
		return nil
	}
	c := s.TargetList[0].GetResTarget().Val.GetFuncCall()
	names := stringsOf(c.GetFuncname())
	if len(names) == 0 || names[len(names)-1] != "pg_listening_channels" {
		return nil
	}
	q := &query{}
	q.fields, q.run = a.setFunction("pg_listening_channels", c, nil)
	return q
}

// values analyzes VALUES; want are the types of the columns they are for, if that is known.
func (a *analysis) values(lists []*pg.Node, outer *scope, want []uint32) *query {
	rows := make([][]expr, len(lists))
	q := &query{}
	for i, l := range lists {
		rows[i] = a.list(l.GetList().Items, inside(outer))
		if len(rows[i]) != len(rows[0]) {
			raise("42601", "VALUES lists must all be the same length")
		}
	}
	for c := range rows[0] {
		column := make([]expr, len(rows))
		for i := range rows {
			column[i] = rows[i][c]
		}
		var typ uint32
		if c < len(want) {
			typ = want[c]
			for i := range column {
				column[i] = a.coerce(column[i], typ)
			}
		} else {
			typ = a.common(column)
		}
		for i := range rows {
			rows[i][c] = column[i]
		}
		q.fields = append(q.fields, field{name: fmt.Sprint("column", c+1), typ: typ})
	}
	q.run = func(e *env, each func([]datum) bool) {
		for _, r := range rows {
			out := make([]datum, len(r))
			for i, x := range r {
				out[i] = x.eval(e)
			}
			if !each(out) {
				return
			}
		}
	}
	return q
}

func (a *analysis) union(s *pg.SelectStmt, outer *scope) *query {
	l, r := a.selectStmt(s.Larg, outer), a.selectStmt(s.Rarg, outer)
	if len(l.fields) != len(r.fields) {
		raise("42601", "each UNION query must have the same number of columns")
	}
	q := &query{fields: slices.Clone(l.fields)}
	for i := range q.fields {
		q.fields[i].table, q.fields[i].num = 0, 0
		if rank(r.fields[i].typ) > rank(l.fields[i].typ) {
			q.fields[i].typ = r.fields[i].typ
		}
	}
	q.run = func(e *env, each func([]datum) bool) {
		seen := map[string]bool{}
		more := true
		emit := func(row []datum) bool {
			if !s.All {
				k := rowKey(row)
				if seen[k] {
					return true
				}
				seen[k] = true
			}
			more = each(row)
			return more
		}
		switch s.Op {
		case pg.SetOperation_SETOP_EXCEPT, pg.SetOperation_SETOP_INTERSECT:
			in := map[string]bool{}
			r.run(e, func(row []datum) bool { in[rowKey(row)] = true; return true })
			l.run(e, func(row []datum) bool {
				if in[rowKey(row)] != (s.Op == pg.SetOperation_SETOP_INTERSECT) {
					return true
				}
				return emit(row)
			})
		default:
			if l.run(e, emit); more {
				r.run(e, emit)
			}
		}
	}
	return a.orderedRows(q, s, outer)
}

// rowKey is equal for equal rows.
func rowKey(r []datum) string {
	var b strings.Builder
	for _, d := range r {
		if d == nil {
			b.WriteString("\x00N")
		} else {
			b.WriteString("\x00" + output(d))
		}
	}
	return b.String()
}

func (a *analysis) limited(q *query, s *pg.SelectStmt, outer *scope) *query {
	if s.LimitCount == nil && s.LimitOffset == nil {
		return q
	}
	bound := func(n *pg.Node) func(e *env) int64 {
		if n == nil {
			return func(*env) int64 { return -1 }
		}
		x := a.coerce(a.expr(n, inside(outer)), typInt8)
		return func(e *env) int64 {
			v, ok := x.eval(e).(int64)
			if !ok {
				return -1
			}
			return v
		}
	}
	beyond(s.LimitOption == pg.LimitOption_LIMIT_OPTION_WITH_TIES, "WITH TIES")
	limit, offset := bound(s.LimitCount), bound(s.LimitOffset)
	run := q.run
	q.run = func(e *env, each func([]datum) bool) {
		most, skip := limit(e), offset(e)
		if most == 0 {
			return
		}
		n := int64(0)
		run(e, func(r []datum) bool {
			if skip > 0 {
				skip--
				return true
			}
			n++
			return each(r) && (most < 0 || n < most)
		})
	}
	return q
}

// grouping collects the aggregates of a SELECT.
type grouping struct{ aggs []aggregate }

// plain analyzes a SELECT without set operations.
func (a *analysis) plain(s *pg.SelectStmt, outer *scope) *query {
	beyond(len(s.WindowClause) > 0 || len(s.DistinctClause) > 0 && s.DistinctClause[0].GetNode() != nil, "DISTINCT ON and WINDOW")
	from := a.from(s.FromClause, outer)
	sc := &scope{outer: outer, cols: from.cols}
	where := a.where(s.WhereClause, sc)
	g := &grouping{}
	sc.group = g
	outs, fields := a.targets(s.TargetList, sc)
	q := &query{fields: fields}
	keys := a.sortKeys(s.SortClause, sc, fields)
	var having *expr
	if s.HavingClause != nil {
		x := a.condition(s.HavingClause, sc, "HAVING")
		having = &x
	}
	sc.group = nil
	var groups []expr
	for _, n := range s.GroupClause {
		if c := outputColumn(n, fields); c >= 0 {
			groups = append(groups, outs[c])
		} else {
			groups = append(groups, a.known(a.expr(n, sc)))
		}
	}
	rows := func(e *env, each func(e *env) bool) {
		from.run(e, func(r []datum) bool {
			in := e.over(r)
			return where(in) != true || each(in)
		})
	}
	if len(s.LockingClause) > 0 {
		rows = a.locking(s, from, where)
	}
	if len(g.aggs) > 0 || len(groups) > 0 || having != nil {
		rows = grouped(rows, g.aggs, groups, having)
	}
	project := func(e *env) []datum {
		out := make([]datum, len(outs))
		for i, x := range outs {
			out[i] = x.eval(e)
		}
		return out
	}
	distinct := func(each func([]datum) bool) func([]datum) bool { return each }
	if s.DistinctClause != nil {
		distinct = func(each func([]datum) bool) func([]datum) bool {
			seen := map[string]bool{}
			return func(r []datum) bool {
				k := rowKey(r)
				if seen[k] {
					return true
				}
				seen[k] = true
				return each(r)
			}
		}
	}
	q.run = func(e *env, each func([]datum) bool) {
		each = distinct(each)
		// What is not correlated sees the statement's own row nowhere.
		e = e.over(e.row)
		if len(keys) == 0 {
			rows(e, func(in *env) bool { return each(project(in)) })
			return
		}
		var all []sortable
		rows(e, func(in *env) bool {
			out := project(in)
			all = append(all, sortable{out, keys.of(in, out)})
			return true
		})
		keys.emit(all, each)
	}
	return q
}

// where analyzes a condition on rows; without one every row counts.
func (a *analysis) where(n *pg.Node, s *scope) func(e *env) datum {
	if n == nil {
		return func(*env) datum { return true }
	}
	return a.condition(n, s, "WHERE").eval
}

// targets analyzes the list of what is returned.
func (a *analysis) targets(list []*pg.Node, s *scope) (outs []expr, fields []field) {
	for _, n := range list {
		t := n.GetResTarget()
		if c := t.Val.GetColumnRef(); c != nil && c.Fields[len(c.Fields)-1].GetAStar() != nil {
			rel := ""
			if len(c.Fields) > 1 {
				rel = c.Fields[len(c.Fields)-2].GetString_().GetSval()
			}
			n := len(outs)
			for i, col := range s.cols {
				if !col.hidden && (rel == "" || col.rel == rel) {
					a.read(col.table)
					outs = append(outs, expr{typ: col.typ, eval: func(e *env) datum { return e.row[i] }})
					fields = append(fields, field{col.name, col.typ, col.table, col.num})
				}
			}
			if len(outs) == n && rel != "" && !slices.ContainsFunc(s.cols, func(c scopeCol) bool { return c.rel == rel }) {
				at(c.Location, failure("42P01", `missing FROM-clause entry for table "%s"`, rel))
			} else if len(s.cols) == 0 {
				at(c.Location, failure("42601", "SELECT * with no tables specified is not valid"))
			}
			continue
		}
		x := a.known(a.expr(t.Val, s))
		if t.Name != "" {
			x.name = t.Name
		}
		outs = append(outs, x)
		fields = append(fields, field{x.name, x.typ, x.table, x.num})
	}
	return outs, fields
}

// grouped turns rows into groups, in the order of their first rows.
func grouped(rows func(e *env, each func(e *env) bool), aggs []aggregate, by []expr, having *expr) func(e *env, each func(e *env) bool) {
	return func(e *env, each func(e *env) bool) {
		type group struct {
			first  *env
			states []datum
			seen   []map[string]bool
		}
		made := map[string]*group{}
		var order []*group
		get := func(in *env) *group {
			var key []datum
			if in != nil {
				for _, x := range by {
					key = append(key, x.eval(in))
				}
			}
			k := rowKey(key)
			g := made[k]
			if g == nil {
				g = &group{first: in, states: make([]datum, len(aggs)), seen: make([]map[string]bool, len(aggs))}
				for i, ag := range aggs {
					g.states[i] = ag.init
				}
				made[k] = g
				order = append(order, g)
			}
			return g
		}
		rows(e, func(in *env) bool {
			g := get(in)
			for i, ag := range aggs {
				if ag.filter != nil && ag.filter.eval(in) != true {
					continue
				}
				args := make([]datum, len(ag.args))
				null := false
				for j, x := range ag.args {
					args[j] = x.eval(in)
					null = null || args[j] == nil
				}
				if null {
					continue
				}
				if ag.distinct {
					if g.seen[i] == nil {
						g.seen[i] = map[string]bool{}
					}
					k := rowKey(args)
					if g.seen[i][k] {
						continue
					}
					g.seen[i][k] = true
				}
				g.states[i] = ag.step(g.states[i], args)
			}
			return true
		})
		if len(by) == 0 && len(order) == 0 {
			get(nil).first = e.over(nil)
		}
		for _, g := range order {
			in := *g.first
			in.aggs = g.states
			if having != nil && having.eval(&in) != true {
				continue
			}
			if !each(&in) {
				return
			}
		}
	}
}
