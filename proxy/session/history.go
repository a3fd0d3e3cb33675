package session

import (
	"slices"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/router"
)

// History is what settings are and what becomes of them when their transaction ends.
// Its rules are PostgreSQL's: SET changes what is in force now and what COMMIT keeps,
// SET LOCAL what is in force now; ROLLBACK returns to what the transaction began with,
// ROLLBACK TO to what the savepoint found. Outside a transaction block each batch is a
// transaction of its own. A session has one History, and so has its server connection:
// the two differ in what RESET returns to.
//
// A History is a value: a copy taken with Snapshot is not changed by what happens to
// the original.
// https://www.postgresql.org/docs/current/sql-set.html
type History struct {
	reset setting.Settings // what RESET returns to
	begin setting.Settings // in force again after ROLLBACK
	kept  setting.Settings // in force after COMMIT
	now   setting.Settings // in force
	log   []Step           // of the open transaction, oldest first
}

// Step is one thing that a transaction did and that another server must do too if the
// transaction moves there.
type Step struct {
	Kind StepKind
	Name string     // StepSavepoint: its name
	Set  router.Set // StepSet
	Text string     // StepText: a SET whose value only a server can tell
	// StepSavepoint: the transaction's modes when it was defined. StepModes: what was said.
	Modes router.Modes

	kept, now setting.Settings // StepSavepoint: what it found
}

// StepKind says what a Step did.
type StepKind uint8

// The kinds of Step.
const (
	StepSet StepKind = iota
	StepText
	StepSavepoint
	StepModes // SET TRANSACTION behind a savepoint, with which it ends
)

// MayBeReported reports whether a server may report what s sets (ParameterStatus).
func (s Step) MayBeReported() bool {
	return s.Kind == StepText || s.Kind == StepSet && !setting.IsCustom(s.Set.Name)
}

// NewHistory makes the History of what has the given settings and returns to them by RESET.
func NewHistory(reset setting.Settings) History {
	return History{reset: reset, begin: reset, kept: reset, now: reset}
}

// Carrying makes the History of a server connection that carries s and whose RESET
// returns to what its own session began with.
func Carrying(s, began setting.Settings) History {
	return History{reset: began, begin: s, kept: s, now: s}
}

// Now returns the settings in force.
func (h *History) Now() setting.Settings { return h.now }

// Kept returns the settings that COMMIT keeps.
func (h *History) Kept() setting.Settings { return h.kept }

// Begin returns the settings the open transaction began with, to which ROLLBACK returns.
func (h *History) Begin() setting.Settings { return h.begin }

// Reset returns the settings RESET returns to.
func (h *History) Reset() setting.Settings { return h.reset }

// Log returns the steps of the open transaction, oldest first. They must not be changed.
func (h *History) Log() []Step { return h.log }

// Changed reports whether the open transaction changed what COMMIT keeps.
func (h *History) Changed() bool { return h.kept != h.begin }

// share has later changes of h, and of copies of it, reach no other one.
func (h *History) share() { h.log = slices.Clip(h.log) }

// Set carries out one SET, SET LOCAL, RESET or set_config and adds it to the log. With
// the Commit that ends its transaction:
//
//	BenchmarkHistorySet   240 B/op  2 allocs/op
func (h *History) Set(s router.Set) {
	if _, own := h.reset.Value(s.Name); s.Name == setting.Role && s.Value == "none" && !own {
		s.Value, s.Reset = "", true // NONE is a value only where RESET returns to another
	}
	value, has := s.Value, !s.Reset
	if s.Reset {
		value, has = h.reset.Value(s.Name)
	}
	same := h.kept == h.now
	h.now = edited(h.now, s.Name, value, has)
	switch {
	case s.Local:
	case same:
		h.kept = h.now
	default:
		h.kept = edited(h.kept, s.Name, value, has)
	}
	h.add(Step{Kind: StepSet, Set: s})
}

// Follow carries out what a statement that succeeded does to settings and savepoints.
// sets are its changes with bound parameters in place. What ends a transaction is not
// followed here: see Commit and Rollback.
func (h *History) Follow(p *router.Plan, sets []router.Set, modes router.Modes) {
	switch p.Tx.Verb {
	case router.TxSavepoint:
		h.Savepoint(p.Tx.Name, modes)
	case router.TxRelease:
		h.Release(p.Tx.Name)
	case router.TxRollbackTo:
		h.RollbackTo(p.Tx.Name)
	case router.TxNone, router.TxBegin, router.TxCommit, router.TxRollback, router.TxSet, router.TxPrepare:
	}
	if p.Resets != "" {
		if _, own := h.reset.Value(p.Resets); own || h.has(p.Resets) {
			h.Set(router.Set{Name: p.Resets, Reset: true, Local: p.Flags.Has(router.FlagSetsLocal)})
		}
	}
	for _, s := range sets {
		h.Set(s)
	}
	switch {
	case p.Flags.Has(router.FlagForgets) && p.Unpins != 0: // DISCARD ALL
		h.Discard()
	case p.Unpins&router.PinSetting != 0: // RESET ALL
		h.ResetAll()
	}
}

func (h *History) has(name string) bool {
	_, now := h.now.Value(name)
	_, kept := h.kept.Value(name)
	return now || kept
}

// Resolve returns what a server must set to do as s did for h: RESET returns to other
// values there.
func (h *History) Resolve(s router.Set) router.Set {
	if s.Reset {
		if v, ok := h.reset.Value(s.Name); ok {
			s.Value, s.Reset = v, false
		}
	}
	return s
}

// Replay carries out on h, a server connection's, what the open transaction of a session
// has done.
func (h *History) Replay(of *History) {
	for i := range of.log {
		switch s := &of.log[i]; s.Kind {
		case StepSet:
			h.Set(of.Resolve(s.Set))
		case StepSavepoint:
			h.Savepoint(s.Name, s.Modes)
		case StepText, StepModes:
		}
	}
}

