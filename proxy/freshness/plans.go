package freshness

import "github.com/pgweir/pgweir/router"

// CommitsWithin reports whether a statement may commit before it ends: a procedure,
// a DO block, VACUUM and its like, transaction control among other statements.
func CommitsWithin(p *router.Plan) bool {
	return p.Flags&(router.FlagTxControl|router.FlagStays) != 0 ||
		!WritesNothing(p) && (p.Reason == router.ReasonUtility || p.Reason == router.ReasonUnparsed || p.Reason == router.ReasonMulti)
}

// WritesNothing reports whether a statement is proved to write nothing itself.
// PREPARE TRANSACTION is not: what it prepares may be committed by anybody.
func WritesNothing(p *router.Plan) bool {
	switch p.Class {
	case router.ClassRead, router.ClassSetting, router.ClassEmpty:
		return true
	case router.ClassTx:
		return p.Tx.Verb != router.TxNone && p.Tx.Verb != router.TxPrepare
	}
	return false
}
