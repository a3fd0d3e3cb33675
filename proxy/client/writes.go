package client

import (
	"slices"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/doubt"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/proxy/upstream"
	"github.com/pgweir/pgweir/router"
)

// What the session tells package freshness of its writes, before its client can
// know of them.

// recordCommit records that what the session changed since BEGIN may just have been
// committed.
func (c *Client) recordCommit() {
	c.up.Database.Commits.Record(c.who.scope, &c.writes, c.up.Database.Knows)
}

// recorder tells package freshness what a batch may have written or committed.
type recorder struct{ *work }

// mayWrite takes in what an awaited statement may write, unless it is proved to write
// nothing.
func (r recorder) mayWrite(a *batch.Awaited) {
	if !a.Runs() || a.Outcome == session.NotRun {
		return
	}
	p, refused := a.Message.Plan, r.learned.has(replicaRefused)
	switch {
	case a.Outcome == session.Failed && p != nil && !refused && !p.CommitsWithin():
		// It was undone, and with it the transaction or the part since a savepoint.
	case p == nil || refused:
		r.c.writes.AddUnknown()
	case !p.WritesNothing():
		tenant, certain := r.c.tenantScope()
		r.c.writes.Add(p.Writes, p.Version, tenant, certain && !r.batch.Touches())
	}
}

// recordWrites records what a batch on the primary may have written or committed. It is
// called before the client gets to know: a read it then sends finds the record.
func (r recorder) recordWrites(ended bool) {
	for i := range r.try.Queue {
		r.mayWrite(&r.try.Queue[i])
	}
	did := &r.c.state.Tx.Did
	if r.c.writes.Wrote() && (ended || did.Has(session.DidCommit)) {
		r.c.recordCommit()
		*did &^= session.DidCommit
		if ended { // else some of it may be of the transaction that goes on
			r.c.writes = noWrites
		}
	}
	if did.Has(session.DidDDL) && ended {
		r.changesCatalog(*did)
		*did &^= session.DidChange
	}
}

// recordBeforeForwarding records, before a message of an answer may reach the client,
// what that may reveal to be committed: a command tag comes before ReadyForQuery does.
func (r recorder) recordBeforeForwarding(a *batch.Awaited) {
	if r.c.lease.onReplica() || !a.Runs() {
		return
	}
	p := a.Message.Plan
	inBlock := r.c.state.Tx.Phase.InBlock() || r.try.Opens()
	if inBlock && p != nil && p.Tx.Verb != router.TxCommit && !p.CommitsWithin() {
		return
	}
	if r.mayWrite(a); r.c.writes.Wrote() {
		r.c.recordCommit()
	}
	if p != nil && p.Flags.Has(router.FlagDDL) && !doubt.DropsOwn(p, &r.c.state, r.c.up.Database.Plans.Snapshot()) {
		r.changesCatalog(session.Changes(p.Flags))
	}
}

func (r recorder) changesCatalog(did session.Deeds) {
	c := upstream.Change{Redefines: did.Has(session.DidRedefine), Removes: did.Has(session.DidRemove), Hooks: did.Has(session.DidHook)}
	if c.Redefines {
		r.try.redefined++
	}
	r.c.up.Database.CatalogChanged(c)
}

// redefined reports whether what the batch used may have been changed meanwhile by others.
func (r recorder) redefined() bool {
	return r.c.up.Database.RedefinedByOthers(r.try.redefined)
}

// abandon deals with the writes of a batch whose connection is about to be closed
// before its answer was seen.
func (r recorder) abandon() {
	t := &r.try
	if !r.c.lease.held() || r.c.lease.onReplica() || t.Awaits() == nil || r.c.state.Tx.Phase.InBlock() && !t.MayCommit() {
		return
	}
	for i := range t.Queue {
		r.mayWrite(&t.Queue[i])
	}
	if !r.c.writes.Wrote() {
		return
	}
	if r.c.state.Tx.Did.Has(session.DidDDL) || slices.ContainsFunc(t.Queue, changesDefinitions) {
		r.c.up.Database.CatalogChanged(upstream.Change{Redefines: true, Removes: true, Hooks: true})
	}
	r.c.recordCommit()
	d := r.c.up.Database
	inDoubt := d.Commits.Doubt(r.c.who.scope, r.c.writes)
	r.c.writes = noWrites
	d.ResolveWhenGone(inDoubt, r.c.lease.server, r.c.lease.b.PID())
}

func changesDefinitions(a batch.Awaited) bool {
	return a.Message != nil && a.Message.Plan != nil && a.Message.Plan.Flags.Has(router.FlagDDL)
}

// mayReveal reports whether a message of an answer may tell the client of a commit that
// its statement made before it ends.
func mayReveal(typ byte) bool {
	return typ == wire.ErrorResponse || typ == wire.NoticeResponse || typ == wire.RowDescription || typ == wire.DataRow
}
