package router

// TakesSnapshot reports whether a statement may take its transaction's first snapshot: all
// but SET, SHOW, LOCK, LISTEN and the like and transaction control do. nil is a statement
// nobody knows; of several the first counts.
func (p *Plan) TakesSnapshot() bool {
	switch {
	case p != nil && len(p.Parts) > 0:
		return p.Parts[0].TakesSnapshot()
	case p == nil || p.Statements > 1:
		return true
	case p.Class == ClassEmpty, p.Class == ClassTx && p.Tx.Verb != TxNone, p.Flags.Has(FlagNoSnapshot):
		return false
	case p.Class == ClassRead && p.Target == TargetAny: // of a cursor, else DEALLOCATE
		return p.SQL.Verb != PreparedNone
	}
	return true
}
