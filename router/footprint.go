package router

import (
	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/router/catalog"
)

// Which tables a text reads and writes is found by the same walk that judges it:
// whatever is judged adds what it touches. What that walk does not see through
// (DDL, DO, CALL, …) touches any table.

// touched is what one text touches.
type touched struct{ reads, writes catalog.Footprint }

// uses adds what a fact touches.
func (a *analysis) uses(f catalog.Fact) {
	a.usesObjects = a.usesObjects || !f.Known
	if !f.Known {
		f.Reads, f.Writes = catalog.Footprint{}, catalog.Footprint{}
	}
	a.touched.reads = a.touched.reads.With(f.Reads)
	a.touched.writes = a.touched.writes.With(f.Writes)
}

// changes adds what writing to a relation writes.
func (a *analysis) changes(r catalog.Relation) {
	if !r.Known {
		r.Changes = catalog.Footprint{}
	}
	a.touched.writes = a.touched.writes.With(r.Changes)
}

// bound makes the text touch any table if the walk does not show what n touches.
func (a *analysis) bound(n *pg.Node) {
	switch s := n.GetNode().(type) {
	case *pg.Node_SelectStmt:
		if s.SelectStmt.GetIntoClause() == nil {
			return
		}
	case *pg.Node_TruncateStmt:
		if s.TruncateStmt.GetBehavior() != pg.DropBehavior_DROP_CASCADE {
			return
		}
	case *pg.Node_ExplainStmt:
		a.bound(s.ExplainStmt.GetQuery())
		return
	case *pg.Node_PrepareStmt:
		a.bound(s.PrepareStmt.GetQuery())
		return
	case *pg.Node_DeclareCursorStmt:
		a.bound(s.DeclareCursorStmt.GetQuery())
		return
	case *pg.Node_TransactionStmt:
		if _, ok := txVerbs[s.TransactionStmt.GetKind()]; ok {
			return
		}
	case *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt, *pg.Node_MergeStmt, *pg.Node_CopyStmt,
		*pg.Node_ExecuteStmt, *pg.Node_VariableSetStmt, *pg.Node_VariableShowStmt, *pg.Node_DeallocateStmt,
		*pg.Node_FetchStmt, *pg.Node_ClosePortalStmt, *pg.Node_DiscardStmt, *pg.Node_ListenStmt,
		*pg.Node_UnlistenStmt, *pg.Node_NotifyStmt, *pg.Node_LockStmt, *pg.Node_ConstraintsSetStmt:
		return
	}
	a.touched = touched{}
}

// touchesToo adds what the statement touches that an EXECUTE executes.
func (p *Plan) touchesToo(inner *Plan) {
	p.Reads, p.Writes = p.Reads.With(inner.Reads), p.Writes.With(inner.Writes)
	if p.Version != inner.Version {
		p.Version = 0
	}
}
