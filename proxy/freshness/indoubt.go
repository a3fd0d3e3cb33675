package freshness

import (
	"slices"

	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// InDoubt is a write whose connection was lost before its outcome was known. Until its
// server process is gone it may be committed at any moment, so reads of what it writes
// must be fresh as of their own arrival.
type InDoubt struct {
	changes Changes
	session Scope
}

// concerns reports whether a read must reckon with the write.
func (w *InDoubt) concerns(r *Read) bool {
	switch mine := w.session == r.Session; r.Level {
	case router.Session:
		return mine && w.changes.Concerns(r.Tables)
	case router.Tenant:
		theirs := w.changes.several || r.Tenant == 0 || w.changes.tenant == r.Tenant
		return (mine || theirs) && w.changes.Concerns(r.Tables)
	case router.Database:
		return w.changes.Concerns(r.Tables)
	case router.ConsistencyNone, router.Eventual, router.Strong: // need no commit, or are fresh as of their own arrival anyway
	}
	return false
}

// Doubt remembers a session's changes as a write in doubt until it is resolved.
func (cs *Commits) Doubt(session Scope, ch Changes) *InDoubt {
	w := &InDoubt{ch, session}
	for {
		old := cs.inDoubt.Load()
		next := []*InDoubt{w}
		if old != nil {
			next = append(next, *old...)
		}
		if cs.inDoubt.CompareAndSwap(old, &next) {
			return w
		}
	}
}

// Resolve takes a write out of doubt: it was committed by now, or never will be.
func (cs *Commits) Resolve(w *InDoubt) {
	now := cluster.Now()
	for _, s := range []Scope{Everybody, w.session, EveryTenant, w.changes.tenant} {
		cs.note(s, &w.changes, now)
	}
	for {
		old := cs.inDoubt.Load()
		var next *[]*InDoubt
		if rest := slices.DeleteFunc(slices.Clone(*old), func(x *InDoubt) bool { return x == w }); len(rest) > 0 {
			next = &rest
		}
		if cs.inDoubt.CompareAndSwap(old, next) {
			return
		}
	}
}

// doubtful reports whether a write in doubt may concern a read.
func (cs *Commits) doubtful(r *Read) bool {
	list := cs.inDoubt.Load()
	return list != nil && slices.ContainsFunc(*list, func(w *InDoubt) bool { return w.concerns(r) })
}
