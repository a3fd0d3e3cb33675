package router

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// statement gives a.cur its verdict. What is named nowhere below is DDL: it
// runs on the primary and may change the catalog.
func (a *analysis) statement(n *pg.Node) {
	switch s := n.GetNode().(type) {
	case *pg.Node_SelectStmt, *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt, *pg.Node_MergeStmt:
		a.node(n)
	case *pg.Node_TransactionStmt:
		a.transaction(s.TransactionStmt)
	case *pg.Node_VariableSetStmt:
		a.cur.flags |= FlagNoSnapshot
		a.set(s.VariableSetStmt)
	case *pg.Node_VariableShowStmt:
		a.cur.flags |= FlagNoSnapshot
		a.show(s.VariableShowStmt.GetName())
	case *pg.Node_PrepareStmt:
		a.prepare(s.PrepareStmt)
	case *pg.Node_ExecuteStmt:
		a.execute(s.ExecuteStmt)
	case *pg.Node_DeallocateStmt:
		a.deallocate(s.DeallocateStmt)
	case *pg.Node_ExplainStmt:
		a.explain(s.ExplainStmt)
	case *pg.Node_CopyStmt:
		a.copy(s.CopyStmt)
	case *pg.Node_DeclareCursorStmt:
		a.declare(s.DeclareCursorStmt)
	case *pg.Node_FetchStmt:
		a.cur.fix(ClassRead, TargetAny, ReasonCursor)
	case *pg.Node_ClosePortalStmt:
		a.closeCursor()
	default:
		a.utility(n)
	}
}

// utility is every statement that always belongs to the primary.
func (a *analysis) utility(n *pg.Node) {
	switch s := n.GetNode().(type) {
	case *pg.Node_DiscardStmt:
		a.discard(s.DiscardStmt)
	case *pg.Node_ListenStmt:
		a.command(ReasonUtility, FlagNoSnapshot, PinListen)
	case *pg.Node_UnlistenStmt:
		a.command(ReasonUtility, FlagNoSnapshot, 0)
		a.cur.unpins |= PinListen
	case *pg.Node_NotifyStmt, *pg.Node_CheckPointStmt:
		a.command(ReasonUtility, FlagNoSnapshot, 0)
	case *pg.Node_LoadStmt:
		a.command(ReasonUtility, 0, PinLoad)
	case *pg.Node_LockStmt:
		a.lenient = true
		a.node(n)
		a.command(ReasonLock, FlagNoSnapshot, 0)
	case *pg.Node_DoStmt:
		a.do(s.DoStmt)
	case *pg.Node_CallStmt:
		a.walk(s.CallStmt.GetFunccall().ProtoReflect())
		a.command(ReasonUtility, 0, 0)
	case *pg.Node_TruncateStmt:
		for _, rel := range s.TruncateStmt.GetRelations() {
			a.write(rel.GetRangeVar())
		}
	case *pg.Node_ConstraintsSetStmt:
		a.is(ReasonSetting)
		a.cur.flags |= FlagSetsLocal | FlagNoSnapshot
	case *pg.Node_VacuumStmt, *pg.Node_ClusterStmt, *pg.Node_ReindexStmt:
		a.maintenance(n)
	case *pg.Node_AlterSystemStmt:
		a.command(ReasonUtility, FlagStays, 0)
	default:
		a.ddl(n)
	}
}

// do looks into the source of a DO block.
func (a *analysis) do(s *pg.DoStmt) {
	a.command(ReasonUtility, FlagDDL|FlagRedefines|FlagRemoves|FlagHooks, 0) // it may change the catalog, as migrations do
	language, source := "plpgsql", ""
	for _, arg := range s.GetArgs() {
		d := arg.GetDefElem()
		text, _ := a.literal(d.GetArg())
		if d.GetDefname() == "language" {
			language = text
		} else {
			source = text
		}
	}
	if language != "plpgsql" {
		a.pin(PinOpaque)
		return
	}
	a.usesObjects = true
	f := a.facts.Body(source)
	a.leaves(f.Clean, f.Touches, f.Sets)
}

// command is a statement for the primary of which nothing more is to be found.
func (a *analysis) command(r Reason, f Flags, p PinSet) {
	a.is(r)
	a.cur.flags |= f
	a.pin(p)
}

