package simpg

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

func (a *analysis) logic(b *pg.BoolExpr, s *scope) expr {
	var args []expr
	for _, n := range b.Args {
		args = append(args, a.condition(n, s, map[pg.BoolExprType]string{pg.BoolExprType_AND_EXPR: "AND", pg.BoolExprType_OR_EXPR: "OR", pg.BoolExprType_NOT_EXPR: "NOT"}[b.Boolop]))
	}
	x := expr{typ: typBool, name: "?column?"}
	if b.Boolop == pg.BoolExprType_NOT_EXPR {
		x.eval = func(e *env) datum {
			v := args[0].eval(e)
			if v == nil {
				return nil
			}
			return !v.(bool)
		}
		return x
	}
	decides := b.Boolop == pg.BoolExprType_OR_EXPR
	x.eval = func(e *env) datum {
		var null bool
		for _, arg := range args {
			v := arg.eval(e)
			if v == nil {
				null = true
			} else if v.(bool) == decides {
				return decides
			}
		}
		if null {
			return nil
		}
		return !decides
	}
	return x
}

// condition is an expression that must be a boolean; of names the clause for the error.
func (a *analysis) condition(n *pg.Node, s *scope, of string) expr {
	x := a.expr(n, s)
	if x.typ != typBool && x.typ != typUnknown {
		panic(failure("42804", "argument of %s must be type boolean, not type %s", of, infoOf(x.typ).words))
	}
	return a.coerce(x, typBool)
}

func (a *analysis) booleanTest(b *pg.BooleanTest, s *scope) expr {
	x := a.condition(b.Arg, s, "IS TRUE")
	kind := b.Booltesttype
	return expr{typ: typBool, name: "?column?", eval: func(e *env) datum {
		v := x.eval(e)
		switch kind {
		case pg.BoolTestType_IS_TRUE:
			return v == true
		case pg.BoolTestType_IS_NOT_TRUE:
			return v != true
		case pg.BoolTestType_IS_FALSE:
			return v == false
		case pg.BoolTestType_IS_NOT_FALSE:
			return v != false
		case pg.BoolTestType_IS_UNKNOWN:
			return v == nil
		}
		return v != nil
	}}
}

// common makes expressions of one type: that of the first that has one.
func (a *analysis) common(list []expr) uint32 {
	typ := typUnknown
	for _, x := range list {
		if x.typ != typUnknown && (typ == typUnknown || rank(x.typ) > rank(typ)) {
			typ = x.typ
		}
	}
	if typ == typUnknown {
		typ = typText
	}
	for i := range list {
		list[i] = a.coerce(list[i], typ)
	}
	return typ
}

// rank orders the numeric types by what they hold.
func rank(typ uint32) int {
	return slices.Index([]uint32{typInt2, typInt4, typInt8, typNumeric, typFloat8}, typ)
}

func (a *analysis) caseExpr(c *pg.CaseExpr, s *scope) expr {
	var when []expr
	var results []expr
	for _, n := range c.Args {
		w := n.GetCaseWhen()
		if c.Arg != nil {
			when = append(when, a.binary("=", a.expr(c.Arg, s), a.expr(w.Expr, s), w.Location))
		} else {
			when = append(when, a.condition(w.Expr, s, "CASE/WHEN"))
		}
		results = append(results, a.expr(w.Result, s))
	}
	name := "case"
	if c.Defresult != nil {
		d := a.expr(c.Defresult, s)
		if d.name != "?column?" {
			name = d.name
		}
		results = append(results, d)
	}
	typ := a.common(results)
	return expr{typ: typ, name: name, eval: func(e *env) datum {
		for i, w := range when {
			if w.eval(e) == true {
				return results[i].eval(e)
			}
		}
		if len(results) > len(when) {
			return results[len(when)].eval(e)
		}
		return nil
	}}
}

func (a *analysis) coalesce(c *pg.CoalesceExpr, s *scope) expr {
	args := a.list(c.Args, s)
	typ := a.common(args)
	return expr{typ: typ, name: "coalesce", eval: func(e *env) datum {
		for _, x := range args {
			if v := x.eval(e); v != nil {
				return v
			}
		}
		return nil
	}}
}

func (a *analysis) minMax(m *pg.MinMaxExpr, s *scope) expr {
	args := a.list(m.Args, s)
	typ := a.common(args)
	name, sign := "greatest", 1
	if m.Op == pg.MinMaxOp_IS_LEAST {
		name, sign = "least", -1
	}
	return expr{typ: typ, name: name, eval: func(e *env) (best datum) {
		for _, x := range args {
			if v := x.eval(e); v != nil && (best == nil || compare(v, best)*sign > 0) {
				best = v
			}
		}
		return best
	}}
}
