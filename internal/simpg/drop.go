package simpg

import (
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

func (a *analysis) drop(n *pg.DropStmt) string {
	words := map[pg.ObjectType]string{
		pg.ObjectType_OBJECT_TABLE: "TABLE", pg.ObjectType_OBJECT_VIEW: "VIEW", pg.ObjectType_OBJECT_SEQUENCE: "SEQUENCE", pg.ObjectType_OBJECT_SCHEMA: "SCHEMA",
		pg.ObjectType_OBJECT_FUNCTION: "FUNCTION", pg.ObjectType_OBJECT_TYPE: "TYPE", pg.ObjectType_OBJECT_POLICY: "POLICY", pg.ObjectType_OBJECT_INDEX: "INDEX", pg.ObjectType_OBJECT_TRIGGER: "TRIGGER",
	}
	word := words[n.RemoveType]
	if word == "" {
		raise("0A000", "simpg: DROP of %v is not modelled", n.RemoveType)
	}
	a.se.refuseReadOnly("DROP " + word)
	for _, o := range n.Objects {
		name, f := a.dropOne(n.RemoveType, o)
		schema, _, inSchema := strings.Cut(name, "\x00")
		switch {
		case f != nil:
			a.catalogChange(f)
		case inSchema && n.MissingOk:
			a.se.notice(&Error{Severity: "NOTICE", Code: "00000", Message: fmt.Sprintf(`schema "%s" does not exist, skipping`, schema)})
		case inSchema:
			raise("3F000", `schema "%s" does not exist`, schema)
		case n.MissingOk:
			a.se.notice(&Error{Severity: "NOTICE", Code: "00000", Message: fmt.Sprintf(`%s "%s" does not exist, skipping`, strings.ToLower(word), name)})
		default:
			code := map[string]string{"TABLE": "42P01", "VIEW": "42P01", "SEQUENCE": "42P01", "SCHEMA": "3F000", "FUNCTION": "42883"}[word]
			if code == "" {
				code = "42704"
			}
			raise(code, `%s "%s" does not exist`, strings.ToLower(word), name)
		}
	}
	return "DROP " + word
}

// dropOne is the change that drops an object; nil if there is none, and then the name has its
// schema before it, with a NUL between, if that is missing.
func (a *analysis) dropOne(kind pg.ObjectType, o *pg.Node) (name string, f func(s *state)) {
	db := a.se.database
	d := a.st.databases[db]
	switch kind {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_SEQUENCE:
		names := stringsOf(o.GetList().Items)
		schema := ""
		if name = names[len(names)-1]; len(names) > 1 {
			schema = names[0]
		}
		r := a.se.find(schema, name)
		switch {
		case r != nil:
		case schema == "pg_temp" && d.schemas[a.se.tempSchema()], schema == "", d.schemas[schema]:
			return name, nil
		default:
			return schema + "\x00" + name, nil
		}
		a.owns(r)
		if waited, _ := a.se.lock(tableID{db, r.oid}, lockExclusive, false, false); waited {
			a.se.takeSnapshot()
			a.st = a.se.see()
			return a.dropOne(kind, o)
		}
		return name, func(s *state) {
			d := s.changing(db)
			delete(d.relations, r.key())
			for k, o := range d.relations {
				if o.ownedBy == r.oid {
					delete(d.relations, k)
				}
			}
		}
	case pg.ObjectType_OBJECT_SCHEMA:
		if name = o.GetString_().GetSval(); !d.schemas[name] {
			return name, nil
		}
		return name, func(s *state) {
			d := s.changingAll(db)
			delete(d.schemas, name)
			for k, r := range d.relations {
				if r.schema == name {
					delete(d.relations, k)
				}
			}
		}
	case pg.ObjectType_OBJECT_FUNCTION:
		w := o.GetObjectWithArgs()
		names := stringsOf(w.Objname)
		fn := a.function(names, len(w.Objargs))
		if fn == nil {
			return strings.Join(names, "\x00"), nil
		}
		return fn.name, func(s *state) { delete(s.changingAll(db).functions, functionKey(fn.schema, fn.name, len(fn.args))) }
	case pg.ObjectType_OBJECT_TYPE:
		names := stringsOf(o.GetTypeName().GetNames())
		if name = names[len(names)-1]; d.types[name] == 0 {
			return name, nil
		}
		return name, func(s *state) { delete(s.changingAll(db).types, name) }
	case pg.ObjectType_OBJECT_POLICY, pg.ObjectType_OBJECT_TRIGGER:
		items := stringsOf(o.GetList().Items)
		name = items[len(items)-1]
		r := a.se.find("", items[len(items)-2])
		if r == nil {
			return name, nil
		}
		return name, func(s *state) {
			r := s.changing(db).changing(r.key())
			r.policies = slices.DeleteFunc(slices.Clone(r.policies), func(p policy) bool { return p.name == name })
			r.triggers = slices.DeleteFunc(slices.Clone(r.triggers), func(t trigger) bool { return t.name == name })
		}
	}
	return "", func(*state) {}
}
