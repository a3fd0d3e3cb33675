package client

import (
	"cmp"
	"strings"

	"github.com/pgweir/pgweir/internal/lsn"
	setting "github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/preferences"
	"github.com/pgweir/pgweir/router"
)

// The proxy's own settings, pgweir.*: they are answered here and no server knows of
// them. They obey transactions as all settings do (session.State.Proxy).

// executeOwn carries out SET, SHOW or RESET of pgweir.* and adds the answer.
func (c *Client) executeOwn(to []byte, m *batch.Message) []byte {
	o := &m.Plan.Own
	name := strings.ToLower(o.Name)
	switch o.Verb {
	case router.OwnShow:
		if name == "unfiltered" {
			return append(to, c.showUnfiltered()...)
		}
		value := string(m.Canned)
		if name != "lsn" {
			value = c.ownValue(name)
		}
		return wire.AppendComplete(wire.AppendTextValue(to, value), "SHOW")
	case router.OwnReset:
		c.state.Proxy.Set(router.Set{Name: preferences.Prefix + name, Reset: true, Local: o.Local})
		return wire.AppendComplete(to, "RESET")
	case router.OwnSet, router.OwnNone:
	}
	c.state.Proxy.Set(router.Set{Name: preferences.Prefix + name, Value: o.Value, Local: o.Local})
	return wire.AppendComplete(to, "SET")
}

// showUnfiltered answers SHOW pgweir.unfiltered: what the audit has seen in the
// session's database, a row each.
func (c *Client) showUnfiltered() []byte {
	var out []byte
	for _, row := range c.svc.Audit.Rows(c.up.Database.Label()) {
		out = wire.AppendTextValue(out, row...)
	}
	return wire.AppendComplete(out, "SHOW")
}

// ownValue is the value in force of one of the proxy's settings.
func (c *Client) ownValue(name string) string {
	p := c.preferences()
	switch name {
	case "route":
		return p.Route.String()
	case "consistency":
		return cmp.Or(p.Level, c.up.Consistency).String()
	case "min_lsn":
		if p.MinLSN != 0 {
			return p.MinLSN.String()
		}
		return ""
	}
	if p.Trace {
		return "on"
	}
	return "off"
}

// preferred are the proxy's settings in force, as they were last read.
type preferred struct {
	preferences.Values
	of setting.Settings

	// covered is an LSN a read asked for, coveredAt as of when a replica has it.
	covered   lsn.LSN
	coveredAt cluster.Moment
}

// preferences reads the proxy's settings in force.
func (c *Client) preferences() *preferred {
	if now := c.state.Proxy.Now(); c.prefer.of != now {
		c.prefer.Values, c.prefer.of = preferences.Read(now, c.up.Route), now
	}
	return &c.prefer
}
