package router

import (
	pg "github.com/pganalyze/pg_query_go/v5"
)

// ddl is a statement that changes the catalog. Its tree is walked leniently: it
// matters only which relations it names, whether what it may run leaves state, and
// whether what it creates is temporary.
func (a *analysis) ddl(n *pg.Node) {
	a.is(ReasonDDL)
	a.cur.flags |= FlagDDL
	if staysAlone(n) {
		a.cur.flags |= FlagStays
	}
	name, literal := vacates(n)
	a.cur.vacates, a.dependent = name, a.dependent || literal
	a.usesObjects = true
	f := a.facts.DDL()
	a.leaves(f.Clean, f.Touches, f.Sets)
	a.creates(n)
	switch s := n.GetNode().(type) {
	case *pg.Node_CreateTableAsStmt:
		a.createTableAs(s.CreateTableAsStmt)
		return
	case *pg.Node_DropStmt:
		a.drops(s.DropStmt)
	case *pg.Node_AlterDomainStmt:
		if f := a.facts.Type(qualified(s.AlterDomainStmt.GetTypeName())); f.Known {
			a.leaves(f.Clean, f.Touches, f.Sets)
		}
	case *pg.Node_CreateExtensionStmt, *pg.Node_AlterExtensionStmt:
		a.pin(PinOpaque) // its script is not in the text
	}
	a.lenient, a.computes = true, computes(n)
	a.node(n)
}

// computes reports whether n makes PostgreSQL compute what belongs to the relations and
// types it names: checks, defaults, expressions of indexes and of partition keys.
func computes(n *pg.Node) bool {
	switch n.GetNode().(type) {
	case *pg.Node_AlterTableStmt, *pg.Node_IndexStmt, *pg.Node_RefreshMatViewStmt, *pg.Node_CreateStmt,
		*pg.Node_AlterDomainStmt, *pg.Node_VacuumStmt, *pg.Node_ClusterStmt, *pg.Node_ReindexStmt:
		return true
	}
	return false
}

// computed notes what computing what belongs to a relation may leave behind. One that is
// not known is new, or does not exist.
func (a *analysis) computed(schema, name string) {
	if r := a.facts.Relation(schema, name); r.Known {
		a.leaves(r.Clean && r.WriteClean, r.Touches.Union(r.WriteTouches), r.Sets || r.WriteSets)
	}
}

// createTableAs runs its query, which may be EXECUTE.
func (a *analysis) createTableAs(s *pg.CreateTableAsStmt) {
	into := s.GetInto()
	a.relations.add(dotted(into.GetRel().GetSchemaname(), into.GetRel().GetRelname()))
	if e := s.GetQuery().GetExecuteStmt(); e != nil {
		a.execute(e)
		a.cur.fixed = false
		return
	}
	a.node(s.GetQuery())
}

// drops notes the names of what is dropped, where they are relations. The last
// temporary object may be among it.
func (a *analysis) drops(s *pg.DropStmt) {
	a.cur.unpins |= PinTemp
	temporary := len(s.GetObjects()) > 0
	for _, o := range s.GetObjects() {
		schema, name := qualified(objectName(o))
		temporary = temporary && isTemp(schema)
		switch s.GetRemoveType() {
		case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW,
			pg.ObjectType_OBJECT_SEQUENCE, pg.ObjectType_OBJECT_FOREIGN_TABLE:
			if name != "" {
				a.relations.add(dotted(schema, name))
			}
		}
	}
	if temporary {
		a.pin(PinTemp) // it concerns nobody else
	}
}

// objectName is the name of an object that a DROP names, by kind in one of three shapes.
func objectName(o *pg.Node) []*pg.Node {
	switch n := o.GetNode().(type) {
	case *pg.Node_ObjectWithArgs:
		return n.ObjectWithArgs.GetObjname()
	case *pg.Node_TypeName:
		return n.TypeName.GetNames()
	}
	return o.GetList().GetItems()
}

// staysAlone reports whether n cannot run inside a transaction block (the
// manual's pages of the commands say so).
func staysAlone(n *pg.Node) bool {
	switch s := n.GetNode().(type) {
	case *pg.Node_CreatedbStmt, *pg.Node_DropdbStmt, *pg.Node_CreateTableSpaceStmt,
		*pg.Node_DropTableSpaceStmt, *pg.Node_CreateSubscriptionStmt, *pg.Node_AlterSubscriptionStmt,
		*pg.Node_DropSubscriptionStmt:
		return true
	case *pg.Node_IndexStmt:
		return s.IndexStmt.GetConcurrent()
	case *pg.Node_DropStmt:
		return s.DropStmt.GetConcurrent()
	case *pg.Node_AlterDatabaseStmt:
		return hasOption(s.AlterDatabaseStmt.GetOptions(), "tablespace")
	case *pg.Node_AlterTableStmt:
		for _, c := range s.AlterTableStmt.GetCmds() {
			cmd := c.GetAlterTableCmd()
			if cmd.GetSubtype() == pg.AlterTableType_AT_DetachPartition && cmd.GetDef().GetPartitionCmd().GetConcurrent() {
				return true
			}
		}
	}
	return false
}
