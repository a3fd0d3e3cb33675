package tenant

import (
	pg "github.com/pganalyze/pg_query_go/v5"
)

// place is where expressions stand: the names they can use, and the query that
// sublinks in them belong to.
type place struct {
	scope *scope
	subs  *[]*sublink
	late  bool // evaluated once for a group, not for a row
}

// holds returns what is certain where condition n is true, or with want false,
// where it is false. What it does not understand says nothing.
func (j *judgement) holds(n *pg.Node, p place, want bool) []fact {
	switch e := n.GetNode().(type) {
	case *pg.Node_BoolExpr:
		return j.boolean(e.BoolExpr, p, want)
	case *pg.Node_AExpr:
		return j.comparison(e.AExpr, p, want)
	case *pg.Node_SubLink:
		if want {
			return j.sublinkHolds(e.SubLink, p)
		}
	case *pg.Node_BooleanTest:
		switch e.BooleanTest.GetBooltesttype() {
		case pg.BoolTestType_IS_TRUE:
			if want {
				return j.holds(e.BooleanTest.GetArg(), p, true)
			}
		case pg.BoolTestType_IS_FALSE:
			if want {
				return j.holds(e.BooleanTest.GetArg(), p, false)
			}
		case pg.BoolTestType_IS_NOT_TRUE:
			if !want {
				return j.holds(e.BooleanTest.GetArg(), p, true)
			}
		case pg.BoolTestType_IS_NOT_FALSE:
			if !want {
				return j.holds(e.BooleanTest.GetArg(), p, false)
			}
		}
	}
	return nil
}

// boolean knows that NOT makes AND of OR, and OR of AND.
func (j *judgement) boolean(e *pg.BoolExpr, p place, want bool) []fact {
	if e.GetBoolop() == pg.BoolExprType_NOT_EXPR {
		return j.holds(e.GetArgs()[0], p, !want)
	}
	all := (e.GetBoolop() == pg.BoolExprType_AND_EXPR) == want
	lists := make([][]fact, 0, len(e.GetArgs()))
	for _, arg := range e.GetArgs() {
		facts := j.holds(arg, p, want)
		if !all && len(facts) == 0 {
			return nil // one arm says nothing
		}
		lists = append(lists, facts)
	}
	if all {
		return and(lists...)
	}
	return j.common(lists)
}

func (j *judgement) comparison(e *pg.A_Expr, p place, want bool) []fact {
	switch e.GetKind() {
	case pg.A_Expr_Kind_AEXPR_OP:
		if want && isOperator(e, "=") || !want && isOperator(e, "<>") {
			return j.equal(e.GetLexpr(), e.GetRexpr(), p)
		}
	case pg.A_Expr_Kind_AEXPR_IN:
		if want && isOperator(e, "=") || !want && isOperator(e, "<>") {
			return j.in(e.GetLexpr(), e.GetRexpr().GetList().GetItems(), p)
		}
	case pg.A_Expr_Kind_AEXPR_OP_ANY:
		if want && isOperator(e, "=") {
			return j.any(e.GetLexpr(), e.GetRexpr(), p)
		}
	case pg.A_Expr_Kind_AEXPR_OP_ALL:
		if !want && isOperator(e, "<>") {
			return j.any(e.GetLexpr(), e.GetRexpr(), p)
		}
	case pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		if want {
			return j.notDistinct(e, p)
		}
	case pg.A_Expr_Kind_AEXPR_DISTINCT:
		if !want {
			return j.notDistinct(e, p)
		}
	}
	return nil
}

// notDistinct is "=" if one side cannot be NULL.
func (j *judgement) notDistinct(e *pg.A_Expr, p place) []fact {
	if isConstant(e.GetLexpr()) || isConstant(e.GetRexpr()) {
		return j.equal(e.GetLexpr(), e.GetRexpr(), p)
	}
	return nil
}

func isConstant(n *pg.Node) bool {
	for n.GetTypeCast() != nil {
		n = n.GetTypeCast().GetArg()
	}
	return n.GetAConst() != nil && !n.GetAConst().GetIsnull()
}

// equal is l = r, rows included.
func (j *judgement) equal(l, r *pg.Node, p place) []fact {
	if a, b := l.GetRowExpr().GetArgs(), r.GetRowExpr().GetArgs(); len(a) > 0 && len(b) > 0 {
		var facts []fact
		for i := range min(len(a), len(b)) {
			facts = append(facts, j.equal(a[i], b[i], p)...)
		}
		return facts
	}
	if isValue(l) {
		l, r = r, l
	}
	v, more := j.term(l, p)
	if v == 0 {
		return nil
	}
	if isValue(r) {
		return append(more, fact{a: v, bind: j.bindTo(r), strict: true})
	}
	w, more2 := j.term(r, p)
	if w == 0 || v == w || !j.same(v, w) {
		return nil
	}
	return append(append(more, more2...), fact{a: v, b: w, strict: true})
}

