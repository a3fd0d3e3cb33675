package proxy

import (
	"slices"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/router"
)

// abandon deals with the writes of a unit whose connection is about to be closed
// before its answer was seen.
func (c *client) abandon(u *unit) {
	if c.b == nil || c.role == cluster.RoleReplica || u.head == len(u.queue) || c.tx.open && !u.mayCommit() {
		return
	}
	for i := range u.queue {
		c.mayWrite(u, &u.queue[i])
	}
	if !c.tx.changes.Wrote() {
		return
	}
	if c.tx.ddl || slices.ContainsFunc(u.queue, func(o op) bool { return o.plan != nil && o.plan.Flags.Has(router.FlagDDL) }) {
		c.up.Database.CatalogChanged()
	}
	c.recordCommit()
	d := c.up.Database
	w := d.Commits.Doubt(freshness.SessionScope(c.id), c.tx.changes)
	c.tx.changes = freshness.Changes{}
	d.ResolveWhenGone(w, c.server, c.b.PID())
}

// mayCommit reports whether the unit may end its transaction.
func (u *unit) mayCommit() bool {
	for i := range u.queue {
		o := &u.queue[i]
		if o.executes() && !o.quiet && (o.plan == nil || o.plan.Tx.Verb == router.TxCommit || o.plan.CommitsWithin()) {
			return true
		}
	}
	return false
}

// mayReveal reports whether a frame of an answer may tell the client of a commit that
// its statement made before it ends.
func mayReveal(typ byte) bool {
	return typ == wire.ErrorResponse || typ == wire.NoticeResponse || typ == wire.RowDescription || typ == wire.DataRow
}
