package tenant

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// The judgement rests on one question, asked of every occurrence of a tenant table:
// what must hold for a row of it to make any difference? Facts flow down: from WHERE
// to all that is joined, from ON to the side whose rows it chooses, from a query
// to the queries in its expressions, and from a condition on a query's output to
// what the output is made of. And they flow up (gather), from what a source
// promises of its rows to its siblings.
//
// Of an outer join, ON chooses the rows of the side that NULLs may stand for,
// and says nothing of the other. If a condition above can only be true with a row
// of that side, the NULLs are thrown away and the join is an inner one.

// known is what facts and all items together say, if a row of each takes part.
func (j *judgement) known(facts []fact, items ...*item) []fact {
	all := facts
	for range maxDepth { // each step may make another outer join an inner one
		present := j.present(all)
		next := slices.Clone(facts)
		for _, it := range items {
			next = j.gather(it, present, next)
		}
		if len(next) == len(all) {
			break
		}
		all = next
	}
	return all
}

// effective is what kind of join it is, if the sources present have rows.
func (it *item) effective(present map[int]bool) pg.JoinType {
	switch it.kind {
	case pg.JoinType_JOIN_LEFT:
		if it.right.has(present) {
			return pg.JoinType_JOIN_INNER
		}
	case pg.JoinType_JOIN_RIGHT:
		if it.left.has(present) {
			return pg.JoinType_JOIN_INNER
		}
	case pg.JoinType_JOIN_FULL:
		l, r := it.left.has(present), it.right.has(present)
		switch {
		case l && r:
			return pg.JoinType_JOIN_INNER
		case l:
			return pg.JoinType_JOIN_LEFT
		case r:
			return pg.JoinType_JOIN_RIGHT
		}
	}
	return it.kind
}

// gather appends what holds of every row that it puts out.
func (j *judgement) gather(it *item, present map[int]bool, facts []fact) []fact {
	if !it.join {
		return append(facts, j.sourceFacts(it.src)...)
	}
	switch kind := it.effective(present); kind {
	case pg.JoinType_JOIN_INNER:
		side := it.left
		if it.kind == pg.JoinType_JOIN_RIGHT {
			side = it.right
		}
		facts = append(append(facts, it.on...), it.merged(side)...)
		return j.gather(it.right, present, j.gather(it.left, present, facts))
	case pg.JoinType_JOIN_LEFT:
		return j.gather(it.left, present, append(facts, it.merged(it.left)...))
	case pg.JoinType_JOIN_RIGHT:
		return j.gather(it.right, present, append(facts, it.merged(it.right)...))
	}
	return facts
}

// merged says that the columns of USING are those of one side.
func (it *item) merged(side *item) []fact {
	var facts []fact
	for _, u := range it.using {
		from := u.left
		if side == it.right {
			from = u.right
		}
		if from != 0 {
			facts = append(facts, fact{a: u.m, b: from})
		}
	}
	return facts
}

// sourceFacts is what a query promises of its output.
func (j *judgement) sourceFacts(s *source) []fact {
	switch {
	case s.shared != nil:
		return j.sharedFacts(s)
	case s.query == nil:
		return nil
	}
	if facts, ok := j.promised[s]; ok {
		return facts
	}
	facts := j.queryFacts(s.query, s)
	if j.visiting && j.unsettled == 0 {
		j.promised[s] = facts
	}
	return facts
}

// queryFacts is what holds of every row that q puts out, as columns of src, and of
// the rows around q that it refers to.
func (j *judgement) queryFacts(q *query, src *source) []fact {
	return j.project(and(j.rowFacts(q), j.links(src)), q.outside(j))
}

// rowFacts is what holds of the rows that make up a row of output.
func (j *judgement) rowFacts(q *query) []fact {
	if len(q.arms) == 0 {
		if q.lone {
			return nil
		}
		return j.known(q.where, q.items...)
	}
	lists := make([][]fact, len(q.arms))
	for i, a := range q.arms {
		lists[i] = j.armFacts(a)
	}
	switch q.op {
	case pg.SetOperation_SETOP_INTERSECT:
		return and(lists...)
	case pg.SetOperation_SETOP_EXCEPT:
		return lists[0]
	}
	return j.common(lists)
}

// armFacts is what one arm of a set operation promises of the operation's columns.
func (j *judgement) armFacts(a *arm) []fact {
	return j.project(and(j.rowFacts(a.query), a.links), a.outside(j))
}

func (q *query) outside(j *judgement) func(varID) bool {
	return func(v varID) bool {
		id := j.vars[v].src.id
		return id < q.low || id >= q.high
	}
}

