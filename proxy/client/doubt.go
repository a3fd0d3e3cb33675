package client

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// A plan is as good as the catalog it was made with. From when DDL is seen to when the
// catalog is read again, what a statement left behind is decided by its plan of then: the
// server connection is kept until it is known.

// doubts are statements that ran while the catalog was out of date.
type doubts struct {
	texts []string
	ddl   uint64 // seen when they ran
}

// maxDoubts bounds the texts that are kept to be planned anew.
const maxDoubts = 64 << 10

// doubt notes a statement that used what others have changed since its plan was made. It
// returns false if that cannot be judged later.
func (o outcomes) doubt(m *batch.Message) bool {
	l, d, text := &o.c.lease, &o.c.lease.doubts, o.textOf(m)
	if l.onReplica() {
		l.leave(session.Opaque) // nothing it left there is to be kept
		return true
	}
	ddl, size := o.c.up.Database.DDL(), len(text)
	if size == 0 {
		return false
	}
	if len(d.texts) > 0 && d.ddl != ddl {
		l.leave(session.Opaque) // what ran first may have been redefined twice
	}
	for _, t := range d.texts {
		size += len(t)
	}
	if size > maxDoubts {
		return false
	}
	if d.ddl = ddl; !slices.Contains(d.texts, string(text)) {
		d.texts = append(d.texts, string(text))
	}
	return true
}

// resolve waits, once no transaction is open, until the catalog is read, and decides what
// the statements in doubt have left behind. The client has its answer by then.
func (c *Client) resolve() {
	l := &c.lease
	if !l.held() || len(l.doubts.texts) == 0 || l.midBatch() || c.state.Tx.Phase.InBlock() {
		return
	}
	d := l.doubts
	l.doubts = doubts{}
	if c.state.Pins&router.PinOpaque != 0 {
		return
	}
	db := c.up.Database
	db.AwaitCatalog(c.ctx)
	if db.Stale() || db.DDL() != d.ddl {
		l.leave(session.Opaque) // it may have been redefined and redefined again: nobody else shall have it
	}
	for _, text := range d.texts {
		p := db.Plans.Get([]byte(text)).For(c.up.Key.User, c.who.app)
		left := &router.Plan{Class: p.Class, Target: p.Target, Reason: p.Reason, Statements: 1,
			Pins: p.Pins, Touches: p.Touches, Flags: p.Flags & router.FlagDirty}
		e := c.state.Ran(session.Executed{Plan: left}, session.Done, c.svc.Config.Settings.Track != nil)
		l.ran(&e)
	}
}

// ranUnseen says that something ran of which nobody knows what it was.
func (c *Client) ranUnseen() {
	e := c.state.Ran(session.Executed{}, session.Done, c.svc.Config.Settings.Track != nil)
	c.lease.ran(&e)
	c.lease.leave(session.Opaque)
}

// planOfRun is the plan p of what ran, given the search_path it ran under: where
// that leads to the temporary schema first, what is created may be temporary.
func (c *Client) planOfRun(p *router.Plan) *router.Plan {
	if p == nil || !p.Flags.Has(router.FlagCreates) || p.Pins&router.PinTemp != 0 || !c.mayCreateTemporary() {
		return p
	}
	q := *p
	q.Pins |= router.PinTemp
	return &q
}

// mayCreateTemporary reports whether the search_path in force may lead to the temporary
// schema, whoever said so.
func (c *Client) mayCreateTemporary() bool {
	if !c.state.InForceKnown() {
		return true
	}
	path, set := c.state.Settings.Now().Value("search_path")
	if !set {
		path = c.up.Database.Plans.Snapshot().Default(c.up.Config.ServerUser, "search_path")
	}
	return path == "" && !set || router.NamesTempSchema(path)
}

// mayMeanOther reports whether what a message runs may be something else than its plan says:
// its text has bytes that are read by settings the router does not know, or does not read by.
func (o outcomes) mayMeanOther(m *batch.Message) bool {
	s, b := &o.c.state, o.c.lease.b
	if t := &o.c.told; !t.pending && t.texts == textsUnderstood && s.InForceKnown() {
		return false // the usual case: a server reports what decides it
	}
	// The server reports a change when a batch ends; within one it may be unknown.
	if !session.Misreads(b.Parameter("standard_conforming_strings"), b.Parameter("client_encoding")) &&
		!session.MayMisread(s.Settings.Now()) && (s.InForceKnown() || !o.batch.Several()) {
		return false
	}
	text := o.textOf(m)
	return len(text) == 0 || bytes.ContainsFunc(text, func(r rune) bool { return r == '\\' || r >= utf8.RuneSelf })
}
