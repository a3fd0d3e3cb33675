package tenant

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/grammar"
)

// statementQuery builds any statement that reads or writes rows, nil for others.
func (j *judgement) statementQuery(n *pg.Node, outer *scope) *query {
	switch s := n.GetNode().(type) {
	case *pg.Node_SelectStmt:
		return j.selectQuery(s.SelectStmt, outer)
	case *pg.Node_InsertStmt:
		return j.insert(s.InsertStmt, outer)
	case *pg.Node_UpdateStmt:
		return j.update(s.UpdateStmt, outer)
	case *pg.Node_DeleteStmt:
		return j.deletion(s.DeleteStmt, outer)
	case *pg.Node_MergeStmt:
		return j.mergeInto(s.MergeStmt, outer)
	}
	return nil
}

// writing begins the query of a statement that writes.
func (j *judgement) writing(c *pg.WithClause, outer *scope) (*query, *scope) {
	q := &query{low: j.sources + 1}
	sc := &scope{parent: outer}
	if outer != nil {
		sc.with = outer.with
	}
	j.with(c, sc)
	return q, sc
}

// returning builds RETURNING, which sees the rows that were written.
func (j *judgement) returning(q *query, list []*pg.Node, p place) *query {
	for _, t := range list {
		q.outs = append(q.outs, j.target(t.GetResTarget(), p)...)
		j.expression(t.GetResTarget().GetVal(), p)
	}
	q.high = j.sources + 1
	return q
}

func (j *judgement) deletion(s *pg.DeleteStmt, outer *scope) *query {
	q, sc := j.writing(s.GetWithClause(), outer)
	p := place{scope: sc, subs: &q.subs}
	target := j.table(s.GetRelation(), &scope{}, KindBulkWrite)
	q.items = append([]*item{single(target)}, j.from(s.GetUsingClause(), p)...)
	sc.items = q.items
	q.place()
	q.where = j.condition(s.GetWhereClause(), p)
	return j.returning(q, s.GetReturningList(), p)
}

func (j *judgement) update(s *pg.UpdateStmt, outer *scope) *query {
	q, sc := j.writing(s.GetWithClause(), outer)
	p := place{scope: sc, subs: &q.subs}
	target := j.table(s.GetRelation(), &scope{}, KindBulkWrite)
	q.items = append([]*item{single(target)}, j.from(s.GetFromClause(), p)...)
	sc.items = q.items
	q.place()
	q.where = j.condition(s.GetWhereClause(), p)
	set := j.assignments(target, s.GetTargetList(), p)
	q.after = func(known []fact) { j.recordStored(target, set, known) }
	return j.returning(q, s.GetReturningList(), p)
}

// assigned is a value given to a tenant column.
type assigned struct {
	v    varID
	bind *binding
	more []fact // what is certain of v
	any  bool   // it is not given one that can be followed
}

// assignments builds SET, and returns what is assigned to the tenant column.
func (j *judgement) assignments(target *source, list []*pg.Node, p place) []assigned {
	var all []assigned
	for _, n := range list {
		t := n.GetResTarget()
		val := t.GetVal()
		if m := val.GetMultiAssignRef(); m != nil {
			if m.GetColno() == 1 {
				j.expression(m.GetSource(), p)
			}
			val = nil
			if args := m.GetSource().GetRowExpr().GetArgs(); int(m.GetColno()) <= len(args) {
				val = args[m.GetColno()-1]
			}
		} else {
			j.expression(val, p)
		}
		if column := target.tenantColumn(); column != "" && t.GetName() == column {
			all = append(all, j.storing(target, val, p))
		}
	}
	return all
}

// tenantColumn is the name of the column that says whose a row of s is, also if s
// is a view of a table. It is empty if there is none.
func (s *source) tenantColumn() string {
	if s.table != nil {
		return s.table.rel.column
	}
	if s.query == nil {
		return ""
	}
	for i, o := range s.query.outs {
		var c column
		if o.node == nil {
			c = o.col
		} else if ref := o.node.GetColumnRef(); ref != nil {
			c, _ = o.place.scope.lookup(columnFields(ref))
		}
		if c.src == nil || i >= len(s.names) {
			continue
		}
		if below := c.src.tenantColumn(); below != "" && c.index < len(c.src.names) && c.src.names[c.index] == below {
			return s.names[i]
		}
	}
	return ""
}