// sharedFacts is what a WITH query that runs once promises of its rows, as
// columns of the reference s. The facts of a recursive one are those that the first
// arm starts with and the second keeps.
func (j *judgement) sharedFacts(s *source) []fact {
	if !j.visiting {
		return nil
	}
	sh := s.shared
	if !sh.known {
		sh.known = true
		own := func(v varID) bool { return j.vars[v].src == sh.src }
		if !sh.recursive {
			sh.facts = j.project(j.queryFacts(sh.query, sh.src), own)
		} else if len(sh.query.arms) == 2 {
			j.settle(sh, own)
		}
	}
	var facts []fact
	to := func(v varID) varID {
		if v == 0 {
			return 0
		}
		return s.vars[j.vars[v].index]
	}
	for _, f := range j.project(sh.facts, func(v varID) bool { return to(v) != 0 }) {
		facts = append(facts, fact{a: to(f.a), b: to(f.b), bind: f.bind, strict: f.strict})
	}
	return facts
}

func (j *judgement) settle(sh *shared, own func(varID) bool) {
	j.unsettled++
	defer func() { j.unsettled-- }()
	sh.facts = j.project(j.armFacts(sh.query.arms[0]), own)
	for range maxDepth {
		next := j.common([][]fact{sh.facts, j.project(j.armFacts(sh.query.arms[1]), own)})
		if slices.EqualFunc(next, sh.facts, asStrong) {
			return
		}
		sh.facts = next
	}
	sh.facts = nil
}

func asStrong(x, y fact) bool {
	return x.a == y.a && x.b == y.b && x.strict == y.strict &&
		(x.bind == nil) == (y.bind == nil) && (x.bind == nil || x.bind.many == y.bind.many)
}

// visit judges all that q reads. facts are of what is around q, and of its output,
// where that concerns every row.
func (j *judgement) visit(q *query, facts []fact) {
	if j.gaveUp {
		return
	}
	if len(q.arms) > 0 {
		j.visitArms(q, facts)
		return
	}
	known := j.known(and(facts, q.where), q.items...)
	for _, it := range q.items {
		j.visitItem(it, known)
	}
	if q.lone {
		j.visitSubs(q.subs, known, facts)
	} else {
		j.visitSubs(q.subs, known, known)
	}
	if q.after != nil {
		q.after(known)
	}
}

// visitArms: a row of the second arm of EXCEPT matters only if the first has one
// like it; so it is with both arms of INTERSECT.
func (j *judgement) visitArms(q *query, facts []fact) {
	for i, a := range q.arms {
		more := facts
		if q.op == pg.SetOperation_SETOP_INTERSECT || q.op == pg.SetOperation_SETOP_EXCEPT && i == 1 {
			more = and(facts, j.armFacts(q.arms[1-i]))
		}
		if !a.barrier {
			more = and(more, a.links)
		}
		j.visit(a.query, more)
	}
	j.visitSubs(q.subs, facts, facts)
}

// visitSubs visits the queries in expressions; late ones are evaluated where only
// less is known.
func (j *judgement) visitSubs(subs []*sublink, known, late []fact) {
	for _, s := range subs {
		facts := known
		if s.late {
			facts = late
		}
		if s.in && !s.query.barrier {
			facts = and(facts, j.links(s.src))
		}
		j.visit(s.query, facts)
	}
}

// visitItem judges what it reads. What it promises is among the facts already.
func (j *judgement) visitItem(it *item, facts []fact) {
	switch {
	case j.gaveUp:
	case it.join:
		j.visitJoin(it, facts)
	case it.src.query != nil && it.src.query.barrier:
		j.visit(it.src.query, facts)
	case it.src.query != nil:
		j.visit(it.src.query, and(facts, j.links(it.src)))
	case it.src.table != nil:
		j.record(it.src, facts)
	}
}

func (j *judgement) visitJoin(it *item, facts []fact) {
	kind := it.effective(j.present(facts))
	both := facts
	if kind != pg.JoinType_JOIN_INNER {
		both = j.known(and(facts, it.on), it.left, it.right)
	}
	switch kind {
	case pg.JoinType_JOIN_INNER:
		j.visitItem(it.left, both)
		j.visitItem(it.right, both)
	case pg.JoinType_JOIN_LEFT:
		j.visitItem(it.left, facts)
		j.visitItem(it.right, both)
	case pg.JoinType_JOIN_RIGHT:
		j.visitItem(it.left, both)
		j.visitItem(it.right, facts)
	default: // FULL: the merged columns are those of the side that has a row
		j.visitItem(it.left, j.known(and(facts, it.merged(it.left)), it.left))
		j.visitItem(it.right, j.known(and(facts, it.merged(it.right)), it.right))
	}
	j.visitSubs(it.subs, both, both)
}
