package tenant

import (
	"fmt"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// query is one SELECT, VALUES or set operation, or an INSERT, UPDATE, DELETE or
// MERGE with what it returns. It is built first, then visited once.
type query struct {
	low, high int // the sources made for it have ids in [low, high)

	items []*item
	where []fact // WHERE, and HAVING where that is about columns
	subs  []*sublink
	outs  []out

	// A set operation.
	op   pg.SetOperation
	arms []*arm
	src  *source // its columns

	// barrier: a condition on the output does not reach the rows it is made of.
	barrier bool
	// lone: there may be a row of output without a row of input.
	lone bool

	// after, if given, is called at the end of the visit with all that is known.
	after func(known []fact)
}

// arm is one of the two queries of a set operation.
type arm struct {
	*query
	links []fact // where the operation's columns come from
}

// out is one column of a query's output.
type out struct {
	name  string
	node  *pg.Node // an expression, in its scope
	place place
	col   column   // or a column
	bind  *binding // or one of several values
	rest  bool     // not a column: from here on nobody knows what comes
}

// sublink is a query in an expression.
type sublink struct {
	query *query
	src   *source // its output, if it is compared with something
	late  bool
	in    bool // it stands in IN: only rows equal to the left side matter
}

// resolve says where an output comes from.
func (j *judgement) resolve(o out) (link varID, bind *binding) {
	switch {
	case o.rest:
		return 0, nil
	case o.bind != nil:
		return 0, o.bind
	case o.node == nil && o.col.src == nil:
		return 0, nil
	case o.node == nil:
		return j.variable(o.col.src, o.col.index), nil
	case isValue(o.node):
		return 0, j.bindTo(o.node)
	}
	n := o.node
	if ref := n.GetColumnRef(); ref != nil {
		link, _ = j.term(n, o.place)
	} else if cast := n.GetTypeCast(); cast != nil && cast.GetArg().GetSubLink() == nil {
		link, _ = j.term(n, o.place)
	}
	return link, nil
}

// select makes a query of a SelectStmt.
func (j *judgement) selectQuery(s *pg.SelectStmt, outer *scope) *query {
	j.builds++
	q := &query{low: j.sources + 1}
	j.depth++
	defer func() { j.depth--; q.high = j.sources + 1 }()
	if s == nil || j.builds > maxQueries || j.depth > maxDepth {
		j.gaveUp = true
		return q
	}
	sc := &scope{parent: outer}
	if outer != nil {
		sc.with = outer.with
	}
	j.with(s.GetWithClause(), sc)
	switch {
	case s.GetOp() != pg.SetOperation_SETOP_NONE:
		j.setOperation(q, s, sc)
	case len(s.GetValuesLists()) > 0:
		j.valuesQuery(q, s, sc)
	default:
		j.plainSelect(q, s, sc)
	}
	return q
}

// limited reports whether a query picks among rows in a way that other rows take part in.
func limited(s *pg.SelectStmt) bool {
	return s.GetLimitCount() != nil || s.GetLimitOffset() != nil || len(s.GetLockingClause()) > 0
}

func (j *judgement) plainSelect(q *query, s *pg.SelectStmt, sc *scope) {
	p := place{scope: sc, subs: &q.subs}
	q.items = j.from(s.GetFromClause(), p)
	sc.items = q.items
	q.place()
	q.where = j.condition(s.GetWhereClause(), p)
	var use usage
	after := place{scope: sc, subs: &q.subs, late: true}
	for _, t := range s.GetTargetList() {
		q.outs = append(q.outs, j.target(t.GetResTarget(), after)...)
		use.see(t.GetResTarget().GetVal())
		j.expression(t.GetResTarget().GetVal(), after)
	}
	for _, list := range [][]*pg.Node{s.GetSortClause(), s.GetGroupClause(), s.GetWindowClause(), {s.GetHavingClause()}, {s.GetLimitCount(), s.GetLimitOffset()}} {
		for _, n := range list {
			use.see(n)
			j.expression(n, after)
		}
	}
	sets := slices.ContainsFunc(s.GetGroupClause(), func(n *pg.Node) bool { return n.GetGroupingSet() != nil })
	grouped := len(s.GetGroupClause()) > 0
	q.lone = sets || !grouped && (s.GetHavingClause() != nil || use.calls && !j.plainColumn(q, s.GetTargetList()))
	q.barrier = limited(s) || use.windows || len(s.GetWindowClause()) > 0
	for _, d := range s.GetDistinctClause() {
		q.barrier = q.barrier || d.GetNode() != nil // DISTINCT ON
		j.expression(d, after)
	}
	if s.GetHavingClause() != nil {
		// What HAVING says of a column holds for all rows of the groups that stay.
		q.where = append(q.where, j.condition(s.GetHavingClause(), after)...)
	}
}

// place tells the tables that they stand in q's FROM list.
func (q *query) place() {
	for _, it := range q.items {
		it.each(func(s *source) { s.level = q.low })
	}
}

// condition takes what a WHERE or ON says, and the sublinks in it.
func (j *judgement) condition(n *pg.Node, p place) []fact {
	if n == nil {
		return nil
	}
	facts := j.holds(n, p, true)
	j.expression(n, p)
	return facts
}

// target is what one entry of a target list puts out.
func (j *judgement) target(t *pg.ResTarget, p place) []out {
	ref := t.GetVal().GetColumnRef()
	if ref == nil || len(ref.GetFields()) == 0 || ref.GetFields()[len(ref.GetFields())-1].GetAStar() == nil {
		return []out{{name: outputName(t), node: t.GetVal(), place: p}}
	}
	var items []*item
	if fields := texts(ref.GetFields()[:len(ref.GetFields())-1]); len(fields) == 0 {
		items = p.scope.items
	} else {
		schema, name := qualified(fields)
		for at := p.scope; at != nil && items == nil; at = at.parent {
			for _, it := range at.items {
				if found := it.qualified(schema, name); found != nil && items == nil {
					items = []*item{found}
				}
			}
		}
	}
	var outs []out
	known := len(items) > 0
	for _, it := range items {
		list, ok := it.columns()
		for _, c := range list {
			outs = append(outs, out{name: c.src.names[c.index], col: c})
		}
		if !ok {
			known = false
			outs = append(outs, out{rest: true})
		}
	}
	if !known && len(items) == 0 {
		outs = append(outs, out{rest: true})
	}
	return outs
}

// setOperation is UNION, INTERSECT and EXCEPT. Its columns are a source of their own.
func (j *judgement) setOperation(q *query, s *pg.SelectStmt, sc *scope) {
	q.op = s.GetOp()
	q.src = j.newSource("")
	q.src.union = q
	j.depth-- // a long chain is no deep one
	q.addArm(j.selectQuery(s.GetLarg(), sc))
	q.addArm(j.selectQuery(s.GetRarg(), sc))
	j.depth++
	if q.op != pg.SetOperation_SETOP_UNION {
		for i := range q.src.names { // what one arm says of a column concerns the other
			j.variable(q.src, i)
		}
	}
	q.barrier = limited(s)
	p := place{scope: sc, subs: &q.subs, late: true}
	for _, list := range [][]*pg.Node{s.GetSortClause(), {s.GetLimitCount(), s.GetLimitOffset()}} {
		for _, n := range list {
			j.expression(n, p)
		}
	}
}

// addArm adds an arm; the columns are named after the first.
func (q *query) addArm(a *query) {
	q.arms = append(q.arms, &arm{query: a})
	if len(q.arms) > 1 {
		return
	}
	for i, o := range a.outs {
		if o.rest {
			q.outs = append(q.outs, out{rest: true})
			q.src.open = true
			break
		}
		q.src.names = append(q.src.names, o.name)
		q.outs = append(q.outs, out{name: o.name, col: column{q.src, i}})
	}
}

// valuesQuery is VALUES (…), (…): a column is bound if every row has a value in it.
func (j *judgement) valuesQuery(q *query, s *pg.SelectStmt, sc *scope) {
	p := place{scope: sc, subs: &q.subs}
	rows := s.GetValuesLists()
	for i := range rows[0].GetList().GetItems() {
		o := out{name: fmt.Sprint("column", i+1), place: p}
		for n, row := range rows {
			items := row.GetList().GetItems()
			if i >= len(items) {
				break
			}
			j.expression(items[i], p)
			switch {
			case len(rows) == 1:
				o.node = items[i]
			case !isValue(items[i]):
				o.bind = nil
			case n == 0:
				o.bind = j.bindTo(items[i])
			default:
				o.bind = either(o.bind, j.bindTo(items[i]))
			}
		}
		q.outs = append(q.outs, o)
	}
	q.barrier = limited(s)
}

// restBefore reports whether the position of an output is uncertain.
func restBefore(outs []out, index int) bool {
	return slices.ContainsFunc(outs[:index+1], func(o out) bool { return o.rest })
}
