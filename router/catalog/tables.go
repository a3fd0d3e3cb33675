package catalog

import (
	"cmp"
	"encoding/json"
	"hash"
	"slices"
	"strings"
)

// Tables is a set of tables that can be looked up by name. It never changes.
type Tables struct{ list []*Table }

// NewTables makes a set of the given tables.
func NewTables(list []*Table) *Tables {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *Table) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Schema, b.Schema))
	})
	return &Tables{list: list}
}

// AllTables returns every table, ordered by name and schema.
func (t *Tables) AllTables() []*Table { return t.list }

// Tables returns the tables of that name; with an empty schema, those in every schema.
func (t *Tables) Tables(schema, name string) []*Table {
	from, _ := slices.BinarySearchFunc(t.list, name, func(o *Table, name string) int {
		return cmp.Compare(o.Name, name)
	})
	to := from
	for to < len(t.list) && t.list[to].Name == name {
		if schema != "" && t.list[to].Schema == schema {
			return t.list[to : to+1]
		}
		to++
	}
	if schema != "" {
		return nil
	}
	return t.list[from:to]
}

// Tables returns the users' tables of that name; with an empty schema, those in
// every schema. There are none unless LoadOptions.Tables asked for them.
func (s *Snapshot) Tables(schema, name string) []*Table {
	if s.shapes == nil {
		return nil
	}
	return s.shapes.Tables(schema, name)
}

// AllTables returns every such table, ordered by name and schema.
func (s *Snapshot) AllTables() []*Table {
	if s.shapes == nil {
		return nil
	}
	return s.shapes.AllTables()
}

// sum writes all that is known of the tables into h.
func (t *Tables) sum(h hash.Hash64) {
	if t == nil {
		return
	}
	e := json.NewEncoder(h)
	for _, table := range t.list {
		flat := *table
		flat.Children, flat.Parents = nil, nil
		if e.Encode(flat) != nil {
			continue // a hash and a struct of strings refuse nothing
		}
		for _, c := range table.Children {
			h.Write([]byte(c.Schema + "\x00" + c.Name + "\x00"))
		}
	}
}

// tableLoader reads the tables. Their queries know objects by OID.
type tableLoader struct {
	byOID map[uint32]*Table
	texts map[string]string // names and types repeat a lot
}

func (t *tableLoader) intern(r row, i int) string {
	if s, ok := t.texts[string(r[i])]; ok {
		return s
	}
	s := r.text(i)
	t.texts[s] = s
	return s
}

func (t *tableLoader) list(r row, i int) []string {
	if len(r[i]) == 0 {
		return nil
	}
	names := strings.Split(r.text(i), "\n")
	for j, n := range names {
		if s, ok := t.texts[n]; ok {
			names[j] = s
		}
	}
	return names
}

// tables reads the tables of users.
func (l *loader) tables() *Tables {
	t := tableLoader{byOID: map[uint32]*Table{}, texts: map[string]string{}}
	var all []*Table
	l.read("tables", tablesQuery, 8, func(r row) {
		table := &Table{
			Schema: t.intern(r, 1), Name: r.text(2), Kind: r.char(3), Owner: t.intern(r, 4),
			RowSecurity: r.flag(5), ForcedRowSecurity: r.flag(6), View: r.text(7),
		}
		t.byOID[r.oid(0)] = table
		all = append(all, table)
	})
	of := func(f func(*Table, row)) func(row) {
		return func(r row) {
			if table := t.byOID[r.oid(0)]; table != nil { // else it was made meanwhile
				f(table, r)
			}
		}
	}
	l.read("table columns", tableColumnsQuery, 6, of(func(table *Table, r row) {
		c := Column{Name: t.intern(r, 1), Type: t.intern(r, 3), NotNull: r.flag(4), Default: r.text(5)}
		if schema := r.text(2); schema != "pg_catalog" {
			c.Type = t.intern(row{[]byte(schema + "." + c.Type)}, 0)
		}
		table.Columns = append(table.Columns, c)
	}))
	l.read("table indexes", tableIndexesQuery, 8, of(func(table *Table, r row) {
		columns := t.list(r, 5)
		name := r.text(1)
		table.Indexes = append(table.Indexes, Index{Name: name, First: r.text(6), Partial: r.flag(4)})
		if r.flag(2) && !r.flag(4) && !r.flag(7) {
			table.Keys = append(table.Keys, Key{Name: name, Columns: columns, Primary: r.flag(3)})
		}
	}))
	l.read("foreign keys", foreignKeysQuery, 4, of(func(table *Table, r row) {
		table.Foreign = append(table.Foreign, ForeignKey{Columns: t.list(r, 1), Schema: t.intern(r, 2), Table: t.intern(r, 3)})
	}))
	l.read("policies' text", policyTextQuery, 7, of(func(table *Table, r row) {
		table.Policies = append(table.Policies, Policy{
			Name: r.text(1), Command: r.char(2), Permissive: r.flag(3),
			Roles: t.list(r, 4), Using: r.text(5), Check: r.text(6),
		})
	}))
	l.read("inheritance", childrenQuery, 2, of(func(parent *Table, r row) {
		if child := t.byOID[r.oid(1)]; child != nil {
			parent.Children = append(parent.Children, child)
			child.Parents = append(child.Parents, parent)
		}
	}))
	return NewTables(all)
}
