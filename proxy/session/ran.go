package session

import (
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/router"
)

// Outcome is what became of a statement that a server was sent.
type Outcome uint8

// The outcomes.
const (
	// Done: it succeeded.
	Done Outcome = iota
	// Failed: it failed, having perhaps done a part of what it says.
	Failed
	// NotRun: an error before it, or of its own text, kept it from running at all.
	NotRun
)

// Executed is what a server was sent of one statement.
type Executed struct {
	Plan *router.Plan // nil: nobody knows what ran
	// Sets are the plan's changes of settings with bound parameters in place; none if they
	// could not be put in place.
	Sets []router.Set
	// Text is that of a SET whose value the text does not tell, if it may have to be run
	// on another server.
	Text string
}

// Followed reports whether it is known what the statement did to settings: the plan is,
// and its changes could be put in place.
func (st *Executed) Followed() bool { return st.Plan != nil && len(st.Sets) == len(st.Plan.Sets) }

// unknownPlan is the plan of what runs without anybody knowing what it is: a portal that
// may be another one than its name says, a message the server was left to judge.
var unknownPlan = &router.Plan{Class: router.ClassUnknown, Target: router.TargetPrimary, Pins: router.PinOpaque}

// Inspectable are the kinds of state a server connection can be asked for.
const Inspectable = router.PinTemp | router.PinCursor | router.PinLock | router.PinListen

// undone are the kinds of state that an error undoes, with the transaction or the part
// of it since a savepoint.
const undone = router.PinSetting | router.PinTemp | router.PinCursor | router.PinListen

// Refuses reports whether a statement with such an outcome was refused unseen, as a failed transaction
// refuses all that does not end it or return to a savepoint. p may be nil.
func (s *State) Refuses(p *router.Plan, out Outcome) bool {
	return out == Failed && s.Tx.Phase.Failed() && (p == nil || p.Tx.Verb == router.TxNone && !p.Flags.Has(router.FlagTxControl) && p.Reason != router.ReasonUnparsed)
}

// Ran says that a server has answered a statement. declared are the settings that the
// operator declared code nobody can see through may set; nil if he did not. With the Ready behind it:
//
//	BenchmarkRan/SELECT_1    45 ns/op    0 B/op  0 allocs/op
//	BenchmarkRan/SET_LOCAL  345 ns/op  208 B/op  3 allocs/op
func (s *State) Ran(st *Executed, out Outcome, declared []string) Effects {
	if out == NotRun {
		return Effects{}
	}
	p := st.Plan
	if p == nil {
		p = unknownPlan
	}
	var e Effects
	if out == Done {
		e = s.succeeded(p, st)
	}
	s.leaves(p, st, out, declared, &e)
	return e
}

// succeeded takes over what a statement means when a server has carried it out.
func (s *State) succeeded(p *router.Plan, st *Executed) (e Effects) {
	if p.Flags&(router.FlagDDL|router.FlagTemporary) != 0 {
		s.Tx.Did |= Changes(p.Flags)
	}
	if p.Flags&(router.FlagSetsState|router.FlagSetsLocal) != 0 || len(p.Sets) > 0 {
		s.Tx.Did |= DidSet
	}
	if p.Tx.Verb != router.TxNone {
		e.Ended = s.follow(p)
	}
	e.Startup = s.resetsStartup(p, st)
	s.settings(p, st)
	if p.Unpins&router.PinSetting != 0 { // RESET ALL
		s.Proxy.ResetAll()
	}
	if p.Flags.Has(router.FlagForgets) { // DISCARD ALL, DEALLOCATE ALL among others
		e.Forgets = true
		if p.Statements > 1 {
			e.Residue = Opaque
		}
		if p.Unpins != 0 {
			s.Proxy.Discard()
			e.Unpinned = s.unpin(p, &e)
		}
	}
	return e
}

// settings takes over the settings a statement changed on the server.
func (s *State) settings(p *router.Plan, st *Executed) {
	switch {
	case len(p.Sets) == 0 && p.SetOnly && st.Text != "":
		s.Settings.Text(st.Text)
	case len(p.Sets) > 0 && !st.Followed():
		for _, set := range p.Sets {
			s.inexact(set)
		}
	}
	var sets []router.Set
	if st.Followed() {
		sets = st.Sets
	}
	s.Settings.Follow(p, sets, s.Tx.Modes)
	s.note(sets)
}

