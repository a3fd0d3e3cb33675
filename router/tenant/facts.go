package tenant

import pg "github.com/pganalyze/pg_query_go/v5"

// varID is a column of one source of rows. 0 is none.
type varID int32

// fact is an equality that holds for every combination of rows that matters.
type fact struct {
	a, b varID    // equal to each other, or …
	bind *binding // … a is equal to one of these values
	// strict: a comparison came out true, so nothing in it is NULL. Otherwise it is
	// an identity: b is where a comes from, and both may be NULL.
	strict bool
}

// binding is one or several values that depend on no row.
type binding struct {
	nodes []*pg.Node  // expressions; for an array, the array
	of    [2]*binding // or those of two others: long lists are not copied
	many  bool        // a list or an array
	array bool
	view  bool // written in a view, not in the statement
}

func (j *judgement) bindTo(n *pg.Node) *binding {
	return &binding{nodes: []*pg.Node{n}, view: j.view != nil}
}

// either is what a column is bound to that is bound to x or to y.
func either(x, y *binding) *binding {
	if x == nil || y == nil {
		return nil
	}
	if !x.many && !y.many && sameValue(x.nodes[0], y.nodes[0]) {
		return x
	}
	return &binding{of: [2]*binding{x, y}, many: true, array: x.array || y.array, view: x.view || y.view}
}

// each calls f for the expressions in order, until it returns false.
func (b *binding) each(f func(*pg.Node) bool) {
	for todo := []*binding{b}; len(todo) > 0; {
		last := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if last.of[0] != nil {
			todo = append(todo, last.of[1], last.of[0])
			continue
		}
		for _, n := range last.nodes {
			if !f(n) {
				return
			}
		}
	}
}

func sameValue(x, y *pg.Node) bool {
	a, ok := comparable(x)
	b, ok2 := comparable(y)
	a.Offset, b.Offset = 0, 0
	return ok && ok2 && a == b
}

// classes are the columns that facts make equal.
type classes struct {
	parent []varID
	bind   []*binding
	strict []bool
}

func (j *judgement) classes(facts []fact) *classes {
	n := len(j.vars)
	if j.work += n + len(facts); j.work > maxWork {
		j.gaveUp = true
	}
	c := &classes{parent: make([]varID, n), bind: make([]*binding, n), strict: make([]bool, n)}
	for i := range c.parent {
		c.parent[i] = varID(i)
	}
	for _, f := range facts {
		if f.b != 0 {
			if a, b := c.find(f.a), c.find(f.b); a != b {
				c.parent[b] = a
			}
		}
	}
	for _, f := range facts {
		root := c.find(f.a)
		c.strict[root] = c.strict[root] || f.strict
		if f.bind != nil && (c.bind[root] == nil || c.bind[root].many && !f.bind.many) {
			c.bind[root] = f.bind
		}
	}
	return c
}

func (c *classes) find(v varID) varID {
	for c.parent[v] != v {
		c.parent[v] = c.parent[c.parent[v]]
		v = c.parent[v]
	}
	return v
}

// bound is what v is bound to, nil if to nothing.
func (c *classes) bound(v varID) *binding {
	if v == 0 {
		return nil
	}
	return c.bind[c.find(v)]
}

// project says all that facts say of the columns kept.
func (j *judgement) project(facts []fact, keep func(varID) bool) []fact {
	if len(facts) == 0 || j.gaveUp {
		return nil
	}
	c := j.classes(facts)
	heads := make([]varID, len(c.parent))
	var out []fact
	for _, v := range mentioned(facts) {
		if !keep(v) {
			continue
		}
		root := c.find(v)
		switch {
		case heads[root] == 0:
			heads[root] = v
			if c.bind[root] != nil {
				out = append(out, fact{a: v, bind: c.bind[root], strict: c.strict[root]})
			}
		case heads[root] != v:
			out = append(out, fact{a: heads[root], b: v, strict: c.strict[root]})
		}
	}
	return out
}

// mentioned are the columns in facts, each once.
func mentioned(facts []fact) []varID {
	var list []varID
	seen := map[varID]bool{0: true}
	for _, f := range facts {
		for _, v := range [2]varID{f.a, f.b} {
			if !seen[v] {
				seen[v] = true
				list = append(list, v)
			}
		}
	}
	return list
}

// common says what every one of the lists says: at least one of them holds.
func (j *judgement) common(lists [][]fact) []fact {
	switch len(lists) {
	case 0:
		return nil
	case 1:
		return lists[0]
	}
	facts := lists[0]
	for _, other := range lists[1:] {
		facts = j.common2(facts, other)
	}
	return facts
}

func (j *judgement) common2(x, y []fact) []fact {
	if len(x) == 0 || len(y) == 0 || j.gaveUp {
		return nil
	}
	cx, cy := j.classes(x), j.classes(y)
	heads := map[[2]varID]varID{}
	var out []fact
	for _, v := range mentioned(x) {
		rx, ry := cx.find(v), cy.find(v)
		strict := cx.strict[rx] && cy.strict[ry]
		key := [2]varID{rx, ry}
		if head := heads[key]; head != 0 {
			out = append(out, fact{a: head, b: v, strict: strict})
			continue
		}
		heads[key] = v
		if b := either(cx.bind[rx], cy.bind[ry]); b != nil {
			out = append(out, fact{a: v, bind: b, strict: strict})
		}
	}
	return out
}

// present are the sources that facts prove to take part with a row of their own,
// not one of NULLs that an outer join made.
func (j *judgement) present(facts []fact) map[int]bool {
	c := j.classes(facts)
	set := make(map[int]bool)
	for _, v := range mentioned(facts) {
		if c.strict[c.find(v)] {
			set[j.vars[v].src.id] = true
		}
	}
	return set
}

// and joins lists of facts into a new one.
func and(lists ...[]fact) []fact {
	n := 0
	for _, l := range lists {
		n += len(l)
	}
	if n == 0 {
		return nil
	}
	out := make([]fact, 0, n)
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}
