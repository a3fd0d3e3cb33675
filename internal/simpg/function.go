package simpg

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// function finds a user's function that takes so many arguments; nil is none.
func (a *analysis) function(names []string, n int) *function {
	d := a.st.databases[a.se.database]
	schemas := a.se.path()
	if len(names) > 1 {
		schemas = names[:1]
	}
	for _, s := range schemas {
		if f := d.functions[functionKey(s, names[len(names)-1], n)]; f != nil {
			return f
		}
	}
	return nil
}

func functionKey(schema, name string, args int) string {
	return schema + "." + name + "/" + strings.Repeat("?", args)
}

// callFunction runs a user's function; each gets the rows of its result.
func (se *session) callFunction(f *function, args []datum, each func(r []datum) bool) {
	if se.nested++; se.nested > 100 {
		raise("54001", "stack depth limit exceeded")
	}
	defer func() { se.nested-- }()
	if len(f.settings) > 0 {
		now := map[string]string{}
		for name, value := range f.settings {
			low, _ := settingName(name)
			if v, ok := se.set.now[low]; ok {
				now[low] = v
			}
			if _, ok := se.set.defined[low]; !ok && strings.Contains(low, ".") {
				se.set.defined[low] = name
			}
			se.set.now[low] = value
		}
		defer func() {
			for name := range f.settings {
				low, _ := settingName(name)
				if v, ok := now[low]; ok {
					se.set.now[low] = v
				} else {
					delete(se.set.now, low)
				}
			}
		}()
	}
	if f.language == "plpgsql" {
		c := &plCall{se: se, f: f, vars: map[string]*plVar{}}
		for i, p := range f.args {
			c.vars[p.name] = &plVar{p.typ, args[i]}
		}
		c.run(each)
		return
	}
	se.callSQL(f, args, each)
}

// callSQL runs a function of LANGUAGE sql: its result is that of its last statement.
func (se *session) callSQL(f *function, args []datum, each func(r []datum) bool) {
	list := parse(f.body)
	for i, s := range list {
		last := i == len(list)-1
		rows := se.nestedQuery(s, f.args, args, last && !f.set)
		for _, r := range rows {
			if last && f.returns != typVoid && !each(r) {
				return
			}
		}
		if last && (f.returns == typVoid || len(rows) == 0 && !f.set) {
			each([]datum{nil})
		}
	}
}

// nestedQuery runs a statement of a function, whose arguments are columns of an outer row and
// parameters too.
func (se *session) nestedQuery(s *stmt, params []param, args []datum, one bool) (rows [][]datum) {
	a := &analysis{se: se, st: se.see(), depth: 0}
	outer := &scope{}
	for _, p := range params {
		outer.cols = append(outer.cols, scopeCol{name: p.name, typ: p.typ})
		a.params = append(a.params, p.typ)
	}
	if !isQuery(s.node) {
		p := &portal{prepared: &prepared{text: s.text, stmt: s}}
		if s.transactional() != nil {
			raise("2D000", "invalid transaction termination")
		}
		se.utility(p)
		return p.rows
	}
	was := se.tx.snapshot
	if se.tx.modes.isolation == "read committed" || se.tx.modes.isolation == "read uncommitted" {
		se.takeSnapshot()
		a.st = se.see()
		defer func() { se.tx.snapshot = was }()
	}
	a.vars = outer
	var q *query
	se.steadily(func() {
		a.st, a.rights, a.writes = se.see(), nil, nil
		q = a.query(s.node, outer)
	})
	a.permit()
	e := &env{se: se, st: a.st, row: args, params: args}
	q.run(&env{se: se, st: a.st, params: args, outer: e}, func(r []datum) bool {
		rows = append(rows, slices.Clone(r))
		return !one
	})
	return rows
}

// triggers runs the triggers of a row. It returns the row as they leave it, nil if they
// have it passed over.
func (t *target) triggers(e *env, event string, old, row []datum) []datum {
	for _, tr := range t.r.triggers {
		if !strings.Contains(tr.events, event) {
			continue
		}
		f := e.st.databases[e.se.database].functions[tr.function]
		if f == nil {
			continue
		}
		c := &plCall{se: e.se, f: f, vars: map[string]*plVar{}, columns: t.r.columns, fresh: slices.Clone(row), old: old, op: map[string]string{"i": "INSERT", "u": "UPDATE", "d": "DELETE"}[event]}
		got := c.trigger()
		if !tr.after {
			if row = got; row == nil {
				return nil
			}
		}
	}
	return row
}

