package simpg

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/setting"
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

// refuseUtility refuses what may not run in a read-only transaction, or not in a block.
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
	case *pg.Node_VacuumStmt:
		if n.VacuumStmt.IsVacuumcmd {
			alone("VACUUM")
		}
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

// spelled is a setting's name as it is shown.
func (se *session) spelled(name string) string {
	low := setting.Fold(name)
	if g := gucs[low]; g != nil {
		return g.name
	}
	if n, ok := se.set.defined[low]; ok {
		return n
	}
	raise("42704", `unrecognized configuration parameter "%s"`, name)
	return ""
}

func (se *session) show(p *portal, name string) string {
	if name == "all" {
		for _, low := range slices.Sorted(maps.Keys(gucs)) {
			p.rows = append(p.rows, []datum{gucs[low].name, se.shown(low), ""})
		}
	} else {
		p.rows = [][]datum{{se.currentSetting(name, false)}}
	}
	return "SHOW"
}

// assign sets a setting or resets it, by whatever statement.
func (se *session) assign(name, value string, reset, local bool) {
	low, g := settingName(name)
	if g == nil {
		if _, ok := se.set.defined[low]; !ok {
			se.set.defined[low] = name
		}
		se.set.put(low, value, reset, local)
		return
	}
	switch {
	case g.context == "internal":
		raise("55P02", `parameter "%s" cannot be changed`, g.name)
	case g.context == "postmaster":
		raise("55P02", `parameter "%s" cannot be changed without restarting the server`, g.name)
	case g.context == "sighup":
		raise("55P02", `parameter "%s" cannot be changed now`, g.name)
	case g.context == "superuser" && !se.super():
		raise("42501", `permission denied to set parameter "%s"`, g.name)
	}
	if strings.HasPrefix(low, "transaction_") {
		se.assignMode(low, g.canonical(value))
		return
	}
	if !reset {
		value = g.canonical(value)
		se.checkIdentity(low, value)
	}
	if low == "session_authorization" {
		se.set.put("role", "none", false, local) // who acts is the new session's user
	}
	se.set.put(low, value, reset, local)
}

// checkIdentity checks who the session may act as.
func (se *session) checkIdentity(low, value string) {
	if low != "role" && low != "session_authorization" || low == "role" && value == "none" {
		return
	}
	if se.see().roles[value] == nil {
		raise("22023", `role "%s" does not exist`, value)
	}
	user := se.sessionUser()
	switch {
	case low == "role" && !se.roleOf(user).super && !se.hasRole(user, value):
		raise("42501", `permission denied to set role "%s"`, value)
	case low == "session_authorization" && value != se.user && !se.roleOf(se.user).super:
		raise("42501", "permission denied to set session authorization")
	}
}

// assignMode is SET of transaction_isolation and its like.
func (se *session) assignMode(low, value string) {
	var m said
	switch low {
	case "transaction_isolation":
		m.isolation = value
	case "transaction_read_only":
		m.readOnly = value
	case "transaction_deferrable":
		m.deferrable = value
	}
	se.say(m)
}

// said are modes as a statement says them; empty is not said.
type said struct{ isolation, readOnly, deferrable string }

func saidModes(options []*pg.Node) (m said) {
	onOff := func(n *pg.Node) string {
		if n.GetAConst().GetIval().GetIval() != 0 {
			return "on"
		}
		return "off"
	}
	for _, o := range options {
		switch d := o.GetDefElem(); d.Defname {
		case "transaction_isolation":
			m.isolation = d.Arg.GetAConst().GetSval().GetSval()
		case "transaction_read_only":
			m.readOnly = onOff(d.Arg)
		case "transaction_deferrable":
			m.deferrable = onOff(d.Arg)
		}
	}
	return m
}

