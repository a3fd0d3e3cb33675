package proxy

import (
	"strings"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/proxy/audit"
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
	answer, refused, apply := c.execute(u, p, text)
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
	answer, refused, apply := c.execute(u, c.portal.plan, text)
	if refused != nil {
		u.refuse(refused)
		return
	}
	u.answerLocally(answer)
	u.ops[len(u.ops)-1].apply = apply
}

// execute carries a statement out. apply is what happens when its answer goes out.
func (c *client) execute(u *unit, p *router.Plan, text string) (answer []byte, refused *wire.Error, apply func(*client)) {
	switch {
	case p.Tx.Verb != router.TxNone:
		return wire.AppendComplete(nil, c.deferTx(p, text)), nil, nil
	case p.Own.Verb != router.OwnNone:
		return c.executeOwn(p.Own, u)
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

// describeLocal describes the result of what the proxy executes.
func describeLocal(p *router.Plan) []byte {
	if p.Own.Verb == router.OwnShow && strings.EqualFold(p.Own.Name, "unfiltered") {
		return wire.AppendTextDescription(nil, audit.Columns()...)
	}
	if p.Own.Verb == router.OwnShow {
		return wire.AppendTextDescription(nil, "pgweir."+strings.ToLower(p.Own.Name))
	}
	return noData
}
