package client

import (
	"cmp"
	"context"
	"strings"

	"github.com/pgweir/pgweir/internal/lsn"
	setting "github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/router"
)

// The proxy's own settings, pgweir.*: they are answered here and no server knows of
// them. They obey transactions as all settings do (session.State.Proxy).

// preferences are what the proxy's settings come to, as they were last read.
type preferences struct {
	of     setting.Settings
	route  router.Route
	routed bool // by the session itself
	trace  bool
	level  router.Consistency
	minLSN lsn.LSN

	// covered is an LSN a read asked for, coveredAt as of when a replica has it.
	covered   lsn.LSN
	coveredAt cluster.Moment
}

// preferences reads the proxy's settings in force.
func (c *Client) preferences() *preferences {
	now := c.state.Proxy.Now()
	if c.prefer.of == now {
		return &c.prefer
	}
	p := preferences{of: now, covered: c.prefer.covered, coveredAt: c.prefer.coveredAt}
	for name, value := range now.All() {
		_ = p.set(strings.TrimPrefix(name, ownPrefix), value) // it was looked at when it was set
	}
	c.prefer = p
	return &c.prefer
}

// ownPrefix begins the names of the proxy's settings.
const ownPrefix = "pgweir."

// ownNames are the settings, for the error that one is none of them.
const ownNames = "pgweir.route, pgweir.consistency, pgweir.min_lsn, pgweir.lsn and pgweir.trace"

func unknownOwn(name string) *wire.Error {
	return wire.Errorf("42704", "unrecognized configuration parameter \"pgweir.%s\"", name).
		WithHint("The proxy's settings are " + ownNames + ".")
}

// set takes over the value of one setting, or says what is wrong with it.
func (p *preferences) set(name, value string) *wire.Error {
	word, ok := strings.ToLower(value), false
	bad := func(hint string) *wire.Error {
		return wire.Errorf("22023", "invalid value for parameter \"pgweir.%s\": \"%s\"", name, value).WithHint(hint)
	}
	switch name {
	case "route":
		if p.route, ok = router.ParseRoute(word); !ok || word == "" {
			return bad("Available values: auto, primary, replica.")
		}
		p.routed = true
	case "consistency":
		if p.level, ok = router.ParseConsistency(word); !ok {
			return bad("Available values: eventual, session, tenant, database, strong.")
		}
	case "min_lsn":
		at, err := lsn.Parse(value)
		if err != nil && value != "" {
			return bad("It is an LSN as SHOW pgweir.lsn tells it, such as '16/B374D848'.")
		}
		p.minLSN = at
	case "trace":
		if p.trace, ok = setting.ParseBool(value); !ok {
			return wire.Errorf("22023", "parameter \"pgweir.trace\" requires a Boolean value")
		}
	default:
		return unknownOwn(name)
	}
	return nil
}

// refusal looks whether a statement can be executed here, and returns why not. What SHOW
// pgweir.lsn answers is found out here: a refusal must come while the server's
// transaction can still be made to fail with it.
func (a *analysis) refusal(m *batch.Message) *wire.Error {
	p := m.Plan
	if p.SQL.Verb == router.PreparedDeallocate && a.w.names.Statement([]byte(p.SQL.Name)) == nil {
		return errNoStatement(p.SQL.Name)
	}
	o := &p.Own
	if o.Verb == router.OwnNone {
		return nil
	}
	name := strings.ToLower(o.Name)
	switch {
	case name == "lsn" && o.Verb == router.OwnShow:
		return a.showLSN(m)
	case name == "lsn":
		return wire.Errorf("55P02", "parameter \"pgweir.lsn\" cannot be changed").
			WithHint("To make reads wait for a commit, set pgweir.min_lsn.")
	case name == "unfiltered" && o.Verb == router.OwnShow:
		return nil
	case o.Verb == router.OwnSet:
		return new(preferences).set(name, o.Value)
	}
	switch name {
	case "route", "consistency", "min_lsn", "trace":
		return nil
	}
	return unknownOwn(o.Name)
}

// showLSN finds an LSN that covers what the session has committed. The primary is
// asked for it, as far as that was not done since.
func (a *analysis) showLSN(m *batch.Message) *wire.Error {
	c := a.c
	if a.awaits() {
		return wire.Errorf("0A000", "SHOW pgweir.lsn must follow a Sync: what came before it may not be committed yet")
	}
	mine := freshness.Read{Level: router.Session, Session: c.who.scope, Began: cluster.Now()}
	c.interrupt.begin()
	defer c.interrupt.done()
	ctx, cancel := context.WithTimeout(c.SlowContext(), c.svc.Config.Routing.PrimaryWait)
	defer cancel()
	at, err := c.up.Cluster.Sampled(ctx, c.up.Database.Commits.Required(&mine))
	if c.endWait() {
		return errCanceled
	}
	if err != nil {
		return wire.Errorf("57P03", "the primary's LSN is not known: %v", err)
	}
	m.Canned = []byte(at.String())
	return nil
}

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
		c.state.Proxy.Set(router.Set{Name: ownPrefix + name, Reset: true, Local: o.Local})
		return wire.AppendComplete(to, "RESET")
	case router.OwnSet, router.OwnNone:
	}
	c.state.Proxy.Set(router.Set{Name: ownPrefix + name, Value: o.Value, Local: o.Local})
	return wire.AppendComplete(to, "SET")
}

// ownValue is the value in force of one of the proxy's settings.
func (c *Client) ownValue(name string) string {
	p := c.preferences()
	switch name {
	case "route":
		return c.routePreference().String()
	case "consistency":
		return cmp.Or(p.level, c.up.Consistency).String()
	case "min_lsn":
		if p.minLSN != 0 {
			return p.minLSN.String()
		}
		return ""
	}
	if p.trace {
		return "on"
	}
	return "off"
}

// routePreference is the route in force: the session's, or the configured one.
func (c *Client) routePreference() router.Route {
	if p := c.preferences(); p.routed {
		return p.route
	}
	return c.up.Route
}
