package tenant

import "github.com/pgweir/pgweir/router/catalog"

// Schema knows the tables of a database. A *catalog.Snapshot loaded with its
// tables is one, and so is what ParseSchema makes of DDL text. It may be asked by any number of goroutines.
type Schema interface {
	// Tables returns the tables of that name; with an empty schema, those in every
	// schema. What it returns is not changed by anyone.
	Tables(schema, name string) []*catalog.Table
	// AllTables returns every table, ordered by name and schema.
	AllTables() []*catalog.Table
}
