// Package shape says of a SELECT's parse tree what it returns: how many rows at most, of
// which table, counted or not. It is asked once for a text, by the making of its plan.
package shape

import (
	"slices"
	"strconv"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/router/catalog"
)

// Known is what is known of the database.
type Known struct {
	// Tables are those of a name; with an empty schema, those in every schema. nil: no
	// table is known.
	Tables func(schema, name string) []*catalog.Table
	// Tenants are the columns that hold the tenant.
	Tenants []string
}

// Of is what a SELECT says of the rows it returns.
func Of(s *pg.SelectStmt, known Known) insight.Shape {
	r := rowBound{Known: known, names: map[string]*pg.RangeVar{}, fixed: map[column]bool{}}
	for _, n := range s.GetFromClause() {
		r.from(n)
	}
	r.condition(s.GetWhereClause())
	shape := insight.Shape{
		Reads:  len(s.GetLockingClause()) == 0 && s.GetIntoClause() == nil && s.GetOp() == pg.SetOperation_SETOP_NONE && len(s.GetValuesLists()) == 0,
		Groups: len(s.GetGroupClause()) > 0, Offset: s.GetLimitOffset() != nil, Table: firstTable(s), Keys: r.keys,
	}
	var aggregates bool
	shape.Counts, aggregates = called(s.GetTargetList())
	switch {
	case s.GetLimitCount() != nil && !s.GetLimitCount().GetAConst().GetIsnull():
		shape.Bound = insight.BoundLimit
	case aggregates && !shape.Groups:
		shape.Bound = insight.BoundAggregate
	case len(s.GetFromClause()) == 0 && shape.Reads:
		shape.Bound = insight.BoundValues
	case r.bounded():
		shape.Bound = insight.BoundKey
	case slices.ContainsFunc(r.keys, r.foreign):
		shape.Bound = insight.BoundForeign
	}
	if shape.Bound == insight.BoundLimit && !shape.Counts || shape.Counts && !shape.Groups {
		shape.Source = source(s)
	}
	for _, n := range s.GetSortClause() {
		c := lastField(n.GetSortBy().GetNode())
		if c == "" {
			shape.Order = nil
			break
		}
		shape.Order = append(shape.Order, c)
	}
	return shape
}

// called reports whether columns count rows, or are other aggregates that make one row of all.
func called(columns []*pg.Node) (counts, aggregates bool) {
	for _, n := range columns {
		f := calledBy(n.GetResTarget().GetVal())
		counts = counts || f == "count"
		aggregates = aggregates || counts || oneRow[f]
	}
	return counts, aggregates
}

// oneRow are the aggregates that make one row of many; those that nobody knows are not.
var oneRow = map[string]bool{
	"sum": true, "avg": true, "min": true, "max": true, "array_agg": true, "string_agg": true, "json_agg": true, "jsonb_agg": true,
	"bool_and": true, "bool_or": true, "every": true, "json_object_agg": true, "jsonb_object_agg": true, "stddev": true, "variance": true,
}

// calledBy is the aggregate that an expression begins with, through casts and COALESCE.
func calledBy(n *pg.Node) string {
	for n != nil {
		switch x := n.GetNode().(type) {
		case *pg.Node_FuncCall:
			if x.FuncCall.GetOver() != nil {
				return ""
			}
			name := lastString(x.FuncCall.GetFuncname())
			if args := x.FuncCall.GetArgs(); name != "count" && !oneRow[name] && len(args) > 0 {
				n = args[0] // round(avg(x))
				continue
			}
			return name
		case *pg.Node_TypeCast:
			n = x.TypeCast.GetArg()
		case *pg.Node_CoalesceExpr:
			n = x.CoalesceExpr.GetArgs()[0]
		case *pg.Node_AExpr:
			n = x.AExpr.GetLexpr()
		default:
			return ""
		}
	}
	return ""
}

func lastString(list []*pg.Node) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1].GetString_().GetSval()
}

// lastField is the column that n names, without its table; empty if it is no column.
func lastField(n *pg.Node) string { return lastString(n.GetColumnRef().GetFields()) }

// firstTable is the table that a SELECT reads first, in queries within it too.
func firstTable(s *pg.SelectStmt) string {
	if l := s.GetLarg(); l != nil {
		return firstTable(l)
	}
	for _, n := range s.GetFromClause() {
		for n.GetJoinExpr() != nil {
			n = n.GetJoinExpr().GetLarg()
		}
		if rv := n.GetRangeVar(); rv != nil {
			if schema := rv.GetSchemaname(); schema != "" {
				return schema + "." + rv.GetRelname()
			}
			return rv.GetRelname()
		}
		if q := n.GetRangeSubselect().GetSubquery().GetSelectStmt(); q != nil {
			return firstTable(q)
		}
	}
	return ""
}

// source is the fingerprint of what a SELECT reads under which conditions: of the query
// within it, if it only counts that.
func source(s *pg.SelectStmt) string {
	if from := s.GetFromClause(); len(from) == 1 && s.GetWhereClause() == nil {
		q := from[0].GetRangeSubselect().GetSubquery().GetSelectStmt()
		if q != nil && q.GetLimitCount() == nil && len(q.GetGroupClause()) == 0 && len(q.GetDistinctClause()) == 0 {
			s = q
		}
	}
	bare := &pg.SelectStmt{FromClause: s.GetFromClause(), WhereClause: s.GetWhereClause(), LimitOption: pg.LimitOption_LIMIT_OPTION_DEFAULT, Op: pg.SetOperation_SETOP_NONE}
	text, err := pg.Deparse(&pg.ParseResult{Stmts: []*pg.RawStmt{{Stmt: &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: bare}}}}})
	if err != nil {
		return ""
	}
	return grammar.Fingerprint(text)
}

// Offset is where a SELECT says how many rows it skips: the literal's place in the text, or
// -1 and the number of the parameter, which is 0 if there is none either.
func Offset(s *pg.SelectStmt) (at, param int) {
	n := s.GetLimitOffset()
	if cast := n.GetTypeCast(); cast != nil {
		n = cast.GetArg()
	}
	if c := n.GetAConst(); c != nil {
		return int(c.GetLocation()), 0
	}
	return -1, int(n.GetParamRef().GetNumber())
}

// Rows reads a number of rows as text gives it; what is none is 0.
func Rows(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return max(n, 0)
}
