package tenant

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/setting"
)

// isValue reports whether an expression has one value that is not NULL by itself
// and depends on no row: a constant, a parameter, current_setting, current_user, and casts, COALESCE
// and NULLIF of these. What may turn out to be NULL, as an unset parameter may,
// compares equal to nothing.
func isValue(n *pg.Node) bool {
	switch e := n.GetNode().(type) {
	case *pg.Node_AConst:
		return !e.AConst.GetIsnull()
	case *pg.Node_ParamRef:
		return true
	case *pg.Node_TypeCast:
		t := e.TypeCast.GetTypeName()
		return isValue(e.TypeCast.GetArg()) && !inexact(columnType(t)) && len(t.GetArrayBounds()) == 0
	case *pg.Node_CoalesceExpr:
		return !slices.ContainsFunc(e.CoalesceExpr.GetArgs(), func(a *pg.Node) bool { return !isValue(a) })
	case *pg.Node_AExpr:
		return e.AExpr.GetKind() == pg.A_Expr_Kind_AEXPR_NULLIF && isOperator(e.AExpr, "=") &&
			isValue(e.AExpr.GetLexpr()) && isValue(e.AExpr.GetRexpr())
	case *pg.Node_FuncCall:
		return settingName(e.FuncCall) != ""
	case *pg.Node_SqlvalueFunction:
		switch e.SqlvalueFunction.GetOp() {
		case pg.SQLValueFunctionOp_SVFOP_CURRENT_ROLE, pg.SQLValueFunctionOp_SVFOP_CURRENT_USER,
			pg.SQLValueFunctionOp_SVFOP_USER, pg.SQLValueFunctionOp_SVFOP_SESSION_USER:
			return true
		}
	}
	return false
}

// inexact types take different values for equal ones.
func inexact(name string) bool {
	switch name {
	case "float4", "float8", "bpchar", "citext", "money":
		return true
	}
	return strings.HasSuffix(name, ".citext")
}

// settingName is the name of the setting that a call of current_setting reads.
func settingName(f *pg.FuncCall) string {
	schema, name := qualified(texts(f.GetFuncname()))
	if name != "current_setting" || schema != "" && schema != "pg_catalog" || len(f.GetArgs()) == 0 {
		return ""
	}
	arg := f.GetArgs()[0]
	if cast := arg.GetTypeCast(); cast != nil { // as pg_get_viewdef writes it
		arg = cast.GetArg()
	}
	return setting.Fold(arg.GetAConst().GetSval().GetSval())
}

// isArray reports whether an expression is an array that depends on no row, and
// returns its elements if the text lists them.
func isArray(n *pg.Node) (elements []*pg.Node, ok bool) {
	switch e := n.GetNode().(type) {
	case *pg.Node_AArrayExpr:
		for _, x := range e.AArrayExpr.GetElements() {
			if !isValue(x) {
				return nil, false
			}
		}
		return e.AArrayExpr.GetElements(), len(e.AArrayExpr.GetElements()) > 0
	case *pg.Node_TypeCast:
		if inexact(strings.TrimSuffix(columnType(e.TypeCast.GetTypeName()), "[]")) {
			return nil, false
		}
		return isArray(e.TypeCast.GetArg())
	case *pg.Node_AConst, *pg.Node_ParamRef:
		return nil, isValue(n)
	case *pg.Node_FuncCall:
		schema, name := qualified(texts(e.FuncCall.GetFuncname()))
		args := e.FuncCall.GetArgs()
		return nil, name == "string_to_array" && (schema == "" || schema == "pg_catalog") &&
			!slices.ContainsFunc(args, func(a *pg.Node) bool { return !isValue(a) })
	}
	return nil, false
}

// comparable describes a value that can be compared with the session's tenant.
func comparable(n *pg.Node) (Value, bool) {
	switch e := n.GetNode().(type) {
	case *pg.Node_TypeCast:
		return comparable(e.TypeCast.GetArg())
	case *pg.Node_ParamRef:
		return Value{Param: int(e.ParamRef.GetNumber())}, e.ParamRef.GetNumber() > 0
	case *pg.Node_FuncCall:
		name := settingName(e.FuncCall)
		return Value{Setting: name}, name != ""
	case *pg.Node_AConst:
		text, ok := constant(e.AConst)
		return Value{Text: text, Offset: int(e.AConst.GetLocation())}, ok
	}
	return Value{}, false
}

func constant(c *pg.A_Const) (string, bool) {
	switch v := c.GetVal().(type) {
	case *pg.A_Const_Sval:
		return v.Sval.GetSval(), true
	case *pg.A_Const_Ival:
		return strconv.Itoa(int(v.Ival.GetIval())), true
	case *pg.A_Const_Fval:
		return v.Fval.GetFval(), true
	case *pg.A_Const_Boolval:
		return strconv.FormatBool(v.Boolval.GetBoolval()), true
	}
	return "", false
}

// isOperator reports whether an expression's operator is PostgreSQL's own of that name.
func isOperator(e *pg.A_Expr, name string) bool { return operatorIs(e.GetName(), name) }

func operatorIs(list []*pg.Node, name string) bool {
	schema, own := qualified(texts(list))
	return own == name && (schema == "" || schema == "pg_catalog")
}

// keepsApart reports whether a cast of a column makes no two different values
// equal. With the type of the column unknown, only text is certain to.
func keepsApart(from string, t *pg.TypeName) bool {
	to := columnType(t)
	if from == valueType {
		return !inexact(to)
	}
	if len(t.GetTypmods()) > 0 || inexact(from) {
		return false
	}
	switch to {
	case "text", "varchar":
		return from != "name"
	case "int2", "int4", "int8", "numeric":
		return from == to || from == "int2" || from == "int4" || from == "int8"
	}
	return from != "" && from == to && !inexact(to)
}

// ValueOf is the value that an argument of EXECUTE is; ok is false if it is computed.
func ValueOf(n *pg.Node) (v Value, ok bool) { return comparable(n) }
