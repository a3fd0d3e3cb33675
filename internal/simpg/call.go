package simpg

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/router/catalog"
)

// builtin is a function that every database has.
type builtin struct {
	args     []uint32
	returns  uint32
	variadic bool // the last argument may be repeated, and be of any type
	nulls    bool // it is called with NULLs; else it is NULL where one is
	volatile bool // it writes, or cannot run on a standby: "cannot execute name()"
	f        func(se *session, args []datum) datum
}

// aggregate is an aggregate in a SELECT.
type aggregate struct {
	args     []expr
	filter   *expr
	distinct bool
	init     datum
	step     func(state datum, args []datum) datum
}

// call analyzes a call of a function.
func (a *analysis) call(c *pg.FuncCall, s *scope) expr {
	names := stringsOf(c.Funcname)
	name := names[len(names)-1]
	if c.Over != nil {
		raise("0A000", "simpg: window functions are not modelled")
	}
	if s != nil && s.group != nil && isAggregate(name) {
		return a.aggregate(name, c, s)
	}
	if isAggregate(name) {
		at(c.Location, failure("42803", "aggregate functions are not allowed in WHERE"))
	}
	args := a.list(c.Args, s)
	if schema := names[0]; len(names) == 1 || schema == "pg_catalog" {
		if b := match(builtins[name], args); b != nil {
			return a.callBuiltin(name, b, args)
		}
	}
	f := a.function(names, len(args))
	if f == nil {
		a.noFunction(names, args, c.Location)
	}
	for i := range args {
		args[i] = a.coerce(args[i], f.args[i].typ)
	}
	se := a.se
	return expr{typ: f.returns, name: name, eval: func(e *env) (v datum) {
		vals := evaluate(args, e)
		se.callFunction(f, vals, func(r []datum) bool {
			if v = nil; len(r) > 0 {
				v = r[0]
			}
			return false
		})
		return v
	}}
}

func (a *analysis) noFunction(names []string, args []expr, location int32) {
	if name := names[len(names)-1]; builtins[name] == nil && catalog.Builtin().Function("", name).Known {
		raise("0A000", "simpg: function %s is not modelled", name)
	}
	var of []string
	for _, x := range args {
		of = append(of, infoOf(x.typ).words)
	}
	e := failure("42883", "function %s(%s) does not exist", strings.Join(names, "."), strings.Join(of, ", "))
	e.Hint = "No function matches the given name and argument types. You might need to add explicit type casts."
	at(location, e)
}

func evaluate(args []expr, e *env) []datum {
	vals := make([]datum, len(args))
	for i, x := range args {
		vals[i] = x.eval(e)
	}
	return vals
}

// match finds the function that takes the arguments: exactly, or after conversions.
func match(list []builtin, args []expr) *builtin {
	var best *builtin
	score := -1
	for i := range list {
		b := &list[i]
		if len(args) != len(b.args) && !(b.variadic && len(args) >= len(b.args)) {
			continue
		}
		n := 0
		for k, x := range args {
			want := b.args[min(k, len(b.args)-1)]
			switch {
			case x.typ == want:
				n += 2
			case x.typ == typUnknown, want == 0:
				n++
			case rank(x.typ) >= 0 && rank(want) > rank(x.typ), infoOf(x.typ).category == 'S' && infoOf(want).category == 'S',
				x.typ == typInt4 && want == typOID:
				n++
			default:
				n = -1 << 20
			}
		}
		if n > score {
			best, score = b, n
		}
	}
	return best
}

func (a *analysis) callBuiltin(name string, b *builtin, args []expr) expr {
	for i := range args {
		if want := b.args[min(i, len(b.args)-1)]; want != 0 {
			args[i] = a.coerce(args[i], want)
		} else {
			args[i] = a.known(args[i])
		}
	}
	se := a.se
	if sequences[name] && args[0].constant && args[0].param == 0 { // a regclass, looked up when it is read
		if e := caught(func() { se.sequence(output(args[0].eval(nil))) }); e != nil {
			at(args[0].location, e)
		}
	}
	return expr{typ: b.returns, name: name, eval: func(e *env) datum {
		vals := evaluate(args, e)
		if !b.nulls && slices.Contains(vals, nil) {
			return nil
		}
		if b.volatile {
			se.refuseReadOnly(name + "()")
		}
		return b.f(se, vals)
	}}
}

// sequences are the functions whose first argument names a sequence.
var sequences = map[string]bool{"nextval": true, "currval": true, "setval": true}

func isAggregate(name string) bool {
	switch name {
	case "count", "sum", "min", "max", "string_agg", "array_agg", "bool_and", "bool_or", "every":
		return true
	}
	return false
}

