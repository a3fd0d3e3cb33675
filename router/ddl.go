package router

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// ddl is a statement that changes the catalog. Its tree is walked leniently: it
// matters only which relations it names and whether a function it may run
// leaves state.
func (a *analysis) ddl(n *pg.Node) {
	a.is(ReasonDDL)
	a.cur.flags |= FlagDDL
	if staysAlone(n) {
		a.cur.flags |= FlagStays
	}
	if strings.Contains(strings.ToLower(a.text), "pg_temp") {
		a.pin(PinTemp)
	}
	switch s := n.GetNode().(type) {
	case *pg.Node_CreateTableAsStmt:
		a.createTableAs(s.CreateTableAsStmt)
		return
	case *pg.Node_CreateStmt:
		a.creates(s.CreateStmt.GetRelation(), s.CreateStmt.GetOncommit() == pg.OnCommitAction_ONCOMMIT_DROP)
	case *pg.Node_CreateSeqStmt:
		a.creates(s.CreateSeqStmt.GetSequence(), false)
	case *pg.Node_ViewStmt:
		a.creates(s.ViewStmt.GetView(), false)
	case *pg.Node_DropStmt:
		a.drops(s.DropStmt)
	}
	a.lenient = true
	a.node(n)
}

// createTableAs runs its query, which may be EXECUTE.
func (a *analysis) createTableAs(s *pg.CreateTableAsStmt) {
	into := s.GetInto()
	a.creates(into.GetRel(), into.GetOnCommit() == pg.OnCommitAction_ONCOMMIT_DROP)
	a.relations.add(dotted(into.GetRel().GetSchemaname(), into.GetRel().GetRelname()))
	if e := s.GetQuery().GetExecuteStmt(); e != nil {
		a.execute(e)
		a.cur.fixed = false
		return
	}
	a.node(s.GetQuery())
}

// creates notes a new relation: a temporary one ties the session to its server,
// unless it is gone with the transaction.
func (a *analysis) creates(rv *pg.RangeVar, droppedAtCommit bool) {
	if rv.GetRelpersistence() != "t" && !strings.HasPrefix(rv.GetSchemaname(), "pg_temp") {
		return
	}
	if !droppedAtCommit {
		a.pin(PinTemp)
	}
}

// drops notes the names of what is dropped, where they are relations. The last
// temporary object may be among it.
func (a *analysis) drops(s *pg.DropStmt) {
	a.cur.unpins |= PinTemp
	switch s.GetRemoveType() {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW,
		pg.ObjectType_OBJECT_SEQUENCE, pg.ObjectType_OBJECT_FOREIGN_TABLE:
	default:
		return
	}
	for _, o := range s.GetObjects() {
		if schema, name := qualified(o.GetList().GetItems()); name != "" {
			a.relations.add(dotted(schema, name))
		}
	}
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