func (se *session) do(n *pg.DoStmt) {
	for _, o := range n.Args {
		if d := o.GetDefElem(); d.Defname == "as" {
			f := &function{language: "plpgsql", body: d.Arg.GetString_().GetSval(), returns: typVoid}
			f.compiled = parseBlock(f.body)
			(&plCall{se: se, f: f, vars: map[string]*plVar{}}).run(func([]datum) bool { return true })
		}
	}
}

func (se *session) callStmt(n *pg.CallStmt) string {
	a := &analysis{se: se, st: se.see()}
	names := stringsOf(n.Funccall.Funcname)
	f := a.function(names, len(n.Funccall.Args))
	args := a.list(n.Funccall.Args, nil)
	if f == nil || !f.procedure {
		a.noFunction(names, args, n.Funccall.Location)
	}
	for i := range args {
		args[i] = a.coerce(args[i], f.args[i].typ)
	}
	vals := evaluate(args, &env{se: se, st: a.st})
	c := &plCall{se: se, f: f, vars: map[string]*plVar{}, procedure: se.tx.block == 'I' && !se.tx.implicit}
	for i, p := range f.args {
		c.vars[p.name] = &plVar{p.typ, vals[i]}
	}
	c.run(func([]datum) bool { return true })
	return "CALL"
}

func (a *analysis) createFunction(n *pg.CreateFunctionStmt) string {
	beyond(n.SqlBody != nil, "a body in SQL's standard form")
	tag := "CREATE FUNCTION"
	if n.IsProcedure {
		tag = "CREATE PROCEDURE"
	}
	a.se.refuseReadOnly(tag)
	names := stringsOf(n.Funcname)
	f := &function{oid: a.oid(), name: names[len(names)-1], language: "sql", volatility: 'v', procedure: n.IsProcedure, returns: typVoid, settings: map[string]string{}}
	if f.schema, _ = a.se.creationSchema().(string); len(names) > 1 {
		f.schema = names[0]
	}
	if f.schema == "" {
		raise("3F000", "no schema has been selected to create in")
	}
	if f.schema != a.se.tempSchema() {
		a.mayCreate(f.schema, -1)
	}
	if n.ReturnType != nil {
		f.returns, f.set = a.typeName(n.ReturnType), n.ReturnType.Setof
	}
	for _, p := range n.Parameters {
		x := p.GetFunctionParameter()
		beyond(x.Defexpr != nil || x.Mode != pg.FunctionParameterMode_FUNC_PARAM_IN && x.Mode != pg.FunctionParameterMode_FUNC_PARAM_DEFAULT, "such a parameter")
		f.args = append(f.args, param{x.Name, a.typeName(x.ArgType)})
	}
	for _, o := range n.Options {
		f.option(o.GetDefElem())
	}
	if f.language == "plpgsql" {
		f.compiled = parseBlock(f.body)
	} else {
		parse(f.body)
	}
	db, at := a.se.database, functionKey(f.schema, f.name, len(f.args))
	if a.st.databases[db].functions[at] != nil && !n.Replace {
		raise("42723", `function "%s" already exists with same argument types`, f.name)
	}
	a.catalogChange(func(s *state) { s.changingAll(db).functions[at] = f })
	return tag
}

func (f *function) option(d *pg.DefElem) {
	switch d.Defname {
	case "as":
		f.body = d.Arg.GetList().Items[0].GetString_().GetSval()
	case "language":
		f.language = strings.ToLower(d.Arg.GetString_().GetSval())
	case "volatility":
		f.volatility = d.Arg.GetString_().GetSval()[0]
	case "security", "strict", "window", "transform":
		beyond(d.Arg.GetBoolean().GetBoolval() || d.Defname == "transform", d.Defname)
	case "set":
		v := d.Arg.GetVariableSetStmt()
		f.settings[v.Name] = setValue(v)
	}
}

// Bits of a trigger's timing and events.
const (
	triggerBefore = 1 << 1
	triggerInsert = 1 << 2
	triggerDelete = 1 << 3
	triggerUpdate = 1 << 4
)

func (a *analysis) createTrigger(n *pg.CreateTrigStmt) string {
	a.se.refuseReadOnly("CREATE TRIGGER")
	r := a.locked(n.Relation, lockShareRow)
	f := a.function(stringsOf(n.Funcname), 0)
	if f == nil {
		a.noFunction(stringsOf(n.Funcname), nil, 0)
	}
	t := trigger{name: n.Trigname, function: functionKey(f.schema, f.name, 0), after: n.Timing&triggerBefore == 0}
	for bit, letter := range map[int32]string{triggerInsert: "i", triggerDelete: "d", triggerUpdate: "u"} {
		if n.Events&bit != 0 {
			t.events += letter
		}
	}
	a.relationChange(r.key(), func(r *relation) { r.triggers = append(slices.Clip(r.triggers), t) })
	return "CREATE TRIGGER"
}
