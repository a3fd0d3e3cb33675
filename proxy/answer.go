package proxy

import (
	"errors"
	"slices"
	"time"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/router"
)

// The life of a unit:
//
//	read      the client's frames, and what they need
//	decide    which kind of server
//	secure    a connection to one, carrying the session's settings
//	compose   what the server is sent: the frames, and what must come before
//	relay     the answers, to ReadyForQuery
//	settle    what they mean for the session; the connection is kept or given back
//
// As long as nothing of an answer has reached the client, a unit that a replica
// failed can go through it again.

// maxAttempts bounds how often a unit is sent.
const maxAttempts = 4

// answer reads one unit and answers it. An error ends the session.
func (c *client) answer(u *unit) error {
	if err := c.read(u); err != nil {
		return err
	}
	u.started = time.Now()
	defer func() { c.front.Discard(u.size) }()
	if !u.server && !c.inUnit && !(u.failed && c.b != nil) {
		return c.answerAlone(u)
	}
	if c.tx.failed && c.b == nil {
		for len(u.ops) > 0 && u.ops[0].kind == opLocal { // parsing nothing does not fail
			c.emit(u, &u.ops[0])
			u.ops = u.ops[1:]
		}
		return c.refuseUnit(u, errAborted)
	}
	return c.answerByServer(u)
}

var errAborted = wire.Errorf("25P02", "current transaction is aborted, commands ignored until end of transaction block")

// answerAlone answers a unit that needs no server.
func (c *client) answerAlone(u *unit) error {
	for i := range u.ops {
		o := &u.ops[i]
		switch {
		case o.kind == opSync:
			c.skipping = false
			if !c.tx.open {
				c.dropPortals()
			}
			c.commitLocal()
			u.answer = wire.AppendReady(u.answer, c.status())
		case o.fail != nil:
			c.fail(u, o.fail, o.kind == opQuery)
		default:
			c.emit(u, o)
		}
	}
	return c.flush(u)
}

// emit adds the proxy's own answer and what it means.
func (c *client) emit(u *unit, o *op) {
	u.answer = append(u.answer, o.answer...)
	if o.apply != nil {
		o.apply(c)
	}
	if o.query {
		c.commitLocal()
		c.traceLocal(u)
		u.answer = wire.AppendReady(u.answer, c.status())
	}
}

// commitLocal ends the implicit transaction of what the proxy answered itself.
func (c *client) commitLocal() {
	if !c.tx.open {
		c.settings.commit()
		c.tx.steps = nil
	}
}

// status is the transaction status the client is told.
func (c *client) status() byte {
	switch {
	case c.tx.failed:
		return wire.TxFailed
	case c.tx.open:
		return wire.TxOpen
	}
	return wire.TxIdle
}

// fail adds an error of the proxy's own where no server takes part.
func (c *client) fail(u *unit, e *wire.Error, query bool) {
	u.answer = e.Append(u.answer)
	c.s.metrics.ProxyError()
	if c.tx.open {
		c.tx.failed = true
	} else {
		c.settings.rollback()
		c.tx.steps = nil
	}
	if query {
		u.answer = wire.AppendReady(u.answer, c.status())
	} else {
		c.skipping = true
	}
}

// refuseUnit answers a whole unit with an error, the server having no part in it.
func (c *client) refuseUnit(u *unit, e *wire.Error) error {
	c.undo(u.ops)
	c.fail(u, e, u.end == endQuery && !u.failed)
	if u.sync {
		c.skipping = false
		u.answer = wire.AppendReady(u.answer, c.status())
	}
	return c.flush(u)
}

// undo takes back the statement names of ops that did not happen.
func (c *client) undo(ops []op) {
	for i := len(ops) - 1; i >= 0; i-- {
		o := &ops[i]
		switch {
		case o.before != nil:
			c.define(o.name, o.before)
		case o.name != "":
			delete(c.statements, o.name)
		case o.kind == opParse && o.tag != 0 && o.tag == c.unnamed.tag:
			c.unnamed.drop()
		}
	}
}

// answerByServer sends the unit to a server until one has answered it.
func (c *client) answerByServer(u *unit) error {
	primary := false
	settings, tx := c.settings, c.tx
	tx.steps = slices.Clone(tx.steps)
	for attempt := 1; ; attempt++ {
		err := c.attempt(u, primary)
		if err == nil {
			return nil
		}
		var again *retry
		if !errors.As(err, &again) {
			return err
		}
		if attempt == maxAttempts {
			return c.refuseUnit(u, wire.Errorf("08006", "statement failed on %d servers: %v", attempt, again.reason))
		}
		c.settings, c.tx = settings, tx // what the attempt changed, the next one will
		c.tx.steps = slices.Clone(tx.steps)
		primary = primary || again.primary
		u.decision.Reason = router.ReasonRetried
		c.s.metrics.Retried(again.reason)
	}
}

