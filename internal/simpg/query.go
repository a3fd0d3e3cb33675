package simpg

import (
	"fmt"
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

// source is what stands in FROM.
type source struct {
	cols []scopeCol
	run  func(e *env, each func(r []datum) bool)
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
	named := map[string]*cte{}
	for k, v := range was {
		named[k] = v
	}
	var made []*cte
	for _, n := range w.Ctes {
		x := n.GetCommonTableExpr()
		a.ctes = named
		c := &cte{q: a.query(x.Ctequery, outer)}
		c.fields = slices.Clone(c.q.fields)
		for i, name := range stringsOf(x.Aliascolnames) {
			c.fields[i].name = name
		}
		if next := map[string]*cte{}; true {
			for k, v := range named {
				next[k] = v
			}
			next[x.Ctename] = c
			named = next
		}
		made = append(made, c)
	}
	a.ctes = named
	return func(e *env) {
		for _, c := range made {
			c.rows = nil
			c.q.run(&env{se: e.se, st: e.st, params: e.params, outer: e.outer}, func(r []datum) bool {
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
		drop := map[string]bool{}
		more := true
		emit := func(row []datum) bool {
			if !s.All {
				if k := rowKey(row); seen[k] || drop[k] {
					return true
				} else {
					seen[k] = true
				}
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
			rows = append(rows, sortable{r, keys.of(&env{se: e.se, st: e.st, params: e.params, row: r, outer: e.outer}, r)})
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
			in := &env{se: e.se, st: e.st, params: e.params, row: r, outer: e.outer}
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
		e = &env{se: e.se, st: e.st, params: e.params, outer: e.outer, row: e.row}
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
			get(nil).first = &env{se: e.se, st: e.st, params: e.params, outer: e.outer}
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

// from analyzes FROM: what is separated by commas is joined.
func (a *analysis) from(list []*pg.Node, outer *scope) *source {
	if len(list) == 0 {
		return &source{run: func(e *env, each func([]datum) bool) { each(nil) }}
	}
	s := a.item(list[0], outer, nil)
	for _, n := range list[1:] {
		r := a.item(n, outer, s)
		s = joined(s, r, func(*env) datum { return true }, false)
	}
	return s
}

// joined is the join of two sources. r may refer to l's row: it finds it in the env's row.
func joined(l, r *source, on func(e *env) datum, left bool) *source {
	return &source{cols: slices.Concat(l.cols, r.cols), run: func(e *env, each func([]datum) bool) {
		l.run(e, func(lr []datum) bool {
			lr = slices.Clone(lr)
			more, found := true, false
			in := &env{se: e.se, st: e.st, params: e.params, outer: e.outer, row: lr}
			r.run(in, func(rr []datum) bool {
				row := slices.Concat(lr, rr)
				if on(&env{se: e.se, st: e.st, params: e.params, outer: e.outer, row: row}) != true {
					return true
				}
				found = true
				more = each(row)
				return more
			})
			if left && !found && more {
				more = each(slices.Concat(lr, make([]datum, len(r.cols))))
			}
			return more
		})
	}}
}

// item analyzes one thing in FROM; before is what stands left of it, for LATERAL.
func (a *analysis) item(n *pg.Node, outer *scope, before *source) *source {
	switch n := n.GetNode().(type) {
	case *pg.Node_RangeVar:
		return a.rangeVar(n.RangeVar)
	case *pg.Node_RangeSubselect:
		q := a.query(n.RangeSubselect.Subquery, outer)
		s := &source{run: func(e *env, each func([]datum) bool) {
			q.run(&env{se: e.se, st: e.st, params: e.params, outer: e.outer}, each)
		}}
		s.name(q.fields, n.RangeSubselect.Alias, "")
		return s
	case *pg.Node_RangeFunction:
		return a.rangeFunction(n.RangeFunction, outer, before)
	case *pg.Node_JoinExpr:
		j := n.JoinExpr
		l := a.item(j.Larg, outer, before)
		r := a.item(j.Rarg, outer, l)
		s := &source{cols: slices.Concat(l.cols, r.cols)}
		on := a.where(j.Quals, &scope{outer: outer, cols: s.cols})
		if len(j.UsingClause) > 0 || j.IsNatural || j.Jointype != pg.JoinType_JOIN_INNER && j.Jointype != pg.JoinType_JOIN_LEFT {
			raise("0A000", "simpg: this kind of join is not modelled")
		}
		return joined(l, r, on, j.Jointype == pg.JoinType_JOIN_LEFT)
	}
	a.unsupported(n)
	return nil
}

// name gives a source its columns.
func (s *source) name(fields []field, alias *pg.Alias, rel string) {
	var names []string
	if alias != nil {
		rel, names = alias.Aliasname, stringsOf(alias.Colnames)
	}
	for i, f := range fields {
		c := scopeCol{rel: rel, name: f.name, typ: f.typ, table: f.table, num: f.num}
		if i < len(names) {
			c.name = names[i]
		}
		s.cols = append(s.cols, c)
	}
}

func (a *analysis) rangeFunction(f *pg.RangeFunction, outer *scope, before *source) *source {
	beyond(f.Ordinality || len(f.Functions) > 1 || len(f.Coldeflist) > 0, "such a function in FROM")
	call := f.Functions[0].GetList().Items[0].GetFuncCall()
	if call == nil {
		raise("0A000", "simpg: this function in FROM is not modelled")
	}
	sc := &scope{outer: outer}
	if before != nil {
		sc.cols = before.cols
	}
	name := call.Funcname[len(call.Funcname)-1].GetString_().GetSval()
	fields, run := a.setFunction(name, call, sc)
	s := &source{run: run}
	if s.name(fields, f.Alias, name); f.Alias != nil && len(fields) == 1 && len(f.Alias.Colnames) == 0 {
		s.cols[0].name = f.Alias.Aliasname
	}
	return s
}

// rangeVar analyzes a table, view, WITH query or catalog by its name.
func (a *analysis) rangeVar(v *pg.RangeVar) *source {
	if c := a.ctes[v.Relname]; c != nil && v.Schemaname == "" {
		s := &source{run: func(e *env, each func([]datum) bool) {
			for _, r := range c.rows {
				if !each(r) {
					return
				}
			}
		}}
		s.name(c.fields, v.Alias, v.Relname)
		return s
	}
	r := a.relation(v)
	if r == nil {
		if s := a.catalog(v); s != nil {
			return s
		}
		a.missing(v)
	}
	a.use(r, "SELECT", lockRead)
	if r.kind == 'v' {
		return a.view(r, v)
	}
	if r.kind == 'S' {
		raise("0A000", "simpg: a sequence as a table is not modelled")
	}
	s := a.table(r, v.Alias)
	visible := a.visible(r, 'r', s.cols)
	scan := s.run
	s.run = func(e *env, each func([]datum) bool) {
		scan(e, func(row []datum) bool {
			return visible != nil && !visible(&env{se: e.se, st: e.st, params: e.params, row: row}) || each(row)
		})
	}
	return s
}

func (a *analysis) missing(v *pg.RangeVar) {
	e := caught(func() { a.gone(v) })
	at(v.Location, e)
}

// gone is missing for commands, which do not say where.
func (a *analysis) gone(v *pg.RangeVar) {
	name := v.Relname
	if v.Schemaname != "" {
		name = v.Schemaname + "." + name
	}
	raise("42P01", `relation "%s" does not exist`, name)
}

// use notes that a relation is used, and checks that the user may.
func (a *analysis) use(r *relation, privilege string, mode lockMode) {
	a.tables = append(a.tables, r.key())
	a.hold(r, mode)
	if a.depth == 0 {
		a.rights = append(a.rights, func() { a.se.allowed(r, privilege) })
	}
}

// hold locks a relation. If it had to wait, all is analyzed again.
func (a *analysis) hold(r *relation, mode lockMode) {
	if waited, _ := a.se.lock(tableID{a.se.database, r.oid}, mode, false, false); waited {
		panic(errAgain)
	}
}

// rowIDColumn is the hidden last column of a table's rows: their number.
var rowIDColumn = scopeCol{name: "\x00row", typ: typInt8, hidden: true}

// table scans a table, whatever its policies.
func (a *analysis) table(r *relation, alias *pg.Alias) *source {
	database, key := a.se.database, r.key()
	s := &source{run: func(e *env, each func([]datum) bool) {
		now := e.st.databases[database].relations[key]
		if now == nil {
			return
		}
		for _, row := range now.rows {
			out := make([]datum, len(r.columns)+1)
			copy(out, row.vals)
			out[len(r.columns)] = row.id
			if !each(out) {
				return
			}
		}
	}}
	var fields []field
	for _, c := range r.columns {
		fields = append(fields, field{c.name, c.typ, r.oid, c.num})
	}
	s.name(fields, alias, r.name)
	hidden := rowIDColumn
	if hidden.rel = r.name; alias != nil {
		hidden.rel = alias.Aliasname
	}
	s.cols = append(s.cols, hidden)
	return s
}

func (a *analysis) view(r *relation, v *pg.RangeVar) *source {
	ctes, user := a.ctes, a.user
	a.ctes, a.user = nil, r.owner
	a.depth++
	q := a.selectStmt(r.view, nil)
	a.depth--
	a.ctes, a.user = ctes, user
	s := &source{run: func(e *env, each func([]datum) bool) { q.run(&env{se: e.se, st: e.st}, each) }}
	fields := slices.Clone(q.fields)
	for i := range fields {
		fields[i].table, fields[i].num = r.oid, int16(i+1)
	}
	s.name(fields, v.Alias, r.name)
	return s
}