func (a *analysis) aggregate(name string, c *pg.FuncCall, s *scope) expr {
	g := s.group
	inner := &scope{outer: s.outer, cols: s.cols}
	ag := aggregate{distinct: c.AggDistinct}
	for _, n := range c.Args {
		ag.args = append(ag.args, a.known(a.expr(n, inner)))
	}
	if c.AggFilter != nil {
		x := a.condition(c.AggFilter, inner, "FILTER")
		ag.filter = &x
	}
	x := expr{name: name}
	if len(ag.args) > 0 {
		x.typ = ag.args[0].typ
	}
	switch name {
	case "count":
		x.typ, ag.init = typInt8, int64(0)
		ag.step = func(st datum, _ []datum) datum { return st.(int64) + 1 }
	case "sum":
		if x.typ == typInt8 || x.typ == typNumeric {
			x.typ = typNumeric
		} else if x.typ == typInt4 || x.typ == typInt2 {
			x.typ = typInt8
		}
		ag.step = func(st datum, v []datum) datum {
			if st == nil {
				return v[0]
			}
			if n, ok := v[0].(int64); ok {
				return st.(int64) + n
			}
			return decimal("+")(st, v[0])
		}
	case "min", "max":
		ag.step = func(st datum, v []datum) datum {
			if st == nil || (compare(v[0], st) < 0) == (name == "min") && compare(v[0], st) != 0 {
				return v[0]
			}
			return st
		}
	case "string_agg":
		ag.step = func(st datum, v []datum) datum {
			if st == nil {
				return v[0]
			}
			return st.(string) + v[1].(string) + v[0].(string)
		}
	case "array_agg":
		x.typ = typTextArray
		ag.step = func(st datum, v []datum) datum {
			list, _ := st.([]datum)
			return append(slices.Clone(list), v[0])
		}
	default:
		ag.step = func(st datum, v []datum) datum {
			b := v[0].(bool)
			if st == nil {
				return b
			}
			if name == "bool_or" {
				return b || st.(bool)
			}
			return b && st.(bool)
		}
	}
	if len(c.AggOrder) > 0 {
		a.ordered(&ag, c.AggOrder, inner)
	}
	at := len(g.aggs)
	g.aggs = append(g.aggs, ag)
	x.eval = func(e *env) datum {
		v := e.aggs[at]
		if o, ok := v.(*orderedState); ok {
			return o.finish()
		}
		return v
	}
	return x
}

// orderedState gathers the input of an aggregate with ORDER BY.
type orderedState struct {
	keys sortKeys
	init datum
	step func(datum, []datum) datum
	rows []sortable
}

func (o *orderedState) finish() datum {
	st := o.init
	o.keys.emit(slices.Clone(o.rows), func(r []datum) bool { st = o.step(st, r); return true })
	return st
}

// ordered has an aggregate see its input in an order.
func (a *analysis) ordered(ag *aggregate, order []*pg.Node, s *scope) {
	keys := a.sortKeys(order, s, nil)
	n, init, step := len(ag.args), ag.init, ag.step
	for i, k := range keys {
		ag.args = append(ag.args, *k.x)
		keys[i] = sortKey{column: i, desc: k.desc, first: k.first}
	}
	ag.init = nil
	ag.step = func(st datum, v []datum) datum {
		o, ok := st.(*orderedState)
		if !ok {
			o = &orderedState{keys: keys, init: init, step: step}
		}
		o.rows = append(o.rows, sortable{slices.Clone(v[:n]), slices.Clone(v[n:])})
		return o
	}
}

// setFunction analyzes a function in FROM.
func (a *analysis) setFunction(name string, c *pg.FuncCall, s *scope) (fields []field, run func(e *env, each func([]datum) bool)) {
	switch name {
	case "generate_series":
		args := a.list(c.Args, s)
		typ := a.common(args)
		return []field{{name: name, typ: typ}}, func(e *env, each func([]datum) bool) {
			v := evaluate(args, e)
			if slices.Contains(v, nil) {
				return
			}
			step := int64(1)
			if len(v) > 2 {
				step = v[2].(int64)
			}
			for i := v[0].(int64); step > 0 && i <= v[1].(int64) || step < 0 && i >= v[1].(int64); i += step {
				if !each([]datum{i}) {
					return
				}
			}
		}
	case "unnest":
		x := a.expr(c.Args[0], s)
		typ := typText
		if x.typ == typInt4Array {
			typ = typInt4
		}
		return []field{{name: name, typ: typ}}, func(e *env, each func([]datum) bool) {
			list, _ := x.eval(e).([]datum)
			for _, d := range list {
				if !each([]datum{d}) {
					return
				}
			}
		}
	case "pg_listening_channels":
		se := a.se
		return []field{{name: name, typ: typText}}, func(e *env, each func([]datum) bool) {
			for _, ch := range se.channels() {
				if !each([]datum{ch}) {
					return
				}
			}
		}
	}
	if f := a.function(stringsOf(c.Funcname), len(c.Args)); f != nil && f.set {
		args := a.list(c.Args, s)
		for i := range args {
			args[i] = a.coerce(args[i], f.args[i].typ)
		}
		se := a.se
		return []field{{name: name, typ: f.returns}}, func(e *env, each func([]datum) bool) {
			se.callFunction(f, evaluate(args, e), each)
		}
	}
	x := a.call(c, s)
	return []field{{name: name, typ: x.typ}}, func(e *env, each func([]datum) bool) { each([]datum{x.eval(e)}) }
}
