package client

import (
	"bytes"
	"context"
	"unicode/utf8"

	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/doubt"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// A plan is as good as the catalog it was made with. What a statement left behind that ran
// while the catalog did not know what it uses, or what is redefined since, is decided later
// (package doubt). The server connection is kept so long, and only so long: for as long as
// the client is busy, and a moment more.

// doubt notes that the plan p of a message, or of a part of it, may tell too little. It returns
// false if that cannot be judged later.
func (o outcomes) doubt(m *batch.Message, p *router.Plan, redefined bool) bool {
	l, removals := &o.c.lease, o.c.up.Database.Removals()
	if l.onReplica() || l.doubts.Outdated(removals) {
		l.leave(session.Opaque) // nothing it left there is to be kept
	}
	if !l.onReplica() && l.b.Drawn() != o.c.who.id {
		l.b.NoteDrawn(0) // it may have drawn
	}
	if p != m.Plan || p.Flags.Has(router.FlagIgnorant) {
		p = nil
	}
	return l.onReplica() || l.doubts.Add(o.textOf(m), p, redefined, removals)
}

// doubtful reports whether a plan may tell too little of what ran, and whether that is because
// what the catalog tells was redefined.
func (o outcomes) doubtful(p *router.Plan) (doubtful, redefined bool) {
	if p == nil || o.c.state.Pins&router.PinOpaque != 0 {
		return false, false
	}
	db := o.c.up.Database
	redefined = p.Uses && recorder(o).redefined() ||
		p.Flags.Has(router.FlagDDL) && (db.Hooked() || p.Flags.Has(router.FlagRedefines) && db.Plans.Snapshot().Hooks())
	return redefined || doubt.Ignorant(p), redefined
}

// mayResolve reports whether doubts can be resolved now: there are some, and no transaction is
// open.
func (c *Client) mayResolve() bool {
	l := &c.lease
	if !l.held() || !l.doubts.Any() || l.midBatch() || c.state.Tx.Phase.InBlock() {
		return false
	}
	if c.state.Pins&router.PinOpaque != 0 {
		l.doubts.Drop() // it is tied to its connection anyhow
	}
	return l.doubts.Any()
}

// tied reports whether the session has, or may have, what is lost with its connection, even if only a lock.
func (c *Client) tied() bool {
	return c.state.Pins != 0 || c.lease.doubts.Any() || c.state.LostWithServer()
}

// resolve resolves doubts: those that the catalog can tell of by now, or all.
func (c *Client) resolve(ctx context.Context, all bool) {
	if !c.mayResolve() {
		return
	}
	of := doubt.Case{Doubts: &c.lease.doubts, State: &c.state, Service: c.svc, Up: c.up, Application: c.who.app, Backend: c.lease.b}
	left := of.Known
	if all {
		left = func() []session.Effects { return of.All(ctx) }
	}
	for _, e := range left() {
		c.lease.ran(&e)
	}
}

// ranUnseen says that something ran of which nobody knows what it was.
func (c *Client) ranUnseen() {
	e := c.state.Ran(&session.Executed{}, session.Done, c.svc.Config.Settings.Track)
	c.lease.ran(&e)
	c.lease.leave(session.Opaque)
}

// mayMeanOther reports whether what a message runs may be something else than its plan says:
// its text has bytes that are read by settings the router does not know, or does not read by.
func (o outcomes) mayMeanOther(m *batch.Message) bool {
	s, b := &o.c.state, o.c.lease.b
	if t := &o.c.told; !t.pending && t.texts == textsUnderstood && s.InForceKnown() {
		return false // the usual case: a server reports what decides it
	}
	if s.Unreported == session.Known && !session.Misreads(b.Parameter("standard_conforming_strings"), b.Parameter("client_encoding")) &&
		!session.MayMisread(s.Settings.Now()) {
		return false
	}
	if m.Plan != nil && m.Plan.Class == router.ClassEmpty {
		return false
	}
	text := o.textOf(m) // empty: not at hand any more
	return len(text) == 0 || bytes.ContainsFunc(text, func(r rune) bool { return r == '\\' || r >= utf8.RuneSelf })
}