// Until returns what must be set to get from what h, a server connection's, has in force
// to what a session has: first what COMMIT keeps, then what is for the transaction only.
func (h *History) Until(want *History) []setting.Change {
	changes := h.kept.Diff(want.kept)
	now := h.now
	for _, c := range changes {
		now = edited(now, c.Name, c.Value, !c.Reset)
	}
	for _, c := range now.Diff(want.now) {
		c.Local = true
		changes = append(changes, c)
	}
	return changes
}

// Differs reports whether h has other settings in force, now or after COMMIT, than o.
func (h *History) Differs(o *History) bool { return h.now != o.now || h.kept != o.kept }

func edited(s setting.Settings, name, value string, has bool) setting.Settings {
	if has {
		return s.With(name, value)
	}
	return s.Without(name)
}

// add appends a step. A setting set again in the same way, with no savepoint between,
// takes the place of the step before: the log does not grow with the transaction's length.
func (h *History) add(s Step) {
	for i := len(h.log) - 1; i >= 0 && h.log[i].Kind != StepSavepoint; i-- {
		old := &h.log[i]
		if old.Kind == StepSet && old.Set.Name == s.Set.Name && old.Set.Local == s.Set.Local {
			rest := h.log[i+1:]
			h.log = append(append(h.log[:i:i], rest...), s)
			return
		}
	}
	h.log = append(h.log, s)
}

// SetModes adds to the log that modes were said behind a savepoint.
func (h *History) SetModes(m router.Modes) {
	if m != (router.Modes{}) {
		h.log = append(h.log, Step{Kind: StepModes, Modes: m})
	}
}

// Text adds a SET to the log whose value is not known here.
func (h *History) Text(text string) { h.log = append(h.log, Step{Kind: StepText, Text: text}) }

// ResetAll carries out RESET ALL: what SET LOCAL has returned to its default counts as not
// set, and role and session authorization are left alone.
// https://www.postgresql.org/docs/current/sql-reset.html
func (h *History) ResetAll() {
	hidden := slices.DeleteFunc(h.kept.Diff(h.reset), func(c setting.Change) bool { return !h.setNow(c.Name) })
	for _, c := range append(hidden, h.now.Diff(h.reset)...) {
		if c.Name != setting.Role && c.Name != setting.Authorization {
			h.Set(router.Set{Name: c.Name, Reset: true})
		}
	}
}

// setNow reports whether the open transaction has set a setting last to a value, which may be
// that of its default.
func (h *History) setNow(name string) bool {
	for i := len(h.log) - 1; i >= 0; i-- {
		if s := &h.log[i]; s.Kind == StepSet && s.Set.Name == name {
			return !s.Set.Reset
		}
	}
	return false
}

// Discard carries out DISCARD ALL, which ends in what the session began with.
func (h *History) Discard() { h.Adopt(h.reset) }

// Adopt says that s is in force, whatever was before, and stays so.
func (h *History) Adopt(s setting.Settings) {
	h.begin, h.kept, h.now, h.log = s, s, s, nil
}

// Correct says that a setting has another value than was believed, in the words of
// the server: it was the open transaction that set it.
func (h *History) Correct(name, value string) {
	h.now, h.kept = h.now.With(name, value), h.kept.With(name, value)
}

// Commit ends the transaction by keeping what it set, but for SET LOCAL.
func (h *History) Commit() { h.begin, h.now, h.log = h.kept, h.kept, nil }

// Rollback ends the transaction by undoing what it set.
func (h *History) Rollback() { h.kept, h.now, h.log = h.begin, h.begin, nil }

// Savepoint defines a savepoint of a transaction that has the given modes.
func (h *History) Savepoint(name string, modes router.Modes) {
	h.log = append(h.log, Step{Kind: StepSavepoint, Name: name, kept: h.kept, now: h.now, Modes: modes})
}

// RollbackTo returns to what a savepoint found, and tells the transaction's modes then;
// the savepoint stays. ok is whether there is one.
func (h *History) RollbackTo(name string) (modes router.Modes, ok bool) {
	i := h.find(name)
	if i < 0 {
		return router.Modes{}, false
	}
	s := &h.log[i]
	h.kept, h.now, h.log = s.kept, s.now, h.log[:i+1:i+1]
	return s.Modes, true
}

// Release ends a savepoint and those after it; what was set since stays, but not the
// transaction's modes: it tells what they were. ok is whether there is one.
func (h *History) Release(name string) (modes router.Modes, ok bool) {
	i := h.find(name)
	if i < 0 {
		return router.Modes{}, false
	}
	modes = h.log[i].Modes
	log := h.log[:i:i]
	for _, s := range h.log[i+1:] {
		if s.Kind != StepSavepoint && s.Kind != StepModes {
			log = append(log, s)
		}
	}
	h.log = log
	return modes, true
}

// InSavepoint reports whether a savepoint is defined.
func (h *History) InSavepoint() bool {
	_, ok := h.innermost()
	return ok
}

// innermost returns the modes that the newest savepoint found; ok is whether there is one.
func (h *History) innermost() (modes router.Modes, ok bool) {
	for i := len(h.log) - 1; i >= 0; i-- {
		if s := &h.log[i]; s.Kind == StepSavepoint {
			return s.Modes, true
		}
	}
	return router.Modes{}, false
}

// find returns the place of the newest savepoint of a name, or -1.
func (h *History) find(name string) int {
	for i := len(h.log) - 1; i >= 0; i-- {
		if h.log[i].Kind == StepSavepoint && h.log[i].Name == name {
			return i
		}
	}
	return -1
}