// same reports whether "=" between two columns compares them as they are.
func (j *judgement) same(v, w varID) bool {
	a, b := j.typeOf(v), j.typeOf(w)
	return a == b || !inexact(a) && !inexact(b)
}

// term is the column that an expression is, and what is certain if it is equal
// to something.
func (j *judgement) term(n *pg.Node, p place) (varID, []fact) {
	switch e := n.GetNode().(type) {
	case *pg.Node_ColumnRef:
		if c, ok := p.scope.lookup(columnFields(e.ColumnRef)); ok {
			return j.variable(c.src, c.index), nil
		}
	case *pg.Node_TypeCast:
		v, more := j.term(e.TypeCast.GetArg(), p)
		if v != 0 && keepsApart(j.typeOf(v), e.TypeCast.GetTypeName()) {
			return v, more
		}
	case *pg.Node_SubLink:
		if e.SubLink.GetSubLinkType() == pg.SubLinkType_EXPR_SUBLINK {
			sub := j.sublink(e.SubLink, p)
			if len(sub.query.outs) == 1 && !sub.query.outs[0].rest {
				v := j.variable(sub.src, 0)
				return v, j.queryFacts(sub.query, sub.src)
			}
		}
	}
	return 0, nil
}

func columnFields(c *pg.ColumnRef) []string {
	fields := make([]string, 0, len(c.GetFields()))
	for _, f := range c.GetFields() {
		s := f.GetString_()
		if s == nil {
			return nil // t.*
		}
		fields = append(fields, s.GetSval())
	}
	return fields
}

// in is l IN (items), where l may be a row and every item one as well.
func (j *judgement) in(l *pg.Node, items []*pg.Node, p place) []fact {
	if len(items) == 1 {
		return j.equal(l, items[0], p)
	}
	row := l.GetRowExpr().GetArgs()
	if row == nil {
		return j.among(l, items, p)
	}
	var facts []fact
	for i := range row {
		column := make([]*pg.Node, 0, len(items))
		for _, item := range items {
			if args := item.GetRowExpr().GetArgs(); i < len(args) {
				column = append(column, args[i])
			}
		}
		if len(column) == len(items) {
			facts = append(facts, j.among(row[i], column, p)...)
		}
	}
	return facts
}

// among is l equal to one of items, which all are values.
func (j *judgement) among(l *pg.Node, items []*pg.Node, p place) []fact {
	many := false
	for _, item := range items {
		if !isValue(item) && !isNullConstant(item) {
			return nil
		}
		many = many || !sameValue(item, items[0])
	}
	v, more := j.term(l, p)
	if v == 0 {
		return nil
	}
	b := j.bindTo(items[0])
	if many {
		b.nodes, b.many = items, true
	}
	return append(more, fact{a: v, bind: b, strict: true})
}

func isNullConstant(n *pg.Node) bool { return n.GetAConst().GetIsnull() }

// any is l = ANY (array).
func (j *judgement) any(l, array *pg.Node, p place) []fact {
	elements, ok := isArray(array)
	if !ok {
		return nil
	}
	if elements != nil {
		return j.among(l, elements, p)
	}
	v, more := j.term(l, p)
	if v == 0 {
		return nil
	}
	b := j.bindTo(array)
	b.many, b.array = true, true
	return append(more, fact{a: v, bind: b, strict: true})
}

// sublinkHolds is EXISTS (SELECT …) and x IN (SELECT …) that are true: then there
// is a row for which all of the query's facts hold.
func (j *judgement) sublinkHolds(s *pg.SubLink, p place) []fact {
	switch s.GetSubLinkType() {
	case pg.SubLinkType_EXISTS_SUBLINK:
		sub := j.sublink(s, p)
		return j.queryFacts(sub.query, sub.src)
	case pg.SubLinkType_ANY_SUBLINK:
		if len(s.GetOperName()) == 0 || operatorIs(s.GetOperName(), "=") {
			return j.inQuery(s, p)
		}
	}
	return nil
}

func (j *judgement) inQuery(s *pg.SubLink, p place) []fact {
	sub := j.sublink(s, p)
	left := s.GetTestexpr().GetRowExpr().GetArgs()
	if left == nil {
		left = []*pg.Node{s.GetTestexpr()}
	}
	var facts []fact
	for i, l := range left {
		if i >= len(sub.query.outs) || sub.query.outs[i].rest {
			break
		}
		w := j.variable(sub.src, i)
		if isValue(l) {
			facts = append(facts, fact{a: w, bind: j.bindTo(l), strict: true})
			continue
		}
		if v, more := j.term(l, p); v != 0 && v != w && j.same(v, w) {
			facts = append(append(facts, more...), fact{a: v, b: w, strict: true})
		}
	}
	sub.in = true
	return append(facts, j.queryFacts(sub.query, sub.src)...)
}
