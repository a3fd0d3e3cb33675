package router

// TakesSnapshot reports whether a statement may take its transaction's first snapshot: all
// but SET, SHOW and transaction control do. nil is a statement nobody knows.
func (p *Plan) TakesSnapshot() bool {
	switch {
	case p == nil || p.Statements > 1:
		return true
	case p.Class == ClassEmpty, p.Class == ClassTx && p.Tx.Verb != TxNone:
		return false
	case p.Class == ClassRead && p.Target == TargetAny: // SHOW
		return false
	case p.Class == ClassSetting && len(p.Sets)+len(p.Functions)+len(p.Relations) == 0 && !p.Flags.Has(FlagSetsState): // SET TRANSACTION SNAPSHOT
		return false
	}
	return !p.SetOnly || len(p.Sets) > 0 && p.Sets[0].Tag == ""
}