// storing is what an expression gives to the tenant column of target.
func (j *judgement) storing(target *source, n *pg.Node, p place) assigned {
	switch {
	case n == nil:
		return assigned{any: true}
	case n.GetSetToDefault() != nil:
		if def := j.defaultValue(target); def != nil {
			return assigned{bind: def}
		}
		return assigned{any: true}
	case isValue(n):
		return assigned{bind: j.bindTo(n)}
	}
	v, more := j.term(n, p)
	return assigned{v: v, more: more, any: v == 0}
}

// defaultValue is the tenant column's default, if that is the session's setting.
func (j *judgement) defaultValue(target *source) *binding {
	if target.table == nil || len(target.rel.tables) == 0 {
		return nil
	}
	var found *pg.Node
	for _, t := range target.rel.tables {
		c, ok := t.Column(target.rel.column)
		if !ok || c.Default == "" {
			return nil
		}
		tree, err := grammar.Parse("SELECT " + c.Default)
		if err != nil {
			return nil
		}
		targets := tree.GetStmts()[0].GetStmt().GetSelectStmt().GetTargetList()
		if len(targets) != 1 || !isValue(targets[0].GetResTarget().GetVal()) {
			return nil
		}
		found = targets[0].GetResTarget().GetVal()
	}
	return &binding{nodes: []*pg.Node{found}, view: true}
}

// insert is INSERT: its rows are a source, of which the tenant column must be bound.
func (j *judgement) insert(s *pg.InsertStmt, outer *scope) *query {
	q, sc := j.writing(s.GetWithClause(), outer)
	target := j.table(s.GetRelation(), &scope{}, KindInsert)
	sel := s.GetSelectStmt().GetSelectStmt()
	give := assigned{any: true}
	if sel != nil {
		rows := j.derived(j.selectQuery(sel, sc), nil)
		q.items = []*item{single(rows)}
		give = j.inserted(target, rows, sel, s.GetCols())
	} else if def := j.defaultValue(target); def != nil {
		give = assigned{bind: def}
	}
	p := place{scope: &scope{items: []*item{single(target)}, parent: sc.parent, with: sc.with}, subs: &q.subs}
	q.after = func(known []fact) { j.recordInsert(target, give, known) }
	merely := j.conflict(q, s, target, give, p)
	if merely && !give.any {
		if i := slices.Index(target.names, target.tenantColumn()); i >= 0 {
			q.where = append(q.where, fact{a: j.variable(target, i), b: give.v, bind: give.bind})
		}
	}
	return j.returning(q, s.GetReturningList(), p)
}

// inserted is what the rows give to the tenant column.
func (j *judgement) inserted(target, rows *source, sel *pg.SelectStmt, cols []*pg.Node) assigned {
	column := target.tenantColumn()
	at := -1
	for i, n := range cols {
		if n.GetResTarget().GetName() == column {
			at = i
		}
	}
	if len(cols) == 0 && !target.open {
		at = slices.Index(target.names, column)
	}
	if column == "" || at < 0 {
		if def := j.defaultValue(target); column != "" && len(cols) > 0 && def != nil {
			return assigned{bind: def}
		}
		return assigned{any: true}
	}
	if def := j.defaultValue(target); def != nil && len(sel.GetValuesLists()) == 1 {
		if items := sel.GetValuesLists()[0].GetList().GetItems(); at < len(items) && items[at].GetSetToDefault() != nil {
			return assigned{bind: def}
		}
	}
	if at >= len(rows.query.outs) || restBefore(rows.query.outs, at) {
		return assigned{any: true}
	}
	if o := rows.query.outs[at]; o.node != nil && len(rows.query.arms) == 0 {
		if v, more := j.term(o.node, o.place); len(more) > 0 {
			return assigned{v: v, more: more} // a scalar subquery
		}
	}
	return assigned{v: j.variable(rows, at)}
}

