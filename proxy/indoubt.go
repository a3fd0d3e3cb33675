package proxy

import (
	"context"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/internal/wire"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/freshness"
	"github.com/pgweir/pgweir/router"
)

// abandon deals with the writes of a unit whose connection is about to be closed
// before its answer was seen.
func (c *client) abandon(u *unit) {
	if c.b == nil || c.role == cluster.RoleReplica || u.head == len(u.queue) || c.tx.open && !u.mayCommit() {
		return
	}
	for i := range u.queue {
		c.mayWrite(u, &u.queue[i])
	}
	if !c.tx.changes.Wrote() {
		return
	}
	if c.tx.ddl || slices.ContainsFunc(u.queue, func(o op) bool { return o.plan != nil && o.plan.Flags.Has(router.FlagDDL) }) {
		c.o.db.catalogChanged()
	}
	c.recordCommit()
	d, s, pid := c.o.db, c.server, c.b.PID()
	w := d.commits.Doubt(freshness.SessionScope(c.id), c.tx.changes)
	c.tx.changes = freshness.Changes{}
	c.s.background.Go(func() { d.awaitOutcome(w, s, pid) })
}

// mayCommit reports whether the unit may end its transaction.
func (u *unit) mayCommit() bool {
	for i := range u.queue {
		o := &u.queue[i]
		if o.executes() && !o.quiet && (o.plan == nil || o.plan.Tx.Verb == router.TxCommit || o.plan.CommitsWithin()) {
			return true
		}
	}
	return false
}

// awaitOutcome waits until the server process that ran a write is gone, or its
// server no longer the primary.
func (d *database) awaitOutcome(w *freshness.InDoubt, s *cluster.Server, pid uint32) {
	defer d.commits.Resolve(w)
	lost, line := time.Now(), d.cluster.Topology().State(s).Timeline
	timer := time.NewTimer(0)
	defer timer.Stop()
	for gap := 5 * time.Millisecond; ; gap = min(2*gap, time.Second) {
		select {
		case <-d.ctx.Done():
			return
		case <-timer.C:
		}
		t := d.cluster.Topology()
		if t.Primary != nil && (t.Primary != s || t.State(s).Timeline != line) || t.Primary == s && d.gone(s, pid, time.Since(lost)) {
			return
		}
		timer.Reset(gap)
	}
}

// gone asks the primary whether a server process that is at least that old has ended.
func (d *database) gone(s *cluster.Server, pid uint32, age time.Duration) bool {
	ctx, cancel := context.WithTimeout(d.ctx, d.account.s.cfg.Pool.ConnectTimeout)
	defer cancel()
	b, err := d.account.open(ctx, s, "")
	if err != nil {
		d.account.s.log.Debug("the outcome of a write is not known", zap.Uint32("process", pid), zap.Error(err))
		return false
	}
	defer b.Close()
	alive := true
	err = b.Query(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid = `+strconv.FormatUint(uint64(pid), 10)+`
  AND backend_start < pg_catalog.clock_timestamp() - `+strconv.FormatInt(age.Microseconds(), 10)+` * interval '1 microsecond')`,
		func(v [][]byte) error { alive = string(v[0]) == "t"; return nil })
	return err == nil && !alive
}

// mayReveal reports whether a frame of an answer may tell the client of a commit that
// its statement made before it ends.
func mayReveal(typ byte) bool {
	return typ == wire.ErrorResponse || typ == wire.NoticeResponse || typ == wire.RowDescription || typ == wire.DataRow
}
