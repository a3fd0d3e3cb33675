package proxy

import (
	"strings"

	"github.com/pgweir/pgweir/router"
)

// tenant is which tenant the session works for now: the values of the settings that
// are declared to say so. ok is whether any of them has one. After code that sets
// settings itself that is known only once its transaction is over (see settingsKnown).
func (c *client) tenant() (value string, ok bool) {
	for i, name := range c.s.cfg.Tenant.Settings {
		v := c.inForce(strings.ToLower(name))
		ok = ok || v != ""
		if i > 0 {
			value += "\x00"
		}
		value += v
	}
	return value, ok
}

// inForce is the value a custom setting has for the session's next statement; empty
// if it has none.
func (c *client) inForce(name string) string {
	for i := len(c.tx.steps) - 1; i >= 0; i-- {
		s := &c.tx.steps[i]
		switch {
		case s.set.Name != name:
			continue
		case s.set.Reset:
			v, _ := c.settings.startup.Value(name)
			return v
		}
		return s.set.Value
	}
	v, _ := c.settings.now.Value(name)
	return v
}

// settingsKnown reports whether what is in force for the session is known now.
func (c *client) settingsKnown() bool { return !c.unread && !c.tx.hazy }

// countTenant counts a statement that uses relations while no tenant is named.
func (c *client) countTenant(o *op) {
	if len(c.s.cfg.Tenant.Settings) == 0 || o.plan == nil || len(o.plan.Relations) == 0 || !c.settingsKnown() {
		return
	}
	if _, ok := c.tenant(); !ok {
		c.s.metrics.TenantUnset(o.plan.Class)
	}
}

// noteTenant counts a session that gives its server connection back while it still
// works for a tenant it did not work for the last time: its application's own pool
// hands that on.
func (c *client) noteTenant() {
	if len(c.s.cfg.Tenant.Settings) == 0 {
		return
	}
	now, ok := c.tenant()
	if ok && now != c.lastTenant {
		c.s.metrics.TenantLeft()
	}
	c.lastTenant = now
}

// hazes reports whether a plan sets settings in a way that is not known before they
// are read back.
func hazes(p *router.Plan) bool {
	return len(p.Sets) == 0 && p.Flags&(router.FlagSetsLocal|router.FlagSetsState) != 0
}
