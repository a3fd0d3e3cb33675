package tenant

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/grammar"
	"github.com/pgweir/pgweir/internal/setting"
)

// compare evaluates an operator.
func (e *evaluator) compare(x *pg.A_Expr) value {
	op, a := operatorName(x), e.value(x.GetLexpr())
	switch x.GetKind() {
	case pg.A_Expr_Kind_AEXPR_NULLIF:
		return nullIf(a, e.value(x.GetRexpr()))
	case pg.A_Expr_Kind_AEXPR_OP:
		return condition(e.operator(op, a, e.value(x.GetRexpr())))
	case pg.A_Expr_Kind_AEXPR_OP_ANY:
		if op == "=" {
			return condition(e.anyOf(a, x.GetRexpr()))
		}
	case pg.A_Expr_Kind_AEXPR_IN:
		if op == "=" {
			return condition(e.oneOf(a, x.GetRexpr().GetList().GetItems()))
		}
	case pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		return condition(e.notDistinct(a, e.value(x.GetRexpr())))
	case pg.A_Expr_Kind_AEXPR_DISTINCT:
		return condition(e.notDistinct(a, e.value(x.GetRexpr())).not())
	}
	return condition(anyTruth)
}

func operatorName(x *pg.A_Expr) string {
	names := x.GetName()
	if len(names) == 0 {
		return ""
	}
	return names[len(names)-1].GetString_().GetSval()
}

func nullIf(a, b value) value {
	switch {
	case a.kind == valueNull || a.kind == valueText && b == a:
		return null // whether b fails or not
	case a.kind == valueError || b.kind == valueError:
		return failure
	case b.kind == valueNull, a.kind == valueText && b.kind == valueText:
		return a
	case a.kind == valueSession && b.kind == valueText && b.text == "":
		return a // a tenant is not the text that stands for none
	}
	return value{}
}

// operator evaluates a op b. All operators that matter are strict: with a null the
// planner does not look at the other side, which may fail.
func (e *evaluator) operator(op string, a, b value) truth {
	switch {
	case a.kind == valueNull || b.kind == valueNull:
		return nullTruth
	case a.kind == valueError || b.kind == valueError:
		return truth{}
	case op == "=":
		return e.equal(a, b)
	case op == "<>" && a.kind == valueText && b.kind == valueText:
		return truthOf(a.text != b.text)
	}
	return anyTruth
}

// equal is a = b of two values of which neither is surely null.
func (e *evaluator) equal(a, b value) truth {
	if b.kind == valueColumn {
		a, b = b, a
	}
	tenants := a.kind == valueColumn && a.text == e.column
	switch {
	case tenants && b.kind == valueColumn && a.text == b.text:
		return truthOf(true) // but for rows of no tenant
	case tenants && (b.kind == valueText || b.kind == valueSession):
		return boundTruth
	case a.kind == valueText && b.kind == valueText:
		return truthOf(a.text == b.text)
	case a.kind == valueCondition || b.kind == valueCondition:
		return a.condition().equals(b.condition())
	}
	return anyTruth
}

// anyOf is a = ANY (array).
func (e *evaluator) anyOf(a value, array *pg.Node) truth {
	if x := array.GetAArrayExpr(); x != nil {
		return e.oneOf(a, x.GetElements())
	}
	if c := array.GetTypeCast(); c != nil && c.GetArg().GetAArrayExpr() != nil {
		return e.oneOf(a, c.GetArg().GetAArrayExpr().GetElements())
	}
	switch v := e.value(array); {
	case a.kind == valueError || v.kind == valueError:
		return truth{}
	case v.kind == valueNull:
		return nullTruth
	case v.kind == valueEmpty:
		return truthOf(false)
	case a.kind == valueColumn && a.text == e.column && v.kind == valueSession:
		return boundTruth
	}
	return anyTruth
}

func (e *evaluator) oneOf(a value, list []*pg.Node) truth {
	t := truthOf(false)
	for _, n := range list {
		t = t.or(e.operator("=", a, e.value(n)))
	}
	return t
}

// notDistinct is a IS NOT DISTINCT FROM b, which is never null.
func (e *evaluator) notDistinct(a, b value) truth {
	if a.kind == valueNull {
		a, b = b, a
	}
	switch {
	case a.kind == valueError || b.kind == valueError:
		return truth{}
	case b.kind == valueNull:
		return e.isNull(a)
	}
	t := e.operator("=", a, b)
	if t == truthOf(true) || t == truthOf(false) {
		return t
	}
	return truth{yes: true, no: true, bound: t.bound}
}

// isNull is a IS NULL.
func (e *evaluator) isNull(a value) truth {
	switch a.kind {
	case valueError:
		return truth{}
	case valueNull:
		return truthOf(true)
	case valueText, valueSession, valueEmpty:
		return truthOf(false)
	case valueCondition:
		return a.is.asks(truth{null: true})
	case valueColumn:
		if a.text == e.column {
			return truth{yes: true, no: true, bound: true} // rows of no tenant
		}
	case valueUnknown:
	}
	return truth{yes: true, no: true}
}

func (e *evaluator) nullTest(t *pg.NullTest) value {
	v := e.value(t.GetArg())
	switch {
	case t.GetNulltesttype() == pg.NullTestType_IS_NULL:
		return condition(e.isNull(v))
	case v.kind == valueColumn && v.text == e.column:
		return condition(truthOf(true)) // but for rows of no tenant
	}
	return condition(e.isNull(v).not())
}

