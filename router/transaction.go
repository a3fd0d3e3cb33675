package router

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"

	"github.com/pgweir/pgweir/internal/session"
)

// ParseIsolation reads an isolation level as PostgreSQL writes it, such as
// "repeatable read", in any case.
func ParseIsolation(s string) (Isolation, bool) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "read committed", "read uncommitted":
		return ReadCommitted, true
	case "repeatable read":
		return RepeatableRead, true
	case "serializable":
		return Serializable, true
	}
	return IsolationDefault, false
}

// ParseAccess reads the value of default_transaction_read_only and its like.
func ParseAccess(readOnly string) (Access, bool) {
	on, ok := session.ParseBool(readOnly)
	switch {
	case !ok:
		return AccessDefault, false
	case on:
		return ReadOnly, true
	}
	return ReadWrite, true
}

var txVerbs = map[pg.TransactionStmtKind]TxVerb{
	pg.TransactionStmtKind_TRANS_STMT_BEGIN:       TxBegin,
	pg.TransactionStmtKind_TRANS_STMT_START:       TxBegin,
	pg.TransactionStmtKind_TRANS_STMT_COMMIT:      TxCommit,
	pg.TransactionStmtKind_TRANS_STMT_ROLLBACK:    TxRollback,
	pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT:   TxSavepoint,
	pg.TransactionStmtKind_TRANS_STMT_RELEASE:     TxRelease,
	pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO: TxRollbackTo,
	pg.TransactionStmtKind_TRANS_STMT_PREPARE:     TxPrepare,
}

func (a *analysis) transaction(s *pg.TransactionStmt) {
	verb, ok := txVerbs[s.GetKind()]
	if !ok { // COMMIT PREPARED, ROLLBACK PREPARED
		a.command(ReasonUtility, FlagStays, 0)
		return
	}
	tx := Tx{Verb: verb, Chain: s.GetChain(), Name: s.GetSavepointName()}
	a.txModes(&tx, s.GetOptions())
	a.cur.tx = tx
	target := TargetAny
	if verb == TxPrepare {
		target = TargetPrimary
	}
	a.cur.fix(ClassTx, target, ReasonTx)
}

// txModes reads transaction modes. Their values are keywords, which are not
// masked, but the parser hands them over as constants.
func (a *analysis) txModes(tx *Tx, options []*pg.Node) {
	for _, o := range options {
		d := o.GetDefElem()
		switch c := d.GetArg().GetAConst(); d.GetDefname() {
		case "transaction_isolation":
			tx.Isolation, _ = ParseIsolation(c.GetSval().GetSval())
		case "transaction_read_only":
			if tx.Access = ReadWrite; c.GetIval().GetIval() != 0 {
				tx.Access = ReadOnly
			}
		}
	}
}

// setMulti is SET TRANSACTION and SET SESSION CHARACTERISTICS.
func (a *analysis) setMulti(name string, args []*pg.Node) {
	switch name {
	case "transaction":
		a.cur.tx = Tx{Verb: TxSet}
		a.txModes(&a.cur.tx, args)
		a.cur.fix(ClassTx, TargetAny, ReasonTx)
	case "transaction snapshot":
		// A snapshot is known only to the server that exported it.
		a.is(ReasonSetting)
		a.cur.flags |= FlagSetsLocal
	default:
		a.is(ReasonSetting)
		a.unfollowed(false)
	}
}

// setTransactionByName is SET transaction_isolation = '…' and SET
// transaction_read_only = …, which are SET TRANSACTION. It reports whether s is
// one of them with a value that is understood.
func (a *analysis) setTransactionByName(name string, s *pg.VariableSetStmt) bool {
	if name != "transaction_isolation" && name != "transaction_read_only" || len(s.GetArgs()) != 1 {
		return false
	}
	value, _ := a.literal(s.GetArgs()[0])
	tx, ok := Tx{Verb: TxSet}, false
	if name == "transaction_isolation" {
		tx.Isolation, ok = ParseIsolation(value)
	} else {
		tx.Access, ok = ParseAccess(value)
	}
	if !ok {
		return false
	}
	a.cur.tx = tx
	a.cur.fix(ClassTx, TargetAny, ReasonTx)
	return true
}