// conflict builds ON CONFLICT DO UPDATE, which changes a row that is there: one of
// the same tenant if the key in conflict has the tenant column. It reports
// whether what is written is merely what was given.
func (j *judgement) conflict(q *query, s *pg.InsertStmt, target *source, give assigned, p place) bool {
	c := s.GetOnConflictClause()
	if c.GetAction() != pg.OnConflictAction_ONCONFLICT_UPDATE {
		return true
	}
	excluded := j.newSource("excluded")
	excluded.names, excluded.open, excluded.rel = target.names, target.open, target.rel
	both := &scope{items: []*item{p.scope.items[0], single(excluded)}, parent: p.scope.parent, with: p.scope.with}
	sub := &query{low: j.sources + 1}
	where := place{scope: both, subs: &sub.subs}
	sub.where = j.condition(c.GetWhereClause(), where)
	set := j.assignments(target, c.GetTargetList(), where)
	sub.high = j.sources + 1
	at := slices.Index(target.names, target.tenantColumn())
	if at < 0 {
		return false
	}
	sub.where = append(sub.where, fact{a: j.variable(excluded, at), b: give.v, bind: give.bind})
	inKey := target.inKey(c.GetInfer())
	if inKey {
		sub.where = append(sub.where, fact{a: j.variable(target, at), b: j.variable(excluded, at), strict: true})
	}
	old := &source{}
	*old = *target
	if target.table != nil {
		old.table = j.occurrenceOf(target.table, KindRowWrite)
	}
	after := q.after
	q.after = func(known []fact) {
		after(known)
		more := and(known, sub.where)
		j.visitSubs(sub.subs, more, more)
		j.record(old, more)
		j.recordStored(old, set, more)
	}
	return inKey
}

// inKey reports whether the unique key of ON CONFLICT has the tenant column.
func (s *source) inKey(c *pg.InferClause) bool {
	column := s.tenantColumn()
	for _, e := range c.GetIndexElems() {
		if e.GetIndexElem().GetName() == column {
			return true
		}
	}
	if c.GetConname() == "" || s.rel == nil || len(s.rel.tables) != 1 {
		return false
	}
	for _, k := range s.rel.tables[0].Keys {
		if k.Name == c.GetConname() {
			return slices.Contains(k.Columns, column)
		}
	}
	return false
}

// mergeInto is MERGE: a LEFT JOIN of the source with the target if it inserts, an
// inner one otherwise.
func (j *judgement) mergeInto(s *pg.MergeStmt, outer *scope) *query {
	q, sc := j.writing(s.GetWithClause(), outer)
	target := single(j.table(s.GetRelation(), &scope{}, KindBulkWrite))
	p := place{scope: sc, subs: &q.subs}
	from := j.item(s.GetSourceRelation(), p, nil)
	it := &item{join: true, kind: pg.JoinType_JOIN_INNER, src: j.newSource(""), left: from, right: target}
	for _, w := range s.GetMergeWhenClauses() {
		if !w.GetMergeWhenClause().GetMatched() {
			it.kind = pg.JoinType_JOIN_LEFT
		}
	}
	q.items = []*item{it}
	sc.items = q.items
	it.on = j.condition(s.GetJoinCondition(), place{scope: sc, subs: &it.subs})
	for _, n := range s.GetMergeWhenClauses() {
		j.when(q, n.GetMergeWhenClause(), target.src, it, p)
	}
	q.high = j.sources + 1
	return q
}

// when builds one WHEN of a MERGE.
func (j *judgement) when(q *query, w *pg.MergeWhenClause, target *source, it *item, p place) {
	j.expression(w.GetCondition(), p)
	before := q.after
	switch w.GetCommandType() {
	case pg.CmdType_CMD_UPDATE:
		set := j.assignments(target, w.GetTargetList(), p)
		q.after = func(known []fact) {
			if before != nil {
				before(known)
			}
			j.recordStored(target, set, j.known(and(known, it.on), it.left, it.right))
		}
	case pg.CmdType_CMD_INSERT:
		give := j.mergeInsert(w, target, p)
		into := &source{}
		*into = *target
		if target.table != nil {
			into.table = j.occurrenceOf(target.table, KindInsert)
		}
		q.after = func(known []fact) {
			if before != nil {
				before(known)
			}
			j.recordInsert(into, give, known)
		}
	}
}

func (j *judgement) mergeInsert(w *pg.MergeWhenClause, target *source, p place) assigned {
	column := target.tenantColumn()
	at := -1
	for i, n := range w.GetTargetList() {
		if n.GetResTarget().GetName() == column {
			at = i
		}
	}
	if len(w.GetTargetList()) == 0 && !target.open {
		at = slices.Index(target.names, column)
	}
	for _, v := range w.GetValues() {
		j.expression(v, p)
	}
	if at < 0 && len(w.GetTargetList()) > 0 || len(w.GetValues()) == 0 {
		if def := j.defaultValue(target); def != nil {
			return assigned{bind: def}
		}
	}
	if at < 0 || at >= len(w.GetValues()) {
		return assigned{any: true}
	}
	return j.storing(target, w.GetValues()[at], p)
}
