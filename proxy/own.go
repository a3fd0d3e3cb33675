package proxy

import (
	"context"
	"strings"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/internal/session"
	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/router"
)

// The proxy's own settings, pgweir.*: they are answered here and no server knows of them.

// ownSettings are the session's. Zero values are as if never set.
type ownSettings struct {
	route    router.Route
	routeSet bool
	trace    bool
	level    router.Consistency
	minLSN   lsn.LSN

	// covered is an LSN a read asked for, coveredAt as of when a replica has it.
	covered   lsn.LSN
	coveredAt cluster.Moment
}

// ownNames are the settings, for the error that one is none of them.
const ownNames = "pgweir.route, pgweir.consistency, pgweir.min_lsn, pgweir.lsn and pgweir.trace"

// executeOwn carries out SET, SHOW or RESET of pgweir.*.
func (c *client) executeOwn(o router.Own, u *unit) (answer []byte, refused *wire.Error, apply func(*client)) {
	name := strings.ToLower(o.Name)
	switch name {
	case "route", "consistency", "min_lsn", "trace":
	case "lsn":
		return c.showLSN(o, u)
	case "unfiltered":
		if o.Verb == router.OwnShow {
			return c.showUnfiltered(), nil, nil
		}
		return nil, unknownOwn(o.Name), nil
	default:
		return nil, unknownOwn(o.Name), nil
	}
	switch o.Verb {
	case router.OwnShow:
		return showOwn(c.ownValue(name)), nil, nil
	case router.OwnReset:
		return wire.AppendComplete(nil, "RESET"), nil, func(c *client) { c.resetOne(name) }
	}
	change, refused := ownChange(name, o.Value)
	if refused != nil {
		return nil, refused, nil
	}
	return wire.AppendComplete(nil, "SET"), nil, func(c *client) { c.setOwn(change, o.Local) }
}

func unknownOwn(name string) *wire.Error {
	return wire.Errorf("42704", "unrecognized configuration parameter \"pgweir.%s\"", name).
		WithHint("The proxy's settings are " + ownNames + ".")
}

func showOwn(value string) []byte {
	return append(wire.AppendTextValue(nil, value), wire.AppendComplete(nil, "SHOW")...)
}

// showLSN tells a place in the log that covers what the session has committed. The
// primary is asked for it, as far as that was not done since.
func (c *client) showLSN(o router.Own, u *unit) (answer []byte, refused *wire.Error, apply func(*client)) {
	switch {
	case o.Verb != router.OwnShow:
		return nil, wire.Errorf("55P02", "parameter \"pgweir.lsn\" cannot be changed").
			WithHint("To make reads wait for a commit, set pgweir.min_lsn."), nil
	case u.server || c.inUnit:
		return nil, wire.Errorf("0A000", "SHOW pgweir.lsn must follow a Sync: what came before it may not be committed yet"), nil
	}
	mine := freshness.Read{Level: router.Session, Session: freshness.SessionScope(c.id), Began: cluster.Now()}
	ctx, cancel := context.WithTimeout(c.Late(), c.s.cfg.Routing.PrimaryWait)
	defer cancel()
	at, err := c.up.Cluster.Sampled(ctx, c.up.Database.Commits.Required(&mine))
	if c.endWait() {
		return nil, errCanceled, nil
	}
	if err != nil {
		return nil, wire.Errorf("57P03", "the primary's place in the write-ahead log is not known: %v", err), nil
	}
	return showOwn(at.String()), nil, nil
}

