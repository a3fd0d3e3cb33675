package proxy

import (
	"cmp"
	"context"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
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

// need is as of when a replica must be fresh to run the unit, and the strictest level
// of its statements. What only prepares needs to see changes of the catalog, which
// touch any table.
func (c *client) need(u *unit) (asOf cluster.Moment, level router.Consistency) {
	asOf = cluster.AnyTime
	least := c.minLSN()
	for i := range u.ops {
		o := &u.ops[i]
		if !o.executes() || o.plan == nil {
			continue
		}
		reads := o.plan.Reads
		if o.plan.Version != c.o.db.plans.Version() {
			reads = anyFootprint
		}
		l := c.levelOf(o.plan)
		asOf, level = max(asOf, c.asOf(u, l, reads)), max(level, l)
		least = max(least, o.plan.MinLSN)
	}
	if level == router.ConsistencyNone {
		level = c.levelOf(anyPlan)
		asOf = c.asOf(u, level, catalog.NoTable())
	}
	if most := c.s.cfg.Routing.MaxStaleness; most > 0 {
		asOf = max(asOf, cluster.MomentOf(u.started)-cluster.Moment(most))
	}
	if least > 0 {
		asOf = max(asOf, c.covering(least))
	}
	return asOf, level
}

// levelOf is the level of one statement. A comment in it is stronger than the
// session, which is stronger than a rule, that than the configuration.
func (c *client) levelOf(p *router.Plan) router.Consistency {
	if p.Consistency != router.ConsistencyNone {
		return p.Consistency
	}
	if own := c.level(); own != router.ConsistencyNone {
		return own
	}
	return cmp.Or(p.RuleConsistency, c.o.consistency)
}

// asOf is as of when a replica must be fresh for a read of some tables at a level.
func (c *client) asOf(u *unit, level router.Consistency, reads catalog.Footprint) cluster.Moment {
	cs := &c.o.db.commits
	if level == router.Strong || level > router.Eventual && c.unsureFor(reads, level) {
		return cluster.MomentOf(u.started)
	}
	at := cluster.AnyTime
	switch level {
	case router.Session:
		at = cs.last(sessionScope(c.id), reads)
	case router.Tenant:
		at = cs.last(sessionScope(c.id), reads)
		// What the unit itself sets may name another tenant.
		if tenant, sure := c.tenantNow(); tenant != 0 && sure && !u.touches() {
			at = max(at, cs.last(tenant, reads), cs.last(everyTenant, reads))
		} else {
			at = max(at, cs.last(everybody, reads))
		}
	case router.Database:
		at = cs.last(everybody, reads)
	}
	if at == 0 {
		return cluster.AnyTime // nothing was committed
	}
	return at
}

// covering is as of when a replica must be fresh to have replayed up to at. What was
// found for the session's own is kept.
func (c *client) covering(at lsn.LSN) cluster.Moment {
	if at == c.own.covered {
		return c.own.coveredAt
	}
	asOf := c.o.cluster.Covering(c.ctx, at, c.s.cfg.Routing.FreshnessWait)
	if asOf != cluster.Never {
		c.own.covered, c.own.coveredAt = at, asOf
	}
	return asOf
}

// reader is the server for a read: one that is fresh enough, after a short wait if
// that is likely to help; nil if the primary must run it.
func (c *client) reader(u *unit) (*cluster.Server, error) {
	cl := c.o.cluster
	u.asOf, u.level = c.need(u)
	s := cl.Reader(c.s.primaryReads, u.asOf)
	if s != nil || len(cl.Topology().Replicas) == 0 {
		return s, nil
	}
	fresh, err := c.awaitFresh(u, func(ctx context.Context, d time.Duration) bool { return cl.AwaitFresh(ctx, u.asOf, d) })
	if !fresh || err != nil {
		return nil, err
	}
	return cl.Reader(false, u.asOf), nil
}

// longWait is so long that the client may want to end it.
const longWait = 50 * time.Millisecond

// awaitFresh waits as long as a read may, and counts what came of it. The error is
// that the client canceled, or is gone.
func (c *client) awaitFresh(u *unit, await func(context.Context, time.Duration) bool) (fresh bool, err error) {
	m, wait, started := c.s.metrics, c.s.cfg.Routing.FreshnessWait, time.Now()
	if wait < longWait {
		fresh = await(c.ctx, wait)
	} else {
		late := c.SlowContext()
		fresh = await(late, wait)
		err = context.Cause(late)
		c.endWait()
	}
	m.fresh[u.level].observe(time.Since(started))
	if m.delayed[u.level].Add(1); !fresh {
		m.redirected[u.level].Add(1)
	}
	return fresh, err
}

// keepsUp reports whether the replica that the session's transaction reads on is fresh
// enough for its next unit.
func (c *client) keepsUp(u *unit) bool {
	u.asOf, u.level = c.need(u)
	fresh, err := c.vouched(u, c.server, c.b)
	return fresh && err == nil
}

// vouched reports whether a replica is fresh enough for a unit as seen over one connection. A
// server that crashed may come back with less than it had, so of a connection only
// what was learned since it was opened counts.
func (c *client) vouched(u *unit, s *cluster.Server, b *backend.Backend) (fresh bool, err error) {
	if u.asOf == cluster.AnyTime {
		return true, nil
	}
	asOf := max(u.asOf, cluster.MomentOf(b.Created()))
	if s.Fresh(asOf) {
		return true, nil
	}
	return c.awaitFresh(u, func(ctx context.Context, d time.Duration) bool { return c.o.cluster.AwaitFreshOn(ctx, s, asOf, d) })
}
