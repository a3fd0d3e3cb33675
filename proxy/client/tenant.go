package client

import (
	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/freshness"
)

// tenantNow is which tenant the session works for: the values in force of the settings
// that are declared to say so. ok is whether any of them has one. After code that sets
// settings itself that is known only once its transaction is over (session.State.Certain).
func (c *Client) tenantNow() (value string, ok bool) {
	now := c.state.Settings.Now()
	for i, name := range c.svc.Config.Tenant.Settings {
		v, _ := now.Value(setting.Fold(name))
		ok = ok || v != ""
		if i > 0 {
			value += "\x00"
		}
		value += v
	}
	return value, ok
}

// tenantScope is the tenant the session works for, 0 if it is none, and whether that is certain.
func (c *Client) tenantScope() (tenant freshness.Scope, certain bool) {
	if len(c.svc.Config.Tenant.Settings) == 0 {
		return 0, true
	}
	if value, ok := c.tenantNow(); ok {
		tenant = freshness.TenantScope(value)
	}
	return tenant, c.state.Certain()
}

// countTenant counts a statement that uses relations while no tenant is named.
func (c *Client) countTenant(m *batch.Message) {
	if len(c.svc.Config.Tenant.Settings) == 0 || m.Plan == nil || len(m.Plan.Relations) == 0 || !c.state.InForceKnown() {
		return
	}
	if _, ok := c.tenantNow(); !ok {
		c.svc.Metrics.TenantUnset(m.Plan.Class)
	}
}

// countTenantLeft counts a session that gives its server connection back while it still
// works for a tenant it did not work for the last time: its application's own pool
// hands that on.
func (c *Client) countTenantLeft() {
	if len(c.svc.Config.Tenant.Settings) == 0 {
		return
	}
	now, ok := c.tenantNow()
	if ok && now != c.tenant {
		c.svc.Metrics.TenantLeft()
	}
	c.tenant = now
}
