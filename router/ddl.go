package router

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/setting"
)

// ddl is a statement that changes the catalog. Its tree is walked leniently: it
// matters only which relations it names, whether what it may run leaves state, and
// whether what it creates is temporary.
func (a *analysis) ddl(n *pg.Node) {
	a.is(ReasonDDL)
	a.cur.flags |= FlagDDL | effect{a}.of(n)
	if staysAlone(n) {
		a.cur.flags |= FlagStays
	}
	name, literal := vacates(n)
	a.cur.vacates, a.dependent = name, a.dependent || literal
	uses := a.usesObjects || a.facts.Hooks() || computes(n)
	defer func() { a.usesObjects = uses }() // what does not compute does not run what it names
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
	for _, name := range presets(n) {
		a.cur.touches.add(name)
	}
	a.lenient, a.computes = true, computes(n)
	a.node(n)
}

// presets are custom settings that a statement sets or resets for later, as ALTER DATABASE … SET does. A
// server defines them in the session that says so, rolled back or not: there they read as empty.
func presets(n *pg.Node) (names []string) {
	sets := []*pg.VariableSetStmt{n.GetAlterDatabaseSetStmt().GetSetstmt(), n.GetAlterRoleSetStmt().GetSetstmt()}
	options := slices.Concat(n.GetCreateFunctionStmt().GetOptions(), n.GetAlterFunctionStmt().GetActions())
	for _, o := range options {
		sets = append(sets, o.GetDefElem().GetArg().GetVariableSetStmt())
	}
	for _, s := range sets {
		if name := setting.Fold(s.GetName()); setting.IsCustom(name) {
			names = append(names, name)
		}
	}
	return names
}

// computes reports whether n computes what belongs to relations and types: checks, defaults, expressions.
func computes(n *pg.Node) bool {
	switch n.GetNode().(type) {
	case *pg.Node_AlterTableStmt, *pg.Node_IndexStmt, *pg.Node_RefreshMatViewStmt, *pg.Node_CreateStmt,
		*pg.Node_AlterDomainStmt, *pg.Node_VacuumStmt, *pg.Node_ClusterStmt, *pg.Node_ReindexStmt, *pg.Node_CreateTableAsStmt:
		return true
	}
	return false
}

// computed notes what computing what belongs to a relation may leave behind. An unknown one is new.
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

// drops notes the names of what is dropped, where they are relations: the last temporary one, perhaps.
func (a *analysis) drops(s *pg.DropStmt) {
	a.cur.unpins |= PinTemp
	temporary := len(s.GetObjects()) > 0
	for _, o := range s.GetObjects() {
		schema, name := qualified(objectName(s.GetRemoveType(), o))
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
		a.cur.temporary()
		a.pin(PinTemp)
	}
}

// objectName is the name of an object that a DROP names, by kind in one of three shapes, or of
// the table that it belongs to.
func objectName(kind pg.ObjectType, o *pg.Node) []*pg.Node {
	switch n := o.GetNode().(type) {
	case *pg.Node_ObjectWithArgs:
		return n.ObjectWithArgs.GetObjname()
	case *pg.Node_TypeName:
		return n.TypeName.GetNames()
	}
	items := o.GetList().GetItems()
	switch kind {
	case pg.ObjectType_OBJECT_TRIGGER, pg.ObjectType_OBJECT_RULE, pg.ObjectType_OBJECT_POLICY:
		return items[:max(0, len(items)-1)]
	}
	return items
}

// staysAlone reports whether n cannot run inside a transaction block, by the manual.
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

// What DDL means for the plans of other statements, until the catalog is read again. Most of
// what migrations do makes what no plan knows, or what runs no code: FlagRedefines is for the
// rest, and for all that is not named here.

// effect finds what DDL means for other statements.
type effect struct{ *analysis }

// of returns FlagRedefines and FlagRemoves as they apply to a DDL statement.
func (a effect) of(n *pg.Node) (f Flags) {
	switch s := n.GetNode().(type) {
	case *pg.Node_DropStmt:
		return FlagRemoves
	case *pg.Node_CreateStmt:
		return a.newTable(s.CreateStmt)
	case *pg.Node_AlterTableStmt:
		return a.altered(s.AlterTableStmt)
	case *pg.Node_CreateTableAsStmt:
		return a.redefines("", s.CreateTableAsStmt.GetInto().GetRel().GetRelname())
	case *pg.Node_CreateSeqStmt, *pg.Node_AlterSeqStmt, *pg.Node_CreateEnumStmt, *pg.Node_AlterEnumStmt,
		*pg.Node_CommentStmt, *pg.Node_GrantStmt, *pg.Node_RefreshMatViewStmt:
		return 0
	case *pg.Node_IndexStmt:
		runs := func(p *pg.Node) bool { return a.runs(p.GetIndexElem().GetExpr()) }
		if a.runs(s.IndexStmt.GetWhereClause()) || slices.ContainsFunc(s.IndexStmt.GetIndexParams(), runs) {
			return FlagRedefines
		}
		return 0
	case *pg.Node_CreateSchemaStmt:
		if len(s.CreateSchemaStmt.GetSchemaElts()) > 0 {
			return FlagRedefines
		}
		return 0
	case *pg.Node_RenameStmt:
		switch s.RenameStmt.GetRenameType() {
		case pg.ObjectType_OBJECT_COLUMN, pg.ObjectType_OBJECT_TABCONSTRAINT, pg.ObjectType_OBJECT_INDEX:
			return 0
		}
	case *pg.Node_ViewStmt:
		if a.runs(s.ViewStmt.GetQuery()) { // a function's source may name it already
			return FlagRedefines | replaces(s.ViewStmt.GetReplace())
		}
		return replaces(s.ViewStmt.GetReplace()) | a.redefines("", s.ViewStmt.GetView().GetRelname())
	case *pg.Node_CreateFunctionStmt:
		return FlagRedefines | replaces(s.CreateFunctionStmt.GetReplace())
	case *pg.Node_CreateTrigStmt:
		return FlagRedefines | replaces(s.CreateTrigStmt.GetReplace())
	case *pg.Node_CreateDomainStmt, *pg.Node_CompositeTypeStmt, *pg.Node_CreatePolicyStmt:
		return FlagRedefines
	case *pg.Node_AlterOwnerStmt, *pg.Node_AlterFunctionStmt, *pg.Node_AlterObjectSchemaStmt, *pg.Node_AlterDefaultPrivilegesStmt, *pg.Node_CreateRoleStmt, *pg.Node_AlterRoleStmt, *pg.Node_GrantRoleStmt, *pg.Node_RuleStmt:
		return FlagRedefines | FlagRemoves
	}
	return FlagRedefines | FlagRemoves | FlagHooks
}

