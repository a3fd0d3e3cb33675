package proxy

import (
	"cmp"
	"context"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// level is what the session itself asked its reads to see: in the transaction, else at
// all; ConsistencyNone if it did not.
func (c *client) level() router.Consistency {
	if c.tx.open && c.tx.level != router.ConsistencyNone {
		return c.tx.level
	}
	return c.own.level
}

// need is the freshness a replica must have to run the unit, and the strictest level
// of its statements. What only prepares needs to see changes of the catalog, which
// touch any table.
func (c *client) need(u *unit) (required cluster.Moment, level router.Consistency) {
	required = cluster.AnyTime
	least := c.minLSN()
	for i := range u.ops {
		o := &u.ops[i]
		if !o.executes() || o.plan == nil {
			continue
		}
		tables := o.plan.Reads
		if o.plan.Version != c.up.Database.Plans.Version() {
			tables = catalog.Footprint{} // any
		}
		l := c.levelOf(o.plan)
		required, level = max(required, c.required(u, l, tables)), max(level, l)
		least = max(least, o.plan.MinLSN)
	}
	if level == router.ConsistencyNone {
		level = c.levelOf(anyPlan)
		required = c.required(u, level, catalog.NoTable())
	}
	if least > 0 {
		required = max(required, c.covering(least))
	}
	return required, level
}

// levelOf is the level of one statement. A comment in it is stronger than the
// session, which is stronger than a rule, that than the configuration.
func (c *client) levelOf(p *router.Plan) router.Consistency {
	return cmp.Or(p.Consistency, c.level(), p.RuleConsistency, c.up.Consistency)
}

// required is the freshness a replica must have for the unit to read tables at a level.
func (c *client) required(u *unit, level router.Consistency, tables catalog.Footprint) cluster.Moment {
	r := freshness.Read{
		Level: level, Tables: tables, Session: freshness.SessionScope(c.id),
		Began: cluster.MomentOf(u.started), MaxStaleness: c.s.cfg.Routing.MaxStaleness,
	}
	if level == router.Tenant {
		// What the unit itself sets may name another tenant.
		if tenant, sure := c.tenantScope(); sure && !u.setsCustom() {
			r.Tenant = tenant
		}
	}
	return c.up.Database.Commits.Required(&r)
}

// covering is the freshness of a replica that has replayed up to at. What was found
// for the session's own is kept.
func (c *client) covering(at lsn.LSN) cluster.Moment {
	if at == c.own.covered {
		return c.own.coveredAt
	}
	asOf := c.up.Cluster.Covering(c.ctx, at, c.s.cfg.Routing.FreshnessWait)
	if asOf != cluster.Never {
		c.own.covered, c.own.coveredAt = at, asOf
	}
	return asOf
}

// reader is the server for a read: one that is fresh enough, after a short wait if
// that is likely to help; nil if the primary must run it.
func (c *client) reader(u *unit) (*cluster.Server, error) {
	cl := c.up.Cluster
	u.required, u.level = c.need(u)
	s := cl.Reader(c.s.primaryReads, u.required)
	if s != nil || len(cl.Topology().Replicas) == 0 {
		return s, nil
	}
	fresh, err := c.awaitFresh(u, func(ctx context.Context, d time.Duration) bool { return cl.AwaitFresh(ctx, u.required, d) })
	if !fresh || err != nil {
		return nil, err
	}
	return cl.Reader(false, u.required), nil
}

// longWait is so long that the client may want to end it.
const longWait = 50 * time.Millisecond

// awaitFresh waits as long as a read may, and counts what came of it. The error is
// that the client canceled, or is gone.
func (c *client) awaitFresh(u *unit, await func(context.Context, time.Duration) bool) (fresh bool, err error) {
	wait, started := c.s.cfg.Routing.FreshnessWait, time.Now()
	if wait < longWait {
		fresh = await(c.ctx, wait)
	} else {
		late := c.Late()
		fresh = await(late, wait)
		err = context.Cause(late)
		c.endWait()
	}
	c.s.metrics.AwaitedFreshness(u.level, time.Since(started), fresh)
	return fresh, err
}

// stillFresh reports whether the replica that the session's transaction reads on is fresh
// enough for its next unit.
func (c *client) stillFresh(u *unit) bool {
	u.required, u.level = c.need(u)
	fresh, err := c.isFresh(u, c.server, c.b)
	return fresh && err == nil
}

// isFresh reports whether a replica is fresh enough for a unit as seen over one connection. A
// server that crashed may come back with less than it had, so of a connection only
// what was learned since it was opened counts.
func (c *client) isFresh(u *unit, s *cluster.Server, b *backend.Backend) (fresh bool, err error) {
	if u.required == cluster.AnyTime {
		return true, nil
	}
	required := max(u.required, cluster.MomentOf(b.Created))
	if s.Fresh(required) {
		return true, nil
	}
	return c.awaitFresh(u, func(ctx context.Context, d time.Duration) bool { return c.up.Cluster.AwaitFreshOn(ctx, s, required, d) })
}
