package execplan

import (
	"regexp"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/grammar"
)

// subplan is how EXPLAIN writes what it shows elsewhere.
var subplan = regexp.MustCompile(`(?:hashed )?\b(?:SubPlan|InitPlan) \d+(?: \(returns [^)]*\))?`)

// maxCondition is how long a condition may be to be looked at, in bytes.
const maxCondition = 100 << 10

// conditions are the columns of a relation, as the plan names it, that a condition compares,
// which is one of EXPLAIN's; none of one that cannot be read. index is whether an index
// finds what it asks for.
func conditions(text, alias string, index bool) []insight.Condition {
	if text == "" || len(text) > maxCondition {
		return nil
	}
	tree, err := grammar.Parse("SELECT WHERE " + subplan.ReplaceAllString(text, "NULL"))
	if err != nil || len(tree.GetStmts()) != 1 {
		return nil
	}
	c := condition{alias: alias, index: index}
	c.and(tree.GetStmts()[0].GetStmt().GetSelectStmt().GetWhereClause())
	return c.found
}

// condition is the looking at one.
type condition struct {
	alias string
	index bool
	found []insight.Condition
}

func (c *condition) add(column string, by insight.Comparison, value *pg.Node) {
	x := insight.Condition{Column: grammar.Name(column), Compare: by, Session: asksSession(value), Index: c.index}
	for _, y := range c.found {
		if x == y {
			return
		}
	}
	c.found = append(c.found, x)
}

// and takes in what must hold.
func (c *condition) and(n *pg.Node) {
	switch b := n.GetBoolExpr(); b.GetBoolop() {
	case pg.BoolExprType_AND_EXPR:
		for _, x := range b.GetArgs() {
			c.and(x)
		}
		return
	case pg.BoolExprType_NOT_EXPR:
		if column := c.column(b.GetArgs()[0]); column != "" {
			c.add(column, insight.ByEquality, nil)
			return
		}
	default:
	}
	if column := c.column(n); column != "" { // a Boolean one
		c.add(column, insight.ByEquality, nil)
		return
	}
	if t := n.GetNullTest(); t != nil && c.column(t.GetArg()) != "" {
		by := insight.ByOther
		if t.GetNulltesttype() == pg.NullTestType_IS_NULL {
			by = insight.ByEquality
		}
		c.add(c.column(t.GetArg()), by, nil)
		return
	}
	if e := n.GetAExpr(); e != nil && c.compares(e) {
		return
	}
	c.others(n)
}

// compares takes in a comparison of a column with something that does not depend on the row.
func (c *condition) compares(e *pg.A_Expr) bool {
	left, right := e.GetLexpr(), e.GetRexpr()
	if l, r := left.GetRowExpr().GetArgs(), right.GetRowExpr().GetArgs(); len(l) > 0 && len(r) > 0 {
		left, right = l[0], r[0] // rows are compared by their first columns first
	}
	column, value := c.column(left), right
	if column == "" {
		column, value = c.column(right), left
	}
	if column == "" || c.dependsOnRow(value) {
		return false
	}
	c.add(column, comparison(e), value)
	return true
}

// comparison is what an operator needs of an index.
func comparison(e *pg.A_Expr) insight.Comparison {
	names := e.GetName()
	operator := names[len(names)-1].GetString_().GetSval()
	own := len(names) == 1 || names[0].GetString_().GetSval() == "pg_catalog"
	switch kind := e.GetKind(); {
	case !own:
	case operator == "=" && (kind == pg.A_Expr_Kind_AEXPR_OP || kind == pg.A_Expr_Kind_AEXPR_OP_ANY):
		return insight.ByEquality
	case kind == pg.A_Expr_Kind_AEXPR_OP && (operator == "<" || operator == ">" || operator == "<=" || operator == ">="):
		return insight.ByRange
	}
	return insight.ByOther
}

// column is the relation's column that n is; empty if it is none. PostgreSQL shows columns of
// type varchar as cast to text where it compares them as such.
func (c *condition) column(n *pg.Node) string {
	if t := n.GetTypeCast(); t != nil {
		names := t.GetTypeName().GetNames()
		if len(names) == 0 || names[len(names)-1].GetString_().GetSval() != "text" {
			return ""
		}
		n = t.GetArg()
	}
	fields := n.GetColumnRef().GetFields()
	if len(fields) == 0 {
		return ""
	}
	if len(fields) > 1 && fields[len(fields)-2].GetString_().GetSval() != c.alias {
		return ""
	}
	return fields[len(fields)-1].GetString_().GetSval()
}

// dependsOnRow reports whether a value depends on the relation's row.
func (c *condition) dependsOnRow(n *pg.Node) (depends bool) {
	walk(n, func(m protoreflect.ProtoMessage) {
		if ref, ok := m.(*pg.ColumnRef); ok && c.column(&pg.Node{Node: &pg.Node_ColumnRef{ColumnRef: ref}}) != "" {
			depends = true
		}
	})
	return depends
}

// others takes in the columns that something else is asked of.
func (c *condition) others(n *pg.Node) {
	walk(n, func(m protoreflect.ProtoMessage) {
		ref, ok := m.(*pg.ColumnRef)
		if !ok {
			return
		}
		if column := c.column(&pg.Node{Node: &pg.Node_ColumnRef{ColumnRef: ref}}); column != "" {
			c.add(column, insight.ByOther, n)
		}
	})
}

// asksSession reports whether a value is what the session says of itself.
func asksSession(n *pg.Node) (asks bool) {
	walk(n, func(m protoreflect.ProtoMessage) {
		switch x := m.(type) {
		case *pg.FuncCall:
			names := x.GetFuncname()
			asks = asks || strings.EqualFold(names[len(names)-1].GetString_().GetSval(), "current_setting")
		case *pg.SQLValueFunction:
			switch x.GetOp() {
			case pg.SQLValueFunctionOp_SVFOP_CURRENT_ROLE, pg.SQLValueFunctionOp_SVFOP_CURRENT_USER, pg.SQLValueFunctionOp_SVFOP_USER, pg.SQLValueFunctionOp_SVFOP_SESSION_USER:
				asks = true
			default:
			}
		}
	})
	return asks
}

// walk shows each message of a tree.
func walk(n *pg.Node, see func(protoreflect.ProtoMessage)) {
	if n != nil {
		walkMessage(n.ProtoReflect(), see)
	}
}

func walkMessage(m protoreflect.Message, see func(protoreflect.ProtoMessage)) {
	see(m.Interface())
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				walkMessage(v.List().Get(i).Message(), see)
			}
		default:
			walkMessage(v.Message(), see)
		}
		return true
	})
}
