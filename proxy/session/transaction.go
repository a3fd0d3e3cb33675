package session

import "github.com/pgweir/pgweir/router"

// Phase is where the transaction block stands, as the client sees it.
type Phase uint8

// The phases of a transaction block.
const (
	// Idle is outside a transaction block.
	Idle Phase = iota
	// Deferred is a block whose BEGIN was answered here: no server knows of it.
	Deferred
	// Open is a block that a server takes part in.
	Open
	// Aborted is a block in which a server refused something.
	Aborted
	// AbortedDeferred is an aborted block that no server knows of.
	AbortedDeferred
)

var phaseNames = [...]string{"idle", "deferred", "open", "aborted", "aborted_deferred"}

func (p Phase) String() string { return phaseNames[p] }

// InBlock reports whether a transaction block is open or aborted.
func (p Phase) InBlock() bool { return p != Idle }

// Failed reports whether the block takes nothing but its end.
func (p Phase) Failed() bool { return p == Aborted || p == AbortedDeferred }

// Status returns the transaction status that ReadyForQuery tells of the phase.
// https://www.postgresql.org/docs/current/protocol-message-formats.html
func (p Phase) Status() byte {
	switch p {
	case Idle:
		return 'I'
	case Deferred, Open:
		return 'T'
	case Aborted, AbortedDeferred:
	}
	return 'E'
}

// Deeds are what a transaction has done so far.
type Deeds uint16

// The deeds.
const (
	// DidRead: a replica ran something in it, so that it may have a snapshot there.
	DidRead Deeds = 1 << iota
	// DidQuery: a server ran something that takes a snapshot, behind which modes are refused.
	DidQuery
	// DidOpen: it is READ ONLY and opened a cursor or a portal on a replica.
	DidOpen
	// DidKeep: it left something on a replica that only this one has. AND CHAIN does not end that.
	DidKeep
	// DidSet: it changed settings, if only for itself.
	DidSet
	// DidDDL: it changed the catalog, perhaps. DidRedefine, DidRemove and DidHook: see the flags of plans.
	DidDDL
	DidRedefine
	DidRemove
	DidHook
	// DidTemporary: it made or dropped temporary objects.
	DidTemporary
	// DidCommit: a part of it was committed, as COMMIT AND CHAIN does.
	DidCommit
)

// DidChange are the deeds that change the catalog for others.
const DidChange = DidDDL | DidRedefine | DidRemove | DidHook

// Changes are the deeds of DDL with such flags.
func Changes(f router.Flags) (d Deeds) {
	for _, of := range deedsOf {
		if f.Has(of.flag) {
			d |= of.deed
		}
	}
	return d
}

var deedsOf = [...]struct {
	flag router.Flags
	deed Deeds
}{{router.FlagDDL, DidDDL}, {router.FlagRedefines, DidRedefine}, {router.FlagRemoves, DidRemove}, {router.FlagHooks, DidHook}, {router.FlagTemporary, DidTemporary}}

// Has reports whether all of want were done.
func (d Deeds) Has(want Deeds) bool { return d&want == want }

// Transaction is the transaction block, or the implicit transaction of a batch. Modes
// are the resulting ones, whatever statements they came from.
type Transaction struct {
	Phase Phase
	Modes router.Modes
	Did   Deeds

	opening router.Modes // those a BEGIN elsewhere must have: without what came after a savepoint
	first   router.Modes // those it had before anything was said: AND CHAIN passed them on
}

// Begin returns the statement that opens the block on another server, before what Chained returns.
func (t *Transaction) Begin() string {
	if t.first != (router.Modes{}) {
		return t.first.Begin()
	}
	return t.opening.Begin()
}

// Chained returns what brings a block to where it is that AND CHAIN began and passed modes on to.
// These must be passed on again: an error undoes what BEGIN says, but not them.
func (t *Transaction) Chained() []string {
	switch t.first {
	case router.Modes{}:
		return nil
	case t.opening:
		return []string{"COMMIT AND CHAIN"}
	}
	return []string{"COMMIT AND CHAIN", t.opening.Set()}
}

// Queried says that a server, perhaps a replica, took a snapshot.
func (s *State) Queried(onReplica bool) {
	if s.Tx.Did |= DidQuery; onReplica {
		s.Tx.Did |= DidRead
	}
}

// RanOnReplica says what a replica ran, whether it succeeded or not, and whether it opened a
// cursor or a portal. Nobody else can be made to have what is not followed.
func (s *State) RanOnReplica(st *Executed, opened bool) {
	if opened {
		s.Tx.Did |= DidOpen
	}
	p := st.Plan
	if p == nil || st.Text == "" && (p.Pins != 0 || !st.Followed() || len(st.Sets) == 0 && p.Flags&(router.FlagSetsState|router.FlagSetsLocal) != 0) {
		s.Tx.Did |= DidKeep
	}
}

// Varies reports whether the return to a savepoint changes the transaction's modes.
func (t *Transaction) Varies() bool { return t.Modes != t.opening }

// next returns what follows a COMMIT or ROLLBACK that passes modes on by AND CHAIN.
func (t *Transaction) next(chain bool, modes router.Modes) Transaction {
	if !chain {
		return Transaction{}
	}
	n := Transaction{Phase: Open, Modes: modes, opening: modes, first: modes}
	if t.Phase == Deferred || t.Phase == AbortedDeferred {
		n.Phase = Deferred
	}
	return n
}
