package tenant

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// source is one entry of a FROM list: a table, or rows that a query makes. Every
// mention of a table, view or WITH query is a source of its own.
type source struct {
	id    int
	alias string // empty if it has none
	name  string // of the relation, if it is one
	names []string
	// open: there are columns besides names that nobody knows.
	open bool
	vars map[int]varID // of the columns in use

	level  int         // the query whose FROM list it is in
	table  *occurrence // a tenant table
	rel    *relation   // any table
	query  *query      // a derived table or view
	union  *query      // the columns of a set operation
	shared *shared     // a WITH query that runs once
}

// variable is what a varID stands for.
type variable struct {
	src   *source
	index int
	// link is where a column of a query comes from: a column below, or a value.
	link varID
	bind *binding
}

func (j *judgement) newSource(alias string) *source {
	j.sources++
	return &source{id: j.sources, alias: alias, vars: map[int]varID{}}
}

// variable returns the varID of a column. The columns below it are made with it,
// so that none is made once the query is complete.
func (j *judgement) variable(s *source, index int) varID {
	if v, ok := s.vars[index]; ok {
		return v
	}
	v := varID(len(j.vars))
	j.vars = append(j.vars, variable{src: s, index: index})
	s.vars[index] = v
	if s.query != nil && index < len(s.query.outs) {
		link, bind := j.resolve(s.query.outs[index])
		j.vars[v].link, j.vars[v].bind = link, bind
	}
	if s.union != nil {
		for _, a := range s.union.arms {
			j.linkArm(a, v, index)
		}
	}
	return v
}

// linkArm says where column v of a set operation comes from in one of its arms.
func (j *judgement) linkArm(a *arm, v varID, index int) {
	if index >= len(a.outs) || restBefore(a.outs, index) {
		return
	}
	if link, bind := j.resolve(a.outs[index]); link != 0 || bind != nil {
		a.links = append(a.links, fact{a: v, b: link, bind: bind})
	}
}

// links say where the columns of s come from.
func (j *judgement) links(s *source) []fact {
	var facts []fact
	for _, v := range s.vars {
		if x := j.vars[v]; x.link != 0 || x.bind != nil {
			facts = append(facts, fact{a: v, b: x.link, bind: x.bind})
		}
	}
	return facts
}

// valueType is the type of a column that is a value: casts of it are values too.
const valueType = "value"

// typeOf is the type of a column, empty if nobody knows.
func (j *judgement) typeOf(v varID) string {
	for j.vars[v].link != 0 {
		v = j.vars[v].link
	}
	x := j.vars[v]
	if x.bind != nil {
		return valueType
	}
	if r := x.src.rel; r != nil && x.index < len(r.types) {
		return r.types[x.index]
	}
	return ""
}

// column is one column that a name could mean.
type column struct {
	src   *source
	index int
}

// find looks for a column by name. n is how many there are.
func (s *source) find(name string) (c column, n int) {
	for i, own := range s.names {
		if own == name {
			c, n = column{s, i}, n+1
		}
	}
	return c, n
}

// rename gives the first columns other names, as in "FROM t AS a (x, y)".
func (s *source) rename(alias *pg.Alias) {
	names := texts(alias.GetColnames())
	if len(names) == 0 {
		return
	}
	s.names = slices.Clone(s.names)
	for i, n := range names {
		if i < len(s.names) {
			s.names[i] = n
		} else if s.open {
			s.names = append(s.names, n)
		}
	}
}

// item is a node of a FROM clause: a source, or a join of two items.
type item struct {
	src *source // of a join: its merged columns, and its alias

	join        bool
	kind        pg.JoinType
	left, right *item
	on          []fact
	subs        []*sublink
	using       []usingColumn
	usingAlias  string
	blind       bool // a bare name may mean anything
}

// usingColumn is a column merged by USING or NATURAL: m is what its bare name means.
type usingColumn struct {
	name        string
	m           varID
	left, right varID
}