// resetsStartup reports whether a statement returned a setting to the server's default
// where the session has a value of its own.
func (s *State) resetsStartup(p *router.Plan, st *Executed) bool {
	reset := s.Settings.Reset()
	if reset == (setting.Settings{}) {
		return false
	}
	if p.Unpins&router.PinSetting != 0 || p.Flags.Has(router.FlagForgets) && p.Unpins != 0 {
		return true
	}
	if p.Tx.Verb == router.TxRollbackTo || p.Tx.Chain {
		return true // that it was set again may be undone, in a transaction that goes on
	}
	if _, own := reset.Value(p.Resets); own && p.Resets != "" {
		return true
	}
	for i := range st.Sets {
		if _, own := reset.Value(st.Sets[i].Name); own && st.Sets[i].Reset {
			return true
		}
	}
	return false
}

// unpin unties the session from its server connection, as DISCARD ALL does.
func (s *State) unpin(p *router.Plan, e *Effects) (unpinned router.PinSet) {
	left := s.Pins &^ p.Unpins
	if left == s.Pins || s.Tx.Phase.InBlock() {
		return router.PinNone
	}
	e.Residue = max(e.Residue, Discardable)
	unpinned, s.Pins = s.Pins&^left, left
	return unpinned
}

// follow takes over transaction control that a server has carried out.
func (s *State) follow(p *router.Plan) End {
	t := &s.Tx
	switch p.Tx.Verb {
	case router.TxBegin:
		// A second BEGIN warns, and its modes count all the same.
		if t.Phase == Idle {
			t.Phase = Open
		}
		s.setModes(p.Tx.Modes)
	case router.TxSet:
		// Outside a block it warns; a BEGIN in the same batch makes it count.
		s.setModes(p.Tx.Modes)
	case router.TxSavepoint: // for Settings see Follow
		s.Proxy.Savepoint(p.Tx.Name, t.Modes)
	case router.TxRelease:
		if m, ok := s.Proxy.Release(p.Tx.Name); ok {
			t.Modes = m
		}
	case router.TxRollbackTo:
		if m, ok := s.Proxy.RollbackTo(p.Tx.Name); ok {
			t.Modes = m
		}
		if t.Phase == Aborted {
			t.Phase = Open
		}
	case router.TxCommit, router.TxRollback, router.TxPrepare:
		return s.ended(p)
	case router.TxNone:
	}
	return NoEnd
}

// ended follows a COMMIT, ROLLBACK or PREPARE TRANSACTION.
func (s *State) ended(p *router.Plan) End {
	commit := p.Tx.Verb != router.TxRollback && !s.Tx.Phase.Failed()
	modes := s.passedOn()
	s.end(commit)
	did := DidCommit
	if commit || s.Pins != 0 { // a rollback leaves what it does not undo, such as a session's lock
		did |= s.Tx.Did & DidKeep
	}
	if p.Tx.Verb != router.TxRollback {
		did |= s.Tx.Did & DidChange
	}
	if commit && s.Known == UnknownText {
		// A ROLLBACK of what comes next in the batch does not undo it.
		s.Known = UnknownPartly
	}
	s.Tx = s.Tx.next(p.Tx.Chain, modes)
	s.Tx.Did = did
	if commit {
		return Committed
	}
	return RolledBack
}

