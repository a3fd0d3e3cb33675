package upstream

import (
	"context"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/freshness"
)

// ResolveWhenGone resolves a write in doubt once the server process that ran it is gone,
// or its server no longer the primary. It does not wait for that.
func (d *Database) ResolveWhenGone(w *freshness.InDoubt, s *cluster.Server, pid uint32) {
	d.background.Go(func() { d.awaitOutcome(w, s, pid) })
}

func (d *Database) awaitOutcome(w *freshness.InDoubt, s *cluster.Server, pid uint32) {
	defer d.Commits.Resolve(w)
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

// gone asks the primary whether a server process that is at least that old has ended. Of
// other users' processes only those with pg_read_all_stats see when they began: for the rest
// one with the number is taken for it.
func (d *Database) gone(s *cluster.Server, pid uint32, age time.Duration) bool {
	ctx, cancel := context.WithTimeout(d.ctx, d.account.access.Load().timeout)
	defer cancel()
	b, err := d.account.Open(ctx, s, "")
	if err != nil {
		d.log.Debug("the outcome of a write is not known", zap.Uint32("process", pid), zap.Error(err))
		return false
	}
	defer b.Close()
	alive := true
	err = b.Query(ctx, backend.AnyDefault+`SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid = `+strconv.FormatUint(uint64(pid), 10)+`
  AND coalesce(backend_start < pg_catalog.clock_timestamp() - `+strconv.FormatInt(age.Microseconds(), 10)+` * interval '1 microsecond', true))`,
		func(v [][]byte) error { alive = string(v[0]) == "t"; return nil })
	return err == nil && !alive
}
