package simpg

import (
	"math/big"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// analysis turns a statement's tree into what can be run. Names and types are looked up
// once, as PostgreSQL does it; nothing of it outlives the state it was made for.
type analysis struct {
	se      *session
	st      *state
	params  []uint32 // types of the parameters, 0 while not known
	literal bool     // there can be no parameters
	ctes    map[string]*cte
	tables  []string        // relations that are used
	noRLS   bool            // within a policy
	vars    *scope          // variables of the function that the statement stands in
	user    string          // whose rights count; empty is the current user's
	reads   map[uint32]bool // relations of which columns are read
	refused *Error          // why it may not run at all
	rights  []func()        // what is checked before it is run
	writes  []string        // what a read-only transaction does not allow
	bound   *env            // what holds the parameters, when the statement is planned
	depth   int             // of views and policies
}

// scope is what names of columns mean.
type scope struct {
	outer *scope
	cols  []scopeCol
	group *grouping // aggregates are allowed
}

type scopeCol struct {
	rel    string
	name   string
	typ    uint32
	table  uint32
	num    int16
	hidden bool
}

// env is what an expression is evaluated in.
type env struct {
	se     *session
	st     *state
	params []datum
	row    []datum
	aggs   []datum
	outer  *env
}

// over is e with another row, and without aggregates.
func (e *env) over(row []datum) *env {
	return &env{se: e.se, st: e.st, params: e.params, row: row, outer: e.outer}
}

// expr is an expression. Literals and parameters of unknown type are of typUnknown until
// they are coerced.
type expr struct {
	typ      uint32
	name     string // of a column that it makes
	table    uint32
	num      int16
	param    int    // 1 is $1
	literal  *datum // of an unknown literal
	constant bool   // it is the same for all rows, and known when the statement is planned
	location int32
	eval     func(e *env) datum
}

func constant(typ uint32, d datum) expr {
	return expr{typ: typ, name: "?column?", constant: true, eval: func(*env) datum { return d }}
}

// fold evaluates what is constant when a statement is planned, as PostgreSQL does: its
// error is one of Bind.
func (a *analysis) fold(x expr, of ...expr) expr {
	x.constant = !slices.ContainsFunc(of, func(o expr) bool { return !o.constant })
	if !x.constant || a.bound == nil {
		return x
	}
	d := x.eval(a.bound)
	x.eval = func(*env) datum { return d }
	return x
}

// coerce makes an expression one of a type, as an assignment would.
func (a *analysis) coerce(x expr, to uint32) expr {
	from := x.typ
	if from == to || to == typUnknown {
		return x
	}
	if x.param > 0 && a.params[x.param-1] == 0 {
		a.params[x.param-1] = to
		x.typ = to
		return x
	}
	x.typ = to
	if from == typUnknown && x.literal != nil {
		d := *x.literal
		e := caught(func() {
			if d != nil {
				d = input(d.(string), to)
			}
		})
		if e != nil {
			at(x.location, e)
		}
		x.literal, x.eval = nil, func(*env) datum { return d }
		return x
	}
	inner := x.eval
	x.eval = func(e *env) datum { return cast(inner(e), from, to) }
	return a.fold(x, x)
}

// known gives what has no type the type text.
func (a *analysis) known(x expr) expr {
	if x.typ == typUnknown || x.typ == 0 {
		return a.coerce(x, typText)
	}
	return x
}

// expr analyzes an expression.
func (a *analysis) expr(n *pg.Node, s *scope) expr {
	switch n := n.GetNode().(type) {
	case *pg.Node_AConst:
		return literal(n.AConst)
	case *pg.Node_ColumnRef:
		return a.column(n.ColumnRef, s)
	case *pg.Node_ParamRef:
		return a.param(int(n.ParamRef.Number), n.ParamRef.Location)
	case *pg.Node_TypeCast:
		return a.typeCast(n.TypeCast, s)
	case *pg.Node_FuncCall:
		return a.call(n.FuncCall, s)
	case *pg.Node_AExpr:
		return a.operator(n.AExpr, s)
	case *pg.Node_BoolExpr:
		return a.logic(n.BoolExpr, s)
	case *pg.Node_NullTest:
		x := a.expr(n.NullTest.Arg, s)
		is := n.NullTest.Nulltesttype == pg.NullTestType_IS_NULL
		return expr{typ: typBool, name: "?column?", eval: func(e *env) datum { return (x.eval(e) == nil) == is }}
	case *pg.Node_BooleanTest:
		return a.booleanTest(n.BooleanTest, s)
	case *pg.Node_CaseExpr:
		return a.caseExpr(n.CaseExpr, s)
	case *pg.Node_CoalesceExpr:
		return a.coalesce(n.CoalesceExpr, s)
	case *pg.Node_MinMaxExpr:
		return a.minMax(n.MinMaxExpr, s)
	case *pg.Node_SubLink:
		return a.subLink(n.SubLink, s)
	case *pg.Node_SqlvalueFunction:
		return a.sqlValue(n.SqlvalueFunction)
	case *pg.Node_AArrayExpr:
		return a.array(n.AArrayExpr, s)
	case *pg.Node_CollateClause:
		return a.expr(n.CollateClause.Arg, s)
	case *pg.Node_SetToDefault:
		raise("42601", "DEFAULT is not allowed in this context")
	}
	return a.unsupported(n)
}

func (a *analysis) unsupported(n *pg.Node) expr {
	raise("0A000", "simpg: %T is not modelled", n.GetNode())
	return expr{}
}

func literal(c *pg.A_Const) expr {
	x := constant(typUnknown, nil)
	x.location = c.Location
	text := func(s string) {
		var d datum = s
		x.literal, x.eval = &d, func(*env) datum { return d }
	}
	switch v := c.Val.(type) {
	case *pg.A_Const_Ival:
		return constant(typInt4, int64(v.Ival.Ival))
	case *pg.A_Const_Boolval:
		x := constant(typBool, v.Boolval.Boolval)
		x.name = "bool"
		return x
	case *pg.A_Const_Fval:
		if n, ok := new(big.Int).SetString(v.Fval.Fval, 10); ok && n.IsInt64() {
			return constant(typInt8, n.Int64())
		}
		return constant(typNumeric, v.Fval.Fval)
	case *pg.A_Const_Sval:
		text(v.Sval.Sval)
	default:
		var d datum
		x.literal = &d
	}
	return x
}

// within is the scope of what has no rows of its own.
func (a *analysis) within() *scope { return inside(a.vars) }

// inside is an empty scope within another.
func inside(outer *scope) *scope {
	if outer == nil {
		return nil
	}
	return &scope{outer: outer}
}

func (a *analysis) param(n int, location int32) expr {
	if n < 1 || n > 65535 || a.literal {
		at(location, failure("42P02", "there is no parameter $%d", n))
	}
	for len(a.params) < n {
		a.params = append(a.params, 0)
	}
	if a.params[n-1] == typUnknown {
		a.params[n-1] = 0
	}
	typ := a.params[n-1]
	if typ == 0 {
		typ = typUnknown
	}
	return expr{typ: typ, name: "?column?", param: n, location: location, constant: true, eval: func(e *env) datum {
		for len(e.params) == 0 && e.outer != nil {
			e = e.outer
		}
		if n > len(e.params) {
			raise("42P02", "there is no parameter $%d", n)
		}
		return e.params[n-1]
	}}
}

// strings of a list of String nodes.
func stringsOf(list []*pg.Node) (out []string) {
	for _, n := range list {
		out = append(out, n.GetString_().GetSval())
	}
	return out
}

func (a *analysis) column(c *pg.ColumnRef, s *scope) expr {
	parts := stringsOf(c.Fields)
	rel, name := "", parts[len(parts)-1]
	if len(parts) > 1 {
		rel = parts[len(parts)-2]
	}
	depth := 0
	seen := false
	for ; s != nil; s = s.outer {
		found := -1
		for i, col := range s.cols {
			seen = seen || col.rel == rel
			if col.name != name || rel != "" && col.rel != rel {
				continue
			}
			if found >= 0 && rel == "" {
				at(c.Location, failure("42702", `column reference "%s" is ambiguous`, name))
			}
			found = i
		}
		if found >= 0 {
			col, d := s.cols[found], depth
			a.read(col.table)
			return expr{typ: col.typ, name: name, table: col.table, num: col.num, location: c.Location, eval: func(e *env) datum {
				for range d {
					e = e.outer
				}
				return e.row[found]
			}}
		}
		depth++
	}
	switch {
	case rel != "" && !seen:
		at(c.Location, failure("42P01", `missing FROM-clause entry for table "%s"`, rel))
	case rel != "":
		at(c.Location, failure("42703", `column %s.%s does not exist`, rel, name))
	}
	at(c.Location, failure("42703", `column "%s" does not exist`, name))
	return expr{}
}

// read notes that a column of a relation is read.
func (a *analysis) read(oid uint32) {
	if a.reads == nil {
		a.reads = map[uint32]bool{}
	}
	a.reads[oid] = true
}

// typeName is the type a name stands for.
func (a *analysis) typeName(t *pg.TypeName) uint32 {
	parts := stringsOf(t.Names)
	name := parts[len(parts)-1]
	if len(t.ArrayBounds) > 0 {
		name = "_" + name
	}
	if oid := typeNamed(name); oid != 0 {
		return oid
	}
	switch name {
	case "serial":
		return typInt4
	case "bigserial":
		return typInt8
	}
	if d := a.st.databases[a.se.database]; d != nil && d.types[name] != 0 {
		return d.types[name]
	}
	at(t.Location, failure("42704", `type "%s" does not exist`, strings.Join(parts, ".")))
	return 0
}

func (a *analysis) typeCast(c *pg.TypeCast, s *scope) expr {
	to := a.typeName(c.TypeName)
	x := a.expr(c.Arg, s)
	name := x.name
	if name == "?column?" {
		name = infoOf(to).name
	}
	x = a.coerce(x, to)
	x.name, x.table, x.num = name, 0, 0
	return x
}

func (a *analysis) list(nodes []*pg.Node, s *scope) (list []expr) {
	for _, n := range nodes {
		list = append(list, a.expr(n, s))
	}
	return list
}

func (a *analysis) array(n *pg.A_ArrayExpr, s *scope) expr {
	args := a.list(n.Elements, s)
	typ := typTextArray
	if t := a.common(args); t == typInt4 || t == typOID {
		typ = typInt4Array
	}
	return expr{typ: typ, name: "array", eval: func(e *env) datum {
		out := []datum{}
		for _, x := range args {
			out = append(out, x.eval(e))
		}
		return out
	}}
}

func (a *analysis) sqlValue(f *pg.SQLValueFunction) expr {
	x := expr{typ: typName}
	se := a.se
	switch f.Op {
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_USER, pg.SQLValueFunctionOp_SVFOP_CURRENT_ROLE, pg.SQLValueFunctionOp_SVFOP_USER:
		x.name, x.eval = "current_user", func(*env) datum { return se.currentUser() }
		if f.Op == pg.SQLValueFunctionOp_SVFOP_USER {
			x.name = "user"
		}
	case pg.SQLValueFunctionOp_SVFOP_SESSION_USER:
		x.name, x.eval = "session_user", func(*env) datum { return se.sessionUser() }
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_CATALOG:
		x.name, x.eval = "current_catalog", func(*env) datum { return se.database }
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_TIMESTAMP:
		x.typ, x.name = typTimestamp, "current_timestamp"
		x.eval = func(*env) datum { return se.server.cluster.clock() }
	default:
		raise("0A000", "simpg: %v is not modelled", f.Op)
	}
	return x
}

func (a *analysis) subLink(l *pg.SubLink, s *scope) expr {
	q := a.query(l.Subselect, s)
	run := func(e *env, each func(r []datum) bool) {
		q.run(&env{se: e.se, st: e.st, params: e.params, outer: e}, each)
	}
	switch l.SubLinkType {
	case pg.SubLinkType_EXISTS_SUBLINK:
		return expr{typ: typBool, name: "exists", eval: func(e *env) datum {
			found := false
			run(e, func([]datum) bool { found = true; return false })
			return found
		}}
	case pg.SubLinkType_EXPR_SUBLINK:
		if len(q.fields) != 1 {
			at(l.Location, failure("42601", "subquery must return only one column"))
		}
		return expr{typ: q.fields[0].typ, name: q.fields[0].name, eval: func(e *env) (v datum) {
			n := 0
			run(e, func(r []datum) bool {
				if n++; n > 1 {
					raise("21000", "more than one row returned by a subquery used as an expression")
				}
				v = r[0]
				return true
			})
			return v
		}}
	case pg.SubLinkType_ARRAY_SUBLINK:
		return expr{typ: typTextArray, name: "array", eval: func(e *env) datum {
			out := []datum{}
			run(e, func(r []datum) bool { out = append(out, r[0]); return true })
			return out
		}}
	case pg.SubLinkType_ANY_SUBLINK:
		op := "="
		if len(l.OperName) > 0 {
			op = l.OperName[len(l.OperName)-1].GetString_().GetSval()
		}
		var right datum
		cmp := a.binary(op, a.expr(l.Testexpr, s), expr{typ: q.fields[0].typ, eval: func(*env) datum { return right }}, l.Location)
		return expr{typ: typBool, name: "?column?", eval: func(e *env) datum {
			var result datum = false
			run(e, func(r []datum) bool {
				right = r[0]
				switch cmp.eval(e) {
				case true:
					result = true
					return false
				case nil:
					result = nil
				}
				return true
			})
			return result
		}}
	}
	raise("0A000", "simpg: %v is not modelled", l.SubLinkType)
	return expr{}
}
