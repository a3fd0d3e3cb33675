package tenant

import (
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/grammar"
)

// rowCheck says which rows an expression of a row-level security policy lets
// through, whatever they hold. The greater, the more; AND of two is the less of them.
type rowCheck uint8

const (
	rowsNone   rowCheck = iota // no row: false, null, or an error
	rowsBound                  // only rows of a tenant that the session or a constant names
	rowsUnsure                 // some rows, by what they or other tables hold; whose, is not known
	rowsAll                    // every row
)

// sessionState is what a session has set when a policy is evaluated.
type sessionState uint8

const (
	neverSet  sessionState = iota // no custom setting: current_setting(…, true) is null
	resetOnce                     // one was set and reset: it is '' for the rest of the connection's life
	tenantSet                     // the settings that name the tenant have a value
)

// evaluator evaluates a policy's expression without a row and without a server:
// a column stands for any value, a setting for any tenant. What it does not
// understand is unsure, never all or none.
type evaluator struct {
	state     sessionState
	settings  []string          // that name the tenant; with none given, all custom settings do
	column    string            // of the tenant
	functions map[string]string // source of SQL functions without arguments, by name and by schema.name
	depth     int
}

// value is what an expression comes to.
type value struct {
	kind valueKind
	text string // of a constant; the name of a column
	is   truth  // of a condition
}

type valueKind uint8

const (
	valueUnknown   valueKind = iota
	valueNull                // null
	valueError               // evaluating it fails
	valueText                // a known constant
	valueSession             // something the session says: a setting, its user
	valueColumn              // a column
	valueEmpty               // an empty array
	valueCondition           // true, false or null, by row
)

// maxPolicyDepth bounds functions that call functions.
const maxPolicyDepth = 8

// rows evaluates the text of an expression, as pg_get_expr gives it. Without an
// expression every row passes.
func (e *evaluator) rows(expression string) rowCheck {
	if expression == "" {
		return rowsAll
	}
	n := parseExpression(expression)
	if n == nil {
		return rowsUnsure
	}
	return e.condition(n).rows()
}

// parseExpression is the tree of an expression, or of a SELECT of nothing but one.
func parseExpression(text string) *pg.Node {
	tree, err := grammar.Parse("SELECT (" + text + ")")
	if err != nil {
		return nil
	}
	return onlyTarget(tree)
}

// onlyTarget is the expression of a text that is one SELECT of one expression and
// nothing else.
func onlyTarget(tree *pg.ParseResult) *pg.Node {
	if len(tree.GetStmts()) != 1 {
		return nil
	}
	return selected(tree.GetStmts()[0].GetStmt())
}

func selected(n *pg.Node) *pg.Node {
	s := n.GetSelectStmt()
	if s == nil || len(s.GetTargetList()) != 1 || len(s.GetFromClause()) > 0 || s.GetWhereClause() != nil ||
		s.GetHavingClause() != nil || s.GetLimitCount() != nil || s.GetLimitOffset() != nil ||
		s.GetWithClause() != nil || len(s.GetGroupClause()) > 0 || s.GetOp() != pg.SetOperation_SETOP_NONE {
		return nil
	}
	return s.GetTargetList()[0].GetResTarget().GetVal()
}

// condition evaluates n as a condition.
func (e *evaluator) condition(n *pg.Node) truth { return e.value(n).condition() }

func (v value) condition() truth {
	switch v.kind {
	case valueNull:
		return nullTruth
	case valueError:
		return truth{}
	case valueCondition:
		return v.is
	case valueText:
		if b, ok := boolean(v.text); ok {
			return truthOf(b)
		}
		return truth{}
	case valueUnknown, valueSession, valueColumn, valueEmpty:
	}
	return anyTruth
}

func condition(t truth) value {
	switch {
	case t == nullTruth:
		return null
	case t.fails():
		return failure
	}
	return value{kind: valueCondition, is: t}
}

var (
	null    = value{kind: valueNull}
	failure = value{kind: valueError}
)

