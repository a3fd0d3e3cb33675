package tenant

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/router/catalog"
)

// relation is all the tables that a name in a statement can mean, as one.
type relation struct {
	schema, name string
	tables       []*catalog.Table
	names, types []string // of the columns, in order as far as the tables agree
	open         bool     // no table is known, or they differ
	tenant       bool
	column       string // the tenant column; empty if there is none to filter by
	exempt       bool
}

// relation finds what rv means, children included unless it says ONLY.
func (j *judgement) relation(rv *pg.RangeVar) *relation {
	r := &relation{schema: rv.GetSchemaname(), name: rv.GetRelname()}
	if r.schema == "" || r.schema != "pg_catalog" && r.schema != "information_schema" {
		r.tables = j.tables(r.schema, r.name)
	}
	for i, t := range r.tables {
		r.add(t, i == 0)
	}
	if len(r.tables) == 0 {
		r.open = true
	} else if len(r.tables) == 1 {
		r.schema = r.tables[0].Schema
	}
	j.judgeRelation(r, rv.GetInh())
	return r
}

// tables are those that a name can mean.
func (j *judgement) tables(schema, name string) []*catalog.Table {
	all := j.schema.Tables(schema, name)
	if schema == "" && len(all) > 1 {
		for _, want := range j.policy.SearchPath {
			for i, t := range all {
				if t.Schema == want {
					return all[i : i+1]
				}
			}
		}
	}
	return all
}

// add takes the columns of one of the tables.
func (r *relation) add(t *catalog.Table, first bool) {
	same := len(t.Columns) == len(r.names)
	for i, c := range t.Columns {
		at := slices.Index(r.names, c.Name)
		switch {
		case at < 0:
			r.names, r.types = append(r.names, c.Name), append(r.types, c.Type)
			same = same && first
		default:
			same = same && at == i
			if r.types[at] != c.Type {
				r.types[at] = ""
			}
		}
	}
	if !first && !same || t.Kind == 'v' && len(t.Columns) == 0 {
		r.open = true
	}
}

// judgeRelation decides whether r is a tenant table, and by which column.
func (j *judgement) judgeRelation(r *relation, children bool) {
	if len(r.tables) == 0 {
		if column, ok := j.policy.override(r.schema, r.name); ok && column != "" {
			r.tenant, r.column = true, column
			r.names, r.types = []string{column}, []string{""}
		}
	}
	for _, t := range r.tables {
		column, tenant := j.policy.Column(t)
		if !tenant && children && j.anyChild(t, 0) {
			r.tenant = true
		}
		if tenant {
			r.tenant, r.column = true, column
		}
	}
	if len(r.tables) > 1 && slices.ContainsFunc(r.tables, isView) {
		// Which of them it is shows only when it runs: all are filtered by the column they share.
		r.tenant = true
		for _, name := range j.policy.Columns {
			if r.column == "" && slices.Contains(r.names, name) {
				r.column = name
			}
		}
	}
	r.exempt = j.policy.exemptTable(r)
}

func isView(t *catalog.Table) bool { return t.Kind == 'v' }

// anyChild reports whether a table below t has tenants' rows.
func (j *judgement) anyChild(t *catalog.Table, depth int) bool {
	for _, c := range t.Children {
		if _, ok := j.policy.Column(c); ok || depth < maxDepth && j.anyChild(c, depth+1) {
			return true
		}
	}
	return false
}

// Column is the tenant column of t; ok is false if it is no tenant table. A
// partition is one as its parent is. Views are not tables.
func (p *Policy) Column(t *catalog.Table) (name string, ok bool) {
	if column, said := p.override(t.Schema, t.Name); said {
		return column, column != ""
	}
	if t.Kind == 'v' {
		return "", false
	}
	for _, parent := range t.Parents {
		if column, said := p.override(parent.Schema, parent.Name); said {
			return column, column != ""
		}
	}
	for _, name := range p.Columns {
		if _, ok := t.Column(name); ok {
			return name, true
		}
	}
	return "", false
}

// override is what Tables says of a table.
func (p *Policy) override(schema, name string) (column string, ok bool) {
	if len(p.Tables) == 0 {
		return "", false
	}
	if column, ok = p.Tables[schema+"."+name]; ok {
		return column, true
	}
	column, ok = p.Tables[name]
	return column, ok
}

// ExemptTable reports whether a table may be used without a filter.
func (p *Policy) ExemptTable(schema, name string) bool {
	for _, e := range p.ExemptTables {
		if e == name || e == schema+"."+name {
			return true
		}
		if of, all := strings.CutSuffix(e, ".*"); all && of == schema {
			return true
		}
	}
	return false
}

// exemptTable: all that the name can mean are exempt, themselves or as partitions.
func (p *Policy) exemptTable(r *relation) bool {
	if len(p.ExemptTables) == 0 {
		return false
	}
	if len(r.tables) == 0 {
		return p.ExemptTable(r.schema, r.name)
	}
	for _, t := range r.tables {
		exempt := p.ExemptTable(t.Schema, t.Name)
		for _, parent := range t.Parents {
			exempt = exempt || p.ExemptTable(parent.Schema, parent.Name)
		}
		if !exempt {
			return false
		}
	}
	return true
}

// viewOf is the view whose definition is to be looked into, if r is one.
func (j *judgement) viewOf(r *relation) *catalog.Table {
	if r.tenant || len(r.tables) != 1 || !isView(r.tables[0]) {
		return nil // declared: it is filtered by its column
	}
	if _, said := j.policy.override(r.schema, r.name); said {
		return nil
	}
	return r.tables[0]
}
