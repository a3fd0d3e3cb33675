package tenant

import (
	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// expression finds the queries in an expression, which are then part of p's query.
func (j *judgement) expression(n *pg.Node, p place) {
	if n == nil {
		return
	}
	eachNode(n, func(m any) bool {
		switch e := m.(type) {
		case *pg.SubLink:
			j.sublink(e, p)
			j.expression(e.GetTestexpr(), p)
			return false
		case *pg.SelectStmt: // JSON_ARRAY (SELECT …), or what is newer
			*p.subs = append(*p.subs, &sublink{query: j.selectQuery(e, p.scope), late: p.late})
			return false
		case *pg.FuncCall:
			if p.late && aggregates[builtinName(e)] && e.GetOver() == nil {
				early := p
				early.late = false
				for _, arg := range e.GetArgs() {
					j.expression(arg, early)
				}
				j.expression(e.GetAggFilter(), early)
				for _, o := range e.GetAggOrder() {
					j.expression(o, early)
				}
				return false
			}
		}
		return true
	})
}

// aggregates evaluate their arguments for every row.
var aggregates = map[string]bool{
	"count": true, "sum": true, "avg": true, "min": true, "max": true, "array_agg": true, "string_agg": true,
	"bool_and": true, "bool_or": true, "every": true, "json_agg": true, "jsonb_agg": true,
}

// builtinName is the name of one of PostgreSQL's own functions, empty for others.
func builtinName(f *pg.FuncCall) string {
	if schema, name := qualified(texts(f.GetFuncname())); schema == "" || schema == "pg_catalog" {
		return name
	}
	return ""
}

// sublinkKey: a view or WITH query that is named twice is built twice.
type sublinkKey struct {
	node *pg.SubLink
	subs *[]*sublink
}

// sublink builds the query in an expression, once.
func (j *judgement) sublink(s *pg.SubLink, p place) *sublink {
	key := sublinkKey{s, p.subs}
	if made := j.sublinks[key]; made != nil {
		return made
	}
	q := j.selectQuery(s.GetSubselect().GetSelectStmt(), p.scope)
	made := &sublink{query: q, src: j.derived(q, nil), late: p.late}
	j.sublinks[key] = made
	*p.subs = append(*p.subs, made)
	return made
}

// usage is what a target list and its like call.
type usage struct {
	calls   bool // a function that may be an aggregate
	windows bool
}

func (u *usage) see(n *pg.Node) {
	if n == nil {
		return
	}
	eachNode(n, func(m any) bool {
		switch e := m.(type) {
		case *pg.FuncCall:
			if e.GetOver() != nil {
				u.windows = true
			} else if settingName(e) == "" {
				u.calls = true
			}
		case *pg.SubLink:
			// An aggregate of outer columns alone belongs to the outer query.
			if s := e.GetSubselect().GetSelectStmt(); len(s.GetFromClause()) == 0 {
				u.calls = true
			}
			return false
		case *pg.JsonObjectAgg, *pg.JsonArrayAgg, *pg.SelectStmt:
			u.calls = true
		}
		return true
	})
}

// plainColumn reports whether a column of q stands in the target list by itself:
// without GROUP BY, nothing there is an aggregate then.
func (j *judgement) plainColumn(q *query, targets []*pg.Node) bool {
	for _, t := range targets {
		ref := t.GetResTarget().GetVal().GetColumnRef()
		if ref == nil {
			continue
		}
		if last := ref.GetFields()[len(ref.GetFields())-1]; last.GetAStar() != nil && len(ref.GetFields()) == 1 {
			return true
		}
		sc := &scope{items: q.items}
		if _, ok := sc.lookup(columnFields(ref)); ok {
			return true
		}
	}
	return false
}

// eachNode calls f for n and what is in it, from the top; f says whether to go on
// below. It sees every field of every node type.
func eachNode(n *pg.Node, f func(any) bool) {
	if n == nil {
		return
	}
	switch e := n.GetNode().(type) { // the most frequent ones
	case *pg.Node_ColumnRef, *pg.Node_AConst, *pg.Node_ParamRef, *pg.Node_String_:
	case *pg.Node_ResTarget:
		eachNode(e.ResTarget.GetVal(), f)
	case *pg.Node_TypeCast:
		eachNode(e.TypeCast.GetArg(), f)
	case *pg.Node_AExpr:
		eachNode(e.AExpr.GetLexpr(), f)
		eachNode(e.AExpr.GetRexpr(), f)
	case *pg.Node_BoolExpr:
		eachOf(e.BoolExpr.GetArgs(), f)
	case *pg.Node_List:
		eachOf(e.List.GetItems(), f)
	case *pg.Node_RowExpr:
		eachOf(e.RowExpr.GetArgs(), f)
	case *pg.Node_NullTest:
		eachNode(e.NullTest.GetArg(), f)
	case *pg.Node_CoalesceExpr:
		eachOf(e.CoalesceExpr.GetArgs(), f)
	case *pg.Node_SortBy:
		eachNode(e.SortBy.GetNode(), f)
	default:
		below(n.ProtoReflect(), f)
	}
}

func eachOf(list []*pg.Node, f func(any) bool) {
	for _, n := range list {
		eachNode(n, f)
	}
}

// below visits the messages in m.
func below(m protoreflect.Message, f func(any) bool) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				message(v.List().Get(i).Message(), f)
			}
		default:
			message(v.Message(), f)
		}
		return true
	})
}

func message(m protoreflect.Message, f func(any) bool) {
	x := m.Interface()
	if n, ok := x.(*pg.Node); ok {
		eachNode(n, f)
		return
	}
	if f(x) {
		below(m, f)
	}
}