func (a *analysis) discard(s *pg.DiscardStmt) {
	switch s.GetTarget() {
	case pg.DiscardMode_DISCARD_ALL:
		a.command(ReasonSetting, FlagStays|FlagSetsState|FlagForgets, 0)
		a.cur.unpins |= PinAll
	case pg.DiscardMode_DISCARD_TEMP:
		a.command(ReasonUtility, 0, 0)
		a.cur.unpins |= PinTemp
	case pg.DiscardMode_DISCARD_SEQUENCES:
		a.command(ReasonUtility, 0, 0)
	default:
		a.command(ReasonUtility, 0, 0)
	}
}

// explain runs the statement only with ANALYZE. Without, a write still goes to
// the primary, whose plans the reader wants to see.
func (a *analysis) explain(s *pg.ExplainStmt) {
	analyze := false
	for _, o := range s.GetOptions() {
		if d := o.GetDefElem(); d.GetDefname() == "analyze" {
			analyze = a.boolean(d.GetArg(), true)
		}
	}
	a.planOnly = !analyze
	switch q := s.GetQuery().GetNode().(type) {
	case *pg.Node_ExecuteStmt:
		a.execute(q.ExecuteStmt)
		return
	case *pg.Node_SelectStmt, *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt, *pg.Node_MergeStmt:
		a.node(s.GetQuery())
	case *pg.Node_DeclareCursorStmt:
		a.node(q.DeclareCursorStmt.GetQuery())
	default:
		a.ddl(s.GetQuery())
	}
	if a.planOnly && a.cur.notRead != ReasonNone {
		a.cur.flags &^= FlagDraws | FlagSequence | FlagDDL | FlagCreates | FlagTemporary | FlagRedefines | FlagRemoves | FlagHooks
		a.cur.pins &^= PinTemp
		a.cur.fix(ClassUnknown, TargetPrimary, a.cur.notRead)
	}
}

// boolean reads the value of an option as PostgreSQL's defGetBoolean does; no
// value is true. What is not plainly false counts as missing.
func (a *analysis) boolean(n *pg.Node, missing bool) bool {
	if n == nil {
		return missing
	}
	text, ok := a.literal(n)
	if !ok {
		return missing
	}
	switch strings.ToLower(text) {
	case "false", "off", "0", "no":
		return false
	}
	return missing
}

func (a *analysis) copy(s *pg.CopyStmt) {
	elsewhere := s.GetIsProgram() || s.GetFilename() != ""
	switch {
	case s.GetIsFrom():
		a.write(s.GetRelation())
		a.node(s.GetWhereClause())
		if !elsewhere {
			a.cur.flags |= FlagCopyIn
		}
		return
	case s.GetQuery() != nil:
		a.node(s.GetQuery())
	case s.GetRelation() != nil:
		a.walk(s.GetRelation().ProtoReflect())
	}
	if elsewhere {
		a.is(ReasonUtility)
	}
}

// Cursor options, from PostgreSQL's parsenodes.h.
const cursorHold = 0x20

func (a *analysis) declare(s *pg.DeclareCursorStmt) {
	a.node(s.GetQuery())
	a.cur.flags |= FlagCursor
	if s.GetOptions()&cursorHold != 0 {
		a.pin(PinCursor)
		a.is(ReasonCursor)
	}
}

func (a *analysis) closeCursor() {
	a.cur.fix(ClassRead, TargetAny, ReasonCursor)
	a.cur.unpins |= PinCursor
}

// maintenance is VACUUM and its kin.
func (a *analysis) maintenance(n *pg.Node) {
	a.lenient, a.computes = true, true
	a.node(n)
	flags := Flags(0)
	switch s := n.GetNode().(type) {
	case *pg.Node_VacuumStmt:
		if s.VacuumStmt.GetIsVacuumcmd() {
			flags = FlagStays
		}
	case *pg.Node_ClusterStmt:
		if s.ClusterStmt.GetRelation() == nil {
			flags = FlagStays
		}
	case *pg.Node_ReindexStmt:
		r := s.ReindexStmt
		if r.GetRelation() == nil || hasOption(r.GetParams(), "concurrently") {
			flags = FlagStays
		}
	}
	a.command(ReasonUtility, flags, 0)
}

func hasOption(options []*pg.Node, name string) bool {
	for _, o := range options {
		if o.GetDefElem().GetDefname() == name {
			return true
		}
	}
	return false
}
