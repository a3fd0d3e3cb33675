package simpg

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// source is what stands in FROM.
type source struct {
	cols []scopeCol
	run  func(e *env, each func(r []datum) bool)
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
			in := e.over(lr)
			r.run(in, func(rr []datum) bool {
				row := slices.Concat(lr, rr)
				if on(e.over(row)) != true {
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
			q.run(e.over(nil), each)
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