// say takes over modes, if they may still be said.
func (se *session) say(s said) {
	t := se.tx
	sub := len(t.points) > 0
	if v := s.isolation; v != "" && v != t.modes.isolation {
		switch {
		case t.queried:
			raise("25001", "SET TRANSACTION ISOLATION LEVEL must be called before any query")
		case sub:
			raise("25001", "SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction")
		case v == "serializable" && se.server.recovering():
			e := failure("0A000", "cannot use serializable mode in a hot standby")
			e.Hint = "You can use REPEATABLE READ instead."
			panic(e)
		}
		t.modes.isolation = v
	}
	if v := s.readOnly; v != "" {
		if v == "off" && t.modes.readOnly {
			switch {
			case sub && t.points[len(t.points)-1].modes.readOnly:
				raise("25001", "cannot set transaction read-write mode inside a read-only transaction")
			case t.queried:
				raise("25001", "transaction read-write mode must be set before any query")
			}
		}
		if v == "off" && se.server.recovering() {
			raise("0A000", "cannot set transaction read-write mode during recovery")
		}
		t.modes.readOnly = v == "on"
	}
	if v := s.deferrable; v != "" {
		switch {
		case sub:
			raise("25001", "SET TRANSACTION [NOT] DEFERRABLE cannot be called within a subtransaction")
		case t.queried:
			raise("25001", "SET TRANSACTION [NOT] DEFERRABLE must be called before any query")
		}
		t.modes.deferrable = v == "on"
	}
}

func (se *session) transactionStmt(n *pg.TransactionStmt) string {
	t := se.tx
	switch n.Kind {
	case pg.TransactionStmtKind_TRANS_STMT_BEGIN, pg.TransactionStmtKind_TRANS_STMT_START:
		if t.block == 'T' {
			se.warn("25001", "there is already a transaction in progress")
		}
		was := t.block
		t.block = 'T' // what the implicit transaction has done is a part of it
		e := caught(func() { se.say(saidModes(n.Options)) })
		if e != nil {
			t.block = was
			panic(e)
		}
		if n.Kind == pg.TransactionStmtKind_TRANS_STMT_START {
			return "START TRANSACTION"
		}
		return "BEGIN"
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT, pg.TransactionStmtKind_TRANS_STMT_ROLLBACK:
		return se.endBlock(n)
	case pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT:
		se.needBlock("SAVEPOINT")
		se.savepoint(n.SavepointName)
		return "SAVEPOINT"
	case pg.TransactionStmtKind_TRANS_STMT_RELEASE:
		se.needBlock("RELEASE SAVEPOINT")
		se.release(n.SavepointName)
		return "RELEASE"
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:
		se.needBlock("ROLLBACK TO SAVEPOINT")
		se.rollbackTo(n.SavepointName)
		return "ROLLBACK"
	}
	raise("0A000", "simpg: two-phase commit is not modelled")
	return ""
}

func (se *session) warn(code, message string) {
	se.notice(&Error{Severity: "WARNING", Code: code, Message: message})
}

func (se *session) needBlock(what string) {
	if se.tx.block == 'I' {
		raise("25P01", "%s can only be used in transaction blocks", what)
	}
}

// endBlock is COMMIT and ROLLBACK. Outside a block they end the implicit transaction.
func (se *session) endBlock(n *pg.TransactionStmt) string {
	t := se.tx
	commit := n.Kind == pg.TransactionStmtKind_TRANS_STMT_COMMIT
	word := map[bool]string{true: "COMMIT", false: "ROLLBACK"}[commit]
	if t.block == 'I' {
		if n.Chain {
			raise("25P01", "%s AND CHAIN can only be used in transaction blocks", word)
		}
		se.warn("25P01", "there is no transaction in progress")
	}
	m, implicit := t.modes, t.implicit
	if commit = commit && t.block != 'E'; commit {
		if e := caught(se.commit); e != nil {
			t.block = 'I'
			panic(e)
		}
	} else {
		word = "ROLLBACK"
		se.rollback()
	}
	t.implicit = implicit
	if n.Chain {
		se.begin()
		t.block, t.modes, t.first = 'T', m, m
	}
	return word
}

