package tenant

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// occurrence is one mention of a tenant table, however often what mentions it is
// read: in a WITH query that is named twice it must be bound both times.
type occurrence struct {
	rel     *relation
	alias   string
	via     string
	kind    Kind
	seen    bool
	unbound bool
	many    bool
	// suggestion is for the first time that it is not bound.
	suggestion string
}

type occurrenceKey struct {
	via, node *pg.RangeVar
	use       Kind
}

// occurrence finds or makes the occurrence of a tenant table that rv is; in a view,
// what the statement does with the view is what it does with the table.
func (j *judgement) occurrence(rv *pg.RangeVar, r *relation, use Kind) *occurrence {
	key := occurrenceKey{via: j.view, node: rv, use: use}
	if o := j.byNode[key]; o != nil {
		return o
	}
	o := &occurrence{rel: r, alias: rv.GetAlias().GetAliasname(), kind: use}
	if j.view != nil {
		o.via, o.kind = j.view.GetRelname(), j.viewUse
	}
	j.byNode[key] = o
	j.found = append(j.found, o)
	return o
}

// occurrenceOf is another use that the statement makes of the same table.
func (j *judgement) occurrenceOf(o *occurrence, use Kind) *occurrence {
	other := &occurrence{rel: o.rel, alias: o.alias, via: o.via, kind: use}
	j.found = append(j.found, other)
	return other
}

// record judges one occurrence by what must hold for a row of it to matter.
func (j *judgement) record(s *source, facts []fact) {
	if s.table == nil {
		return
	}
	o := s.table
	o.seen = true
	c := j.classes(facts)
	at := slices.Index(s.rel.names, s.rel.column)
	if bind := c.bound(s.vars[at]); at >= 0 && bind != nil {
		j.bindsTo(o, bind, false)
		return
	}
	kind := j.kindOf(s, c)
	if !o.unbound || kind > o.kind {
		o.kind, o.suggestion = kind, j.suggest(s, c, facts)
	}
	o.unbound = true
}

// bindsTo notes that o is bound, and the values for later comparison.
func (j *judgement) bindsTo(o *occurrence, b *binding, stored bool) {
	o.many = o.many || b.many
	b.each(func(n *pg.Node) bool {
		v, ok := comparable(n)
		if !ok {
			return true
		}
		if b.view {
			v.Offset = -1
		}
		v.Array, v.Stored, v.Column = b.array, stored, o.rel.column
		if !slices.Contains(j.values, v) && len(j.values) < maxValues {
			j.values = append(j.values, v)
		}
		return len(j.values) < maxValues
	})
}

// kindOf says how rows are found that no tenant filter restricts.
func (j *judgement) kindOf(s *source, c *classes) Kind {
	use := s.table.kind
	if use != KindList && use != KindBulkWrite || len(s.rel.tables) == 0 {
		return use
	}
	table := s.rel.tables[0]
	given := func(names []string, joined bool) bool {
		for _, name := range names {
			v := s.vars[slices.Index(s.rel.names, name)]
			if c.bound(v) == nil && !(joined && j.meets(c, v)) {
				return false
			}
		}
		return len(names) > 0
	}
	for _, key := range table.Keys {
		if given(key.Columns, false) {
			if use == KindBulkWrite {
				return KindRowWrite
			}
			return KindLookup
		}
	}
	if use == KindBulkWrite {
		return use
	}
	for _, key := range table.Keys {
		if given(key.Columns, true) {
			return KindForeignKey
		}
	}
	for _, f := range table.Foreign {
		if given(f.Columns, true) {
			return KindForeignKey
		}
	}
	return use
}

// meets reports whether v is equal to a column of another source, of which only
// some rows are read: one of its columns is bound.
func (j *judgement) meets(c *classes, v varID) bool {
	if v == 0 {
		return false
	}
	root := c.find(v)
	for w := range c.parent {
		other := j.vars[w].src
		if w == 0 || c.find(varID(w)) != root || other == j.vars[v].src {
			continue
		}
		for _, of := range other.vars {
			if c.bound(of) != nil {
				return true
			}
		}
	}
	return false
}

// suggest is the predicate that is missing.
func (j *judgement) suggest(s *source, c *classes, facts []fact) string {
	o := s.table
	if o.rel.column == "" {
		return "name the tables that have a tenant column, or use ONLY"
	}
	name := o.alias
	if name == "" {
		name = o.rel.name
	}
	column := quoteIdent(name) + "." + quoteIdent(o.rel.column)
	if o.via != "" {
		return column + " = " + j.tenantValue(o) + " in view " + quoteIdent(o.via)
	}
	for _, v := range mentioned(facts) {
		other := j.vars[v].src
		if other.table == nil || other.table.via != "" || c.bound(v) == nil || other.level != s.level ||
			slices.Index(other.rel.names, other.rel.column) != j.vars[v].index {
			continue
		}
		name := other.alias
		if name == "" {
			name = other.rel.name
		}
		return column + " = " + quoteIdent(name) + "." + quoteIdent(other.rel.column)
	}
	return column + " = " + j.tenantValue(o)
}

// tenantValue is what a missing predicate would compare with.
func (j *judgement) tenantValue(o *occurrence) string {
	if len(j.policy.Settings) == 0 {
		return "<tenant>"
	}
	value := "current_setting('" + j.policy.Settings[0] + "')"
	at := slices.Index(o.rel.names, o.rel.column)
	if at < 0 {
		return value
	}
	switch t := o.rel.types[at]; t {
	case "", "text", "varchar":
		return value
	default:
		return value + "::" + t
	}
}

// recordStored judges what SET gives to the tenant column of rows that exist.
func (j *judgement) recordStored(s *source, list []assigned, known []fact) {
	s.eachTable(func(t *source) {
		for _, give := range list {
			bind := j.given(give, known)
			own := t.vars[slices.Index(t.rel.names, t.rel.column)]
			switch {
			case bind != nil:
				j.bindsTo(t.table, bind, true)
			case give.v != 0 && give.v == own && !t.table.unbound: // SET x = x
			default:
				t.table.unbound, t.table.seen = true, true
				t.table.suggestion = "give " + quoteIdent(t.rel.column) + " a tenant's value"
			}
		}
	})
}

// given is what a stored value is bound to.
func (j *judgement) given(give assigned, known []fact) *binding {
	if give.bind != nil {
		return give.bind
	}
	return j.classes(and(known, give.more)).bound(give.v)
}

// recordInsert judges what is given to the tenant column of new rows.
func (j *judgement) recordInsert(s *source, give assigned, known []fact) {
	bind := j.given(give, known)
	s.eachTable(func(t *source) {
		o := t.table
		o.seen, o.kind = true, KindInsert
		switch {
		case bind != nil && o.rel.column != "":
			j.bindsTo(o, bind, true)
		case o.rel.column == "":
			o.unbound, o.suggestion = true, "name the table that has the tenant column"
		default:
			o.unbound, o.suggestion = true, "give "+quoteIdent(o.rel.column)+" a tenant's value"
		}
	})
}

// eachTable calls f for every tenant table that s is, or is made of if s is a view.
func (s *source) eachTable(f func(*source)) {
	if s.table != nil {
		f(s)
	}
	if s.query != nil {
		s.query.eachTable(f)
	}
}

func (q *query) eachTable(f func(*source)) {
	for _, a := range q.arms {
		a.eachTable(f)
	}
	for _, it := range q.items {
		it.each(func(s *source) { s.eachTable(f) })
	}
}