func replaces(replace bool) Flags {
	if replace {
		return FlagRemoves
	}
	return 0
}

// redefines is FlagRedefines for a new relation if one of its name is known, in whichever schema.
func (a effect) redefines(schema, name string) Flags {
	if a.facts.Relation(schema, name).Known {
		return FlagRedefines
	}
	return 0
}

// newTable is of for CREATE TABLE.
func (a effect) newTable(s *pg.CreateStmt) Flags {
	code := slices.ContainsFunc(s.GetTableElts(), a.element)
	for _, key := range s.GetPartspec().GetPartParams() {
		code = code || a.runs(key.GetPartitionElem().GetExpr())
	}
	if of := s.GetOfTypename(); of != nil {
		code = code || a.computes(of)
	}
	rel := s.GetRelation()
	if !code && !s.GetIfNotExists() && rel.GetSchemaname() == "" && len(s.GetInhRelations()) == 0 && a.facts.DDL().Clean {
		a.cur.makes = []string{rel.GetRelname()}
	}
	if code {
		return FlagRedefines // of the table it is a partition or child of, refers to, or that a function's source names
	}
	return 0
}

// altered is of for ALTER TABLE.
func (a effect) altered(s *pg.AlterTableStmt) (f Flags) {
	for _, c := range s.GetCmds() {
		cmd := c.GetAlterTableCmd()
		switch cmd.GetSubtype() {
		case pg.AlterTableType_AT_AddColumn, pg.AlterTableType_AT_AddConstraint:
			if a.element(cmd.GetDef()) || cascades(cmd.GetDef()) {
				f |= FlagRedefines
			}
		case pg.AlterTableType_AT_AlterColumnType:
			if a.element(cmd.GetDef()) || cmd.GetDef().GetColumnDef().GetRawDefault() != nil {
				f |= FlagRedefines
			}
			f |= FlagRemoves
		case pg.AlterTableType_AT_ColumnDefault:
			if a.runs(cmd.GetDef()) {
				f |= FlagRedefines
			}
			f |= FlagRemoves
		case pg.AlterTableType_AT_DropColumn, pg.AlterTableType_AT_DropConstraint:
			f |= FlagRemoves
		case pg.AlterTableType_AT_SetNotNull, pg.AlterTableType_AT_DropNotNull, pg.AlterTableType_AT_SetStatistics, pg.AlterTableType_AT_SetStorage,
			pg.AlterTableType_AT_SetRelOptions, pg.AlterTableType_AT_ValidateConstraint, pg.AlterTableType_AT_AddIdentity:
		default:
			f |= FlagRedefines | FlagRemoves
		}
	}
	return f
}

// element reports whether a column or constraint runs code that is not known to leave nothing behind.
func (a effect) element(n *pg.Node) bool {
	switch e := n.GetNode().(type) {
	case *pg.Node_ColumnDef:
		of := e.ColumnDef.GetTypeName()
		return !isSerial(of) && a.computes(of) || slices.ContainsFunc(e.ColumnDef.GetConstraints(), a.element)
	case *pg.Node_Constraint:
		c := e.Constraint
		return a.runs(c.GetRawExpr()) || a.runs(c.GetWhereClause()) || slices.ContainsFunc(c.GetExclusions(), a.runs)
	}
	return true // LIKE may bring what other tables have
}

// cascades reports whether a column or constraint has writing to another table write to its own.
func cascades(n *pg.Node) bool {
	writes := func(action string) bool { return action != "" && action != "a" && action != "r" }
	c := n.GetConstraint()
	return writes(c.GetFkDelAction()) || writes(c.GetFkUpdAction()) || slices.ContainsFunc(n.GetColumnDef().GetConstraints(), cascades)
}

// computes reports whether computing a value of a type runs such code.
func (a effect) computes(of *pg.TypeName) bool {
	return a.runs(&pg.Node{Node: &pg.Node_TypeName{TypeName: of}})
}

// isSerial reports whether a column's type stands for a sequence of its own.
func isSerial(t *pg.TypeName) bool {
	if len(t.GetNames()) != 1 {
		return false
	}
	switch t.GetNames()[0].GetString_().GetSval() {
	case "serial", "serial2", "serial4", "serial8", "smallserial", "bigserial":
		return true
	}
	return false
}

// runs reports whether computing an expression, or a value of a type, runs code that is not
// known to leave nothing behind. n may be nil.
func (a effect) runs(n *pg.Node) bool {
	of := newAnalysis(a.facts, a.overrides, a.text)
	v := &verdict{}
	of.cur = v
	of.node(n)
	return v.pins != 0 || v.flags&^(FlagDraws|FlagSequence) != 0 || len(v.touches.list) > 0
}
