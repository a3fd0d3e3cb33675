package proxy

import (
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/router"
)

// What the session tells package freshness of its writes, before its client can
// know of them.

// recordCommit records that what the session changed since BEGIN may just have been
// committed.
func (c *client) recordCommit() {
	c.up.Database.Commits.Record(freshness.SessionScope(c.id), &c.tx.changes, c.up.Database.Knows)
}

// mayWrite takes in what an op may write, unless it is proved to write nothing.
func (c *client) mayWrite(u *unit, o *op) {
	if o.quiet || !o.executes() {
		return
	}
	p := o.plan
	switch {
	case o.errored && p != nil && !u.refused && !p.CommitsWithin():
		// It was undone, and with it the transaction or the part since a savepoint.
	case p == nil || u.refused:
		c.tx.changes.AddUnknown()
	case !p.WritesNothing():
		tenant, sure := c.tenantScope()
		c.tx.changes.Add(p.Writes, p.Version, tenant, sure && !u.setsCustom())
	}
}

// setsCustom reports whether some op may set a custom setting, the tenant's perhaps.
func (u *unit) setsCustom() bool {
	for i := range u.ops {
		if p := u.ops[i].plan; p != nil && len(p.Touches)+len(p.Sets) > 0 {
			return true
		}
	}
	return u.sets
}

// tenantScope is the tenant the session works for, 0 if it is none, and whether that is certain.
func (c *client) tenantScope() (tenant freshness.Scope, sure bool) {
	if len(c.s.cfg.Tenant.Settings) == 0 {
		return 0, true
	}
	if value, ok := c.tenant(); ok {
		tenant = freshness.TenantScope(value)
	}
	return tenant, c.settingsKnown() && c.pins&(router.PinSetting|router.PinOpaque) == 0
}

// recordWrites records what a unit on the primary may have written or committed. It is
// called before the client gets to know: a read it then sends finds the record.
func (c *client) recordWrites(u *unit, ended bool) {
	for i := range u.queue {
		c.mayWrite(u, &u.queue[i])
	}
	if c.tx.changes.Wrote() && (ended || c.tx.commits) {
		c.recordCommit()
		c.tx.changes, c.tx.commits = freshness.Changes{}, false
	}
	if c.tx.ddl && ended {
		c.tx.ddl = false
		c.changesCatalog(u)
	}
}

// recordBeforeForwarding records, before a frame of an op's answer may reach the client,
// what that may reveal to be committed: a command tag comes before ReadyForQuery does.
func (c *client) recordBeforeForwarding(u *unit, o *op) {
	if c.role == cluster.RoleReplica || o.quiet || !o.executes() {
		return
	}
	p := o.plan
	if c.tx.open && p != nil && p.Tx.Verb != router.TxCommit && !p.CommitsWithin() {
		return
	}
	if c.mayWrite(u, o); c.tx.changes.Wrote() {
		c.recordCommit()
	}
	if p != nil && p.Flags.Has(router.FlagDDL) {
		c.changesCatalog(u)
	}
}

func (c *client) changesCatalog(u *unit) {
	u.ddl++
	c.up.Database.CatalogChanged()
}

// redefined reports whether what the unit used may have been changed meanwhile by others.
func (c *client) redefined(u *unit) bool {
	return c.up.Database.ChangedByOthers(u.ddl)
}
