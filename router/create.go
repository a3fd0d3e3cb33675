package router

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// creates notes what n creates: in the temporary schema it ties the session to its server,
// unless it is gone with the transaction; and without a schema the search_path decides
// where it is.
func (a *analysis) creates(n *pg.Node) {
	if rv, dropped := createdRelation(n); rv != nil {
		a.createsRelation(rv, dropped)
		return
	}
	if schema, ok := createdIn(n); ok {
		a.createsIn(schema)
	}
}

func (a *analysis) createsRelation(rv *pg.RangeVar, droppedAtCommit bool) {
	switch {
	case rv.GetRelpersistence() != "t" && !isTemp(rv.GetSchemaname()):
		a.createsIn(rv.GetSchemaname())
	case droppedAtCommit:
		a.cur.temporary()
	default:
		a.cur.temporary()
		a.pin(PinTemp)
	}
}

// temporary notes that what the statement makes or drops concerns nobody else.
func (v *verdict) temporary() {
	v.flags = v.flags&^(FlagDDL|FlagRedefines|FlagRemoves|FlagHooks) | FlagTemporary
}

func (a *analysis) createsIn(schema string) {
	switch {
	case schema == "":
		a.cur.flags |= FlagCreates
	case isTemp(schema):
		a.cur.temporary()
		a.pin(PinTemp)
	}
}

// isTemp reports whether a schema is the session's temporary one: pg_temp, or pg_temp_3.
func isTemp(schema string) bool { return strings.HasPrefix(schema, "pg_temp") }

// createdRelation is the relation or composite type that n creates, nil if it creates
// none, and whether it is dropped at the end of the transaction if it is temporary.
func createdRelation(n *pg.Node) (rv *pg.RangeVar, dropped bool) {
	switch s := n.GetNode().(type) {
	case *pg.Node_CreateStmt:
		return s.CreateStmt.GetRelation(), s.CreateStmt.GetOncommit() == pg.OnCommitAction_ONCOMMIT_DROP
	case *pg.Node_CreateForeignTableStmt:
		return s.CreateForeignTableStmt.GetBaseStmt().GetRelation(), false
	case *pg.Node_CreateTableAsStmt:
		into := s.CreateTableAsStmt.GetInto()
		return into.GetRel(), into.GetOnCommit() == pg.OnCommitAction_ONCOMMIT_DROP
	case *pg.Node_CreateSeqStmt:
		return s.CreateSeqStmt.GetSequence(), false
	case *pg.Node_ViewStmt:
		return s.ViewStmt.GetView(), false
	case *pg.Node_CompositeTypeStmt:
		return s.CompositeTypeStmt.GetTypevar(), false
	}
	return nil, false
}

// createdIn is the schema that n names for the object it creates; ok is false if it
// creates none that has a schema of its own.
func createdIn(n *pg.Node) (schema string, ok bool) {
	var name []*pg.Node
	switch s := n.GetNode().(type) {
	case *pg.Node_CreateFunctionStmt:
		name = s.CreateFunctionStmt.GetFuncname()
	case *pg.Node_CreateDomainStmt:
		name = s.CreateDomainStmt.GetDomainname()
	case *pg.Node_CreateEnumStmt:
		name = s.CreateEnumStmt.GetTypeName()
	case *pg.Node_CreateRangeStmt:
		name = s.CreateRangeStmt.GetTypeName()
	case *pg.Node_DefineStmt: // aggregates, operators, base types, collations, text search
		name = s.DefineStmt.GetDefnames()
	case *pg.Node_CreateConversionStmt:
		name = s.CreateConversionStmt.GetConversionName()
	case *pg.Node_CreateOpClassStmt:
		name = s.CreateOpClassStmt.GetOpclassname()
	case *pg.Node_CreateOpFamilyStmt:
		name = s.CreateOpFamilyStmt.GetOpfamilyname()
	case *pg.Node_CreateStatsStmt:
		name = s.CreateStatsStmt.GetDefnames()
	case *pg.Node_ImportForeignSchemaStmt:
		return s.ImportForeignSchemaStmt.GetLocalSchema(), true
	case *pg.Node_CreateExtensionStmt:
		return "", true // its script creates, or SCHEMA says where
	default:
		return "", false
	}
	schema, _ = qualified(name)
	return schema, true
}
