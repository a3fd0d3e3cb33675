package catalog

// Table is what is known of the shape of a table, view, materialized view or
// foreign table. It never changes.
type Table struct {
	Schema, Name string
	Kind         byte // of pg_class.relkind: r, p, v, m, f
	Owner        string
	Columns      []Column
	Keys         []Key // unique indexes, the primary key first
	Foreign      []ForeignKey
	Indexes      []Index
	// View is the definition of a view, as pg_get_viewdef or CREATE VIEW gives it.
	View string
	// Children are its partitions, or the tables that inherit from it, one level deep.
	Children []*Table
	// Parents are the tables it is a partition of or inherits from.
	Parents []*Table

	RowSecurity, ForcedRowSecurity bool
	Policies                       []Policy
}

// Column is one column of a Table.
type Column struct {
	Name    string
	Type    string // without modifiers and without pg_catalog: int4, text, app.email
	NotNull bool
	// Default is given if it calls current_setting; others do not matter here.
	Default string
}

// Key is a unique index. One with a predicate or on expressions is left out.
type Key struct {
	Name    string
	Columns []string
	Primary bool
}

// ForeignKey refers from columns of a table to another table.
type ForeignKey struct {
	Columns []string
	Schema  string // of the other table
	Table   string
}

// Index is any index; only its first column counts, empty if that is an expression.
type Index struct {
	Name    string
	First   string
	Partial bool // it has a predicate
}

// Policy is a row security policy.
type Policy struct {
	Name       string
	Command    byte // of pg_policy.polcmd: r, a, w, d, * for all
	Permissive bool
	Roles      []string // empty is PUBLIC
	Using      string   // expressions as SQL; empty if not given
	Check      string
}

// RefersTo reports whether t has a foreign key to other.
func (t *Table) RefersTo(other *Table) bool {
	for i := range t.Foreign {
		if f := &t.Foreign[i]; f.Table == other.Name && (f.Schema == "" || f.Schema == other.Schema) {
			return true
		}
	}
	return false
}

// Column finds a column by name.
func (t *Table) Column(name string) (*Column, bool) {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i], true
		}
	}
	return nil, false
}
