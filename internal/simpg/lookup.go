package simpg

import (
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// tempSchema is the schema of the session's temporary objects.
func (se *session) tempSchema() string { return fmt.Sprint("pg_temp_", se.pid) }

// tempOID is the OID of that schema, 0 while there is none.
func (se *session) tempOID() uint32 {
	if d := se.see().databases[se.database]; d != nil && d.schemas[se.tempSchema()] {
		return se.pid
	}
	return 0
}

// path are the schemas that names are looked up in, in order.
func (se *session) path() (schemas []string) {
	d := se.see().databases[se.database]
	if d == nil {
		return nil
	}
	temp := false
	for _, s := range splitNames(se.set.is("search_path")) {
		switch {
		case s == "$user":
			s = se.currentUser()
		case s == "pg_temp":
			s, temp = se.tempSchema(), true
		}
		if d.schemas[s] && !slices.Contains(schemas, s) {
			schemas = append(schemas, s)
		}
	}
	if !temp && d.schemas[se.tempSchema()] {
		schemas = append([]string{se.tempSchema()}, schemas...)
	}
	return schemas
}

// splitNames splits a list of names that may be quoted.
func splitNames(s string) (names []string) {
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if strings.HasPrefix(part, `"`) {
			part = strings.ReplaceAll(strings.Trim(part, `"`), `""`, `"`)
		} else {
			part = strings.ToLower(part)
		}
		if part != "" {
			names = append(names, part)
		}
	}
	return names
}

// creationSchema is where a new object goes whose schema is not said; NULL is nowhere.
func (se *session) creationSchema() datum {
	first := ""
	for _, s := range splitNames(se.set.is("search_path")) {
		if s == "$user" {
			s = se.currentUser()
		}
		if s == "pg_temp" {
			return se.tempSchema()
		}
		if d := se.see().databases[se.database]; d != nil && d.schemas[s] {
			first = s
			break
		}
	}
	if first == "" {
		return nil
	}
	return first
}

// find finds a relation as the session sees it; nil is none.
func (se *session) find(schema, name string) *relation {
	d := se.see().databases[se.database]
	if schema == "pg_temp" {
		schema = se.tempSchema()
	}
	if schema != "" {
		return d.relations[schema+"."+name]
	}
	for _, s := range se.path() {
		if r := d.relations[s+"."+name]; r != nil {
			return r
		}
	}
	return nil
}

// relation finds the relation that a statement names; nil is none.
func (a *analysis) relation(v *pg.RangeVar) *relation {
	if v.Schemaname == "pg_catalog" || v.Schemaname == "information_schema" {
		return nil
	}
	return a.se.find(v.Schemaname, v.Relname)
}

// existing is the relation of a name that a command is about.
func (a *analysis) existing(v *pg.RangeVar) *relation {
	r := a.relation(v)
	if r == nil {
		a.gone(v)
	}
	return r
}

// temporary lists the session's temporary relations.
func (se *session) temporary() (names []string) {
	d := se.see().databases[se.database]
	if d == nil || !d.schemas[se.tempSchema()] {
		return nil
	}
	for _, r := range d.relations {
		if r.schema == se.tempSchema() {
			names = append(names, r.name)
		}
	}
	slices.Sort(names)
	return names
}

// onCommit does what temporary tables want done at the end of a transaction.
func (se *session) onCommit() {
	names := se.temporary()
	schema, database := se.tempSchema(), se.database
	for _, n := range names {
		switch r := se.find(schema, n); r.onCommit {
		case pg.OnCommitAction_ONCOMMIT_DROP:
			se.change(catalogChange(func(s *state) { delete(s.changingAll(database).relations, schema+"."+n) }))
		case pg.OnCommitAction_ONCOMMIT_DELETE_ROWS:
			if len(r.rows) > 0 {
				se.change(catalogChange(func(s *state) { s.changing(database).changing(schema + "." + n).rows = nil }))
			}
		}
	}
}

// dropTemporary drops the session's temporary objects, in a transaction of its own or the
// one under way.
func (se *session) dropTemporary() {
	names := se.temporary()
	if len(names) == 0 {
		return
	}
	schema, database := se.tempSchema(), se.database
	drop := catalogChange(func(s *state) {
		d := s.changingAll(database)
		for _, n := range names {
			delete(d.relations, schema+"."+n)
		}
	})
	if se.tx.id != 0 {
		se.change(drop)
		return
	}
	se.server.write(se.server.now().state.with([]change{drop}, nil), 100, false, se.rand)
}
