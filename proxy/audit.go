package proxy

import (
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/audit"
	"github.com/pgweir/pgweir/router"
)

// What the session tells package audit of a statement that is about to run.

// audit has a statement checked whose plan has a finding, and returns the error that is to
// answer it, or nil.
func (c *client) audit(u *unit, st audit.Statement) (refused *wire.Error) {
	if st.Plan.Tenant == nil || c.tx.failed || st.Plan.SQL.Verb == router.PreparedPrepare {
		return nil // it does not run
	}
	by := audit.Session{
		User: c.up.Key.User, Application: c.app, Database: c.up.Database.Label(), Role: c.actsAs(),
		Protection: c.up.Database.Protection(), Catalog: c.up.Database.Plans.Snapshot(),
	}
	by.Tenants, by.Certain = c.tenants(u, st.Plan)
	u.notices, refused = c.s.audit.Check(&st, &by, u.notices)
	return refused
}

// auditQuery is audit of a simple query, which may execute what was prepared by SQL.
func (c *client) auditQuery(u *unit, o *op, p *router.Plan, text []byte) *wire.Error {
	shown := text
	if o.sql != nil && o.sql.needs != nil {
		shown = []byte(o.sql.needs.SQL)
	}
	return c.audit(u, audit.Statement{Plan: p, Text: text, Shown: shown})
}

// auditBind is audit of a Bind. Where its statement executes another one, prepared by
// SQL, the proxy has put a name into its text, so that literals are not where p says.
func (c *client) auditBind(u *unit, o *op, p *router.Plan, bind []byte) *wire.Error {
	text := c.unnamed.text
	if o.stmt != nil {
		text = []byte(o.stmt.Text)
	}
	if o.sql != nil && o.sql.needs != nil {
		return c.audit(u, audit.Statement{Plan: p, Shown: []byte(o.sql.needs.SQL), Bind: bind})
	}
	return c.audit(u, audit.Statement{Plan: p, Text: text, Shown: text, Bind: bind})
}

// tenants are the values of the settings that name the tenant, as they will be when the
// statement of p runs: what the unit sets before it is not yet in force. They are not
// sure where something may have set them that the session does not follow.
func (c *client) tenants(u *unit, p *router.Plan) (values []string, sure bool) {
	sure = c.settingsKnown() && c.pins&(router.PinSetting|router.PinOpaque) == 0
	for _, name := range c.s.cfg.Tenant.Settings {
		name = strings.ToLower(name)
		v, ok := setBy(&op{plan: p}, name)
		sure = sure && (ok || !slices.Contains(p.Touches, name))
		for i := len(u.ops) - 1; i >= 0 && !ok; i-- {
			o := &u.ops[i]
			if o.plan == nil || !o.executes() {
				continue
			}
			v, ok = setBy(o, name)
			sure = sure && (ok || !slices.Contains(o.plan.Touches, name))
		}
		if !ok {
			v = c.inForce(name)
		}
		if v != "" {
			values = append(values, v)
		}
	}
	return values, sure
}

// setBy is what an op sets name to. Of several the first value counts: what stands
// between it and a reset is what is looked at.
func setBy(o *op, name string) (value string, ok bool) {
	sets, _ := o.bound()
	for i := range sets {
		if set := &sets[i]; set.Name == name {
			if ok = true; !set.Reset && set.Value != "" {
				return set.Value, true
			}
		}
	}
	return "", ok
}

// actsAs is the role whose rights the session has.
func (c *client) actsAs() string {
	for _, name := range []string{session.Role, session.Authorization} {
		if v := c.inForce(name); v != "" && v != "none" {
			return v
		}
	}
	return c.up.Config.ServerUser
}

// showUnfiltered answers SHOW pgweir.unfiltered: what the audit has seen in the
// session's database, a row each.
func (c *client) showUnfiltered() []byte {
	var out []byte
	for _, row := range c.s.audit.Rows(c.up.Database.Label()) {
		out = wire.AppendTextValue(out, row...)
	}
	return wire.AppendComplete(out, "SHOW")
}
