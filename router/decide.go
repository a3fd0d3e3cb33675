package router

// View is what a decision needs of the session besides the Plan.
type View struct {
	Route          Route  // the session's, its user's or its database's wish
	Pins           PinSet // state that ties it to the primary connection it has
	InTx           bool   // inside a transaction block, or a pipeline that has begun
	OnPrimary      bool   // which already runs on the primary
	OnReplica      bool   // or on a replica
	Read           bool   // it has read there
	Fixed          bool   // it has something there that cannot move: a snapshot, a cursor, a portal
	Cursor         bool   // the batch opens a cursor or a portal that outlives it
	Leaves, AtOnce bool   // it runs something behind the transaction's end; and nothing before
	// Modes of the transaction, those it was not given being the session's defaults, or of
	// the next one. A default is not said to be READ WRITE, which a standby refuses to hear.
	Modes Modes
}

// Decision is where a batch runs, and why.
type Decision struct {
	Target Target
	Reason Reason
}

// Decide joins what is known of a batch's strictest Plan with the state of its
// session. It is a pure function; the rules are those of the package's comment.
func Decide(p *Plan, v View) Decision {
	switch {
	case v.Pins != 0 && v.OnReplica && v.Fixed:
		return Decision{TargetReplica, ReasonTransaction} // what ties it came about there
	case v.Pins != 0:
		return Decision{TargetPrimary, ReasonPinned}
	case v.OnPrimary:
		return Decision{TargetPrimary, ReasonTransaction}
	case v.OnReplica:
		return decideOnReplica(p, v)
	case p.Target == TargetAny && p.Class != ClassSetting && p.Class != ClassEmpty:
		return Decision{TargetPrimary, p.Reason} // nothing to stay with: a COMMIT without BEGIN, a FETCH without cursor
	case p.Target == TargetPrimary:
		if v.Route == RouteReplica && overridable(p) {
			return Decision{TargetReplica, ReasonRoute}
		}
		return Decision{TargetPrimary, p.Reason}
	case v.Route == RoutePrimary && !p.Flags.Has(FlagHint):
		return Decision{TargetPrimary, ReasonRoute}
	case (v.InTx || v.Modes.Isolation == Serializable) && !v.Modes.Standby():
		return Decision{TargetPrimary, ReasonIsolation}
	case v.InTx && v.Cursor && v.Modes.Access != ReadOnly:
		// A cursor cannot move, and a later write must find its transaction.
		return Decision{TargetPrimary, ReasonCursor}
	}
	return Decision{TargetReplica, p.Reason}
}

func decideOnReplica(p *Plan, v View) Decision {
	stay := Decision{TargetReplica, ReasonTransaction}
	switch {
	case refused(p, v):
		return Decision{TargetPrimary, ReasonIsolation}
	case p.Target != TargetPrimary && v.Cursor && v.Modes.Access != ReadOnly && !p.Tx.Ends():
		return Decision{TargetPrimary, ReasonCursor}
	case p.Target == TargetAny:
		return stay
	case p.Target == TargetReplica:
		return Decision{TargetReplica, p.Reason}
	case v.Modes.Access == ReadOnly && p.Class == ClassWrite && p.Reason != ReasonUtility && !p.Flags.Has(FlagCopyIn) && !v.Leaves:
		return stay // the same refusal there as on the primary, which LISTEN, NOTIFY and COPY FROM do not get
	case v.Fixed && !v.AtOnce:
		return stay
	}
	return Decision{TargetPrimary, p.Reason}
}

// refused reports whether a standby refuses modes that the primary takes: those of a SET
// TRANSACTION, or of a second BEGIN. After the first query both refuse alike, but for
// READ WRITE, which says nothing new where the transaction may write.
func refused(p *Plan, v View) bool {
	if p.Tx.Verb != TxSet && p.Tx.Verb != TxBegin {
		return false
	}
	if v.Read {
		return p.Tx.Modes.Access == ReadWrite && v.Modes.Access != ReadOnly
	}
	return !v.Modes.With(p.Tx.Modes).Standby()
}

// overridable: the wish "replica" beats what is only unproved, not what is proved to be a write.
func overridable(p *Plan) bool {
	switch p.Reason {
	case ReasonFunction, ReasonUnknownFn, ReasonRelation, ReasonUnknownRel, ReasonNoCatalog, ReasonLearned:
		return p.Pins == 0
	default:
		return false
	}
}
