package catalog

import (
	"strconv"
	"strings"
)

// arrows reads everything that depends on something by OID.
func (l *loader) arrows() {
	g := l.g
	l.kept("aggregates", "pg_aggregate", aggregatesQuery, 2, func(r row) {
		if id, ok := g.find(kindFunction, r.oid(0)); ok {
			l.to(id, kindFunction, r.oid(1), bothFaults)
		}
	})
	l.kept("operators", "pg_operator pg_namespace", operatorsQuery, 3, func(r row) {
		l.to(g.add(kindOperator, 0, r.text(0), r.text(1)), kindFunction, r.oid(2), bothFaults)
	})
	l.typeParts()
	l.kept("casts", "pg_cast", castsQuery, 3, func(r row) {
		if id, ok := g.find(kindType, r.oid(0)); ok {
			l.to(id, kindFunction, r.oid(1), bothFaults)
		}
	})
	l.kept("built-in rules", "builtin_rules", rulesQuery(builtinRows), 3, l.rule)
	l.kept("rules", "rules", rulesQuery(userRows), 3, l.rule)
	l.kept("defaults", "defaults relations", defaultsQuery, 3, func(r row) {
		if r.flag(1) {
			l.onRelation(kindRelation, r.oid(0), r.text(2), bothFaults)
		}
		l.onRelation(kindWrite, r.oid(0), r.text(2), notClean)
	})
	l.kept("constraints", "pg_constraint relations", constraintsQuery, 6, l.constraint)
	l.kept("computed expressions", "indexes pg_partitioned_table statistics pg_inherits relations", computedQuery, 2, func(r row) {
		l.onRelation(kindWrite, r.oid(0), r.text(1), notClean)
	})
	l.kept("policies", "pg_policy relations", policiesQuery, 3, func(r row) {
		l.onRelation(kindRelation, r.oid(0), r.text(1), bothFaults)
		l.onRelation(kindWrite, r.oid(0), r.text(2), notClean)
	})
	l.kept("triggers", "pg_trigger relations", triggersQuery, 3, func(r row) {
		if id, ok := g.find(kindWrite, r.oid(0)); ok {
			l.to(id, kindFunction, r.oid(1), notClean)
			l.refs(id, r.text(2), notClean)
		}
	})
	l.kept("children", "pg_inherits relations", childrenQuery, 2, func(r row) {
		l.inherits = append(l.inherits, inherits{r.oid(0), r.oid(1)})
		l.between(kindRelation, r.oid(0), r.oid(1), bothFaults)
		l.between(kindWrite, r.oid(0), r.oid(1), notClean)
	})
	l.kept("operator classes", "pg_amproc pg_amop pg_operator pg_cast functions pg_language", implicitQuery, 1, func(r row) {
		l.to(l.implicit, kindFunction, r.oid(0), bothFaults)
	})
	l.kept(hooks, "pg_event_trigger pg_foreign_data_wrapper pg_language", ddlQuery, 1, func(r row) {
		l.to(l.ddl, kindFunction, r.oid(0), notClean)
	})
}

// to makes from depend on an object; one that was not read is taken as bad.
func (l *loader) to(from int32, k kind, oid uint32, f fault) {
	id, ok := l.g.find(k, oid)
	if !ok {
		l.g.condemn(from, f, "unknown "+kindNames[k])
		return
	}
	l.g.depend(from, id, f)
}

// between makes one object depend on another of its kind, if both were read.
func (l *loader) between(k kind, from, to uint32, f fault) {
	a, aok := l.g.find(k, from)
	b, bok := l.g.find(k, to)
	if aok && bok {
		l.g.depend(a, b, f)
	}
}

func (l *loader) onRelation(k kind, oid uint32, refs string, f fault) {
	if id, ok := l.g.find(k, oid); ok {
		l.refs(id, refs, f)
	}
}

// typeParts makes types depend on their functions and on other types, now that
// all have nodes. PostgreSQL's own input functions are known by the type they are given:
// what is to be said of calling one of them by its name is none of the type's concern.
// A value of a row type, and a row written, is made through the types of its columns;
// from a row that is read, others of its type may be made (jsonb_populate_record).
func (l *loader) typeParts() {
	for _, t := range l.types {
		for i, k := range []kind{kindFunction, kindFunction, kindType, kindType, kindType, kindFunction, kindFunction} {
			if oid := t.parts[i]; oid != 0 && (k == kindType || oid >= firstUserOID) {
				l.to(t.node, k, oid, bothFaults)
			}
		}
		l.refs(t.node, t.defaults, notClean)
	}
	for _, c := range l.columns {
		if id, ok := l.g.find(kindType, c.rowType); ok {
			l.to(id, kindType, c.typ, bothFaults)
		}
		l.onType(kindRelation, c.relation, c.typ)
		l.onType(kindWrite, c.relation, c.typ)
	}
}

// onType makes a relation depend on the type of one of its columns.
func (l *loader) onType(k kind, relation, typ uint32) {
	if id, ok := l.g.find(k, relation); ok {
		l.to(id, kindType, typ, notClean)
	}
}

// rule reads one row of rulesQuery. A view reads what it is defined by, and
// writing to it may write to any of that. A materialized view runs its definition
// only to be refreshed.
func (l *loader) rule(r row) {
	if id, ok := l.g.find(kindRelation, r.oid(0)); ok && r.char(1) == '1' && l.g.nodes[id].relkind == 'v' {
		l.refs(id, r.text(2), bothFaults)
	}
	if id, ok := l.g.find(kindWrite, r.oid(0)); ok {
		l.refs(id, r.text(2), notClean)
		l.written(id, r.text(2))
	}
}

