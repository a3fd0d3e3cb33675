package tenant

import (
	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// with is one WITH query that can be named, linked to those it hides or follows.
type with struct {
	name   string
	node   *pg.CommonTableExpr
	scope  *scope  // that it is written in
	shared *shared // if it runs once
	used   bool
	next   *with
}

func (w *with) find(name string) *with {
	for ; w != nil; w = w.next {
		if w.name == name {
			return w
		}
	}
	return nil
}

// shared is a WITH query that runs once, whatever its references filter: one that
// writes, or is recursive.
type shared struct {
	query     *query
	src       *source // its columns, all of them in use
	recursive bool
	facts     []fact // about src; see judgement.sharedFacts
	known     bool
}

// with makes the queries of a WITH clause known in sc. The others run as often as
// they are named: each reference is a query of its own, which the conditions around it reach.
func (j *judgement) with(c *pg.WithClause, sc *scope) {
	var made []*with
	for _, n := range c.GetCtes() {
		e := n.GetCommonTableExpr()
		w := &with{name: e.GetCtename(), node: e, next: sc.with}
		w.scope = &scope{parent: sc.parent, with: sc.with}
		sc.with = w
		made = append(made, w)
	}
	for _, w := range made {
		if c.GetRecursive() {
			w.scope.with = sc.with // all of them see each other
		}
	}
	for _, w := range made {
		body := w.node.GetCtequery()
		switch sel := body.GetSelectStmt(); {
		case sel == nil:
			w.shared = j.share(j.statementQuery(body, w.scope))
		case c.GetRecursive() && mentions(sel.ProtoReflect(), w.name):
			j.recursive(w, sel)
		}
	}
	j.withs = append(j.withs, made...)
}

// share makes all columns of a query known by facts alone.
func (j *judgement) share(q *query) *shared {
	src := j.derived(q, nil)
	sh := &shared{query: q, src: src}
	j.shares = append(j.shares, sh)
	for i := range q.outs {
		j.variable(src, i)
	}
	return sh
}

// recursive builds "first UNION again", where again names the whole.
func (j *judgement) recursive(w *with, s *pg.SelectStmt) {
	sc := &scope{parent: w.scope.parent, with: w.scope.with}
	q := &query{low: j.sources + 1, op: s.GetOp(), src: j.newSource(""), barrier: true}
	q.src.union = q
	w.shared = &shared{query: q, src: q.src, recursive: true}
	j.shares = append(j.shares, w.shared)
	if s.GetOp() != pg.SetOperation_SETOP_UNION {
		j.gaveUp = true // PostgreSQL refuses it
		return
	}
	j.with(s.GetWithClause(), sc)
	q.addArm(j.selectQuery(s.GetLarg(), sc))
	q.addArm(j.selectQuery(s.GetRarg(), sc))
	q.high = j.sources + 1
	for i := range q.src.names {
		j.variable(q.src, i)
	}
}

// reference is one mention of a WITH query in a FROM list.
func (j *judgement) reference(w *with, rv *pg.RangeVar) *source {
	w.used = true
	var s *source
	if w.shared != nil {
		s = j.newSource("")
		s.shared, s.names, s.open = w.shared, w.shared.src.names, w.shared.src.open
	} else {
		s = j.derived(j.selectQuery(w.node.GetCtequery().GetSelectStmt(), w.scope), nil)
	}
	s.name, s.alias = rv.GetRelname(), rv.GetAlias().GetAliasname()
	s.open = s.open || w.node.GetSearchClause() != nil || w.node.GetCycleClause() != nil
	j.renameOuts(s, &pg.Alias{Colnames: w.node.GetAliascolnames()})
	j.renameOuts(s, rv.GetAlias())
	return s
}

// mentions reports whether a relation of that name is named anywhere in m.
func mentions(m protoreflect.Message, name string) bool {
	found := false
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := 0; i < v.List().Len() && !found; i++ {
				found = isMention(v.List().Get(i).Message(), name)
			}
		default:
			found = isMention(v.Message(), name)
		}
		return !found
	})
	return found
}

func isMention(m protoreflect.Message, name string) bool {
	if rv, ok := m.Interface().(*pg.RangeVar); ok {
		return rv.GetSchemaname() == "" && rv.GetRelname() == name
	}
	return mentions(m, name)
}