func (se *session) variableSet(n *pg.VariableSetStmt) string {
	if n.IsLocal && se.tx.block == 'I' && !se.tx.implicit && n.Kind != pg.VariableSetKind_VAR_SET_MULTI {
		se.warn("25P01", "SET LOCAL can only be used in transaction blocks")
	}
	switch n.Kind {
	case pg.VariableSetKind_VAR_SET_VALUE:
		se.assign(n.Name, setValue(n), false, n.IsLocal)
	case pg.VariableSetKind_VAR_SET_DEFAULT:
		se.assignDefault(n.Name, n.IsLocal)
	case pg.VariableSetKind_VAR_SET_CURRENT:
		se.assign(n.Name, se.currentSetting(n.Name, false).(string), false, n.IsLocal)
	case pg.VariableSetKind_VAR_RESET:
		se.assignDefault(n.Name, false)
		return "RESET"
	case pg.VariableSetKind_VAR_RESET_ALL:
		se.set.resetAll()
		return "RESET"
	case pg.VariableSetKind_VAR_SET_MULTI:
		m := saidModes(n.Args)
		if n.Name == "SESSION CHARACTERISTICS" {
			for name, v := range map[string]string{"isolation": m.isolation, "read_only": m.readOnly, "deferrable": m.deferrable} {
				if v != "" {
					se.assign("default_transaction_"+name, v, false, n.IsLocal)
				}
			}
			break
		}
		if se.tx.block == 'I' && !se.tx.implicit {
			se.warn("25P01", "SET TRANSACTION can only be used in transaction blocks")
		}
		se.say(m)
	}
	return "SET"
}

func (se *session) assignDefault(name string, local bool) {
	if low, g := settingName(name); g != nil && strings.HasPrefix(low, "transaction_") {
		se.assignMode(low, se.set.is("default_"+low))
		return
	}
	se.assign(name, "", true, local)
}

// listValued are the settings that take a list of names.
func listValued(name string) bool { return name == "search_path" }

// setValue is the value that SET gives: of several, a list.
func setValue(n *pg.VariableSetStmt) string {
	var parts []string
	list := listValued(setting.Fold(n.Name))
	for _, arg := range n.Args {
		v := argText(arg)
		if list && arg.GetAConst().GetSval() != nil {
			v = quoteName(v)
		}
		parts = append(parts, v)
	}
	if len(parts) > 1 && !list && setting.Fold(n.Name) != "datestyle" {
		name := n.Name
		if g := gucs[setting.Fold(name)]; g != nil {
			name = g.name
		}
		raise("22023", "SET %s takes only one argument", name)
	}
	return strings.Join(parts, ", ")
}

// argText is a constant of SET as text.
func argText(n *pg.Node) string {
	if t := n.GetTypeCast(); t != nil {
		return argText(t.Arg)
	}
	switch v := n.GetAConst().GetVal().(type) {
	case *pg.A_Const_Ival:
		return fmt.Sprint(v.Ival.Ival)
	case *pg.A_Const_Fval:
		return v.Fval.Fval
	case *pg.A_Const_Boolval:
		return fmt.Sprint(v.Boolval.Boolval)
	case *pg.A_Const_Sval:
		return v.Sval.Sval
	}
	return ""
}

// quoteName quotes a name where it needs it.
func quoteName(s string) string {
	plain := s != "" && !(s[0] >= '0' && s[0] <= '9') && s[0] != '$'
	for i := range len(s) {
		c := s[i]
		plain = plain && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_')
	}
	if plain && s != "user" && s != "all" && s != "default" {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
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
	if len(n.Params) != len(st.types) {
		e := failure("42601", `wrong number of parameters for prepared statement "%s"`, n.Name)
		e.Detail = fmt.Sprintf("Expected %d parameters but got %d.", len(st.types), len(n.Params))
		panic(e)
	}
	se.text = st.text
	se.revalidate(st)
	inner := &portal{prepared: st, own: true}
	a := &analysis{se: se, st: se.see(), params: p.types}
	for i, x := range n.Params {
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
		inner := &portal{prepared: &prepared{text: p.text, stmt: &stmt{node: n.Query, kind: kindOf(n.Query)}, types: p.types}, params: p.params, own: true}
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
		rel := a.relation(v)
		if rel == nil {
			a.gone(v)
		}
		if user := se.currentUser(); !se.super() && !se.hasRole(user, rel.owner) {
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
