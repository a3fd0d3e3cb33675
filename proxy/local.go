package proxy

import (
	"strings"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/router"
)

// What the proxy executes itself: transaction control no server knows of yet,
// its own settings, and the end of prepared statements, whose names only it knows.

// executable reports whether the proxy itself executes a statement now.
func (c *client) executable(p *router.Plan, u *unit) bool {
	switch {
	case p.Tx.Verb != router.TxNone:
		return c.deferrable(p, u)
	case p.SQL.Verb == router.PreparedDeallocate && c.pins&router.PinPrepared != 0 && c.statements[p.SQL.Name] == nil:
		return false // only its server may know the name
	case p.Own.Verb != router.OwnNone, p.SQL.Verb >= router.PreparedDeallocate:
		return !c.tx.failed
	case p.SetOnly:
		return c.settable(p, u)
	case p.Statements == 1 && p.Flags.Has(router.FlagForgets):
		// Nothing is held that a server could discard.
		return c.b == nil && !c.tx.open && !u.server && c.pins == 0 && c.settings.custom()
	}
	return false
}

// executeQuery executes a simple query that is executable.
func (c *client) executeQuery(u *unit, p *router.Plan, text string) {
	answer, refused, apply := c.execute(p, text)
	if refused != nil {
		u.refuseQuery(refused)
		return
	}
	if p.Own.Verb == router.OwnShow {
		answer = append(describeLocal(p), answer...)
	}
	u.answerLocally(answer)
	last := &u.ops[len(u.ops)-1]
	last.apply, last.query = apply, true
}

// executePortal executes what the unnamed portal holds.
func (c *client) executePortal(u *unit) {
	text := string(c.unnamed.text)
	if st := c.portal.stmt; st != nil {
		text = st.Text
	}
	answer, refused, apply := c.execute(c.portal.plan, text)
	if refused != nil {
		u.refuse(refused)
		return
	}
	u.answerLocally(answer)
	u.ops[len(u.ops)-1].apply = apply
}

// execute carries a statement out. apply is what happens when its answer goes out.
func (c *client) execute(p *router.Plan, text string) (answer []byte, refused *wire.Error, apply func(*client)) {
	switch {
	case p.Tx.Verb != router.TxNone:
		return wire.AppendComplete(nil, c.deferTx(p, text)), nil, nil
	case p.Own.Verb != router.OwnNone:
		return c.executeOwn(p.Own)
	case p.SQL.Verb == router.PreparedDeallocateAll:
		return wire.AppendComplete(nil, "DEALLOCATE ALL"), nil, func(c *client) { c.statements = nil }
	case p.SQL.Verb == router.PreparedDeallocate:
		name := p.SQL.Name
		if c.statements[name] == nil {
			return nil, wire.Errorf("26000", "prepared statement \"%s\" does not exist", name), nil
		}
		return wire.AppendComplete(nil, "DEALLOCATE"), nil, func(c *client) { delete(c.statements, name) }
	case p.SetOnly:
		c.apply(&op{plan: p})
		for _, set := range p.Sets {
			answer = wire.AppendComplete(answer, set.Tag)
		}
		return answer, nil, nil
	default:
		c.settings = sessionSettings{startup: c.settings.startup, now: c.settings.startup}
		return wire.AppendComplete(nil, "DISCARD ALL"), nil, func(c *client) {
			c.statements = nil
			c.resetOwn()
		}
	}
}

// executeOwn carries out SET, SHOW or RESET of pgweir.*.
func (c *client) executeOwn(o router.Own) (answer []byte, refused *wire.Error, apply func(*client)) {
	name := strings.ToLower(o.Name)
	if name == "unfiltered" && o.Verb == router.OwnShow {
		return c.showUnfiltered(), nil, nil
	}
	if name != "route" && name != "trace" {
		return nil, wire.Errorf("42704", "unrecognized configuration parameter \"pgweir.%s\"", o.Name).
			WithHint("The proxy's settings are pgweir.route and pgweir.trace."), nil
	}
	switch o.Verb {
	case router.OwnShow:
		return append(wire.AppendTextValue(nil, c.own(name)), wire.AppendComplete(nil, "SHOW")...), nil, nil
	case router.OwnReset:
		return wire.AppendComplete(nil, "RESET"), nil, func(c *client) { c.resetOne(name) }
	}
	answer = wire.AppendComplete(nil, "SET")
	if name == "route" {
		route, ok := router.ParseRoute(strings.ToLower(o.Value))
		if !ok || o.Value == "" {
			return nil, wire.Errorf("22023", "invalid value for parameter \"pgweir.route\": \"%s\"", o.Value).
				WithHint("Available values: auto, primary, replica."), nil
		}
		return answer, nil, func(c *client) { c.setRoute(route, o.Local) }
	}
	on, ok := parseBool(o.Value)
	if !ok {
		return nil, wire.Errorf("22023", "parameter \"pgweir.trace\" requires a Boolean value"), nil
	}
	return answer, nil, func(c *client) { c.trace = on }
}

// own is the value of one of the proxy's settings.
func (c *client) own(name string) string {
	if name == "route" {
		return c.wish().String()
	}
	if c.trace {
		return "on"
	}
	return "off"
}

// wish is the route in force: the transaction's, the session's, or the configured one.
func (c *client) wish() router.Route {
	switch {
	case c.tx.open && c.tx.routeSet:
		return c.tx.route
	case c.routeSet:
		return c.route
	}
	return c.o.route
}

func (c *client) setRoute(r router.Route, local bool) {
	if local {
		c.tx.route, c.tx.routeSet = r, c.tx.open // outside a transaction SET LOCAL has no effect
		return
	}
	c.route, c.routeSet = r, true
	c.tx.routeSet = false
}

func (c *client) resetOne(name string) {
	if name == "route" {
		c.routeSet, c.tx.routeSet = false, false
	} else {
		c.trace = false
	}
}

func (c *client) resetOwn() { c.routeSet, c.trace = false, false }

// parseBool reads what PostgreSQL reads as a Boolean setting.
func parseBool(s string) (on, ok bool) {
	switch strings.ToLower(s) {
	case "on", "true", "t", "yes", "y", "1", "tru", "tr", "ye":
		return true, true
	case "off", "false", "f", "no", "n", "0", "of", "fals", "fal", "fa":
		return false, true
	}
	return false, false
}

// describeLocal describes the result of what the proxy executes.
func describeLocal(p *router.Plan) []byte {
	if p.Own.Verb == router.OwnShow && strings.EqualFold(p.Own.Name, "unfiltered") {
		return wire.AppendTextDescription(nil, unfilteredColumns...)
	}
	if p.Own.Verb == router.OwnShow {
		return wire.AppendTextDescription(nil, "pgweir."+strings.ToLower(p.Own.Name))
	}
	return noData
}
