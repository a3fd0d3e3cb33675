package router

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

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
	a.cur.tx = Tx{
		Verb: verb, Modes: modes(s.GetOptions()), Chain: s.GetChain(), Name: s.GetSavepointName(),
		Start: s.GetKind() == pg.TransactionStmtKind_TRANS_STMT_START,
	}
	target := TargetAny
	if verb == TxPrepare {
		target = TargetPrimary
	}
	a.cur.fix(ClassTx, target, ReasonTx)
}

// setMulti is SET TRANSACTION and SET SESSION CHARACTERISTICS.
func (a *analysis) setMulti(name string, args []*pg.Node) {
	switch name {
	case "transaction":
		a.cur.tx = Tx{Verb: TxSet, Modes: modes(args)}
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

// setTransactionByName is SET transaction_isolation = '…' and its like, which are SET
// TRANSACTION. It reports whether s is one of them with a value that is understood.
func (a *analysis) setTransactionByName(name string, s *pg.VariableSetStmt) bool {
	if !strings.HasPrefix(name, "transaction_") || len(s.GetArgs()) != 1 {
		return false
	}
	value, _ := a.literal(s.GetArgs()[0])
	tx := Tx{Verb: TxSet}
	if !tx.Modes.named(name, value) {
		return false
	}
	a.cur.tx = tx
	a.cur.fix(ClassTx, TargetAny, ReasonTx)
	return true
}
