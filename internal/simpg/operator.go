package simpg

import (
	"fmt"
	"math/big"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// operator analyzes what is written with an operator.
func (a *analysis) operator(x *pg.A_Expr, s *scope) expr {
	op := x.Name[len(x.Name)-1].GetString_().GetSval()
	switch x.Kind {
	case pg.A_Expr_Kind_AEXPR_OP:
		if x.Lexpr == nil {
			return a.prefix(op, a.expr(x.Rexpr, s), x.Location)
		}
		return a.binary(op, a.expr(x.Lexpr, s), a.expr(x.Rexpr, s), x.Location)
	case pg.A_Expr_Kind_AEXPR_LIKE:
		return a.binary(op, a.expr(x.Lexpr, s), a.expr(x.Rexpr, s), x.Location)
	case pg.A_Expr_Kind_AEXPR_DISTINCT, pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		l, r := a.expr(x.Lexpr, s), a.expr(x.Rexpr, s)
		eq := a.binary("=", l, r, x.Location)
		same := x.Kind == pg.A_Expr_Kind_AEXPR_NOT_DISTINCT
		return expr{typ: typBool, name: "?column?", eval: func(e *env) datum {
			lv, rv := l.eval(e), r.eval(e)
			if lv == nil || rv == nil {
				return (lv == nil && rv == nil) == same
			}
			return (eq.eval(e) == true) == same
		}}
	case pg.A_Expr_Kind_AEXPR_NULLIF:
		l, r := a.expr(x.Lexpr, s), a.expr(x.Rexpr, s)
		eq := a.binary("=", l, r, x.Location)
		l = a.known(l)
		l.name = "nullif"
		inner := l.eval
		l.eval = func(e *env) datum {
			if eq.eval(e) == true {
				return nil
			}
			return inner(e)
		}
		return l
	case pg.A_Expr_Kind_AEXPR_IN:
		return a.in(op, x, s)
	case pg.A_Expr_Kind_AEXPR_OP_ANY, pg.A_Expr_Kind_AEXPR_OP_ALL:
		return a.anyAll(op, x, s)
	case pg.A_Expr_Kind_AEXPR_BETWEEN:
		l, bounds := a.expr(x.Lexpr, s), x.Rexpr.GetList().Items
		lo, hi := a.binary(">=", l, a.expr(bounds[0], s), x.Location), a.binary("<=", l, a.expr(bounds[1], s), x.Location)
		return expr{typ: typBool, name: "?column?", eval: func(e *env) datum { return lo.eval(e) == true && hi.eval(e) == true }}
	}
	raise("0A000", "simpg: %v is not modelled", x.Kind)
	return expr{}
}

func (a *analysis) in(op string, x *pg.A_Expr, s *scope) expr {
	var each []expr
	for _, n := range x.Rexpr.GetList().Items {
		each = append(each, a.binary("=", a.expr(x.Lexpr, s), a.expr(n, s), x.Location))
	}
	return expr{typ: typBool, name: "?column?", eval: func(e *env) datum {
		var result datum = op != "="
		for _, c := range each {
			switch c.eval(e) {
			case true:
				return op == "="
			case nil:
				result = nil
			}
		}
		return result
	}}
}

// anyAll is an operator over the elements of an array.
func (a *analysis) anyAll(op string, x *pg.A_Expr, s *scope) expr {
	all := x.Kind == pg.A_Expr_Kind_AEXPR_OP_ALL
	l, r := a.expr(x.Lexpr, s), a.expr(x.Rexpr, s)
	if r.typ == typUnknown {
		to := typTextArray
		if l.typ == typInt4 || l.typ == typInt8 || l.typ == typOID {
			to = typInt4Array
		}
		r = a.coerce(r, to)
	}
	of := typText
	if r.typ == typInt4Array {
		of = typInt4
	}
	var element datum
	cmp := a.binary(op, l, expr{typ: of, eval: func(*env) datum { return element }}, x.Location)
	return expr{typ: typBool, name: "?column?", eval: func(e *env) datum {
		list, ok := r.eval(e).([]datum)
		if !ok {
			return nil
		}
		var result datum = all
		for _, element = range list {
			switch v := cmp.eval(e); v {
			case !all:
				return v
			case nil:
				result = nil
			}
		}
		return result
	}}
}

func (a *analysis) prefix(op string, x expr, location int32) expr {
	if op != "-" && op != "+" || rank(x.typ) < 0 {
		at(location, failure("42883", "operator does not exist: %s %s", op, infoOf(x.typ).words))
	}
	inner := x.eval
	return expr{typ: x.typ, name: "?column?", eval: func(e *env) datum {
		switch v := inner(e).(type) {
		case int64:
			if op == "-" {
				v = -v
			}
			return v
		case float64:
			if op == "-" {
				v = -v
			}
			return v
		case string:
			if op == "-" {
				return "-" + v
			}
			return v
		}
		return nil
	}}
}

// binary analyzes an operator between two operands. What has no type takes the other's.
func (a *analysis) binary(op string, l, r expr, location int32) expr {
	asked := [2]uint32{l.typ, r.typ}
	if returns, f := temporal(op, l.typ, r.typ); f != nil {
		return expr{typ: returns, name: "?column?", eval: func(e *env) datum {
			lv, rv := l.eval(e), r.eval(e)
			if lv == nil || rv == nil {
				return nil
			}
			return f(lv, rv)
		}}
	}
	both := func(typ uint32) { l, r = a.coerce(l, typ), a.coerce(r, typ) }
	switch {
	case op == "||":
		l, r = a.known(l), a.known(r)
	case l.typ == typUnknown && r.typ == typUnknown:
		both(typText)
	case l.typ == typUnknown:
		l = a.coerce(l, r.typ)
	case r.typ == typUnknown:
		r = a.coerce(r, l.typ)
	case rank(l.typ) >= 0 && rank(r.typ) >= 0:
		if rank(l.typ) > rank(r.typ) {
			r = a.coerce(r, l.typ)
		} else {
			l = a.coerce(l, r.typ)
		}
	}
	x := expr{typ: typBool, name: "?column?"}
	f := operation(op, l.typ, r.typ)
	if f == nil {
		e := failure("42883", "operator does not exist: %s %s %s", infoOf(asked[0]).words, op, infoOf(asked[1]).words)
		e.Hint = "No operator matches the given name and argument types. You might need to add explicit type casts."
		at(location, e)
	}
	switch op {
	case "||":
		x.typ = typText
	case "+", "-", "*", "/", "%":
		x.typ = l.typ
	}
	typ := x.typ
	x.eval = func(e *env) datum {
		lv := l.eval(e)
		if lv == nil {
			return nil
		}
		rv := r.eval(e)
		if rv == nil {
			return nil
		}
		v := f(lv, rv)
		if n, ok := v.(int64); ok {
			return inRange(n, typ)
		}
		return v
	}
	return a.fold(x, l, r)
}

// operation is what an operator does with two values that are not NULL; nil is that there
// is no such operator.
func operation(op string, l, r uint32) func(l, r datum) datum {
	textual := func(t uint32) bool { return infoOf(t).category == 'S' || t == typChar }
	comparable := l == r || rank(l) >= 0 && rank(r) >= 0 || textual(l) && textual(r) || (l == typOID || r == typOID) && rank(l)+rank(r) >= -1 || l == typOID && r == typRegclass
	order := func(l, r datum) int {
		if ls, ok := l.(string); ok {
			if lf, rf, ok := numbers(ls, r); ok {
				return lf.Cmp(rf)
			}
		}
		return compare(l, r)
	}
	if l != typNumeric && r != typNumeric {
		order = compare
	}
	if comparable {
		switch op {
		case "=":
			return func(l, r datum) datum { return order(l, r) == 0 }
		case "<>":
			return func(l, r datum) datum { return order(l, r) != 0 }
		case "<":
			return func(l, r datum) datum { return order(l, r) < 0 }
		case "<=":
			return func(l, r datum) datum { return order(l, r) <= 0 }
		case ">":
			return func(l, r datum) datum { return order(l, r) > 0 }
		case ">=":
			return func(l, r datum) datum { return order(l, r) >= 0 }
		}
	}
	switch {
	case op == "||" && (textual(l) || textual(r)):
		return func(l, r datum) datum { return textOf(l) + textOf(r) }
	case (op == "~~" || op == "!~~") && textual(l) && textual(r):
		return func(l, r datum) datum { return like(l.(string), r.(string)) == (op == "~~") }
	case rank(l) < 0 || rank(r) < 0:
		return nil
	case l == typNumeric:
		return decimal(op)
	case l == typFloat8:
		return floating(op)
	}
	return whole(op)
}

func textOf(d datum) string {
	if b, ok := d.(bool); ok {
		return fmt.Sprint(b)
	}
	return output(d)
}

func numbers(l string, r datum) (lf, rf *big.Rat, ok bool) {
	lf, ok1 := new(big.Rat).SetString(l)
	rf, ok2 := new(big.Rat).SetString(output(r))
	return lf, rf, ok1 && ok2
}

func whole(op string) func(l, r datum) datum {
	zero := func(r datum) int64 {
		if r.(int64) == 0 {
			raise("22012", "division by zero")
		}
		return r.(int64)
	}
	switch op {
	case "+":
		return func(l, r datum) datum { return l.(int64) + r.(int64) }
	case "-":
		return func(l, r datum) datum { return l.(int64) - r.(int64) }
	case "*":
		return func(l, r datum) datum { return l.(int64) * r.(int64) }
	case "/":
		return func(l, r datum) datum { return l.(int64) / zero(r) }
	case "%":
		return func(l, r datum) datum { return l.(int64) % zero(r) }
	}
	return nil
}

func floating(op string) func(l, r datum) datum {
	switch op {
	case "+":
		return func(l, r datum) datum { return l.(float64) + r.(float64) }
	case "-":
		return func(l, r datum) datum { return l.(float64) - r.(float64) }
	case "*":
		return func(l, r datum) datum { return l.(float64) * r.(float64) }
	case "/":
		return func(l, r datum) datum { return l.(float64) / r.(float64) }
	}
	return nil
}

// decimal is arithmetic with as many digits behind the point as PostgreSQL gives; division
// is not modelled.
func decimal(op string) func(l, r datum) datum {
	scale := func(d datum) int {
		_, behind, _ := strings.Cut(output(d), ".")
		return len(behind)
	}
	of := func(f func(x, l, r *big.Rat) *big.Rat, digits func(l, r int) int) func(l, r datum) datum {
		return func(l, r datum) datum {
			lf, rf, _ := numbers(output(l), r)
			return f(new(big.Rat), lf, rf).FloatString(digits(scale(l), scale(r)))
		}
	}
	most := func(l, r int) int { return max(l, r) }
	switch op {
	case "+":
		return of((*big.Rat).Add, most)
	case "-":
		return of((*big.Rat).Sub, most)
	case "*":
		return of((*big.Rat).Mul, func(l, r int) int { return l + r })
	}
	return nil
}

func like(s, pattern string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '%':
		for i := 0; i <= len(s); i++ {
			if like(s[i:], pattern[1:]) {
				return true
			}
		}
		return false
	case s == "":
		return false
	case pattern[0] == '\\' && len(pattern) > 1:
		return s[0] == pattern[1] && like(s[1:], pattern[2:])
	}
	return (pattern[0] == '_' || s[0] == pattern[0]) && like(s[1:], pattern[1:])
}
