package simpg

import (
	"fmt"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// describeUtility returns the columns of what a command answers; nil is none.
func (a *analysis) describeUtility(s *stmt) []field {
	switch n := s.node.Node.(type) {
	case *pg.Node_VariableShowStmt:
		name := n.VariableShowStmt.Name
		if name == "all" {
			return []field{{name: "name", typ: typText}, {name: "setting", typ: typText}, {name: "description", typ: typText}}
		}
		return []field{{name: a.se.spelled(name), typ: typText}}
	case *pg.Node_ExecuteStmt:
		p := a.se.names.statements[n.ExecuteStmt.Name]
		if p == nil || !p.bySQL && p.stmt == nil {
			return nil
		}
		return p.columns
	case *pg.Node_FetchStmt:
		if p := a.se.names.portals[n.FetchStmt.Portalname]; p != nil && !n.FetchStmt.Ismove {
			return p.columns
		}
	case *pg.Node_DeclareCursorStmt:
		a.inner(n.DeclareCursorStmt.Query)
	case *pg.Node_CreateTableAsStmt:
		a.inner(n.CreateTableAsStmt.Query)
	case *pg.Node_ExplainStmt:
		a.inner(n.ExplainStmt.Query)
		return []field{{name: "QUERY PLAN", typ: typText}}
	}
	return nil
}

// inner analyzes the query that a command is about.
func (a *analysis) inner(n *pg.Node) {
	if isQuery(n) {
		a.query(n, nil)
	}
}

// utility executes a command and returns its tag.
func (se *session) utility(p *portal) string {
	se.refuseUtility(p.stmt)
	if utilitySnapshot(p.stmt.node) {
		se.takeSnapshot()
	}
	switch n := p.stmt.node.Node.(type) {
	case *pg.Node_TransactionStmt:
		return se.transactionStmt(n.TransactionStmt)
	case *pg.Node_VariableSetStmt:
		return se.variableSet(n.VariableSetStmt)
	case *pg.Node_VariableShowStmt:
		return se.show(p, n.VariableShowStmt.Name)
	case *pg.Node_DiscardStmt:
		return se.discard(n.DiscardStmt.Target)
	case *pg.Node_PrepareStmt:
		return se.prepareStmt(n.PrepareStmt, p.text)
	case *pg.Node_ExecuteStmt:
		return se.executeStmt(p, n.ExecuteStmt)
	case *pg.Node_DeallocateStmt:
		return se.deallocate(n.DeallocateStmt.Name)
	case *pg.Node_DeclareCursorStmt:
		return se.declare(n.DeclareCursorStmt, p)
	case *pg.Node_FetchStmt:
		return se.fetch(p, n.FetchStmt)
	case *pg.Node_ClosePortalStmt:
		return se.closeCursor(n.ClosePortalStmt.Portalname)
	case *pg.Node_ListenStmt:
		return se.listen(n.ListenStmt.Conditionname)
	case *pg.Node_UnlistenStmt:
		return se.unlisten(n.UnlistenStmt.Conditionname)
	case *pg.Node_NotifyStmt:
		se.refuseRecovery("NOTIFY")
		se.notifies(n.NotifyStmt.Conditionname, n.NotifyStmt.Payload)
		return "NOTIFY"
	case *pg.Node_CopyStmt:
		return se.copyStmt(n.CopyStmt, p)
	case *pg.Node_LockStmt:
		return se.lockTables(n.LockStmt)
	case *pg.Node_DoStmt:
		se.do(n.DoStmt)
		return "DO"
	case *pg.Node_CallStmt:
		return se.callStmt(n.CallStmt)
	case *pg.Node_ExplainStmt:
		return se.explain(p, n.ExplainStmt)
	case *pg.Node_ConstraintsSetStmt:
		beyond(len(n.ConstraintsSetStmt.Constraints) > 0, "SET CONSTRAINTS of some")
		if !n.ConstraintsSetStmt.Deferred {
			for _, check := range se.tx.deferred {
				check()
			}
		}
		return "SET CONSTRAINTS"
	case *pg.Node_CheckPointStmt:
		return "CHECKPOINT"
	case *pg.Node_VacuumStmt:
		if n.VacuumStmt.IsVacuumcmd {
			return "VACUUM"
		}
		return "ANALYZE"
	}
	return se.ddl(p)
}

// utilitySnapshot reports whether a command is run with a snapshot (PlannedStmtRequiresSnapshot).
func utilitySnapshot(n *pg.Node) bool {
	switch n.Node.(type) {
	case *pg.Node_TransactionStmt, *pg.Node_LockStmt, *pg.Node_VariableSetStmt, *pg.Node_VariableShowStmt, *pg.Node_ConstraintsSetStmt, *pg.Node_FetchStmt,
		*pg.Node_ListenStmt, *pg.Node_NotifyStmt, *pg.Node_UnlistenStmt, *pg.Node_CheckPointStmt:
		return false
	}
	return true
}

// refuseUtility refuses what may not run on a standby, or not in a block.
func (se *session) refuseUtility(s *stmt) {
	t := se.tx
	alone := func(what string) {
		switch {
		case t.block != 'I' || t.implicit:
			raise("25001", "%s cannot run inside a transaction block", what)
		case t.executed > 0:
			raise("25001", "%s cannot be executed within a pipeline", what)
		}
		t.immediate = true
	}
	switch n := s.node.Node.(type) {
	case *pg.Node_CopyStmt:
		if n.CopyStmt.IsFrom {
			se.refuseRecovery("COPY")
		}
	case *pg.Node_VacuumStmt:
		if !n.VacuumStmt.IsVacuumcmd {
			se.refuseRecovery("ANALYZE")
			break
		}
		se.refuseRecovery("VACUUM")
		alone("VACUUM")
	case *pg.Node_DiscardStmt:
		if n.DiscardStmt.Target == pg.DiscardMode_DISCARD_ALL {
			alone("DISCARD ALL")
		}
	case *pg.Node_CreatedbStmt:
		alone("CREATE DATABASE")
	case *pg.Node_DropdbStmt:
		alone("DROP DATABASE")
	}
}

// refuseRecovery refuses what a standby cannot do.
func (se *session) refuseRecovery(what string) {
	if se.server.recovering() {
		raise("25006", "cannot execute %s during recovery", what)
	}
}

func (se *session) warn(code, message string) {
	se.notice(&Error{Severity: "WARNING", Code: code, Message: message})
}

func (se *session) discard(target pg.DiscardMode) string {
	switch target {
	case pg.DiscardMode_DISCARD_ALL:
		se.set.discard()
		se.names.statements, se.names.portals = map[string]*prepared{}, map[string]*portal{}
		se.heard, se.tx.listens = map[string]bool{}, nil
		se.server.unlockAdvisory(se, false)
		se.drew, se.last = map[string]int64{}, ""
		se.dropTemporary()
		return "DISCARD ALL"
	case pg.DiscardMode_DISCARD_TEMP:
		se.dropTemporary()
		return "DISCARD TEMP"
	case pg.DiscardMode_DISCARD_SEQUENCES:
		se.drew, se.last = map[string]int64{}, ""
		return "DISCARD SEQUENCES"
	}
	return "DISCARD PLANS"
}

func (se *session) prepareStmt(n *pg.PrepareStmt, text string) string {
	if se.names.statements[n.Name] != nil {
		raise("42P05", `prepared statement "%s" already exists`, n.Name)
	}
	s := &stmt{node: n.Query, kind: kindOf(n.Query)}
	p := &prepared{text: text, stmt: s, bySQL: true}
	a := &analysis{se: se, st: se.see()}
	for _, t := range n.Argtypes {
		p.types = append(p.types, a.typeName(t.GetTypeName()))
	}
	se.analyze(p)
	se.names.statements[n.Name] = p
	return "PREPARE"
}

func (se *session) executeStmt(p *portal, n *pg.ExecuteStmt) string {
	st := se.names.statements[n.Name]
	if st == nil {
		raise("26000", `prepared statement "%s" does not exist`, n.Name)
	}
	args := n.Params
	if len(st.types) == 0 {
		args = nil // nobody looks at them
	}
	if len(args) != len(st.types) {
		e := failure("42601", `wrong number of parameters for prepared statement "%s"`, n.Name)
		e.Detail = fmt.Sprintf("Expected %d parameters but got %d.", len(st.types), len(args))
		panic(e)
	}
	se.text = st.text
	se.revalidate(st)
	inner := &portal{prepared: st, own: true}
	a := &analysis{se: se, st: se.see(), params: p.types}
	for i, x := range args {
		v := a.coerce(a.expr(x, nil), st.types[i])
		inner.params = append(inner.params, v.eval(&env{se: se, st: a.st, params: p.params}))
	}
	se.run(inner)
	p.columns, p.rows, p.failed = st.columns, inner.rows, inner.failed
	return inner.tagFor(len(inner.rows))
}

func (se *session) deallocate(name string) string {
	if name == "" {
		se.names.statements = map[string]*prepared{}
		return "DEALLOCATE ALL"
	}
	if se.names.statements[name] == nil {
		raise("26000", `prepared statement "%s" does not exist`, name)
	}
	delete(se.names.statements, name)
	return "DEALLOCATE"
}

func (se *session) explain(p *portal, n *pg.ExplainStmt) string {
	analyze := false
	for _, o := range n.Options {
		if o.GetDefElem().Defname == "analyze" {
			analyze = true
		}
	}
	if x := n.Query.GetExecuteStmt(); x != nil && se.names.statements[x.Name] == nil {
		raise("26000", `prepared statement "%s" does not exist`, x.Name)
	}
	if analyze {
		inner := p.about(n.Query)
		inner.own = true
		se.run(inner)
		if inner.failed != nil {
			panic(inner.failed)
		}
		p.rows = [][]datum{{fmt.Sprintf("Result (actual rows=%d loops=1)", len(inner.rows))}}
		return "EXPLAIN"
	}
	p.rows = [][]datum{{"Result"}}
	return "EXPLAIN"
}

func (se *session) lockTables(n *pg.LockStmt) string {
	if lockMode(n.Mode) > lockWrite {
		se.refuseRecovery("LOCK TABLE")
	}
	se.needBlock("LOCK TABLE")
	for _, r := range n.Relations {
		v := r.GetRangeVar()
		a := &analysis{se: se, st: se.see()}
		rel := a.existing(v)
		if !se.isOwner(rel) {
			for _, privilege := range []string{"UPDATE", "DELETE", "TRUNCATE"} {
				if caught(func() { se.allowed(rel, privilege) }) == nil {
					break
				} else if privilege == "TRUNCATE" && n.Mode > 1 {
					se.allowed(rel, privilege)
				}
			}
			if n.Mode == 1 {
				se.allowed(rel, "SELECT")
			}
		}
		se.lock(tableID{se.database, rel.oid}, lockMode(n.Mode), n.Nowait, false)
	}
	return "LOCK TABLE"
}