// ownChange is what a SET of one of the proxy's settings changes.
func ownChange(name, value string) (change func(*ownSettings, *transaction), refused *wire.Error) {
	word := strings.ToLower(value)
	bad := func(hint string) *wire.Error {
		return wire.Errorf("22023", "invalid value for parameter \"pgweir.%s\": \"%s\"", name, value).WithHint(hint)
	}
	switch name {
	case "route":
		route, ok := router.ParseRoute(word)
		if !ok || word == "" {
			return nil, bad("Available values: auto, primary, replica.")
		}
		return func(s *ownSettings, t *transaction) {
			if t != nil {
				t.route, t.routeSet = route, true
			} else {
				s.route, s.routeSet = route, true
			}
		}, nil
	case "consistency":
		level, ok := router.ParseConsistency(word)
		if !ok {
			return nil, bad("Available values: eventual, session, tenant, database, strong.")
		}
		return func(s *ownSettings, t *transaction) {
			if t != nil {
				t.level = level
			} else {
				s.level = level
			}
		}, nil
	case "min_lsn":
		least, err := lsn.Parse(value)
		if err != nil && value != "" {
			return nil, bad("It is a place in the write-ahead log as SHOW pgweir.lsn tells it, such as '16/B374D848'.")
		}
		return func(s *ownSettings, t *transaction) {
			if t != nil {
				t.minLSN = least
			} else {
				s.minLSN = least
			}
		}, nil
	case "trace":
		on, ok := session.ParseBool(value)
		if !ok {
			return nil, wire.Errorf("22023", "parameter \"pgweir.trace\" requires a Boolean value")
		}
		return func(s *ownSettings, _ *transaction) { s.trace = on }, nil
	}
	return nil, unknownOwn(name)
}

// setOwn applies a change to the session, or to its open transaction; outside of one
// SET LOCAL has no effect. A SET in a transaction ends what SET LOCAL did there.
func (c *client) setOwn(change func(*ownSettings, *transaction), local bool) {
	switch {
	case !local:
		change(&c.own, nil)
		var undo transaction
		change(&ownSettings{}, &undo)
		c.tx.routeSet = c.tx.routeSet && !undo.routeSet
		if undo.level != router.ConsistencyNone {
			c.tx.level = router.ConsistencyNone
		}
		if undo.minLSN != 0 {
			c.tx.minLSN = 0
		}
	case c.tx.open:
		change(nil, &c.tx)
	}
}

// ownValue is the value in force of one of the proxy's settings.
func (c *client) ownValue(name string) string {
	switch name {
	case "route":
		return c.wish().String()
	case "consistency":
		if l := c.level(); l != router.ConsistencyNone {
			return l.String()
		}
		return c.up.Consistency.String()
	case "min_lsn":
		if least := c.minLSN(); least != 0 {
			return least.String()
		}
		return ""
	}
	if c.own.trace {
		return "on"
	}
	return "off"
}

// wish is the route in force: the transaction's, the session's, or the configured one.
func (c *client) wish() router.Route {
	switch {
	case c.tx.open && c.tx.routeSet:
		return c.tx.route
	case c.own.routeSet:
		return c.own.route
	}
	return c.up.Route
}

// minLSN is the place in the log a replica must have reached to serve the session; 0 is none.
func (c *client) minLSN() lsn.LSN {
	if c.tx.open {
		return max(c.tx.minLSN, c.own.minLSN)
	}
	return c.own.minLSN
}

// resetOne returns a setting to what the session began with.
func (c *client) resetOne(name string) {
	switch name {
	case "route":
		c.own.route, c.own.routeSet, c.tx.routeSet = router.RouteAuto, false, false
	case "consistency":
		c.own.level, c.tx.level = router.ConsistencyNone, router.ConsistencyNone
	case "min_lsn":
		c.own.minLSN, c.tx.minLSN = 0, 0
	case "trace":
		c.own.trace = false
	}
	if v, ok := c.began[name]; ok {
		change, _ := ownChange(name, v) // it was looked at then
		change(&c.own, nil)
	}
}

func (c *client) resetOwn() {
	for _, name := range []string{"route", "consistency", "min_lsn", "trace"} {
		c.resetOne(name)
	}
}

// beginOwn takes the proxy's settings among the startup parameters.
func (c *client) beginOwn(values map[string]string) *wire.Error {
	for name, value := range values {
		change, refused := ownChange(name, value)
		if refused != nil {
			refused.Severity = "FATAL"
			return refused
		}
		change(&c.own, nil)
	}
	c.began = values
	return nil
}