// bare looks for a column by its name alone. n is how many columns it could mean;
// open is whether a source of unknown columns might have it.
func (it *item) bare(name string) (c column, n int, open bool) {
	if !it.join {
		c, n = it.src.find(name)
		return c, n, it.src.open
	}
	if it.blind {
		return column{}, 0, true
	}
	if c, n := it.src.find(name); n > 0 {
		return c, n, false
	}
	l, n, open := it.left.bare(name)
	r, n2, open2 := it.right.bare(name)
	if n == 0 {
		l = r
	}
	return l, n + n2, open || open2
}

// qualified finds the source or join that a qualifier means.
func (it *item) qualified(schema, name string) *item {
	if !it.join {
		if it.src.means(schema, name) {
			return it
		}
		return nil
	}
	switch {
	case it.src.alias != "":
		if schema == "" && it.src.alias == name {
			return it
		}
		return nil
	case it.usingAlias == name && schema == "":
		return &item{src: it.src}
	}
	if found := it.left.qualified(schema, name); found != nil {
		return found
	}
	return it.right.qualified(schema, name)
}

func (s *source) means(schema, name string) bool {
	if s.alias != "" {
		return schema == "" && s.alias == name
	}
	if s.name != name {
		return false
	}
	return schema == "" || s.rel == nil || s.rel.schema == "" || s.rel.schema == schema
}

// columns lists what "*" means. ok is false where some are unknown; those known
// come first then.
func (it *item) columns() (list []column, ok bool) { return it.appendColumns(nil) }

func (it *item) appendColumns(list []column) (_ []column, ok bool) {
	if it.join && it.blind {
		return list, false
	}
	for i := range it.src.names {
		list = append(list, column{it.src, i})
	}
	if !it.join {
		return list, !it.src.open
	}
	below := len(list)
	list, ok = it.left.appendColumns(list)
	list, ok2 := it.right.appendColumns(list)
	if len(it.using) > 0 {
		rest := slices.DeleteFunc(list[below:], it.merges)
		list = list[:below+len(rest)]
	}
	return list, ok && ok2
}

// has reports whether one of the sources below is in the set.
func (it *item) has(set map[int]bool) bool {
	if it.join {
		return it.right.has(set) || it.left.has(set)
	}
	return set[it.src.id]
}

// merges reports whether c is one of two columns that USING made one.
func (it *item) merges(c column) bool {
	v, ok := c.src.vars[c.index]
	if !ok {
		return false
	}
	for _, u := range it.using {
		if u.left == v || u.right == v {
			return true
		}
	}
	return false
}

// each calls f for the sources below.
func (it *item) each(f func(*source)) {
	if it.join {
		it.left.each(f)
		it.right.each(f)
		return
	}
	f(it.src)
}

// scope is the sources a name is looked up in.
type scope struct {
	items  []*item
	parent *scope
	with   *with
}

// lookup finds the column that a reference means; ok is false where that is not
// certain.
func (s *scope) lookup(fields []string) (column, bool) {
	n := len(fields)
	if n == 0 || n > 4 {
		return column{}, false
	}
	name := fields[n-1]
	if n == 1 {
		return s.bare(name)
	}
	schema := ""
	if n > 2 {
		schema = fields[n-3]
	}
	for at := s; at != nil; at = at.parent {
		for _, it := range at.items {
			found := it.qualified(schema, fields[n-2])
			if found == nil {
				continue
			}
			c, n, _ := found.bare(name)
			return c, n == 1
		}
	}
	return column{}, false
}

func (s *scope) bare(name string) (column, bool) {
	for at := s; at != nil; at = at.parent {
		var c column
		total, unsure := 0, false
		for _, it := range at.items {
			found, n, open := it.bare(name)
			if n > 0 {
				c = found
			}
			total, unsure = total+n, unsure || open
		}
		if total > 0 || unsure {
			return c, total == 1
		}
	}
	return column{}, false
}
