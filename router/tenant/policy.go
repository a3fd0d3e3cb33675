package tenant

// Policy says which tables are tenant tables. The zero value knows none, and
// then nothing is judged. It is not changed once given away.
type Policy struct {
	// Columns are the names of tenant columns, as PostgreSQL stores them. A table's
	// tenant column is the first of them that it has.
	Columns []string
	// Tables overrides the column by table ("name" or "schema.name"; the latter
	// wins). A table named here is a tenant table even if the catalog does not know it;
	// an empty column says that it is none.
	Tables map[string]string
	// ExemptTables may be used without a filter: "name", "schema.name" or "schema.*".
	ExemptTables []string
	// ExemptStatements are fingerprints (Finding.Fingerprint) that need no filter.
	ExemptStatements []string
	// Settings are the custom settings that name the tenant, such as
	// app.current_org_id; the first is used in suggestions.
	Settings []string
	// SearchPath, if known, says which schema an unqualified name is looked up in
	// first. Without it a name stands for the tables of all schemas.
	SearchPath []string
}

// Enabled reports whether there is anything to judge by.
func (p *Policy) Enabled() bool { return p != nil && (len(p.Columns) > 0 || len(p.Tables) > 0) }
