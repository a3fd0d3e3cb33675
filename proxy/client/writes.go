package client

import (
	"slices"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/session"
	"github.com/pgweir/pgweir/router"
)

// What the session tells package freshness of its writes, before its client can
// know of them.

// recordCommit records that what the session changed since BEGIN may just have been
// committed.
func (c *Client) recordCommit() {
	c.up.Database.Commits.Record(c.who.scope, &c.writes, c.up.Database.Knows)
}

// mayWrite takes in what an awaited statement may write, unless it is proved to write
// nothing.
func (c *Client) mayWrite(w *work, a *batch.Awaited) {
	if !a.Runs() || a.Outcome == session.NotRun {
		return
	}
	p, refused := a.Message.Plan, w.learned.has(replicaRefused)
	switch {
	case a.Outcome == session.Failed && p != nil && !refused && !p.CommitsWithin():
		// It was undone, and with it the transaction or the part since a savepoint.
	case p == nil || refused:
		c.writes.AddUnknown()
	case !p.WritesNothing():
		tenant, certain := c.tenantScope()
		c.writes.Add(p.Writes, p.Version, tenant, certain && !w.batch.Touches())
	}
}

// recordWrites records what a batch on the primary may have written or committed. It is
// called before the client gets to know: a read it then sends finds the record.
func (c *Client) recordWrites(w *work, ended bool) {
	for i := range w.try.Queue {
		c.mayWrite(w, &w.try.Queue[i])
	}
	did := &c.state.Tx.Did
	if c.writes.Wrote() && (ended || did.Has(session.DidCommit)) {
		c.recordCommit()
		c.writes = noWrites
		*did &^= session.DidCommit
	}
	if did.Has(session.DidDDL) && ended {
		*did &^= session.DidDDL
		c.changesCatalog(w)
	}
}

// recordBeforeForwarding records, before a message of an answer may reach the client,
// what that may reveal to be committed: a command tag comes before ReadyForQuery does.
func (c *Client) recordBeforeForwarding(w *work, a *batch.Awaited) {
	if c.lease.onReplica() || !a.Runs() {
		return
	}
	p := a.Message.Plan
	inBlock := c.state.Tx.Phase.InBlock() || w.try.Opens
	if inBlock && p != nil && p.Tx.Verb != router.TxCommit && !p.CommitsWithin() {
		return
	}
	if c.mayWrite(w, a); c.writes.Wrote() {
		c.recordCommit()
	}
	if p != nil && p.Flags.Has(router.FlagDDL) {
		c.changesCatalog(w)
	}
}

func (c *Client) changesCatalog(w *work) {
	w.try.ddl++
	c.up.Database.CatalogChanged()
}

// redefined reports whether what the batch used may have been changed meanwhile by others.
func (c *Client) redefined(w *work) bool {
	return c.up.Database.ChangedByOthers(w.try.ddl)
}

// abandon deals with the writes of a batch whose connection is about to be closed
// before its answer was seen.
func (c *Client) abandon(w *work) {
	t := &w.try
	if !c.lease.held() || c.lease.onReplica() || t.Awaits() == nil || c.state.Tx.Phase.InBlock() && !t.MayCommit() {
		return
	}
	for i := range t.Queue {
		c.mayWrite(w, &t.Queue[i])
	}
	if !c.writes.Wrote() {
		return
	}
	if c.state.Tx.Did.Has(session.DidDDL) || slices.ContainsFunc(t.Queue, changesDefinitions) {
		c.up.Database.CatalogChanged()
	}
	c.recordCommit()
	d := c.up.Database
	inDoubt := d.Commits.Doubt(c.who.scope, c.writes)
	c.writes = noWrites
	d.ResolveWhenGone(inDoubt, c.lease.server, c.lease.b.PID())
}

func changesDefinitions(a batch.Awaited) bool {
	return a.Message != nil && a.Message.Plan != nil && a.Message.Plan.Flags.Has(router.FlagDDL)
}

// mayReveal reports whether a message of an answer may tell the client of a commit that
// its statement made before it ends.
func mayReveal(typ byte) bool {
	return typ == wire.ErrorResponse || typ == wire.NoticeResponse || typ == wire.RowDescription || typ == wire.DataRow
}
