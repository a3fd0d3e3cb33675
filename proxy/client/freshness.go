package client

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

// need is the freshness a replica must have to run the batch, and the strictest level
// of its statements. What only prepares needs to see changes of the catalog, which
// touch any table.
func (c *Client) need(w *work) (required cluster.Moment, level router.Consistency) {
	required = cluster.AnyTime
	least := c.preferences().MinLSN
	for i := range w.batch.Messages {
		m := &w.batch.Messages[i]
		if !m.Kind.Executes() || m.Here || m.Plan == nil {
			continue
		}
		tables := m.Plan.Reads
		if m.Plan.Version != c.up.Database.Plans.Version() {
			tables = catalog.Footprint{} // any
		}
		l := c.levelOf(m.Plan)
		required, level = max(required, c.required(w, l, tables)), max(level, l)
		least = max(least, m.Plan.MinLSN)
	}
	if level == router.ConsistencyNone {
		level = c.levelOf(anyPlan)
		required = c.required(w, level, catalog.NoTable())
	}
	if least > 0 {
		required = max(required, c.covering(least))
	}
	return required, level
}

// levelOf is the level of one statement. A comment in it is stronger than the
// session, which is stronger than a rule, that than the configuration.
func (c *Client) levelOf(p *router.Plan) router.Consistency {
	return cmp.Or(p.Consistency, c.preferences().Level, p.RuleConsistency, c.up.Consistency)
}

// required is the freshness a replica must have for the batch to read tables at a level.
func (c *Client) required(w *work, level router.Consistency, tables catalog.Footprint) cluster.Moment {
	r := freshness.Read{
		Level: level, Tables: tables, Session: c.who.scope,
		Began: cluster.MomentOf(w.batch.Started), MaxStaleness: c.svc.Config.Routing.MaxStaleness,
	}
	if level == router.Tenant {
		// What the batch itself sets may name another tenant.
		if tenant, certain := c.tenantScope(); certain && !w.batch.Touches() {
			r.Tenant = tenant
		}
	}
	return c.up.Database.Commits.Required(&r)
}

// covering is the freshness of a replica that has replayed up to at. What was found
// for the session's own is kept.
func (c *Client) covering(at lsn.LSN) cluster.Moment {
	p := c.preferences()
	if at == p.covered {
		return p.coveredAt
	}
	asOf := c.up.Cluster.Covering(c.ctx, at, c.svc.Config.Routing.FreshnessWait)
	if asOf != cluster.Never {
		p.covered, p.coveredAt = at, asOf
	}
	return asOf
}

// reader is the server for a read: one that is fresh enough, after a short wait if
// that is likely to help; nil if the primary must run it.
func (c *Client) reader(w *work) (*cluster.Server, error) {
	cl, t := c.up.Cluster, &w.try
	t.required, t.level = c.need(w)
	s := cl.Reader(c.svc.PrimaryReads, t.required)
	if s != nil || len(cl.Topology().Replicas) == 0 {
		return s, nil
	}
	fresh, err := c.awaitFresh(w, func(ctx context.Context, d time.Duration) bool { return cl.AwaitFresh(ctx, t.required, d) })
	if !fresh || err != nil {
		return nil, err
	}
	return cl.Reader(false, t.required), nil
}

// longWait is so long that the client may want to end it.
const longWait = 50 * time.Millisecond

// awaitFresh waits as long as a read may, and counts what came of it. The error is
// that the client canceled, or is gone.
func (c *Client) awaitFresh(w *work, await func(context.Context, time.Duration) bool) (fresh bool, err error) {
	wait, started := c.svc.Config.Routing.FreshnessWait, time.Now()
	if wait < longWait {
		fresh = await(c.ctx, wait)
	} else {
		late := c.interrupt.SlowContext()
		fresh = await(late, wait)
		err = context.Cause(late)
		c.interrupt.EndWait()
	}
	c.svc.Metrics.AwaitedFreshness(w.try.level, time.Since(started), fresh)
	return fresh, err
}

// stillFresh reports whether the replica that the session's transaction reads on is fresh
// enough for its next batch.
func (c *Client) stillFresh(w *work) bool {
	w.try.required, w.try.level = c.need(w)
	fresh, err := c.isFresh(w, c.lease.server, c.lease.b)
	return fresh && err == nil
}

// isFresh reports whether a replica is fresh enough for a batch as seen over one connection. A
// server that crashed may come back with less than it had, so of a connection only
// what was learned since it was opened counts.
func (c *Client) isFresh(w *work, s *cluster.Server, b *backend.Backend) (fresh bool, err error) {
	if w.try.required == cluster.AnyTime {
		return true, nil
	}
	required := max(w.try.required, cluster.MomentOf(b.Created()))
	if s.Fresh(required) {
		return true, nil
	}
	return c.awaitFresh(w, func(ctx context.Context, d time.Duration) bool { return c.up.Cluster.AwaitFreshOn(ctx, s, required, d) })
}