// value evaluates n.
func (e *evaluator) value(n *pg.Node) value {
	switch x := n.GetNode().(type) {
	case *pg.Node_AConst:
		return literalValue(x.AConst)
	case *pg.Node_ColumnRef:
		return columnOf(x.ColumnRef)
	case *pg.Node_TypeCast:
		return cast(e.value(x.TypeCast.GetArg()), typeName(x.TypeCast.GetTypeName()))
	case *pg.Node_BoolExpr:
		return condition(e.logic(x.BoolExpr))
	case *pg.Node_AExpr:
		return e.compare(x.AExpr)
	case *pg.Node_NullTest:
		return e.nullTest(x.NullTest)
	case *pg.Node_BooleanTest:
		return condition(e.booleanTest(x.BooleanTest))
	case *pg.Node_CoalesceExpr:
		return e.coalesce(x.CoalesceExpr.GetArgs())
	case *pg.Node_CaseExpr:
		return e.cases(x.CaseExpr)
	case *pg.Node_FuncCall:
		return e.call(x.FuncCall)
	case *pg.Node_SqlvalueFunction:
		return value{kind: valueSession}
	case *pg.Node_SubLink:
		return e.subquery(x.SubLink)
	case *pg.Node_CollateClause:
		return e.value(x.CollateClause.GetArg())
	}
	return value{}
}

func literalValue(c *pg.A_Const) value {
	if c.GetIsnull() {
		return null
	}
	text := func(s string) value { return value{kind: valueText, text: s} }
	switch x := c.GetVal().(type) {
	case *pg.A_Const_Boolval:
		return condition(truthOf(x.Boolval.GetBoolval()))
	case *pg.A_Const_Sval:
		return text(x.Sval.GetSval())
	case *pg.A_Const_Ival:
		return text(strconv.Itoa(int(x.Ival.GetIval())))
	case *pg.A_Const_Fval:
		return text(x.Fval.GetFval())
	}
	return value{}
}

// columnOf is a column of the policy's table; the last part is its name.
func columnOf(c *pg.ColumnRef) value {
	fields := c.GetFields()
	if len(fields) == 0 {
		return value{}
	}
	s := fields[len(fields)-1].GetString_()
	if s == nil {
		return value{}
	}
	return value{kind: valueColumn, text: s.GetSval()}
}

func typeName(t *pg.TypeName) string {
	if len(t.GetArrayBounds()) > 0 || len(t.GetNames()) == 0 {
		return "[]"
	}
	return t.GetNames()[len(t.GetNames())-1].GetString_().GetSval()
}

// cast fails where PostgreSQL's does: an empty text is no number, uuid or Boolean.
func cast(v value, to string) value {
	if v.kind == valueCondition && to != "bool" {
		return value{}
	}
	if v.kind != valueText {
		return v
	}
	switch to {
	case "text", "varchar", "bpchar", "name":
		return v
	case "bool":
		b, ok := boolean(v.text)
		if !ok {
			return failure
		}
		return condition(truthOf(b))
	case "int2", "int4", "int8":
		if _, err := strconv.ParseInt(strings.TrimSpace(v.text), 10, 64); err != nil {
			return failure
		}
		return value{kind: valueText, text: canonical(v.text)}
	case "uuid":
		if v.text == "" {
			return failure
		}
		return value{kind: valueText, text: canonical(v.text)}
	case "[]":
		if v.text == "{}" {
			return value{kind: valueEmpty}
		}
	}
	if strings.TrimSpace(v.text) == "" {
		return failure // as of any other type that matters here
	}
	return value{}
}

// boolean reads what PostgreSQL's Boolean input does.
func boolean(s string) (b, ok bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	for _, word := range []string{"true", "yes", "on", "1"} {
		if s == word || s != "" && s != "o" && strings.HasPrefix(word, s) {
			return true, true
		}
	}
	for _, word := range []string{"false", "no", "off", "0"} {
		if s == word || s != "" && s != "o" && strings.HasPrefix(word, s) {
			return false, true
		}
	}
	return false, false
}

// logic is AND, OR and NOT.
func (e *evaluator) logic(b *pg.BoolExpr) truth {
	args := b.GetArgs()
	if x := args[0].GetAExpr(); b.GetBoolop() == pg.BoolExprType_NOT_EXPR && x.GetKind() == pg.A_Expr_Kind_AEXPR_DISTINCT {
		return e.notDistinct(e.value(x.GetLexpr()), e.value(x.GetRexpr())) // as PostgreSQL writes it
	}
	t := e.condition(args[0])
	switch b.GetBoolop() {
	case pg.BoolExprType_NOT_EXPR:
		return t.not()
	case pg.BoolExprType_AND_EXPR:
		for _, a := range args[1:] {
			t = t.and(e.condition(a))
		}
	default:
		for _, a := range args[1:] {
			t = t.or(e.condition(a))
		}
	}
	return t
}
