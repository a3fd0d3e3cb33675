package router

import pg "github.com/pganalyze/pg_query_go/v5"

// vacates is the database that a statement needs nobody else to be connected to; empty is
// none. PostgreSQL waits five seconds for others to leave (CountOtherDBBackends). literal is
// that the text may give its name as a literal.
// https://www.postgresql.org/docs/current/manage-ag-dropdb.html
func vacates(n *pg.Node) (name string, literal bool) {
	switch s := n.GetNode().(type) {
	case *pg.Node_DropdbStmt:
		return s.DropdbStmt.GetDbname(), false
	case *pg.Node_CreatedbStmt:
		if template := databaseOption(s.CreatedbStmt.GetOptions(), "template"); template.GetArg() != nil {
			return template.GetArg().GetString_().GetSval(), true
		}
		return "template1", false
	case *pg.Node_RenameStmt:
		if s.RenameStmt.GetRenameType() == pg.ObjectType_OBJECT_DATABASE {
			return s.RenameStmt.GetSubname(), false
		}
	case *pg.Node_AlterDatabaseStmt:
		if databaseOption(s.AlterDatabaseStmt.GetOptions(), "tablespace") != nil {
			return s.AlterDatabaseStmt.GetDbname(), false
		}
	}
	return "", false
}

func databaseOption(options []*pg.Node, name string) *pg.DefElem {
	for _, o := range options {
		if d := o.GetDefElem(); d.GetDefname() == name {
			return d
		}
	}
	return nil
}
