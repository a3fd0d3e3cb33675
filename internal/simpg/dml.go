package simpg

import (
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// target is the table that a statement changes.
type target struct {
	a       *analysis
	r       *relation
	cols    []scopeCol
	word    string               // INSERT, UPDATE, DELETE
	command byte                 // as policies have it
	check   func(e *env) bool    // of new rows
	visible func(e *env) bool    // of old ones
	rules   []func(e *env) datum // CHECK constraints
	n       int                  // rows changed
	back    []expr
}

// target finds the table that a statement changes.
func (a *analysis) target(v *pg.RangeVar, word string, command byte) *target {
	r := a.relation(v)
	if r == nil {
		a.missing(v)
	}
	if r.kind != 'r' {
		raise("0A000", "simpg: changing a view is not modelled")
	}
	a.use(r, word, lockWrite)
	t := &target{a: a, r: r, word: word, cols: a.table(r, v.Alias).cols}
	if !t.temporary() {
		a.writes = append(a.writes, word)
	}
	if t.command = command; word != "DELETE" {
		for _, c := range r.checks {
			t.rules = append(t.rules, a.policy(c.x, r, t.cols))
		}
	}
	return t
}

// secure applies the policies, once the rest is analyzed: where rows are read, those of
// SELECT count as well.
func (t *target) secure() {
	if t.word == "UPDATE" || t.word == "DELETE" {
		t.visible = t.a.visible(t.r, t.command, t.cols)
	}
	if t.word != "DELETE" {
		t.check = t.a.checked(t.r, t.command)
	}
	if !t.a.reads[t.r.oid] {
		return
	}
	t.a.rights = append(t.a.rights, func() { t.a.se.allowed(t.r, "SELECT") })
	reads := t.a.visible(t.r, 'r', t.cols)
	if t.visible = both(t.visible, reads); t.word != "DELETE" {
		t.check = both(t.check, reads)
	}
}

func (t *target) temporary() bool { return strings.HasPrefix(t.r.schema, "pg_temp") }

// query is the statement: run changes the rows and gives what RETURNING says of each.
func (t *target) query(returning []*pg.Node, outer []scopeCol, run func(e *env, each func(row []datum, more []datum))) *query {
	q := &query{}
	if len(returning) > 0 {
		t.back, q.fields = t.a.targets(returning, &scope{outer: t.a.vars, cols: slices.Concat(t.cols, outer)})
	}
	t.secure()
	q.tag = func(*env) string {
		if t.word == "INSERT" {
			return fmt.Sprintf("INSERT 0 %d", t.n)
		}
		return fmt.Sprintf("%s %d", t.word, t.n)
	}
	q.run = func(e *env, each func([]datum) bool) {
		t.n = 0
		run(e, func(row, more []datum) {
			t.n++
			if len(t.back) == 0 {
				return
			}
			in := e.over(slices.Concat(row, []datum{nil}, more))
			out := make([]datum, len(t.back))
			for i, x := range t.back {
				out[i] = x.eval(in)
			}
			each(out)
		})
	}
	return q
}

func (a *analysis) insert(n *pg.InsertStmt) *query {
	begin, end := a.with(n.WithClause, nil)
	defer end()
	beyond(n.Override > pg.OverridingKind_OVERRIDING_NOT_SET, "OVERRIDING")
	t := a.target(n.Relation, "INSERT", 'a')
	columns := t.columns(n.Cols)
	if n.OnConflictClause != nil && n.OnConflictClause.Action == pg.OnConflictAction_ONCONFLICT_UPDATE {
		return t.upsert(n, columns)
	}
	in := t.input(n, columns)
	defaults := t.defaults()
	q := t.query(n.ReturningList, nil, func(e *env, each func(row, more []datum)) {
		begin(e)
		in(e, func(vals []datum) {
			row := t.fill(e, columns, vals, defaults)
			if row = t.triggers(e, "i", nil, row); row == nil {
				return
			}
			if t.put(e, row, n.OnConflictClause != nil) {
				each(row, nil)
			}
		})
	})
	return q
}

// columns are the indexes of those named, of all if none are.
func (t *target) columns(list []*pg.Node) (out []int) {
	for _, n := range list {
		c := n.GetResTarget()
		i := t.r.column(c.Name)
		if i < 0 {
			at(c.Location, failure("42703", `column "%s" of relation "%s" does not exist`, c.Name, t.r.name))
		}
		out = append(out, i)
	}
	if len(list) == 0 {
		for i := range t.r.columns {
			out = append(out, i)
		}
	}
	return out
}

// toDefault stands for DEFAULT among values.
type toDefault struct{}

// input analyzes what is inserted.
func (t *target) input(n *pg.InsertStmt, columns []int) func(e *env, each func(vals []datum)) {
	a := t.a
	s := n.SelectStmt.GetSelectStmt()
	if s == nil { // DEFAULT VALUES
		return func(_ *env, each func([]datum)) { each(nil) }
	}
	if len(s.ValuesLists) == 0 || s.WithClause != nil {
		q := a.selectStmt(s, a.vars)
		if len(q.fields) > len(columns) {
			at(location(s.TargetList[len(columns)].GetResTarget().GetVal()), failure("42601", "INSERT has more expressions than target columns"))
		}
		return func(e *env, each func([]datum)) {
			var rows [][]datum
			q.run(e, func(r []datum) bool { rows = append(rows, slices.Clone(r)); return true })
			for _, r := range rows {
				for i := range r {
					r[i] = cast(r[i], q.fields[i].typ, t.r.columns[columns[i]].typ)
				}
				each(r)
			}
		}
	}
	var lists [][]expr
	for _, l := range s.ValuesLists {
		items := l.GetList().Items
		if len(items) > len(columns) {
			at(location(items[len(columns)]), failure("42601", "INSERT has more expressions than target columns"))
		}
		if len(items) < len(n.Cols) {
			at(n.Cols[len(items)].GetResTarget().Location, failure("42601", "INSERT has more target columns than expressions"))
		}
		var list []expr
		for i, x := range items {
			if x.GetSetToDefault() != nil {
				list = append(list, expr{eval: func(*env) datum { return toDefault{} }})
				continue
			}
			list = append(list, t.assignable(a.expr(x, a.within()), columns[i]))
		}
		lists = append(lists, list)
	}
	return func(e *env, each func([]datum)) {
		for _, l := range lists {
			each(evaluate(l, e))
		}
	}
}

// location is where an expression stands, -1 if that is not known.
func location(n *pg.Node) int32 {
	switch n := n.GetNode().(type) {
	case *pg.Node_AConst:
		return n.AConst.Location
	case *pg.Node_ColumnRef:
		return n.ColumnRef.Location
	case *pg.Node_FuncCall:
		return n.FuncCall.Location
	case *pg.Node_ParamRef:
		return n.ParamRef.Location
	case *pg.Node_TypeCast:
		return location(n.TypeCast.Arg)
	case *pg.Node_AExpr:
		return location(n.AExpr.Lexpr)
	}
	return -1
}

// assignable coerces an expression to a column's type.
func (t *target) assignable(x expr, column int) expr {
	c := t.r.columns[column]
	from, to := infoOf(x.typ).category, infoOf(c.typ).category
	if x.typ != typUnknown && from != to && to != 'S' {
		e := failure("42804", `column "%s" is of type %s but expression is of type %s`, c.name, infoOf(c.typ).words, infoOf(x.typ).words)
		e.Hint = "You will need to rewrite or cast the expression."
		panic(e)
	}
	return t.a.coerce(x, c.typ)
}

// defaults analyzes the defaults of the columns.
func (t *target) defaults() []*expr {
	out := make([]*expr, len(t.r.columns))
	for i, c := range t.r.columns {
		if c.def != nil {
			inner := &analysis{se: t.a.se, st: t.a.st, depth: 1}
			x := inner.coerce(inner.expr(c.def, nil), c.typ)
			out[i] = &x
		}
	}
	return out
}

// fill makes a row of the values given, defaults for the rest.
func (t *target) fill(e *env, columns []int, vals []datum, defaults []*expr) []datum {
	row := make([]datum, len(t.r.columns))
	given := make([]bool, len(row))
	for i, v := range vals {
		if v != (toDefault{}) {
			row[columns[i]], given[columns[i]] = v, true
		}
	}
	for i, c := range t.r.columns {
		switch {
		case given[i]:
		case c.sequence != "":
			schema, name, _ := strings.Cut(c.sequence, ".")
			if seq := e.se.find(schema, name); seq != nil {
				row[i] = e.se.draw(seq)
			}
		case defaults[i] != nil:
			row[i] = defaults[i].eval(&env{se: e.se, st: e.st})
		}
	}
	return row
}

// put inserts a row. It reports whether it did: with ignore a conflict is no error.
func (t *target) put(e *env, row []datum, ignore bool) bool {
	se := e.se
	t.checkRow(e, row)
	id := se.rowID()
	if t.conflict(se, row, id, ignore) != nil {
		return false
	}
	t.write(se, &rowChange{se.database, t.r.key(), id, row})
	return true
}

// rowID is a number no row has had.
func (se *session) rowID() int64 {
	se.server.cluster.rows++
	return se.server.cluster.rows
}

// write notes a change and gives it its record in the log.
func (t *target) write(se *session, c *rowChange) {
	se.change(c)
	if !t.temporary() {
		se.server.write(se.server.now().state, 60, false, se.rand)
	}
}

// latest is what is committed now, with the transaction's own changes.
func (se *session) latest() *state { return se.tx.newest.on(se.server.now().state, se.tx.changes) }

// claim locks a row that is to be changed. It returns the row's newest version, nil if
// it is gone; changed tells that it is not the one the statement saw.
func (t *target) claim(e *env, id int64, saw []datum) (vals []datum, changed bool) {
	se := e.se
	_, _ = se.lock(rowID{se.database, t.r.key(), id}, lockExclusive, false, false)
	return t.newest(se, id, saw)
}

func (t *target) newest(se *session, id int64, saw []datum) (vals []datum, changed bool) {
	if rel := se.latest().databases[se.database].relations[t.r.key()]; rel != nil {
		if i := rel.row(id); i >= 0 {
			vals = rel.rows[i].vals
		}
	}
	changed = vals == nil || len(vals) > 0 && &vals[0] != &saw[0]
	if changed && se.tx.modes.isolation != "read committed" && se.tx.modes.isolation != "read uncommitted" && !se.changedByOwn(t.r.key(), id) {
		raise("40001", "could not serialize access due to concurrent %s", map[bool]string{true: "delete", false: "update"}[vals == nil])
	}
	return vals, changed
}

// changedByOwn reports whether the transaction itself changed a row.
func (se *session) changedByOwn(key string, id int64) bool {
	return slices.ContainsFunc(se.tx.changes, func(c change) bool {
		r, ok := c.(*rowChange)
		return ok && r.relation == key && r.id == id
	})
}

// scan gives the rows of the target that a statement is to change, joined with others, each
// locked and of its newest version.
func (t *target) scan(others *source, where func(e *env) datum) func(e *env, each func(id int64, row, more []datum)) {
	key := t.r.key()
	return func(e *env, each func(id int64, row, more []datum)) {
		rel := e.st.databases[e.se.database].relations[key]
		if rel == nil {
			return
		}
		width := len(t.r.columns)
		for _, r := range rel.rows {
			row := make([]datum, width, width+1)
			copy(row, r.vals)
			row = append(row, r.id)
			fits := func(row, more []datum) bool {
				in := e.over(slices.Concat(row, more))
				return (t.visible == nil || t.visible(in)) && where(in) == true
			}
			var with []datum
			found := false
			others.run(e, func(more []datum) bool {
				if found = fits(row, more); found {
					with = slices.Clone(more)
				}
				return !found
			})
			if !found {
				continue
			}
			now, changed := t.claim(e, r.id, r.vals)
			if now == nil {
				continue
			}
			if changed {
				copy(row, now)
				if !fits(row, with) {
					continue
				}
			}
			each(r.id, row[:width:width], with)
		}
	}
}

func (a *analysis) update(n *pg.UpdateStmt) *query {
	begin, end := a.with(n.WithClause, nil)
	defer end()
	t := a.target(n.Relation, "UPDATE", 'w')
	others := a.from(n.FromClause, nil)
	sc := &scope{outer: a.vars, cols: slices.Concat(t.cols, others.cols)}
	sets := t.sets(n.TargetList, sc)
	scan := t.scan(others, a.where(n.WhereClause, sc))
	return t.query(n.ReturningList, others.cols, func(e *env, each func(row, more []datum)) {
		begin(e)
		scan(e, func(id int64, old, more []datum) {
			in := e.over(slices.Concat(old, []datum{id}, more))
			if row := t.replace(e, in, id, old, sets); row != nil {
				each(row, more)
			}
		})
	})
}

// assignment is one of SET's.
type assignment struct {
	column int
	x      expr
}

func (t *target) sets(list []*pg.Node, sc *scope) (sets []assignment) {
	for i, c := range t.columns(list) {
		v := list[i].GetResTarget().Val
		if v.GetSetToDefault() != nil {
			d := t.defaults()[c]
			if d == nil {
				d = &expr{eval: func(*env) datum { return nil }}
			}
			sets = append(sets, assignment{c, *d})
			continue
		}
		sets = append(sets, assignment{c, t.assignable(t.a.expr(v, sc), c)})
	}
	return sets
}

// replace changes a row by assignments and returns the new one.
func (t *target) replace(e, in *env, id int64, old []datum, sets []assignment) []datum {
	row := slices.Clone(old)
	for _, s := range sets {
		row[s.column] = s.x.eval(in)
	}
	if row = t.triggers(e, "u", old, row); row == nil {
		return nil
	}
	t.checkRow(e, row)
	for _, k := range t.r.keys {
		was, _ := keyOf(k, old)
		if is, _ := keyOf(k, row); rowKey(was) != rowKey(is) {
			t.conflict(e.se, row, id, false)
			break
		}
	}
	t.write(e.se, &rowChange{e.se.database, t.r.key(), id, row})
	return row
}

func (a *analysis) delete(n *pg.DeleteStmt) *query {
	begin, end := a.with(n.WithClause, nil)
	defer end()
	t := a.target(n.Relation, "DELETE", 'd')
	others := a.from(n.UsingClause, nil)
	sc := &scope{outer: a.vars, cols: slices.Concat(t.cols, others.cols)}
	scan := t.scan(others, a.where(n.WhereClause, sc))
	return t.query(n.ReturningList, others.cols, func(e *env, each func(row, more []datum)) {
		begin(e)
		scan(e, func(id int64, old, more []datum) {
			if t.triggers(e, "d", old, old) == nil {
				return
			}
			t.write(e.se, &rowChange{e.se.database, t.r.key(), id, nil})
			each(old, more)
		})
	})
}

// upsert analyzes INSERT … ON CONFLICT … DO UPDATE.
func (t *target) upsert(n *pg.InsertStmt, columns []int) *query {
	in := t.input(n, columns)
	defaults := t.defaults()
	excluded := slices.Clone(t.cols)
	for i := range excluded {
		excluded[i].rel = "excluded"
	}
	sc := &scope{outer: t.a.vars, cols: slices.Concat(t.cols, excluded)}
	// An unqualified name is the target's.
	sets := t.sets(n.OnConflictClause.TargetList, sc)
	where := t.a.where(n.OnConflictClause.WhereClause, sc)
	t.a.read(t.r.oid)
	t.a.rights = append(t.a.rights, func() { t.a.se.allowed(t.r, "UPDATE") })
	uses := both(t.a.visible(t.r, 'w', t.cols), t.a.visible(t.r, 'r', t.cols))
	return t.query(n.ReturningList, nil, func(e *env, each func(row, more []datum)) {
		in(e, func(vals []datum) {
			row := t.fill(e, columns, vals, defaults)
			t.checkRow(e, row)
			id := e.se.rowID()
			o := t.conflict(e.se, row, id, true)
			if o == nil {
				t.write(e.se, &rowChange{e.se.database, t.r.key(), id, row})
				each(row, nil)
				return
			}
			old, _ := t.claim(e, o.id, o.vals)
			if old == nil {
				raise("40001", "could not serialize access due to concurrent delete")
			}
			if uses != nil && !uses(&env{se: e.se, st: e.st, row: append(slices.Clone(old), o.id)}) {
				raise("42501", `new row violates row-level security policy (USING expression) for table "%s"`, t.r.name)
			}
			ctx := e.over(slices.Concat(old, []datum{o.id}, row, []datum{nil}))
			if where(ctx) != true {
				return
			}
			if changed := t.replace(e, ctx, o.id, old, sets); changed != nil {
				each(changed, nil)
			}
		})
	})
}

// locking is SELECT … FOR UPDATE and its like over one table.
func (a *analysis) locking(s *pg.SelectStmt, from *source, where func(e *env) datum) func(e *env, each func(e *env) bool) {
	l := s.LockingClause[0].GetLockingClause()
	word := map[pg.LockClauseStrength]string{
		pg.LockClauseStrength_LCS_FORUPDATE: "UPDATE", pg.LockClauseStrength_LCS_FORNOKEYUPDATE: "NO KEY UPDATE",
		pg.LockClauseStrength_LCS_FORSHARE: "SHARE", pg.LockClauseStrength_LCS_FORKEYSHARE: "KEY SHARE",
	}[l.Strength]
	v := s.FromClause[0].GetRangeVar()
	if v == nil || len(s.FromClause) > 1 {
		raise("0A000", "simpg: locking rows of several tables is not modelled")
	}
	r := a.relation(v)
	t := &target{a: a, r: r}
	mode := lockExclusive
	if strings.HasSuffix(word, "SHARE") {
		mode = lockShare
	}
	a.hold(r, lockRowShare)
	visible := a.visible(r, 'w', from.cols)
	a.rights = append(a.rights, func() { a.se.allowed(r, "UPDATE") })
	a.writes = append(a.writes, "SELECT FOR "+word)
	return func(e *env, each func(e *env) bool) {
		from.run(e, func(row []datum) bool {
			in := e.over(row)
			if where(in) != true || visible != nil && !visible(in) {
				return true
			}
			id := row[len(row)-1].(int64)
			rel := e.st.databases[e.se.database].relations[r.key()]
			saw := rel.rows[rel.row(id)].vals
			nowait := l.WaitPolicy == pg.LockWaitPolicy_LockWaitError
			if _, got := e.se.lock(rowID{e.se.database, r.key(), id}, mode, nowait, l.WaitPolicy == pg.LockWaitPolicy_LockWaitSkip); !got {
				return true
			}
			now, changed := t.newest(e.se, id, saw)
			if now == nil {
				return true
			}
			if changed {
				in.row = append(slices.Clone(now), id)
				if where(in) != true {
					return true
				}
			}
			return each(in)
		})
	}
}
