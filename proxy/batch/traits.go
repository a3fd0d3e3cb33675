package batch

import (
	"slices"

	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// Traits are what analysis found out about a batch as a whole.
type Traits uint32

// The traits.
const (
	// NeedsServer: some message is for a server.
	NeedsServer Traits = 1 << iota
	// OpensCursor: it opens what ties its transaction to a server.
	OpensCursor
	// CopiesIn: its last message is a COPY FROM STDIN.
	CopiesIn
	// ChangesSettings: some statement changes settings, if only in its transaction.
	ChangesSettings
	// Rewritten: the bytes cannot go as they came.
	Rewritten
	// Refused: a message carries a refusal; what comes behind it, up to Sync, is not looked at.
	Refused
	// Skipped: it comes behind a message that was refused, so that it is not looked at up to
	// Sync.
	Skipped
	// Resumes: it needs a portal of an earlier batch.
	Resumes
	// CommitsWithin: some statement may commit before it ends.
	CommitsWithin
	// HasSync: its last message is a Sync, or counts as one.
	HasSync
	// Rereads: some statement may change how texts behind it are read.
	Rereads
	// Renames: some statement may change what names in texts behind it mean.
	Renames
	// EndsTx: some statement ends a transaction, or a part of it.
	EndsTx
	// Begins: it has a BEGIN for a server, whose block takes in what stands before it.
	Begins
	// ChangesCatalog: some statement changes the catalog, or makes temporary objects.
	ChangesCatalog
	// UsesObjects: what some statement may leave behind is as old as the catalog known.
	UsesObjects
	// MindsChannels: some statement may ask what the session listens to, or change that.
	MindsChannels
	// Large: a message of it is too long to be gathered, or the next one is.
	Large
)

// Has reports whether all of want are there.
func (t Traits) Has(want Traits) bool { return t&want == want }

// primaryBegin is the plan of a BEGIN or SET TRANSACTION that does not belong on a replica.
var primaryBegin = &router.Plan{Class: router.ClassTx, Target: router.TargetPrimary, Reason: router.ReasonTransaction}

// Note takes a plan into account for the choice of a server.
func (b *Batch) Note(p *router.Plan) {
	b.Traits |= NeedsServer
	for _, part := range p.Parts {
		if part.Tx.Verb == router.TxBegin {
			b.Traits |= Begins
		}
	}
	if (p.Tx.Verb == router.TxBegin || p.Tx.Verb == router.TxSet) && !p.Tx.Modes.Standby() {
		p = primaryBegin
	}
	if p.Tx.Verb == router.TxBegin {
		b.Traits |= Begins
	}
	if ends(p) {
		b.Traits |= EndsTx
	}
	if p.CommitsWithin() {
		b.Traits |= CommitsWithin
	}
	if p.Flags&(router.FlagSetsState|router.FlagSetsLocal) != 0 {
		b.Traits |= ChangesSettings
	}
	if sets(p, session.DecidesReading) {
		b.Traits |= Rereads
	}
	if sets(p, session.DecidesNames) {
		b.Traits |= Renames
	}
	if p.Flags.Has(router.FlagCursor) {
		b.Traits |= OpensCursor
	}
	if p.Flags&(router.FlagDDL|router.FlagTemporary) != 0 {
		b.Traits |= ChangesCatalog
	}
	if p.Uses {
		b.Traits |= UsesObjects
	}
	if mindsChannels(p) || slices.ContainsFunc(p.Parts, mindsChannels) {
		b.Traits |= MindsChannels
	}
	if b.Plan == nil || p.Target > b.Plan.Target || p.Target == b.Plan.Target && p.Class == router.ClassWrite {
		b.Plan = p
	}
}

// ends reports whether a statement ends a transaction, or a part of it.
func ends(p *router.Plan) bool { return p.Tx.Ends() || p.Tx.Verb == router.TxRollbackTo }

// sets reports whether a statement sets what decides something, or the session does not follow
// what it sets.
func sets(p *router.Plan, decides func(name string) bool) bool {
	if len(p.Sets) == 0 {
		return p.Flags&(router.FlagSetsState|router.FlagSetsLocal) != 0
	}
	return slices.ContainsFunc(p.Sets, func(set router.Set) bool { return decides(set.Name) })
}

// mindsChannels reports whether a statement may ask what the session listens to, or change that,
// or begins what may: a block stays on its connection.
func mindsChannels(p *router.Plan) bool {
	return p.Pins|p.Unpins != 0 || p.Class != router.ClassRead && p.Class != router.ClassWrite ||
		p.Reason == router.ReasonFunction || p.Reason == router.ReasonMulti
}