func (e *evaluator) booleanTest(t *pg.BooleanTest) truth {
	is := e.condition(t.GetArg())
	switch t.GetBooltesttype() {
	case pg.BoolTestType_IS_TRUE:
		return is.asks(truth{yes: true})
	case pg.BoolTestType_IS_NOT_TRUE:
		return is.asks(truth{no: true, null: true})
	case pg.BoolTestType_IS_FALSE:
		return is.asks(truth{no: true})
	case pg.BoolTestType_IS_NOT_FALSE:
		return is.asks(truth{yes: true, null: true})
	case pg.BoolTestType_IS_UNKNOWN:
		return is.asks(truth{null: true})
	case pg.BoolTestType_IS_NOT_UNKNOWN:
		return is.asks(truth{yes: true, no: true})
	}
	return anyTruth
}

// coalesce is the first value that is not null, as far as that is certain.
func (e *evaluator) coalesce(args []*pg.Node) value {
	for i, a := range args {
		v := e.value(a)
		switch {
		case v.kind == valueNull:
		case v.kind == valueCondition && v.is.null:
			return condition(v.is.orElse(e.coalesce(args[i+1:]).condition()))
		case v.kind == valueColumn && v.text != e.column && i+1 < len(args):
			return value{} // it may be null
		default:
			return v
		}
	}
	return null
}

// cases is CASE. Where it cannot be known which arm counts, it may be any that can be
// reached, which only conditions tell.
func (e *evaluator) cases(c *pg.CaseExpr) value {
	if c.GetArg() != nil {
		return value{}
	}
	var arms []value
	var when []truth // for the arm
	reachable := true
	for _, n := range c.GetArgs() {
		w := n.GetCaseWhen()
		t := e.condition(w.GetExpr())
		if t.yes {
			arms, when = append(arms, e.value(w.GetResult())), append(when, t)
		}
		if reachable = t.no || t.null; !reachable {
			break
		}
	}
	if reachable {
		last := null
		if c.GetDefresult() != nil {
			last = e.value(c.GetDefresult())
		}
		arms, when = append(arms, last), append(when, truthOf(true))
	}
	if len(arms) == 1 && !when[0].bound {
		return arms[0]
	}
	var all truth
	for i, v := range arms {
		if v.kind != valueCondition && v.kind != valueNull && v.kind != valueError {
			return value{}
		}
		arm := v.condition()
		arm.bound = arm.yes && (arm.bound || when[i].bound)
		all = all.either(arm)
	}
	return condition(all)
}

// call evaluates the functions policies are made of.
func (e *evaluator) call(f *pg.FuncCall) value {
	name := functionName(f)
	switch strings.TrimPrefix(name, "pg_catalog.") {
	case "current_setting":
		return e.setting(f.GetArgs())
	case "lower", "upper", "btrim", "ltrim", "rtrim":
		if len(f.GetArgs()) == 1 {
			return changed(e.value(f.GetArgs()[0]), strings.TrimPrefix(name, "pg_catalog."))
		}
	case "string_to_array":
		if len(f.GetArgs()) > 0 {
			return split(e.value(f.GetArgs()[0]))
		}
	}
	source, ok := e.functions[name]
	if !ok || len(f.GetArgs()) > 0 || e.depth >= maxPolicyDepth {
		return value{}
	}
	tree, err := grammar.Parse(source)
	if err != nil {
		return value{}
	}
	body := onlyTarget(tree)
	if body == nil {
		return value{}
	}
	e.depth++
	defer func() { e.depth-- }()
	return e.value(body)
}

func functionName(f *pg.FuncCall) string {
	var parts []string
	for _, n := range f.GetFuncname() {
		parts = append(parts, n.GetString_().GetSval())
	}
	return strings.Join(parts, ".")
}

// changed is a function of one text that keeps apart what is apart, as far as tenants go.
func changed(v value, function string) value {
	if v.kind != valueText {
		return v
	}
	switch function {
	case "lower":
		v.text = strings.ToLower(v.text)
	case "upper":
		v.text = strings.ToUpper(v.text)
	default:
		v.text = strings.Trim(v.text, " ")
	}
	return v
}

func split(v value) value {
	switch {
	case v.kind == valueText && v.text == "":
		return value{kind: valueEmpty}
	case v.kind == valueText:
		return value{}
	}
	return v
}

// setting is current_setting(name [, missing_ok]).
func (e *evaluator) setting(args []*pg.Node) value {
	if len(args) == 0 {
		return value{}
	}
	name := e.value(args[0])
	if name.kind != valueText || !strings.Contains(name.text, ".") {
		return value{kind: valueSession} // the server's own always have a value
	}
	missingOK := len(args) > 1 && e.condition(args[1]) == truthOf(true)
	switch {
	case e.state == tenantSet && e.names(name.text):
		return value{kind: valueSession}
	case e.state == resetOnce:
		return value{kind: valueText}
	case !missingOK:
		return failure
	}
	return null
}

// names reports whether a custom setting names the tenant.
func (e *evaluator) names(name string) bool {
	return len(e.settings) == 0 || slices.ContainsFunc(e.settings, func(s string) bool { return setting.Fold(s) == setting.Fold(name) })
}

// subquery is (SELECT expression), which keeps PostgreSQL from evaluating it for every row.
func (e *evaluator) subquery(s *pg.SubLink) value {
	if s.GetSubLinkType() == pg.SubLinkType_EXPR_SUBLINK {
		if n := selected(s.GetSubselect()); n != nil {
			return e.value(n)
		}
	}
	return value{}
}
