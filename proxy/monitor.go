package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pgweir/pgweir/internal/lsn"
	"github.com/pgweir/pgweir/pool/backend"
	"github.com/pgweir/pgweir/pool/cluster"
	"github.com/pgweir/pgweir/proxy/upstream"
)

// probe is the monitor's look at the servers: one connection to each, kept.
type probe struct {
	account  *upstream.Account
	patience time.Duration // of a kept connection's answer
	renew    time.Duration // how long a kept connection stands for its server

	mu   sync.Mutex // protects kept; an entry is used by one goroutine at a time
	kept map[*cluster.Server]*kept
}

// kept is a connection to look by. It stands for its server for a while only: it
// lives on in a server that takes no new ones, or when a name leads elsewhere.
type kept struct {
	*backend.Backend
	until time.Time
}

// probeQuery asks for a server's state. After a promotion the checkpoint's timeline is
// that of before until the next one: a primary's is in the name of its log file. A
// standby's is what it receives, which needs pg_read_all_stats to be seen, or what
// its data were last written by.
const probeQuery = `SELECT pg_catalog.pg_is_in_recovery(),
	CASE WHEN pg_catalog.pg_is_in_recovery()
		THEN greatest(c.timeline_id, r.min_recovery_end_timeline, (SELECT w.received_tli FROM pg_catalog.pg_stat_wal_receiver w))
		ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::pg_catalog.bit(32)::int END,
	s.system_identifier, pg_catalog.current_setting('server_version_num'),
	pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()),
	CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END
FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r, pg_catalog.pg_control_system() s`

// Probe implements cluster.Prober.
func (p *probe) Probe(ctx context.Context, s *cluster.Server, anew bool) (cluster.Probe, error) {
	k := p.take(s)
	if k != nil && (anew || !k.Alive()) {
		k.Close()
		k = nil
	}
	if k != nil && time.Now().Before(k.until) {
		// One that does not answer may have been cut off: only a new one can tell.
		if found, err := p.ask(ctx, s, k); err == nil {
			return found, nil
		}
		k = nil
	}
	b, err := p.account.Open(ctx, s, "")
	switch {
	case err == nil:
		if k != nil {
			k.Close()
		}
		k = &kept{b, time.Now().Add(p.renew)}
	case k == nil:
		return cluster.Probe{}, err
	case !cluster.Inconclusive(err):
		k.Close()
		return cluster.Probe{}, err
	}
	return p.ask(ctx, s, k)
}

func (p *probe) take(s *cluster.Server) *kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.kept[s]
	delete(p.kept, s)
	return k
}

// ask asks by a connection, which is kept if it answers and closed if not.
func (p *probe) ask(ctx context.Context, s *cluster.Server, k *kept) (found cluster.Probe, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	err = k.Query(ctx, probeQuery, func(v [][]byte) error {
		found.InRecovery = string(v[0]) == "t"
		found.SystemID, found.Started = string(v[2]), string(v[4])
		if _, err := fmt.Sscan(string(v[1])+" "+string(v[3]), &found.Timeline, &found.Version); err != nil {
			return err
		}
		if v[5] != nil { // NULL before it has replayed anything
			found.LSN, err = lsn.Parse(string(v[5]))
		}
		return err
	})
	if err != nil {
		k.Close()
		return found, err
	}
	p.mu.Lock()
	p.kept[s] = k
	p.mu.Unlock()
	return found, nil
}

// Close implements cluster.Prober.
func (p *probe) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.kept {
		k.Close()
	}
	p.kept = nil
}
