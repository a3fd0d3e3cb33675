package session

import (
	"slices"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/router"
)

// What the proxy executes itself: transaction control no server knows of yet, settings
// whose values need no server, and its own settings. A session may only do so while no
// server connection takes part (held), and never behind something a server has yet to
// answer (awaits).

// Executable reports whether the session can execute a statement without a server. held is
// whether it holds a server connection, awaits whether its batch waits for a server
// already; known tells whether a server has taken a custom setting of that name before.
func (s *State) Executable(p *router.Plan, held, awaits bool, known func(name string) bool) bool {
	switch {
	case p.Class == router.ClassEmpty:
		// Outside a block it tells whether a server is there; in one it must not decide which.
		return !held && !awaits && s.Tx.Phase.InBlock() && !s.Tx.Phase.Failed()
	case p.Tx.Verb != router.TxNone:
		return !held && !awaits && s.deferrable(p)
	case p.Own.Verb != router.OwnNone:
		return !s.Tx.Phase.Failed()
	case p.SetOnly:
		return !held && !awaits && s.settable(p, known)
	case p.Statements == 1 && p.Flags.Has(router.FlagForgets) && p.SQL.Verb == router.PreparedNone:
		// DISCARD ALL, with nothing held that a server could discard.
		return !held && !awaits && s.Tx.Phase == Idle && s.Pins == 0 && s.OnlyCustom()
	}
	return false
}

// deferrable reports whether transaction control can be carried out while no server takes part.
func (s *State) deferrable(p *router.Plan) bool {
	phase := s.Tx.Phase
	switch p.Tx.Verb {
	case router.TxBegin:
		// A second one warns, and its modes count: on a server they would be too late, as
		// taking over settings is a query.
		return phase == Idle && s.Pins == 0 || phase == Deferred && !s.Settings.InSavepoint()
	case router.TxCommit, router.TxRollback:
		return phase == Deferred || phase == AbortedDeferred
	case router.TxSavepoint:
		return phase == Deferred
	case router.TxSet:
		return phase == Deferred && !s.Settings.InSavepoint()
	case router.TxNone, router.TxRelease, router.TxRollbackTo, router.TxPrepare:
	}
	return false
}

// settable reports whether a SET needs no server: one has taken each name before, so
// that any value will do.
func (s *State) settable(p *router.Plan, known func(name string) bool) bool {
	if len(p.Sets) == 0 || s.Tx.Phase.Failed() || s.Pins != 0 {
		return false
	}
	for _, set := range p.Sets {
		if set.Local && s.Tx.Phase == Idle || !known(set.Name) {
			return false
		}
	}
	return true
}

// Execute carries out a statement that is Executable, but for the proxy's own settings.
// It returns the command tag of the answer; where the text is nothing but SETs, those of
// its Sets are.
func (s *State) Execute(p *router.Plan) (tag string) {
	switch {
	case p.Tx.Verb != router.TxNone:
		return s.executeTx(p)
	case p.SetOnly:
		s.apply(p.Sets)
		return ""
	default:
		s.discard()
		return "DISCARD ALL"
	}
}

// discard is DISCARD ALL, for settings.
func (s *State) discard() {
	s.Settings.Discard()
	s.Proxy.Discard()
}

func (s *State) executeTx(p *router.Plan) (tag string) {
	t := &s.Tx
	switch p.Tx.Verb {
	case router.TxBegin:
		// What the implicit transaction has done so far belongs to the block.
		if t.Phase == Idle {
			*t = Transaction{Phase: Deferred}
		}
		s.setModes(p.Tx.Modes)
		if p.Tx.Start {
			return "START TRANSACTION"
		}
		return "BEGIN"
	case router.TxCommit, router.TxRollback:
		commit := p.Tx.Verb == router.TxCommit && !t.Phase.Failed()
		modes := s.passedOn()
		s.end(commit)
		*t = t.next(p.Tx.Chain, modes)
		if commit {
			return "COMMIT"
		}
		return "ROLLBACK"
	case router.TxSavepoint:
		s.savepoint(p.Tx.Name)
		return "SAVEPOINT"
	default: // SET TRANSACTION
		s.setModes(p.Tx.Modes)
		return "SET"
	}
}

// setModes takes over transaction modes said after BEGIN.
func (s *State) setModes(m router.Modes) {
	s.Tx.Modes = s.Tx.Modes.With(m)
	if s.Settings.InSavepoint() {
		s.Settings.SetModes(m)
		return
	}
	s.Tx.opening = s.Tx.Modes
}

func (s *State) savepoint(name string) {
	s.Settings.Savepoint(name, s.Tx.Modes)
	s.Proxy.Savepoint(name, s.Tx.Modes)
}

// passedOn returns the modes that AND CHAIN passes on: if the transaction failed, those
// that its innermost savepoint found, or that it had before BEGIN said anything.
func (s *State) passedOn() router.Modes {
	if !s.Tx.Phase.Failed() {
		return s.Tx.Modes
	}
	if modes, ok := s.Settings.innermost(); ok {
		return modes
	}
	return s.Tx.first
}

// end ends the transaction for the settings.
func (s *State) end(commit bool) {
	if commit {
		s.Settings.Commit()
		s.Proxy.Commit()
		s.settled, s.reported = append(s.settled[:len(s.settled):len(s.settled)], s.reported...), nil
		if s.Known == UnknownLocal {
			s.Known = Known
		}
		return
	}
	s.Settings.Rollback()
	s.Proxy.Rollback()
	s.reported = nil // what the connection reports now is its own, perhaps
	if s.Known < UnknownPartly {
		s.Known = Known // all of it is undone
	}
}

// apply carries out changes of settings.
func (s *State) apply(sets []router.Set) {
	for _, set := range sets {
		s.Settings.Set(set)
	}
	s.note(sets)
}

// note takes into account what follows from changes of settings: placeholders are
// defined, and a server may keep a value in other words.
func (s *State) note(sets []router.Set) {
	for _, set := range sets {
		if setting.IsCustom(set.Name) {
			s.Defined = s.Defined.With([]string{set.Name})
		}
		switch {
		case set.Local, set.Exact:
		case Reported[set.Name] != "" && !set.Reset:
			if !slices.Contains(s.reported, set.Name) {
				s.reported = append(s.reported[:len(s.reported):len(s.reported)], set.Name)
			}
		default:
			s.inexact(set)
		}
	}
}

// inexact says that a setting may have another value than its text tells. That leaves open how
// texts are read only if the setting decides it.
func (s *State) inexact(set router.Set) {
	if DecidesReading(set.Name) {
		s.unknown(UnknownText)
	}
	s.Known = max(s.Known, UnknownText)
}

// EndLocal ends the implicit transaction of a batch that no server took part in.
func (s *State) EndLocal() {
	if s.Tx.Phase == Idle {
		s.end(true)
	}
}

// Refused says that the proxy answered a message with an error of its own, no server
// taking part.
func (s *State) Refused() {
	switch s.Tx.Phase {
	case Idle:
		s.end(false)
	case Deferred, AbortedDeferred:
		s.Tx.Phase = AbortedDeferred
	default:
		s.Tx.Phase = Aborted
	}
}

// Reported are settings whose values servers report in their own words
// (ParameterStatus), by what they call them.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
var Reported = map[string]string{
	"datestyle": "DateStyle", "intervalstyle": "IntervalStyle",
	"standard_conforming_strings": "standard_conforming_strings", "timezone": "TimeZone",
}
