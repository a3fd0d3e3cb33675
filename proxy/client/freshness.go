package client

import (
	"cmp"
	"context"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/batch"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/proxy/tracing"
	"github.com/pgweir/pgweir/router"
	"github.com/pgweir/pgweir/router/catalog"
)

// needs is how fresh a replica must be for a batch, and whether one is.
type needs struct{ *work }

// need is the freshness a replica must have to run the batch, and the strictest level
// of its statements. What only prepares needs to see changes of the catalog, which
// touch any table.
func (n needs) need() (required cluster.Moment, level router.Consistency) {
	required = cluster.AnyTime
	least := n.c.preferences().MinLSN
	// What comes behind reads by the same snapshot, or on the same server.
	opens := n.batch.OpensPortal()
	keeps := opens || n.batch.Repeats() || n.c.modes().Isolation == router.RepeatableRead
	for i := range n.batch.Messages {
		m := &n.batch.Messages[i]
		p := m.Plan
		if m.Kind == batch.Bind && opens { // which takes the snapshot of an Execute to come
			p = m.Portal.Plan
		}
		if p == nil || m.Here {
			continue
		}
		tables := p.Reads
		if keeps || p.Version != n.c.up.Database.Plans.Version() {
			tables = catalog.Footprint{} // any
		}
		l := n.levelOf(p)
		required, level = max(required, n.required(l, tables)), max(level, l)
		least = max(least, p.MinLSN)
	}
	if level == router.ConsistencyNone {
		level = n.levelOf(anyPlan)
		required = n.required(level, catalog.NoTable())
	}
	if least > 0 {
		required = max(required, n.covering(least))
	}
	return required, level
}

// levelOf is the level of one statement. A comment in it is stronger than the
// session, which is stronger than a rule, that than the configuration.
func (n needs) levelOf(p *router.Plan) router.Consistency {
	return cmp.Or(p.Consistency, n.c.preferences().Level, p.RuleConsistency, n.c.up.Terms().Consistency)
}

// required is the freshness a replica must have for the batch to read tables at a level.
func (n needs) required(level router.Consistency, tables catalog.Footprint) cluster.Moment {
	r := freshness.Read{
		Level: level, Tables: tables, Session: n.c.who.scope, Others: !n.c.svc.Config.Routing.SoleWriter || n.c.svc.Beside.Load(),
		Began: cluster.MomentOf(n.batch.Started), MaxStaleness: n.c.svc.Config.Routing.MaxStaleness,
	}
	if level == router.Tenant {
		// What the batch itself sets may name another tenant.
		if tenant, certain := n.c.tenantScope(); certain && !n.batch.Touches() {
			r.Tenant = tenant
		}
	}
	return n.c.up.Database.Commits.Required(&r)
}

// covering is the freshness of a replica that has replayed up to at. What was found
// for the session's own is kept.
func (n needs) covering(at lsn.LSN) cluster.Moment {
	p := n.c.preferences()
	if at == p.covered {
		return p.coveredAt
	}
	asOf := n.c.up.Cluster.Covering(n.c.ctx, at, n.c.svc.Config.Routing.FreshnessWait)
	if asOf != cluster.Never {
		p.covered, p.coveredAt = at, asOf
	}
	return asOf
}

// reader is the server for a read: one that is fresh enough, after a short wait if
// that is likely to help; nil if the primary must run it.
func (n needs) reader() (*cluster.Server, error) {
	cl, t := n.c.up.Cluster, &n.try
	t.required, t.level = n.need()
	s := cl.Reader(n.c.svc.PrimaryReads, t.required)
	if s != nil || len(cl.Topology().Replicas) == 0 {
		return s, nil
	}
	fresh, err := n.awaitFresh(func(ctx context.Context, d time.Duration) bool { return cl.AwaitFresh(ctx, t.required, d) })
	if !fresh || err != nil {
		return nil, err
	}
	return cl.Reader(false, t.required), nil
}

// longWait is so long that the client may want to end it.
const longWait = 50 * time.Millisecond

// awaitFresh waits as long as a read may, and counts what came of it. The error is
// that the client canceled, or is gone.
func (n needs) awaitFresh(await func(context.Context, time.Duration) bool) (fresh bool, err error) {
	wait, started := n.c.svc.Config.Routing.FreshnessWait, time.Now()
	if wait < longWait {
		fresh = await(n.c.ctx, wait)
	} else {
		late := n.c.interrupt.SlowContext()
		fresh = await(late, wait)
		err = context.Cause(late)
		n.c.interrupt.EndWait()
	}
	n.spans.Took(tracing.WaitFreshness, started)
	n.c.svc.Metrics.AwaitedFreshness(n.try.level, time.Since(started), fresh)
	return fresh, err
}

// stillFresh reports whether the replica that the session's transaction reads on is fresh
// enough for its next batch.
func (n needs) stillFresh() bool {
	n.try.required, n.try.level = n.need()
	fresh, err := n.isFresh(n.c.lease.server, n.c.lease.b)
	return fresh && err == nil
}

// isFresh reports whether a replica is fresh enough for a batch as seen over one connection. A
// server that crashed may come back with less than it had, so of a connection only
// what was learned since it was opened counts.
func (n needs) isFresh(s *cluster.Server, b *backend.Backend) (fresh bool, err error) {
	if n.try.required == cluster.AnyTime {
		return true, nil
	}
	from := b.Origin()
	required := max(n.try.required, cluster.MomentOf(from.Created))
	if s.FreshOn(from.Started, required) {
		return true, nil
	}
	return n.awaitFresh(func(ctx context.Context, d time.Duration) bool {
		return n.c.up.Cluster.AwaitFreshOn(ctx, s, from.Started, required, d)
	})
}