// attempt sends the unit once. A *retry says that it may be sent again.
func (c *client) attempt(u *unit, primary bool) error {
	d := c.decide(u)
	if primary {
		d = router.Decision{Target: router.TargetPrimary, Reason: router.ReasonRetried}
	}
	if err := c.secure(u, d); err != nil {
		return c.refuseByError(u, err)
	}
	c.touches(u)
	if !c.inUnit {
		c.checkShapes(u)
	}
	frames := c.compose(u)
	u.hold = c.mayRetry(u)
	u.answer = append(u.answer[:0], u.notices...)
	if !u.asks() {
		return c.answerHere(u)
	}
	c.s.metrics.Sent(time.Since(u.started))
	c.setRunning(c.b)
	err := c.exchange(u, frames)
	c.setRunning(nil)
	if err != nil {
		return c.recover(u, err)
	}
	c.server.Answered()
	return c.settle(u)
}

// asks reports whether a server has anything to answer.
func (u *unit) asks() bool {
	for i := range u.queue {
		if u.queue[i].kind != opLocal {
			return true
		}
	}
	return false
}

// answerHere gives the answers of a unit all of which turned out to be the proxy's
// own: statements the server holds already. Its Sync is still to come.
func (c *client) answerHere(u *unit) error {
	for i := range u.queue {
		c.emit(u, &u.queue[i])
	}
	if err := c.flush(u); err != nil {
		return err
	}
	return c.settle(u)
}

// decide joins the unit's strictest plan with the session's state.
func (c *client) decide(u *unit) router.Decision {
	p := u.plan
	if p == nil {
		p = anyPlan
	}
	if c.tx.failed && c.b != nil {
		// Wherever else it went, it would begin anew.
		return router.Decision{Target: c.target(), Reason: router.ReasonTransaction}
	}
	inTx := c.tx.open || c.inUnit
	v := router.View{
		Route:  c.wish(),
		Pins:   c.pins,
		InTx:   inTx,
		Cursor: u.cursor,
		Read:   c.tx.read,
	}
	if c.b != nil && inTx {
		v.OnPrimary = c.role != cluster.RoleReplica
		v.OnReplica = !v.OnPrimary
	}
	if inTx || u.cursor || c.serial {
		v.Modes = c.characteristics()
	}
	d := router.Decide(p, v)
	if d.Target == router.TargetReplica && v.OnReplica && !c.stays() && !u.cursor && !c.stillFresh(u) {
		// Its transaction has only read, and sees what is committed meanwhile.
		return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonFreshness}
	}
	if d.Target == router.TargetReplica && !v.OnReplica && c.up.Database.Stale() {
		return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonNoCatalog}
	}
	return d
}

// target is the kind of server the session holds a connection to.
func (c *client) target() router.Target {
	if c.role == cluster.RoleReplica {
		return router.TargetReplica
	}
	return router.TargetPrimary
}

// anyPlan is of frames that only make sense where the session is.
var anyPlan = &router.Plan{Class: router.ClassUnknown, Target: router.TargetAny, Reason: router.ReasonTransaction}

// characteristics are the transaction's, those it was not given coming from the
// session's startup settings or the database's defaults.
func (c *client) characteristics() router.Modes {
	m := c.tx.modes
	if m.Isolation == router.IsolationDefault {
		m.Isolation = c.defaultIsolation()
	}
	if m.Access == router.AccessDefault && c.defaultReadOnly() {
		m.Access = router.ReadOnly
	}
	return m
}

// mayRetry reports whether the unit could be sent again after a failure, so that
// its answer is held back until the first row or command tag. What a primary runs
// is only if it reads: its notices may be awaited.
func (c *client) mayRetry(u *unit) bool {
	if c.pins != 0 {
		return false
	}
	if u.resumes {
		return false // its portals are on this server only
	}
	if c.role == cluster.RoleReplica {
		return true
	}
	return !c.inUnit && (!c.tx.open || u.begun) && (u.onlyReads() || u.usesPrepared() || u.undoable())
}

// usesPrepared reports whether a named statement runs, which may have to be prepared anew.
func (u *unit) usesPrepared() bool {
	for i := range u.ops {
		if u.ops[i].kind == opBind && u.ops[i].stmt != nil {
			return true
		}
	}
	return false
}

// refuseByError answers the unit with what kept a server from taking it.
func (c *client) refuseByError(u *unit, err error) error {
	var lost *lostError
	if errors.As(err, &lost) {
		return err
	}
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	e := c.s.clientError(err)
	if e.Severity == "FATAL" {
		return e
	}
	return c.refuseUnit(u, e)
}

// flush writes what is pending for the client.
func (c *client) flush(u *unit) error {
	if len(u.answer) == 0 {
		return nil
	}
	_, err := c.front.Write(u.answer)
	u.answer = u.answer[:0]
	if err != nil {
		return &lostError{err}
	}
	return nil
}

// lostError is that the client is gone.
type lostError struct{ err error }

func (e *lostError) Error() string { return "client is gone: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }
