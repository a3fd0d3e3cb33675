package simpg

import (
	"maps"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// modes are what SET TRANSACTION says.
type modes struct {
	isolation            string
	readOnly, deferrable bool
}

// transaction is a session's transaction, and what is left of it between two: nothing.
type transaction struct {
	id        uint64 // 0 while none has begun
	block     byte   // 'I', 'T' or 'E', as ReadyForQuery tells
	implicit  bool   // several statements of one string are one
	executed  int    // statements since it began, or since the last Sync
	immediate bool   // what ran is committed without waiting for a Sync
	modes     modes
	first     modes // what it had before anything was said
	queried   bool  // it has a snapshot
	snapshot  *state
	points    []point
	changes   []change
	notifies  []notification
	deferred  []func()
	listens   []func()

	sees   overlay // its snapshot with its changes
	newest overlay // what is committed with its changes
}

// point is a savepoint.
type point struct {
	name      string
	now, kept values
	modes     modes
	changes   int
	notifies  int
	listens   int
	portals   map[string]*portal
	locks     int
}

// begin begins a transaction, if none has begun.
func (se *session) begin() {
	t := se.tx
	if t.id != 0 {
		return
	}
	se.server.cluster.tx++
	t.id = se.server.cluster.tx
	t.modes = modes{
		isolation: se.set.is("default_transaction_isolation"), readOnly: se.set.on("default_transaction_read_only"),
		deferrable: se.set.on("default_transaction_deferrable"),
	}
	t.first = t.modes
}

// see returns what a statement sees; snapshot tells that it takes one.
func (se *session) see() *state {
	t := se.tx
	base := se.server.now().state
	if t.snapshot != nil && t.modes.isolation != "read committed" && t.modes.isolation != "read uncommitted" {
		base = t.snapshot
	}
	return t.sees.on(base, t.changes)
}

// change notes what a statement does to the data; from then on the session sees it.
func (se *session) change(c change) {
	se.tx.changes = append(se.tx.changes, c)
}

// takeSnapshot gives the transaction a snapshot, and each statement under READ COMMITTED a
// new one.
func (se *session) takeSnapshot() {
	t := se.tx
	if se.server.recovering() && t.modes.isolation == "serializable" {
		panic(&Error{Severity: "ERROR", Code: "0A000", Message: "cannot use serializable mode in a hot standby",
			Hint: `You can use REPEATABLE READ instead.`})
	}
	t.queried = true
	if t.snapshot == nil || t.modes.isolation == "read committed" || t.modes.isolation == "read uncommitted" {
		t.snapshot = se.server.now().state
	}
}

// commit ends the transaction and keeps what it did. It may raise, which rolls back.
func (se *session) commit() {
	t := se.tx
	if t.id == 0 {
		se.set.end(true)
		return
	}
	for _, check := range t.deferred {
		check()
	}
	se.onCommit()
	s := se.server
	if len(t.changes) > 0 {
		st := s.now().state.with(t.changes, nil)
		wait := se.set.is("synchronous_commit") != "off"
		r := s.write(st, 34, wait, se.rand)
		if wait {
			se.awaitStandbys(r.end)
		}
	}
	se.finish(true)
}

// rollback ends the transaction and forgets what it did.
func (se *session) rollback() {
	se.finish(false)
}

// finish is what is done at the end of a transaction either way.
func (se *session) finish(committed bool) {
	t := se.tx
	s := se.server
	s.unlockRows(se, 0)
	s.unlockAdvisory(se, true)
	se.set.end(committed)
	if committed {
		for _, f := range t.listens {
			f()
		}
		s.notify(se, t.notifies)
	}
	se.names.endTransaction(committed)
	*t = transaction{block: 'I', executed: t.executed}
	s.cluster.wakeAll()
}

// fail is what an error does to the transaction.
func (se *session) fail() {
	t := se.tx
	switch {
	case t.block == 'I':
		se.rollback()
	case t.block == 'T' && len(t.points) > 0:
		p := t.points[len(t.points)-1]
		t.block, t.modes = 'E', p.modes
		se.undo(&p)
		se.set.now, se.set.kept = maps.Clone(p.now), maps.Clone(p.kept)
	case t.block == 'T':
		t.block, t.modes = 'E', t.first
		se.undo(&point{})
		se.server.unlockAdvisory(se, true)
		se.set.end(false)
	}
	se.names.fail()
}

func (se *session) savepoint(name string) {
	t := se.tx
	t.points = append(t.points, point{
		name: name, now: maps.Clone(se.set.now), kept: maps.Clone(se.set.kept), modes: t.modes, changes: len(t.changes), notifies: len(t.notifies),
		listens: len(t.listens), portals: maps.Clone(se.names.portals), locks: se.locked,
	})
}

func (t *transaction) point(name string) int {
	i := len(t.points) - 1
	for i >= 0 && t.points[i].name != name {
		i--
	}
	if i < 0 {
		raise("3B001", `savepoint "%s" does not exist`, name)
	}
	return i
}

func (se *session) release(name string) {
	t := se.tx
	i := t.point(name)
	t.modes.readOnly = t.points[i].modes.readOnly
	t.points = t.points[:i]
}

func (se *session) rollbackTo(name string) {
	t := se.tx
	i := t.point(name)
	p := t.points[i]
	t.points = t.points[:i+1]
	t.block, t.modes = 'T', p.modes
	se.undo(&p)
	se.set.now, se.set.kept = maps.Clone(p.now), maps.Clone(p.kept)
	se.names.rollbackTo(p.portals)
}

// undo takes back what was done to data since a point, and gives up the locks taken since.
func (se *session) undo(p *point) {
	t := se.tx
	t.changes, t.notifies, t.listens = t.changes[:p.changes:p.changes], t.notifies[:p.notifies], t.listens[:p.listens]
	t.sees.reset()
	t.newest.reset()
	se.server.unlockRows(se, p.locks)
	se.server.cluster.wakeAll()
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
		if standby := se.server.recovering(); v == "off" && (t.modes.readOnly || standby) { // all are read only there
			switch {
			case sub && (t.points[len(t.points)-1].modes.readOnly || standby):
				raise("25001", "cannot set transaction read-write mode inside a read-only transaction")
			case t.queried:
				raise("25001", "transaction read-write mode must be set before any query")
			case standby:
				raise("0A000", "cannot set transaction read-write mode during recovery")
			}
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
