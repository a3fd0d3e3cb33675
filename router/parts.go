package router

import "slices"

// A text of several statements is one message of its client, and its server answers each of
// them: what the text as a whole says decides where it runs, what its parts say what the
// session has afterwards.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT

// joinParts gives p what follows from its parts where transaction control is among them. All
// of it may run on a replica if that takes each of them, and the session can repeat on
// another server whatever they leave open.
func (p *Plan) joinParts() {
	p.Unpins = 0
	p.Target, p.Reason, p.neverOnReplica = TargetPrimary, ReasonMulti, true
	if p.Parts == nil {
		return
	}
	reads := false
	for _, part := range p.Parts {
		if !part.repeatable() {
			return
		}
		reads = reads || part.Target == TargetReplica
	}
	p.Target, p.Reason, p.neverOnReplica = TargetAny, ReasonTx, false
	if reads {
		p.Class, p.Target, p.Reason = ClassRead, TargetReplica, ReasonRead
	}
}

// repeatable reports whether one statement does no harm when it runs twice, on a replica
// too, and what it leaves open can be opened elsewhere.
func (p *Plan) repeatable() bool {
	if p.Pins != 0 || p.Unpins&^PinCursor != 0 || p.Target == TargetPrimary {
		return false
	}
	switch p.Class {
	case ClassRead:
		return true
	case ClassSetting:
		return len(p.Sets) > 0
	case ClassTx:
		return p.Tx.Verb != TxPrepare && p.Tx.Modes.Standby()
	case ClassUnknown, ClassWrite, ClassEmpty:
	}
	return false
}

// Opens reports whether one statement only opens or sets something, so that it may run again
// with what comes behind it even if its client knows of it.
func (p *Plan) Opens() bool {
	switch p.Tx.Verb {
	case TxBegin, TxSavepoint, TxSet:
		return true
	case TxNone, TxCommit, TxRollback, TxRelease, TxRollbackTo, TxPrepare:
	}
	return p.SetOnly
}

// withLiterals is p for a text of its key: the values it sets are that text's. Both share
// all else.
func (p *Plan) withLiterals(text []byte) *Plan {
	if !p.literals.placed {
		return p
	}
	q := *p
	q.Sets = placedSets(p.Sets, &placeReader{text: text})
	r := &placeReader{text: text}
	if q.Own.at != nil {
		q.Own.Value, _ = q.Own.at.read(text)
		q.Own.at = nil
	}
	q.Parts = slices.Clone(p.Parts) // nil stays nil: taken as one
	for i, part := range p.Parts {
		if len(part.Sets) > 0 {
			c := *part
			c.Sets = placedSets(part.Sets, r)
			q.Parts[i] = &c
		}
	}
	q.Variants = slices.Clone(p.Variants)
	for i := range q.Variants {
		q.Variants[i].Plan = q.Variants[i].Plan.withLiterals(text)
	}
	return &q
}

func placedSets(sets []Set, r *placeReader) []Set {
	if len(sets) == 0 {
		return nil
	}
	list := make([]Set, len(sets))
	copy(list, sets)
	for i := range list {
		if at := list[i].at; at != nil {
			list[i].Value, _ = r.read(at)
			list[i].at = nil
		}
	}
	return list
}
