package shape

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/router/catalog"
)

// column is one of a table as the query names that.
type column struct{ table, name string }

// rowBound finds out whether keys allow one row of every table a query joins, or as many as
// it lists values.
type rowBound struct {
	Known
	names  map[string]*pg.RangeVar
	fixed  map[column]bool // they equal one value, or one of a list
	equals [][2]column
	keys   []string
	other  bool // something else than a table stands in FROM
}

// foreign reports whether a column says by its name that it refers to a row, other than a
// tenant's: all rows of a tenant are many.
func (r *rowBound) foreign(name string) bool {
	return strings.HasSuffix(name, "_id") && !slices.Contains(r.Tenants, name)
}

func (r *rowBound) from(n *pg.Node) {
	switch x := n.GetNode().(type) {
	case *pg.Node_RangeVar:
		name := x.RangeVar.GetRelname()
		if alias := x.RangeVar.GetAlias().GetAliasname(); alias != "" {
			name = alias
		}
		r.names[name] = x.RangeVar
	case *pg.Node_JoinExpr:
		r.from(x.JoinExpr.GetLarg())
		r.from(x.JoinExpr.GetRarg())
		r.condition(x.JoinExpr.GetQuals())
		r.other = r.other || x.JoinExpr.GetJointype() == pg.JoinType_JOIN_FULL || x.JoinExpr.GetJointype() == pg.JoinType_JOIN_RIGHT
	default:
		r.other = true
	}
}

// condition takes in what must hold: equalities joined by AND.
func (r *rowBound) condition(n *pg.Node) {
	if b := n.GetBoolExpr(); b.GetBoolop() == pg.BoolExprType_AND_EXPR {
		for _, arg := range b.GetArgs() {
			r.condition(arg)
		}
		return
	}
	e := n.GetAExpr()
	switch e.GetKind() {
	case pg.A_Expr_Kind_AEXPR_OP, pg.A_Expr_Kind_AEXPR_OP_ANY, pg.A_Expr_Kind_AEXPR_IN:
	default:
		return
	}
	if lastString(e.GetName()) != "=" {
		return
	}
	left, isLeft := r.column(e.GetLexpr())
	right, isRight := r.column(e.GetRexpr())
	switch {
	case isLeft && isRight:
		r.equals = append(r.equals, [2]column{left, right})
	case isLeft && value(e.GetRexpr()):
		r.fix(left)
	case isRight && value(e.GetLexpr()):
		r.fix(right)
	}
}

func (r *rowBound) fix(c column) {
	r.fixed[c] = true
	if !slices.Contains(r.keys, c.name) {
		r.keys = append(r.keys, c.name)
	}
}

// column is the one that n names; one without a table belongs to the only one there is.
func (r *rowBound) column(n *pg.Node) (c column, ok bool) {
	switch fields := n.GetColumnRef().GetFields(); len(fields) {
	case 1:
		for name := range r.names {
			return column{name, lastString(fields)}, len(r.names) == 1
		}
	case 2:
		return column{fields[0].GetString_().GetSval(), lastString(fields)}, true
	}
	return column{}, false
}

// value reports whether n is a value, or a list of such.
func value(n *pg.Node) bool {
	switch x := n.GetNode().(type) {
	case *pg.Node_AConst, *pg.Node_ParamRef:
		return true
	case *pg.Node_TypeCast:
		return value(x.TypeCast.GetArg())
	case *pg.Node_List:
		return !slices.ContainsFunc(x.List.GetItems(), func(n *pg.Node) bool { return !value(n) })
	case *pg.Node_AArrayExpr:
		return !slices.ContainsFunc(x.AArrayExpr.GetElements(), func(n *pg.Node) bool { return !value(n) })
	}
	return false
}

// bounded follows the equalities: of a table whose key is fixed all columns are.
func (r *rowBound) bounded() bool {
	if r.other || len(r.names) == 0 {
		return false
	}
	open := make(map[string]*pg.RangeVar, len(r.names))
	for name, rv := range r.names {
		open[name] = rv
	}
	for again := true; again; {
		again = false
		for name, rv := range open {
			if r.keyed(name, rv) {
				delete(open, name)
				again = true
			}
		}
		for _, e := range r.equals {
			for i, c := range e {
				if from := e[1-i]; !r.fixed[c] && (r.fixed[from] || open[from.table] == nil && r.names[from.table] != nil) {
					r.fixed[c] = true
					again = true
				}
			}
		}
	}
	return len(open) == 0
}

// keyed reports whether the columns of a unique key are fixed: of every table of that name,
// or, where the catalog does not know them, of the column that is mostly called so.
func (r *rowBound) keyed(name string, rv *pg.RangeVar) bool {
	var tables []*catalog.Table
	if r.Tables != nil {
		tables = r.Tables(rv.GetSchemaname(), rv.GetRelname())
	}
	if len(tables) == 0 {
		return r.fixed[column{name, "id"}]
	}
	for _, t := range tables {
		if !slices.ContainsFunc(t.Keys, func(k catalog.Key) bool {
			return !slices.ContainsFunc(k.Columns, func(c string) bool { return !r.fixed[column{name, c}] })
		}) {
			return false
		}
	}
	return true
}
