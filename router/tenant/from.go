package tenant

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// from builds the items of a FROM list. Later ones see earlier ones if LATERAL.
func (j *judgement) from(list []*pg.Node, p place) []*item {
	items := make([]*item, 0, len(list))
	for _, n := range list {
		items = append(items, j.item(n, p, items))
	}
	return items
}

// item builds one item; left are those it sees if LATERAL.
func (j *judgement) item(n *pg.Node, p place, left []*item) *item {
	lateral := &scope{items: slices.Clip(left), parent: p.scope.parent, with: p.scope.with}
	switch e := n.GetNode().(type) {
	case *pg.Node_RangeVar:
		return single(j.table(e.RangeVar, p.scope, KindList))
	case *pg.Node_RangeSubselect:
		outer := lateral
		if !e.RangeSubselect.GetLateral() {
			outer = &scope{parent: p.scope.parent, with: p.scope.with}
		}
		q := j.selectQuery(e.RangeSubselect.GetSubquery().GetSelectStmt(), outer)
		return single(j.derived(q, e.RangeSubselect.GetAlias()))
	case *pg.Node_JoinExpr:
		return j.joined(e.JoinExpr, p, left)
	case *pg.Node_RangeTableSample:
		for _, arg := range e.RangeTableSample.GetArgs() {
			j.expression(arg, place{scope: lateral, subs: p.subs})
		}
		return j.item(e.RangeTableSample.GetRelation(), p, left)
	}
	// A function, or something newer: its columns are not known.
	j.expression(n, place{scope: lateral, subs: p.subs})
	return single(j.unknown(n))
}

func single(s *source) *item { return &item{src: s} }

// unknown is a source of rows that are not a table's.
func (j *judgement) unknown(n *pg.Node) *source {
	alias := n.GetRangeFunction().GetAlias()
	if alias == nil {
		alias = n.GetRangeTableFunc().GetAlias()
	}
	s := j.newSource(alias.GetAliasname())
	s.open = true
	if f := n.GetRangeFunction().GetFunctions(); len(f) == 1 && len(f[0].GetList().GetItems()) > 0 {
		s.name = exprName(f[0].GetList().GetItems()[0])
	}
	if names := texts(alias.GetColnames()); names != nil {
		s.names = names
	} else if s.alias != "" {
		s.names = []string{s.alias}
	}
	return s
}

// derived is the source that a query's output is.
func (j *judgement) derived(q *query, alias *pg.Alias) *source {
	s := j.newSource(alias.GetAliasname())
	s.query = q
	for _, o := range q.outs {
		if o.rest {
			s.open = true
			s.names = append(s.names, "")
			continue
		}
		s.names = append(s.names, o.name)
	}
	j.renameOuts(s, alias)
	return s
}

// renameOuts applies an alias's column names, as far as positions are certain.
func (j *judgement) renameOuts(s *source, alias *pg.Alias) {
	if names := texts(alias.GetColnames()); len(names) > 0 && s.open {
		at := slices.Index(s.names, "")
		if at >= 0 && at < len(names) {
			s.names = append(slices.Clone(names[:at]), "")
			return
		}
	}
	s.rename(alias)
}

// table is a table, view or WITH query; use is what the statement does with it.
func (j *judgement) table(rv *pg.RangeVar, sc *scope, use Kind) *source {
	alias := rv.GetAlias()
	if rv.GetSchemaname() == "" {
		if w := sc.with.find(rv.GetRelname()); w != nil {
			return j.reference(w, rv)
		}
	}
	r := j.relation(rv)
	var s *source
	if def := j.expand(r); def != nil {
		s = j.viewSource(rv, r, def, use)
	} else {
		s = j.newSource(alias.GetAliasname())
		s.rel, s.names, s.open = r, r.names, r.open
		s.rename(alias)
		if r.tenant {
			s.table = j.occurrence(rv, r, use)
			if at := slices.Index(r.names, r.column); at >= 0 {
				j.variable(s, at)
			}
		}
	}
	s.name = rv.GetRelname()
	return s
}

// viewSource is a view, as the query that it stands for.
func (j *judgement) viewSource(rv *pg.RangeVar, r *relation, def *pg.SelectStmt, use Kind) *source {
	outermost := j.view == nil
	if outermost {
		j.view, j.viewUse = rv, use
	}
	q := j.selectQuery(def, nil)
	if outermost {
		j.view = nil
	}
	s := j.derived(q, nil)
	s.alias = rv.GetAlias().GetAliasname()
	if len(r.names) <= len(s.names) && !s.open {
		copy(s.names, r.names)
	}
	s.rename(rv.GetAlias())
	return s
}

// joined is one JOIN.
func (j *judgement) joined(e *pg.JoinExpr, p place, left []*item) *item {
	it := &item{join: true, kind: e.GetJointype(), src: j.newSource(e.GetAlias().GetAliasname())}
	it.left = j.item(e.GetLarg(), p, left)
	it.right = j.item(e.GetRarg(), p, append(slices.Clone(left), it.left))
	names := texts(e.GetUsingClause())
	if e.GetIsNatural() {
		var known bool
		names, known = natural(it.left, it.right)
		it.blind = !known
	}
	for _, name := range names {
		j.merge(it, name)
	}
	it.usingAlias = e.GetJoinUsingAlias().GetAliasname()
	// Columns renamed after the join, "(a JOIN b …) AS j (x, y)", are not followed.
	it.blind = it.blind || len(e.GetAlias().GetColnames()) > 0
	on := place{scope: &scope{items: []*item{it.left, it.right}, parent: p.scope.parent, with: p.scope.with}, subs: &it.subs}
	it.on = append(it.on, j.condition(e.GetQuals(), on)...)
	return it
}

// merge makes one column of the two of that name.
func (j *judgement) merge(it *item, name string) {
	l, n, _ := it.left.bare(name)
	r, m, _ := it.right.bare(name)
	it.src.names = append(it.src.names, name)
	u := usingColumn{name: name, m: j.variable(it.src, len(it.src.names)-1)}
	if n == 1 {
		u.left = j.variable(l.src, l.index)
	}
	if m == 1 {
		u.right = j.variable(r.src, r.index)
	}
	it.using = append(it.using, u)
	if n == 1 && m == 1 && j.same(u.left, u.right) {
		it.on = append(it.on, fact{a: u.left, b: u.right, strict: true})
	}
}

// natural lists the names that both sides have; ok is false if some are not known.
func natural(l, r *item) (names []string, ok bool) {
	left, ok := l.columns()
	right, ok2 := r.columns()
	if !ok || !ok2 {
		return nil, false
	}
	for _, a := range left {
		name := a.src.names[a.index]
		if slices.ContainsFunc(right, func(b column) bool { return b.src.names[b.index] == name }) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, true
}