// constraint reads one row of constraintsQuery.
func (l *loader) constraint(r row) {
	relation, domain, referenced := r.oid(1), r.oid(2), r.oid(3)
	switch {
	case r.flag(4): // ON DELETE or ON UPDATE that changes rows
		l.between(kindWrite, referenced, relation, notClean)
	case domain != 0:
		if id, ok := l.g.find(kindType, domain); ok {
			l.refs(id, r.text(5), bothFaults)
		}
	case relation != 0:
		l.onRelation(kindWrite, relation, r.text(5), notClean)
	}
}

// refs makes from depend on what an expression tree refers to; see queries.go.
func (l *loader) refs(from int32, text string, f fault) {
	eachRef(text, func(field string, oid uint32) {
		switch field {
		case "relid":
			l.to(from, kindRelation, oid, f)
		case "resulttype", "typid":
			if id, ok := l.g.find(kindType, oid); ok && oid >= firstUserOID {
				l.g.depend(from, id, f)
			}
		case "large":
			l.g.condemn(from, f, "a definition too large to be read")
			l.loose[from] = looseBoth
		case "commandType":
			if oid > 5 {
				l.g.condemn(from, f, "utility statement")
			}
		default:
			l.to(from, kindFunction, oid, f)
		}
	})
}

// written makes from depend on writing to every relation of a tree.
func (l *loader) written(from int32, text string) {
	eachRef(text, func(field string, oid uint32) {
		if field == "relid" {
			l.to(from, kindWrite, oid, notClean)
		}
	})
}

// eachRef reads "funcid 1371,relid 12073".
func eachRef(text string, f func(field string, oid uint32)) {
	for ref := range strings.SplitSeq(text, ",") {
		field, number, ok := strings.Cut(ref, " ")
		if oid, err := strconv.ParseUint(number, 10, 32); ok && err == nil {
			f(field, uint32(oid))
		}
	}
}

// modifies reports whether a tree has an UPDATE, INSERT, DELETE or MERGE (2 to 5).
func modifies(text string) bool {
	var is bool
	eachRef(text, func(field string, n uint32) { is = is || field == "large" || field == "commandType" && n >= 2 })
	return is
}

// bodies makes functions depend on what their sources name. A name stands for
// every object that bears it in any schema.
func (l *loader) bodies() {
	byName := l.index()
	for _, s := range l.sources {
		b := &s.body
		if b.refs != "" {
			l.refs(s.function, b.refs, bothFaults)
			if modifies(b.refs) {
				l.written(s.function, b.refs)
			}
			continue
		}
		if b.unclean != "" {
			l.g.condemn(s.function, notClean, b.unclean)
		}
		l.g.depend(s.function, l.implicit, bothFaults)
		if b.ddl {
			l.g.depend(s.function, l.ddl, notClean)
		}
		l.sets(byName, s.function, b)
		for _, w := range b.words {
			l.named(byName, s.function, kindRelation, w, bothFaults)
			l.named(byName, s.function, kindType, w, bothFaults)
			if b.writes {
				l.named(byName, s.function, kindWrite, w, notClean)
			}
		}
		for _, c := range b.calls {
			l.named(byName, s.function, kindFunction, c, bothFaults)
		}
		for _, o := range b.operators {
			l.named(byName, s.function, kindOperator, o, bothFaults)
		}
	}
}

// sets notes the settings a body changes.
func (l *loader) sets(byName nameIndex, function int32, b *body) {
	if !b.sets && len(b.touches) == 0 {
		return
	}
	n := &l.g.nodes[function]
	n.touches, n.sets = n.touches.With(b.touches), n.sets || b.sets
	l.g.condemn(function, notReplica, "sets settings")
	if own, ok := byName.last[nameKey{kindFunction, "set_config"}]; ok && l.g.nodes[own].schema != "pg_catalog" {
		l.named(byName, function, kindFunction, "set_config", bothFaults) // a user's, perhaps
	}
}

// nameKey is a name of one kind of object.
type nameKey struct {
	kind kind
	name string
}

// nameIndex finds the nodes of a name: last is one, before its predecessor.
type nameIndex struct {
	last   map[nameKey]int32
	before []int32
}

// index indexes the nodes that can matter to a caller: those that are bad or depend on something.
func (l *loader) index() nameIndex {
	matters := make([]bool, len(l.g.nodes))
	for i := range l.g.nodes {
		matters[i] = l.g.nodes[i].bad != 0
	}
	for _, a := range l.g.arrows {
		// That a write reads its own relation says nothing the relation does not.
		if l.g.nodes[a.from].kind != kindWrite || a.to != a.from-1 {
			matters[a.from] = true
		}
	}
	for _, s := range l.sources {
		matters[s.function] = true
	}
	x := nameIndex{last: map[nameKey]int32{}, before: make([]int32, len(l.g.nodes))}
	for i := range l.g.nodes {
		if !matters[i] {
			continue
		}
		k := nameKey{l.g.nodes[i].kind, l.g.nodes[i].name}
		x.before[i] = -1
		if last, ok := x.last[k]; ok {
			x.before[i] = last
		}
		x.last[k] = int32(i)
	}
	return x
}

func (l *loader) named(x nameIndex, from int32, k kind, name string, f fault) {
	id, ok := x.last[nameKey{k, name}]
	for ; ok && id >= 0; id = x.before[id] {
		l.g.depend(from, id, f)
	}
}
