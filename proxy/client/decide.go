package client

import (
	"cmp"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// decide joins the batch's strictest plan with the session's state.
func (w *work) decide() router.Decision {
	if w.c.state.Tx.Phase == session.Aborted {
		return w.decideAborted()
	}
	if w.c.lease.stands == midBatchFailed {
		return router.Decision{Target: w.c.lease.target(), Reason: router.ReasonTransaction} // what it did is undone by the Sync
	}
	v := w.view()
	d := router.Decide(w.plan(), v)
	if d.Target != router.TargetReplica {
		return d
	}
	if v.Leaves && w.c.up.Isolation(w.c.state.Settings.Now()) == router.Serializable && (!v.OnReplica || mayLeave(w)) {
		return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonIsolation} // of what is behind the end
	}
	if !v.OnReplica && w.c.svc.OnlyPrimary {
		return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonRoute}
	}
	if v.OnReplica && (w.batch.Plan != nil || w.batch.OpensPortal()) && !w.c.mustStay() && !(needs{w}).stillFresh() {
		// Its transaction has only read, and sees what is committed meanwhile.
		return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonFreshness}
	}
	return w.asKnown(d, v)
}

// plan is the batch's strictest.
func (w *work) plan() *router.Plan { return cmp.Or(w.batch.Plan, anyPlan) }

// view is what a decision needs of the session.
func (w *work) view() router.View {
	b, s, l := &w.batch, &w.c.state, &w.c.lease
	running := s.Tx.Phase.InBlock() || l.midBatch()
	v := router.View{
		Route:  w.c.preferences().Route,
		Pins:   s.Pins,
		InTx:   running || b.Traits.Has(batch.Begins) || b.Traits.Has(batch.OpensCursor) && b.Continues(),
		Cursor: b.Traits.Has(batch.OpensCursor),
		Read:   s.Tx.Phase.InBlock() && s.Tx.Did.Has(session.DidRead),
		Fixed:  w.mustStay(),
	}
	if l.held() && running {
		v.OnReplica, v.OnPrimary = l.onReplica(), !l.onReplica()
	}
	if v.InTx {
		v.Leaves, v.AtOnce = b.Leaves()
	}
	if v.OnReplica {
		v.Cursor = v.Cursor && !b.Traits.Has(batch.Resumes) // the portal that it needs is there
	}
	if v.Modes = w.c.modes(); !v.InTx && !v.Cursor && v.Modes.Isolation != router.Serializable {
		v.Modes = router.Modes{}
	}
	return v
}

// asKnown is a decision for a replica, or one for the primary if the proxy knows too little.
func (w *work) asKnown(d router.Decision, v router.View) router.Decision {
	b, l := &w.batch, &w.c.lease
	if b.Traits.Has(batch.Rereads) && (b.Several() || b.Continues() || !w.c.state.Settings.Now().ASCII()) && (!v.OnReplica || !w.mustStay()) {
		// What another text means then, or a value that the other encoding lacks, may tie the session to its server.
		return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonSetting}
	}
	if (!v.OnReplica || !w.mustStay()) && v.Route != router.RouteReplica && d.Reason != router.ReasonHint {
		switch { // what cannot be sent again, and a portal that cannot move
		case b.Traits.Has(batch.Large):
			return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonLarge}
		case b.OpensPortal() && !v.Cursor:
			return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonCursor}
		}
	}
	if v.Cursor && v.Modes.Isolation != router.RepeatableRead && !w.mustStay() && ((needs{w}).levelOf(w.plan()) > router.Session || w.c.state.Tx.Varies()) {
		return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonCursor} // what it reads behind it could not be fresher, or not be followed by a write
	}
	if v.OnReplica && (w.c.state.Known >= session.UnknownText || b.Traits.Has(batch.ChangesSettings)) && b.Chains() && !w.mustStay() {
		return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonSetting} // what it commits could not leave this server
	}
	if !v.OnReplica && (b.Traits.Has(batch.UsesObjects) && w.c.up.Database.Stale() || l.held() && l.doubts.Any()) {
		return router.Decision{Target: router.TargetPrimary, Reason: router.ReasonNoCatalog}
	}
	return d
}

// decideAborted is decide in an aborted transaction. It stays where it failed: wherever
// else it went, it would begin anew. But a replica only does for what ends it, or is
// refused; what comes behind that end in the same batch may be anything. It stays for what
// exists on that replica only, which a batch that returns to a savepoint first may need.
func (w *work) decideAborted() router.Decision {
	d := router.Decision{Target: w.c.lease.target(), Reason: router.ReasonTransaction}
	goesOn := w.batch.GoesOn() || w.batch.Continues() && w.batch.OpensPortal()
	if w.c.lease.onReplica() && w.c.lease.stands != midBatchFailed && goesOn && mayLeave(w) {
		d.Target = router.TargetPrimary
	}
	return d
}

// mayLeave reports whether the batch can leave the replica it meets: nothing keeps it there, or
// the end of the transaction, which comes first, does away with that.
func mayLeave(w *work) bool {
	_, atOnce := w.batch.Leaves()
	return !w.mustStay() || atOnce && !w.batch.Traits.Has(batch.Resumes) && !w.c.state.Tx.Did.Has(session.DidKeep)
}

// anyPlan is the plan of messages that only make sense where the session is.
var anyPlan = &router.Plan{Class: router.ClassUnknown, Target: router.TargetAny, Reason: router.ReasonTransaction}

// modes are the transaction's, those it was not given coming from the session's
// settings or the database's defaults.
func (c *Client) modes() router.Modes {
	now := modesOf{c.up.Database.Plans.Snapshot(), c.state.Settings.Now(), c.state.Tx.Modes}
	if c.modesKnown.of == now {
		return c.modesKnown.modes
	}
	m := now.said
	if m.Isolation == router.IsolationDefault {
		m.Isolation = c.up.Isolation(now.settings)
	}
	if m.Access == router.AccessDefault && c.up.ReadOnly(now.settings) {
		m.Access = router.ReadOnly
	}
	c.modesKnown.of, c.modesKnown.modes = now, m
	return m
}

// modesOf is what the modes of a transaction follow from.
type modesOf struct {
	catalog  *catalog.Snapshot
	settings setting.Settings
	said     router.Modes
}

// mustStay reports whether the batch cannot leave the replica it meets: there is a portal that
// it needs, or the transaction's snapshot.
func (w *work) mustStay() bool { return w.batch.Traits.Has(batch.Resumes) || w.c.mustStay() }

// mustStay reports whether the open transaction cannot leave its replica, or what follows one in
// the same batch.
func (c *Client) mustStay() bool {
	tx := &c.state.Tx
	switch {
	case c.names.NamedPortals():
		return true
	case tx.Phase.InBlock():
		return tx.Did&(session.DidOpen|session.DidKeep) != 0 || tx.Did.Has(session.DidRead) && c.modes().Isolation == router.RepeatableRead
	}
	return c.lease.midBatch() && (c.state.Pins != 0 || c.state.Known >= session.UnknownPartly || tx.Did.Has(session.DidKeep))
}

// errStuck is the error of a session whose state cannot leave its replica.
var errStuck = wire.Fatalf("08006", "the session's state is on a replica and cannot be moved")