// leaves notes the session state a statement may have left behind, whether it
// succeeded or not: one that failed may have done a part of what it says.
func (s *State) leaves(p *router.Plan, st *Executed, out Outcome, declared []string, e *Effects) {
	resetsAll := p.Unpins&router.PinSetting != 0
	if len(p.Sets) == 0 && (p.Flags.Has(router.FlagSetsLocal) || p.Flags.Has(router.FlagSetsState) && !(resetsAll && p.Statements == 1)) {
		s.unknown(UnknownLocal)
	}
	if resetsAll && s.Known == UnknownLocal {
		s.unknown(UnknownText) // it leaves alone the role, and what SET LOCAL returned to its default
	}
	if p.Flags.Has(router.FlagTxControl) {
		// What of the settings was committed and what rolled back, only the server knows.
		s.unknown(UnknownPartly)
		s.Tx.Did |= DidCommit
	}
	if len(p.Sets) == 0 || out == Failed && p.Statements > 1 {
		s.MayDefine = s.MayDefine.With(p.Touches)
	}
	if p.Flags.Has(router.FlagDirty) {
		e.Residue = Opaque
	}
	e.Inspect |= (p.Pins | p.Unpins) & Inspectable
	pins := p.Pins
	if out == Failed && !p.CommitsWithin() {
		pins &^= undone
	}
	if pins&router.PinOpaque != 0 && declared != nil {
		// What it may set is declared, and the rest of it is looked for. A placeholder
		// outlives the transaction.
		s.MayDefine = s.MayDefine.With(declared)
		pins = pins&^router.PinOpaque | router.PinSetting | Inspectable
		e.Inspect |= Inspectable
	}
	if pins&router.PinSetting != 0 {
		s.unknown(UnknownText)
		if p.CommitsWithin() {
			s.unknown(UnknownPartly)
		}
	}
	if pins &^= router.PinSetting; pins == 0 {
		return
	}
	s.Pins |= pins
	switch {
	case pins&(router.PinOpaque|router.PinLoad) != 0:
		e.Residue = Opaque
	case pins&^Inspectable != 0:
		e.Residue = max(e.Residue, Discardable)
	}
}

// Ready says that a batch is over: its implicit transaction, unless a block is open,
// ended as the server says with its transaction status. failed is whether a statement
// of the batch failed. parameter tells what the server reports of a setting.
func (s *State) Ready(status byte, failed bool, parameter func(name string) string) {
	s.Unreported = Known
	switch status {
	case 'I':
		s.end(!failed)
		s.correct(parameter)
		s.Tx = Transaction{}
	case 'E':
		s.Tx.Phase = Aborted
	default:
		s.Tx.Phase = Open
	}
}

// correct takes over the server's words for what was set since the session was idle.
func (s *State) correct(parameter func(name string) string) {
	for _, name := range s.settled {
		if _, ok := s.Settings.Kept().Value(name); ok {
			s.Settings.Correct(name, parameter(Reported[name]))
			s.Settings.Commit()
		}
	}
	s.settled = nil
}

// Moved says that the open transaction was ended on the server it ran on, to go on
// elsewhere.
func (s *State) Moved() {
	switch s.Tx.Phase {
	case Open:
		s.Tx.Phase = Deferred
	case Aborted:
		s.Tx.Phase = AbortedDeferred
	case Idle, Deferred, AbortedDeferred: // no server knows of it
	}
}

// Found is what a server connection was found to carry.
type Found struct {
	Values  setting.Settings // set by the session, by the server's words
	Defined []string         // custom settings that do not read NULL
	Kept    router.PinSet    // of the kinds asked for; PinSetting if Values cannot be carried elsewhere
}

// ReadBack takes over what the server connection was found to carry, once no
// transaction is open. What the session began with is to be set there again if it is
// not. inspected are the kinds of state that were asked for.
func (s *State) ReadBack(f Found, inspected router.PinSet) {
	pins := s.Pins&^inspected | f.Kept&inspected
	if s.NeedsReadBack() {
		s.Defined, s.MayDefine = s.Defined.With(f.Defined), setting.Names{}
		if s.Known >= UnknownText {
			s.Settings.Adopt(s.own(f.Values))
			s.Known = Known
			pins = pins&^router.PinSetting | f.Kept&router.PinSetting
		}
	}
	s.Pins = pins
}

// own is what the session has, given what its connection does: where that is back at its
// own default, RESET has returned the session to its.
func (s *State) own(found setting.Settings) setting.Settings {
	for name, value := range s.Settings.Reset().All() {
		if _, ok := found.Value(name); !ok && !setting.IsCustom(name) && name != setting.Role {
			found = found.With(name, value)
		}
	}
	return found
}

// Unreadable says that the server refused to tell what its connection carries: the
// session stays there, to be asked again.
func (s *State) Unreadable() {
	if s.NeedsReadBack() {
		s.Known = UnknownRefused
		s.Pins |= router.PinSetting
	}
}
